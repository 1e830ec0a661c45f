package testcloud

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"
)

// RegistryResource is for whom Entra's tokens for Azure's registries are made out, in
// all clouds.
const RegistryResource = "https://containerregistry.azure.net"

// Lives of a registry's tokens.
const (
	acrRefreshLife = 3 * time.Hour
	acrAccessLife  = 75 * time.Minute
)

// ACR is one registry of Azure Container Registry (Azure/acr, docs/AAD-OAuth.md).
type ACR struct {
	Host, Tenant string
	e            *Entra
	content      http.Handler // the registry behind; nil = it is empty

	mu      sync.Mutex
	refresh *Issuer
	access  *Issuer
	life    time.Duration
	pull    map[string]bool   // by client ID
	scopes  map[string]string // of access tokens
	instead http.HandlerFunc  // of an exchange
}

// ACR starts a registry in the cloud of entra, at a host such as acme.azurecr.io,
// which belongs to a tenant. What it holds is content's; nil = nothing.
func (e *Entra) ACR(tb TB, host, tenant string, content http.Handler) *ACR {
	tb.Helper()
	const issuer = "Azure Container Registry"
	a := &ACR{Host: host, Tenant: tenant, e: e, content: content, refresh: NewIssuer(tb, issuer), access: NewIssuer(tb, issuer), life: acrRefreshLife,
		pull: map[string]bool{}, scopes: map[string]string{}}
	e.allow(RegistryResource)
	e.c.Serve(host, a)
	return a
}

// Grant gives an identity the role AcrPull.
func (a *ACR) Grant(client string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pull[client] = true
}

// Life sets how long refresh tokens are good.
func (a *ACR) Life(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.life = d
}

// Revoke ends all tokens of the registry.
func (a *ACR) Revoke(tb TB) {
	refresh, access := NewIssuer(tb, a.refresh.Name), NewIssuer(tb, a.access.Name)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refresh, a.access = refresh, access
}

// Instead has exchanges answered by h; nil = as Azure does.
func (a *ACR) Instead(h http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.instead = h
}

// Issue makes a refresh token of the registry.
func (a *ACR) Issue(client string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.e.c.clock()
	token := a.refresh.Token(Claims{Subject: client, Audience: a.Host, NotBefore: now.Add(-time.Minute).Unix(), Expires: now.Add(a.life).Unix()})
	a.e.c.keep(token)
	return token
}

func (a *ACR) fail(w http.ResponseWriter, status int, code, message string) {
	replyJSON(w, status, map[string]any{"errors": []any{map[string]any{"code": code, "message": message}}})
}

const acrUnauthorized = "authentication required, visit https://aka.ms/acr/authorization for more information. CorrelationId: 2b1c4d6e-0000-4000-8000-0123456789ab"

func (a *ACR) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	instead := a.instead
	a.mu.Unlock()
	switch {
	case r.URL.Path == "/oauth2/exchange" && instead != nil:
		a.e.c.keep(r.PostFormValue("access_token"))
		instead(w, r)
	case r.URL.Path == "/oauth2/exchange" && r.Method == http.MethodPost:
		a.exchange(w, r)
	case r.URL.Path == "/oauth2/token" && r.Method == http.MethodPost:
		a.token(w, r)
	case strings.HasPrefix(r.URL.Path, "/v2/"):
		a.read(w, r)
	default:
		a.fail(w, http.StatusNotFound, "NOT_FOUND", "not found")
	}
}

func (a *ACR) exchange(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") || r.ParseForm() != nil {
		a.fail(w, http.StatusBadRequest, "BAD_REQUEST", "the body is no form")
		return
	}
	token, tenant := r.PostForm.Get("access_token"), r.PostForm.Get("tenant")
	a.e.c.keep(token)
	claims, err := a.e.issuer.verify(token, a.e.c.clock())
	a.mu.Lock()
	pull := a.pull[claims.App]
	a.mu.Unlock()
	switch {
	case r.PostForm.Get("grant_type") != "access_token":
		a.fail(w, http.StatusBadRequest, "UNSUPPORTED", "grant_type is not supported")
	case r.PostForm.Get("service") != a.Host:
		a.fail(w, http.StatusBadRequest, "BAD_REQUEST", "service is not this registry")
	case errors.Is(err, errExpired):
		a.fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "AAD token has expired")
	case err != nil:
		a.fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "could not verify AAD token")
	case claims.Audience != RegistryResource:
		a.fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "AAD token has the wrong audience: "+claims.Audience)
	case tenant != "" && tenant != claims.Tenant, claims.Tenant != a.Tenant:
		a.fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "AAD token is of another tenant than the registry")
	case !pull:
		a.fail(w, http.StatusUnauthorized, "UNAUTHORIZED", acrUnauthorized)
	default:
		replyJSON(w, http.StatusOK, map[string]any{"refresh_token": a.Issue(claims.App)})
	}
}

// token gives an access token for a scope.
func (a *ACR) token(w http.ResponseWriter, r *http.Request) {
	if r.ParseForm() != nil || r.PostForm.Get("grant_type") != "refresh_token" {
		a.fail(w, http.StatusBadRequest, "UNSUPPORTED", "grant_type is not supported")
		return
	}
	token := r.PostForm.Get("refresh_token")
	a.e.c.keep(token)
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.e.c.clock()
	claims, err := a.refresh.verify(token, now)
	if err != nil || claims.Audience != a.Host || r.PostForm.Get("service") != a.Host {
		a.fail(w, http.StatusUnauthorized, "UNAUTHORIZED", acrUnauthorized)
		return
	}
	access := a.access.Token(Claims{Subject: claims.Subject, Audience: a.Host, NotBefore: now.Add(-time.Minute).Unix(), Expires: now.Add(acrAccessLife).Unix()})
	a.e.c.keep(access)
	a.scopes[access] = r.PostForm.Get("scope")
	replyJSON(w, http.StatusOK, map[string]any{"access_token": access})
}

// read is the registry itself: what is read needs a token for that repository.
func (a *ACR) read(w http.ResponseWriter, r *http.Request) {
	need := ""
	for _, kind := range []string{"/manifests/", "/blobs/", "/referrers/", "/tags/"} {
		if repository, _, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), kind); ok {
			need = "repository:" + repository + ":pull"
		}
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	a.mu.Lock()
	claims, err := a.access.verify(token, a.e.c.clock())
	scope := a.scopes[token]
	a.mu.Unlock()
	if err != nil || claims.Audience != a.Host || need != "" && scope != need {
		challenge := `Bearer realm="https://` + a.Host + `/oauth2/token",service="` + a.Host + `"`
		if need != "" {
			challenge += `,scope="` + need + `"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
		a.fail(w, http.StatusUnauthorized, "UNAUTHORIZED", acrUnauthorized)
		return
	}
	if a.content == nil {
		a.fail(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
		return
	}
	a.content.ServeHTTP(w, r)
}
