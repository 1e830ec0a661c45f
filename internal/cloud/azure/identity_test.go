package azure_test

import (
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/azure/acr"
	"github.com/boltseal/boltseal/internal/cloud/azure/keyvault"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testcloud"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

const (
	tenant   = "00000000-0000-4000-8000-0000000000aa"
	client   = "00000000-0000-4000-8000-0000000000bb"
	registry = "acme.azurecr.io"
	vault    = "acme.vault.azure.net"
	subject  = "system:serviceaccount:boltseal-system:boltseal"
)

// house is a cloud with a registry and a vault that one identity may read.
type house struct {
	*testcloud.Cloud
	entra *testcloud.Entra
	env   map[string]string
	token string // its file
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{Cloud: testcloud.Start(t, nil), token: filepath.Join(t.TempDir(), "token")}
	cluster := testcloud.NewIssuer(t, "https://oidc.example/cluster")
	h.entra = h.Entra(t, testcloud.EntraPublic)
	h.entra.Add(tenant, client, testcloud.App{Federated: []testcloud.Federated{{Issuer: cluster, Subject: subject}}})
	h.entra.ACR(t, registry, tenant, nil).Grant(client)
	v := h.entra.KeyVault(vault, tenant)
	v.Grant(client, testcloud.CertificatesGet)
	v.Add("signing", testcloud.Version{Chain: testca.Must(testca.NewSelfSigned(testca.Options{})).X509()})
	h.env = map[string]string{"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": client, "AZURE_FEDERATED_TOKEN_FILE": h.token}
	h.write(t, cluster.Token(testcloud.Claims{Subject: subject, Audience: "api://AzureADTokenExchange", Expires: time.Now().Add(time.Hour).Unix()}))
	return h
}

func (h *house) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(h.token, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ask has all that sign in by the identity ask Azure once.
func (h *house) ask(t *testing.T, managed bool) map[string]error {
	t.Helper()
	way := h.Transport()
	way.Proxy = func(r *http.Request) (*url.URL, error) {
		if r.URL.Scheme != "https" {
			t.Errorf("%s goes by a proxy", r.URL.Host)
		}
		return nil, nil
	}
	getenv := func(name string) string { return h.env[name] }
	o := acr.Options{Provider: acr.WorkloadIdentity, Transport: way, Getenv: getenv, Timeout: testwait.Patience}
	p := keyvault.Parameters{VaultURI: "https://" + vault, Certificates: []keyvault.Entry{{Name: "signing"}}}
	if managed {
		o.Provider, p.Authentication, o.ClientID, p.ClientID = acr.ManagedIdentity, keyvault.ManagedIdentity, client, client
	}
	s, err := acr.New(o)
	if err != nil {
		t.Fatal(err)
	}
	v, err := p.Open(keys.Env{Transport: way, Getenv: getenv}, "")
	if err != nil {
		t.Fatal(err)
	}
	_, registries := s.Credential(t.Context(), registry, "app")
	g, err := v.Fetch(testwait.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]error{"registries": registries, "keys": g[0].Err}
}

// TestAllSignInAlike: the same environment makes the same identity, whoever asks for it,
// and what is wrong with it is told in the same words.
func TestAllSignInAlike(t *testing.T) {
	t.Parallel()
	without := func(name string) func(*testing.T, *house) {
		return func(_ *testing.T, h *house) { delete(h.env, name) }
	}
	for _, c := range []struct {
		name string
		set  func(*testing.T, *house)
		is   error // nil = it works
		says string
	}{
		{"workload identity", func(*testing.T, *house) {}, nil, ""},
		{"no tenant", without("AZURE_TENANT_ID"), boltseal.ErrConfiguration, "neither is $AZURE_TENANT_ID"},
		{"no client", without("AZURE_CLIENT_ID"), boltseal.ErrConfiguration, "neither is $AZURE_CLIENT_ID"},
		{"no token file", without("AZURE_FEDERATED_TOKEN_FILE"), boltseal.ErrConfiguration, "neither is $AZURE_FEDERATED_TOKEN_FILE"},
		{"the token's file is gone", func(_ *testing.T, h *house) { h.env["AZURE_FEDERATED_TOKEN_FILE"] = "/nowhere" }, boltseal.ErrConfiguration, "/nowhere: no such file"},
		{"the token is too long", func(t *testing.T, h *house) { h.write(t, strings.Repeat("a", keys.MaxToken+1)) }, boltseal.ErrLimit, "too long"},
		{"the token is none", func(t *testing.T, h *house) { h.write(t, "two words") }, boltseal.ErrConfiguration, "contains no token"},
		{"the token is a stranger's", func(t *testing.T, h *house) {
			h.write(t, testcloud.NewIssuer(t, "https://oidc.example/cluster").Token(testcloud.Claims{Subject: subject, Audience: "api://AzureADTokenExchange", Expires: time.Now().Add(time.Hour).Unix()}))
		}, boltseal.ErrUnauthorized, "AADSTS700027"},
		{"Entra throttles", func(_ *testing.T, h *house) { h.Refuse(testcloud.EntraPublic, -1, 429, "30") }, boltseal.ErrUnavailable, "HTTP 429"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			c.set(t, h)
			errs := h.ask(t, false)
			for who, err := range errs {
				if !errors.Is(err, c.is) || c.is != nil && !strings.Contains(err.Error(), c.says) {
					t.Errorf("%s: %v, want %v with %q", who, err, c.is, c.says)
				}
			}
			var a, b *keys.Error
			if c.is != nil && (!errors.As(errs["registries"], &a) || !errors.As(errs["keys"], &b) || a.Error() != b.Error()) {
				t.Errorf("they differ: %v, %v", errs["registries"], errs["keys"])
			}
		})
	}
}

// TestAnotherCloud: an identity is shown in its own cloud only, whatever resources name.
func TestAnotherCloud(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.env["AZURE_AUTHORITY_HOST"] = "https://" + testcloud.EntraGovernment + "/"
	for who, err := range h.ask(t, false) {
		if err == nil || !strings.Contains(err.Error(), "is in another cloud of Azure than the identity ($AZURE_AUTHORITY_HOST)") {
			t.Errorf("%s: %v", who, err)
		}
	}
	if n := len(h.Requests(testcloud.EntraPublic)); n != 0 {
		t.Errorf("the other cloud's sign-in was asked %d times", n)
	}
	h.env["AZURE_AUTHORITY_HOST"] = "https://" + testcloud.EntraPublic + "/"
	for who, err := range h.ask(t, false) {
		if err != nil {
			t.Errorf("%s: %v", who, err)
		}
	}
}

// TestMachinesAreAskedDirectly: instance metadata are spoken to without TLS, and no proxy
// sees the token.
func TestMachinesAreAskedDirectly(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.entra.MachineLife = time.Minute // the SDK would keep it for the whole process, and this test runs more than once
	h.entra.Metadata(tenant, "", client)
	for who, err := range h.ask(t, true) {
		if err != nil {
			t.Errorf("%s: %v", who, err)
		}
	}
}
