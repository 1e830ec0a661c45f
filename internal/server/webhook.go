package server

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/admission"
	"github.com/boltseal/boltseal/internal/audit"
	"github.com/boltseal/boltseal/internal/integrity"
	"github.com/boltseal/boltseal/internal/memo"
	"github.com/boltseal/boltseal/internal/snapshot"
	"github.com/boltseal/boltseal/internal/timing"
)

const sourceAdmission = "admission"

// annotationTraceID is the annotation of the API server's audit log with the trace's id.
const annotationTraceID = "traceID"

// validate answers whether an object may come into the cluster.
func (s *Server) validate(in *question) reply {
	return s.review(in, func(v *integrity.Verdict, q *admission.Request) admission.Answer {
		return admission.Answer{Allowed: v.Allowed, Message: v.Message, Warnings: append(parameters(q), v.Warnings...), Audit: v.Audit}
	}, true)
}

// parameters warns of images that cannot be judged before something is made of the
// object.
func parameters(q *admission.Request) []string {
	if len(q.Parameters) == 0 {
		return nil
	}
	p := q.Parameters[0]
	return []string{fmt.Sprintf("%.100s: image %.100q is a parameter (%d such), and is judged when Pods come that it is filled in for", p.Where(), p.Image, len(q.Parameters))}
}

// others reports whether some policy is about a kind of others. Before there is a
// configuration that is not known, and what cannot be judged yet is not admitted.
func (s *Server) others(group, kind string) bool {
	snap := s.o.Live.Load()
	return snap == nil || snap.Policies.Names(group, kind)
}

// pin writes digests into Pods. It denies nothing: whether the object may come
// in is judged when every webhook has had its turn, and what could not be pinned is
// not admitted then where a policy that denies demands it.
func (s *Server) pin(in *question) reply {
	s.pinAsked.Store(true)
	return s.review(in, func(v *integrity.Verdict, q *admission.Request) admission.Answer {
		a := admission.Answer{Allowed: true, Warnings: v.NotPinned}
		for i, o := range v.Images {
			if o.Pin != "" {
				img := q.Images[i]
				a.Pins = append(a.Pins, admission.Pin{Image: img, New: admission.PinnedTo(img.Image, o.Pin.String())})
			}
		}
		return a
	}, false)
}

func (s *Server) review(in *question, conclude func(*integrity.Verdict, *admission.Request) admission.Answer, final bool) reply {
	q, err := s.decode(in)
	in.spent.Decode = s.o.Clock().Sub(in.start) - in.spent.Body
	switch {
	case errors.Is(err, errNoRoom):
		return full()
	case err != nil && q.UID == "":
		return refuse(http.StatusBadRequest, "%v", err)
	case q.Namespace == integrity.KubeSystem || slices.Contains(s.o.Exempt, q.Namespace):
		// Even where the object could not be read: who it is for is known, and a
		// cluster must be able to start what it needs to mend itself.
		return encode(q.UID, admission.Answer{Allowed: true})
	case err != nil:
		return encode(q.UID, admission.Answer{Message: "Boltseal could not read the review, and admits nothing that it could not read: " + err.Error()})
	case q.Exempt != "":
		a := admission.Answer{Allowed: true}
		if q.Unknown && final {
			a.Warnings = []string{q.Exempt + "; its Pods are judged when they come"}
		}
		return encode(q.UID, a)
	}
	snap := s.o.Live.Load()
	if snap == nil {
		if !final {
			return encode(q.UID, admission.Answer{Allowed: true, Warnings: []string{"nothing is pinned: " + s.notReady()}})
		}
		return encode(q.UID, admission.Answer{Message: s.notReady()})
	}
	o := integrity.Object{Kind: q.Kind, Namespace: q.Namespace, Labels: q.Labels}
	if s.o.NamespaceLabels != nil {
		o.NamespaceLabels = s.o.NamespaceLabels(q.Namespace)
	}
	policies := snap.Policies.Select(o)
	if len(policies) == 0 {
		return encode(q.UID, admission.Answer{Allowed: true})
	}
	id := audit.NewID()
	v, records := s.judge(in, snap, policies, &q, id)
	defer s.concluding(in, len(q.Images))()
	if final {
		s.count(&v)
		s.auditReview(in, snap, id, &q, &v, records)
	}
	if in.span != nil {
		in.span.Set(spanDecisionID, id)
		in.span.Set(spanDecision, outcome(&v))
		in.span.Set(spanNamespace, q.Namespace)
		in.span.Set(spanKind, q.Kind)
	}
	a := conclude(&v, &q)
	if in.trace.Valid() {
		a.Audit = maps.Clone(a.Audit)
		if a.Audit == nil {
			a.Audit = map[string]string{}
		}
		a.Audit[annotationTraceID] = in.trace.ID()
	}
	return encode(q.UID, a)
}

