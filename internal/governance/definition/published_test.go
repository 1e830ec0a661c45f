package definition

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

func TestPublishedFilesAreImportedUnmodified(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		fileAddOn: azureDeployPolicyAddOn, fileSet: azureSetImageIntegrity, fileIntegrity: azureDeployIntegrity, fileVerify: azureVerifyImages,
	} {
		o := imported(t, file)
		if o.Name() != want || (o.Set != nil) != (file == fileSet) {
			t.Errorf("%s: %s, initiative %v", file, o.Name(), o.Set != nil)
		}
	}
	var all []byte
	for _, file := range []string{fileAddOn, fileSet, fileIntegrity, fileVerify} {
		if all = append(all, ','); len(all) == 1 {
			all[0] = '['
		}
		all = append(all, published(t, file)...)
	}
	if objects, err := Import("", append(all, ']')); err != nil || len(objects) != 4 {
		t.Errorf("as a list: %d, %v", len(objects), err)
	}
	if _, err := Import("x", append(all, ']')); err == nil {
		t.Error("four definitions cannot have one name")
	}
}

func TestDeployDefinitions(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	for file, want := range map[string]Deploy{fileAddOn: {PolicyAddOn: true}, fileIntegrity: {ImageIntegrity: true, PolicyAddOn: true}} {
		b, err := compiled(t, file).Bind(nil, ClusterFields{Name: "c"})
		if err != nil {
			t.Fatal(err)
		}
		if b.Deploy != want || b.Effect != EffectDeployIfNotExists || b.Mode != ModeIndexed {
			t.Errorf("%s: %+v %s", file, b.Deploy, b.Effect)
		}
		if !b.Applies(ClusterFields{}) || b.Applies(ClusterFields{Type: "Microsoft.Kubernetes/connectedClusters"}) {
			t.Errorf("%s: applies to other clusters than it says", file)
		}
		none, off, on := ClusterFields{}, ClusterFields{ImageIntegrity: &no, PolicyAddOn: &no}, ClusterFields{ImageIntegrity: &yes, PolicyAddOn: &yes}
		if b.Exists(none) || b.Exists(off) || !b.Exists(on) {
			t.Errorf("%s: exists %v %v %v", file, b.Exists(none), b.Exists(off), b.Exists(on))
		}
		b, err = compiled(t, file).Bind(set("effect", `"Disabled"`), ClusterFields{})
		if err != nil || b.Effect != EffectDisabled {
			t.Errorf("%s: %v %v", file, b, err)
		}
	}
}

func TestVerificationIsBound(t *testing.T) {
	t.Parallel()
	d := compiled(t, fileVerify)
	b, err := d.Bind(nil, ClusterFields{Name: "c"})
	if err != nil {
		t.Fatal(err)
	}
	want := Match{APIGroups: []string{""}, Kinds: []string{"Pod"}, Namespaces: []string{}, ExcludedNamespaces: []string{"kube-system", "gatekeeper-system", "azure-arc", "azure-extensions-usage-system"}}
	if !reflect.DeepEqual(b.Match, want) || b.Effect != EffectAudit || b.Source != "Original" || b.Warn || len(b.ExcludedImages) != 0 {
		t.Errorf("%+v", b)
	}
	if b.Template.Name != ImageIntegrityTemplate || !b.Template.BuiltIn() || b.Template.URL != ImageIntegrityURL {
		t.Errorf("%+v", b.Template)
	}
	b, err = d.Bind(set("effect", `"Audit"`, "warn", `true`, "namespaces", `["a","b-*"]`, "excludedNamespaces", `[]`,
		"excludedImages", `["r.example.com/a:1","r.example.com/mesh/*"]`,
		"labelSelector", `{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"k","operator":"In","values":["v"]}]}`), ClusterFields{})
	if err != nil {
		t.Fatal(err)
	}
	sel := &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}, MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "k", Operator: "In", Values: []string{"v"}}}}
	if !reflect.DeepEqual(b.Match.LabelSelector, sel) || !b.Warn || !slices.Equal(b.Match.Namespaces, []string{"a", "b-*"}) || len(b.ExcludedImages) != 2 {
		t.Errorf("%+v", b)
	}
	if _, err := b.WithEffect("Deny"); err == nil {
		t.Error("Azure's definition cannot deny")
	}
	if o, err := b.WithEffect("disabled"); err != nil || o.Effect != EffectDisabled || b.Effect != EffectAudit {
		t.Errorf("%v %v", o, err)
	}
}

