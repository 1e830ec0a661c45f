package whatif

import (
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/definition"
	"github.com/boltseal/boltseal/internal/governance/resolve"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const image = "registry.example/app@sha256:abababababababababababababababababababababababababababababababab"

// assigned is the initiative at /, with these parameters in JSON.
func assigned(parameters ...string) []v1alpha1.PolicyAssignment {
	a := v1alpha1.PolicyAssignment{ObjectMeta: metav1.ObjectMeta{Name: "all"},
		Spec: v1alpha1.PolicyAssignmentSpec{Scope: "/", PolicyDefinitionID: definition.SetImageIntegrity, Parameters: map[string]v1alpha1.ParameterValue{}}}
	for i := 0; i < len(parameters); i += 2 {
		a.Spec.Parameters[parameters[i]] = v1alpha1.ParameterValue{Value: apiextensionsv1.JSON{Raw: []byte(parameters[i+1])}}
	}
	return []v1alpha1.PolicyAssignment{a}
}

func input(before, after []v1alpha1.PolicyAssignment, state v1alpha1.ComplianceState) Input {
	cluster := v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "one"}}
	s := State{Library: definition.BuiltIns(), At: now, Assignments: before}
	in := Input{Before: s, After: s, Clusters: []v1alpha1.Cluster{cluster}, Now: now}
	in.After.Assignments = after
	at := metav1.NewTime(now)
	report := v1alpha1.ClusterReport{ObjectMeta: metav1.ObjectMeta{Name: "one"}, Report: v1alpha1.ClusterReportContent{At: &at}}
	for _, d := range resolve.New(resolve.Input{Library: s.Library, Assignments: before}).ForCluster(&cluster).Bundle.Demands {
		report.Report.Demands = append(report.Report.Demands, v1alpha1.DemandReport{Name: d.Name, Violations: 1,
			Components: []v1alpha1.Component{{Namespace: "shop", Image: image, Pods: 1, State: state}}})
	}
	in.Reports = []v1alpha1.ClusterReport{report}
	return in
}

const (
	effect = "effect"
	deny   = `"Deny"`
)

func TestStricter(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, after []v1alpha1.PolicyAssignment
		state         v1alpha1.ComplianceState
		denied        int
		doubt         string
	}{
		"deny":                  {assigned(), assigned(effect, deny), v1alpha1.NonCompliant, 1, ""},
		"as before":             {assigned(effect, deny), assigned(effect, deny), v1alpha1.NonCompliant, 0, ""},
		"audit after deny":      {assigned(effect, deny), assigned(), v1alpha1.NonCompliant, 0, ""},
		"another namespace":     {assigned(), assigned(effect, deny, "excludedNamespaces", `["shop"]`), v1alpha1.NonCompliant, 0, ""},
		"an excluded image":     {assigned(), assigned(effect, deny, "excludedImages", `["registry.example/*"]`), v1alpha1.NonCompliant, 0, ""},
		"excluded by its tag":   {assigned(), assigned(effect, deny, "excludedImages", `["registry.example/app:v1"]`), v1alpha1.NonCompliant, 1, "tag"},
		"could not be checked":  {assigned(), assigned(effect, deny), v1alpha1.Unknown, 1, "checked"},
		"labels":                {assigned(), assigned(effect, deny, "labelSelector", `{"matchLabels":{"a":"b"}}`), v1alpha1.NonCompliant, 1, "labels"},
		"labels no longer":      {assigned(effect, deny, "labelSelector", `{"matchLabels":{"a":"b"}}`), assigned(effect, deny), v1alpha1.NonCompliant, 1, ""},
		"what is exempt anyway": {assigned(), assigned(effect, deny), v1alpha1.Exempt, 1, ""},
	} {
		r := Look(input(c.before, c.after, c.state))
		if len(r.Denied) != c.denied || len(r.Problems) > 0 {
			t.Errorf("%s: %+v", name, r)
			continue
		}
		if c.denied > 0 && (r.Denied[0].Certain != (c.doubt == "") || !strings.Contains(r.Denied[0].Doubt, c.doubt)) {
			t.Errorf("%s: %+v", name, r.Denied[0])
		}
	}
}

func gap(r Result, words string) bool {
	for _, g := range r.Gaps {
		if strings.Contains(g.Message, words) {
			return true
		}
	}
	return false
}

