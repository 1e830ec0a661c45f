package compile_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/oci"
)

// kube holds resources as a cluster and its controller do: by key, with the
// version that last worked.
type kube struct {
	t       testing.TB
	o       compile.ClusterOptions
	entries map[compile.Key]compile.Entry
	cache   *compile.Cache // nil = each compilation begins with nothing
	deps    compile.Deps
	clock   time.Time // of creation
}

func newKube(t testing.TB) *kube {
	return &kube{t: t, o: compile.ClusterOptions{CertificateStores: []string{"default", "gatekeeper-system"}}, entries: map[compile.Key]compile.Entry{},
		cache: &compile.Cache{}, deps: deps(), clock: now.Add(-time.Hour)}
}

// apply creates or changes resources: documents, as files have them.
func (k *kube) apply(docs string) {
	k.t.Helper()
	for _, text := range strings.Split("\n"+docs, "\n---\n") {
		if strings.TrimSpace(text) == "" {
			continue
		}
		var o map[string]any
		if err := yaml.Unmarshal([]byte(text), &o); err != nil {
			k.t.Fatalf("%v\n%s", err, text)
		}
		meta, _ := o["metadata"].(map[string]any)
		if o["kind"] == "CertificateStore" && meta["namespace"] == nil {
			meta["namespace"] = "default"
		}
		k.clock = k.clock.Add(time.Second)
		created := k.clock
		ns, _ := meta["namespace"].(string)
		key := compile.Key{Kind: o["kind"].(string), Namespace: ns, Name: meta["name"].(string)}
		old, there := k.entries[key]
		if there {
			created = now.Add(-2 * time.Hour) // an edit makes nothing younger
		}
		meta["creationTimestamp"] = created.UTC().Format(time.RFC3339)
		data, err := json.Marshal(o)
		if err != nil {
			k.t.Fatal(err)
		}
		r := compile.DecodeObject(data)
		if r.Key() != key {
			k.t.Fatalf("%s is read as %s", key, r.Key())
		}
		k.entries[key] = compile.Entry{Current: r, Good: old.Good}
	}
}

func (k *kube) remove(kind, namespace, name string) {
	delete(k.entries, compile.Key{Kind: kind, Namespace: namespace, Name: name})
}

// fresh compiles without knowledge of the past.
func (k *kube) fresh() (*compile.Compiled, map[compile.Key]*compile.Standing) {
	return compile.NewCluster(k.o, slices.Collect(maps.Values(k.entries))).Compile(k.deps, nil)
}

// compile compiles, and notes what works.
func (k *kube) compile() (*compile.Compiled, map[compile.Key]*compile.Standing) {
	k.t.Helper()
	c, standing := compile.NewCluster(k.o, slices.Collect(maps.Values(k.entries))).Compile(k.deps, k.cache)
	for key, e := range k.entries {
		if standing[key] == nil {
			k.t.Fatalf("%s has no standing", key)
		}
		if standing[key].OK() {
			e.Good = e.Current
			k.entries[key] = e
		}
	}
	return c, standing
}

// tell writes standings as text.
func tell(standing map[compile.Key]*compile.Standing) string {
	var b strings.Builder
	for _, key := range slices.SortedFunc(maps.Keys(standing), compile.Key.Compare) {
		st := standing[key]
		fmt.Fprintf(&b, "%s: %s", key, st.Serving)
		for _, p := range st.Problems {
			b.WriteString("; " + p.Error())
		}
		for _, w := range st.Warnings {
			b.WriteString("; warning: " + w.Error())
		}
		fmt.Fprintf(&b, "; %d certificates\n", len(st.Certificates))
	}
	return b.String()
}

// step is one edit, and how everything is to stand after it.
type step struct {
	what   string
	edit   func(k *kube)
	trusts map[string]string // namespace → tags; "-" = no engine
	says   []string          // parts of the standings
}

