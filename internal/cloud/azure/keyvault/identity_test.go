package keyvault_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/azure/keyvault"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testcloud"
)

// objects are the Secrets of a cluster.
type objects map[string]map[string][]byte

func (o objects) Get(_ context.Context, kind, namespace, name string) (map[string][]byte, error) {
	data, ok := o[kind+" "+namespace+"/"+name]
	if !ok {
		return nil, &keys.Error{Op: "read", Target: name, Err: boltseal.ErrNotFound}
	}
	return data, nil
}

func (objects) PullSecrets(context.Context, string, string) ([]string, error) {
	return nil, boltseal.ErrNotFound
}

func (o objects) Watch(ctx context.Context, _, _, _ string, _ func()) { <-ctx.Done() }

// managed is one of several managed identities.
func managed(n int) keyvault.Parameters {
	return keyvault.Parameters{Authentication: keyvault.ManagedIdentity, ClientID: fmt.Sprintf("00000000-0000-4000-8000-%012d", n)}
}

// TestSigningIn: each way in has a case in which it works, and cases in which it
// must not.
func TestSigningIn(t *testing.T) {
	t.Parallel()
	past := time.Now().Add(-time.Hour).Unix()
	secret := keyvault.Parameters{Authentication: keyvault.ClientSecret, ClientSecretRef: &keys.SecretRef{Name: "entra", Namespace: "boltseal-system", Key: "secret"}}
	for _, c := range []struct {
		name   string
		params keyvault.Parameters
		set    func(t *testing.T, h *house)
		says   string // "" = it works
	}{
		{name: "workload identity"},
		{name: "its tenant and client from the parameters", params: keyvault.Parameters{TenantID: tenant, ClientID: client}, set: func(_ *testing.T, h *house) {
			h.env["AZURE_TENANT_ID"], h.env["AZURE_CLIENT_ID"] = otherTenant, "somebody"
		}},
		{name: "a token of another audience", set: func(t *testing.T, h *house) {
			h.assert(t, testcloud.Claims{Audience: "https://kubernetes.default.svc"})
		}, says: "AADSTS700212"},
		{name: "a token that has expired", set: func(t *testing.T, h *house) { h.assert(t, testcloud.Claims{Expires: past}) }, says: "AADSTS700024"},
		{name: "a token of another account", set: func(t *testing.T, h *house) {
			h.assert(t, testcloud.Claims{Subject: "system:serviceaccount:default:default"})
		}, says: "AADSTS700213"},
		{name: "a token of another cluster", set: func(t *testing.T, h *house) { h.assert(t, testcloud.Claims{Issuer: "https://oidc.example/other"}) }, says: "AADSTS700211"},
		{name: "a token that somebody else signed", set: func(t *testing.T, h *house) {
			h.cluster = testcloud.NewIssuer(t, h.cluster.Name)
			h.assert(t, testcloud.Claims{})
		}, says: "AADSTS700027"},
		{name: "a client that is not there", params: keyvault.Parameters{ClientID: "00000000-0000-4000-8000-0000000000ff"}, says: "AADSTS700016"},
		{name: "a tenant that is not there", params: keyvault.Parameters{TenantID: "00000000-0000-4000-8000-0000000000ff"}, says: "the vault is of another tenant"},
		{name: "a tenant that is not the vault's", params: keyvault.Parameters{TenantID: otherTenant}, says: "the vault is of another tenant"},
		{name: "no file with a token", set: func(t *testing.T, h *house) {
			if err := os.Remove(h.token); err != nil {
				t.Fatal(err)
			}
		}, says: "no such file"},

		{name: "managed identity of the machine", params: keyvault.Parameters{Authentication: keyvault.ManagedIdentity}, set: func(_ *testing.T, h *house) { h.entra.Metadata(tenant, client) }},
		{name: "managed identity by its client", params: managed(1), set: func(_ *testing.T, h *house) {
			h.entra.Metadata(tenant, "", managed(1).ClientID)
			h.vault.Grant(managed(1).ClientID, testcloud.CertificatesGet)
		}},
		{name: "a managed identity that the machine has not", params: managed(2), set: func(_ *testing.T, h *house) { h.entra.Metadata(tenant, client) }, says: "sign in to Microsoft Entra"},
		{name: "managed identity without rights", params: managed(3), set: func(_ *testing.T, h *house) { h.entra.Metadata(tenant, "", managed(3).ClientID) }, says: "HTTP 403"},
		{name: "managed identity of another tenant", params: managed(4), set: func(_ *testing.T, h *house) { h.entra.Metadata(otherTenant, "", managed(4).ClientID) }, says: "HTTP 401"},

		{name: "client secret", params: secret, set: func(_ *testing.T, h *house) {
			h.entra.Add(tenant, client, testcloud.App{Secret: "correct-horse-battery-staple"})
		}},
		{name: "client secret that is wrong", params: secret, set: func(_ *testing.T, h *house) {
			h.entra.Add(tenant, client, testcloud.App{Secret: "another-horse-battery-staple"})
		}, says: "AADSTS7000215"},
		{name: "client secret that is not there", params: keyvault.Parameters{Authentication: keyvault.ClientSecret, ClientSecretRef: &keys.SecretRef{Name: "entra", Namespace: "boltseal-system", Key: "other"}}, says: "read entry other of Secret boltseal-system/entra"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			self := testca.Must(testca.NewSelfSigned(testca.Options{}))
			h.vault.Add("signing", testcloud.Version{Chain: self.X509()})
			h.entra.MachineLife = time.Minute // the SDK would keep it for the whole process, and this test runs more than once
			if c.set != nil {
				c.set(t, h)
			}
			c.params.VaultURI, c.params.Certificates = "https://"+vaultHost, named("signing")
			env := h.keysEnv()
			env.Objects = objects{"Secret boltseal-system/entra": {"secret": []byte("correct-horse-battery-staple\n")}}
			if ps := c.params.Check(""); len(ps) > 0 {
				t.Fatalf("%+v", ps)
			}
			v, err := c.params.Open(env, "")
			if err != nil {
				t.Fatal(err)
			}
			g := h.fetch(t, v)
			if c.says == "" {
				if !has(g, self.Leaf()) || len(h.Secrets()) == 0 {
					t.Fatalf("%+v, with %d secrets", g, len(h.Secrets()))
				}
				return
			}
			if g[0].Err == nil || has(g, self.Leaf()) {
				t.Fatalf("it works: %+v", g)
			}
			text := g[0].Err.Error()
			if !strings.Contains(text, c.says) || strings.ContainsAny(text, "\r\n") || len(text) > 900 || strings.Contains(text, "Trace ID") {
				t.Errorf("%s\nwant %s, in one line, the same each time", text, c.says)
			}
		})
	}
}

