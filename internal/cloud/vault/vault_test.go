package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/vault"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testcloud"
)

const (
	host    = "vault.example"
	subject = "system:serviceaccount:boltseal-system:boltseal"
)

type house struct {
	*testcloud.Cloud
	vault   *testcloud.Vault
	cluster *testcloud.Issuer
	dir     string
	told    bytes.Buffer
}

func newHouse(t *testing.T) *house {
	t.Helper()
	c := testcloud.Start(t, nil)
	h := &house{Cloud: c, vault: c.Vault(host), cluster: testcloud.NewIssuer(t, "https://oidc.example/cluster"), dir: t.TempDir()}
	h.vault.Role("boltseal", testcloud.VaultRole{Issuer: h.cluster, Subject: subject, Audience: "vault", Paths: []string{"secret/", "kv/", "transit/"}})
	h.assert(t, testcloud.Claims{})
	t.Cleanup(func() {
		if len(h.Secrets()) == 0 {
			t.Error("no secret was noted: the search found nothing to look for")
		}
		for _, secret := range h.Secrets() {
			if strings.Contains(h.told.String(), secret) {
				t.Errorf("a secret was told: %.12s…", secret)
			}
		}
	})
	return h
}

func (h *house) file() string { return filepath.Join(h.dir, "token") }

