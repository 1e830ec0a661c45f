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
	{"judge, judged, unjudged", regexp.MustCompile(`(?i)\b((un)?judg(es|ed|ing|ements?)|judge)([^\[.\w]|\.\W|\.?$)`)}, // not a name of code, such as judged[x]
	{"demands", regexp.MustCompile(`(?i)\bdemands\b`)},
	{"tells", regexp.MustCompile(`(?i)\btells\b`)},
	{"of account", regexp.MustCompile(`(?i)\bof (no )?account\b`)},
	{"has its say", regexp.MustCompile(`(?i)\b(its|no|a) say\b`)},
	{"does not hold, the signature holds", regexp.MustCompile(`(?i)\b(do|does|did) not hold\b|\bsignatures? holds?\b`)},
}

// wordsAllowed are files, and folders that end with a slash, that may use such words, each with the reason.
var wordsAllowed = map[string]string{
	"docs/words.md":         "it lists them",
	"docs/adr/":             "a decision stays as it was written",
	"charts/boltseal/crds/": "the field demands, whose name stays for those who have it",
}

// allowedIn is the entry of wordsAllowed for a file, "" for none.
func allowedIn(path string) string {
	for at := range wordsAllowed {
		if path == at || strings.HasSuffix(at, "/") && strings.HasPrefix(path, at) {
			return at
		}
	}
	return ""
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
			found, allowed := w.find.FindString(text), allowedIn(path)
			if found == "" {
				continue
			}
			if allowed == "" {
				t.Errorf("%s:%d: says %q, which docs/words.md replaces: %.120q", path, line, found, text)
			}
			used[allowed] = true
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
			if f, ok := n.(*ast.Field); ok && f.Tag != nil {
				f.Tag = nil // names of fields are for programs
			}
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
