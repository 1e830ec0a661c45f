package keyvault_test

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/azure/keyvault"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testcloud"
)

func TestSelfSignedNeedsNoSecret(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	self := testca.Must(testca.NewSelfSigned(testca.Options{}))
	id := h.vault.Add("signing", testcloud.Version{Chain: self.X509()})
	g := h.fetch(t, h.open(t, keyvault.Parameters{Certificates: named("signing")}))
	if uses(g[0]) != "InUse" || g[0].Items[0].Version != id || !has(g, self.Leaf()) {
		t.Fatalf("%+v", g)
	}
	for _, r := range h.Requests(vaultHost) {
		if strings.Contains(r.Path, "/secrets/") {
			t.Errorf("%+v: the certificate is its own root, and its private key would be in the answer", r)
		}
	}
}

// TestChain: the root comes from the secret, in whatever form it holds the chain,
// and the signer's own certificate is not a root of trust.
func TestChain(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{Intermediates: []testca.Spec{{}}})
	key := testca.Must(testca.KeyPEM(chain.Leaf().Key))
	pfx := func(e *pkcs12.Encoder) string {
		return base64.StdEncoding.EncodeToString(testca.Must(e.Encode(chain.Leaf().Key, chain.Leaf().Certificate, chain.X509()[1:], "")))
	}
	store := base64.StdEncoding.EncodeToString(testca.Must(pkcs12.Modern.WithRand(rand.Reader).EncodeTrustStore(chain.X509(), "")))
	for _, c := range []struct {
		name, content, contentType string
		unmanaged                  bool
		problem                    string
	}{
		{"PEM without a key", string(chain.PEM()), "application/x-pem-file", false, ""},
		{"PEM with the key", string(key) + string(chain.PEM()), "application/x-pem-file", false, ""},
		{"PKCS#12", pfx(pkcs12.Modern), "application/x-pkcs12", false, ""},
		{"PKCS#12 of old", pfx(pkcs12.LegacyDES), "application/x-pkcs12", false, ""},
		{"PKCS#12 without a key", store, "application/x-pkcs12", false, ""},
		{"PKCS#12 of somebody's own", pfx(pkcs12.Modern), "application/x-pkcs12", true, "import it as a certificate"},
		{"PKCS#12 that is none", "AAAA", "application/x-pkcs12", false, "cannot be read"},
		{"no base64", "!", "application/x-pkcs12", false, "is not base64"},
		{"no certificates", string(key), "application/x-pem-file", false, "contains 0 certificates"},
		{"the leaf alone", string(chain.Leaf().PEM()), "application/x-pem-file", false, "merge the whole chain"},
		{"another certificate's", string(testca.Test(t, testca.Options{}).PEM()), "application/x-pem-file", false, "is not this certificate's"},
		{"something else", "password", "text/plain", false, "neither application/x-pem-file nor"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.vault.Add("signing", testcloud.Version{Chain: chain.X509(), Content: c.content, ContentType: c.contentType, Unmanaged: c.unmanaged})
			v := h.open(t, keyvault.Parameters{Certificates: named("signing")})
			g := h.fetch(t, v)
			if c.problem != "" {
				if !strings.Contains(g[0].Problem, c.problem) || has(g, chain.Root()) || g[0].Err != nil {
					t.Fatalf("%+v, want %q", g, c.problem)
				}
				return
			}
			if g[0].Problem != "" || !has(g, chain.Root()) || !has(g, chain.Certs[1]) || has(g, chain.Leaf()) || len(g[0].Items[0].Certificates) != 3 {
				t.Fatalf("%+v", g)
			}
			// What a version holds never changes: its secret is read once.
			h.fetch(t, v)
			secrets := 0
			for _, r := range h.Requests(vaultHost) {
				if strings.HasPrefix(r.Path, "/secrets/") {
					secrets++
				}
			}
			if secrets != 2 { // the challenge, and the answer
				t.Errorf("the secret was asked for %d times", secrets)
			}
		})
	}
}

// TestSecretsAlone: Ratify's users gave the right to read secrets, and no other.
func TestSecretsAlone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	chain := testca.Test(t, testca.Options{})
	h.vault.Grant(client, testcloud.SecretsGet)
	first := h.vault.Add("signing", testcloud.Version{Chain: chain.X509()})
	v := h.open(t, keyvault.Parameters{Certificates: named("signing")})
	if g := h.fetch(t, v); uses(g[0]) != "InUse" || !has(g, chain.Root()) {
		t.Fatalf("%+v", g)
	}
	before := len(h.Requests(vaultHost))
	h.fetch(t, v)
	if n := len(h.Requests(vaultHost)) - before; n != 1 {
		t.Errorf("%d requests: what is forbidden was asked again", n)
	}
	h.vault.Change("signing", first, func(ver *testcloud.Version) { ver.Disabled = true })
	if g := h.fetch(t, v); uses(g[0]) != "Disabled" || !strings.Contains(g[0].Problem, "disabled in the vault") {
		t.Errorf("%+v", g)
	}
	h.vault.Grant(client)
	if g := h.fetch(t, v); status(g[0]) != forbidden || !errors.Is(g[0].Err, boltseal.ErrUnauthorized) || !strings.Contains(g[0].Err.Error(), "Key Vault Certificate User") {
		t.Errorf("%+v", g)
	}
	// The chain of a certificate that is not its own root is in the secret.
	h.vault.Change("signing", first, func(ver *testcloud.Version) { ver.Disabled = false })
	h.vault.Grant(client, testcloud.CertificatesGet)
	if g := h.fetch(t, h.open(t, keyvault.Parameters{Certificates: named("signing")})); status(g[0]) != forbidden || !strings.Contains(g[0].Err.Error(), "Key Vault Secrets User") {
		t.Errorf("%+v", g)
	}
}

