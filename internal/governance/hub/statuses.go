package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/compliance"
	"github.com/boltseal/boltseal/internal/governance/resolve"
	"github.com/boltseal/boltseal/internal/governance/scope"
)

// Conditions.
const (
	ConditionReady = "Ready"
	// ConditionAnnounced of an exemption says of which notice it was told last. Its
	// time is that up to which everything was told.
	ConditionAnnounced = "Announced"
)

func conditionTrue(reason, message string) metav1.Condition {
	return metav1.Condition{Type: ConditionReady, Status: metav1.ConditionTrue, Reason: reason, Message: message}
}

func conditionFalse(reason, message string) metav1.Condition {
	return metav1.Condition{Type: ConditionReady, Status: metav1.ConditionFalse, Reason: reason, Message: printableText(message, maxSentence)}
}

// setCondition returns conditions with one set; the old ones stay as they are.
func setCondition(old []metav1.Condition, c metav1.Condition, generation int64, now time.Time) []metav1.Condition {
	out := slices.Clone(old)
	c.ObservedGeneration, c.LastTransitionTime = generation, metav1.NewTime(now.UTC().Truncate(time.Second))
	meta.SetStatusCondition(&out, c)
	return out
}

func clusterID(c *v1alpha1.Cluster) string {
	at, err := scope.At(c)
	if err != nil {
		return ""
	}
	return at.ID()
}

// statuses writes how definitions, assignments and exemptions stand. ready counts
// assignments.
func (r *run) statuses(ctx context.Context, w *world) (ready map[bool]int, err error) {
	var errs []error
	for i := range w.definitions {
		o := &w.definitions[i]
		st, changed := r.definitionStatus(o.Status, o.Generation, r.faults[v1alpha1.KindPolicyDefinition+"/"+o.Name])
		if !changed {
			continue
		}
		next := &v1alpha1.PolicyDefinition{TypeMeta: o.TypeMeta, ObjectMeta: *o.ObjectMeta.DeepCopy(), Spec: o.Spec, Status: st}
		errs = append(errs, r.putStatus(ctx, "definition status", next))
	}
	for i := range w.sets {
		o := &w.sets[i]
		fault := r.faults[v1alpha1.KindPolicySetDefinition+"/"+o.Name]
		for _, ref := range o.Spec.PolicyDefinitions {
			if _, ok := r.library.Definition(ref.PolicyDefinitionID); !ok && fault == nil {
				fault = fmt.Errorf("definition %q of reference %s is not there, or cannot be assigned: import it", ref.PolicyDefinitionID, ref.PolicyDefinitionReferenceID)
			}
		}
		st, changed := r.definitionStatus(o.Status, o.Generation, fault)
		if !changed {
			continue
		}
		next := &v1alpha1.PolicySetDefinition{TypeMeta: o.TypeMeta, ObjectMeta: *o.ObjectMeta.DeepCopy(), Spec: o.Spec, Status: st}
		errs = append(errs, r.putStatus(ctx, "definition status", next))
	}
	ready = map[bool]int{}
	for i := range w.assignments {
		ok, err := r.assignmentStatus(ctx, w, &w.assignments[i])
		ready[ok]++
		errs = append(errs, err)
	}
	for i := range w.exemptions {
		errs = append(errs, r.exemptionStatus(ctx, w, &w.exemptions[i]))
	}
	return ready, errors.Join(errs...)
}

func (r *run) definitionStatus(before v1alpha1.Status, generation int64, fault error) (v1alpha1.Status, bool) {
	c := conditionTrue("Valid", "it can be assigned")
	if fault != nil {
		c = conditionFalse("InvalidDefinition", fault.Error())
	}
	after := v1alpha1.Status{ObservedGeneration: generation, Conditions: setCondition(before.Conditions, c, generation, r.o.Clock())}
	return after, !equality.Semantic.DeepEqual(before, after)
}

