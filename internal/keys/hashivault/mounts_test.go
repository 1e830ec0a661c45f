package hashivault_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/boltseal/boltseal/internal/keys/hashivault"
	"github.com/boltseal/boltseal/internal/testca"
	"github.com/boltseal/boltseal/internal/testcloud"
)

// TestWhatIsAskedForAndWhere: each part of where something is in a vault, and of whom
// the vault must be, changes what is asked.
func TestWhatIsAskedForAndWhere(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		set  func(*hashivault.Parameters)
		path string
	}{
		"auth.mount":    {func(p *hashivault.Parameters) { p.Auth.Mount = "cluster-a" }, "/v1/auth/cluster-a/login"},
		"pki.mount":     {func(p *hashivault.Parameters) { p.PKI = []hashivault.PKI{{Mount: "pki-int"}} }, "/v1/pki-int/issuer/default/json"},
		"pki.issuer":    {func(p *hashivault.Parameters) { p.PKI = []hashivault.PKI{{Issuer: "next"}} }, "/v1/pki/issuer/next/json"},
		"transit.mount": {func(p *hashivault.Parameters) { p.Transit = []hashivault.Transit{{Mount: "signing", Name: "k"}} }, "/v1/signing/keys/k"},
		"kv.mount":      {func(p *hashivault.Parameters) { p.KV = []hashivault.KV{{Mount: "certs", Path: "ca"}} }, "/v1/certs/data/ca"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := func(set func(*hashivault.Parameters)) bool {
				h := newHouse(t)
				h.vault.Token(0) // so that there is a secret
				p := h.params()
				p.KV = []hashivault.KV{{Path: "other"}}
				set(&p)
				h.fetch(t, h.open(t, p))
				return slices.ContainsFunc(h.Requests(host), func(r testcloud.Request) bool { return r.Path == tt.path })
			}
			if !asked(tt.set) || asked(func(*hashivault.Parameters) {}) {
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
		p.KV = []hashivault.KV{{Path: "nobody"}}
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
