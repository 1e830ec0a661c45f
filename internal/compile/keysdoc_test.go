package compile_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/compile"
)

// TestSnippetsOfKeysPage: what docs/keys.md tells to write is taken, and each type
// has a snippet.
func TestSnippetsOfKeysPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/keys.md")
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]bool{}
	for _, m := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```").FindAllStringSubmatch(string(page), -1) {
		text := m[1]
		switch {
		case strings.HasPrefix(text, "spec:"):
			text = doc("KeyManagementProvider", "roots", text)
		case !strings.Contains(text, "kind: KeyManagementProvider"):
			continue // an object of Kubernetes
		}
		set, err := compile.Decode([]compile.Source{{Name: "keys.md", Data: []byte(text)}})
		if err != nil {
			t.Errorf("%v\n%s", err, numbered(text))
			continue
		}
		name := strings.TrimSpace(regexp.MustCompile(`(?m)^  type: (.*)$`).FindStringSubmatch(text)[1])
		types[name] = true
		if n := len(set.Wants()); n != 1 && name != "inline" {
			t.Errorf("%d providers\n%s", n, numbered(text))
		}
		metadata := regexp.MustCompile(`name: (\S+?)[},\n]`).FindStringSubmatch(text)[1]
		works(t, text+verifier("v", metadata)+store("s", ""))
	}
	for _, m := range regexp.MustCompile("(?m)^\\| \\[?`[a-z]+`.*\\|$").FindAllString(string(page[:strings.Index(string(page), "## ")]), -1) {
		cells := strings.Split(m, "|")
		for _, name := range regexp.MustCompile("`([a-z]+)`").FindAllStringSubmatch(cells[1], -1) {
			if !types[name[1]] {
				t.Errorf("the page has no snippet of type %s", name[1])
			}
		}
	}
	if len(types) < 8 {
		t.Errorf("only %d types have a snippet", len(types))
	}
}
