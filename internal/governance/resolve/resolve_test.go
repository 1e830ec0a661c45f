package resolve

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	integrity "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/definition"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const (
	group  = "/subscriptions/S/resourceGroups/G"
	azure  = "af28bf8b-c669-4dd3-9137-1e68fdc61bd6"
	verify = "imageIntegrityNotationVerification"
	deploy = "deployAKSImageIntegrity"
)

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

func value(v any) v1alpha1.ParameterValue {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return v1alpha1.ParameterValue{Value: apiextensionsv1.JSON{Raw: b}}
}

func cluster(change ...func(*v1alpha1.ClusterSpec)) *v1alpha1.Cluster {
	c := &v1alpha1.Cluster{ObjectMeta: named("one"), Spec: v1alpha1.ClusterSpec{Scope: group, Location: "westeurope"}}
	for _, f := range change {
		f(&c.Spec)
	}
	return c
}

func assign(change ...func(*v1alpha1.PolicyAssignmentSpec)) v1alpha1.PolicyAssignment {
	a := v1alpha1.PolicyAssignment{ObjectMeta: named("deploy-trustedimages"), Spec: v1alpha1.PolicyAssignmentSpec{Scope: group, PolicyDefinitionID: azure}}
	for _, f := range change {
		f(&a.Spec)
	}
	return a
}

func set(name string, v any) func(*v1alpha1.PolicyAssignmentSpec) {
	return func(s *v1alpha1.PolicyAssignmentSpec) {
		if s.Parameters == nil {
			s.Parameters = map[string]v1alpha1.ParameterValue{}
		}
		s.Parameters[name] = value(v)
	}
}

func input(as ...v1alpha1.PolicyAssignment) Input {
	return Input{Library: definition.BuiltIns(), Assignments: as, Clock: func() time.Time { return now }}
}

// only returns the one demand.
func only(t *testing.T, in Input, c *v1alpha1.Cluster) (v1alpha1.Demand, Outcome) {
	t.Helper()
	r := New(in)
	if ps := r.Problems(); len(ps) > 0 {
		t.Fatalf("%+v", ps)
	}
	out := r.ForCluster(c)
	if len(out.Bundle.Demands) != 1 || len(out.Problems) > 0 {
		t.Fatalf("%+v", out)
	}
	return out.Bundle.Demands[0], out
}

// problem returns the reason of the one problem.
func problem(t *testing.T, in Input, c *v1alpha1.Cluster) Problem {
	t.Helper()
	r := New(in)
	out := r.ForCluster(c)
	ps := append(r.Problems(), out.Problems...)
	if len(ps) != 1 || ps[0].Message == "" {
		t.Fatalf("%+v", ps)
	}
	return ps[0]
}

func TestInitiative(t *testing.T) {
	t.Parallel()
	d, out := only(t, input(assign()), cluster())
	want := v1alpha1.Demand{Name: d.Name, Assignment: "deploy-trustedimages",
		AssignmentID: group + "/providers/policy.boltseal.dev/policyAssignments/deploy-trustedimages",
		DefinitionID: definition.VerifyImages, DefinitionReferenceID: verify, SetDefinitionID: definition.SetImageIntegrity,
		Effect: "Audit", EnforcementAction: integrity.DryRun, Match: d.Match, Source: d.Source, ExcludedImages: d.ExcludedImages}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("%+v\n%+v", d, want)
	}
	if len(out.Deployments) != 2 || out.Deployments[0].State != v1alpha1.NonCompliant || !out.Deployments[0].Automatic || !out.Deployments[0].Deploy.ImageIntegrity {
		t.Errorf("%+v", out.Deployments)
	}
	if d, _ := only(t, input(assign(set("effect", "Deny"))), cluster()); d.EnforcementAction != integrity.Deny {
		t.Errorf("%+v", d)
	}
	if out := New(input(assign(set("effect", "Disabled")))).ForCluster(cluster()); len(out.Bundle.Demands)+len(out.Deployments)+len(out.Problems) > 0 {
		t.Errorf("%+v", out)
	}
	there := true
	_, out = only(t, input(assign()), cluster(func(s *v1alpha1.ClusterSpec) {
		s.SecurityProfile.ImageIntegrity.Enabled, s.AddonProfiles.AzurePolicy.Enabled = &there, &there
	}))
	for _, d := range out.Deployments {
		if d.State != v1alpha1.Compliant {
			t.Errorf("%+v", d)
		}
	}
}

// TestDoNotEnforce: it reports, and neither denies nor deploys by itself.
func TestDoNotEnforce(t *testing.T) {
	t.Parallel()
	d, out := only(t, input(assign(set("effect", "Deny"), func(s *v1alpha1.PolicyAssignmentSpec) { s.EnforcementMode = v1alpha1.DoNotEnforce })), cluster())
	if d.EnforcementAction != integrity.DryRun || d.Effect != "Deny" || out.Deployments[0].Automatic || out.Deployments[0].State != v1alpha1.NonCompliant {
		t.Errorf("%+v", out)
	}
}

