package vault_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/boltseal/boltseal/internal/cloud/vault"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testcloud"
)

// TestWhatIsAskedForAndWhere: each part of where something is in a vault, and of whom
// the vault must be, changes what is asked.
func TestWhatIsAskedForAndWhere(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		set  func(*vault.Parameters)
		path string
	}{
		"auth.mount":    {func(p *vault.Parameters) { p.Auth.Mount = "cluster-a" }, "/v1/auth/cluster-a/login"},
		"pki.mount":     {func(p *vault.Parameters) { p.PKI = []vault.PKI{{Mount: "pki-int"}} }, "/v1/pki-int/issuer/default/json"},
		"pki.issuer":    {func(p *vault.Parameters) { p.PKI = []vault.PKI{{Issuer: "next"}} }, "/v1/pki/issuer/next/json"},
		"transit.mount": {func(p *vault.Parameters) { p.Transit = []vault.Transit{{Mount: "signing", Name: "k"}} }, "/v1/signing/keys/k"},
		"kv.mount":      {func(p *vault.Parameters) { p.KV = []vault.KV{{Mount: "certs", Path: "ca"}} }, "/v1/certs/data/ca"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := func(set func(*vault.Parameters)) bool {
				h := newHouse(t)
				h.vault.Token(0) // so that there is a secret
				p := h.params()
				p.KV = []vault.KV{{Path: "other"}}
				set(&p)
				h.fetch(t, h.open(t, p))
				return slices.ContainsFunc(h.Requests(host), func(r testcloud.Request) bool { return r.Path == tt.path })
			}
			if !asked(tt.set) || asked(func(*vault.Parameters) {}) {
				t.Errorf("%s is asked for without it, or not with it", tt.path)
			}
		})
	}
	t.Run("caFile", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t)
		h.vault.Token(0)
		p := h.params()
		p.CACert, p.CAFile = "", filepath.Join(t.TempDir(), "ca.pem")
		p.KV = []vault.KV{{Path: "nobody"}}
		if err := os.WriteFile(p.CAFile, h.CAPEM(), 0o600); err != nil {
			t.Fatal(err)
		}
		if g := h.fetch(t, h.open(t, p)); uses(g[0]) != "Missing" {
			t.Errorf("%+v", g)
		}
		if err := os.WriteFile(p.CAFile, testca.Test(t, testca.Options{}).Root().PEM(), 0o600); err != nil {
			t.Fatal(err)
		}
		if g := h.fetch(t, h.open(t, p)); g[0].Err == nil {
			t.Error("a vault of an unknown authority is asked")
		}
	})
}
