package compliance_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/compliance"
)

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return now }

func at(t time.Time) *metav1.Time { m := metav1.NewTime(t); return &m }

func input(generation int64, seen time.Time, reports ...v1alpha1.DemandReport) compliance.Input {
	return compliance.Input{
		Cluster: &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "c1"}}, ID: "/clusters/c1", Clock: clock,
		Bundle: &v1alpha1.ClusterBundle{ObjectMeta: metav1.ObjectMeta{Generation: 3}, Spec: v1alpha1.ClusterBundleSpec{Demands: []v1alpha1.Demand{
			{Name: "d1", Assignment: "b", DefinitionID: "/x/policyDefinitions/trusted", Effect: "Deny"},
		}}},
		Report: &v1alpha1.ClusterReport{Report: v1alpha1.ClusterReportContent{At: at(seen), BundleGeneration: generation, Pods: 10,
			AddOn: v1alpha1.AddOnReport{State: v1alpha1.AddOnInstalled}, Version: "1.0", Demands: reports}},
	}
}

func TestForCluster(t *testing.T) {
	t.Parallel()
	good := v1alpha1.DemandReport{Name: "d1", State: v1alpha1.Compliant}
	with := func(f func(*v1alpha1.DemandReport)) v1alpha1.DemandReport { r := good; f(&r); return r }
	for name, c := range map[string]struct {
		in     compliance.Input
		state  v1alpha1.ComplianceState
		reason string
	}{
		"compliant":    {input(3, now, good), v1alpha1.Compliant, ""},
		"nearly stale": {input(3, now.Add(-compliance.StaleAfter+time.Second), good), v1alpha1.Compliant, ""},
		"stale":        {input(3, now.Add(-compliance.StaleAfter), good), v1alpha1.Unknown, compliance.ReasonReportStale},
		"future":       {input(3, now.Add(compliance.MaxSkew+time.Second), good), v1alpha1.Unknown, compliance.ReasonClockSkew},
		"no contact":   {input(3, time.Time{}, good), v1alpha1.Unknown, compliance.ReasonReportStale},
		"left out":     {input(3, now), v1alpha1.Unknown, compliance.ReasonNotReported},
		"new demand":   {input(2, now), v1alpha1.Unknown, compliance.ReasonBundlePending},
		"older bundle": {input(2, now, good), v1alpha1.Unknown, compliance.ReasonBundlePending},
		"other bundle": {input(4, now, good), v1alpha1.Unknown, compliance.ReasonBundlePending},
		"older, bad":   {input(2, now, with(func(r *v1alpha1.DemandReport) { r.State = v1alpha1.NonCompliant })), v1alpha1.NonCompliant, ""},
		"violations":   {input(3, now, with(func(r *v1alpha1.DemandReport) { r.Violations = 1 })), v1alpha1.NonCompliant, compliance.ReasonPodsViolate},
		"not judged":   {input(3, now, with(func(r *v1alpha1.DemandReport) { r.Unknown = 1 })), v1alpha1.Unknown, compliance.ReasonPodsUnknown},
		"no state":     {input(3, now, with(func(r *v1alpha1.DemandReport) { r.State = "" })), v1alpha1.Unknown, compliance.ReasonNotUnderstood},
		"exempt":       {input(3, now, with(func(r *v1alpha1.DemandReport) { r.State = v1alpha1.Exempt; r.Violations = 2 })), v1alpha1.Exempt, ""},
		"twice":        {input(3, now, with(func(r *v1alpha1.DemandReport) { r.State = v1alpha1.NonCompliant }), good), v1alpha1.NonCompliant, ""},
		"twice, 2":     {input(3, now, good, with(func(r *v1alpha1.DemandReport) { r.State = v1alpha1.Unknown })), v1alpha1.Unknown, ""},
	} {
		s := compliance.ForCluster(c.in)
		if len(s.Assignments) != 1 || s.Compliance.State != c.state {
			t.Errorf("%s: %+v", name, s)
			continue
		}
		got := s.Assignments[0]
		if got.State != c.state || got.Reason != c.reason || got.PolicyDefinitionReferenceID != "trusted" || got.Effect != "Deny" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestForClusterNothingKnown(t *testing.T) {
	t.Parallel()
	in := input(3, now)
	in.Report = nil
	s := compliance.ForCluster(in)
	if s.Assignments[0].Reason != compliance.ReasonNoReport || s.LastSeen != nil || compliance.Fresh(in) {
		t.Errorf("%+v", s)
	}
	in.Bundle, in.Cluster.Status = nil, v1alpha1.ClusterStatus{Status: v1alpha1.Status{ObservedGeneration: 7}, Compliance: &v1alpha1.ClusterTotals{}}
	s = compliance.ForCluster(in)
	if s.Compliance != nil || len(s.Assignments) != 0 || s.ObservedGeneration != 7 {
		t.Errorf("%+v", s)
	}
	in.Judged = []v1alpha1.AssignmentState{{Assignment: "a", State: v1alpha1.NonCompliant}}
	if s = compliance.ForCluster(in); s.Compliance.State != v1alpha1.NonCompliant {
		t.Errorf("%+v", s)
	}
}

func TestTotals(t *testing.T) {
	t.Parallel()
	in := input(3, now)
	in.Bundle.Spec.Demands = append(in.Bundle.Spec.Demands, v1alpha1.Demand{Name: "d2", Assignment: "a"})
	report := func(name, image string, n int32) v1alpha1.DemandReport {
		return v1alpha1.DemandReport{Name: name, State: v1alpha1.NonCompliant, Violations: n,
			Components: []v1alpha1.Component{{Namespace: "n", Image: image, Pods: n, State: v1alpha1.NonCompliant}}}
	}
	for _, c := range []struct {
		reports []v1alpha1.DemandReport
		want    int32
	}{
		{[]v1alpha1.DemandReport{report("d1", "x", 3), report("d2", "x", 3)}, 3}, // the same Pods
		{[]v1alpha1.DemandReport{report("d1", "x", 3), report("d2", "y", 2)}, 5}, // others
		{[]v1alpha1.DemandReport{report("d1", "x", 9), report("d2", "y", 9)}, 10},
		{[]v1alpha1.DemandReport{report("d1", "x", -9)}, 0},
	} {
		in.Report.Report.Demands = c.reports
		s := compliance.ForCluster(in)
		if s.Compliance.Violations != c.want || s.Compliance.Pods != 10 {
			t.Errorf("%d violations of %+v", s.Compliance.Violations, c.reports)
		}
		if s.Assignments[0].Assignment != "a" {
			t.Error("not in order")
		}
	}
}

// TestKnownPercent: what is not known is on neither side, so that a cluster that is
// silent makes no number better.
func TestKnownPercent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want   string
		counts compliance.Counts
	}{
		{"", compliance.Counts{Unknown: 4, Exempt: 2}},
		{"0.0", compliance.Counts{NonCompliant: 1, Unknown: 1}}, // one bad cluster, and one that never reported
		{"50.0", compliance.Counts{Compliant: 1, NonCompliant: 1, Unknown: 98}},
		{"50.0", compliance.Counts{Compliant: 1, Conflict: 1, Exempt: 7}},
		{"50.0", compliance.Counts{Compliant: 1, Error: 1}},
		{"99.9", compliance.Counts{Compliant: 99999, NonCompliant: 1}},
		{"100.0", compliance.Counts{Compliant: 1, Unknown: 1}},
	} {
		if got := c.counts.KnownPercent(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.counts, got, c.want)
		}
		silent := c.counts
		silent.Unknown += 1000
		if got := silent.KnownPercent(); got != c.want {
			t.Errorf("%+v: silence makes it %q", c.counts, got)
		}
	}
}

