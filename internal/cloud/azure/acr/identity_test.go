package acr_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/azure/acr"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/test/testcloud"
)

// runs counts those of TestSigningIn: the SDK keeps the tokens of managed identities
// for the whole process.
var runs atomic.Int64

// identities are managed ones that the process has not seen.
func identities() func(n int) acr.Options {
	run := runs.Add(1)
	return func(n int) acr.Options {
		return acr.Options{Provider: acr.ManagedIdentity, ClientID: fmt.Sprintf("00000000-0000-4000-8000-%06d%06d", run, n)}
	}
}

// TestSigningIn: each way in has a case in which it works, and cases in which it
// must not.
func TestSigningIn(t *testing.T) {
	t.Parallel()
	managed := identities()
	past := time.Now().Add(-time.Hour).Unix()
	for _, c := range []struct {
		name string
		o    acr.Options
		set  func(t *testing.T, h *house)
		says string // "" = it works
		is   error  // nil = boltseal.ErrUnauthorized
	}{
		{name: "workload identity"},
		{name: "its tenant and client from the parameters", o: acr.Options{TenantID: tenant, ClientID: client}, set: func(_ *testing.T, h *house) {
			h.env["AZURE_TENANT_ID"], h.env["AZURE_CLIENT_ID"] = otherTenant, "somebody"
		}},
		{name: "a token of another audience", set: func(t *testing.T, h *house) {
			h.assert(t, testcloud.Claims{Audience: "https://kubernetes.default.svc"})
		}, says: "AADSTS700212"},
		{name: "a token that has expired", set: func(t *testing.T, h *house) { h.assert(t, testcloud.Claims{Expires: past}) }, says: "AADSTS700024"},
		{name: "a token of another account", set: func(t *testing.T, h *house) {
			h.assert(t, testcloud.Claims{Subject: "system:serviceaccount:default:default"})
		}, says: "AADSTS700213"},
		{name: "a token that somebody else signed", set: func(t *testing.T, h *house) {
			h.cluster = testcloud.NewIssuer(t, h.cluster.Name)
			h.assert(t, testcloud.Claims{})
		}, says: "AADSTS700027"},
		{name: "a client that is not there", o: acr.Options{ClientID: "00000000-0000-4000-8000-0000000000ff"}, says: "AADSTS700016"},
		{name: "a tenant that is not the registry's", o: acr.Options{TenantID: otherTenant}, says: "another tenant"},
		{name: "a client that may not pull", o: acr.Options{ClientID: "00000000-0000-4000-8000-0000000000dd"}, set: func(_ *testing.T, h *house) {
			h.entra.Add(tenant, "00000000-0000-4000-8000-0000000000dd", testcloud.App{Federated: []testcloud.Federated{{Issuer: h.cluster, Subject: subject}}})
		}, says: "AcrPull"},
		{name: "no file with a token", set: func(t *testing.T, h *house) {
			if err := os.Remove(h.token); err != nil {
				t.Fatal(err)
			}
		}, says: "no such file", is: boltseal.ErrConfiguration},
		{name: "no tenant", set: func(_ *testing.T, h *house) { delete(h.env, "AZURE_TENANT_ID") }, says: "$AZURE_TENANT_ID", is: boltseal.ErrConfiguration},
		{name: "no client", set: func(_ *testing.T, h *house) { delete(h.env, "AZURE_CLIENT_ID") }, says: "$AZURE_CLIENT_ID", is: boltseal.ErrConfiguration},
		{name: "no token file", set: func(_ *testing.T, h *house) { delete(h.env, "AZURE_FEDERATED_TOKEN_FILE") }, says: "$AZURE_FEDERATED_TOKEN_FILE", is: boltseal.ErrConfiguration},

		{name: "managed identity of the machine", o: acr.Options{Provider: acr.ManagedIdentity}, set: func(t *testing.T, h *house) {
			if runs.Load() > 1 {
				t.Skip("the SDK keeps the machine's token of the run before")
			}
			delete(h.env, "AZURE_TENANT_ID")
			h.entra.Metadata(tenant, client)
		}},
		{name: "managed identity by its client", o: managed(1), set: func(_ *testing.T, h *house) {
			h.entra.Metadata(tenant, "", managed(1).ClientID)
			h.acr.Grant(managed(1).ClientID)
		}},
		{name: "a managed identity that the machine has not", o: managed(2), set: func(_ *testing.T, h *house) { h.entra.Metadata(tenant, client) }, says: "clientID " + managed(2).ClientID},
		{name: "managed identity that may not pull", o: managed(3), set: func(_ *testing.T, h *house) { h.entra.Metadata(tenant, "", managed(3).ClientID) }, says: "AcrPull"},
		{name: "managed identity of another tenant", o: managed(4), set: func(_ *testing.T, h *house) {
			h.entra.Metadata(otherTenant, "", managed(4).ClientID)
			h.acr.Grant(managed(4).ClientID)
		}, says: "another tenant"},
		{name: "no metadata service", o: managed(5), says: "sign in to Microsoft Entra", is: boltseal.ErrUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, nil)
			if c.set != nil {
				c.set(t, h)
			}
			cred, err := h.get(t, h.source(t, c.o), host)
			if c.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				if left := time.Until(cred.Expires); left < 2*time.Hour || left > 4*time.Hour {
					t.Errorf("it ends at %s", cred.Expires)
				}
				return
			}
			if c.is == nil {
				c.is = boltseal.ErrUnauthorized
			}
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v\nwant %s", err, c.says)
			}
		})
	}
}

