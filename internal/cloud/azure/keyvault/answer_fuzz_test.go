package keyvault

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/weight"
)

type answering func(*http.Request) *http.Response

func (f answering) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

// entra lets everybody in.
func entra(r *http.Request) string {
	const base = `https://login.microsoftonline.com/tenant`
	switch {
	case strings.HasSuffix(r.URL.Path, "/discovery/instance"):
		return `{"api-version":"1.1","tenant_discovery_endpoint":"` + base + `/v2.0/.well-known/openid-configuration","metadata":[{"preferred_network":"login.microsoftonline.com","preferred_cache":"login.microsoftonline.com","aliases":["login.microsoftonline.com"]}]}`
	case strings.HasSuffix(r.URL.Path, "/openid-configuration"):
		return `{"token_endpoint":"` + base + `/oauth2/v2.0/token","authorization_endpoint":"` + base + `/oauth2/v2.0/authorize","issuer":"` + base + `/v2.0"}`
	}
	return `{"token_type":"Bearer","expires_in":3600,"access_token":"t"}`
}

// FuzzAnswer: what a vault answers costs no more than its size to read, however many
// pages it says that there are; of a refusal nothing is in use, and it is told in short.
func FuzzAnswer(f *testing.F) {
	c := testca.Must(testca.New(testca.Options{}))
	chain := strings.ReplaceAll(string(c.PEM()), "\n", `\n`)
	const id = `"id":"https://acme.vault.azure.net/certificates/a/0123456789abcdef0123456789abcdef"`
	for _, body := range []string{
		`{` + id + `,"cer":"` + base64.StdEncoding.EncodeToString(c.Root().Certificate.Raw) + `","attributes":{"enabled":true,"created":1900000000}}`,
		`{` + id + `,"value":"` + chain + `","contentType":"application/x-pem-file","managed":true,"attributes":{"enabled":true}}`,
		`{"value":[{` + id + `,"attributes":{"enabled":true}},{` + id + `}],"nextLink":null}`, `{"value":[` + strings.Repeat("{},", 99) + `{}],"nextLink":"https://acme.vault.azure.net/certificates/a/versions?x"}`,
		`{"value":[],"nextLink":"https://other.example/"}`, `{"key":{"kid":"https://acme.vault.azure.net/keys/a/1","kty":"RSA","n":"AQAB","e":"AQAB"}}`, `{"error":{"code":"Forbidden","message":"no","innererror":{"code":"x"}}}`, `[[[`, ``,
	} {
		for which := range 4 {
			f.Add([]byte(body), true, which)
			f.Add([]byte(body), false, which)
		}
	}
	token := filepath.Join(f.TempDir(), "token")
	if err := os.WriteFile(token, []byte("token"), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte, good bool, which int) {
		status := http.StatusForbidden
		if good {
			status = http.StatusOK
		}
		asked := 0
		p := Parameters{VaultURI: "https://acme.vault.azure.net/", TenantID: "tenant", ClientID: "client", TokenFile: token}
		if wanted := []Entry{{Name: "a", VersionHistoryLimit: 1 + which&1}}; which&2 == 0 {
			p.Certificates = wanted
		} else {
			p.Keys = wanted
		}
		provider, err := p.Open(keys.Env{Getenv: func(string) string { return "" }, Transport: answering(func(r *http.Request) *http.Response {
			header := http.Header{"Content-Type": {"application/json"}}
			answer, as := b, status
			switch asked++; {
			case r.URL.Host == "login.microsoftonline.com":
				answer, as = []byte(entra(r)), http.StatusOK
			case r.URL.Host != "acme.vault.azure.net":
				t.Errorf("a token is taken to %s", r.URL.Host)
			case r.Header.Get("Authorization") == "":
				header.Set("WWW-Authenticate", `Bearer authorization="https://login.microsoftonline.com/tenant", resource="https://vault.azure.net"`)
				answer, as = nil, http.StatusUnauthorized
			}
			return &http.Response{StatusCode: as, Header: header, ContentLength: int64(len(answer)), Body: io.NopCloser(bytes.NewReader(answer)), Request: r}
		})}, "")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = provider.Fetch(t.Context()) // it signs in
		asked = 0
		_, _ = provider.Fetch(t.Context())
		if asked == 0 || asked > 2*maxPages {
			t.Fatalf("%d questions", asked)
		}
		weight.Bound{Floor: 512<<10 + 64<<10*asked, Times: 128 * asked}.Check(t, len(b), func() {
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

// TestListsStayAtTheVault: a list that goes on elsewhere is refused, and the identity's
// token is not taken there.
func TestListsStayAtTheVault(t *testing.T) {
	t.Parallel()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("token"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"https://other.example/certificates/a/versions", "http://acme.vault.azure.net/certificates/a/versions", "https://acme.vault.azure.net:8443/x", "https://acme.vault.azure.net@other.example/x", "//other.example/x"} {
		for _, p := range []Parameters{{Certificates: []Entry{{Name: "a", VersionHistoryLimit: 2}}}, {Keys: []Entry{{Name: "a", VersionHistoryLimit: 2}}}} {
			p.VaultURI, p.TenantID, p.ClientID, p.TokenFile = "https://acme.vault.azure.net/", "tenant", "client", token
			provider, err := p.Open(keys.Env{Getenv: func(string) string { return "" }, Transport: answering(func(r *http.Request) *http.Response {
				header, status, answer := http.Header{"Content-Type": {"application/json"}}, http.StatusOK, `{"value":[],"nextLink":"`+link+`"}`
				switch {
				case r.URL.Host == "login.microsoftonline.com":
					answer = entra(r)
				case r.URL.Host != "acme.vault.azure.net" || r.URL.Scheme != "https":
					t.Errorf("%s: %s is asked", link, r.URL)
				case r.Header.Get("Authorization") == "":
					header.Set("WWW-Authenticate", `Bearer authorization="https://login.microsoftonline.com/tenant", resource="https://vault.azure.net"`)
					status, answer = http.StatusUnauthorized, ""
				}
				return &http.Response{StatusCode: status, Header: header, ContentLength: int64(len(answer)), Body: io.NopCloser(strings.NewReader(answer)), Request: r}
			})}, "")
			if err != nil {
				t.Fatal(err)
			}
			groups, err := provider.Fetch(t.Context())
			if err != nil || len(groups) != 1 || !errors.Is(groups[0].Err, boltseal.ErrRefused) {
				t.Errorf("%s: %+v, %v", link, groups, err)
			}
		}
	}
}