// TestVersions: the newest N that are enabled, by the time they were made, over
// several pages.
func TestVersions(t *testing.T) {
	t.Parallel()
	for _, rights := range [][]string{{testcloud.CertificatesGet, testcloud.CertificatesList, testcloud.SecretsGet}, {testcloud.SecretsGet, testcloud.SecretsList}} {
		h := newHouse(t)
		h.vault.Grant(client, rights...)
		var chains []*testca.Chain
		var ids []string
		for range 6 {
			chains = append(chains, testca.Must(testca.NewSelfSigned(testca.Options{})))
			ids = append(ids, h.vault.Add("signing", testcloud.Version{Chain: chains[len(chains)-1].X509()}))
		}
		h.vault.Change("signing", ids[4], func(v *testcloud.Version) { v.Disabled = true })
		v := h.open(t, keyvault.Parameters{Certificates: []keyvault.Entry{{Name: "signing", VersionHistoryLimit: 3}}})
		g := h.fetch(t, v)
		if uses(g[0]) != "InUse Disabled InUse InUse" || g[0].Problem != "" {
			t.Fatalf("%v: %+v", rights, g)
		}
		for i, want := range []bool{false, false, true, true, false, true} {
			if has(g, chains[i].Leaf()) != want {
				t.Errorf("%v: version %d: in use is %t", rights, i, !want)
			}
		}
		if !strings.Contains(keys.Texts(keys.NewContent(g).Notes()), ids[4]+": it is disabled in the vault") {
			t.Errorf("the version that is disabled is not named: %v", keys.NewContent(g).Notes())
		}
		// One version, and nothing else, where it is pinned.
		pinned := h.fetch(t, h.open(t, keyvault.Parameters{Certificates: []keyvault.Entry{{Name: "signing", Version: ids[1]}, {Name: "signing", Version: ids[4]}}}))
		if !has(pinned, chains[1].Leaf()) || len(keys.NewContent(pinned).Certificates()) != 1 || pinned[0].Problem != "" || !strings.Contains(pinned[1].Problem, "disabled") {
			t.Errorf("%v: %+v", rights, pinned)
		}
		// The newest is disabled: the one before it takes its place.
		h.vault.Change("signing", ids[5], func(v *testcloud.Version) { v.Disabled = true })
		latest := h.fetch(t, h.open(t, keyvault.Parameters{Certificates: named("signing")}))
		if !has(latest, chains[3].Leaf()) || uses(latest[0]) != "Disabled Disabled InUse" {
			t.Errorf("%v: %+v", rights, latest)
		}
	}
}

func TestExpiredAndMissing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	self := testca.Must(testca.NewSelfSigned(testca.Options{}))
	h.vault.Add("old", testcloud.Version{Chain: self.X509(), Expires: time.Now().Add(-time.Hour)})
	g := h.fetch(t, h.open(t, keyvault.Parameters{Certificates: append(named("old"), keyvault.Entry{Name: "nobody"})}))
	if uses(g[0]) != "InUse" || !strings.Contains(g[0].Items[0].Why, "expired") || g[0].Problem != "" {
		t.Errorf("%+v", g[0])
	}
	if uses(g[1]) != "Missing" || g[1].Err != nil || !strings.Contains(g[1].Problem, "certificate nobody at acme.vault.azure.net: it is not in the vault") {
		t.Errorf("%+v", g[1])
	}
}

// TestKeysAreNotPretended: keys are read, and said to be of no use.
func TestKeysAreNotPretended(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, a := range testca.SigningAlgorithms() {
		key := testca.Must(testca.GenerateKey(a, nil))
		h.vault.Add("key", testcloud.Version{Key: key.Public()})
	}
	g := h.fetch(t, h.open(t, keyvault.Parameters{Keys: []keyvault.Entry{{Name: "key", VersionHistoryLimit: 20}}}))
	if len(g[0].Items) != len(testca.SigningAlgorithms()) || !strings.Contains(g[0].Problem, "no verifier here trusts a bare key") {
		t.Fatalf("%+v", g)
	}
	for _, it := range g[0].Items {
		if it.Key == nil || it.Use != keys.Unusable {
			t.Errorf("%+v", it)
		}
	}
	if n := len(keys.NewContent(g).Certificates()); n != 0 {
		t.Errorf("%d certificates", n)
	}
}