func (r *run) assignmentStatus(ctx context.Context, w *world, a *v1alpha1.PolicyAssignment) (ready bool, err error) {
	c, everywhere := conditionTrue("Assigned", "it is applied as it is written"), false
	var first *resolve.Problem
	concerned := map[string]bool{}
	for i := range w.problems {
		q := &w.problems[i]
		if q.Assignment != a.Name {
			continue
		}
		if first == nil {
			first = q
		}
		everywhere = everywhere || q.Cluster == ""
		concerned[q.Cluster] = true
	}
	if first != nil {
		message := first.Message
		if first.Reference != "" {
			message = first.Reference + ": " + message
		}
		if first.Cluster != "" {
			message = "cluster " + first.Cluster + ": " + message
			if n := len(concerned) - 1; n > 0 {
				message = fmt.Sprintf("%s (and %d more clusters)", message, n)
			}
		}
		c = conditionFalse(first.Reason, message)
	}
	now := r.o.Clock()
	st := *a.Status.DeepCopy()
	st.ObservedGeneration, st.Conditions = a.Generation, setCondition(a.Status.Conditions, c, a.Generation, now)
	var inScope func(*v1alpha1.Cluster) bool
	st.ID = ""
	if holds, err := scope.Compile(&a.Spec, nil); err == nil {
		st.ID = scope.AssignmentID(holds.Scope(), a.Name)
		if everywhere {
			// No cluster says anything of an assignment that cannot be resolved at all.
			inScope = func(c *v1alpha1.Cluster) bool {
				at, err := scope.At(c)
				if err != nil {
					return false
				}
				ok, err := holds.Holds(at)
				return ok || err != nil
			}
		}
	}
	st.Compliance = compliance.ForAssignment(a.Name, w.clusters, inScope, a.Status.Compliance, r.o.Clock)
	if !equality.Semantic.DeepEqual(a.Status, st) {
		next := &v1alpha1.PolicyAssignment{TypeMeta: a.TypeMeta, ObjectMeta: *a.ObjectMeta.DeepCopy(), Spec: a.Spec, Status: st}
		if err := r.putStatus(ctx, "assignment status", next); err != nil {
			return first == nil, fmt.Errorf("status of assignment %s: %w", a.Name, err)
		}
		a.Status = st
	}
	return first == nil, nil
}

func (r *run) exemptionStatus(ctx context.Context, w *world, e *v1alpha1.PolicyExemption) error {
	now := r.o.Clock().Truncate(time.Second)
	var since time.Time
	announced := meta.FindStatusCondition(e.Status.Conditions, ConditionAnnounced)
	if announced != nil {
		since = announced.LastTransitionTime.Time
	}
	changes := compliance.Expiring([]v1alpha1.PolicyExemption{*e}, since, now)
	// The first look is noted too: the end of what was never announced is told.
	conditions := slices.Clone(e.Status.Conditions)
	if announced == nil || len(changes) > 0 {
		next := metav1.Condition{Type: ConditionAnnounced, Status: metav1.ConditionFalse, Reason: "NotYet", ObservedGeneration: e.Generation}
		for _, c := range changes {
			next.Status, next.Reason, next.Message = metav1.ConditionTrue, string(c.Kind), c.Message
		}
		// The time moves with each notice, also from one True to the next.
		next.LastTransitionTime = metav1.NewTime(now)
		conditions = slices.DeleteFunc(conditions, func(c metav1.Condition) bool { return c.Type == ConditionAnnounced })
		conditions = append(conditions, next)
	}
	c := conditionTrue("InForce", "it is active")
	if end := e.Spec.ExpiresOn; end != nil {
		left := end.Sub(now)
		until := end.UTC().Format(time.RFC3339)
		switch notice := slices.Max(compliance.ExemptionNotice()); {
		case left <= 0:
			c = conditionFalse("Expired", "it ended at "+until+"; what it took out is required again")
		case left <= time.Duration(notice)*24*time.Hour:
			c = conditionTrue("ExpiresSoon", "it ends at "+until+"; renew it, or have what it takes out signed")
		default:
			c.Message = "it is active until " + until
		}
	}
	for _, q := range w.problems {
		if q.Exemption == e.Name {
			c = conditionFalse(q.Reason, q.Message)
		}
	}
	conditions = setCondition(conditions, c, e.Generation, now)
	slices.SortFunc(conditions, func(a, b metav1.Condition) int { return strings.Compare(a.Type, b.Type) })
	st := v1alpha1.Status{ObservedGeneration: e.Generation, Conditions: conditions}
	if equality.Semantic.DeepEqual(e.Status, st) {
		return nil
	}
	next := &v1alpha1.PolicyExemption{TypeMeta: e.TypeMeta, ObjectMeta: *e.ObjectMeta.DeepCopy(), Spec: e.Spec, Status: st}
	if err := r.putStatus(ctx, "exemption status", next); err != nil {
		return fmt.Errorf("status of exemption %s: %w", e.Name, err)
	}
	if next.ResourceVersion != e.ResourceVersion {
		r.tell(e, changes, next.ResourceVersion, now)
	}
	return nil
}