func TestWhere(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(*v1alpha1.PolicyAssignmentSpec){
		"another group":    func(s *v1alpha1.PolicyAssignmentSpec) { s.Scope = group + "2" },
		"not here":         func(s *v1alpha1.PolicyAssignmentSpec) { s.NotScopes = []string{group + "/clusters/ONE"} },
		"another location": func(s *v1alpha1.PolicyAssignmentSpec) { s.ResourceSelectors = located("eastus") },
	} {
		out := New(input(assign(f))).ForCluster(cluster())
		if len(out.Bundle.Demands)+len(out.Deployments)+len(out.Problems) > 0 {
			t.Errorf("%s: %+v", name, out)
		}
	}
	for name, f := range map[string]func(*v1alpha1.PolicyAssignmentSpec){
		"all":           func(s *v1alpha1.PolicyAssignmentSpec) { s.Scope = "/" },
		"subscription":  func(s *v1alpha1.PolicyAssignmentSpec) { s.Scope = "/SUBSCRIPTIONS/s" },
		"this location": func(s *v1alpha1.PolicyAssignmentSpec) { s.ResourceSelectors = located("westeurope") },
	} {
		if _, out := only(t, input(assign(f)), cluster()); len(out.Deployments) != 2 {
			t.Errorf("%s: %+v", name, out)
		}
	}
	nowhere := cluster(func(s *v1alpha1.ClusterSpec) { s.Location = "" })
	if p := problem(t, input(assign(func(s *v1alpha1.PolicyAssignmentSpec) { s.ResourceSelectors = located("westeurope") })), nowhere); p.Reason != ReasonUndecided {
		t.Errorf("%+v", p)
	}
	if p := problem(t, input(assign()), cluster(func(s *v1alpha1.ClusterSpec) { s.Scope = "/a//b" })); p.Reason != ReasonInvalidCluster {
		t.Errorf("%+v", p)
	}
}

func located(l string) []v1alpha1.ResourceSelector {
	return []v1alpha1.ResourceSelector{{Selectors: []v1alpha1.Selector{{Kind: "resourceLocation", In: []string{l}}}}}
}

