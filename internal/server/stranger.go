package server

import (
	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/snapshot"
)

// engineFor is the engine for a namespace's images, nil where there is none. Who has
// not proven who they are may name any namespace, and is answered without what that
// one lends; withheld reports that there was something.
func (s *Server) engineFor(snap *snapshot.Snapshot, namespace string, proven bool) (e *boltseal.Engine, withheld bool) {
	e = snap.Engines.EngineFor(namespace)
	if e == nil || proven {
		return e, false
	}
	return snap.Engines.ForStranger(e)
}

// strangerMessage and strangerRemedy say why credentials were not used.
const (
	strangerMessage = "; the credentials of its namespace or of the Pod were not used, since nothing proves to Boltseal who asks"
	strangerRemedy  = "if the registry is to be read with them, have an administrator start boltseal serve with --admission-client-ca or --admission-trust-network (docs/webhook.md, Who may ask)"
)

// stranger adds to a reason that credentials were left out, where that may be why.
func stranger(r boltseal.Reason) boltseal.Reason {
	if r.Cause == boltseal.CauseUnauthorized || r.Cause == boltseal.CauseImageNotFound {
		r.Message += strangerMessage
		r.Remedy = strangerRemedy
	}
	return r
}
