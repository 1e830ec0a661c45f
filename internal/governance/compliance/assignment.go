package compliance

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

// Limits on what the status of an assignment tells.
const (
	MaxFirst       = 20  // clusters by name
	MaxDefinitions = 200 // of an initiative
)

// ReasonNotJudged is why a cluster in the scope is Unknown that says nothing of
// the assignment.
const ReasonNotJudged = "NotJudged"

// stateOrder is the order in which states make up the state of many: the first that
// occurs. Azure ranks NonCompliant, Compliant, Conflict, Exempt, Unknown, so that
// one compliant cluster hides those that say nothing; here nothing hides them.
func stateOrder() []v1alpha1.ComplianceState {
	return []v1alpha1.ComplianceState{v1alpha1.NonCompliant, v1alpha1.Failed, v1alpha1.Conflict,
		v1alpha1.Unknown, v1alpha1.Compliant, v1alpha1.Exempt}
}

// RollUp is the state of many: the first of NonCompliant, Error, Conflict, Unknown,
// Compliant, Exempt that occurs, and Unknown of none.
func RollUp(states ...v1alpha1.ComplianceState) v1alpha1.ComplianceState {
	for _, r := range stateOrder() {
		if slices.Contains(states, r) {
			return r
		}
	}
	return v1alpha1.Unknown
}

// Counts of clusters in each state.
type Counts struct {
	Compliant, NonCompliant, Exempt, Conflict, Unknown, Error int32
}

// add counts a state; one that nobody knows is Unknown.
func (c *Counts) add(s v1alpha1.ComplianceState) {
	switch s {
	case v1alpha1.Compliant:
		c.Compliant++
	case v1alpha1.NonCompliant:
		c.NonCompliant++
	case v1alpha1.Exempt:
		c.Exempt++
	case v1alpha1.Conflict:
		c.Conflict++
	case v1alpha1.Failed:
		c.Error++
	default:
		c.Unknown++
	}
}

// KnownPercent is how many of the clusters whose state is known are compliant, in
// percent, rounded down to one digit: 100.0 only where all are. Exempt clusters count
// on neither side; one that is in conflict or in error is not compliant. "" means
// that there are none.
func (c Counts) KnownPercent() string {
	known := int64(c.Compliant) + int64(c.NonCompliant) + int64(c.Conflict) + int64(c.Error)
	if known <= 0 {
		return ""
	}
	return inTenths(int64(c.Compliant) * 1000 / known)
}

func inTenths(n int64) string { return fmt.Sprintf("%d.%d", n/10, n%10) }

// AzurePercent is Azure's: (Compliant + Exempt + Unknown) ÷ (Compliant + NonCompliant
// + Exempt + Conflict), rounded down to one digit. Unknown ones stand above the
// line only, so that it could pass 100: it is then 100.0, and 99.9 where anything
// is not as it should be. "" means that there is nothing below the line.
func (c Counts) AzurePercent() string {
	good := int64(c.Compliant) + int64(c.Exempt) + int64(c.Unknown)
	all := int64(c.Compliant) + int64(c.NonCompliant) + int64(c.Exempt) + int64(c.Conflict)
	if all <= 0 {
		return ""
	}
	most := int64(1000)
	if c.NonCompliant > 0 || c.Conflict > 0 || c.Error > 0 {
		most = 999
	}
	return inTenths(min(good*1000/all, most))
}

// ForAssignment returns how far the clusters are with the assignment of that
// name. A cluster counts where its status tells of the assignment, or where
// inScope (which may be nil) says that it should: it is Unknown then. before is
// what was told last, and gives ChangedAt where nothing changed. clock may be
// nil, for time.Now.
func ForAssignment(name string, clusters []v1alpha1.Cluster, inScope func(*v1alpha1.Cluster) bool, before *v1alpha1.Compliance, clock func() time.Time) *v1alpha1.Compliance {
	out := &v1alpha1.Compliance{}
	var counts Counts
	var states []v1alpha1.ComplianceState
	var not []v1alpha1.ClusterCompliance
	definitions := map[string][]v1alpha1.ComplianceState{}
	for i := range clusters {
		c := &clusters[i]
		own := make([]v1alpha1.AssignmentState, 0, 4)
		for _, s := range c.Status.Assignments {
			if s.Assignment == name {
				own = append(own, s)
			}
		}
		if len(own) == 0 {
			if inScope == nil || !inScope(c) {
				continue
			}
			own = append(own, v1alpha1.AssignmentState{State: v1alpha1.Unknown, Reason: ReasonNotJudged, Message: "the cluster has not reported on the assignment yet"})
		} else {
			for _, s := range own {
				definitions[s.PolicyDefinitionReferenceID] = append(definitions[s.PolicyDefinitionReferenceID], s.State)
			}
		}
		state := worstOf(own)
		counts.add(state)
		out.Pods = addPods(out.Pods, podsOf(own))
		states = append(states, state)
		if state != v1alpha1.Compliant && state != v1alpha1.Exempt {
			because := own[max(0, slices.IndexFunc(own, func(s v1alpha1.AssignmentState) bool { return s.State == state }))]
			not = append(not, v1alpha1.ClusterCompliance{Cluster: c.Name, State: state, Reason: because.Reason, Message: because.Message})
		}
	}
	out.Clusters = int32(len(states))
	out.Compliant, out.NonCompliant, out.Exempt = counts.Compliant, counts.NonCompliant, counts.Exempt
	out.Conflict, out.Unknown, out.Error = counts.Conflict, counts.Unknown, counts.Error
	out.State, out.CompliantPercent, out.AzurePercent = RollUp(states...), counts.KnownPercent(), counts.AzurePercent()
	out.Definitions = ofDefinitions(definitions)
	// What is wrong is not crowded out by what is not known.
	slices.SortFunc(not, func(a, b v1alpha1.ClusterCompliance) int {
		if c := slices.Index(stateOrder(), a.State) - slices.Index(stateOrder(), b.State); c != 0 {
			return c
		}
		return strings.Compare(a.Cluster, b.Cluster)
	})
	out.First = slices.Clip(not[:min(MaxFirst, len(not))])
	now := clockOr(clock)()
	if before != nil {
		out.ChangedAt, out.Trend = before.ChangedAt, before.Trend
		if equality.Semantic.DeepEqual(out, before) {
			out.Trend = extendTrend(before.Trend, out, now)
			return out
		}
	}
	out.ChangedAt = metav1.NewTime(now.UTC().Truncate(time.Second))
	out.Trend = extendTrend(out.Trend, out, now)
	return out
}

func ofDefinitions(states map[string][]v1alpha1.ComplianceState) []v1alpha1.DefinitionCompliance {
	var out []v1alpha1.DefinitionCompliance
	for reference, all := range states {
		var c Counts
		for _, s := range all {
			c.add(s)
		}
		out = append(out, v1alpha1.DefinitionCompliance{PolicyDefinitionReferenceID: reference,
			State: RollUp(all...), Compliant: c.Compliant, NonCompliant: c.NonCompliant})
	}
	slices.SortFunc(out, func(a, b v1alpha1.DefinitionCompliance) int {
		return strings.Compare(a.PolicyDefinitionReferenceID, b.PolicyDefinitionReferenceID)
	})
	return out[:min(MaxDefinitions, len(out))]
}