func TestOverride(t *testing.T) {
	t.Parallel()
	d, _ := only(t, input(assign(func(s *v1alpha1.PolicyAssignmentSpec) {
		s.Overrides = []v1alpha1.Override{{Kind: "policyEffect", Value: "Deny",
			Selectors: []v1alpha1.Selector{{Kind: "policyDefinitionReferenceId", In: []string{verify}}}}}
		s.NonComplianceMessages = []v1alpha1.NonComplianceMessage{{Message: "ask security"}, {Message: "sign it", PolicyDefinitionReferenceID: verify}}
	})), cluster())
	if d.EnforcementAction != integrity.Deny || d.Message != "sign it" {
		t.Errorf("%+v", d)
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	for reason, f := range map[string]func(*v1alpha1.PolicyAssignmentSpec){
		ReasonDefinitionNotFound: func(s *v1alpha1.PolicyAssignmentSpec) { s.PolicyDefinitionID = "image-integrety" },
		ReasonInvalidParameters:  set("efect", "Deny"),
		ReasonInvalidAssignment:  func(s *v1alpha1.PolicyAssignmentSpec) { s.Scope = "/a/../b" },
		ReasonVersionNotFound:    func(s *v1alpha1.PolicyAssignmentSpec) { s.DefinitionVersion = "9.*.*" },
	} {
		if p := problem(t, input(assign(f)), cluster()); p.Reason != reason || p.Assignment == "" {
			t.Errorf("%s: %+v", reason, p)
		}
	}
}

func TestExemptions(t *testing.T) {
	t.Parallel()
	later, before := metav1.NewTime(now.Add(time.Hour)), metav1.NewTime(now)
	of := func(spec v1alpha1.PolicyExemptionSpec) Input {
		in := input(assign())
		if spec.PolicyAssignmentID == "" {
			spec.PolicyAssignmentID = "deploy-trustedimages"
		}
		spec.ExemptionCategory = "Waiver"
		in.Exemptions = []v1alpha1.PolicyExemption{{ObjectMeta: named("while"), Spec: spec}}
		return in
	}
	for name, c := range map[string]struct {
		spec       v1alpha1.PolicyExemptionSpec
		demand     int
		deployment v1alpha1.ComplianceState
	}{
		"all of it":          {v1alpha1.PolicyExemptionSpec{}, 1, v1alpha1.Exempt},
		"until later":        {v1alpha1.PolicyExemptionSpec{ExpiresOn: &later}, 1, v1alpha1.Exempt},
		"over":               {v1alpha1.PolicyExemptionSpec{ExpiresOn: &before}, 0, v1alpha1.NonCompliant},
		"the verification":   {v1alpha1.PolicyExemptionSpec{PolicyDefinitionReferenceIDs: []string{verify}}, 1, v1alpha1.NonCompliant},
		"the deployment":     {v1alpha1.PolicyExemptionSpec{PolicyDefinitionReferenceIDs: []string{deploy}}, 0, v1alpha1.Exempt},
		"another cluster":    {v1alpha1.PolicyExemptionSpec{Scope: group + "/clusters/two"}, 0, v1alpha1.NonCompliant},
		"within the cluster": {v1alpha1.PolicyExemptionSpec{Within: &v1alpha1.ExemptionWithin{Namespaces: []string{"legacy"}}}, 1, v1alpha1.NonCompliant},
		"by ID":              {v1alpha1.PolicyExemptionSpec{PolicyAssignmentID: group + "/providers/Microsoft.Authorization/policyAssignments/deploy-trustedimages"}, 1, v1alpha1.Exempt},
	} {
		d, out := only(t, of(c.spec), cluster())
		if len(d.Exemptions) != c.demand || out.Deployments[0].State != c.deployment || (c.deployment == v1alpha1.Exempt) == out.Deployments[0].Automatic {
			t.Errorf("%s: %+v %+v", name, d.Exemptions, out.Deployments)
		}
	}
	for name, spec := range map[string]v1alpha1.PolicyExemptionSpec{
		"no such assignment": {PolicyAssignmentID: "deploy-trusted"},
		"another scope":      {PolicyAssignmentID: "/providers/policy.boltseal.dev/policyAssignments/deploy-trustedimages"},
		"no such definition": {PolicyDefinitionReferenceIDs: []string{"x"}},
		"no scope":           {Scope: "/a//b"},
	} {
		if p := problem(t, of(spec), cluster()); p.Reason != ReasonInvalidExemption || p.Exemption != "while" {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// TestAzureOwn: the published initiative, which is a preview, takes effect where
// the features are registered that the document registers.
func TestAzureOwn(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../definition/testdata/*.json")
	if err != nil || len(files) != 4 {
		t.Fatal(files, err)
	}
	in := input(assign())
	lib := definition.BuiltIns()
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		objects, err := definition.Import("", b)
		if err != nil {
			t.Fatal(err)
		}
		if err := lib.Add(objects...); err != nil {
			t.Fatal(err)
		}
	}
	in.Library = lib
	r := New(in)
	if out := r.ForCluster(cluster()); len(out.Problems) == 0 || out.Problems[0].Reason != ReasonFeatureNotThere || len(out.Bundle.Demands) > 0 {
		t.Fatalf("%+v", out)
	}
	register := func(name, scope string) v1alpha1.FeatureRegistration {
		return v1alpha1.FeatureRegistration{ObjectMeta: named(strings.ToLower(name)), Spec: v1alpha1.FeatureRegistrationSpec{Name: name, Scope: scope}}
	}
	in.Features = []v1alpha1.FeatureRegistration{register(FeatureAzurePreview, "/subscriptions/S")}
	if out := New(in).ForCluster(cluster()); len(out.Bundle.Demands) > 0 {
		t.Error("one of two features is enough")
	}
	in.Features = append(in.Features, register(FeatureAzureData, "/subscriptions/s"))
	d, out := only(t, in, cluster())
	if d.EnforcementAction != integrity.DryRun || !strings.HasSuffix(d.DefinitionID, "/policyDefinitions/cf426bb8-b320-4321-8545-1b784a5df3a4") ||
		!strings.HasSuffix(d.SetDefinitionID, azure) || len(out.Deployments) != 2 {
		t.Errorf("%+v", out)
	}
	in.Features = []v1alpha1.FeatureRegistration{register(FeaturePreview, "")}
	only(t, in, cluster())
	in.Features[0].Spec.Namespace = "microsoft.containerservice"
	only(t, in, cluster())
	in.Features[0].Spec.Namespace = "Microsoft.Compute" // another feature of this name
	if out := New(in).ForCluster(cluster()); len(out.Bundle.Demands) > 0 {
		t.Errorf("%+v", out)
	}
}

// TestSame: the order in which objects are listed changes nothing.
func TestSame(t *testing.T) {
	t.Parallel()
	other := assign(set("effect", "Deny"))
	other.Name = "another"
	a, b := New(input(assign(), other)).ForCluster(cluster()), New(input(other, assign())).ForCluster(cluster())
	if !reflect.DeepEqual(a, b) || len(a.Bundle.Demands) != 2 {
		t.Errorf("%+v\n%+v", a, b)
	}
}
