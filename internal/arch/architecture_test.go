package arch

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// roomLine is a line of ARCHITECTURE.md's tree: a folder, and what it is for.
var roomLine = regexp.MustCompile(`^(\S+)\s{2,}(\S.*)$`)

// TestArchitectureNamesEveryFolder holds ARCHITECTURE.md against the tree: each package of the module, each folder above
// one, and each folder at the top is named there once, and nothing else is.
func TestArchitectureNamesEveryFolder(t *testing.T) {
	want := map[string]bool{}
	for _, p := range load(t) {
		rel := p.rel()
		want[rel] = true
		// Folders that only lead to packages are named where they have a reader's question of their own.
		top, _, _ := strings.Cut(rel, "/")
		want[top] = true
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && !builtFolders[e.Name()] {
			want[e.Name()] = true
		}
	}
	got := map[string]int{}
	for _, line := range strings.Split(fenced(t, architecture(t), "## The tree"), "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		m := roomLine.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("ARCHITECTURE.md: %q is not a folder, two spaces and what it is for", line)
			continue
		}
		if got[m[1]]++; got[m[1]] == 2 {
			t.Errorf("ARCHITECTURE.md names %s twice", m[1])
		}
	}
	for _, rel := range slices.Sorted(maps.Keys(want)) {
		if got[rel] == 0 {
			t.Errorf("ARCHITECTURE.md does not name %s: add a line that says what it is for", rel)
		}
	}
	for rel := range got {
		if info, err := os.Stat(filepath.Join(root, rel)); err != nil || !info.IsDir() {
			t.Errorf("ARCHITECTURE.md names %s, which does not exist", rel)
		}
	}
}

// TestArchitectureWalksARequest demands ten steps, and that each file they name exists.
func TestArchitectureWalksARequest(t *testing.T) {
	text := architecture(t)
	_, steps, found := strings.Cut(text, "## One request, in ten steps")
	if !found {
		t.Fatal("ARCHITECTURE.md has no section \"One request, in ten steps\"")
	}
	if numbered := regexp.MustCompile("(?m)^[0-9]+\\. .*`[^`]+\\.go`\\.$").FindAllString(steps, -1); len(numbered) != 10 {
		t.Errorf("%d steps end with the name of a file, not 10", len(numbered))
	}
	for _, m := range regexp.MustCompile("`([a-z0-9_/]+/?[a-z0-9_]+\\.go)`").FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
			t.Errorf("ARCHITECTURE.md names %s, which does not exist", m[1])
		}
	}
}

// builtFolders are made by the build and not part of the tree.
var builtFolders = map[string]bool{"bin": true, "dist": true}

func architecture(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// fenced is the first fenced block after a heading.
func fenced(t *testing.T, text, heading string) string {
	t.Helper()
	_, after, found := strings.Cut(text, heading)
	if !found {
		t.Fatalf("no heading %q", heading)
	}
	_, after, _ = strings.Cut(after, "```\n")
	block, _, found := strings.Cut(after, "```")
	if !found {
		t.Fatalf("no fenced block below %q", heading)
	}
	return block
}
