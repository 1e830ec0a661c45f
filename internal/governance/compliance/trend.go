package compliance

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

// MaxTrend bounds the points that are kept of an assignment.
const MaxTrend = 100

// A point stands for an hour; where nothing changes there is one a day.
const (
	trendHour = time.Hour
	trendDay  = 24 * time.Hour
)

// extendTrend returns the points with how far the clusters are now: in the last one while
// its hour lasts, in one of its own after that where something is otherwise or a day
// has passed. So a cluster that changes all the time costs no writes of its own, and
// pushes nothing old out. before is not changed.
func extendTrend(before []v1alpha1.TrendPoint, c *v1alpha1.Compliance, now time.Time) []v1alpha1.TrendPoint {
	compliant, unknown := c.Compliant, c.Unknown
	point := v1alpha1.TrendPoint{At: metav1.NewTime(now.UTC().Truncate(time.Second)), State: c.State, CompliantPercent: c.CompliantPercent, Clusters: c.Clusters,
		Compliant: &compliant, NonCompliant: c.NonCompliant, Unknown: &unknown}
	if len(before) == 0 {
		return []v1alpha1.TrendPoint{point}
	}
	last := before[len(before)-1]
	age := now.Sub(last.At.Time)
	same := point
	same.At = last.At
	switch {
	case equality.Semantic.DeepEqual(same, last) && age < trendDay:
		return before
	case age < trendHour: // a clock that was set back as well: time goes one way here
		out := slices.Clone(before)
		out[len(out)-1] = same
		return out
	}
	out := append(slices.Clone(before), point)
	return out[max(0, len(out)-MaxTrend):]
}