func (h *house) write(t *testing.T, token string) {
	t.Helper()
	if err := os.WriteFile(h.file(), []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// assert writes a token of the Pod; what is not said is right.
func (h *house) assert(t *testing.T, c testcloud.Claims) {
	t.Helper()
	if c.Subject == "" {
		c.Subject = subject
	}
	if c.Audience == "" {
		c.Audience = "vault"
	}
	if c.Expires == 0 {
		c.Expires = time.Now().Add(time.Hour).Unix()
	}
	h.write(t, h.cluster.Token(c))
}

func (h *house) params() vault.Parameters {
	return vault.Parameters{Address: "https://" + host + ":8200", CACert: string(h.CAPEM()),
		Auth: vault.Auth{Method: vault.MethodKubernetes, Role: "boltseal", TokenFile: h.file()}}
}

func (h *house) open(t *testing.T, p vault.Parameters) keys.Provider {
	t.Helper()
	if ps := p.Check(""); len(ps) > 0 {
		t.Fatalf("%+v", ps)
	}
	v, err := p.Open(keys.Env{Transport: h.Transport()}, "")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (h *house) fetch(t *testing.T, v keys.Provider) []keys.Group {
	t.Helper()
	groups, err := v.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&h.told, "%+v\n", groups)
	for _, g := range groups {
		fmt.Fprintln(&h.told, g.Err)
	}
	return groups
}

func uses(g keys.Group) string {
	var out []string
	for _, it := range g.Items {
		out = append(out, string(it.Use))
	}
	return strings.Join(out, " ")
}

func has(groups []keys.Group, c *testca.Chain) bool {
	return slices.ContainsFunc(keys.NewContent(groups).Certificates(), c.Root().Equal)
}

func pem(c *testca.Chain) map[string]string {
	return map[string]string{"certificate": string(c.Root().PEM())}
}

func TestKV(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var c []*testca.Chain
	for range 5 {
		c = append(c, testca.Test(t, testca.Options{}))
	}
	h.vault.KV1("signing/ca", map[string]string{"pem": string(c[0].Root().PEM())})
	h.vault.KV2("signing/ca", testcloud.KVVersion{Data: pem(c[1])}, testcloud.KVVersion{Data: pem(c[2]), Deleted: true}, testcloud.KVVersion{Data: pem(c[3])}, testcloud.KVVersion{Data: pem(c[4])})
	h.vault.KV2("gone", testcloud.KVVersion{Data: pem(c[1]), Destroyed: true})
	h.vault.KV2("leaf", testcloud.KVVersion{Data: map[string]string{"certificate": string(c[0].Leaf().PEM()), "other": "x"}})
	p := h.params()
	p.KV = []vault.KV{
		{Mount: "kv", Path: "signing/ca", Engine: 1, Field: "pem"},
		{Path: "signing/ca"},
		{Path: "signing/ca", Version: 1},
		{Path: "signing/ca", VersionHistoryLimit: 3},
		{Path: "gone"}, {Path: "nobody"}, {Path: "leaf"}, {Path: "leaf", Field: "other"}, {Path: "leaf", Field: "none"},
		{Path: "signing/ca", Version: 2},
	}
	g := h.fetch(t, h.open(t, p))
	for i, w := range []struct {
		uses, problem string
		trusted       []int
	}{
		{"InUse", "", []int{0}},
		{"InUse", "", []int{4}},
		{"InUse", "", []int{1}},
		{"InUse InUse Disabled InUse", "", []int{1, 3, 4}},
		{"Missing", "kv secret/gone at vault.example:8200: it is not in the vault", nil},
		{"Missing", "kv secret/nobody at vault.example:8200: it is not in the vault", nil},
		{"Unusable", "neither a CA's nor self-signed", nil},
		{"Unusable", "no certificate", nil},
		{"Unusable", "it has no text in the field none", nil},
		{"Missing", "it is not in the vault", nil},
	} {
		if uses(g[i]) != w.uses || g[i].Err != nil || (w.problem == "") != (g[i].Problem == "") || !strings.Contains(g[i].Problem, w.problem) {
			t.Errorf("%d: %+v, want %+v", i, g[i], w)
		}
		for n, chain := range c {
			if has(g[i:i+1], chain) != slices.Contains(w.trusted, n) {
				t.Errorf("%d: certificate %d is trusted, or is not", i, n)
			}
		}
	}
}

func TestPKIAndTransit(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	chain := testca.Test(t, testca.Options{Intermediates: []testca.Spec{{}}})
	old := testca.Test(t, testca.Options{})
	h.vault.Issuer("default", false, string(chain.Certs[1].PEM()), string(chain.Root().PEM()))
	h.vault.Issuer("old", true, string(old.Root().PEM()))
	h.vault.Transit("release", testcloud.TransitVersion{CertificateChain: string(old.PEM())}, testcloud.TransitVersion{PublicKey: "x"}, testcloud.TransitVersion{CertificateChain: string(chain.PEM())})
	p := h.params()
	p.PKI = []vault.PKI{{}, {Issuer: "old"}}
	p.Transit = []vault.Transit{{Name: "release"}, {Name: "release", VersionHistoryLimit: 3}, {Name: "nobody"}}
	g := h.fetch(t, h.open(t, p))
	if !has(g[:1], chain) || len(g[0].Items) != 2 || g[0].Problem != "" {
		t.Errorf("%+v", g[0])
	}
	if uses(g[1]) != "Disabled" || !strings.Contains(g[1].Problem, "the issuer is revoked") {
		t.Errorf("%+v", g[1])
	}
	if !has(g[2:3], chain) || has(g[2:3], old) || g[2].Problem != "" {
		t.Errorf("%+v", g[2])
	}
	if !has(g[3:4], old) || uses(g[3]) != "InUse Unusable InUse" {
		t.Errorf("%+v", g[3])
	}
	if uses(g[4]) != "Missing" {
		t.Errorf("%+v", g[4])
	}
}

// TestSigningIn: each way in has a case in which it works, and cases in which it
// must not.
func TestSigningIn(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{})
	own := func(h *house, p *vault.Parameters) {
		p.Auth = vault.Auth{Method: vault.MethodToken, TokenFile: h.file()}
	}
	for _, c := range []struct {
		name string
		set  func(t *testing.T, h *house, p *vault.Parameters)
		says string // "" = it works
		is   error
	}{
		{name: "kubernetes"},
		{name: "kubernetes, another audience", set: func(t *testing.T, h *house, _ *vault.Parameters) {
			h.assert(t, testcloud.Claims{Audience: "https://kubernetes.default.svc"})
		}, says: "invalid audience", is: boltseal.ErrUnavailable}, // Vault answers 500
		{name: "kubernetes, expired", set: func(t *testing.T, h *house, _ *vault.Parameters) {
			h.assert(t, testcloud.Claims{Expires: time.Now().Add(-time.Minute).Unix()})
		}, says: "sign in to Vault auth/kubernetes/login at vault.example:8200: HTTP 403", is: boltseal.ErrUnauthorized},
		{name: "kubernetes, another account", set: func(t *testing.T, h *house, _ *vault.Parameters) {
			h.assert(t, testcloud.Claims{Subject: "system:serviceaccount:default:default"})
		}, says: "service account name not authorized", is: boltseal.ErrUnauthorized},
		{name: "kubernetes, another role", set: func(_ *testing.T, _ *house, p *vault.Parameters) { p.Auth.Role = "admin" }, says: "invalid role name", is: boltseal.ErrUnauthorized},
		{name: "token", set: func(t *testing.T, h *house, p *vault.Parameters) {
			own(h, p)
			h.write(t, h.vault.Token(time.Hour, "secret/"))
		}},
		{name: "token that has expired", set: func(t *testing.T, h *house, p *vault.Parameters) {
			own(h, p)
			h.write(t, h.vault.Token(-time.Hour, "secret/"))
		}, says: "permission denied", is: boltseal.ErrUnauthorized},
		{name: "token without rights", set: func(t *testing.T, h *house, p *vault.Parameters) {
			own(h, p)
			h.write(t, h.vault.Token(time.Hour, "other/"))
		}, says: "let the policy of Boltseal's role read this path", is: boltseal.ErrUnauthorized},
		{name: "token of two lines", set: func(t *testing.T, h *house, p *vault.Parameters) {
			own(h, p)
			h.write(t, h.vault.Token(time.Hour, "secret/")+"\nX-Evil: 1")
		}, says: "contains no token", is: boltseal.ErrConfiguration},
		{name: "sealed", set: func(_ *testing.T, h *house, _ *vault.Parameters) { h.vault.Seal(true) }, says: "HTTP 503: no answer (Vault is sealed)", is: boltseal.ErrUnavailable},
		{name: "a redirect", set: func(_ *testing.T, h *house, _ *vault.Parameters) { h.vault.Redirect = "https://evil.example" }, says: "the token stays here", is: boltseal.ErrRefused},
		{name: "another authority", set: func(t *testing.T, _ *house, p *vault.Parameters) {
			p.CACert = string(testca.Test(t, testca.Options{}).Root().PEM())
		}, says: "certificate signed by unknown authority", is: boltseal.ErrUnavailable},
		{name: "namespace", set: func(_ *testing.T, h *house, p *vault.Parameters) {
			h.vault.Namespace, p.VaultNamespace = "admin/team", "admin/team"
		}},
		{name: "another namespace", set: func(_ *testing.T, h *house, _ *vault.Parameters) { h.vault.Namespace = "admin/team" }, says: "HTTP 404", is: boltseal.ErrNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.vault.Token(time.Hour) // so that there is a secret in every case
			evil := 0
			h.Serve("evil.example", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { evil++ }))
			h.vault.KV2("signing/ca", testcloud.KVVersion{Data: pem(chain)})
			p := h.params()
			if c.set != nil {
				c.set(t, h, &p)
			}
			p.KV = []vault.KV{{Path: "signing/ca"}}
			g := h.fetch(t, h.open(t, p))
			switch {
			case evil != 0:
				t.Error("somebody else was asked")
			case c.says == "" && !has(g, chain):
				t.Errorf("%+v", g)
			case c.says != "" && (has(g, chain) || g[0].Err == nil || !strings.Contains(g[0].Err.Error(), c.says) || !errors.Is(g[0].Err, c.is)):
				t.Errorf("%+v, want %s", g, c.says)
			}
		})
	}
}