func TestNoIdentity(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, missing := range []string{"AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"} {
		env := h.keysEnv()
		env.Getenv = func(k string) string {
			if k == missing {
				return ""
			}
			return h.env[k]
		}
		v, err := keyvault.Parameters{VaultURI: "https://" + vaultHost, Certificates: named("x")}.Open(env, "")
		if err != nil {
			t.Fatal(err)
		}
		if err = h.fetch(t, v)[0].Err; !errors.Is(err, boltseal.ErrConfiguration) || !strings.Contains(err.Error(), "$"+missing) {
			t.Errorf("%s: %v", missing, err)
		}
	}
}

// TestSovereignClouds: the host of the vault says where to sign in, and for what.
func TestSovereignClouds(t *testing.T) {
	t.Parallel()
	for host, authority := range map[string]string{"acme.vault.usgovcloudapi.net": testcloud.EntraGovernment, "acme.vault.azure.cn": testcloud.EntraChina} {
		h := newHouse(t)
		entra := h.Entra(t, authority)
		vault := entra.KeyVault(host, tenant)
		entra.Add(tenant, client, testcloud.App{Federated: []testcloud.Federated{{Issuer: h.cluster, Subject: subject}}})
		vault.Grant(client, testcloud.CertificatesGet)
		self := testca.Must(testca.NewSelfSigned(testca.Options{}))
		vault.Add("signing", testcloud.Version{Chain: self.X509()})
		if g := h.fetch(t, h.open(t, keyvault.Parameters{VaultURI: "https://" + host + "/", Certificates: named("signing")})); !has(g, self.Leaf()) {
			t.Errorf("%s: %+v", host, g)
		}
		if n := len(h.Requests(testcloud.EntraPublic)); n != 0 {
			t.Errorf("%s: the public cloud was asked %d times", host, n)
		}
	}
}

// TestLookalikes: a token is given to vaults of Azure only.
func TestLookalikes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, uri := range []string{
		"https://acme.vault.azure.net.evil.example/", "https://vault.azure.net/", "https://acme.vault.azure.net@evil.example/", "http://acme.vault.azure.net/",
		"https://acme.vault.azure.net:8443/", "https://evil.example/acme.vault.azure.net", "https://a.b.vault.azure.net/", "https://acmevault.azure.net/",
		"https://evil.example/?x=.vault.azure.net", "https://evil.example#.vault.azure.net", "acme.vault.azure.net", "https://acme.vault.azure.net/certificates",
		"https://acme.vault.azure.net\\.evil.example/", "https://acme%2evault.azure.net.evil.example/",
	} {
		p := keyvault.Parameters{VaultURI: uri, Certificates: named("x")}
		if ps := p.Check(""); len(ps) != 1 || ps[0].Field != "vaultURI" {
			t.Errorf("%s: %+v", uri, ps)
		}
		if _, err := p.Open(h.keysEnv(), ""); err == nil {
			t.Errorf("%s: it is asked", uri)
		}
	}
	if n := len(h.Requests("")); n != 0 {
		t.Errorf("%d requests", n)
	}
}
