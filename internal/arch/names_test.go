package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// bareWords is the file with the functions that have a name of one bare word since before the rule: one a line, the folder
// and the name.
const bareWords = "testdata/barewords"

// TestFunctionsHaveTwoWords keeps names of one bare word out of new code: a function of a package is called without the
// package's name inside of it, so that `parse` or `check` tells a reader nothing. Methods are read with their type, and are
// left out; so are main, tests and their helpers. Give a listed one a second word and delete its line; add none.
func TestFunctionsHaveTwoWords(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(bareWords)
	if err != nil {
		t.Fatal(err)
	}
	listed := strings.Fields(strings.ReplaceAll(string(b), " ", "/"))
	if !slices.IsSorted(listed) {
		t.Errorf("%s is not sorted", bareWords)
	}
	var found []string
	goFiles(t, func(path string) {
		rel, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range bareFunctions(f) {
			entry := filepath.ToSlash(filepath.Dir(rel)) + "/" + name
			if found = append(found, entry); !slices.Contains(listed, entry) {
				t.Errorf("%s: the name of function %s is one bare word: name what it does it to", rel, name)
			}
		}
	})
	for _, entry := range listed {
		if !slices.Contains(found, entry) {
			t.Errorf("%s is not there any more: delete its line in %s", entry, bareWords)
		}
	}
}

// bareFunctions returns the names of a file's unexported functions that are one word.
func bareFunctions(f *ast.File) (names []string) {
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if ok && fn.Recv == nil && !fn.Name.IsExported() && fn.Name.Name != "main" && fn.Name.Name != "_" && !strings.ContainsFunc(fn.Name.Name, unicode.IsUpper) {
			names = append(names, fn.Name.Name)
		}
	}
	return names
}
