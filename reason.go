package boltseal

import (
	"context"
	"errors"
	"fmt"
)

const remedyInternal = "this is a fault in Boltseal; please report it with the image's digest"

// ReasonOf turns an error of a store or a verifier into words. It is the one
// place where sentinels become causes and advice.
func ReasonOf(err error) Reason {
	r := Reason{Cause: CauseInternal, Message: err.Error(), Remedy: remedyInternal}
	host := "the registry"
	var se *StoreError
	if errors.As(err, &se) && se.Host != "" {
		host = se.Host
	}
	switch {
	case errors.Is(err, errOtherSubject):
		r.Cause = CauseOtherImage
		r.Remedy = "sign this image; a signature cannot be carried over from another one"
	case errors.Is(err, ErrRefused):
		r.Cause = CauseRefused
		r.Remedy = "ask who runs " + host + " why it leads there; Boltseal does not follow it, and no setting lets it"
	case errors.Is(err, ErrUnauthorized):
		r.Cause = CauseUnauthorized
		r.Remedy = "give the Store credentials that may pull from " + host
	case errors.Is(err, ErrNotFound):
		r.Cause = CauseImageNotFound
		r.Remedy = "check the image's name, tag and digest"
	case errors.Is(err, ErrLimit):
		r.Cause = CauseLimit
		r.Remedy = "make it smaller, and push it again; no setting raises this limit"
	case errors.Is(err, ErrMalformed):
		r.Cause = CauseMalformed
		r.Remedy = "push the image and its signature again, or ask who runs " + host
	case errors.Is(err, ErrUnusable):
		r.Cause = CauseUnusable
		r.Remedy = "ask who runs " + host + ", or a proxy before it, why it answers so; it says nothing about the image"
	case errors.Is(err, context.DeadlineExceeded):
		r.Cause = CauseUnavailable
		r.Message = fmt.Sprintf("no answer in time: %v", err)
		r.Remedy = "see whether " + host + " is slow or out of reach, and try again"
	case errors.Is(err, ErrUnavailable):
		r.Cause = CauseUnavailable
		r.Remedy = "see whether " + host + " is up and reachable from here, and try again"
	case errors.Is(err, context.Canceled):
		r.Cause = CauseIncomplete
		r.Message = "the work was cut off"
		r.Remedy = "try again"
	case errors.Is(err, ErrConfiguration):
		r.Cause = CauseConfiguration
		r.Remedy = "correct the configuration"
	case errors.Is(err, ErrInvalidReference):
		r.Cause = CauseInvalidReference
		r.Remedy = "write the image as HOST/REPOSITORY:TAG or HOST/REPOSITORY@sha256:DIGEST"
	}
	if advised := (*Advised)(nil); errors.As(err, &advised) {
		r.Remedy = advised.Remedy
	}
	return r
}

func noStore(ref Reference) Reason {
	return Reason{Cause: CauseNoStore, Message: "no Store serves " + ref.Name(),
		Remedy: "add a Store whose scopes cover " + ref.Registry}
}

// causeUndetermined tells the causes that leave the question open from those that
// answer it with no.
func causeUndetermined(c Cause) bool {
	return c.Outage() || c == CauseUnauthorized || c == CauseIncomplete
}

// Outage tells the causes that lie with a registry, a token server or a proxy, and
// not with the image or with what Boltseal may read: no answer, one that cannot be
// used, and one that may not be followed.
func (c Cause) Outage() bool { return c == CauseUnavailable || c == CauseUnusable || c == CauseRefused }
