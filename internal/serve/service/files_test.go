package service_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// TestFilesThatResourcesName: what a Store names is watched as the configuration is.
func TestFilesThatResourcesName(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{Registry: testregistry.Options{TLS: true}})
	file := filepath.Join(t.TempDir(), "ca.crt")
	put := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(file+".new", b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	put(testca.Test(t, testca.Options{}).Root().PEM())
	tag, _ := h.Signed("v", h.Signer)
	text := strings.Replace(config(h.Signer.Root().PEM(), policy("all", "enforcementAction: deny")), "spec: {name: oras}\n",
		fmt.Sprintf("spec: {name: oras, parameters: {registries: [{host: %q, caFile: %s}]}}\n", h.Registry.Host, file), 1)
	if !strings.Contains(text, file) {
		t.Fatal(text)
	}
	r := startWith(t, h, service.Options{}, text)
	admitted := func() bool { return r.validate("shop", tag).Allowed }
	if admitted() {
		t.Fatal("by an authority that is not in the file")
	}
	put(h.Registry.CAPEM())
	eventually(t, "the new authority", admitted)
	put(testca.Test(t, testca.Options{}).Root().PEM())
	eventually(t, "it is taken out", func() bool { return !admitted() })
}
