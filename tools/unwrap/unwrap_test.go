package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestUnwrap(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "crd.yaml")
	in := "---\nspec:\n  description: |-\n    One sentence that\n    goes on.\n\n    A paragraph:\n    - an item\n    - another\n  other: |-\n    a\n    b\n"
	want := "---\nspec:\n  description: |-\n    One sentence that goes on.\n\n    A paragraph:\n    - an item\n    - another\n  other: |-\n    a\n    b\n"
	if err := os.WriteFile(file, []byte(in), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // what is joined stays as it is
		if err := run([]string{dir}); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Fatalf("got\n%s", got)
		}
	}
	if err := run(nil); err == nil {
		t.Error("no folder, no error")
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{dir}); err == nil {
		t.Error("no YAML, no error")
	}
}