func (s *Server) decode(in *question) (admission.Request, error) {
	done, ok := s.decoding(in)
	if !ok {
		return admission.Request{}, errNoRoom
	}
	defer done()
	return admission.Options{Drivers: s.o.Drivers, Other: s.others}.Decode(in.body)
}

// images finds what is known about every image that some policy wants judged, by
// the resources of a namespace, or of the cluster where that is "". records say how
// each is recorded.
func (s *Server) images(in *question, snap *snapshot.Snapshot, policies []*integrity.Policy, q *admission.Request, namespace string) (images []integrity.Image, records []record) {
	e, withheld := s.engineFor(snap, namespace, s.o.Webhook != nil || s.o.TrustWebhook)
	images, records = make([]integrity.Image, len(q.Images)), make([]record, len(q.Images))
	for i, img := range q.Images {
		images[i] = integrity.Image{Where: img.Where(), Image: img.Image, Pinned: strings.Contains(img.Image, "@")}
		if e == nil {
			images[i].Found.Reason = boltseal.Reason{Cause: boltseal.CauseNoVerifier, Message: noEngine(namespace), Remedy: "add a Store and a Verifier for the cluster"}
		}
	}
	if e == nil {
		return images, records
	}
	asking := in
	if s.o.Memory != nil && snap.Policies.Recalls() {
		shorter := *in
		shorter.deadline = in.deadline.Add(-recallTime(in.deadline.Sub(in.start)))
		asking = &shorter
	}
	ask := func(e *boltseal.Engine) (refused bool) {
		s.ask(asking, snap.Memo, len(images), func(i int) (*boltseal.Engine, string, string) {
			if slices.ContainsFunc(policies, func(p *integrity.Policy) bool { return !p.Excludes(images[i].Image) }) {
				return e, images[i].Image, q.Namespace
			}
			return nil, "", ""
		}, func(i int, a *memo.Answer, t *timing.Times) {
			images[i].Found = integrity.Found{Decision: a.Decision, Reason: a.Reason, Digest: a.Digest}
			records[i] = record{a.Audit, t}
			if s.o.Memory != nil && a.Reason.Cause.Outage() {
				images[i].Recall = s.recall(in, e, images[i].Image, &records[i])
			}
		})
		return slices.ContainsFunc(images, func(i integrity.Image) bool { return i.Found.Reason.Cause == boltseal.CauseUnauthorized })
	}
	if withheld || !snap.Engines.PerPod(e) {
		ask(e)
		for i := range images {
			if withheld && images[i].Found.Decision != boltseal.Allow {
				images[i].Found.Reason = stranger(images[i].Found.Reason)
			}
		}
		return images, records
	}
	own := func() *boltseal.Engine {
		ctx, cancel := in.within()
		defer cancel()
		defer func(start time.Time) { in.spent.PodSecrets += s.o.Clock().Sub(start) }(s.o.Clock())
		return snap.Engines.ForPod(ctx, e, q.Namespace, q.PullSecrets, q.ServiceAccount)
	}
	// Where a registry refused the Pod's Secrets they were read anew: once more with
	// those, where they are others by now.
	mine := own()
	switch {
	case mine == nil:
		for i := range images {
			images[i].Found.Reason = boltseal.Reason{Cause: boltseal.CauseInternal, Message: "no engine could be made for the Pod's pull Secrets"}
		}
	case ask(mine):
		if fresh := own(); fresh != nil && fresh != mine {
			ask(fresh)
		}
	}
	return images, records
}

// record is what is recorded of an image.
type record struct {
	audit []byte        // as memo.Encoded has it
	times *timing.Times // nil = no verification was waited for
}

