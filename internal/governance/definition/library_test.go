package definition

import (
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

func TestVersions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, version string
		want             bool
	}{
		{"", "1.2.3", true}, {"", "", true}, {"1.*.*", "1.2.3", true}, {"1.*.*", "2.0.0", false}, {"1.2.*", "1.2.9", true}, {"1.2.*", "1.3.0", false},
		{"1.2.3", "1.2.3", true}, {"1.*.*", "1.2.3-preview", false}, {"1.*.*-preview", "1.2.0-PREVIEW", true}, {"1.*.*-PREVIEW", "1.2.0-preview", true},
		{"1.*.*-preview", "1.2.0", false}, {"1.*.*", "", true}, {"2.*.*", "", false}, {"1.*.*", "10.0.0", false}, {"*.*.*", "1.0.0", false},
		{"1.*.3", "1.2.3", false}, {"1.*", "1.2.3", false}, {"01.*.*", "1.0.0", false}, {"1.*.*-", "1.0.0", false}, {"1.*.*", "1.*.*", false}, {"x", "x", false},
	} {
		if got := MatchVersion(c.pattern, c.version); got != c.want {
			t.Errorf("%q %q: %v", c.pattern, c.version, got)
		}
	}
}

func TestLibraryFindsByNameIDAndAlias(t *testing.T) {
	t.Parallel()
	l := BuiltIns()
	for _, id := range []string{VerifyImages, "Image-Integrity-Verification", azureVerifyImages, "/providers/Microsoft.Authorization/policyDefinitions/" + azureVerifyImages, "/PROVIDERS/microsoft.authorization/POLICYDEFINITIONS/CF426BB8-b320-4321-8545-1b784a5df3a4"} {
		if e, ok := l.Definition(id); !ok || !e.BuiltIn || e.Object.Name != VerifyImages {
			t.Errorf("%s: %v", id, ok)
		}
	}
	for _, id := range []string{"", "/", "x", azureSetImageIntegrity, "/providers/Microsoft.Authorization/policySetDefinitions/" + azureVerifyImages} {
		if _, ok := l.Definition(id); ok {
			t.Errorf("%q is found", id)
		}
	}
	if _, ok := (Library{}).Set(SetImageIntegrity); ok {
		t.Error("found in an empty library")
	}
	if e, _ := l.Set(azureSetImageIntegrity); !e.Matches("1.*.*-preview") || !e.Matches("1.*.*") || e.Matches("2.*.*") {
		t.Error("versions of what is built in")
	}
	o := imported(t, fileVerify)
	if err := l.Add(o); err != nil {
		t.Fatal(err)
	}
	e, ok := l.Definition(azureVerifyImages)
	if !ok || e.BuiltIn || !e.Matches("1.1.*-preview") || e.Matches("1.0.*-preview") {
		t.Errorf("what was imported does not come first: %v %v", ok, e.BuiltIn)
	}
	if e, _ := l.Definition("/subscriptions/s/providers/Microsoft.Authorization/policyDefinitions/" + azureVerifyImages); e.Object.Name == azureVerifyImages {
		t.Error("another ID finds what was imported")
	}
	if l.Nearest("/x/image-integritty") != SetImageIntegrity {
		t.Error(l.Nearest("/x/image-integritty"))
	}
	o.Definition.Spec.PolicyRule = apiextensionsv1.JSON{Raw: []byte(`{}`)}
	if err := l.Add(o); err == nil {
		t.Error("what does not compile is added")
	}
	if e, ok := l.Definition(azureVerifyImages); ok && e.BuiltIn {
		t.Error("what is built in takes the place of what is broken")
	}
}

func TestBuiltInCanDeny(t *testing.T) {
	t.Parallel()
	e, _ := BuiltIns().Set(SetImageIntegrity)
	refs, err := e.Compiled.Bind(set("effect", `"Deny"`, "warn", `true`))
	if err != nil {
		t.Fatal(err)
	}
	d, _ := BuiltIns().Definition(refs[2].DefinitionID)
	b, err := d.Compiled.Bind(refs[2].Parameters, ClusterFields{})
	if err != nil || b.Effect != EffectDeny || !b.Warn || !b.Template.BuiltIn() || d.Compiled.Preview {
		t.Errorf("%+v %v", b, err)
	}
	if o, err := b.WithEffect("audit"); err != nil || o.Effect != EffectAudit {
		t.Error(err)
	}
}

func TestConditions(t *testing.T) {
	t.Parallel()
	yes := true
	c := FieldsOf(v1alpha1.Cluster{Spec: v1alpha1.ClusterSpec{Scope: "/subscriptions/S/resourceGroups/G", Location: "westEurope"}})
	c.Name, c.ImageIntegrity = "prod-1", &yes
	if c.ResourceGroup != "G" {
		t.Error(c.ResourceGroup)
	}
	for in, want := range map[string]bool{
		`{"field":"location","equals":"WestEurope"}`:  true,
		`{"field":"Name","in":["a","PROD-1"]}`:        true,
		`{"field":"name","notIn":["a"]}`:              true,
		`{"field":"name","notEquals":"prod-1"}`:       false,
		`{"field":"name","equals":"[field('name')]"}`: true,
		`{"field":"microsoft.containerservice/managedclusters/securityprofile.imageintegrity.enabled","equals":"True"}`: true,
		`{"field":"` + fieldNames[fieldPolicyAddOn] + `","equals":false}`:                                               false,
		`{"field":"` + fieldNames[fieldPolicyAddOn] + `","notEquals":true}`:                                             true,
		`{"field":"` + fieldNames[fieldPolicyAddOn] + `","exists":"false"}`:                                             true,
		`{"field":"location","exists":true}`:                                                                            true,
		`{"allOf":[{"field":"name","equals":"prod-1"},{"not":{"field":"location","equals":"x"}}]}`:                      true,
		`{"anyOf":[{"field":"name","equals":"x"},{"field":"location","equals":"x"}]}`:                                   false,
		`{"anyOf":[{"field":"name","equals":"x"},{"not":{"anyOf":[{"field":"name","in":["x"]}]}}]}`:                     true,
		`{"field":"name","in":"[parameters('names')]"}`:                                                                 true,
		`{"field":"type","equals":"[concat('Microsoft.ContainerService/', parameters('kind'))]"}`:                       true,
		`{"allOf":[{"field":"type","equals":"Microsoft.ContainerService/managedClusters"}]}`:                            true,
		`{"field":"type","in":["Microsoft.Kubernetes/connectedClusters"]}`:                                              false,
		`{"not":{"allOf":[{"field":"name","exists":true},{"field":"location","notEquals":"other"}]}}`:                   false,
	} {
		objects, err := Import("x", []byte(`{"mode":"Indexed","parameters":{"names":{"type":"array","defaultValue":["prod-1"]},"kind":{"type":"string","defaultValue":"managedclusters"}},"policyRule":{"if":`+in+`,"then":{"effect":"Audit"}}}`))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		d, err := Compile(objects[0].Definition.Spec)
		if err != nil {
			t.Fatal(err)
		}
		b, err := d.Bind(nil, c)
		if err != nil || b.Applies(c) != want || b.Exists(c) {
			t.Errorf("%s: %v, %v", in, b.Applies(c), err)
		}
	}
}
