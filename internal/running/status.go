package running

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
)

// Limits on what a status and events tell.
const (
	maxViolations  = 10 // that a status names
	maxStatusText  = 256
	maxEvent       = 1024 // what the API server takes (core/v1 validation)
	maxEventsRound = 10   // events of one round that name a violation each
	// eventsRate and eventsBurst bound events over time.
	eventsRate  = 1.0 / 30
	eventsBurst = 20
)

// ReasonUntrusted is the reason of events about violations.
const ReasonUntrusted = "UntrustedImage"

// stand is what a policy's status says, as far as is known.
type stand struct {
	policy *integrity.Policy // the version of the policy that was read; another may be another object
	uid    types.UID
	audit  *v1alpha1.Audit // nil = nothing
}

// auditOf is what a policy's status is to say.
func auditOf(p *PolicyTotals, first firstFindings, trusted trusted) *v1alpha1.Audit {
	return &v1alpha1.Audit{Pods: int32(p.Pods.Total()), Images: int32(p.Images.Total()), Violations: int32(p.Pods.NotTrusted),
		ViolatingImages: int32(p.Images.NotTrusted), Unknown: int32(p.Pods.Unknown), Exempt: int32(p.Pods.Exempt), Pending: int32(p.Pods.Pending), First: first.violations,
		FirstExempt: first.exempt, ExemptOtherwise: first.exemptOtherwise,
		TrustedBy: trusted.by, TrustedOtherwise: trusted.otherwise}
}

// firstFindings are the first images of a policy that are not trusted.
type firstFindings struct {
	violations, exempt []v1alpha1.AuditViolation
	exemptOtherwise    int32 // those that exempt does not name
}

// findFirst returns the first findings of each policy.
func findFirst(r *Result) map[string]firstFindings {
	out := map[string]firstFindings{}
	for _, f := range r.Findings {
		first := out[f.Policy]
		switch {
		case f.Outcome == NotTrusted && len(first.violations) < maxViolations:
			first.violations = append(first.violations, auditViolation(f))
		case f.Outcome == Exempt && len(first.exempt) < maxViolations:
			first.exempt = append(first.exempt, auditViolation(f))
		case f.Outcome == Exempt:
			first.exemptOtherwise++
		default:
			continue
		}
		out[f.Policy] = first
	}
	return out
}

func auditViolation(f *Finding) v1alpha1.AuditViolation {
	return v1alpha1.AuditViolation{Namespace: f.Namespace, Image: f.Image, Pods: int32(f.Pods), Pod: f.First[0].Name,
		Reason: string(f.Reason.Cause), Message: truncateText(f.Reason.Message, maxStatusText), Signer: f.Signer}
}

