package compile_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// stores are n Stores of the namespaces, each for a host of its own.
func stores(n int, namespaces ...string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(store(fmt.Sprintf("%s/s%d", namespaces[i%len(namespaces)], i), fmt.Sprintf("scopes: ['h%d.example']", i)))
	}
	return b.String()
}

// beside returns a function that edits what nobody uses and compiles, beside n Stores.
func beside(t testing.TB, n int, namespaces ...string) func() {
	t.Helper()
	pems := [][]byte{chain(t).Root().PEM(), chain(t).Root().PEM()}
	k, i := newKube(t), 0
	k.apply(kmp("roots", pems[0]) + store("s", "") + verifier("v", "roots") + stores(n, namespaces...))
	k.compile()
	return func() {
		i++
		k.apply(kmp("unused", pems[i%2]))
		k.compile()
	}
}

// ten are ten namespaces, none of which has too many.
var ten = []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}

// TestManyResourcesCostTheirNumber: an edit costs in proportion to the resources that
// are there, in one namespace or in many. Allocations are counted, since time is the
// machine's; see BenchmarkEditBesideStores.
func TestManyResourcesCostTheirNumber(t *testing.T) {
	for what, namespaces := range map[string][]string{"one namespace": {"team"}, "ten": ten} {
		few := testing.AllocsPerRun(2, beside(t, 200, namespaces...))
		many := testing.AllocsPerRun(2, beside(t, 1600, namespaces...))
		t.Logf("%s: an edit beside 200 allocates %.0f times, beside 1,600 %.0f", what, few, many)
		if many > 12*few { // eight times as many; the square would be 64
			t.Errorf("%s: an edit beside 200 allocates %.0f times, beside 1,600 %.0f: more than in proportion", what, few, many)
		}
	}
}

// BenchmarkEditBesideStores is an edit of what nobody uses.
func BenchmarkEditBesideStores(b *testing.B) {
	for _, n := range []int{250, 1000, 4000} {
		for what, namespaces := range map[string][]string{"one": {"team"}, "ten": ten} {
			b.Run(fmt.Sprintf("%d/%s", n, what), func(b *testing.B) {
				edit := beside(b, n, namespaces...)
				for b.Loop() {
					edit()
				}
			})
		}
	}
}

// TestTooManyOfANamespace: those beyond the limit are not in force and say so; what
// others have, and the cluster, is as before; and fewer are in force again.
func TestTooManyOfANamespace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{})
	k := newKube(t)
	k.apply(kmp("roots", w.pemA) + store("s", "") + verifier("v", "roots") + verifier("other/v", "roots"))
	k.apply(stores(compile.MaxOfNamespace-1, "team"))
	k.apply(verifier("team/v", "roots") + store("team/late", fmt.Sprintf("scopes: [%q]", w.reg.Host)) + kmp("team/late", w.pemB) + policyDoc("team/ratify-policy", "default: any") +
		"---\napiVersion: boltseal.dev/v1alpha1\nkind: NamespacedImageIntegrityPolicy\nmetadata: {name: late, namespace: team}\nspec: {enforcementAction: dryrun}\n" +
		fetchedDoc("team/vault", "azurekeyvault", vaultParameters))
	cluster := compile.NewCluster(k.o, entriesOf(k))
	if n := len(cluster.Wants()); n != 0 {
		t.Errorf("%d providers are asked", n)
	}
	if ps := cluster.Integrity(); len(ps) != 1 {
		t.Errorf("%d policies", len(ps))
	}
	c, standing := k.compile()
	late, said := 0, "the namespace team has more than 500 resources of Boltseal's"
	for key, st := range standing {
		over := key.Name == "late" || key.Name == "vault" || key.Name == "ratify-policy"
		if over != !st.OK() || over && (st.Serving != compile.ServingStandIn || !strings.Contains(st.Problems.Error(), said)) {
			t.Errorf("%s: %s %v", key, st.Serving, st.Problems)
		}
		if over {
			late++
		}
	}
	if late != 5 {
		t.Errorf("%d are too many", late)
	}
	if r := w.verify(t, c, "team", "a"); r.Decision != boltseal.Deny {
		t.Errorf("team: %s %+v", r.Decision, r.Reason)
	}
	for _, ns := range []string{"", "other"} {
		if got := w.trusts(t, c, ns); got != "a both" {
			t.Errorf("%q: %q", ns, got)
		}
	}
	before := c.EngineFor("other")
	k.apply(store("team/later", ""))
	if c, _ = k.compile(); c.EngineFor("other") != before {
		t.Error("one more there made another engine elsewhere")
	}
	for i := range 10 {
		k.remove("NamespacedStore", "team", fmt.Sprint("s", i))
	}
	k.remove("NamespacedStore", "team", "later")
	c, standing = k.compile()
	for key, st := range standing {
		if !st.OK() && key.Name != "vault" {
			t.Errorf("%s: %s %v", key, st.Serving, st.Problems)
		}
	}
	if got := w.trusts(t, c, "team"); got != "a both" {
		t.Errorf("team: %q", got)
	}
}
