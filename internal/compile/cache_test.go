package compile_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// TestCacheChangesNothing edits at random, and holds what is compiled with
// knowledge of the past against what is compiled without.
func TestCacheChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{})
	both := append(append([]byte{}, w.pemA...), w.pemB...)
	// Every name with the versions that it may have; "" is to delete it.
	names := [][]string{
		{kmp("roots", w.pemA), kmp("roots", w.pemB), kmp("roots", both), kmp("roots", []byte("broken")), ""},
		{kmp("team/roots", w.pemA), kmp("team/roots", w.pemB), kmp("team/roots", []byte("broken")), ""},
		{kmp("rots", w.pemB), ""},
		{certStore("roots", w.pemB), certStore("gatekeeper-system/roots", w.pemA), ""},
		{store("s", ""), store("s", "scopes: ['127.0.0.1']"), store("s", "nonsense: 1"), ""},
		{store("t", "scopes: ['127.0.0.1']"), store("t", "scopes: [example.com]"), ""},
		{store("team/s", ""), store("team/s", "nonsense: 1"), store("team/s", "localCachePath: /x"), ""},
		{verifier("v", "roots"), verifier("v", "roots", "team/roots"), verifier("v", "missing"), doc("Verifier", "v", "spec: {}\n"), ""},
		{verifier("w", "rots"), ""},
		{verifier("team/v", "roots"), verifier("team/v", "rots"), verifier("team/v", "rotz"), doc("NamespacedVerifier", "team/v", "spec: {}\n"), ""},
		{policyDoc("ratify-policy", "default: all"), policyDoc("ratify-policy", "default: any"), policyDoc("ratify-policy", "default: x"), ""},
		{policyDoc("team/ratify-policy", "default: all"), policyDoc("team/ratify-policy", "default: x"), ""},
		{policyDoc("other", "default: all"), ""},
	}
	steps := 60
	if testing.Short() {
		steps = 20
	}
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			k := newKube(t)
			for i := range steps {
				versions := names[r.IntN(len(names))]
				text := versions[r.IntN(len(versions))]
				if text != "" {
					k.apply(text)
				} else {
					for _, v := range versions {
						k.delete(v)
					}
				}
				if r.IntN(10) == 0 {
					k.deps.Wrap = nil
					if r.IntN(2) == 0 {
						k.deps.Wrap = func(_ string, s boltseal.Store) boltseal.Store { return s }
					}
				}
				fresh, want := k.fresh()
				c, got := k.compile()
				if tell(want) != tell(got) {
					t.Fatalf("step %d: with the past\n%s\nwithout\n%s", i, tell(got), tell(want))
				}
				for _, ns := range []string{"", "team"} {
					if (c.EngineFor(ns) == nil) != (fresh.EngineFor(ns) == nil) {
						t.Fatalf("step %d: namespace %q has an engine with or without the past only", i, ns)
					}
					if c.EngineFor(ns) == nil {
						continue
					}
					for _, tag := range []string{"a", "b"} {
						x, y := w.verify(t, c, ns, tag), w.verify(t, fresh, ns, tag)
						if x.Decision != y.Decision || x.Reason != y.Reason {
							t.Fatalf("step %d: namespace %q, image %s: %v %+v, without the past %v %+v\n%s", i, ns, tag, x.Decision, x.Reason, y.Decision, y.Reason, tell(got))
						}
					}
				}
			}
		})
	}
}

// delete removes what a document names.
func (k *kube) delete(text string) {
	for key := range k.entries {
		name := "  name: " + key.Name + "\n"
		if key.Namespace != "" && key.Kind != "CertificateStore" {
			name += "  namespace: " + key.Namespace + "\n"
		}
		if strings.Contains(text, "\nkind: "+key.Kind+"\n") && strings.Contains(text, name) {
			delete(k.entries, key)
		}
	}
}

