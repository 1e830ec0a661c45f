package compile_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/boltseal/boltseal/internal/compile"
)

// advise says what would be said of a document that is written, or deleted.
func (k *kube) advise(text string, deleted, proven bool) string {
	k.t.Helper()
	b, err := yaml.YAMLToJSON([]byte(strings.TrimPrefix(text, "---\n")))
	if err != nil {
		k.t.Fatal(err)
	}
	a := compile.Advise(k.o, append([]compile.Entry{}, slices.Collect(maps.Values(k.entries))...), compile.Change{Next: compile.DecodeObject(b), Deleted: deleted, Proven: proven}, k.deps)
	var out []string
	for _, p := range append(a.Own, a.Others...) {
		out = append(out, p.Error())
	}
	return strings.Join(out, "\n")
}

func imagePolicy(name, spec string) string {
	return strings.Replace(doc("ImageIntegrityPolicy", name, "spec: {"+spec+"}\n"), "config.ratify.deislabs.io/v1beta1", "boltseal.dev/v1alpha1", 1)
}

func ownImagePolicy(name, spec string) string {
	return strings.Replace(doc("NamespacedImageIntegrityPolicy", name, "spec: {"+spec+"}\n"), "config.ratify.deislabs.io/v1beta1", "boltseal.dev/v1alpha1", 1)
}

// TestAdviceOnWhatIsWritten: each example of what is wrong is told, and of its right
// form nothing is.
func TestAdviceOnWhatIsWritten(t *testing.T) {
	t.Parallel()
	pem := chain(t).Root().PEM()
	whole := store("store", "") + kmp("roots", pem) + verifier("verifier", "roots")
	for name, c := range map[string]struct{ there, wrong, told, right string }{
		"a policy that denies, and nobody who is trusted": {store("store", ""), imagePolicy("p", ""), "there is no Verifier for them yet", imagePolicy("p", "enforcementAction: warn")},
		"a policy that denies, and nothing to read by":    {"", imagePolicy("p", ""), "there is no Store for them yet", imagePolicy("p", "enforcementAction: dryrun")},
		"a namespace's policy that denies":                {store("team/store", ""), ownImagePolicy("team/p", ""), "there is no Verifier for them yet", ownImagePolicy("team/p", "enforcementAction: warn")},
		"a parameter of a Store":                          {whole, store("other", "useHtp: true, scopes: [a.example]"), `spec.parameters.useHtp: unknown field (did you mean "useHttp"?)`, store("other", "useHttp: true, scopes: [a.example]")},
		"a parameter of a namespace's Store":              {whole, store("team/other", "scope: [a.example]"), `did you mean "scopes"?`, store("team/other", "scopes: [a.example]")},
		"a parameter of a Policy":                         {whole, policyDoc("ratify-policy", "default: som"), "is not any or all", policyDoc("ratify-policy", "default: any")},
		"a parameter of a namespace's Policy":             {whole, policyDoc("team/ratify-policy", "default: som"), "is not any or all", policyDoc("team/ratify-policy", "default: all")},
		"a provider's certificate":                        {whole, kmp("more", []byte("none")), "spec.parameters.value", kmp("more", pem)},
		"a namespace's provider":                          {whole, kmp("team/more", []byte("none")), "spec.parameters.value", kmp("team/more", pem)},
		"a CertificateStore":                              {whole, certStore("default/more", []byte("none")), "spec.parameters.value", certStore("default/more", pem)},
		"a provider that is not there":                    {whole, verifier("v", "rots"), `rots, which is not there (did you mean "roots"?)`, verifier("v", "roots")},
		"a namespace's Verifier":                          {whole, verifier("team/v", "rots"), `rots, which is not there (did you mean "roots"?)`, verifier("team/v", "roots")},
		"a policy for Pods alone":                         {whole, imagePolicy("p", "match: {kinds: [Pod]}"), "spec.match.kinds: it names Pod and not Deployment", imagePolicy("p", "match: {kinds: [Pod, Deployment]}")},
		"a namespace's policy for Pods alone":             {whole, ownImagePolicy("team/p", "match: {kinds: [Pod]}"), "it names Pod and not Deployment", ownImagePolicy("team/p", "match: {kinds: [Pod]}, enforcementAction: dryrun")},
		"what an older Store serves":                      {whole, store("other", ""), "the older Store still applies", store("other", "scopes: [a.example]")},
	} {
		k := newKube(t)
		k.apply(c.there)
		if got := k.advise(c.wrong, false, true); !strings.Contains(got, c.told) || strings.Contains(got, "\n") {
			t.Errorf("%s: %q", name, got)
		}
		if got := k.advise(c.right, false, true); got != "" {
			t.Errorf("%s, the right form: %q", name, got)
		}
		if got := k.advise(c.wrong, true, true); got != "" {
			t.Errorf("%s, deleted: %q", name, got)
		}
	}
}

