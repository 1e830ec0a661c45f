package server

import (
	"github.com/boltseal/boltseal/internal/admission"
	"github.com/boltseal/boltseal/internal/integrity"
	"github.com/boltseal/boltseal/internal/snapshot"
)

// judge holds an object against all policies that select it: the cluster's are
// verified with the cluster's resources, and those that a namespace sets itself
// with the namespace's. The object must satisfy both. recorded says how each image
// is recorded.
func (s *Server) judge(in *question, snap *snapshot.Snapshot, policies []*integrity.Policy, q *admission.Request, id string) (v integrity.Verdict, recorded []record) {
	// The longer path is for the few who have both, and verifies one after the other.
	var groups []integrity.Group
	var records [][]record
	with := func(policies []*integrity.Policy, namespace string) {
		images, recorded := s.images(in, snap, policies, q, namespace)
		groups, records = append(groups, integrity.Group{Policies: policies, Images: images}), append(records, recorded)
	}
	cluster, own := byOwner(policies)
	switch {
	case len(own) == 0 || snap.Engines.EngineFor(q.Namespace) == snap.Engines.EngineFor(""):
		with(policies, "")
	default:
		if len(cluster) > 0 {
			with(cluster, "")
		}
		with(own, q.Namespace)
	}
	v = integrity.JudgeAll(integrity.Context{Pod: q.Kind == "Pod", PinAsked: s.pinAsked.Load(), Decision: id, Now: in.start,
		Subject: integrity.Subject{Namespace: q.Namespace, Workloads: integrity.Admitted(q.Kind, q.Name, q.User, q.Owner, q.Labels)}}, groups...)
	recorded = records[0]
	for i, o := range v.Images {
		recorded[i] = records[o.Group][i]
	}
	return v, recorded
}

// byOwner parts the cluster's policies from those that a namespace sets itself.
func byOwner(policies []*integrity.Policy) (cluster, own []*integrity.Policy) {
	for _, p := range policies {
		if p.Owner() == "" {
			cluster = append(cluster, p)
		} else {
			own = append(own, p)
		}
	}
	return cluster, own
}
