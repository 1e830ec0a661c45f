package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
)

// listFormat makes `go list` print a package in a line: its path below the module, its folder, its files, its imports.
const listFormat = `{{.Module.Path}}` + "\t" + `{{.ImportPath}}` + "\t" + `{{.Dir}}` + "\t" + `{{join .GoFiles ","}}` + "\t" + `{{join .Imports ","}}`

// goPackage is a package of the module; test files are left out.
type goPackage struct {
	rel     string // path below the module, "." for its root
	dir     string
	files   []string
	imports []string // of the module only, as rel
}

// sourceFile is a file that people write.
type sourceFile struct {
	rel   string // of its package
	name  string
	lines int
	tree  *ast.File
}

// parseList reads what `go list -f listFormat` printed.
func parseList(out string) ([]goPackage, error) {
	var pkgs []goPackage
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(f) != 5 {
			return nil, fmt.Errorf("go list: %d fields in %q, expected 5", len(f), line)
		}
		p := goPackage{rel: belowModule(f[0], f[1]), dir: f[2]}
		if f[3] != "" {
			p.files = strings.Split(f[3], ",")
		}
		for _, imp := range strings.Split(f[4], ",") {
			if imp == f[0] || strings.HasPrefix(imp, f[0]+"/") {
				p.imports = append(p.imports, belowModule(f[0], imp))
			}
		}
		pkgs = append(pkgs, p)
	}
	return pkgs, nil
}

func belowModule(module, path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

// parseFiles reads the files of the packages; those that a program wrote are left out.
func parseFiles(pkgs []goPackage) ([]sourceFile, error) {
	var files []sourceFile
	set := token.NewFileSet()
	for _, p := range pkgs {
		for _, name := range p.files {
			src, err := os.ReadFile(filepath.Join(p.dir, name))
			if err != nil {
				return nil, err
			}
			tree, err := parser.ParseFile(set, name, src, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			if ast.IsGenerated(tree) {
				continue
			}
			files = append(files, sourceFile{rel: p.rel, name: name, lines: bytes.Count(src, []byte("\n")), tree: tree})
		}
	}
	return files, nil
}
