package file_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/keys/file"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testwait"
	"github.com/boltseal/boltseal/trust"
)

func write(t *testing.T, path string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// follow runs a provider of paths, without an interval: what it does not notice by
// itself, it never sees.
func follow(t *testing.T, paths ...string) func(what string, ok func(keys.State) bool) keys.State {
	t.Helper()
	w := keys.Want{ID: "roots", Resource: "KeyManagementProvider roots", Parameters: file.Parameters{Paths: paths}}
	r := keys.NewRefresher(keys.Options{})
	t.Cleanup(r.Close)
	r.Use([]keys.Want{w})
	return func(what string, ok func(keys.State) bool) keys.State {
		t.Helper()
		var st keys.State
		testwait.Until(t, what, func() bool {
			st = r.State(w)
			return ok(st)
		})
		return st
	}
}

func trusts(chains ...*testca.Chain) func(keys.State) bool {
	return func(st keys.State) bool {
		certs := st.Content.Certificates()
		for i, c := range chains {
			if len(certs) != len(chains) || !certs[i].Equal(c.Root().Certificate) {
				return false
			}
		}
		return len(chains) == len(certs)
	}
}

func fails(is error) func(keys.State) bool {
	return func(st keys.State) bool { return errors.Is(st.Err, is) }
}

// TestFollowed: a file that is rewritten is in force at once; one that is broken,
// too long or gone changes nothing.
func TestFollowed(t *testing.T) {
	t.Parallel()
	first, second, other := testca.Test(t, testca.Options{}), testca.Test(t, testca.Options{}), testca.Test(t, testca.Options{})
	dir := t.TempDir()
	path := write(t, filepath.Join(dir, "ca.pem"), first.Root().PEM())
	der := write(t, filepath.Join(dir, "ca.der"), other.Root().Raw)
	until := follow(t, path, der)
	until("both", trusts(first, other))
	write(t, path, second.Root().PEM())
	good := until("the second", trusts(second, other))
	for _, bad := range []struct {
		name string
		make func()
		is   error
	}{
		{"garbage", func() { write(t, path, []byte("garbage")) }, boltseal.ErrMalformed},
		{"cut off", func() { write(t, path, second.Root().PEM()[:100]) }, boltseal.ErrMalformed},
		{"empty", func() { write(t, path, nil) }, boltseal.ErrMalformed},
		{"oversized", func() {
			write(t, path, append(second.Root().PEM(), bytes.Repeat([]byte("\n"), trust.MaxPEMBytes)...))
		}, boltseal.ErrMalformed},
		{"gone", func() { _ = os.Remove(path) }, boltseal.ErrNotFound},
		{"a folder in its place", func() { _ = os.Remove(path); _ = os.Mkdir(path, 0o700) }, boltseal.ErrConfiguration},
	} {
		bad.make()
		st := until(bad.name, fails(bad.is))
		if st.Content != good.Content || !strings.Contains(st.Trouble(), path) || !strings.Contains(st.Trouble(), "is still used") {
			t.Errorf("%s: %+v", bad.name, st)
		}
		_ = os.Remove(path)
		write(t, path, second.Root().PEM())
		good = until("mended after "+bad.name, func(st keys.State) bool { return st.Err == nil && trusts(second, other)(st) })
	}
}

// TestLeafIsAnAnswer: a file that was understood and holds no root takes trust away.
func TestLeafIsAnAnswer(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{})
	path := write(t, filepath.Join(t.TempDir(), "ca.pem"), chain.Root().PEM())
	until := follow(t, path)
	until("the root", trusts(chain))
	write(t, path, chain.Leaf().PEM())
	if st := until("nothing", trusts()); st.Err != nil || !strings.Contains(keys.Texts(st.Content.Problems()), "it contains no certificate of a CA") {
		t.Errorf("%+v", st)
	}
}

// TestMounted: a mounted Secret is replaced as the kubelet does it: a new folder, and
// a link that is renamed over the old one.
func TestMounted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	publish := func(version string, c *testca.Chain) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, version, "ca.crt"), c.Root().PEM())
		if err := os.Symlink(version, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	var chains []*testca.Chain
	for range 3 {
		chains = append(chains, testca.Test(t, testca.Options{}))
	}
	publish("..2026_01_01", chains[0])
	if err := os.Symlink(filepath.Join("..data", "ca.crt"), filepath.Join(dir, "ca.crt")); err != nil {
		t.Fatal(err)
	}
	until := follow(t, filepath.Join(dir, "ca.crt"))
	until("as it is mounted", trusts(chains[0]))
	for i, version := range []string{"..2026_01_02", "..2026_01_03"} {
		publish(version, chains[i+1])
		until(version, trusts(chains[i+1]))
		if err := os.RemoveAll(filepath.Join(dir, []string{"..2026_01_01", "..2026_01_02"}[i])); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNeverThere: what never was is said, with its path, and comes when it comes.
func TestNeverThere(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{})
	path := filepath.Join(t.TempDir(), "ca.pem")
	until := follow(t, path)
	if st := until("it is said", fails(boltseal.ErrNotFound)); st.Content != nil || !strings.Contains(st.Trouble(), "nothing has been fetched yet: read "+path) {
		t.Errorf("%+v", st)
	}
	write(t, path, chain.Root().PEM())
	until("it comes", trusts(chain))
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		paths     []string
		namespace string
		ok        bool
	}{
		{[]string{"/etc/ca.pem"}, "", true},
		{[]string{"/etc/ca.pem"}, "team", false},
		{nil, "", false},
		{[]string{"ca.pem"}, "", false},
		{[]string{"/etc/ca.pem", "/etc/../etc/ca.pem"}, "", false},
		{make([]string, keys.MaxEntries+1), "", false},
	} {
		if ps := (file.Parameters{Paths: c.paths}).Check(c.namespace); (len(ps) == 0) != c.ok {
			t.Errorf("%q in %q: %+v", c.paths, c.namespace, ps)
		}
	}
}
