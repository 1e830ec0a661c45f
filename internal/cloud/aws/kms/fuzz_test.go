package kms

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/weight"
)

type answering func(*http.Request) *http.Response

func (f answering) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

// FuzzAnswer: what AWS KMS and its private authorities answer costs no more than its size
// to read, right or wrong; of a refusal nothing is in use, and it is told in short.
func FuzzAnswer(f *testing.F) {
	chain := strings.ReplaceAll(string(testca.Must(testca.New(testca.Options{})).PEM()), "\n", `\n`)
	for _, body := range []string{
		`{"CertificateAuthority":{"Status":"ACTIVE"},"Certificate":"` + chain + `","CertificateChain":"` + chain + `"}`, `{"CertificateAuthority":{"Status":"` + strings.Repeat("x", 500) + `"}}`,
		`{"KeyMetadata":{"KeyId":"k","KeyState":"Enabled","KeyUsage":"SIGN_VERIFY","CreationDate":1.9E9},"PublicKey":"AAAA"}`, `{"KeyMetadata":{"KeyState":"PendingDeletion","DeletionDate":1e300}}`,
		`{"__type":"AccessDeniedException","Message":"no"}`, `[[[[[[`, `{"a":` + strings.Repeat("[", 500), ``,
	} {
		f.Add([]byte(body), true)
		f.Add([]byte(body), false)
	}
	env := map[string]string{"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
	f.Fuzz(func(t *testing.T, b []byte, good bool) {
		status := http.StatusBadRequest
		if good {
			status = http.StatusOK
		}
		asked := 0
		p := Parameters{CertificateAuthorities: []Authority{{ARN: "arn:aws:acm-pca:eu-central-1:111122223333:certificate-authority/11111111-2222-3333-4444-555555555555"}}, Keys: []Key{{Name: "alias/release"}}}
		provider, err := p.Open(keys.Env{Getenv: func(n string) string { return env[n] }, Transport: answering(func(r *http.Request) *http.Response {
			asked++
			return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}}, ContentLength: int64(len(b)), Body: io.NopCloser(bytes.NewReader(b)), Request: r}
		})}, "")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = provider.Fetch(t.Context())
		if asked == 0 {
			t.Fatal("nothing is asked")
		}
		weight.Bound{Floor: 512 << 10, Times: 160 * asked}.Check(t, len(b), func() { answered(t, provider, good) })
	})
}

// answered has a provider fetch.
func answered(t *testing.T, provider keys.Provider, good bool) {
	groups, err := provider.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		for _, it := range g.Items {
			if it.Use == keys.InUse && !good {
				t.Errorf("%s is in use, of a refusal", it.Name)
			}
		}
		if g.Err != nil && (len(g.Err.Error()) > 2000 || strings.ContainsAny(g.Err.Error(), "\r\n")) {
			t.Errorf("%v", g.Err)
		}
	}
}