func TestAzurePercent(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]compliance.Counts{
		"100.0": {Compliant: 3, Exempt: 1, Unknown: 9},
		"97.5":  {Compliant: 39, NonCompliant: 1},
		"66.6":  {Compliant: 2, Conflict: 1},
		"99.9":  {Compliant: 1, NonCompliant: 1, Unknown: 5},
		"0.0":   {NonCompliant: 1},
		"":      {Unknown: 4, Error: 1},
	} {
		if got := c.AzurePercent(); got != want {
			t.Errorf("%+v: %q, want %q", c, got, want)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		c := compliance.Counts{Compliant: r.Int32N(9), NonCompliant: r.Int32N(9), Exempt: r.Int32N(9), Conflict: r.Int32N(9), Unknown: r.Int32N(30), Error: r.Int32N(3)}
		text := c.AzurePercent()
		if text == "" {
			continue
		}
		p, err := strconv.ParseFloat(text, 64)
		if err != nil || p < 0 || p > 100 || p == 100 && c.NonCompliant+c.Conflict+c.Error > 0 {
			t.Fatalf("%+v: %q", c, text)
		}
	}
}

func TestRollUp(t *testing.T) {
	t.Parallel()
	order := []v1alpha1.ComplianceState{v1alpha1.NonCompliant, v1alpha1.Failed, v1alpha1.Conflict, v1alpha1.Unknown, v1alpha1.Compliant, v1alpha1.Exempt}
	for i, a := range order {
		for _, b := range order[i:] {
			if compliance.RollUp(b, a) != a {
				t.Errorf("%s, %s: %s", a, b, compliance.RollUp(b, a))
			}
		}
	}
	if compliance.RollUp() != v1alpha1.Unknown || compliance.RollUp("x") != v1alpha1.Unknown {
		t.Error("of nothing, something is known")
	}
}

