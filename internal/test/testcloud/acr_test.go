package testcloud

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// send sends a request to a fake, and returns status and body.
func send(t *testing.T, c *Cloud, method, target string, form url.Values, header ...string) (int, string) {
	t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(t.Context(), method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := (&http.Client{Transport: c.Transport()}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestACRRefuses: the fake takes what Azure documents, and nothing that differs in one
// thing.
func TestACRRefuses(t *testing.T) {
	t.Parallel()
	now := time.Now()
	c := Start(t, func() time.Time { return now })
	e := c.Entra(t, EntraPublic)
	a := e.ACR(t, "acme.azurecr.io", "tenant", nil)
	a.Grant("client")
	good := url.Values{"grant_type": {"access_token"}, "service": {"acme.azurecr.io"}, "tenant": {"tenant"}, "access_token": {e.give("tenant", "client", RegistryResource)}}
	const exchange = "https://acme.azurecr.io/oauth2/exchange"
	if status, _ := send(t, c, http.MethodPost, exchange, good); status != http.StatusOK {
		t.Fatal(status)
	}
	for name, change := range map[string][2]string{
		"grant type": {"grant_type", "refresh_token"}, "no grant type": {"grant_type", ""}, "service": {"service", "other.azurecr.io"}, "tenant": {"tenant", "other"},
		"no token": {"access_token", ""}, "audience": {"access_token", e.give("tenant", "client", "https://vault.azure.net")},
		"issuer":     {"access_token", NewIssuer(t, e.issuer.Name).Token(Claims{Audience: RegistryResource, Tenant: "tenant", App: "client", Expires: now.Add(time.Hour).Unix()})},
		"its tenant": {"access_token", e.give("other", "client", RegistryResource)}, "its client": {"access_token", e.give("tenant", "other", RegistryResource)},
		"its time": {"access_token", e.issuer.Token(Claims{Audience: RegistryResource, Tenant: "tenant", App: "client", Expires: now.Add(-time.Second).Unix()})},
	} {
		form := url.Values{}
		for k, v := range good {
			form[k] = v
		}
		form.Set(change[0], change[1])
		if status, body := send(t, c, http.MethodPost, exchange, form); status < 400 || !strings.Contains(body, `"errors"`) {
			t.Errorf("%s: HTTP %d", name, status)
		}
	}
	if status, _ := send(t, c, http.MethodGet, exchange, nil); status != http.StatusNotFound {
		t.Error(status)
	}

	token := url.Values{"grant_type": {"refresh_token"}, "service": {"acme.azurecr.io"}, "scope": {"repository:app:pull"}, "refresh_token": {a.Issue("client")}}
	const tokens = "https://acme.azurecr.io/oauth2/token"
	status, body := send(t, c, http.MethodPost, tokens, token)
	if status != http.StatusOK {
		t.Fatal(status)
	}
	access := "Bearer " + strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(body), `{"access_token":"`), `"}`)
	for path, want := range map[string]int{"/v2/app/manifests/v1": http.StatusNotFound, "/v2/other/manifests/v1": http.StatusUnauthorized} {
		if status, _ := send(t, c, http.MethodGet, "https://acme.azurecr.io"+path, nil, "Authorization", access); status != want {
			t.Errorf("%s: HTTP %d", path, status)
		}
	}
	now = now.Add(acrAccessLife)
	if status, _ := send(t, c, http.MethodGet, "https://acme.azurecr.io/v2/app/manifests/v1", nil, "Authorization", access); status != http.StatusUnauthorized {
		t.Errorf("an access token that has ended: HTTP %d", status)
	}
	now = now.Add(acrRefreshLife)
	if status, _ := send(t, c, http.MethodPost, tokens, token); status != http.StatusUnauthorized {
		t.Errorf("a refresh token that has ended: HTTP %d", status)
	}
}

// TestMetadataRefuses: of Azure's instance metadata.
func TestMetadataRefuses(t *testing.T) {
	t.Parallel()
	c := Start(t, nil)
	e := c.Entra(t, EntraPublic)
	e.ACR(t, "acme.azurecr.io", "tenant", nil)
	e.Metadata("tenant", "client")
	const base = "http://" + MetadataHost + "/metadata/identity/oauth2/token?"
	for query, want := range map[string]int{
		"api-version=2018-02-01&resource=" + RegistryResource:                 http.StatusOK,
		"api-version=1&resource=" + RegistryResource:                          http.StatusBadRequest,
		"resource=" + RegistryResource:                                        http.StatusBadRequest,
		"api-version=2018-02-01&resource=https://other.example":               http.StatusBadRequest,
		"api-version=2018-02-01&client_id=other&resource=" + RegistryResource: http.StatusBadRequest,
	} {
		if status, _ := send(t, c, http.MethodGet, base+query, nil, "Metadata", "true"); status != want {
			t.Errorf("%s: HTTP %d", query, status)
		}
	}
	if status, _ := send(t, c, http.MethodGet, base+"api-version=2018-02-01&resource="+RegistryResource, nil); status != http.StatusBadRequest {
		t.Errorf("without the header: HTTP %d", status)
	}
}
