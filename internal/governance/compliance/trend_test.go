package compliance

import (
	"testing"
	"time"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

func TestTrend(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	clusters := func(states ...v1alpha1.ComplianceState) []v1alpha1.Cluster {
		var out []v1alpha1.Cluster
		for _, s := range states {
			out = append(out, v1alpha1.Cluster{Status: v1alpha1.ClusterStatus{Assignments: []v1alpha1.AssignmentState{{Assignment: "a", State: s}}}})
		}
		return out
	}
	good, bad := clusters(v1alpha1.Compliant, v1alpha1.Compliant), clusters(v1alpha1.Compliant, v1alpha1.NonCompliant)
	var c *v1alpha1.Compliance
	step := func(after time.Duration, in []v1alpha1.Cluster, points int, percent string) {
		t.Helper()
		now = now.Add(after)
		before := c
		had := 0
		if before != nil {
			had = len(before.Trend)
		}
		c = ForAssignment("a", in, nil, before, clock)
		if len(c.Trend) != points || c.Trend[points-1].CompliantPercent != percent {
			t.Fatalf("%s: %+v", now, c.Trend)
		}
		if before != nil && len(before.Trend) != had {
			t.Fatal("what was reported before has changed")
		}
	}
	step(0, good, 1, "100.0")
	step(time.Minute, bad, 1, "50.0") // within its hour
	step(time.Minute, good, 1, "100.0")
	step(2*time.Hour, good, 1, "100.0") // nothing changed
	step(time.Minute, bad, 2, "50.0")
	if first := c.Trend[0]; first.State != v1alpha1.Compliant || first.NonCompliant != 0 || first.Clusters != 2 {
		t.Errorf("%+v", first)
	}
	step(23*time.Hour, bad, 2, "50.0")
	step(time.Hour, bad, 3, "50.0") // a day
	step(-48*time.Hour, good, 3, "100.0")
	now = now.Add(96 * time.Hour)
	for range 3 * MaxTrend {
		now = now.Add(2 * time.Hour)
		c = ForAssignment("a", bad, nil, c, clock)
		now = now.Add(2 * time.Hour)
		c = ForAssignment("a", good, nil, c, clock)
	}
	if len(c.Trend) != MaxTrend || c.Trend[MaxTrend-1].CompliantPercent != "100.0" || c.Trend[MaxTrend-2].CompliantPercent != "50.0" {
		t.Errorf("%d points", len(c.Trend))
	}
	for i := range c.Trend[1:] {
		if !c.Trend[i].At.Before(&c.Trend[i+1].At) {
			t.Fatalf("%d: %v is not before %v", i, c.Trend[i].At, c.Trend[i+1].At)
		}
	}
}
