package observe

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	integrityv1 "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/agent/apply"
	"github.com/boltseal/boltseal/internal/governance/render"
)

const (
	// ReasonUntrusted is all that Gatekeeper tells as a word.
	ReasonUntrusted = "Untrusted"
	// noImage stands where Gatekeeper's message names no image.
	noImage  = "unknown"
	maxCount = 1 << 30
)

// statusOf is the status of an ImageIntegrityPolicy, nil where it cannot be read.
func statusOf(u *unstructured.Unstructured) *integrityv1.ImageIntegrityPolicyStatus {
	if u == nil || u.GetKind() != integrityv1.KindImageIntegrityPolicy {
		return nil
	}
	fields, ok, err := unstructured.NestedMap(u.Object, "status")
	if err != nil || !ok {
		return nil
	}
	var out integrityv1.ImageIntegrityPolicyStatus
	if runtime.DefaultUnstructuredConverter.FromUnstructured(fields, &out) != nil {
		return nil
	}
	return &out
}

func auditOf(u *unstructured.Unstructured) *integrityv1.Audit {
	if st := statusOf(u); st != nil {
		return st.Audit
	}
	return nil
}

// boltseal reads what the policy's status says.
func (ob *Observer) boltseal(d *v1alpha1.DemandReport, s *apply.Standing) {
	st := statusOf(s.Live)
	if st == nil || st.ObservedGeneration < s.Live.GetGeneration() {
		d.Reason, d.Message = ReasonNotProcessed, "Boltseal has not taken the policy up yet; look whether its webhook runs"
		return
	}
	if c := meta.FindStatusCondition(st.Conditions, "Ready"); c != nil && c.Status == metav1.ConditionFalse {
		d.State, d.Reason, d.Message = v1alpha1.Failed, string(render.InvalidConstraint), c.Message
		return
	}
	a := st.Audit
	if a == nil {
		d.Reason, d.Message = ReasonNotProcessed, "what runs has not been checked yet; check whether the audit is enabled"
		return
	}
	d.Pods, d.Violations = max(0, a.Pods), max(0, a.Violations)
	d.Unknown, d.Exempt = max(0, a.Unknown)+max(0, a.Pending), max(0, a.Exempt)
	trusted := max(0, d.Pods-d.Violations-d.Unknown-d.Exempt)
	d.Trusted = &trusted
	evaluateState(d)
	d.TrustedBy, d.TrustedOtherwise = a.TrustedBy, max(0, a.TrustedOtherwise)
	named := map[seen]bool{}
	for _, v := range a.First {
		named[seen{namespace: v.Namespace, image: v.Image}] = true
		d.Components = append(d.Components, v1alpha1.Component{Namespace: v.Namespace, Image: v.Image, Pods: v.Pods, Pod: v.Pod,
			State: v1alpha1.NonCompliant, Reason: v.Reason, Message: v.Message, Signer: v.Signer})
	}
	for _, v := range a.FirstExempt {
		named[seen{namespace: v.Namespace, image: v.Image}] = true
		d.Components = append(d.Components, v1alpha1.Component{Namespace: v.Namespace, Image: v.Image, Pods: v.Pods, Pod: v.Pod,
			State: v1alpha1.Exempt, Reason: v.Reason, Message: v.Message, Signer: v.Signer})
	}
	// Reports are written after statuses: what they call untrusted beyond the number
	// that there are now is of before.
	left, exempt := int(a.ViolatingImages)-len(a.First), int(a.ExemptOtherwise)
	for _, c := range ob.found[s.Name] {
		switch k := (seen{namespace: c.Namespace, image: c.Image}); {
		case named[k]:
			continue
		case c.State == v1alpha1.NonCompliant && left <= 0, c.State == v1alpha1.Unknown && a.Unknown == 0, c.State == v1alpha1.Exempt && exempt <= 0:
			continue
		default:
			switch c.State {
			case v1alpha1.NonCompliant:
				left--
			case v1alpha1.Exempt:
				exempt--
			}
			named[k] = true
			d.Components = append(d.Components, c)
		}
	}
	d.ExemptOtherwise = int32(exempt)
}

