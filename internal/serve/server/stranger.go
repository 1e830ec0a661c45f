package server

import (
	"github.com/boltseal/boltseal"
)

// strangerMessage and strangerRemedy say why credentials were not used.
const (
	strangerMessage = "; the credentials of its namespace or of the Pod were not used, since nothing proves to Boltseal who asks"
	strangerRemedy  = "if the registry is to be read with them, have an administrator start boltseal serve with --admission-client-ca or --admission-trust-network (docs/webhook.md, Who may ask)"
)

// strangerReason adds to a reason that credentials were left out, where that may be why.
func strangerReason(r boltseal.Reason) boltseal.Reason {
	if r.Cause == boltseal.CauseUnauthorized || r.Cause == boltseal.CauseImageNotFound {
		r.Message += strangerMessage
		r.Remedy = strangerRemedy
	}
	return r
}