// TestAdviceIsWhatTheStatusSays: the same finding in the same words, once it is there.
func TestAdviceIsWhatTheStatusSays(t *testing.T) {
	t.Parallel()
	pem := chain(t).Root().PEM()
	for _, text := range []string{
		store("other", "useHtp: true"), verifier("v", "rots"), verifier("team/v", "rots"), policyDoc("ratify-policy", "default: som"), kmp("more", []byte("none")),
		imagePolicy("p", "match: {kinds: [Pod]}"), imagePolicy("p", "match: {kinds: [Pod, Depoyment]}"), store("other", ""), imagePolicy("q", ""),
	} {
		k := newKube(t)
		k.apply(store("store", "") + kmp("roots", pem))
		want := k.advise(text, false, true)
		k.apply(text)
		_, standing := k.fresh()
		found := false
		for _, st := range standing {
			var said []string
			for _, p := range append(slices.Clone([]error{}), errorsOf(st)...) {
				said = append(said, p.Error())
			}
			found = found || want != "" && strings.Join(said, "\n") == want
		}
		if !found {
			t.Errorf("%s\nadvice %q", text, want)
		}
	}
}

func errorsOf(st *compile.Standing) (out []error) {
	for _, p := range st.Problems {
		out = append(out, p)
	}
	for _, p := range st.Warnings {
		out = append(out, p)
	}
	return out
}

// TestAdviceOnWhatIsDeleted: who still names it, and what nothing is left for.
func TestAdviceOnWhatIsDeleted(t *testing.T) {
	t.Parallel()
	pem := chain(t).Root().PEM()
	k := newKube(t)
	k.apply(store("store", "") + kmp("roots", pem) + kmp("spare", pem) + kmp("team/own", pem) + verifier("verifier", "roots") + verifier("team/v", "own") + verifier("other/w", "team/own") + imagePolicy("p", ""))
	for _, c := range []struct {
		text   string
		proven bool
		told   string
	}{
		{kmp("roots", pem), true, "still named by Verifier verifier,"},
		{kmp("roots", pem), false, "still named by Verifier verifier,"},
		{kmp("spare", pem), true, ""},
		{kmp("team/own", pem), true, "still named by NamespacedVerifier team/v and 1 more,"},
		{kmp("team/own", pem), false, "still named by 2 other resources,"},
		{verifier("verifier", "roots"), true, "without it there is no Verifier, and ImageIntegrityPolicy p will deny every image"},
		{verifier("team/v", "own"), true, ""},
		{store("store", ""), true, "without it there is no Store, and ImageIntegrityPolicy p will deny every image"},
		{imagePolicy("p", ""), true, ""},
	} {
		if got := k.advise(c.text, true, c.proven); got != c.told && (c.told == "" || !strings.Contains(got, c.told)) {
			t.Errorf("%s\n%q, want %q", c.text, got, c.told)
		}
	}
}

// TestAdviceTellsNothingOfNamespaces: who has not proven who they are may claim to be
// in any namespace.
func TestAdviceTellsNothingOfNamespaces(t *testing.T) {
	t.Parallel()
	pem := chain(t).Root().PEM()
	k := newKube(t)
	k.apply(store("store", "") + kmp("team/secretary", pem))
	for proven, told := range map[bool]bool{true: true, false: false} {
		if got := k.advise(verifier("team/v", "team/secretari"), false, proven); strings.Contains(got, "secretary") != told || !strings.Contains(got, "not there") {
			t.Errorf("proven %t: %q", proven, got)
		}
	}
}

// TestAdviceReadsNothing: neither a file nor what a provider has is looked at, nor is
// what was made of other resources touched.
func TestAdviceReadsNothing(t *testing.T) {
	t.Parallel()
	pem := chain(t).Root().PEM()
	k := newKube(t)
	k.apply(store("store", "") + kmp("roots", pem) + verifier("verifier", "roots"))
	compiled, _ := k.fresh()
	t.Cleanup(compiled.Close)
	here := t.TempDir() // it is there, and no certificate
	for _, text := range []string{
		store("other", "caFile: "+here+", scopes: [a.example]"), store("other", "scopes: [a.example], registries: [{host: a.example, caFile: "+here+"}]"),
		strings.Replace(verifier("v", "x"), "verificationCertStores: {certs: [x]}", "verificationCerts: ["+here+"]", 1),
		doc("KeyManagementProvider", "f", "spec: {type: file, parameters: {paths: ["+here+"]}}\n"),
		doc("KeyManagementProvider", "s", "spec: {type: secret, parameters: {name: s, namespace: ns}}\n"),
		store("other", "scopes: [a.example], authProvider: {name: azureWorkloadIdentity, clientID: 00000000-0000-0000-0000-000000000000}"),
	} {
		if got := k.advise(text, false, true); got != "" {
			t.Errorf("%s\n%q", text, got)
		}
	}
	// Of a cluster that is not known, or too large, only the text is looked at.
	b, err := json.Marshal(json.RawMessage(`{"apiVersion":"config.ratify.deislabs.io/v1beta1","kind":"Store","metadata":{"name":"x"},"spec":{"name":"oras","parameters":{"useHtp":true}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if a := compile.Advise(k.o, nil, compile.Change{Next: compile.DecodeObject(b)}, k.deps); len(a.Own) != 1 || len(a.Others) != 0 {
		t.Errorf("%+v", a)
	}
	none := compile.Advise(k.o, nil, compile.Change{Next: compile.DecodeObject(b), Deleted: true}, k.deps)
	if len(none.Own)+len(none.Others) > 0 {
		t.Errorf("%+v", none)
	}
}