func TestForAssignment(t *testing.T) {
	t.Parallel()
	var clusters []v1alpha1.Cluster
	add := func(states ...v1alpha1.ComplianceState) {
		c := v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("c%02d", len(clusters))}}
		for i, s := range states {
			c.Status.Assignments = append(c.Status.Assignments,
				v1alpha1.AssignmentState{Assignment: "a", PolicyDefinitionReferenceID: fmt.Sprint("r", i), State: s, Reason: "R" + string(s)},
				v1alpha1.AssignmentState{Assignment: "other", State: v1alpha1.NonCompliant})
		}
		clusters = append(clusters, c)
	}
	for range 25 {
		add(v1alpha1.Unknown)
	}
	add(v1alpha1.Compliant, v1alpha1.NonCompliant)
	add(v1alpha1.Compliant, v1alpha1.Compliant)
	add() // out of the scope, or not judged yet
	got := compliance.ForAssignment("a", clusters, nil, nil, clock)
	if got.Clusters != 27 || got.Unknown != 25 || got.NonCompliant != 1 || got.State != v1alpha1.NonCompliant || got.AzurePercent != "99.9" || got.CompliantPercent != "50.0" ||
		len(got.First) != compliance.MaxFirst || got.First[0].Cluster != "c25" || got.First[0].Reason != "RNonCompliant" || got.First[1].Cluster != "c00" {
		t.Errorf("%+v", got)
	}
	if d := got.Definitions; len(d) != 2 || d[1] != (v1alpha1.DefinitionCompliance{PolicyDefinitionReferenceID: "r1", State: v1alpha1.NonCompliant, Compliant: 1, NonCompliant: 1}) {
		t.Errorf("%+v", d)
	}
	later := func() time.Time { return now.Add(time.Hour) }
	if again := compliance.ForAssignment("a", clusters, nil, got, later); !reflect.DeepEqual(again, got) {
		t.Errorf("%+v", again)
	}
	all := compliance.ForAssignment("a", clusters, func(*v1alpha1.Cluster) bool { return true }, got, later)
	if all.Clusters != 28 || all.Unknown != 26 || !all.ChangedAt.Time.Equal(later()) {
		t.Errorf("%+v", all)
	}
	if none := compliance.ForAssignment("none", clusters, nil, nil, clock); none.Clusters != 0 || none.AzurePercent != "" || none.CompliantPercent != "" || none.State != v1alpha1.Unknown {
		t.Errorf("%+v", none)
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	status := func(s v1alpha1.ComplianceState) v1alpha1.ClusterStatus {
		if s == "" {
			return v1alpha1.ClusterStatus{}
		}
		return v1alpha1.ClusterStatus{Compliance: &v1alpha1.ClusterTotals{State: s}, Assignments: []v1alpha1.AssignmentState{{Assignment: "a", State: s}}}
	}
	const bad, good = v1alpha1.NonCompliant, v1alpha1.Compliant
	for _, c := range []struct {
		from, to v1alpha1.ComplianceState
		want     compliance.ChangeKind
	}{
		{"", bad, compliance.TurnedNonCompliant}, {good, bad, compliance.TurnedNonCompliant}, {bad, bad, ""},
		{bad, good, compliance.TurnedCompliant}, {bad, v1alpha1.Exempt, compliance.TurnedCompliant},
		{bad, v1alpha1.Unknown, ""}, {v1alpha1.Unknown, good, ""}, {"", good, ""}, {bad, "", ""},
	} {
		got := compliance.Changes("c1", status(c.from), status(c.to))
		if c.want == "" && len(got) == 0 {
			continue
		}
		if len(got) != 2 || got[0].Assignment != "" || got[1].Assignment != "a" || got[0].Kind != c.want || got[1].Kind != c.want || got[1].Cluster != "c1" {
			t.Errorf("%s to %s: %+v", c.from, c.to, got)
		}
	}
}

