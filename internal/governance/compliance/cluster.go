// Package compliance tells from what was demanded of clusters and what they report how far they are.
package compliance

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

// Limits on what is believed and told.
const (
	// StaleAfter without contact nothing is known of a cluster any more. Agents
	// report several times in it.
	StaleAfter = 10 * time.Minute
	// MaxSkew is how far ahead an agent's clock may be. A report from later than
	// that would never grow stale.
	MaxSkew = 5 * time.Minute
	// MaxDemands that are looked at, as in the bundle.
	MaxDemands = 200
	// MaxMessage and MaxReason are in bytes.
	MaxMessage = 1024
	MaxReason  = 128
)

// Reasons why a state is Unknown, where the agent gives none.
const (
	ReasonNoReport      = "NoReport"      // the agent never reported
	ReasonReportStale   = "ReportStale"   // it did not for StaleAfter
	ReasonClockSkew     = "ClockSkew"     // its report is from the future
	ReasonBundlePending = "BundlePending" // it reports about another generation of the bundle
	ReasonNotReported   = "NotReported"   // its report leaves the demand out
	ReasonNotUnderstood = "NotUnderstood" // it reports a state that nobody knows
	ReasonPodsUnknown   = "PodsUnknown"   // some Pods could not be judged
	ReasonPodsViolate   = "PodsViolate"   // some Pods run images that are not trusted
)

// Input is what is known of a cluster.
type Input struct {
	// Cluster itself; its status is the one before.
	Cluster *v1alpha1.Cluster
	// ID of the cluster, with its scope.
	ID string
	// Bundle that is demanded of it. Nil demands nothing.
	Bundle *v1alpha1.ClusterBundle
	// Report of its agent. Nil means that there is none yet.
	Report *v1alpha1.ClusterReport
	// Judged are the states of what the hub judges without the agent: whether the
	// cluster is to have the add-on.
	Judged []v1alpha1.AssignmentState
	// Clock tells the time; nil means time.Now.
	Clock func() time.Time
	// StaleAfter in place of the constant; 0 means the constant.
	StaleAfter time.Duration
}

// ForCluster returns the status that the cluster is to have. Conditions and the
// observed generation are those before; the assignments are in order of their
// names and references.
func ForCluster(in Input) v1alpha1.ClusterStatus {
	out := *in.Cluster.Status.DeepCopy()
	out.ID, out.Assignments, out.Compliance = in.ID, nil, nil
	var r v1alpha1.ClusterReportContent
	if in.Report != nil {
		r = in.Report.Report
	}
	out.LastSeen, out.AddOn, out.Version = r.At.DeepCopy(), r.AddOn.State, truncateText(r.Version, MaxReason)

	out.Assignments = slices.Clone(in.Judged)
	reason, message := contactProblem(in)
	var reports []v1alpha1.DemandReport
	if in.Bundle != nil {
		known := byName(r.Demands)
		for _, d := range in.Bundle.Spec.Demands[:min(MaxDemands, len(in.Bundle.Spec.Demands))] {
			s := v1alpha1.AssignmentState{Assignment: d.Assignment, PolicyDefinitionReferenceID: Reference(d), Effect: d.Effect}
			report, ok := known[d.Name]
			switch {
			case reason != "":
				s.State, s.Reason, s.Message = v1alpha1.Unknown, reason, message
			default:
				current := in.Report.Report.BundleGeneration == in.Bundle.Generation
				s.State, s.Reason, s.Message = evaluateDemand(report, ok, current)
				if ok {
					reports = append(reports, report)
					if current {
						s.Pods = countPods(report)
					}
				}
			}
			out.Assignments = append(out.Assignments, s)
		}
	}
	slices.SortStableFunc(out.Assignments, func(a, b v1alpha1.AssignmentState) int {
		if c := strings.Compare(a.Assignment, b.Assignment); c != 0 {
			return c
		}
		return strings.Compare(a.PolicyDefinitionReferenceID, b.PolicyDefinitionReferenceID)
	})
	if len(out.Assignments) > 0 {
		out.Compliance = sumTotals(out.Assignments, r, reports)
	}
	return out
}

// Reference is how states name a demand's definition: its reference ID in the
// initiative, or the definition's own name.
func Reference(d v1alpha1.Demand) string {
	if d.DefinitionReferenceID != "" {
		return d.DefinitionReferenceID
	}
	return d.DefinitionID[strings.LastIndexByte(d.DefinitionID, '/')+1:]
}

// Fresh reports whether the agent of a cluster is in contact.
func Fresh(in Input) bool {
	reason, _ := contactProblem(in)
	return reason == ""
}

// contactProblem is why nothing that a report says can be believed; "" means that it can.
func contactProblem(in Input) (reason, message string) {
	now, stale := clockOr(in.Clock)(), in.StaleAfter
	if stale <= 0 {
		stale = StaleAfter
	}
	if in.Report == nil || in.Report.Report.At == nil {
		return ReasonNoReport, "the cluster's agent has not reported yet; check whether it runs and reaches the hub"
	}
	switch at := in.Report.Report.At.Time; {
	case at.After(now.Add(MaxSkew)):
		return ReasonClockSkew, fmt.Sprintf("the agent's report is from %s, which is yet to come; set the clocks of the cluster and the hub", at.UTC().Format(time.RFC3339))
	case now.Sub(at) >= stale:
		return ReasonReportStale, fmt.Sprintf("the agent reported last at %s; check whether it runs and reaches the hub", at.UTC().Format(time.RFC3339))
	}
	return "", ""
}

