package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// notUsed are the words that docs/words.md replaces, by the first column of its last table.
var notUsed = []struct {
	row  string // as the page has it
	find *regexp.Regexp
}{
	{"undecided", regexp.MustCompile(`(?i)\bundecided\b`)},
	{"mend, mended", regexp.MustCompile(`(?i)\bmend(s|ed|ing)?\b`)},
	{"in force", regexp.MustCompile(`(?i)\b(in|into) force\b`)},
	{"look at, looked at", regexp.MustCompile(`(?i)\blook(s|ed|ing)? at\b`)},
	{"told, is told", regexp.MustCompile(`(?i)\btold\b`)},
	{"demanded", regexp.MustCompile(`(?i)\bdemanded\b`)},
	{"lent, lends", regexp.MustCompile(`(?i)\b(lent|lends|lending)\b`)},
	{"stands in, stands here, stands for", regexp.MustCompile(`(?i)\b(stands?|stood) (here|there|in|at|on|alone|twice|for)\b`)},
	{"does not hold, the signature holds", regexp.MustCompile(`(?i)\b(do|does|did) not hold\b|\bsignatures? holds?\b`)},
}

// wordsAllowed are files that may use such words, each with the reason.
var wordsAllowed = map[string]string{
	"docs/words.md": "it lists them",
}

// TestWordsOfTheField: what people read uses the words of docs/words.md: messages, help
// and other texts in the code, pages, and what the chart says.
func TestWordsOfTheField(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(root, "docs", "words.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range notUsed {
		if !strings.Contains(string(page), "\n| "+w.row+" |") {
			t.Errorf("docs/words.md has no row %q", w.row)
		}
	}
	used := map[string]bool{}
	check := func(path string, line int, text string) {
		for _, w := range notUsed {
			if found := w.find.FindString(text); found == "" {
				continue
			} else if wordsAllowed[path] == "" {
				t.Errorf("%s:%d: says %q, which docs/words.md replaces: %.120q", path, line, found, text)
			}
			used[path] = true
		}
	}
	goFiles(t, func(path string) {
		rel := slashed(t, path)
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(rel, "e2e/") || strings.HasPrefix(rel, "bench/") || strings.HasPrefix(rel, "tools/") {
			return
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
				text, err := strconv.Unquote(l.Value)
				if err != nil {
					t.Fatal(err)
				}
				check(rel, set.Position(l.Pos()).Line, strings.ReplaceAll(text, "\n", " "))
			}
			return true
		})
	})
	for _, path := range readable(t) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(b), "\n") {
			check(slashed(t, path), i+1, line)
		}
	}
	for path := range wordsAllowed {
		if !used[path] {
			t.Errorf("%s has none of the words: delete its line in wordsAllowed", path)
		}
	}
}

// readable are the files besides the code that people read.
func readable(t *testing.T) (files []string) {
	t.Helper()
	extensions := []string{".md", ".yaml", ".yml", ".tpl", ".txt", ".json"}
	for _, pattern := range []string{"*.md", "docs", "charts", "examples"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range found {
			err := filepath.WalkDir(at, func(path string, d os.DirEntry, err error) error {
				if err == nil && !d.IsDir() && slices.Contains(extensions, filepath.Ext(path)) {
					files = append(files, path)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(files) < 40 {
		t.Fatalf("%d files found", len(files))
	}
	return files
}

func slashed(t *testing.T, path string) string {
	t.Helper()
	rel, err := filepath.Rel(root, path)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.ToSlash(rel)
}