func TestExpiring(t *testing.T) {
	t.Parallel()
	end := now.Add(40 * 24 * time.Hour)
	e := []v1alpha1.PolicyExemption{{ObjectMeta: metav1.ObjectMeta{Name: "e", CreationTimestamp: *at(now)},
		Spec: v1alpha1.PolicyExemptionSpec{PolicyAssignmentID: "a", ExpiresOn: at(end)}}, {ObjectMeta: metav1.ObjectMeta{Name: "for-ever"}}}
	var got []string
	since := now
	for tick := now.Add(3 * time.Hour); tick.Before(end.Add(48 * time.Hour)); tick = tick.Add(3 * time.Hour) {
		for _, c := range compliance.Expiring(e, since, tick) {
			got = append(got, fmt.Sprint(c.Kind, c.Days))
			if c.Key() == "" {
				t.Error("no key")
			}
		}
		since = tick
	}
	if want := []string{"ExemptionExpiring30", "ExemptionExpiring7", "ExemptionExpiring1", "ExemptionExpired0"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	if c := compliance.Expiring(e, now, end.Add(-time.Hour)); len(c) != 1 || c[0].Days != 1 {
		t.Errorf("after a long absence: %+v", c)
	}
	if c := compliance.Expiring(e, time.Time{}, end.Add(time.Hour)); len(c) != 0 {
		t.Errorf("an end of the past: %+v", c)
	}
	e[0].CreationTimestamp = *at(end.Add(-5 * 24 * time.Hour))
	if c := compliance.Expiring(e, time.Time{}, end.Add(-4*24*time.Hour)); len(c) != 0 {
		t.Errorf("a notice before it was made: %+v", c)
	}
}

// TestPodsOfAssignment: Pods are those of clusters that reported, each counted once
// though several definitions look at it, and what one engine does not tell is not
// made up for another.
func TestPodsOfAssignment(t *testing.T) {
	t.Parallel()
	trusted := func(n int32) *int32 { return &n }
	cluster := func(name string, pods ...*v1alpha1.PodCounts) v1alpha1.Cluster {
		c := v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: name}}
		for _, p := range pods {
			c.Status.Assignments = append(c.Status.Assignments, v1alpha1.AssignmentState{Assignment: "a", State: v1alpha1.Compliant, Pods: p})
		}
		return c
	}
	bad := &v1alpha1.PodCounts{Trusted: trusted(90), NotTrusted: 9, Exempt: 1}
	good := &v1alpha1.PodCounts{Trusted: trusted(100)}
	gatekeeper := &v1alpha1.PodCounts{NotTrusted: 2}
	for name, c := range map[string]struct {
		clusters []v1alpha1.Cluster
		want     *v1alpha1.PodCounts
	}{
		"silent":               {[]v1alpha1.Cluster{cluster("x", nil)}, nil},
		"one":                  {[]v1alpha1.Cluster{cluster("x", bad), cluster("y", nil)}, bad},
		"two definitions":      {[]v1alpha1.Cluster{cluster("x", good, bad)}, bad},
		"two clusters":         {[]v1alpha1.Cluster{cluster("x", bad), cluster("y", good)}, &v1alpha1.PodCounts{Trusted: trusted(190), NotTrusted: 9, Exempt: 1}},
		"one does not tell":    {[]v1alpha1.Cluster{cluster("x", bad), cluster("y", gatekeeper)}, &v1alpha1.PodCounts{NotTrusted: 11, Exempt: 1}},
		"the first does not":   {[]v1alpha1.Cluster{cluster("x", gatekeeper), cluster("y", bad)}, &v1alpha1.PodCounts{NotTrusted: 11, Exempt: 1}},
		"more than are likely": {[]v1alpha1.Cluster{cluster("x", &v1alpha1.PodCounts{NotTrusted: 1<<31 - 1}), cluster("y", &v1alpha1.PodCounts{NotTrusted: 1<<31 - 1})}, &v1alpha1.PodCounts{NotTrusted: 1 << 30}},
	} {
		if got := compliance.ForAssignment("a", c.clusters, nil, nil, clock).Pods; !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	if *bad.Trusted != 90 || bad.NotTrusted != 9 {
		t.Errorf("what was added has changed: %+v", bad)
	}
}