func run(t *testing.T, steps func(w *world) []step) {
	t.Helper()
	t.Parallel()
	w := newWorld(t, testregistry.Options{})
	k := newKube(t)
	for _, s := range steps(w) {
		s.edit(k)
		c, standing := k.compile()
		for ns, want := range s.trusts {
			got := "-"
			if c.EngineFor(ns) != nil {
				got = w.trusts(t, c, ns)
			}
			if got != want {
				t.Errorf("%s: namespace %q trusts %q, want %q\n%s", s.what, ns, got, want, tell(standing))
			}
		}
		for _, part := range s.says {
			if !strings.Contains(tell(standing), part) {
				t.Errorf("%s: %q is not said:\n%s", s.what, part, tell(standing))
			}
		}
	}
}

func TestClusterHealsInAnyOrder(t *testing.T) {
	run(t, func(w *world) []step {
		return []step{
			{"nothing", func(*kube) {}, map[string]string{"": "-", "team": "-"}, nil},
			{"a Verifier alone", func(k *kube) { k.apply(verifier("v", "roots")) }, map[string]string{"": "-"}, []string{"Verifier v: Reduced; spec.parameters.verificationCertStores.certs[0]: the trust store certs names the KeyManagementProvider or CertificateStore roots, which is not there"}},
			{"a Store", func(k *kube) { k.apply(store("s", "")) }, map[string]string{"": "", "team": ""}, []string{"Store s: Current; 0"}},
			{"a provider with a name that is near", func(k *kube) { k.apply(kmp("rots", w.pemA)) }, map[string]string{"": ""}, []string{`did you mean "rots"?`}},
			{"the provider", func(k *kube) { k.apply(kmp("roots", w.pemA)) }, map[string]string{"": "a both"}, []string{"Verifier v: Current; 0", "KeyManagementProvider roots: Current; 1 certificates"}},
			{"the provider is gone", func(k *kube) { k.remove("KeyManagementProvider", "", "roots") }, map[string]string{"": ""}, []string{"Verifier v: Reduced"}},
			{"the provider is another", func(k *kube) { k.apply(kmp("roots", w.pemB)) }, map[string]string{"": "b both"}, []string{"Verifier v: Current"}},
			{"the Verifier is gone", func(k *kube) { k.remove("Verifier", "", "v") }, map[string]string{"": "-"}, nil},
		}
	})
}

func TestClusterKeepsWhatWorked(t *testing.T) {
	broken := func(kind, name string) string { return doc(kind, name, "spec:\n  nonsense: true\n") }
	run(t, func(w *world) []step {
		return []step{
			{"all works", func(k *kube) {
				k.apply(kmp("roots", w.pemA) + store("s", "") + verifier("v", "roots") + policyDoc("ratify-policy", "default: any"))
			}, map[string]string{"": "a both"}, nil},
			{"a broken provider", func(k *kube) { k.apply(kmp("roots", []byte("no certificate"))) }, map[string]string{"": "a both"}, []string{"KeyManagementProvider roots: LastGood; spec.parameters.value", "Verifier v: Current"}},
			{"a broken Store", func(k *kube) { k.apply(broken("Store", "s")) }, map[string]string{"": "a both"}, []string{"Store s: LastGood; spec.nonsense: unknown field"}},
			{"a broken Verifier", func(k *kube) { k.apply(broken("Verifier", "v")) }, map[string]string{"": "a both"}, []string{"Verifier v: LastGood; spec.nonsense"}},
			{"a broken Policy", func(k *kube) { k.apply(policyDoc("ratify-policy", "default: some")) }, map[string]string{"": "a both"}, []string{"Policy ratify-policy: LastGood", "some is not any or all"}},
			{"a Verifier that leads nowhere", func(k *kube) { k.apply(verifier("v", "rots")) }, map[string]string{"": "a both"}, []string{"Verifier v: LastGood", "rots, which is not there"}},
			{"and then its old provider is gone", func(k *kube) { k.remove("KeyManagementProvider", "", "roots") }, map[string]string{"": ""}, []string{"Verifier v: Reduced"}},
			{"all is mended", func(k *kube) {
				k.apply(kmp("roots", w.pemB) + store("s", "") + verifier("v", "roots") + policyDoc("ratify-policy", "default: all"))
			}, map[string]string{"": "b"}, []string{"Verifier v: Current"}},
			{"what was deleted and made anew broken never worked", func(k *kube) {
				k.remove("Verifier", "", "v")
				k.apply(broken("Verifier", "v"))
			}, map[string]string{"": ""}, []string{"Verifier v: StandIn"}},
		}
	})
}