// TestTokens: one token serves until shortly before its end, and one that is
// refused is renewed once.
func TestTokens(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.vault.KV2("signing/ca", testcloud.KVVersion{Data: pem(testca.Test(t, testca.Options{}))})
	now := time.Now()
	p := h.params()
	p.KV = []vault.KV{{Path: "signing/ca"}}
	v, err := p.Open(keys.Env{Transport: h.Transport(), Clock: func() time.Time { return now }}, "")
	if err != nil {
		t.Fatal(err)
	}
	logins := func() (n int) {
		for _, r := range h.Requests(host) {
			if r.Method == http.MethodPost {
				n++
			}
		}
		return n
	}
	for i, want := range []int{1, 1, 2, 3} {
		switch i {
		case 2:
			now = now.Add(50 * time.Minute)
		case 3:
			h.vault.Revoke()
		}
		if g := h.fetch(t, v); g[0].Err != nil || logins() != want {
			t.Errorf("%d: %v, %d logins", i, g[0].Err, logins())
		}
	}
}

func TestThrottled(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.vault.Token(time.Hour)
	h.Refuse(host, -1, http.StatusTooManyRequests, "120")
	p := h.params()
	p.KV = []vault.KV{{Path: "a"}, {Path: "b"}}
	w := keys.Want{ID: "v", Resource: "KeyManagementProvider v", Parameters: p, Interval: time.Second}
	r := keys.NewRefresher(keys.Options{Env: keys.Env{Transport: h.Transport()}})
	defer r.Close()
	r.Use([]keys.Want{w})
	r.Wait(context.Background())
	if wait := time.Until(r.State(w).Next); len(h.Requests(host)) != 1 || wait < 110*time.Second {
		t.Errorf("%d requests, the next in %v", len(h.Requests(host)), wait)
	}
}
