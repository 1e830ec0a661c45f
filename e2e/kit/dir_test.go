package kit

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestSweep shows that the next cluster removes what a killed one left, and nothing of a living one.
func TestSweep(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	living, err := newWorkDir(parent, "")
	if err != nil {
		t.Fatal(err)
	}
	dead, err := newWorkDir(parent, "")
	if err != nil {
		t.Fatal(err)
	}
	// The death of its owner is to a folder the end of the lock.
	if err := dead.lock.Close(); err != nil {
		t.Fatal(err)
	}
	strange := filepath.Join(parent, dirPrefix+"without-lock")
	if err := os.Mkdir(strange, 0o700); err != nil {
		t.Fatal(err)
	}
	next, err := newWorkDir(parent, "")
	if err != nil {
		t.Fatal(err)
	}
	for dir, there := range map[string]bool{living.path: true, next.path: true, strange: true, dead.path: false} {
		if _, err := os.Stat(dir); (err == nil) != there {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if err := errors.Join(living.close(), next.close(), os.Remove(strange)); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestChosenDirIsExclusiveAndKept(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cluster")
	first, err := newWorkDir("", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newWorkDir("", path); err == nil {
		t.Error("two clusters share a folder")
	}
	if err := first.close(); err != nil {
		t.Error(err)
	}
	second, err := newWorkDir("", path)
	if err != nil {
		t.Fatalf("after the first cluster's end: %v", err)
	}
	if err := second.close(); err != nil {
		t.Error(err)
	}
	if was, err := StopDir(t.Context(), path); was || err != nil {
		t.Errorf("StopDir without a cluster: %v, %v", was, err)
	}
	if was, err := StopDir(t.Context(), filepath.Join(path, "none")); was || err != nil {
		t.Errorf("StopDir without a folder: %v, %v", was, err)
	}
}

func TestFreePortsDiffer(t *testing.T) {
	t.Parallel()
	ports, err := freePorts(50)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ports)
	if n := len(slices.Compact(ports)); n != 50 || ports[0] < firstPort || ports[n-1] > lastPort {
		t.Errorf("%v", ports)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	objs, err := Parse("---\n# only a comment\n---\napiVersion: v1\nkind: A\nmetadata: {name: a}\n---\n", `
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: B, metadata: {name: b, namespace: ns}}
- {apiVersion: v1, kind: C, metadata: {name: c}}
`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range objs {
		got = append(got, describe(o))
	}
	if want := []string{"A a", "B ns/b", "C c"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, bad := range []string{"a: b: c", "apiVersion: v1\nmetadata: {name: nokind}", "- list"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