func TestClusterStandsInByDenying(t *testing.T) {
	run(t, func(w *world) []step {
		base := kmp("roots", w.pemA) + store("s", "") + verifier("v", "roots")
		return []step{
			{"base", func(k *kube) { k.apply(base) }, map[string]string{"": "a both", "team": "a both"}, nil},
			{"a broken Verifier of a namespace", func(k *kube) { k.apply(doc("NamespacedVerifier", "team/v", "spec: {}\n")) }, map[string]string{"": "a both", "team": ""}, []string{"NamespacedVerifier team/v: StandIn"}},
			{"a working one beside it", func(k *kube) { k.apply(verifier("team/w", "roots")) }, map[string]string{"team": "a both"}, nil},
			{"the broken one is gone", func(k *kube) { k.remove("NamespacedVerifier", "team", "v") }, map[string]string{"team": "a both"}, nil},
			{"a broken Store of a namespace", func(k *kube) { k.apply(store("team/s", "nonsense: true")) }, map[string]string{"": "a both", "team": ""}, []string{"NamespacedStore team/s: StandIn"}},
			{"one with scopes beside it", func(k *kube) { k.apply(store("team/t", "scopes: ['127.0.0.1']")) }, map[string]string{"": "a both"}, nil},
			{"gone", func(k *kube) { k.remove("NamespacedStore", "team", "s"); k.remove("NamespacedStore", "team", "t") }, map[string]string{"team": "a both"}, nil},
			{"a broken Policy of a namespace", func(k *kube) { k.apply(policyDoc("team/ratify-policy", "default: none")) }, map[string]string{"": "a both", "team": ""}, []string{"NamespacedPolicy team/ratify-policy: StandIn"}},
			{"a Policy of another name never counts", func(k *kube) {
				k.remove("NamespacedPolicy", "team", "ratify-policy")
				k.apply(policyDoc("team/other", "default: all"))
			}, map[string]string{"team": "a both"}, []string{"NamespacedPolicy team/other: StandIn; metadata.name: a NamespacedPolicy must be named ratify-policy"}},
			{"two Stores of the same scope", func(k *kube) { k.apply(store("t", "useHttp: true")) }, map[string]string{"": "a both"}, []string{"Store t: StandIn; spec.parameters.scopes", "the older Store still applies"}},
			{"a broken Policy of the cluster", func(k *kube) { k.apply(policyDoc("ratify-policy", "default: none")) }, map[string]string{"": ""}, []string{"Policy ratify-policy: StandIn"}},
			{"gone again", func(k *kube) { k.remove("Policy", "", "ratify-policy") }, map[string]string{"": "a both"}, nil},
			{"everything of the cluster was deleted", func(k *kube) {
				k.remove("Store", "", "s")
				k.remove("Store", "", "t")
			}, map[string]string{"": "-", "team": "-"}, nil},
		}
	})
}

func TestClusterNamespaces(t *testing.T) {
	run(t, func(w *world) []step {
		return []step{
			{"the cluster's", func(k *kube) { k.apply(kmp("roots", w.pemA) + store("s", "") + verifier("v", "roots")) }, map[string]string{"": "a both", "team": "a both"}, nil},
			{"a provider of a namespace changes nothing by itself", func(k *kube) { k.apply(kmp("team/roots", w.pemB)) }, map[string]string{"": "a both", "team": "a both"}, nil},
			{"its own Verifier prefers its own provider", func(k *kube) { k.apply(verifier("team/v", "roots")) }, map[string]string{"": "a both", "team": "b both", "other": "a both"}, nil},
			{"and the cluster's where it has none", func(k *kube) { k.remove("NamespacedKeyManagementProvider", "team", "roots") }, map[string]string{"": "a both", "team": "a both"}, nil},
			{"its broken provider is no reason to take the cluster's", func(k *kube) { k.apply(kmp("team/roots", []byte("x"))) }, map[string]string{"": "a both", "team": ""}, []string{"NamespacedVerifier team/v: Reduced"}},
		}
	})
}

