package vault_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/cloud/vault"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/testca"
)

// TestRealVault asks a real Vault or OpenBao in dev mode, where the environment
// names one: it writes a secret and a transit key, and reads them.
func TestRealVault(t *testing.T) {
	t.Parallel()
	address, token := os.Getenv("BOLTSEAL_TEST_VAULT_ADDR"), os.Getenv("BOLTSEAL_TEST_VAULT_TOKEN")
	if address == "" || token == "" {
		t.Skip("BOLTSEAL_TEST_VAULT_ADDR and BOLTSEAL_TEST_VAULT_TOKEN name no Vault")
	}
	write := func(path string, body any) {
		t.Helper()
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"/v1/"+path, bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Vault-Token", token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode >= 300 && !strings.HasPrefix(path, "sys/mounts/") { // it may be mounted already
			t.Fatalf("%s: HTTP %d", path, resp.StatusCode)
		}
	}
	chain, name := testca.Test(t, testca.Options{}), "boltseal-test-"+strings.ToLower(rand.Text())
	write("secret/data/"+name, map[string]any{"data": pem(chain)})
	write("sys/mounts/transit", map[string]any{"type": "transit"})
	write("transit/keys/"+name, map[string]any{"type": "ecdsa-p256"})
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	p := vault.Parameters{Address: address, Auth: vault.Auth{Method: vault.MethodToken, TokenFile: file},
		KV:      []vault.KV{{Path: name}, {Path: name, VersionHistoryLimit: 2}, {Path: name + "-not-there"}},
		Transit: []vault.Transit{{Name: name}, {Name: name + "-not-there"}}}
	if ps := p.Check(""); len(ps) > 0 {
		t.Fatalf("%+v", ps)
	}
	v, err := p.Open(keys.Env{}, "")
	if err != nil {
		t.Fatal(err)
	}
	g, err := v.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"InUse", "InUse", "Missing", "Unusable", "Missing"} {
		if uses(g[i]) != want || g[i].Err != nil {
			t.Errorf("%d: %+v, want %s", i, g[i], want)
		}
	}
	if !has(g[:1], chain) || !has(g[1:2], chain) || g[3].Items[0].Key == nil {
		t.Errorf("%+v", g)
	}
}
