package filewatch_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/base/filewatch"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

func start(t *testing.T, o filewatch.Options) <-chan struct{} {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	changed, ended := make(chan struct{}, 16), make(chan struct{})
	w := filewatch.New(o)
	go func() {
		defer close(ended)
		w.Run(ctx, func() { changed <- struct{}{} })
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return changed
}

func waitForChange(t *testing.T, changed <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-changed:
	case <-time.After(testwait.Patience):
		t.Fatal("not noticed:", what)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, later := filepath.Join(dir, "f"), filepath.Join(dir, "later")
	// put changes content at once: nobody sees half of it.
	put := func(name, text string) {
		t.Helper()
		temp := filepath.Join(dir, "temp")
		if err := os.WriteFile(temp, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temp, name); err != nil {
			t.Fatal(err)
		}
	}
	overwrite := func(name, text string) { // in its place, one byte
		t.Helper()
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	put(file, "1")
	changed := start(t, filewatch.Options{Paths: []string{file, later}, Settle: 10 * time.Millisecond})
	overwrite(file, "2")
	waitForChange(t, changed, "new content")
	put(file, "3")
	waitForChange(t, changed, "a file in its place")
	put(later, "x")
	waitForChange(t, changed, "a file that was not there")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	waitForChange(t, changed, "a file that is gone")
	put(filepath.Join(dir, "other"), "x")
	overwrite(later, "x")
	select {
	case <-changed:
		t.Error("reported without new content")
	case <-time.After(200 * time.Millisecond): // waits: for a report that must not come; a slow machine can only hide it
	}
}

// TestKubernetesVolume: the kubelet swaps a link to the folder with all files.
func TestKubernetesVolume(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, v := range []string{"v1", "v2"} {
		if err := os.MkdirAll(filepath.Join(dir, v), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, v, "tls.crt"), []byte(v), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("v1", "..data")
	link("..data/tls.crt", "tls.crt")
	changed := start(t, filewatch.Options{Paths: []string{filepath.Join(dir, "tls.crt")}, Settle: 10 * time.Millisecond})
	link("v2", "..data_tmp")
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	waitForChange(t, changed, "the swapped link")
}

func TestPolling(t *testing.T) {
	t.Parallel()
	elsewhere, dir := t.TempDir(), t.TempDir()
	target := filepath.Join(elsewhere, "f")
	if err := os.WriteFile(target, []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "f")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	changed := start(t, filewatch.Options{Paths: []string{link}, Poll: 20 * time.Millisecond})
	if err := os.WriteFile(target, []byte("2"), 0o600); err != nil {
		t.Fatal(err)
	}
	waitForChange(t, changed, "content behind a link to another folder")
}

// TestFolders: files below a folder count by their names and content; a folder with too
// many is not read.
func TestFolders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("a")
	changed := start(t, filewatch.Options{Paths: []string{dir}, Settle: 10 * time.Millisecond, FolderFiles: 2})
	put("b")
	waitForChange(t, changed, "a file in a folder")
	put("c")
	waitForChange(t, changed, "too many files")
	if err := os.Remove(filepath.Join(dir, "c")); err != nil {
		t.Fatal(err)
	}
	waitForChange(t, changed, "a file that is gone")
}

// TestFollower: files that are watched from now on are, and others no more.
func TestFollower(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	put := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := filewatch.NewFollower(filewatch.Options{Settle: 10 * time.Millisecond, Poll: 50 * time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	changed, ended := make(chan struct{}, 16), make(chan struct{})
	go func() { defer close(ended); f.Run(ctx, func() { changed <- struct{}{} }) }()
	t.Cleanup(func() { cancel(); <-ended })
	f.Watch([]string{one})
	put(one, "1")
	waitForChange(t, changed, "the first")
	f.Watch([]string{one}) // the same
	f.Watch([]string{two})
	put(one, "2")
	put(two, "1")
	waitForChange(t, changed, "the second")
	f.Watch([]string{one, two})
	put(one, "3")
	waitForChange(t, changed, "the first again")
}
