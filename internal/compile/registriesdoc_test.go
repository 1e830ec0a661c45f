package compile_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/test/testca"
)

// TestSnippetsOfRegistriesPage: what docs/registries.md tells to write is taken, and
// each auth provider has a section and a snippet.
func TestSnippetsOfRegistriesPage(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/registries.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	files := t.TempDir()
	client := chain(t)
	key, err := testca.KeyPEM(client.Leaf().Key)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"ca.crt": client.Root().PEM(), "tls.crt": client.Leaf().PEM(), "tls.key": key} {
		if err := os.WriteFile(filepath.Join(files, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rest := kmp("roots", chain(t).Root().PEM()) + verifier("v", "roots")
	shown := map[string]bool{}
	for _, m := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```").FindAllStringSubmatch(page, -1) {
		text := strings.ReplaceAll(m[1], "/etc/boltseal/registries/", files+"/")
		if !strings.Contains(text, "kind: Store") && !strings.Contains(text, "kind: NamespacedStore") {
			continue // an object of Kubernetes
		}
		whole := text
		if strings.Contains(text, "kind: NamespacedStore") {
			whole += store("s", "")
		}
		if _, warnings := works(t, strings.TrimSuffix(whole, "\n")+"\n"+rest); warnings != "" {
			t.Errorf("%s\n%s", warnings, numbered(text))
		}
		for _, n := range regexp.MustCompile(`(?m)^ +(?:- )?name: (\w+)$`).FindAllStringSubmatch(text, -1) {
			shown[n[1]] = true
		}
	}
	for _, name := range compile.Known().AuthProviders {
		if !shown[name] {
			t.Errorf("the page has no snippet of %s", name)
		}
		if !strings.Contains(page, "\n## "+name+"\n") || !strings.Contains(page, "(#"+strings.ToLower(name)+")") {
			t.Errorf("the page has no section on %s, or does not list it", name)
		}
	}
}