// TestCertificateStores: whose CertificateStores serve the whole cluster is said
// in so many words, for a certificate is trust.
func TestCertificateStores(t *testing.T) {
	run(t, func(w *world) []step {
		return []step{
			{"in a namespace that does not count", func(k *kube) { k.apply(certStore("team/c", w.pemB) + store("s", "") + verifier("v", "c")) }, map[string]string{"": ""}, []string{"c, which is not there"}},
			{"where kubectl puts it", func(k *kube) { k.apply(certStore("c", w.pemA)) }, map[string]string{"": "a both"}, nil},
			{"the second place does not win over the first", func(k *kube) { k.apply(certStore("gatekeeper-system/c", w.pemB)) }, map[string]string{"": "a both"}, nil},
			{"until the first is gone", func(k *kube) { k.remove("CertificateStore", "default", "c") }, map[string]string{"": "b both"}, nil},
			{"a KeyManagementProvider wins", func(k *kube) { k.apply(kmp("c", w.pemA)) }, map[string]string{"": "a both"}, nil},
			{"named with its namespace", func(k *kube) { k.apply(verifier("v", "team/c")) }, map[string]string{"": "b both"}, nil},
		}
	})
}

// TestAFaultIsOneResourcesProblem: whatever a resource does to the code that
// reads it, the others stay in force.
func TestAFaultIsOneResourcesProblem(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{})
	k := newKube(t)
	k.deps.DockerConfig = func(path string) oci.CredentialSource {
		if path != "" {
			panic("a fault")
		}
		return nil
	}
	k.apply(kmp("roots", w.pemA) + store("s", "") + verifier("v", "roots") + store("bad", "scopes: [bad.example], authProvider: {name: dockerConfig, configPath: x}"))
	c, standing := k.compile()
	if got := w.trusts(t, c, ""); got != "a both" {
		t.Errorf("trusts %q", got)
	}
	if !strings.Contains(tell(standing), "Store bad: StandIn; a fault in Boltseal, which deserves a report: a fault") {
		t.Error(tell(standing))
	}
}

// TestObjectsThatCannotBeRead stand in a cluster all the same, and say why.
func TestObjectsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		`{`: "unexpected end of JSON input",
		`{"apiVersion": "config.ratify.deislabs.io/v1beta1", "kind": "Store", "metadata": {"name": 1}}`:                                                                                                                            "cannot unmarshal number",
		`{"apiVersion": "config.ratify.deislabs.io/v1beta1", "kind": "Store", "metadata": {"name": "x"}}`:                                                                                                                          "needs a spec",
		`{"apiVersion": "config.ratify.deislabs.io/v1beta1", "kind": "Sotre", "metadata": {"name": "x"}, "spec": {}}`:                                                                                                              "did you mean",
		`{"apiVersion": "boltseal.dev/v1alpha1", "kind": "ImageIntegrityPolicy", "metadata": {"name": 1}, "spec": {}}`:                                                                                                             "cannot unmarshal number",
		`{"apiVersion": "boltseal.dev/v1alpha1", "kind": "ImageIntegrityPolicy", "metadata": {"name": "x"}, "spec": {"match": "every"}}`:                                                                                           "match",
		`{"apiVersion": "boltseal.dev/v1alpha1", "kind": "ImageIntegrityPolicy", "metadata": {"name": "x"}, "spec": {"excludedImages": ["*"]}}`:                                                                                    "excludedImages",
		`{"apiVersion": "boltseal.dev/v1alpha1", "kind": "ImageIntegrityPolicy", "metadata": {"name": "x"}, "spec": {"exemptions": [{"name": "e", "category": "Waiver", "namespaces": ["*"], "expirs": "2027-03-01T00:00:00Z"}]}}`: `unknown field (did you mean "expires"?)`,
	} {
		r := compile.DecodeObject([]byte(text))
		cluster := compile.NewCluster(compile.ClusterOptions{}, []compile.Entry{{Current: r}})
		_, standing := cluster.Compile(deps(), nil)
		st := standing[r.Key()]
		if st == nil || st.OK() || !strings.Contains(st.Problems.Error(), says) || st.Serving != compile.ServingStandIn && r.Key().Kind == "ImageIntegrityPolicy" {
			t.Errorf("%s: %+v", text, st)
		}
		if r.Key().Kind != "ImageIntegrityPolicy" {
			continue
		}
		// What is not understood demands as much as it could mean.
		if ps := cluster.Integrity(); len(ps) != 1 || ps[0].Action() != "deny" || ps[0].Excludes("ghcr.io/x/y:1") || len(ps[0].Exemptions()) > 0 {
			t.Errorf("%s: %+v", text, ps)
		}
	}
}

