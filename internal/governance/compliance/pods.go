package compliance

import "github.com/boltseal/boltseal/api/policy/v1alpha1"

// countPods is what a demand's report says of Pods, each counted once; nil where the
// cluster has not looked at them.
func countPods(d v1alpha1.DemandReport) *v1alpha1.PodCounts {
	switch d.State {
	case v1alpha1.Compliant, v1alpha1.NonCompliant, v1alpha1.Exempt:
	default:
		if d.Unknown <= 0 {
			return nil
		}
	}
	out := &v1alpha1.PodCounts{NotTrusted: max(0, d.Violations), Exempt: max(0, d.Exempt), Unknown: max(0, d.Unknown)}
	if d.Trusted != nil {
		trusted := max(0, *d.Trusted)
		out.Trusted = &trusted
	}
	return out
}

// podsOf are the Pods of a cluster as one of the definitions of an assignment sees
// them: the one by which most are not trusted, since they all look at the same Pods.
// Nil means that nothing is known by any of them.
func podsOf(states []v1alpha1.AssignmentState) (worst *v1alpha1.PodCounts) {
	for i := range states {
		if p := states[i].Pods; p != nil && (worst == nil || p.NotTrusted > worst.NotTrusted) {
			worst = p
		}
	}
	return worst
}

// addPods adds up the Pods of clusters. What is not known of one is not known of all
// together; a nil sum is that of no cluster, and a nil more adds nothing.
func addPods(sum, more *v1alpha1.PodCounts) *v1alpha1.PodCounts {
	switch {
	case more == nil:
		return sum
	case sum == nil:
		return more.DeepCopy()
	}
	sum.NotTrusted, sum.Exempt, sum.Unknown = addBounded(sum.NotTrusted, more.NotTrusted), addBounded(sum.Exempt, more.Exempt), addBounded(sum.Unknown, more.Unknown)
	if sum.Trusted == nil || more.Trusted == nil {
		sum.Trusted = nil
		return sum
	}
	*sum.Trusted = addBounded(*sum.Trusted, *more.Trusted)
	return sum
}

// addBounded adds what clusters tell, which may be any number.
func addBounded(a, b int32) int32 {
	return int32(min(int64(a)+int64(b), maxPods))
}

// maxPods is the most that is counted of Pods.
const maxPods = 1 << 30
