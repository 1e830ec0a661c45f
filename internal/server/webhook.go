package server

import (
	"context"
	"fmt"
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
)

const sourceAdmission = "admission"

// validate answers whether an object may come into the cluster.
func (s *Server) validate(ctx context.Context, _ *http.Request, body []byte) reply {
	return s.review(ctx, body, func(v *integrity.Verdict, _ *admission.Request) admission.Answer {
		return admission.Answer{Allowed: v.Allowed, Message: v.Message, Warnings: v.Warnings, Audit: v.Audit}
	}, true)
}

// pin writes digests into Pods. It denies nothing: whether the object may come
// in is judged when every webhook has had its turn.
func (s *Server) pin(ctx context.Context, _ *http.Request, body []byte) reply {
	return s.review(ctx, body, func(v *integrity.Verdict, q *admission.Request) admission.Answer {
		a := admission.Answer{Allowed: true}
		for i, o := range v.Images {
			if o.Pin && o.Result.Decision == boltseal.Allow && o.Result.Subject.Digest != "" {
				img := q.Images[i]
				a.Pins = append(a.Pins, admission.Pin{Image: img, New: admission.PinnedTo(img.Image, o.Result.Subject.Digest.String())})
			}
		}
		return a
	}, false)
}

func (s *Server) review(ctx context.Context, body []byte, conclude func(*integrity.Verdict, *admission.Request) admission.Answer, final bool) reply {
	start := s.o.Clock()
	q, err := admission.Decode(body)
	switch {
	case err != nil && q.UID == "":
		return refuse(http.StatusBadRequest, "%v", err)
	case err != nil:
		return encode(q.UID, admission.Answer{Message: "Boltseal could not read the review, and admits nothing that it could not read: " + err.Error()})
	case q.Exempt != "":
		a := admission.Answer{Allowed: true}
		if q.Unknown && final {
			a.Warnings = []string{q.Exempt + "; its Pods are judged when they come"}
		}
		return encode(q.UID, a)
	case q.Namespace == integrity.KubeSystem || slices.Contains(s.o.Exempt, q.Namespace):
		return encode(q.UID, admission.Answer{Allowed: true})
	}
	snap := s.o.Live.Load()
	if snap == nil {
		return encode(q.UID, admission.Answer{Allowed: !final, Message: notReady})
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
	images, answers := s.images(ctx, snap, policies, &q, start)
	v := integrity.Judge(policies, images, integrity.Context{Pod: q.Kind == "Pod", Decision: id, Now: start})
	if final {
		s.count(&v)
		s.auditReview(snap, id, &q, &v, answers, start)
	}
	return encode(q.UID, conclude(&v, &q))
}

// images finds what is known about every image that some policy wants judged.
func (s *Server) images(ctx context.Context, snap *snapshot.Snapshot, policies []*integrity.Policy, q *admission.Request, start time.Time) ([]integrity.Image, []*memo.Answer) {
	e := snap.Engines.EngineFor("") // a policy for the cluster is verified with the cluster's resources
	images, answers := make([]integrity.Image, len(q.Images)), make([]*memo.Answer, len(q.Images))
	for i, img := range q.Images {
		images[i] = integrity.Image{Where: img.Where(), Image: img.Image, Pinned: strings.Contains(img.Image, "@")}
		if e == nil {
			images[i].Result = boltseal.Result{Reason: boltseal.Reason{Cause: boltseal.CauseNoVerifier, Message: noEngine(""), Remedy: "add a Store and a Verifier for the cluster"}}
		}
	}
	if e == nil {
		return images, answers
	}
	// Memory is asked when the registries' time is up, and needs some of its own.
	asking := ctx
	if deadline, ok := ctx.Deadline(); ok && s.o.Memory != nil && snap.Policies.Recalls() {
		var cancel context.CancelFunc
		asking, cancel = context.WithDeadline(ctx, deadline.Add(-min(deadline.Sub(start)/5, 300*time.Millisecond)))
		defer cancel()
	}
	ask(asking, snap.Memo, len(images), func(i int) (engine, string) {
		if slices.ContainsFunc(policies, func(p *integrity.Policy) bool { return !p.Excludes(images[i].Image) }) {
			return e, images[i].Image
		}
		return nil, ""
	}, func(i int, a *memo.Answer) { answers[i] = a })
	for i, a := range answers {
		if a == nil {
			continue
		}
		images[i].Result = a.Result
		if s.o.Memory != nil && a.Result.Reason.Cause == boltseal.CauseUnavailable {
			images[i].Recall = s.recall(ctx, e, images[i].Image)
		}
	}
	return images, answers
}

// recall decides about an image from memory.
func (s *Server) recall(ctx context.Context, e *boltseal.Engine, image string) func(time.Duration) (boltseal.Result, time.Time) {
	return func(maxAge time.Duration) (boltseal.Result, time.Time) {
		ref, err := boltseal.ParseReference(image)
		if err != nil {
			return boltseal.Result{Reason: boltseal.ReasonOf(err)}, time.Time{}
		}
		r, since := s.o.Memory.Verify(ctx, e, ref, maxAge)
		if r.Decision != boltseal.Unknown {
			s.o.Metrics.recalled.Inc()
		}
		return r, since
	}
}

func (s *Server) count(v *integrity.Verdict) {
	for _, o := range v.Images {
		if !o.Excluded {
			s.o.Metrics.decided(sourceAdmission, o.Result.Decision, o.Result.Reason.Cause)
		}
	}
}

func (s *Server) auditReview(snap *snapshot.Snapshot, id string, q *admission.Request, v *integrity.Verdict, answers []*memo.Answer, start time.Time) {
	if !s.o.Audit.Enabled() {
		return
	}
	d := audit.Decision{ID: id, Time: start.UTC(), Source: sourceAdmission, Decision: outcome(v), Took: s.o.Clock().Sub(start), Generation: snap.Generation,
		Request: &audit.Request{UID: q.UID, Kind: q.Kind, Namespace: q.Namespace, Name: q.Name, Operation: q.Operation, User: q.User, DryRun: q.DryRun},
		Images:  make([]audit.Image, len(v.Images))}
	for _, a := range v.Applied {
		d.Policies = append(d.Policies, a.Policy+"="+string(a.Action))
	}
	for i, o := range v.Images {
		img := &d.Images[i]
		if answers[i] != nil {
			describe(img, answers[i])
		}
		img.Image, img.Container = q.Images[i].Image, q.Images[i].Container
		switch {
		case o.Excluded:
			img.Decision = "excluded"
		case !o.Since.IsZero():
			img.Decision, img.LastGood = o.Result.Decision.String(), o.Since.UTC().Format(time.RFC3339)
		}
	}
	s.o.Audit.Decision(&d)
}

// outcome is the whole object's: what its images came to, and what was made of it.
func outcome(v *integrity.Verdict) string {
	fails := 0
	for _, a := range v.Applied {
		fails += a.Fails
	}
	switch {
	case !v.Allowed:
		return "deny"
	case fails > 0:
		return "allow, not trusted"
	}
	return "allow"
}

func encode(uid string, a admission.Answer) reply {
	b, err := admission.Encode(uid, a)
	if err != nil {
		return refuse(http.StatusInternalServerError, "%v", fmt.Errorf("the answer could not be written: %w", err))
	}
	return reply{body: b}
}