// TestGaps: what the evidence does not tell is said, and never taken for a no.
func TestGaps(t *testing.T) {
	t.Parallel()
	in := input(assigned(), assigned(effect, deny), v1alpha1.NonCompliant)
	if r := Look(in); len(r.Gaps) > 0 {
		t.Errorf("%+v", r)
	}
	old := in
	old.Now = now.Add(time.Hour)
	if r := Look(old); !gap(r, "is old") || len(r.Denied) != 1 {
		t.Errorf("%+v", r)
	}
	silent := in
	silent.Reports = nil
	if r := Look(silent); !gap(r, "has not reported") || len(r.Denied) > 0 {
		t.Errorf("%+v", r)
	}
	in.Reports[0].Report.Demands[0].Violations = 3
	if r := Look(in); !gap(r, "2 more Pods") {
		t.Errorf("%+v", r)
	}
	for name, before := range map[string][]v1alpha1.PolicyAssignment{
		"nothing":       nil,
		"all but shop":  assigned("excludedNamespaces", `["shop"]`),
		"some by label": assigned("labelSelector", `{"matchLabels":{"a":"b"}}`),
	} {
		if r := Look(input(before, assigned(effect, deny), v1alpha1.NonCompliant)); !gap(r, "no assignment checks all") {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestExemptionEnds(t *testing.T) {
	t.Parallel()
	in := input(assigned(effect, deny), assigned(effect, deny), v1alpha1.Exempt)
	end := metav1.NewTime(now.Add(time.Hour))
	for name, within := range map[string]*v1alpha1.ExemptionWithin{"cluster": nil, "namespace": {Namespaces: []string{"shop"}}, "image": {Images: []string{"registry.example/app*"}}} {
		e := v1alpha1.PolicyExemption{ObjectMeta: metav1.ObjectMeta{Name: "while"},
			Spec: v1alpha1.PolicyExemptionSpec{PolicyAssignmentID: "all", ExemptionCategory: "Waiver", ExpiresOn: &end, Within: within}}
		in.Before.Exemptions = []v1alpha1.PolicyExemption{e}
		in.After = in.Before
		if r := Look(in); len(r.Denied) > 0 {
			t.Errorf("%s, in force: %+v", name, r)
		}
		in.After.At = end.Time
		if r := Look(in); len(r.Denied) != 1 {
			t.Errorf("%s, over: %+v", name, r)
		}
		in.After = in.Before
		in.After.Exemptions = nil
		if r := Look(in); len(r.Denied) != 1 {
			t.Errorf("%s, gone: %+v", name, r)
		}
	}
}

// TestNarrowExemptions: what-if asks the very function that admission asks, and is in doubt where reports do not
// tell what it depends on.
func TestNarrowExemptions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		within v1alpha1.ExemptionWithin
		denied int
		doubt  bool
	}{
		"that image there":       {v1alpha1.ExemptionWithin{Namespaces: []string{"shop"}, Images: []string{"registry.example/app@*"}}, 0, false},
		"that image elsewhere":   {v1alpha1.ExemptionWithin{Namespaces: []string{"lab"}, Images: []string{"registry.example/app@*"}}, 1, false},
		"another image there":    {v1alpha1.ExemptionWithin{Namespaces: []string{"shop"}, Images: []string{"registry.example/app2*"}}, 1, false},
		"a tag of it":            {v1alpha1.ExemptionWithin{Images: []string{"registry.example/app:1"}}, 1, true},
		"a workload there":       {v1alpha1.ExemptionWithin{Namespaces: []string{"shop"}, Workloads: []string{"Deployment/web"}}, 1, true},
		"a workload elsewhere":   {v1alpha1.ExemptionWithin{Namespaces: []string{"lab"}, Workloads: []string{"Deployment/web"}}, 1, false},
		"a workload by a digest": {v1alpha1.ExemptionWithin{Namespaces: []string{"shop"}, Workloads: []string{"Deployment/web"}, Images: []string{"registry.example/other@*"}}, 1, false},
	} {
		in := input(assigned(), assigned(effect, deny), v1alpha1.NonCompliant)
		end := metav1.NewTime(now.Add(time.Hour))
		in.Before.Exemptions = []v1alpha1.PolicyExemption{{ObjectMeta: metav1.ObjectMeta{Name: "e"},
			Spec: v1alpha1.PolicyExemptionSpec{PolicyAssignmentID: "all", ExemptionCategory: "Waiver", ExpiresOn: &end, Within: &c.within}}}
		in.After.Exemptions = in.Before.Exemptions
		r := Look(in)
		if len(r.Problems) > 0 || len(r.Denied) != c.denied || c.denied == 1 && r.Denied[0].Certain == c.doubt {
			t.Errorf("%s: %+v", name, r)
		}
		in.After.At = end.Time
		if r := Look(in); len(r.Denied) != 1 || !r.Denied[0].Certain {
			t.Errorf("%s, over: %+v", name, r)
		}
	}
	in := input(assigned(), assigned(effect, deny), v1alpha1.NonCompliant)
	in.After.Exemptions = []v1alpha1.PolicyExemption{{ObjectMeta: metav1.ObjectMeta{Name: "anywhere"},
		Spec: v1alpha1.PolicyExemptionSpec{PolicyAssignmentID: "all", ExemptionCategory: "Waiver", Within: &v1alpha1.ExemptionWithin{Workloads: []string{"Deployment/web"}}}}}
	if r := Look(in); len(r.Problems) != 1 || r.Problems[0].Exemption != "anywhere" || len(r.Denied) != 1 {
		t.Errorf("%+v", r)
	}
}

func TestProblem(t *testing.T) {
	t.Parallel()
	if r := Look(input(assigned(), assigned(effect, `"deny!"`), v1alpha1.NonCompliant)); len(r.Problems) != 1 || r.Problems[0].Assignment != "all" {
		t.Errorf("%+v", r)
	}
}

// exempted is a change that takes an exemption of the namespace legacy away, in a
// cluster with that engine, which reports exempt Pods and names some of them.
func exempted(engine v1alpha1.Engine, exempt int32, components ...v1alpha1.Component) Input {
	in := input(assigned(effect, deny), assigned(effect, deny), v1alpha1.Compliant)
	exemption := v1alpha1.PolicyExemption{ObjectMeta: metav1.ObjectMeta{Name: "old"}, Spec: v1alpha1.PolicyExemptionSpec{PolicyAssignmentID: "all",
		ExemptionCategory: "Waiver", Within: &v1alpha1.ExemptionWithin{Namespaces: []string{"legacy"}}}}
	in.Before.Exemptions = []v1alpha1.PolicyExemption{exemption}
	in.Reports[0].Report.Engine = engine
	for i := range in.Reports[0].Report.Demands {
		d := &in.Reports[0].Report.Demands[i]
		d.State, d.Violations, d.Exempt, d.Components = v1alpha1.Compliant, 0, exempt, components
	}
	return in
}

// TestWithoutExemption: what an exemption covers is denied when it is gone, and where
// it is not known what it covers, that is told; it is never none.
func TestWithoutExemption(t *testing.T) {
	t.Parallel()
	component := v1alpha1.Component{Namespace: "legacy", Image: image, Pods: 2, State: v1alpha1.Exempt}
	if r := Look(exempted(v1alpha1.EngineBoltseal, 2, component)); len(r.Denied) != 1 || !r.Denied[0].Certain || len(r.Gaps) > 0 {
		t.Errorf("%+v", r)
	}
	if r := Look(exempted(v1alpha1.EngineBoltseal, 5, component)); len(r.Denied) != 1 || !gap(r, "3 more Pods run exempt images") {
		t.Errorf("%+v", r)
	}
	if r := Look(exempted(v1alpha1.EngineBoltseal, 5)); len(r.Denied) != 0 || !gap(r, "5 more Pods run exempt images") {
		t.Errorf("%+v", r)
	}
	in := exempted(v1alpha1.EngineBoltseal, 2, component)
	in.Reports[0].Report.Demands[0].ExemptOtherwise = 7 // of Pods that run a named one too
	if r := Look(in); !gap(r, "7 more images are exempt") {
		t.Errorf("%+v", r)
	}
	if r := Look(exempted(v1alpha1.EngineGatekeeper, 0)); !gap(r, "Gatekeeper does not check what is exempt") {
		t.Errorf("%+v", r)
	}
	same := exempted(v1alpha1.EngineGatekeeper, 0)
	same.After.Exemptions = same.Before.Exemptions
	if r := Look(same); len(r.Gaps) > 0 || len(r.Denied) > 0 {
		t.Errorf("nothing changes: %+v", r)
	}
	// The same by time.
	end := metav1.NewTime(now.Add(time.Hour))
	for _, engine := range []v1alpha1.Engine{v1alpha1.EngineBoltseal, v1alpha1.EngineGatekeeper} {
		in := exempted(engine, 2, component)
		in.Before.Exemptions[0].Spec.ExpiresOn = &end
		in.After.Exemptions, in.After.At = in.Before.Exemptions, now.Add(2*time.Hour)
		if r := Look(in); len(r.Denied) != 1 || gap(r, "Gatekeeper") != (engine == v1alpha1.EngineGatekeeper) {
			t.Errorf("%s: %+v", engine, r)
		}
	}
}

// TestNotLookedAt: an agent that has not judged yet has found nothing, which is not
// that there is nothing.
func TestNotLookedAt(t *testing.T) {
	t.Parallel()
	for _, state := range []v1alpha1.ComplianceState{v1alpha1.Unknown, v1alpha1.Conflict, v1alpha1.Failed} {
		in := input(assigned(), assigned(effect, deny), v1alpha1.NonCompliant)
		for i := range in.Reports[0].Report.Demands {
			d := &in.Reports[0].Report.Demands[i]
			d.State, d.Violations, d.Components, d.Message = state, 0, nil, "it is being put in place"
		}
		if r := Look(in); len(r.Denied) > 0 || !gap(r, "has not checked its images") {
			t.Errorf("%s: %+v", state, r)
		}
	}
	in := input(assigned(), assigned(effect, deny), v1alpha1.NonCompliant)
	in.Reports[0].Report.Demands[0].Unknown = 4
	if r := Look(in); !gap(r, "4 more Pods run images that could not be checked") {
		t.Errorf("%+v", r)
	}
}

// TestNotReportedOnYet: a cluster that reports, but not yet on the assignment that looks, is not one with nothing to deny.
func TestNotReportedOnYet(t *testing.T) {
	t.Parallel()
	in := input(assigned(), assigned(effect, deny), v1alpha1.NonCompliant)
	in.Reports[0].Report.Demands = []v1alpha1.DemandReport{{Name: "another", State: v1alpha1.Compliant}}
	if r := Look(in); !gap(r, "has not reported yet on an assignment") || len(r.Denied) > 0 {
		t.Errorf("%+v", r)
	}
}