// recallTime is the part of the time for an answer that is left for memory, which is
// asked when the registries' time is up: in an outage for all who wait, and they wake at
// once. So it is a part of the time, and no fixed time that a busy machine uses up.
func recallTime(total time.Duration) time.Duration {
	return max(total/10, min(total/5, 300*time.Millisecond))
}

// recall decides about an image from memory, and records that in place of the
// attempt that failed.
func (s *Server) recall(in *question, e *boltseal.Engine, image string, rec *record) func(time.Duration) (integrity.Found, time.Time) {
	return func(maxAge time.Duration) (integrity.Found, time.Time) {
		ref, err := boltseal.ParseReference(image)
		if err != nil {
			return integrity.Found{Reason: boltseal.ReasonOf(err)}, time.Time{}
		}
		ctx, cancel := in.within()
		defer cancel()
		start := s.o.Clock()
		r, since := s.o.Memory.Verify(ctx, e, ref, maxAge)
		in.spent.Memory += s.o.Clock().Sub(start)
		if r.Decision != boltseal.Unknown {
			s.o.Metrics.recalled.Inc()
			rec.audit = s.o.Encode(e, &r).Audit
		}
		return integrity.Found{Decision: r.Decision, Reason: r.Reason, Digest: r.Subject.Digest}, since
	}
}

func (s *Server) count(v *integrity.Verdict) {
	for _, o := range v.Images {
		switch {
		case o.Excluded:
		case o.Unpinned:
			s.o.Metrics.decided(sourceAdmission, boltseal.Deny, boltseal.CauseUnpinned)
		default:
			s.o.Metrics.decided(sourceAdmission, o.Found.Decision, o.Found.Reason.Cause)
		}
		for _, e := range o.Exempt {
			s.o.Metrics.exempted.WithLabelValues(string(e.Exemption.Category), o.Found.Decision.String()).Inc()
		}
	}
}

func (s *Server) auditReview(in *question, snap *snapshot.Snapshot, id string, q *admission.Request, v *integrity.Verdict, records []record) {
	if !s.o.Audit.Enabled() {
		return
	}
	d := audit.Decision{ID: id, Time: in.start.UTC(), Source: sourceAdmission, Decision: outcome(v), Took: s.o.Clock().Sub(in.start), Spent: in.spent, TraceID: in.trace.ID(), Generation: snap.Generation,
		Request: &audit.Request{UID: q.UID, Kind: q.Kind, Namespace: q.Namespace, Name: q.Name, Operation: q.Operation, User: q.User, DryRun: q.DryRun},
		Images:  make([]audit.Image, len(v.Images))}
	for _, a := range v.Applied {
		d.Policies = append(d.Policies, a.Policy+"="+string(a.Action))
	}
	for i, o := range v.Images {
		img := &d.Images[i]
		img.Image, img.Container, img.Digest, img.Unpinned, img.Encoded = q.Images[i].Image, q.Images[i].Container, string(o.Found.Digest), o.Unpinned, records[i].audit
		img.Spent = audit.SpentOn(records[i].times)
		for _, e := range o.Exempt {
			img.Exempt = append(img.Exempt, e.String())
		}
		switch {
		case o.Excluded:
			img.Decision, img.Digest, img.Encoded = audit.Excluded, "", nil
		case len(img.Encoded) == 0:
			img.Decision, img.Message = o.Found.Decision.String(), o.Found.Reason.Message
		case !o.Since.IsZero():
			img.LastGood = o.Since.UTC().Format(time.RFC3339)
		}
	}
	s.o.Audit.Decision(&d)
}

// outcome is the whole object's: what its images came to, and what was made of it.
func outcome(v *integrity.Verdict) string {
	fails, exempt := 0, false
	for _, a := range v.Applied {
		fails += a.Fails
	}
	for _, o := range v.Images {
		exempt = exempt || len(o.Exempt) > 0
	}
	switch {
	case !v.Allowed:
		return "denied"
	case fails > 0:
		return "allowed, not trusted"
	case exempt:
		return "allowed, exempt"
	}
	return "allowed"
}

func encode(uid string, a admission.Answer) reply {
	b, err := admission.Encode(uid, a)
	if err != nil {
		return refuse(http.StatusInternalServerError, "%v", fmt.Errorf("the answer could not be written: %w", err))
	}
	return reply{uid: uid, body: b}
}
