package testcloud

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Hosts of Microsoft Entra.
const (
	EntraPublic     = "login.microsoftonline.com"
	EntraGovernment = "login.microsoftonline.us"
	EntraChina      = "login.chinacloudapi.cn"
)

// FederatedAudience is for whom an assertion must be made out.
const FederatedAudience = "api://AzureADTokenExchange"

// tokenLife is how long an access token is good.
const tokenLife = time.Hour

// Federated is a federated credential of an application.
type Federated struct {
	Issuer            *Issuer
	Subject, Audience string // "" = FederatedAudience
}

// App is an application or managed identity.
type App struct {
	Secret    string // "" = none
	Federated []Federated
}

// Entra is Microsoft Entra in one cloud.
type Entra struct {
	// MachineLife is how long the metadata service says that a token is good; 0 means an hour.
	MachineLife time.Duration

	c      *Cloud
	host   string
	issuer *Issuer

	mu      sync.Mutex
	tenants map[string]map[string]App // by tenant and client ID
	// resources are for whom tokens are given.
	resources map[string]bool
}

// Entra starts Microsoft Entra at one of its hosts.
func (c *Cloud) Entra(tb TB, host string) *Entra {
	tb.Helper()
	e := &Entra{c: c, host: host, issuer: NewIssuer(tb, "https://sts.windows.net/"), tenants: map[string]map[string]App{}, resources: map[string]bool{}}
	c.Serve(host, e)
	return e
}

// Add adds an application to a tenant.
func (e *Entra) Add(tenant, client string, app App) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.tenants[tenant] == nil {
		e.tenants[tenant] = map[string]App{}
	}
	e.tenants[tenant][client] = app
	e.c.keep(app.Secret)
}

func (e *Entra) allow(resource string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.resources[resource] = true
}

// give signs an access token.
func (e *Entra) give(tenant, client, resource string) string {
	now := e.c.clock()
	token := e.issuer.Token(Claims{Issuer: "https://sts.windows.net/" + tenant + "/", Subject: client, Audience: resource, Tenant: tenant, App: client,
		NotBefore: now.Add(-time.Minute).Unix(), Expires: now.Add(tokenLife).Unix()})
	e.c.keep(token)
	return token
}

func (e *Entra) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/common/discovery/instance" {
		e.discovery(w, r)
		return
	}
	tenant, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	e.mu.Lock()
	apps := e.tenants[tenant]
	e.mu.Unlock()
	switch {
	case apps == nil:
		refuseRequest(w, http.StatusBadRequest, "invalid_request", "AADSTS90002: Tenant '"+tenant+"' not found. Check to make sure you have the correct tenant ID.")
	case rest == "v2.0/.well-known/openid-configuration" && r.Method == http.MethodGet:
		base := "https://" + e.host + "/" + tenant
		replyJSON(w, http.StatusOK, map[string]any{"token_endpoint": base + "/oauth2/v2.0/token", "authorization_endpoint": base + "/oauth2/v2.0/authorize", "issuer": base + "/v2.0"})
	case rest == "oauth2/v2.0/token" && r.Method == http.MethodPost:
		e.token(w, r, tenant, apps)
	default:
		http.NotFound(w, r)
	}
}

// discovery answers which hosts are one and the same cloud.
func (e *Entra) discovery(w http.ResponseWriter, r *http.Request) {
	at, err := url.Parse(r.URL.Query().Get("authorization_endpoint"))
	if err != nil || at.Host != e.host || r.URL.Query().Get("api-version") == "" {
		refuseRequest(w, http.StatusBadRequest, "invalid_instance", "AADSTS50049: Unknown or invalid instance.")
		return
	}
	tenant, _, _ := strings.Cut(strings.TrimPrefix(at.Path, "/"), "/")
	replyJSON(w, http.StatusOK, map[string]any{"api-version": "1.1", "tenant_discovery_endpoint": "https://" + e.host + "/" + tenant + "/v2.0/.well-known/openid-configuration",
		"metadata": []any{map[string]any{"preferred_network": e.host, "preferred_cache": e.host, "aliases": []string{e.host}}}})
}

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// token is the grant client_credentials (RFC 6749, section 4.4; RFC 7523).
func (e *Entra) token(w http.ResponseWriter, r *http.Request, tenant string, apps map[string]App) {
	if err := r.ParseForm(); err != nil || r.PostForm.Get("grant_type") != "client_credentials" {
		refuseRequest(w, http.StatusBadRequest, "unsupported_grant_type", "AADSTS70003: The app requested an unsupported grant type.")
		return
	}
	client := r.PostForm.Get("client_id")
	e.mu.Lock()
	app, ok := apps[client]
	e.mu.Unlock()
	if !ok {
		refuseRequest(w, http.StatusBadRequest, "unauthorized_client", "AADSTS700016: Application with identifier '"+client+"' was not found in the directory '"+tenant+"'.")
		return
	}
	if assertion := r.PostForm.Get("client_assertion"); assertion != "" {
		e.c.keep(assertion)
		if code := e.asserted(app, assertion); code != "" || r.PostForm.Get("client_assertion_type") != assertionType {
			refuseRequest(w, http.StatusUnauthorized, "invalid_client", code)
			return
		}
	} else if secret := r.PostForm.Get("client_secret"); app.Secret == "" || secret != app.Secret {
		e.c.keep(secret)
		refuseRequest(w, http.StatusUnauthorized, "invalid_client", "AADSTS7000215: Invalid client secret provided.")
		return
	}
	resource, ok := "", false
	for _, scope := range strings.Fields(r.PostForm.Get("scope")) {
		if base, found := strings.CutSuffix(scope, "/.default"); found {
			resource, ok = base, true
		}
	}
	e.mu.Lock()
	known := e.resources[resource]
	e.mu.Unlock()
	if !ok || !known {
		refuseRequest(w, http.StatusBadRequest, "invalid_resource", "AADSTS500011: The resource principal named "+resource+" was not found in the tenant.")
		return
	}
	replyJSON(w, http.StatusOK, map[string]any{"token_type": "Bearer", "expires_in": int(tokenLife / time.Second), "ext_expires_in": int(tokenLife / time.Second), "access_token": e.give(tenant, client, resource)})
}

