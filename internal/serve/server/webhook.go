package server

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/boltseal/boltseal/internal/admission"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/audit"
)

const sourceAdmission = "admission"

// annotationTraceID is the annotation of the API server's audit log with the trace's id.
const annotationTraceID = "traceID"

// validate answers whether an object may come into the cluster.
func (s *Server) validate(in *question) reply {
	return s.review(in, func(v *integrity.Verdict, q *admission.Request) admission.Answer {
		return admission.Answer{Allowed: v.Allowed, Message: v.Message, Warnings: append(parameterWarnings(q), v.Warnings...), Audit: v.Audit}
	}, true)
}

// parameterWarnings warns of images that cannot be judged before something is made of the
// object.
func parameterWarnings(q *admission.Request) []string {
	if len(q.Parameters) == 0 {
		return nil
	}
	p := q.Parameters[0]
	return []string{fmt.Sprintf("%.100s: image %.100q is a parameter (%d such), and is checked in the Pods, when its value is filled in", p.Where(), p.Image, len(q.Parameters))}
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

// review answers a review in five steps: the policies that the object is selected by, what
// is found about its images, the verdict, which is a function of both, its record, and the
// answer that conclude makes of it. final reports whether this is the verdict, and not what
// comes before it.
func (s *Server) review(in *question, conclude func(*integrity.Verdict, *admission.Request) admission.Answer, final bool) reply {
	q, err := s.decode(in)
	in.spent.Decode = s.o.Clock().Sub(in.start) - in.spent.Body
	switch {
	case errors.Is(err, errNoRoom):
		return fullReply()
	case err != nil && q.UID == "":
		return refusedReply(http.StatusBadRequest, "%v", err)
	case q.Namespace == integrity.KubeSystem || slices.Contains(s.o.Exempt, q.Namespace):
		// Even where the object could not be read: who it is for is known, and a
		// cluster must be able to start what it needs to mend itself.
		return encodeAnswer(q.UID, admission.Answer{Allowed: true})
	case err != nil:
		return encodeAnswer(q.UID, admission.Answer{Message: "Boltseal could not read the review, and admits nothing that it could not read: " + err.Error()})
	case q.Exempt != "":
		a := admission.Answer{Allowed: true}
		if q.Unknown && final {
			a.Warnings = []string{q.Exempt + "; its Pods are checked when they are created"}
		}
		return encodeAnswer(q.UID, a)
	}
	snap := s.o.Live.Load()
	if snap == nil {
		if !final {
			return encodeAnswer(q.UID, admission.Answer{Allowed: true, Warnings: []string{"nothing is pinned: " + s.notReady()}})
		}
		return encodeAnswer(q.UID, admission.Answer{Message: s.notReady()})
	}
	o := integrity.Object{Kind: q.Kind, Namespace: q.Namespace, Labels: q.Labels}
	if s.o.NamespaceLabels != nil {
		o.NamespaceLabels = s.o.NamespaceLabels(q.Namespace)
	}
	policies := snap.Policies.Select(o)
	if len(policies) == 0 {
		return encodeAnswer(q.UID, admission.Answer{Allowed: true})
	}
	id := audit.NewID()
	found := s.gather(in, snap, policies, &q)
	v := integrity.JudgeAll(integrity.Context{Pod: q.Kind == "Pod", PinAsked: s.pinAsked.Load(), Decision: id, Now: in.start,
		Subject: integrity.Subject{Namespace: q.Namespace, Workloads: integrity.Admitted(q.Kind, q.Name, q.User, q.Owner, q.Labels)}}, found.groups...)
	defer s.concluding(in, len(q.Images))()
	s.record(in, snap, id, &q, &v, found, final)
	if in.span != nil {
		in.span.Set(spanDecisionID, id)
		in.span.Set(spanDecision, verdictOutcome(&v))
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
	return encodeAnswer(q.UID, a)
}

func (s *Server) decode(in *question) (admission.Request, error) {
	done, ok := s.decoding(in)
	if !ok {
		return admission.Request{}, errNoRoom
	}
	defer done()
	return admission.Options{Drivers: s.o.Drivers, Other: s.others}.Decode(in.body)
}

func encodeAnswer(uid string, a admission.Answer) reply {
	b, err := admission.Encode(uid, a)
	if err != nil {
		return refusedReply(http.StatusInternalServerError, "%v", fmt.Errorf("the answer could not be written: %w", err))
	}
	return reply{uid: uid, body: b}
}