// gatekeeper reads what the constraints' statuses say.
func (ob *Observer) gatekeeper(d *v1alpha1.DemandReport, s *apply.Standing, now time.Time) {
	d.Pods = ob.pods
	all := append([]*unstructured.Unstructured{s.Live}, s.Beside...)
	for _, u := range all {
		if why := refusedBy(u); why != "" {
			d.State, d.Reason, d.Message = v1alpha1.Failed, string(render.InvalidConstraint), "Gatekeeper does not take the constraint: "+why
			return
		}
	}
	for _, u := range all {
		text, _, _ := unstructured.NestedString(u.Object, "status", "auditTimestamp")
		at, err := time.Parse(time.RFC3339, text)
		switch {
		case err != nil || at.Before(changedAt(u)):
			d.Reason, d.Message = ReasonNotProcessed, "Gatekeeper has not audited the constraint yet; look whether its audit runs"
			return
		case now.Sub(at) >= AuditStaleAfter:
			d.Reason, d.Message = ReasonStale, fmt.Sprintf("Gatekeeper audited last at %s; look whether its audit runs", at.UTC().Format(time.RFC3339))
			return
		}
	}
	for _, u := range all {
		total, _, _ := unstructured.NestedInt64(u.Object, "status", "totalViolations")
		named, _, _ := unstructured.NestedSlice(u.Object, "status", "violations")
		total = max(total, int64(len(named)))
		d.Violations = int32(min(total+int64(d.Violations), maxCount))
		countViolations(d, u)
	}
	evaluateState(d)
}

// countViolations takes in the violations that a constraint names, by namespace and image.
func countViolations(d *v1alpha1.DemandReport, u *unstructured.Unstructured) {
	violations, _, _ := unstructured.NestedSlice(u.Object, "status", "violations")
	at := map[seen]int{}
	for n, c := range d.Components {
		at[seen{namespace: c.Namespace, image: c.Image}] = n
	}
	for _, in := range violations {
		v, _ := in.(map[string]any)
		text := func(k string) string { s, _ := v[k].(string); return s }
		c := v1alpha1.Component{Namespace: text("namespace"), Image: imageIn(text("message")), Pods: 1, Pod: text("name"),
			State: v1alpha1.NonCompliant, Reason: ReasonUntrusted, Message: text("message")}
		if kind := text("kind"); kind != "" && kind != "Pod" {
			c.Pod = kind + "/" + c.Pod
		}
		if c.Image == "" {
			c.Image = noImage
		}
		k := seen{namespace: c.Namespace, image: c.Image}
		if n, ok := at[k]; ok {
			d.Components[n].Pods++
			continue
		}
		at[k] = len(d.Components)
		d.Components = append(d.Components, c)
	}
}

// refusedBy is what one of Gatekeeper's Pods says is wrong with a constraint as it
// is now.
func refusedBy(u *unstructured.Unstructured) string {
	pods, _, _ := unstructured.NestedSlice(u.Object, "status", "byPod")
	for _, in := range pods {
		pod, _ := in.(map[string]any)
		if g, _, _ := unstructured.NestedInt64(pod, "observedGeneration"); g != u.GetGeneration() {
			continue
		}
		errs, _, _ := unstructured.NestedSlice(pod, "errors")
		for _, e := range errs {
			m, _ := e.(map[string]any)
			if s, _ := m["message"].(string); s != "" {
				return s
			}
		}
	}
	return ""
}

// changedAt is when the agent wrote the constraint last, by the API server's clock.
func changedAt(u *unstructured.Unstructured) time.Time {
	out := u.GetCreationTimestamp().Time
	for _, m := range u.GetManagedFields() {
		if m.Manager == apply.FieldManager && m.Subresource == "" && m.Time != nil && m.Time.After(out) {
			out = m.Time.Time
		}
	}
	return out
}

// imageName finds an image in a sentence: a part with a / or a digest.
var imageName = regexp.MustCompile(`[A-Za-z0-9][A-Za-z0-9._:-]*(?:/[A-Za-z0-9._-]+)+(?::[A-Za-z0-9._-]+)?(?:@sha256:[0-9a-f]{64})?`)

// imageIn is the image that a violation's message names, "" where it names none:
// Gatekeeper keeps the message alone.
func imageIn(message string) string {
	return strings.TrimRight(imageName.FindString(message), ".:")
}
