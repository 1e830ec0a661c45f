package compile_test

import (
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/boltseal/boltseal"
	keyskube "github.com/boltseal/boltseal/internal/keys/kube"
)

// TestWhoIsAsked: what is kept of a registry's answers is told apart by the Store, its
// settings and whose credentials are shown; nothing else makes it another.
func TestWhoIsAsked(t *testing.T) {
	t.Parallel()
	k := newKube(t)
	k.deps.Cloud.Objects = keyskube.Objects{Client: fake.NewClientBuilder().WithObjects(
		pull("one", "a", "r.example", "u", "p"), pull("one", "b", "r.example", "u", "q")).Build()}
	seen := map[string]string{} // who → by what it is called
	var last string
	k.deps.Wrap = func(asked string, s boltseal.Store) boltseal.Store { last = asked; return s }
	roots := chain(t).Root().PEM()
	k.apply(kmp("roots", roots) + verifier("v", "roots"))
	called := func(who, docs string, another bool) {
		t.Helper()
		if docs != "" {
			last = ""
			k.apply(docs)
			k.compile()
		}
		for other, name := range seen {
			if another && name == last {
				t.Errorf("%s is taken for %s", who, other)
			}
		}
		if was, known := seen[who]; last == "" || known && !another && was != last {
			t.Errorf("%s is taken for somebody else", who)
		}
		seen[who] = last
	}
	for _, s := range []struct{ who, docs string }{
		{"the cluster's", store("s", "authProviders: [{name: podPullSecrets}]")}, {"a namespace's of the same name", store("a/s", "")},
		{"another namespace's", store("b/s", "")}, {"another of that namespace", store("b/t", "scopes: [example.com]")},
		{"an edit of it", store("b/t", "scopes: [example.com], useHttp: true")},
	} {
		called(s.who, s.docs, true)
	}
	called("another namespace's", store("b/s", ""), false)
	k.cache = nil
	c, _ := k.compile()
	for _, secret := range []string{"a", "b", "none"} {
		last = ""
		c.ForPod(t.Context(), c.EngineFor(""), "one", []string{secret}, "")
		if secret == "none" {
			if last != "" {
				t.Error("who has no Secret is somebody")
			}
			continue
		}
		called("a Pod with "+secret, "", true)
	}
}
