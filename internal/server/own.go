package server

import (
	"maps"

	"github.com/boltseal/boltseal/internal/admission"
	"github.com/boltseal/boltseal/internal/integrity"
	"github.com/boltseal/boltseal/internal/memo"
	"github.com/boltseal/boltseal/internal/snapshot"
)

// judge holds an object against all policies that select it: the cluster's are
// verified with the cluster's resources, and those that a namespace sets itself
// with the namespace's. The object must satisfy both.
func (s *Server) judge(in question, snap *snapshot.Snapshot, policies []*integrity.Policy, q *admission.Request, id string) (integrity.Verdict, []memo.Encoded) {
	with := func(policies []*integrity.Policy, namespace string) (integrity.Verdict, []memo.Encoded) {
		images, encoded := s.images(in, snap, policies, q, namespace)
		return integrity.Judge(policies, images, integrity.Context{Pod: q.Kind == "Pod", Decision: id, Now: in.start}), encoded
	}
	var cluster, own []*integrity.Policy
	for _, p := range policies {
		if p.Owner() == "" {
			cluster = append(cluster, p)
		} else {
			own = append(own, p)
		}
	}
	switch {
	case len(own) == 0 || snap.Engines.EngineFor(q.Namespace) == snap.Engines.EngineFor(""):
		return with(policies, "")
	case len(cluster) == 0:
		return with(own, q.Namespace)
	}
	// The longer path is for the few who have both, and verifies one after the other.
	v, encoded := with(cluster, "")
	other, otherEncoded := with(own, q.Namespace)
	for i := range encoded {
		if v.Images[i].Excluded || v.Images[i].Trusted && !other.Images[i].Trusted && !other.Images[i].Excluded {
			encoded[i] = otherEncoded[i]
		}
	}
	return both(v, other), encoded
}

// both is the verdict of two that must hold. What is told of an image is what
// keeps it out, where anything does.
func both(a, b integrity.Verdict) integrity.Verdict {
	v := integrity.Verdict{Allowed: a.Allowed && b.Allowed, Message: a.Message, Warnings: append(a.Warnings, b.Warnings...),
		Audit: map[string]string{}, Applied: append(a.Applied, b.Applied...), Images: make([]integrity.Outcome, len(a.Images))}
	if v.Message != "" && b.Message != "" {
		v.Message += "\n"
	}
	v.Message += b.Message
	maps.Copy(v.Audit, a.Audit)
	for k, text := range b.Audit {
		if have := v.Audit[k]; have != "" && have != text {
			text = have + "," + text
		}
		v.Audit[k] = text
	}
	for i := range v.Images {
		x, y := a.Images[i], b.Images[i]
		o := x
		if x.Excluded || x.Trusted && !y.Trusted && !y.Excluded {
			o = y
		}
		o.Excluded = x.Excluded && y.Excluded
		o.Trusted = (x.Trusted || x.Excluded) && (y.Trusted || y.Excluded) && !o.Excluded
		// Only what both hold for trusted, and hold for the same, is written into a Pod.
		o.Pin = (x.Pin || y.Pin) && o.Trusted && (x.Excluded || y.Excluded || x.Found.Digest == y.Found.Digest)
		v.Images[i] = o
	}
	return v
}
