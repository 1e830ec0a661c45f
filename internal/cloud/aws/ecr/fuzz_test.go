package ecr

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/boltseal/boltseal/internal/cloud/aws"
	"github.com/boltseal/boltseal/internal/test/weight"
)

// FuzzHost: what is taken for a registry of Amazon ECR is below a domain of AWS, can be
// put together again from what was read, and leads to an API of its region there.
func FuzzHost(f *testing.F) {
	for _, host := range []string{
		"111122223333.dkr.ecr.eu-central-1.amazonaws.com", "111122223333.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "111122223333.dkr.ecr.cn-north-1.amazonaws.com.cn",
		"111122223333.dkr-ecr.us-east-2.on.aws", "111122223333.dkr-ecr-fips.us-east-2.on.aws", "111122223333.dkr.ecr.us-iso-east-1.amazonaws.com",
		"111122223333.dkr.ecr.eu-central-1.amazonaws.com.evil.example", "evil111122223333.dkr.ecr.eu-central-1.amazonaws.com", "111122223333.dkr.ecr.eu-central-1.amazonaws.com:443",
		"111122223333.DKR.ecr.eu-central-1.amazonaws.com", "111122223333.dkr.ecr.eu-central-1.amazonaws.com.", "u@111122223333.dkr.ecr.eu-central-1.amazonaws.com", "111122223333.dkr.ecr.xn--a-1.amazonaws.com",
	} {
		f.Add(host)
	}
	api := regexp.MustCompile(`^(api\.ecr(-fips)?\.[a-z0-9-]+\.amazonaws\.com(\.cn)?|ecr(-fips)?\.[a-z0-9-]+\.api\.aws)$`)
	f.Fuzz(func(t *testing.T, host string) {
		at, ok := parseHost(host)
		if !ok {
			if at != (place{}) {
				t.Fatalf("%q: %+v, which is none", host, at)
			}
			return
		}
		name := "ecr"
		if at.fips {
			name = "ecr-fips"
		}
		again := at.account + ".dkr." + name + "." + at.region + ".amazonaws.com"
		if at.dual {
			again = at.account + ".dkr-" + name + "." + at.region + ".on.aws"
		}
		if at.partition() == "aws-cn" {
			again += ".cn"
		}
		if again != host {
			t.Fatalf("%q is read as %q", host, again)
		}
		if got := apiHost(t.Context(), at); !api.MatchString(got) || !slices.Contains(strings.Split(got, "."), at.region) {
			t.Fatalf("%q leads to %q", host, got)
		}
		signer, err := sts.NewDefaultEndpointResolverV2().ResolveEndpoint(t.Context(), sts.EndpointParameters{Region: &at.region})
		if err != nil || !strings.HasPrefix(signer.URI.Host, "sts."+at.region+".amazonaws.com") {
			t.Fatalf("%q signs in at %q, %v", host, signer.URI.Host, err)
		}
	})
}

// FuzzToken: what is read of an answer is a user and a password that can stand in a
// header; what cannot be read is told without the answer.
func FuzzToken(f *testing.F) {
	const host = "111122223333.dkr.ecr.eu-central-1.amazonaws.com"
	enc := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	f.Add(enc("AWS:password"), "https://"+host, int64(1900000000))
	f.Add(enc("AWS:"), "https://"+host, int64(0))
	f.Add(enc("AWS:a:b"), "http://"+host, int64(-1))
	f.Add(enc("root:password"), "https://"+host+".evil.example", int64(1))
	f.Add("AWS:password", "https://444455556666.dkr.ecr.eu-central-1.amazonaws.com", int64(1))
	f.Add("", "", int64(0))
	at, _ := parseHost(host)
	f.Fuzz(func(t *testing.T, token, proxy string, ends int64) {
		until := time.Unix(ends, 0)
		c, err := choose(at, []types.AuthorizationData{{AuthorizationToken: sdk.String(token), ProxyEndpoint: sdk.String(proxy), ExpiresAt: &until}})
		if err != nil {
			if c.Username+c.Password != "" {
				t.Fatal("a password beside an error")
			}
			if len(token) >= 12 && strings.Contains(err.Error(), token) {
				t.Fatalf("%v holds the token", err)
			}
			return
		}
		if c.Username != "AWS" || c.Password == "" || len(c.Password) > maxPassword || strings.ContainsAny(c.Password, " \r\n\x00") || !c.Expires.Equal(until) || until.Year() < 1970 || until.Year() > 9999 {
			t.Fatalf("%+v", c)
		}
		if is, ok := parseHost(strings.TrimPrefix(proxy, "https://")); !ok || is.account != at.account || is.region != at.region {
			t.Fatalf("a token for %q", proxy)
		}
	})
}

// FuzzAnswer: what AWS's SDK, and what is around it, make of an answer of ECR or STS
// costs no more than its size; an error is short, and has no password beside it.
func FuzzAnswer(f *testing.F) {
	const host = "111122223333.dkr.ecr.eu-central-1.amazonaws.com"
	for _, body := range []string{
		`{"authorizationData":[{"authorizationToken":"` + base64.StdEncoding.EncodeToString([]byte("AWS:password")) + `","expiresAt":1.9E9,"proxyEndpoint":"https://` + host + `"}]}`,
		`{"authorizationData":[` + strings.Repeat("{},", 99) + `{}]}`, `{"__type":"AccessDeniedException","Message":"no"}`, `[[[[[[`, `{"a":` + strings.Repeat("[", 500),
		`<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>a</AccessKeyId></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, ``,
	} {
		f.Add([]byte(body), true)
		f.Add([]byte(body), false)
	}
	at, _ := parseHost(host)
	var answer []byte
	var status int
	s, err := New(Options{Transport: answering(func(r *http.Request) *http.Response {
		return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}}, ContentLength: int64(len(answer)), Body: io.NopCloser(bytes.NewReader(answer)), Request: r}
	})})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte, good bool) {
		answer, status = b, http.StatusBadRequest
		if good {
			status = http.StatusOK
		}
		ask := func() {
			c, err := s.authorize(t.Context(), at, sdk.Credentials{AccessKeyID: "a", SecretAccessKey: "b"})
			if err != nil && (c.Username+c.Password != "" || len(err.Error()) > 4000) || err == nil && !good {
				t.Fatalf("%q, %v", c.Username, err)
			}
		}
		weight.Bound{Floor: 512 << 10, Times: 160}.Check(t, len(b), ask)
		weight.Bound{Floor: 512 << 10, Times: 160}.Check(t, len(b), func() {
			client := sts.New(sts.Options{Region: at.region, HTTPClient: s.client, Retryer: aws.Retryer(), Credentials: sdk.AnonymousCredentials{}})
			_, _ = client.AssumeRoleWithWebIdentity(t.Context(), &sts.AssumeRoleWithWebIdentityInput{RoleArn: sdk.String("r"), RoleSessionName: sdk.String("s"), WebIdentityToken: sdk.String("t")})
		})
	})
}

type answering func(*http.Request) *http.Response

func (f answering) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }
