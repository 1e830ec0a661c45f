package arch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

// TestDependenciesAreArgued holds go.mod against docs/adr: each direct dependency
// is named there, with the reason why it is there.
func TestDependenciesAreArgued(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	mod, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs", "adr", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range strings.FieldsFunc(string(text), func(r rune) bool { return strings.ContainsRune(" ,|`()[]\n", r) }) {
			named[word] = true
		}
	}
	direct := 0
	for _, r := range mod.Require {
		if r.Indirect {
			continue
		}
		direct++
		if !named[r.Mod.Path] {
			t.Errorf("no page of docs/adr says why %s is a dependency", r.Mod.Path)
		}
	}
	if direct == 0 {
		t.Error("go.mod has no direct dependencies: run go mod tidy")
	}
}