// TestSovereignClouds: the registry's host says where to sign in.
func TestSovereignClouds(t *testing.T) {
	t.Parallel()
	for at, authority := range map[string]string{"acme.azurecr.us": testcloud.EntraGovernment, "acme.azurecr.cn": testcloud.EntraChina} {
		h := newHouse(t, nil)
		entra := h.Entra(t, authority)
		entra.ACR(t, at, tenant, nil).Grant(client)
		entra.Add(tenant, client, testcloud.App{Federated: []testcloud.Federated{{Issuer: h.cluster, Subject: subject}}})
		if _, err := h.get(t, h.source(t, acr.Options{}), at); err != nil {
			t.Errorf("%s: %v", at, err)
		}
		if n := len(h.Requests(testcloud.EntraPublic)); n != 0 {
			t.Errorf("%s: the public cloud was asked %d times", at, n)
		}

		// Where the webhook says in which cloud the identity is, others see nothing of it.
		h.env["AZURE_AUTHORITY_HOST"] = "https://" + testcloud.EntraPublic + "/"
		before := len(h.Requests(""))
		if _, err := h.get(t, h.source(t, acr.Options{}), at); !errors.Is(err, credential.ErrNotForHost) || len(h.Requests("")) != before {
			t.Errorf("%s: %v", at, err)
		}
		h.env["AZURE_AUTHORITY_HOST"] = "https://" + authority
		if _, err := h.get(t, h.source(t, acr.Options{}), at); err != nil {
			t.Errorf("%s: %v", at, err)
		}
		if _, err := h.get(t, h.source(t, acr.Options{}), host); !errors.Is(err, credential.ErrNotForHost) {
			t.Errorf("%s: %v", at, err)
		}
	}
}

// TestLookalikes: neither an assertion nor a token is shown to a host that is none
// of the endpoints.
func TestLookalikes(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	lookalikes := []string{
		"acme.azurecr.io.evil.example", "evilazurecr.io", "azurecr.io", "acme.azurecr.io:5000", "acme.azurecr.io:443", "ACME.azurecr.io", "acme.azurecr.io.", "a.b.azurecr.io",
		"user@acme.azurecr.io", "evil.example#acme.azurecr.io", "evil.example/acme.azurecr.io", "acme.аzurecr.io", "xn--cme-5cd.azurecr.io", "docker.io", "localhost:5000", "",
		"acme.azurecr.io@evil.example", "acme.azurecr.com", "127.0.0.1", "169.254.169.254",
	}
	seen := func(w http.ResponseWriter, r *http.Request) { t.Errorf("%s was asked", r.Host) }
	for _, at := range lookalikes {
		h.Serve(at, http.HandlerFunc(seen))
	}
	for _, o := range []acr.Options{{}, {Endpoints: []string{"*.azurecr.io"}}, {Endpoints: []string{host}}} {
		s := h.source(t, o)
		for _, at := range lookalikes {
			if _, err := h.get(t, s, at); !errors.Is(err, credential.ErrNotForHost) || errors.Is(err, boltseal.ErrUnavailable) {
				t.Errorf("%q: %v", at, err)
			}
		}
	}
	if n := len(h.Requests("")); n != 0 {
		t.Errorf("%d requests", n)
	}
	// Endpoints narrow.
	s := h.source(t, acr.Options{Endpoints: []string{"other.azurecr.io"}})
	if _, err := h.get(t, s, host); !errors.Is(err, credential.ErrNotForHost) {
		t.Error(err)
	}
}

func TestParameters(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		o     acr.Options
		field string
	}{
		{acr.Options{Provider: acr.WorkloadIdentity, Endpoints: []string{"acme.azurecr.io", "*.azurecr.us", "registry.acme.example"}}, ""},
		{acr.Options{Provider: acr.ManagedIdentity, ClientID: client}, ""},
		{acr.Options{}, "name"},
		{acr.Options{Provider: "azureWorkloadIdentiy"}, "name"},
		{acr.Options{Provider: acr.WorkloadIdentity, ClientID: "a/b"}, "clientID"},
		{acr.Options{Provider: acr.WorkloadIdentity, TenantID: "common/../x"}, "tenantID"},
		{acr.Options{Provider: acr.WorkloadIdentity, Endpoints: []string{"*"}}, "endpoints[0]"},
		{acr.Options{Provider: acr.WorkloadIdentity, Endpoints: []string{host, "*.io"}}, "endpoints[1]"},
		{acr.Options{Provider: acr.WorkloadIdentity, Endpoints: []string{"https://" + host}}, "endpoints[0]"},
		{acr.Options{Provider: acr.ManagedIdentity, TokenFile: "/token"}, "tokenFile"},
	} {
		_, err := acr.New(c.o)
		ps := c.o.Check()
		if c.field == "" && (err != nil || len(ps) > 0) || c.field != "" && (!errors.Is(err, boltseal.ErrConfiguration) || len(ps) != 1 || ps[0].Field != c.field) {
			t.Errorf("%+v: %v, %+v", c.o, err, ps)
		}
	}
}