func clockOr(clock func() time.Time) func() time.Time {
	if clock == nil {
		return time.Now
	}
	return clock
}

// byName has the worst report of each name: an agent that tells two things
// about one demand is not believed the better one.
func byName(reports []v1alpha1.DemandReport) map[string]v1alpha1.DemandReport {
	out := make(map[string]v1alpha1.DemandReport, len(reports))
	for _, r := range reports[:min(MaxDemands, len(reports))] {
		if old, ok := out[r.Name]; ok {
			a, _, _ := evaluateDemand(old, true, true)
			b, _, _ := evaluateDemand(r, true, true)
			if !graverState(b, a) {
				continue
			}
		}
		out[r.Name] = r
	}
	return out
}

// graverState is for two accounts of the same thing, where not knowing outweighs good news.
func graverState(a, b v1alpha1.ComplianceState) bool {
	order := []v1alpha1.ComplianceState{v1alpha1.NonCompliant, v1alpha1.Failed, v1alpha1.Conflict, v1alpha1.Unknown, v1alpha1.Exempt, v1alpha1.Compliant}
	return slices.Index(order, a) < slices.Index(order, b)
}

// evaluateDemand is what a report says of its demand. current says that it is about the
// bundle as it now is; what was good by another one is not known to be good.
func evaluateDemand(r v1alpha1.DemandReport, ok, current bool) (state v1alpha1.ComplianceState, reason, message string) {
	reason, message = truncateText(r.Reason, MaxReason), truncateText(r.Message, MaxMessage)
	switch {
	case !ok && !current:
		return v1alpha1.Unknown, ReasonBundlePending, "the cluster's agent has not yet taken up what is required now"
	case !ok:
		return v1alpha1.Unknown, ReasonNotReported, "the cluster's agent does not report this requirement; read its log"
	}
	state = r.State
	switch state {
	case v1alpha1.NonCompliant, v1alpha1.Conflict, v1alpha1.Failed, v1alpha1.Unknown:
	case v1alpha1.Compliant, v1alpha1.Exempt:
		switch {
		case r.Violations > 0 && state == v1alpha1.Compliant:
			state = v1alpha1.NonCompliant
			reason, message = firstNonEmpty(reason, ReasonPodsViolate), firstNonEmpty(message, fmt.Sprintf("%d Pods run images that are not trusted", r.Violations))
		case !current:
			return v1alpha1.Unknown, ReasonBundlePending, "the cluster's agent has not yet taken up what is required now"
		case r.Unknown > 0 && state == v1alpha1.Compliant:
			state = v1alpha1.Unknown
			reason, message = firstNonEmpty(reason, ReasonPodsUnknown), firstNonEmpty(message, fmt.Sprintf("%d Pods could not be checked", r.Unknown))
		}
	default:
		return v1alpha1.Unknown, ReasonNotUnderstood, fmt.Sprintf("the cluster's agent reports the state %q, which is not known here; upgrade the hub", truncateText(string(r.State), MaxReason))
	}
	return state, reason, message
}

func firstNonEmpty(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// truncateText cuts a text to at most n bytes, at a letter's edge.
func truncateText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// sumTotals adds up. One Pod may violate several demands: Violations and Unknown
// are at least the largest of one demand, more where the components that are
// named show it, and never more than the Pods or the sum.
func sumTotals(states []v1alpha1.AssignmentState, r v1alpha1.ClusterReportContent, reports []v1alpha1.DemandReport) *v1alpha1.ClusterTotals {
	t := &v1alpha1.ClusterTotals{State: worstOf(states), Pods: max(0, r.Pods)}
	t.Violations = sumPods(reports, t.Pods, v1alpha1.NonCompliant, func(d v1alpha1.DemandReport) int32 { return d.Violations })
	t.Unknown = sumPods(reports, t.Pods, v1alpha1.Unknown, func(d v1alpha1.DemandReport) int32 { return d.Unknown })
	return t
}

func sumPods(reports []v1alpha1.DemandReport, pods int32, state v1alpha1.ComplianceState, count func(v1alpha1.DemandReport) int32) int32 {
	type component struct{ namespace, image string }
	var most, sum, union int64
	seen := map[component]int64{}
	for _, r := range reports {
		n := int64(max(0, count(r)))
		most, sum = max(most, n), sum+n
		for _, c := range r.Components {
			if c.State == state {
				k := component{c.Namespace, c.Image}
				seen[k] = max(seen[k], int64(max(0, c.Pods)))
			}
		}
	}
	for _, n := range seen {
		union += n
	}
	return int32(min(max(most, union), sum, int64(pods)))
}

func worstOf(states []v1alpha1.AssignmentState) v1alpha1.ComplianceState {
	all := make([]v1alpha1.ComplianceState, len(states))
	for i, s := range states {
		all[i] = s.State
	}
	return RollUp(all...)
}
