package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// buildTags are the tags that a release is built with.
var buildTags = regexp.MustCompile(`(?m)^TAGS\s*=\s*(\S+)$`)

// TestNoMethodIsKeptByReflection: where anything that the program may call finds methods by names that are made while it runs
// (reflect's Method and MethodByName), the linker keeps every exported method of every type that becomes an interface: a
// quarter of the binary. Templates do so. The linker itself says what it reached.
func TestNoMethodIsKeptByReflection(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile(filepath.Join("..", "..", "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	tags := buildTags.FindSubmatch(makefile)
	if tags == nil {
		t.Fatal("the Makefile has no TAGS")
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", string(tags[1]), "-ldflags", "-s -w -dumpdep", "-o", filepath.Join(t.TempDir(), "boltseal"), ".")
	out, err := build.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := build.Start(); err != nil {
		t.Fatal(err)
	}
	// A line is "CALLER -> CALLED", in the order in which the linker reaches them, so that the first caller of each is why it is
	// in the program.
	first, found, last := map[string]string{}, "", ""
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		caller, called, ok := strings.Cut(lines.Text(), " -> ")
		if last = lines.Text(); !ok {
			continue
		}
		name, _, reflects := strings.Cut(called, " <")
		if _, seen := first[name]; !seen {
			first[name], _, _ = strings.Cut(caller, " <")
		}
		if reflects && found == "" && strings.Contains(called, "<ReflectMethod>") {
			found = name
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if err := build.Wait(); err != nil {
		t.Fatalf("go build: %v\n%s", err, last)
	}
	if len(first) < 10_000 {
		t.Fatalf("the linker told of %d symbols: it is not read", len(first))
	}
	if found == "" {
		return
	}
	why := []string{found}
	for name := found; first[name] != "" && first[name] != "_" && len(why) < 100; name = first[name] {
		why = append(why, first[name])
	}
	t.Errorf("methods are found by reflection, so that none can be left out of the binary. %s", strings.Join(why, "\n  is reached from "))
}
