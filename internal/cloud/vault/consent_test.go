package vault_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/vault"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/keys/kube"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testcloud"
)

// TestSecretsGoWhereTheySay: who may write a provider in a namespace, and may not read
// Secrets, has no Secret sent to an address, or by authorities, of their choice.
func TestSecretsGoWhereTheySay(t *testing.T) {
	t.Parallel()
	const address, evil = "https://" + host + ":8200", "https://evil.example"
	for _, c := range []struct {
		name      string
		namespace string
		secret    map[string]string // beside the token
		set       func(p *vault.Parameters, ca string)
		says      string // "" = it is shown
	}{
		{"a Secret that says nothing", "team", nil, nil, "does not say that it is for https://vault.example:8200"},
		{"a Secret that names the address", "team", map[string]string{vault.EntryAddress: address}, nil, ""},
		{"one of several addresses, written otherwise", "team", map[string]string{vault.EntryAddress: "https://other.example HTTPS://Vault.Example:8200/\n"}, nil, ""},
		{"a Secret for another address", "team", map[string]string{vault.EntryAddress: evil}, nil, "does not say that it is for"},
		{"an address that begins alike", "team", map[string]string{vault.EntryAddress: address + "0 " + address + ".evil.example"}, nil, "does not say that it is for"},
		{"the same host at another port", "team", map[string]string{vault.EntryAddress: "https://" + host}, nil, "does not say that it is for"},
		{"another address than the Secret's", "team", map[string]string{vault.EntryAddress: address}, func(p *vault.Parameters, _ string) { p.Address = evil }, "does not say that it is for https://evil.example"},
		{"authorities of the provider's choice", "team", map[string]string{vault.EntryAddress: address}, func(p *vault.Parameters, ca string) { p.CACert = ca }, "is not shown where a namespace sets caCert"},
		{"the Secret's authorities", "team", map[string]string{vault.EntryAddress: address, vault.EntryCA: "the same"}, func(p *vault.Parameters, ca string) { p.CACert = ca }, ""},
		{"other authorities than the Secret's", "team", map[string]string{vault.EntryAddress: address, vault.EntryCA: string(testca.Test(t, testca.Options{}).Root().PEM())}, func(p *vault.Parameters, ca string) { p.CACert = ca }, "is not shown where a namespace sets caCert"},
		{"the cluster's administrators say where", "", nil, func(p *vault.Parameters, ca string) { p.CACert = ca }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			chain := testca.Test(t, testca.Options{})
			h.vault.KV2("signing/ca", testcloud.KVVersion{Data: pem(chain)})
			var asked atomic.Int64
			h.Serve("evil.example", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
			ca := string(h.CAPEM())
			data := map[string][]byte{"token": []byte(h.vault.Token(time.Hour, "secret/"))}
			for k, v := range c.secret {
				if v == "the same" {
					v = ca
				}
				data[k] = []byte(v)
			}
			objects := kube.Objects{Client: fake.NewClientBuilder().WithObjects(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "vault"}, Data: data}).Build()}
			p := vault.Parameters{Address: address, Auth: vault.Auth{Method: vault.MethodToken, TokenRef: &keys.SecretRef{Name: "vault", Key: "token"}}, KV: []vault.KV{{Path: "signing/ca"}}}
			if c.namespace == "" {
				p.Auth.TokenRef.Namespace = "team"
			}
			if c.set != nil {
				c.set(&p, ca)
			}
			if ps := p.Check(c.namespace); len(ps) > 0 {
				t.Fatalf("%+v", ps)
			}
			v, err := p.Open(keys.Env{Transport: h.Transport(), Objects: objects}, c.namespace)
			if err != nil {
				t.Fatal(err)
			}
			g := h.fetch(t, v)
			switch requests := len(h.Requests("")); {
			case c.says == "" && !has(g, chain):
				t.Errorf("%+v %v", g, g[0].Err)
			case c.says != "" && (g[0].Err == nil || !errors.Is(g[0].Err, boltseal.ErrRefused) || !strings.Contains(g[0].Err.Error(), c.says) || !strings.Contains(g[0].Err.Error(), "puts the entry vault-address")):
				t.Errorf("%+v, want %s", g[0].Err, c.says)
			case c.says != "" && (requests != 0 || asked.Load() != 0):
				t.Errorf("%d requests, before it was clear that the token may be shown", requests)
			}
		})
	}
}

// TestAuthoritiesInAFileAreReadAgain: those that are in caFile now are trusted, without
// an edit of the provider, and those that were taken out are not.
func TestAuthoritiesInAFileAreReadAgain(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	chain := testca.Test(t, testca.Options{})
	h.vault.KV2("signing/ca", testcloud.KVVersion{Data: pem(chain)})
	h.assert(t, testcloud.Claims{})
	file := filepath.Join(t.TempDir(), "ca.crt")
	p := h.params()
	p.CACert, p.CAFile, p.KV = "", file, []vault.KV{{Path: "signing/ca"}}
	v := h.open(t, p)
	other := testca.Test(t, testca.Options{}).Root().PEM()
	for i, content := range [][]byte{nil, other, h.CAPEM(), append(slices.Clone(other), h.CAPEM()...), other, h.CAPEM()} {
		if content != nil {
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want := i == 2 || i == 3 || i == 5
		if g := h.fetch(t, v); has(g, chain) != want || (g[0].Err == nil) != want {
			t.Errorf("%d: %+v %v", i, g, g[0].Err)
		}
	}
}
