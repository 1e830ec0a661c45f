package kms

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/weight"
)

type answering func(*http.Request) *http.Response

func (f answering) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

// FuzzAnswer: what Cloud KMS and Certificate Authority Service answer costs no more than
// its size to read, however many pages there are said to be; of a refusal nothing is in
// use, and it is told in short.
func FuzzAnswer(f *testing.F) {
	const (
		pool = "projects/acme/locations/europe-west3/caPools/release"
		key  = "projects/acme/locations/europe-west3/keyRings/signing/cryptoKeys/release"
	)
	chain := strings.ReplaceAll(string(testca.Must(testca.New(testca.Options{})).PEM()), "\n", `\n`)
	for _, body := range []string{
		`{"certificateAuthorities":[{"name":"` + pool + `/certificateAuthorities/a","state":"ENABLED","pemCaCertificates":["` + chain + `"]}]}`,
		`{"name":"` + pool + `/certificateAuthorities/a","state":"ENABLED","pemCaCertificates":["` + chain + `"]}`, `{"certificateAuthorities":[],"nextPageToken":"x"}`,
		`{"cryptoKeyVersions":[{"name":"` + key + `/cryptoKeyVersions/1","state":"ENABLED","algorithm":"EC_SIGN_P256_SHA256"}],"nextPageToken":""}`,
		`{"name":"` + key + `/cryptoKeyVersions/1","state":"ENABLED","algorithm":"EC_SIGN_P256_SHA256","pem":"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----","pemCrc32c":"1"}`,
		`{"cryptoKeyVersions":[` + strings.Repeat(`{"name":"/1"},`, 99) + `{"name":"/1"}]}`, `{"error":{"code":400,"status":"FAILED_PRECONDITION","message":"no"}}`, `{"error":[[[[]]]]}`, ``,
	} {
		f.Add([]byte(body), true)
		f.Add([]byte(body), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, good bool) {
		status := http.StatusForbidden
		if good {
			status = http.StatusOK
		}
		asked := 0
		p := Parameters{CertificateAuthorities: []Authority{{Name: pool}, {Name: pool + "/certificateAuthorities/a"}}, Keys: []Key{{Name: key}, {Name: key, Version: "1"}}}
		provider, err := p.Open(keys.Env{Getenv: func(string) string { return "" }, Transport: answering(func(r *http.Request) *http.Response {
			answer, as := b, status
			if r.URL.Host == "metadata.google.internal" {
				answer, as = []byte(`{"access_token":"t","expires_in":3599,"token_type":"Bearer"}`), http.StatusOK
			} else {
				asked++
			}
			return &http.Response{StatusCode: as, Header: http.Header{}, ContentLength: int64(len(answer)), Body: io.NopCloser(bytes.NewReader(answer)), Request: r}
		})}, "")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = provider.Fetch(t.Context())
		if asked == 0 || asked > 4*maxPages {
			t.Fatalf("%d questions", asked)
		}
		weight.Bound{Floor: 256 << 10 * max(1, asked/16), Times: 128 * asked}.Check(t, len(b), func() {
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
		})
	})
}

// TestCertificatesOfAPoolHaveABound: pages are within their limits each, and all of them
// together are not held.
func TestCertificatesOfAPoolHaveABound(t *testing.T) {
	t.Parallel()
	page := `{"certificateAuthorities":[{"name":"projects/acme/locations/europe-west3/caPools/release/certificateAuthorities/a","state":"ENABLED","pemCaCertificates":["` +
		strings.Repeat("A", 900<<10) + `"]}],"nextPageToken":"more"}`
	asked := 0
	p := Parameters{CertificateAuthorities: []Authority{{Name: "projects/acme/locations/europe-west3/caPools/release"}}}
	provider, err := p.Open(keys.Env{Getenv: func(string) string { return "" }, Transport: answering(func(r *http.Request) *http.Response {
		answer := page
		if r.URL.Host == "metadata.google.internal" {
			answer = `{"access_token":"t","expires_in":3599,"token_type":"Bearer"}`
		} else {
			asked++
		}
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, ContentLength: int64(len(answer)), Body: io.NopCloser(strings.NewReader(answer)), Request: r}
	})}, "")
	if err != nil {
		t.Fatal(err)
	}
	groups, err := provider.Fetch(t.Context())
	if err != nil || len(groups) != 1 || !errors.Is(groups[0].Err, boltseal.ErrLimit) || asked != 5 {
		t.Errorf("%d pages, %v, %+v", asked, err, groups)
	}
}
