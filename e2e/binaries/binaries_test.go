package binaries

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

func TestVersionsArePinned(t *testing.T) {
	t.Parallel()
	versions, err := Versions()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{Etcd, KubeAPIServer, KubeControllerManager, Kubectl, Gatekeeper} {
		if !strings.HasPrefix(versions[name], "v") {
			t.Errorf("%s has version %q", name, versions[name])
		}
	}
}

func TestKeyDependsOnWhatDecidesTheResult(t *testing.T) {
	t.Parallel()
	args := [][]string{{"build", "a"}, {"build", "b"}}
	first, err := key("go1.26.0", args)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := key("go1.26.0", args); again != first || !isKey(first) {
		t.Errorf("%q, then %q", first, again)
	}
	if other, _ := key("go1.26.1", args); other == first {
		t.Error("another toolchain, the same key")
	}
	if other, _ := key("go1.26.0", [][]string{{"build", "a", "build", "b"}}); other == first {
		t.Error("other arguments, the same key")
	}
}

// interrupter ends a build at a line of its progress.
type interrupter struct {
	at   string
	stop context.CancelFunc
	said strings.Builder
}

func (i *interrupter) Write(p []byte) (int, error) {
	if strings.Contains(string(p), i.at) {
		i.stop()
	}
	return i.said.Write(p)
}

// TestInterruptedBuildGoesOn builds the smallest program for real, is interrupted in the next one, and shows that
// the first is kept, that nothing half-made is left, and that it is not built again.
func TestInterruptedBuildGoesOn(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	for _, again := range []bool{false, true} {
		ctx, stop := context.WithCancel(t.Context())
		in := &interrupter{at: KubeAPIServer + " v", stop: stop}
		set, err := Build(ctx, Options{CacheDir: cache, Progress: in})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, %v; it said:\n%s", set, err, in.said.String())
		}
		if built := strings.Contains(in.said.String(), Etcd+" v"); built == again {
			t.Errorf("etcd was built: %t, at attempt 2: %t", built, again)
		}
	}
	set, ok, err := Cached(t.Context(), Options{CacheDir: cache})
	if err != nil || ok {
		t.Fatalf("Cached: %t, %v", ok, err)
	}
	if out, err := exec.Command(set.Path(Etcd), "--version").CombinedOutput(); err != nil || !strings.Contains(string(out), "etcd Version") {
		t.Errorf("etcd said %s, %v", out, err)
	}
	missing, err := set.missing()
	if err != nil || len(missing) != len(programs())-1 {
		t.Errorf("missing %q, %v", missing, err)
	}
	old := filepath.Join(cache, "0123456789abcdef")
	if err := os.Mkdir(old, 0o755); err != nil {
		t.Fatal(err)
	}
	if removed, err := Prune(t.Context(), Options{CacheDir: cache}); err != nil || len(removed) != 1 || removed[0] != old {
		t.Errorf("Prune removed %q, %v", removed, err)
	}
	left, err := os.ReadDir(cache)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		if e.Name() != "lock" && filepath.Join(cache, e.Name()) != set.Dir {
			t.Errorf("%s is left", e.Name())
		}
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	never := func() { t.Error("waited for a lock that is free") }
	unlock, err := lock(t.Context(), path, never)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := lock(ctx, path, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("a second lock: %v", err)
	}
	// The waiter is told that it waits, and gets the lock when its holder lets go.
	unlock2, err := lock(t.Context(), path, unlock)
	if err != nil {
		t.Fatalf("after the first was freed: %v", err)
	}
	unlock2()
}

func TestWatchBuildKeepsOnlyWhatIsNotProgress(t *testing.T) {
	t.Parallel()
	var compiled, fetched atomic.Int64
	rest := watchBuild(strings.NewReader("go: downloading a v1\ninternal/abi\nk8s.io/api/core/v1\n# k8s.io/x\nx.go:1:2: undefined: y\n"), &compiled, &fetched)
	if compiled.Load() != 2 || fetched.Load() != 1 || rest != "# k8s.io/x\nx.go:1:2: undefined: y" {
		t.Errorf("%d compiled, %d fetched, rest %q", compiled.Load(), fetched.Load(), rest)
	}
}
