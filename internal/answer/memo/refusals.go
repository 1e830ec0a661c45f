package memo

import (
	"fmt"
	"time"

	"github.com/boltseal/boltseal"
)

func lateReason(ref boltseal.Reference, after time.Duration) boltseal.Reason {
	return boltseal.Reason{
		Cause:   boltseal.CauseUnavailable,
		Message: fmt.Sprintf("no answer in time: the signatures of %s could not be read from %s within %s", ref.String(), ref.Registry, after.Round(10*time.Millisecond)),
		Remedy:  "see whether " + ref.Registry + " is slow or out of reach, and try again",
	}
}

func overloadedReason(most int) boltseal.Reason {
	return boltseal.Reason{
		Cause:   boltseal.CauseUnavailable,
		Message: fmt.Sprintf("Boltseal is verifying %d images already", most),
		Remedy:  "try again, or run more replicas",
	}
}
