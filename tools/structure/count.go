package main

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
	"unicode"
)

// manyLines is the length from which a file is listed.
const manyLines = 150

// roomOf returns the room that a package belongs to: a folder at the top or directly below internal, with all below it.
func roomOf(rel string) string {
	parts := strings.Split(rel, "/")
	if parts[0] == "internal" && len(parts) > 1 {
		return parts[0] + "/" + parts[1]
	}
	return parts[0]
}

// internalRooms lists the rooms below internal, sorted.
func internalRooms(pkgs []goPackage) []string {
	var rooms []string
	for _, p := range pkgs {
		if room, ok := strings.CutPrefix(roomOf(p.rel), "internal/"); ok && !slices.Contains(rooms, room) {
			rooms = append(rooms, room)
		}
	}
	slices.Sort(rooms)
	return rooms
}

// mutualImports lists the pairs of rooms of which each imports the other: packages cannot, folders of packages can.
func mutualImports(pkgs []goPackage) []string {
	arrows := map[[2]string]bool{}
	for _, p := range pkgs {
		for _, imp := range p.imports {
			if from, to := roomOf(p.rel), roomOf(imp); from != to {
				arrows[[2]string{from, to}] = true
			}
		}
	}
	var pairs []string
	for a := range arrows {
		if a[0] < a[1] && arrows[[2]string{a[1], a[0]}] {
			pairs = append(pairs, a[0]+" and "+a[1])
		}
	}
	slices.Sort(pairs)
	return pairs
}

// wired is the size of the packages that put the others together.
type wired struct{ lines, files int }

func wiringLines(files []sourceFile) wired {
	var w wired
	for _, f := range files {
		if path.Base(f.rel) == "service" {
			w.lines, w.files = w.lines+f.lines, w.files+1
		}
	}
	return w
}

// productFiles leaves out what only tests and benchmarks use: by name, rooms that begin with "test" and those listed here.
func productFiles(files []sourceFile) []sourceFile {
	return slices.DeleteFunc(slices.Clone(files), func(f sourceFile) bool {
		room := strings.TrimPrefix(roomOf(f.rel), "internal/")
		return strings.HasPrefix(room, "test") || slices.Contains([]string{"arch", "weight", "bench"}, room)
	})
}

func totalLines(files []sourceFile) int {
	n := 0
	for _, f := range files {
		n += f.lines
	}
	return n
}

func medianLines(files []sourceFile) int {
	if len(files) == 0 {
		return 0
	}
	var lines []int
	for _, f := range files {
		lines = append(lines, f.lines)
	}
	slices.Sort(lines)
	return lines[len(lines)/2]
}

func longest(files []sourceFile) int {
	most := 0
	for _, f := range files {
		most = max(most, f.lines)
	}
	return most
}

// longFiles lists the files over manyLines, the longest first.
func longFiles(files []sourceFile) []string {
	var long []sourceFile
	for _, f := range files {
		if f.lines > manyLines {
			long = append(long, f)
		}
	}
	slices.SortStableFunc(long, func(a, b sourceFile) int { return b.lines - a.lines })
	var out []string
	for _, f := range long {
		out = append(out, fmt.Sprintf("%4d %s", f.lines, path.Join(f.rel, f.name)))
	}
	return out
}

// bareWords lists the unexported functions of packages (no methods) whose name is one word, and counts all unexported ones.
func bareWords(files []sourceFile) (bare []string, all int) {
	for _, f := range files {
		for _, d := range f.tree.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || fn.Name.IsExported() || fn.Name.Name == "main" {
				continue
			}
			all++
			if !strings.ContainsFunc(fn.Name.Name, unicode.IsUpper) {
				bare = append(bare, path.Join(f.rel, f.name)+" "+fn.Name.Name)
			}
		}
	}
	return bare, all
}

func percent(part, whole int) int {
	if whole == 0 {
		return 0
	}
	return (200*part + whole) / (2 * whole)
}
