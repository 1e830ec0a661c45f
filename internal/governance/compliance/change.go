package compliance

import (
	"fmt"
	"time"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

// ChangeKind is a word for what happened.
type ChangeKind string

// The kinds of changes that somebody is told of.
const (
	TurnedNonCompliant ChangeKind = "TurnedNonCompliant"
	TurnedCompliant    ChangeKind = "TurnedCompliant" // after it was not, also by an exemption
	ExemptionExpiring  ChangeKind = "ExemptionExpiring"
	ExemptionExpired   ChangeKind = "ExemptionExpired"
)

// Change is what somebody is told of.
type Change struct {
	Kind ChangeKind
	// Cluster, and the assignment and reference in it. An empty Assignment is all
	// of the cluster's together.
	Cluster, Assignment, Reference string
	// From and To are states.
	From, To v1alpha1.ComplianceState
	// Reason is a word, and Message a sentence.
	Reason, Message string
	// Exemption that ends, when it does, and for how many days it is announced:
	// one of ExemptionNotice.
	Exemption string
	ExpiresOn time.Time
	Days      int
}

// Key is the same for a change that is told twice: of an exemption, each notice
// of one end. "" for changes of state, which are told once by being stored.
func (c Change) Key() string {
	if c.Exemption == "" {
		return ""
	}
	return fmt.Sprintf("%s/%s/%s/%d", c.Kind, c.Exemption, c.ExpiresOn.UTC().Format(time.RFC3339), c.Days)
}

// Changes compares two statuses of a cluster. The whole cluster comes first,
// then its assignments in the order of after. Something that is not known for a
// while is told of neither then nor when it is found as it was before it: only
// NonCompliant is, whenever the status before does not say so.
func Changes(cluster string, before, after v1alpha1.ClusterStatus) []Change {
	var out []Change
	tell := func(c Change) {
		switch {
		case c.To == v1alpha1.NonCompliant && c.From != v1alpha1.NonCompliant:
			c.Kind = TurnedNonCompliant
		case c.From == v1alpha1.NonCompliant && (c.To == v1alpha1.Compliant || c.To == v1alpha1.Exempt):
			c.Kind = TurnedCompliant
		default:
			return
		}
		c.Cluster = cluster
		out = append(out, c)
	}
	if t := after.Compliance; t != nil {
		c := Change{To: t.State, Message: fmt.Sprintf("%d of %d Pods run images that are not trusted", t.Violations, t.Pods)}
		if before.Compliance != nil {
			c.From = before.Compliance.State
		}
		tell(c)
	}
	type key struct{ assignment, reference string }
	was := make(map[key]v1alpha1.ComplianceState, len(before.Assignments))
	for _, s := range before.Assignments {
		k := key{s.Assignment, s.PolicyDefinitionReferenceID}
		if old, ok := was[k]; !ok || graverState(s.State, old) {
			was[k] = s.State
		}
	}
	for _, s := range after.Assignments {
		tell(Change{Assignment: s.Assignment, Reference: s.PolicyDefinitionReferenceID, Reason: s.Reason, Message: s.Message,
			From: was[key{s.Assignment, s.PolicyDefinitionReferenceID}], To: s.State})
	}
	return out
}

// ExemptionNotice is how many days before its end an exemption is announced,
// nearest last.
func ExemptionNotice() []int { return []int{30, 7, 1} }

const day = 24 * time.Hour

// Expiring returns what is to be told of exemptions whose notice or end lies
// after since and not after now: told once if since is the now of the time
// before. Of several notices missed, the nearest is told. The zero since tells
// the notice that holds now, and no ends of the past.
func Expiring(exemptions []v1alpha1.PolicyExemption, since, now time.Time) []Change {
	var out []Change
	for _, e := range exemptions {
		if e.Spec.ExpiresOn == nil {
			continue
		}
		end := e.Spec.ExpiresOn.Time
		c := Change{Exemption: e.Name, Assignment: e.Spec.PolicyAssignmentID, ExpiresOn: end}
		if !end.After(now) {
			if !since.IsZero() && end.After(since) {
				c.Kind, c.Message = ExemptionExpired, fmt.Sprintf("exemption %s ended at %s; what it took out is required again", e.Name, end.UTC().Format(time.RFC3339))
				out = append(out, c)
			}
			continue
		}
		for _, days := range ExemptionNotice() {
			if at := end.Add(-time.Duration(days) * day); !at.After(now) {
				c.Days = days
			}
		}
		// Whoever makes an exemption for less than the notice has just said so.
		at := end.Add(-time.Duration(c.Days) * day)
		if c.Days == 0 || !at.After(since) || at.Before(e.CreationTimestamp.Time) {
			continue
		}
		c.Kind, c.Message = ExemptionExpiring, fmt.Sprintf("exemption %s ends at %s; renew it, or have what it takes out signed", e.Name, end.UTC().Format(time.RFC3339))
		out = append(out, c)
	}
	return out
}