func TestInitiativeHandsParametersDown(t *testing.T) {
	t.Parallel()
	for name, l := range libraries(t) {
		entry, ok := l.Set(azureSetImageIntegrity)
		if !ok {
			t.Fatalf("%s: no initiative", name)
		}
		for effect, want := range map[string][]Effect{
			"Audit":    {EffectDeployIfNotExists, EffectDeployIfNotExists, EffectAudit},
			"Disabled": {EffectDisabled, EffectDisabled, EffectDisabled},
		} {
			refs, err := bindSet(entry.Object.Spec, set("effect", `"`+effect+`"`, "excludedImages", `["r.example.com/x*"]`))
			if err != nil {
				t.Fatal(name, err)
			}
			for i, id := range []string{"deployAKSImageIntegrity", "deployAKSPolicyAddOn", "imageIntegrityNotationVerification"} {
				d, ok := l.Definition(refs[i].DefinitionID)
				if !ok || refs[i].ID != id || !d.Matches(refs[i].DefinitionVersion) {
					t.Fatalf("%s: %+v, found %v", name, refs[i], ok)
				}
				b, err := d.Compiled.Bind(refs[i].Parameters, ClusterFields{Name: "c"})
				if err != nil {
					t.Fatal(name, err)
				}
				if b.Effect != want[i] || i == 2 && !slices.Equal(b.ExcludedImages, []string{"r.example.com/x*"}) {
					t.Errorf("%s: %s: %+v", name, id, b)
				}
			}
		}
	}
}

// libraries are what is built in, what Azure publishes, and Azure's initiative
// over the built-in definitions.
func libraries(t *testing.T) map[string]Library {
	azure, mixed := BuiltIns(), BuiltIns()
	if err := azure.Add(imported(t, fileAddOn), imported(t, fileSet), imported(t, fileIntegrity), imported(t, fileVerify)); err != nil {
		t.Fatal(err)
	}
	if err := mixed.Add(imported(t, fileSet)); err != nil {
		t.Fatal(err)
	}
	return map[string]Library{"built in": BuiltIns(), "Azure's": azure, "mixed": mixed}
}

// TestDeploymentsAreKnownInAnyLayout: a deployment is known by what it says, not by white space or the order of members,
// and a built-in definition's own is known, too.
func TestDeploymentsAreKnownInAnyLayout(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]Deploy{fileAddOn: {PolicyAddOn: true}, fileIntegrity: {ImageIntegrity: true, PolicyAddOn: true}} {
		var whole any // written again, its members are in another order
		if err := json.Unmarshal(published(t, file), &whole); err != nil {
			t.Fatal(err)
		}
		sorted, err := json.Marshal(whole)
		if err != nil {
			t.Fatal(err)
		}
		objects, err := Import("", sorted)
		if err != nil {
			t.Fatal(err)
		}
		var l Library
		if err := l.Add(objects...); err != nil {
			t.Fatal(err)
		}
		e, ok := l.Definition(objects[0].Name())
		if !ok {
			t.Fatalf("%s is not found", objects[0].Name())
		}
		if b, err := e.Compiled.Bind(nil, ClusterFields{Name: "c"}); err != nil || b.Deploy != want {
			t.Errorf("%s: %+v, %v", file, b.Deploy, err)
		}
	}
}

// bindSet is CompileSet and Bind in one.
func bindSet(spec v1alpha1.PolicySetDefinitionSpec, set map[string]v1alpha1.ParameterValue) ([]Reference, error) {
	s, err := CompileSet(spec)
	if err != nil {
		return nil, err
	}
	return s.Bind(set)
}