// statuses brings the status of every policy up to a result.
func (w *writer) statuses(ctx context.Context, r *Result) error {
	first, by := findFirst(r), trustedBy(r)
	there := map[string]bool{}
	var errs failures
	for i := range r.Policies {
		p := &r.Policies[i]
		there[p.Name] = true
		if err := w.status(ctx, p, auditOf(p, first[p.Name], by[p.Name]), metav1.NewTime(r.At)); err != nil {
			errs.add(fmt.Errorf("status of policy %s: %w", p.Name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	for name := range w.stands {
		if !there[name] {
			delete(w.stands, name)
		}
	}
	return errs.join()
}

func (w *writer) status(ctx context.Context, p *PolicyTotals, audit *v1alpha1.Audit, now metav1.Time) error {
	resource, name := w.policyResource(p)
	st, ok := w.stands[p.Name]
	if !ok || st.policy != p.policy {
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		defer cancel()
		u, err := resource.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil // it is gone, and the configuration will say so
		}
		if err != nil {
			return err
		}
		st = stand{p.policy, u.GetUID(), readAudit(u)}
		w.stands[p.Name] = st
	}
	if st.audit != nil {
		audit.ChangedAt = st.audit.ChangedAt
		if reflect.DeepEqual(audit, st.audit) {
			return nil
		}
	}
	audit.ChangedAt = metav1.NewTime(now.Truncate(1e9)) // as it is read again
	body, err := statusPatch(st.uid, audit)
	if err != nil {
		return err
	}
	if err := w.pace.Wait(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err = resource.Patch(ctx, name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: fieldManager}, "status")
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		delete(w.stands, p.Name) // gone, or made anew
		return nil
	}
	w.a.metrics.wrote("status", err)
	if err == nil {
		w.stands[p.Name] = stand{p.policy, st.uid, audit}
	}
	return err
}

// policyResource is where a policy is.
func (w *writer) policyResource(p *PolicyTotals) (dynamic.ResourceInterface, string) {
	gvr := v1alpha1.GroupVersion.WithResource("imageintegritypolicies")
	if p.Owner == "" {
		return w.a.dynamic.Resource(gvr), p.Name
	}
	gvr.Resource = "namespacedimageintegritypolicies"
	return w.a.dynamic.Resource(gvr).Namespace(p.Owner), strings.TrimPrefix(p.Name, p.Owner+"/")
}

// statusPatch is the JSON merge patch (RFC 7386) that writes the audit's part of a
// status, of the object with that identity only.
func statusPatch(uid types.UID, audit *v1alpha1.Audit) ([]byte, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(audit)
	if err != nil {
		return nil, err
	}
	if len(audit.First) == 0 {
		fields["first"] = nil
	}
	if audit.Exempt == 0 {
		fields["exempt"] = nil
	}
	if len(audit.FirstExempt) == 0 {
		fields["firstExempt"] = nil
	}
	if audit.ExemptOtherwise == 0 {
		fields["exemptOtherwise"] = nil
	}
	if len(audit.TrustedBy) == 0 {
		fields["trustedBy"] = nil
	}
	if audit.TrustedOtherwise == 0 {
		fields["trustedOtherwise"] = nil
	}
	return json.Marshal(map[string]any{"metadata": map[string]any{"uid": uid}, "status": map[string]any{"audit": fields}})
}

// readAudit is what a status says, nil where that is nothing that can be read.
func readAudit(u *unstructured.Unstructured) *v1alpha1.Audit {
	fields, ok, err := unstructured.NestedMap(u.Object, "status", "audit")
	if err != nil || !ok {
		return nil
	}
	var audit v1alpha1.Audit
	if runtime.DefaultUnstructuredConverter.FromUnstructured(fields, &audit) != nil {
		return nil
	}
	return &audit
}

// violation tells one from another.
type violation struct{ namespace, policy, image string }

// tell tells of violations that were not there before: of each by an event at one
// Pod that runs the image, as long as they are few, and of the rest by one event at
// the policy.
func (w *writer) tell(r *Result) {
	seen := make(map[violation]bool, len(w.seen))
	left, told := map[string]int{}, 0
	for _, f := range r.Findings {
		v := violation{f.Namespace, f.Policy, f.Image}
		switch {
		case f.Outcome == Trusted || f.Outcome == Exempt:
			continue
		case f.Outcome != NotTrusted:
			if w.seen[v] {
				seen[v] = true // it may still be one
			}
			continue
		case !w.seen[v] && told < maxEventsRound && w.speech.TryAccept():
			told++
			p := f.First[0]
			w.events.Event(&corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.uid}, corev1.EventTypeWarning, ReasonUntrusted,
				truncateText(fmt.Sprintf("runs %s, which is not trusted: %s; required by policy %q", f.Image, findingSentence(f), f.Policy), maxEvent))
		case !w.seen[v]:
			left[f.Policy]++
		}
		seen[v] = true
	}
	w.seen = seen
	for i := range r.Policies {
		p := &r.Policies[i]
		if left[p.Name] == 0 || !w.speech.TryAccept() {
			continue
		}
		kind := v1alpha1.KindImageIntegrityPolicy
		if p.Owner != "" {
			kind = v1alpha1.KindNamespacedImageIntegrityPolicy
		}
		w.events.Event(&corev1.ObjectReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: kind, Namespace: p.Owner, Name: strings.TrimPrefix(p.Name, p.Owner+"/"), UID: w.stands[p.Name].uid},
			corev1.EventTypeWarning, ReasonUntrusted, fmt.Sprintf("%d more images run that are not trusted; see the reports, or 'boltseal audit'", left[p.Name]))
	}
}
