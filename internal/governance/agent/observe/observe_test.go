package observe

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/agent/apply"
	"github.com/boltseal/boltseal/internal/governance/render"
)

var now = time.Date(2026, 11, 24, 12, 30, 0, 0, time.UTC)

func newObserver(before []Sighting) *Observer {
	d := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		{Version: "v1", Resource: "pods"}: "PodList", {Group: openreports.GroupName, Version: "v1alpha1", Resource: "reports"}: "ReportList"})
	return New(Options{Dynamic: d, Clock: func() time.Time { return now }}, before)
}

func live(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return u
}

func policy(t *testing.T, status string) *unstructured.Unstructured {
	return live(t, `{"kind":"ImageIntegrityPolicy","metadata":{"name":"p","generation":2},"status":`+status+`}`)
}

func TestStates(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		standing apply.Standing
		engine   v1alpha1.Engine
		state    v1alpha1.ComplianceState
		reason   string
		counts   [4]int32 // Pods, Violations, Exempt, Unknown
	}{
		"a conflict":           {standing: apply.Standing{Outcome: render.Outcome{Reason: render.ConstraintTemplateConflicts}}, state: v1alpha1.Conflict, reason: "ConstraintTemplateConflicts"},
		"a name that is taken": {standing: apply.Standing{Outcome: render.Outcome{Reason: apply.PolicyNameConflicts}}, state: v1alpha1.Conflict, reason: "PolicyNameConflicts"},
		"invalid":              {standing: apply.Standing{Outcome: render.Outcome{Reason: render.InvalidConstraint}}, state: v1alpha1.Failed, reason: "InvalidConstraint"},
		"nothing yet":          {state: v1alpha1.Unknown, reason: ReasonNotProcessed},
		"not current":          {standing: apply.Standing{Live: policy(t, `{"observedGeneration":2,"audit":{"pods":1}}`)}, state: v1alpha1.Unknown, reason: ReasonNotProcessed},
		"another generation":   {standing: apply.Standing{Current: true, Live: policy(t, `{"observedGeneration":1,"audit":{"pods":1}}`)}, state: v1alpha1.Unknown, reason: ReasonNotProcessed},
		"no audit":             {standing: apply.Standing{Current: true, Live: policy(t, `{"observedGeneration":2}`)}, state: v1alpha1.Unknown, reason: ReasonNotProcessed},
		"broken":               {standing: apply.Standing{Current: true, Live: policy(t, `{"observedGeneration":2,"conditions":[{"type":"Ready","status":"False"}],"audit":{"pods":1}}`)}, state: v1alpha1.Failed, reason: "InvalidConstraint"},
		"compliant":            {standing: apply.Standing{Current: true, Live: policy(t, `{"observedGeneration":2,"audit":{"pods":3,"exempt":1}}`)}, state: v1alpha1.Compliant, counts: [4]int32{3, 0, 1, 0}},
		"pending":              {standing: apply.Standing{Current: true, Live: policy(t, `{"observedGeneration":2,"audit":{"pods":3,"pending":1,"unknown":1}}`)}, state: v1alpha1.Unknown, reason: "PodsUnknown", counts: [4]int32{3, 0, 0, 2}},
		"violations":           {standing: apply.Standing{Current: true, Live: policy(t, `{"observedGeneration":2,"audit":{"pods":3,"pending":1,"violations":2}}`)}, state: v1alpha1.NonCompliant, reason: "PodsViolate", counts: [4]int32{3, 2, 0, 1}},
		"exempt":               {standing: apply.Standing{Current: true, Outcome: render.Outcome{Exempt: true}, Live: policy(t, `{"observedGeneration":2,"audit":{"pods":3,"violations":2}}`)}, state: v1alpha1.Exempt, reason: "Exempt", counts: [4]int32{3, 0, 2, 0}},
		"an audit before the change": {engine: v1alpha1.EngineGatekeeper, standing: apply.Standing{Current: true, Live: live(t, `{"kind":"K","metadata":{"name":"c","creationTimestamp":"2026-11-24T12:29:00Z"},"status":{"auditTimestamp":"2026-11-24T12:28:00Z","totalViolations":0}}`)},
			state: v1alpha1.Unknown, reason: ReasonNotProcessed},
		"a stale audit": {engine: v1alpha1.EngineGatekeeper, standing: apply.Standing{Current: true, Live: live(t, `{"kind":"K","metadata":{"name":"c","creationTimestamp":"2026-11-24T01:00:00Z"},"status":{"auditTimestamp":"2026-11-24T11:30:00Z","totalViolations":0}}`)},
			state: v1alpha1.Unknown, reason: ReasonStale},
		"Gatekeeper's violations": {engine: v1alpha1.EngineGatekeeper, standing: apply.Standing{Current: true, Live: live(t, `{"kind":"K","metadata":{"name":"c","creationTimestamp":"2026-11-24T01:00:00Z"},"status":{"auditTimestamp":"2026-11-24T12:29:00Z","totalViolations":40,
			"violations":[{"kind":"Pod","namespace":"web","name":"a","message":"container \"a\": image r.example:5000/x/y:1@sha256:`+strings.Repeat("a", 64)+` is not trusted: no signature"}]}}`)},
			state: v1alpha1.NonCompliant, reason: "PodsViolate", counts: [4]int32{0, 40, 0, 0}},
		"Gatekeeper refuses": {engine: v1alpha1.EngineGatekeeper, standing: apply.Standing{Current: true, Live: live(t, `{"kind":"K","metadata":{"name":"c","generation":3},"status":{"byPod":[{"observedGeneration":3,"errors":[{"message":"no"}]}]}}`)},
			state: v1alpha1.Failed, reason: "InvalidConstraint"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.engine == "" {
				c.engine = v1alpha1.EngineBoltseal
			}
			c.standing.Demand = "d"
			got := newObserver(nil).Observe(t.Context(), &apply.Result{Engine: c.engine, Standings: []apply.Standing{c.standing}}).Demands[0]
			if got.State != c.state || got.Reason != c.reason || [4]int32{got.Pods, got.Violations, got.Exempt, got.Unknown} != c.counts || got.Name != "d" {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestComponentsKeepTheirTimes(t *testing.T) {
	t.Parallel()
	r := &apply.Result{Engine: v1alpha1.EngineBoltseal, Standings: []apply.Standing{{Outcome: render.Outcome{Demand: "d"}, Current: true,
		Live: policy(t, `{"observedGeneration":2,"audit":{"pods":3,"violations":1,"violatingImages":1,"first":[{"namespace":"web","image":"i","pods":1,"pod":"p"}]}}`)}}}
	ob := newObserver(nil)
	first := ob.Observe(t.Context(), r).Demands[0].Components[0]
	if !first.FirstSeen.Time.Equal(now) || !first.LastSeen.Time.Equal(now) || !ob.News() {
		t.Errorf("%+v", first)
	}
	memory := ob.Memory()
	if len(memory) != 1 || ob.News() {
		t.Fatalf("%+v", memory)
	}
	b, err := json.Marshal(memory)
	if err != nil {
		t.Fatal(err)
	}
	var back []Sighting
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, memory) {
		t.Fatalf("%v %+v", err, back)
	}
	later := New(Options{Dynamic: newObserver(nil).o.Dynamic, Clock: func() time.Time { return now.Add(2 * time.Hour) }}, back)
	// Between two audits nothing is named; what was seen is not forgotten.
	later.Observe(t.Context(), &apply.Result{Engine: v1alpha1.EngineBoltseal, Standings: []apply.Standing{{Outcome: render.Outcome{Demand: "d"}}}})
	if c := later.Observe(t.Context(), r).Demands[0].Components[0]; !c.FirstSeen.Time.Equal(now) || !c.LastSeen.Time.Equal(now.Add(90*time.Minute)) || later.News() {
		t.Errorf("%+v", c)
	}
	longAfter := New(Options{Dynamic: newObserver(nil).o.Dynamic, Clock: func() time.Time { return now.Add(100 * time.Hour) }}, back)
	longAfter.Observe(t.Context(), &apply.Result{Engine: v1alpha1.EngineBoltseal})
	if len(longAfter.Memory()) != 0 {
		t.Error("nothing is forgotten")
	}
}

// TestBound has as much to tell as there may be.
func TestBound(t *testing.T) {
	t.Parallel()
	var c v1alpha1.ClusterReportContent
	for n := range 200 {
		d := v1alpha1.DemandReport{Name: fmt.Sprintf("%063d", n), State: v1alpha1.NonCompliant, Reason: strings.Repeat("R", 128), Message: strings.Repeat("m", 1024), Violations: int32(n)}
		for k := range 100 {
			d.Components = append(d.Components, v1alpha1.Component{Namespace: strings.Repeat("n", 63), Image: fmt.Sprintf("%0512d", k), Pod: strings.Repeat("p", 253),
				State: v1alpha1.NonCompliant, Reason: "r", Message: strings.Repeat("m", 256), FirstSeen: metav1.NewTime(now), LastSeen: metav1.NewTime(now)})
		}
		c.Demands = append(c.Demands, d)
	}
	got := Bound(c)
	if n := contentSize(got); n > MaxReportBytes || n > 100<<10 {
		t.Errorf("%d bytes", n)
	}
	if len(got.Demands) != 200 || got.Demands[7].Violations != 7 || got.Demands[7].State != v1alpha1.NonCompliant {
		t.Errorf("%+v", got.Demands[7])
	}
	if len(c.Demands[0].Components) != 100 || len(c.Demands[0].Message) != 1024 {
		t.Error("what was given was changed")
	}
	small := v1alpha1.ClusterReportContent{Demands: c.Demands[:1]}
	if got := Bound(small); len(got.Demands[0].Components) == 0 || contentSize(got) > MaxReportBytes {
		t.Errorf("%d components, %d bytes", len(got.Demands[0].Components), contentSize(got))
	}
}

func TestImageIn(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		`container "a": image ghcr.io/x/y:1 is not trusted: why`: "ghcr.io/x/y:1",
		`image docker.io/library/nginx is not trusted`:           "docker.io/library/nginx",
		`nothing to see`: "",
		``:               "",
	} {
		if got := imageIn(message); got != want {
			t.Errorf("%q: %q, want %q", message, got, want)
		}
	}
}

// TestReportResultsOfOneImage: a report has a result for each workload, a component
// is an image in a namespace with all of its Pods.
func TestReportResultsOfOneImage(t *testing.T) {
	t.Parallel()
	result := func(image, workload, pods, outcome string, seconds int64) *openreports.ReportResult {
		return &openreports.ReportResult{Result: openreports.Result(outcome), Timestamp: metav1.Timestamp{Seconds: seconds},
			Subjects: []corev1.ObjectReference{{Kind: "Deployment", Name: workload}}, Properties: map[string]string{"image": image, "pods": pods, "cause": "nothing-signed"}}
	}
	var all []v1alpha1.Component
	for _, r := range []*openreports.ReportResult{result("a", "x", "2", "fail", 30), result("a", "y", "3", "fail", 20), result("a", "z", "5", "skip", 10), result("b", "x", "1", "fail", 10)} {
		c, ok := componentOf("shop", r)
		if !ok {
			t.Fatalf("%+v", r)
		}
		all = addComponent(all, c)
	}
	if len(all) != 3 || all[0].Pods != 5 || all[0].FirstSeen.Unix() != 20 || all[0].Pod != "Deployment/x" || all[1].State != v1alpha1.Exempt || all[1].Pods != 5 || all[2].Image != "b" {
		t.Errorf("%+v", all)
	}
	for i := range 3 * MaxComponents {
		c, _ := componentOf(fmt.Sprintf("n%d", i), result("a", "x", "1", "fail", 10))
		all = addComponent(all, c)
	}
	if len(all) != 2*MaxComponents {
		t.Errorf("%d components", len(all))
	}
}

// TestExemptWithoutReports: what is exempt is told though the cluster knows no
// OpenReports, and what is not named is counted.
func TestExemptWithoutReports(t *testing.T) {
	t.Parallel()
	ob := newObserver(nil)
	var d v1alpha1.DemandReport
	ob.boltseal(&d, &apply.Standing{Current: true, Live: policy(t, `{"observedGeneration":2,"audit":{"pods":9,"exempt":4,"violations":1,"unknown":1,"exemptOtherwise":5,
		"firstExempt":[{"namespace":"legacy","image":"a","pods":2,"pod":"p"}]}}`)})
	if len(d.Components) != 1 || d.Components[0].State != v1alpha1.Exempt || d.Components[0].Pods != 2 || d.ExemptOtherwise != 5 || d.Trusted == nil || *d.Trusted != 3 {
		t.Errorf("%+v", d)
	}
	nameFirst(&d, 0)
	if len(d.Components) != 0 || d.ExemptOtherwise != 6 {
		t.Errorf("%+v", d)
	}
}