// asserted judges a federated assertion, and says what is wrong with it.
func (e *Entra) asserted(app App, assertion string) string {
	claims := unverifiedClaims(assertion)
	for _, f := range app.Federated {
		if f.Issuer.Name != claims.Issuer {
			continue
		}
		audience := f.Audience
		if audience == "" {
			audience = FederatedAudience
		}
		_, err := f.Issuer.verify(assertion, e.c.clock())
		switch {
		case errors.Is(err, errExpired):
			return "AADSTS700024: Client assertion is not within its valid time range."
		case err != nil:
			return "AADSTS700027: The certificate with identifier used to sign the client assertion is not registered on application."
		case claims.Audience != audience:
			return fmt.Sprintf("AADSTS700212: No matching federated identity record found for presented assertion audience '%s'.", claims.Audience)
		case claims.Subject != f.Subject:
			return fmt.Sprintf("AADSTS700213: No matching federated identity record found for presented assertion subject '%s'.", claims.Subject)
		}
		return ""
	}
	return fmt.Sprintf("AADSTS700211: No matching federated identity record found for presented assertion issuer '%s'.", claims.Issuer)
}

func refuseRequest(w http.ResponseWriter, status int, code, description string) {
	replyJSON(w, status, map[string]any{"error": code, "error_description": description + " Trace ID: 2b1c4d6e-0000-4000-8000-0123456789ab Correlation ID: 3c1c4d6e-0000-4000-8000-0123456789ab Timestamp: 2026-01-02 03:04:05Z",
		"timestamp": "2026-01-02 03:04:05Z", "trace_id": "2b1c4d6e-0000-4000-8000-0123456789ab"})
}

func replyJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// MetadataHost is where a machine in Azure asks who it is.
const MetadataHost = "169.254.169.254"

// Metadata starts the instance metadata service of a machine with managed
// identities; own is that of the machine, "" = it has none.
func (e *Entra) Metadata(tenant, own string, others ...string) {
	e.c.Serve(MetadataHost, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		client := q.Get("client_id")
		known := client == "" && own != ""
		for _, o := range others {
			known = known || o == client && o != ""
		}
		if client == "" {
			client = own
		}
		e.mu.Lock()
		resource := e.resources[q.Get("resource")]
		e.mu.Unlock()
		switch {
		case r.URL.Path != "/metadata/identity/oauth2/token":
			http.NotFound(w, r)
		case r.Header.Get("Metadata") != "true":
			refuseRequest(w, http.StatusBadRequest, "bad_request_102", "Required metadata header not specified")
		case q.Get("api-version") != "2018-02-01" && q.Get("api-version") != "2019-08-01":
			refuseRequest(w, http.StatusBadRequest, "bad_request", "Invalid api-version")
		case !known:
			refuseRequest(w, http.StatusBadRequest, "invalid_request", "Identity not found")
		case !resource:
			refuseRequest(w, http.StatusBadRequest, "invalid_resource", "AADSTS500011: The resource principal named "+q.Get("resource")+" was not found in the tenant.")
		default:
			life := cmp.Or(e.MachineLife, tokenLife)
			replyJSON(w, http.StatusOK, map[string]any{"access_token": e.give(tenant, client, q.Get("resource")), "client_id": client, "token_type": "Bearer",
				"expires_in": fmt.Sprint(int(life / time.Second)), "expires_on": fmt.Sprint(e.c.clock().Add(life).Unix()), "resource": q.Get("resource")})
		}
	}))
}