// TestUntouchedEnginesStay: an edit makes anew what depends on it, and nothing else.
func TestUntouchedEnginesStay(t *testing.T) {
	t.Parallel()
	a, b := chain(t).Root().PEM(), chain(t).Root().PEM()
	k := newKube(t)
	k.apply(kmp("roots", a) + kmp("unused", a) + store("s", "") + verifier("v", "roots") + kmp("team/own", a) + verifier("team/v", "own") + kmp("b/own", a) + verifier("b/v", "own"))
	last, _ := k.compile()
	engines := func(c *compile.Compiled) map[string]*boltseal.Engine {
		return map[string]*boltseal.Engine{"": c.EngineFor(""), "team": c.EngineFor("team"), "b": c.EngineFor("b")}
	}
	for _, s := range []struct {
		what    string
		edit    func()
		changed string // namespaces whose engines are made anew
	}{
		{"nothing", func() {}, ""},
		{"a provider that nobody uses", func() { k.apply(kmp("unused", b)) }, ""},
		{"another one", func() { k.apply(kmp("unused-too", b)) }, ""},
		{"it is gone", func() { k.remove("KeyManagementProvider", "", "unused-too") }, ""},
		{"a namespace's provider", func() { k.apply(kmp("team/own", b)) }, "team"},
		{"the cluster's provider", func() { k.apply(kmp("roots", b)) }, ","},
		{"a provider that hides the cluster's from nobody", func() { k.apply(kmp("team/roots", b)) }, ""},
		{"a broken edit", func() { k.apply(kmp("b/own", []byte("x"))) }, ""},
		{"a broken Verifier", func() { k.apply(doc("NamespacedVerifier", "b/v", "spec: {}\n")) }, "b"},
		{"still broken", func() { k.apply(kmp("unused", a)) }, ""},
		{"mended", func() { k.apply(verifier("b/v", "own")) }, "b"},
		{"a Verifier of a new namespace", func() { k.apply(verifier("c/v", "roots")) }, ""},
		{"the cluster's Policy", func() { k.apply(policyDoc("ratify-policy", "default: any")) }, ",b,team"},
		{"the cluster's Store", func() { k.apply(store("s", "useHttp: true")) }, ",b,team"},
		{"all stores remember", func() { k.deps.Wrap = func(_ string, s boltseal.Store) boltseal.Store { return s } }, ",b,team"},
	} {
		s.edit()
		c, standing := k.compile()
		var changed []string
		for _, ns := range []string{"", "b", "team"} {
			if engines(c)[ns] != engines(last)[ns] {
				changed = append(changed, ns)
			}
		}
		want := s.changed
		if want == "," { // the cluster's alone
			want = ""
			if len(changed) != 1 || changed[0] != "" {
				t.Errorf("%s: %q were made anew", s.what, changed)
			}
		} else if got := strings.Join(changed, ","); got != want {
			t.Errorf("%s: %q were made anew, want %q\n%s", s.what, got, want, tell(standing))
		}
		if n := len(c.Engines()); n < 3 || n > 4 {
			t.Errorf("%s: %d engines", s.what, n)
		}
		last = c
	}
}

// TestHintsAreBounded: names that are not there cost a bounded time, and tell a
// namespace nothing of others.
func TestHintsAreBounded(t *testing.T) {
	t.Parallel()
	pem := chain(t).Root().PEM()
	k := newKube(t)
	k.apply(kmp("secret/project-x", pem) + kmp("project-z", pem) + store("s", "") + verifier("team/v", "secret/project-y") + verifier("v", "secret/project-y") + verifier("team/w", "project-y"))
	_, standing := k.compile()
	for key, want := range map[compile.Key]string{
		{Kind: "Verifier", Name: "v"}: `did you mean "secret/project-x"?`, {Kind: "NamespacedVerifier", Namespace: "team", Name: "w"}: `did you mean "project-z"?`,
	} {
		if text := standing[key].Problems.Error(); !strings.Contains(text, want) {
			t.Errorf("%s: %s", key, text)
		}
	}
	if text := standing[compile.Key{Kind: "NamespacedVerifier", Namespace: "team", Name: "v"}].Problems.Error(); strings.Contains(text, "project-x") {
		t.Errorf("a namespace learns of another: %s", text)
	}
	k = newKube(t)
	var names []string
	for i := range 300 {
		k.apply(kmp(fmt.Sprint("provider-", i), pem))
		names = append(names, fmt.Sprint("provder-", i))
	}
	k.apply(store("s", "") + verifier("v", names...))
	_, standing = k.compile()
	text := standing[compile.Key{Kind: "Verifier", Name: "v"}].Problems.Error()
	if n := strings.Count(text, "did you mean"); n == 0 || n > 100 {
		t.Errorf("%d hints", n)
	}
}

// BenchmarkEdit is one edit among many resources, of a provider that is used.
func BenchmarkEdit(b *testing.B) {
	pems := [][]byte{chain(b).Root().PEM(), chain(b).Root().PEM()}
	for _, n := range []int{0, 2000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			k := newKube(b)
			k.apply(kmp("roots", pems[0]) + store("s", "") + verifier("v", "roots"))
			for i := range n {
				k.apply(kmp(fmt.Sprint("p", i), pems[0]))
			}
			k.compile()
			for i := 0; b.Loop(); i++ {
				k.apply(kmp("roots", pems[i%2]))
				if c, _ := k.compile(); c.EngineFor("") == nil {
					b.Fatal("no engine")
				}
			}
		})
	}
}
