package keyvault_test

import (
	"os"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/cloud/azure/keyvault"
	"github.com/boltseal/boltseal/internal/keys"
)

// TestRealVault asks a real vault, where the environment names one: a certificate
// that it has, and one that it has not. Who signs in is the environment's too.
func TestRealVault(t *testing.T) {
	t.Parallel()
	uri, name := os.Getenv("BOLTSEAL_TEST_AZURE_VAULT"), os.Getenv("BOLTSEAL_TEST_AZURE_CERTIFICATE")
	if uri == "" || name == "" {
		t.Skip("BOLTSEAL_TEST_AZURE_VAULT and BOLTSEAL_TEST_AZURE_CERTIFICATE name no vault and no certificate")
	}
	p := keyvault.Parameters{VaultURI: uri, Authentication: os.Getenv("BOLTSEAL_TEST_AZURE_AUTHENTICATION"), ClientSecretFile: os.Getenv("BOLTSEAL_TEST_AZURE_SECRET_FILE"),
		Certificates: []keyvault.Entry{{Name: name}, {Name: name, VersionHistoryLimit: 2}, {Name: "boltseal-test-not-there"}}}
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
	if g[0].Err != nil || len(keys.NewContent(g[:1]).Certificates()) == 0 || g[0].Items[0].Version == "" {
		t.Errorf("%+v", g[0])
	}
	if g[1].Err != nil && !strings.Contains(g[1].Err.Error(), "HTTP 403") {
		t.Errorf("%+v", g[1])
	}
	if uses(g[2]) != "Missing" {
		t.Errorf("%+v", g[2])
	}
}