// TestWrongExemptions: an exemption that is not understood takes nothing out, and the others hold.
func TestWrongExemptions(t *testing.T) {
	t.Parallel()
	r := compile.DecodeObject([]byte(`{"apiVersion": "boltseal.dev/v1alpha1", "kind": "ImageIntegrityPolicy", "metadata": {"name": "x"}, "spec": {
		"enforcementAction": "warn", "exemptions": [{"name": "good", "category": "Waiver", "namespaces": ["shop"]}, {"name": "bad", "category": "Waived", "namespaces": ["lab"]},
		{"name": "wide", "category": "Waiver", "images": ["registry*"]}, {"name": "also", "category": "Mitigated", "images": ["reg.example/*"]}]}}`))
	c := compile.NewCluster(compile.ClusterOptions{}, []compile.Entry{{Current: r}})
	_, standing := c.Compile(deps(), nil)
	text := standing[r.Key()].Problems.Error()
	if !strings.Contains(text, "spec.exemptions[1].category") || !strings.Contains(text, "spec.exemptions[2].images") {
		t.Error(text)
	}
	var names []string
	for _, e := range c.Integrity()[0].Exemptions() {
		names = append(names, e.Name)
	}
	if !slices.Equal(names, []string{"also", "good"}) || c.Integrity()[0].Action() != "warn" {
		t.Errorf("in force: %q", names)
	}
}

// TestPoliciesOfNamespaces: a policy of a namespace selects nothing elsewhere,
// broken or not, and a broken edit leaves the last good one.
func TestPoliciesOfNamespaces(t *testing.T) {
	t.Parallel()
	policy := func(kind, name, spec string) string {
		return strings.Replace(doc(kind, name, "spec: {"+spec+"}\n"), "config.ratify.deislabs.io/v1beta1", "boltseal.dev/v1alpha1", 1)
	}
	k := newKube(t)
	in := func() string {
		c := compile.NewCluster(k.o, slices.Collect(maps.Values(k.entries)))
		var out []string
		for _, p := range c.Integrity() {
			out = append(out, p.Name()+" "+p.Owner()+" "+string(p.Action()))
		}
		slices.Sort(out)
		k.compile()
		return strings.Join(out, ", ")
	}
	for _, s := range []struct{ doc, want string }{
		{policy("ImageIntegrityPolicy", "all", "enforcementAction: warn"), "all  warn"},
		{policy("NamespacedImageIntegrityPolicy", "team/own", ""), "all  warn, team/own team deny"},
		{policy("NamespacedImageIntegrityPolicy", "team/own", "match: {namespaces: [other]}"), "all  warn, team/own team deny"},
		{policy("NamespacedImageIntegrityPolicy", "team/broken", "enforcementAction: never"), "all  warn, team/broken team deny, team/own team deny"},
		{policy("ImageIntegrityPolicy", "all", "enforcementAction: never"), "all  warn, team/broken team deny, team/own team deny"},
	} {
		k.apply(s.doc)
		if got := in(); got != s.want {
			t.Errorf("%s\nin force: %q, want %q", s.doc, got, s.want)
		}
	}
}
