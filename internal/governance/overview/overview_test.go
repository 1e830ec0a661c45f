package overview

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

// input has two clusters and two assignments that both look at the same images,
// and a report of a cluster that is not registered.
func input() Input {
	at := metav1.NewTime(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC))
	var in Input
	for _, name := range []string{"b", "a", "stranger"} {
		meta := metav1.ObjectMeta{Name: name}
		if name != "stranger" {
			in.Clusters = append(in.Clusters, v1alpha1.Cluster{ObjectMeta: meta})
		}
		r := v1alpha1.ClusterReport{ObjectMeta: meta}
		b := v1alpha1.ClusterBundle{ObjectMeta: meta}
		for _, d := range []string{"one", "two"} {
			b.Spec.Demands = append(b.Spec.Demands, v1alpha1.Demand{Name: d, Assignment: d, DefinitionReferenceID: "verify"})
			r.Report.Demands = append(r.Report.Demands, v1alpha1.DemandReport{Name: d, Violations: 5, Components: []v1alpha1.Component{
				{Namespace: "shop", Image: "x@sha256:1", Pods: 3, State: v1alpha1.NonCompliant, FirstSeen: at, LastSeen: at},
				{Namespace: "web", Image: "x@sha256:1", Pods: 1, State: v1alpha1.Exempt, FirstSeen: metav1.NewTime(at.Add(-time.Hour)), LastSeen: at}}})
		}
		r.Report.Demands = append(r.Report.Demands, v1alpha1.DemandReport{Name: "gone", Violations: 9})
		in.Bundles, in.Reports = append(in.Bundles, b), append(in.Reports, r)
	}
	return in
}

func TestComponents(t *testing.T) {
	t.Parallel()
	in := input()
	cs, more := Components(in)
	if len(cs) != 8 || more != 8 || cs[0].Cluster != "a" || cs[0].Namespace != "shop" || cs[0].Assignment != "one" || cs[0].Reference != "verify" {
		t.Errorf("%d %+v", more, cs)
	}
	for name, f := range map[string]Filter{
		"an assignment":  {Assignment: "one", Namespace: "shop"},
		"a cluster":      {Cluster: "b", Namespace: "shop"},
		"since and name": {Cluster: "b", Image: "x@", Since: cs[0].FirstSeen},
	} {
		in.Filter = f
		if cs, _ := Components(in); len(cs) != 2 {
			t.Errorf("%s: %+v", name, cs)
		}
	}
}

// TestGroups: what two assignments report of is counted once.
func TestGroups(t *testing.T) {
	t.Parallel()
	cs, _ := Components(input())
	images := Images(cs)
	if len(images) != 1 || images[0].Pods != 8 || images[0].Clusters != 2 || images[0].State != v1alpha1.NonCompliant || images[0].FirstSeen.Equal(images[0].LastSeen) {
		t.Errorf("%+v", images)
	}
	ns := Namespaces(cs)
	if len(ns) != 4 || ns[0].Cluster != "a" || ns[0].Name != "shop" || ns[0].Pods != 3 || ns[2].State != v1alpha1.Exempt {
		t.Errorf("%+v", ns)
	}
}

func TestRows(t *testing.T) {
	t.Parallel()
	in := input()
	in.Clusters[0].Status.Assignments = []v1alpha1.AssignmentState{{Assignment: "one", State: v1alpha1.Compliant}}
	if rows := Clusters(in); len(rows) != 2 || rows[0].Cluster != "a" || rows[0].State != v1alpha1.Unknown || rows[1].State != v1alpha1.Compliant {
		t.Errorf("%+v", rows)
	}
	in.Assignments = []v1alpha1.PolicyAssignment{{ObjectMeta: metav1.ObjectMeta{Name: "two"}}, {ObjectMeta: metav1.ObjectMeta{Name: "one"},
		Status: v1alpha1.PolicyAssignmentStatus{Compliance: &v1alpha1.Compliance{State: v1alpha1.Compliant, CompliantPercent: "100.0", AzurePercent: "90.0", Clusters: 1}}}}
	if rows := Assignments(in); len(rows) != 2 || rows[0].CompliantPercent != "100.0" || rows[0].AzurePercent != "90.0" || rows[1].State != v1alpha1.Unknown {
		t.Errorf("%+v", rows)
	}
}
