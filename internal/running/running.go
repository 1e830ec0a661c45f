// Package running judges the Pods that already run, by the policies that would judge them if they came today.
package running

import (
	"time"

	"github.com/boltseal/boltseal"
)

// Defaults of JudgeOptions and Options. Looking at what runs is never urgent:
// whoever wants to start a Pod waits, and comes first.
const (
	DefaultConcurrency   = 4
	DefaultRate          = 50
	DefaultRecheck       = time.Hour
	DefaultRecheckDenied = 15 * time.Minute
	DefaultInterval      = 10 * time.Minute
)

// Limits on what is kept and told.
const (
	// maxFirst is how many Pods a finding names; the others are counted.
	maxFirst = 3
	// maxText bounds an image, as a Pod or a node names it.
	maxText = 2 * boltseal.MaxReferenceLength
	// maxMessage bounds what is told of one image.
	maxMessage = 400
)

// The back-off after an outage, of an image and of a registry.
const (
	firstRetry = 15 * time.Second
	mostRetry  = 5 * time.Minute
	// maxOutages is how many images in a row a registry may leave without an answer
	// before the others of it are not asked about for a while.
	maxOutages = 3
	// leastRecheck bounds how often evidence that runs out soon is gathered anew.
	leastRecheck = time.Minute
)

// Outcome is what is known of an image or a Pod. The zero value is Pending.
type Outcome uint8

// The outcomes, the worse the greater.
const (
	Pending    Outcome = iota // it was not looked at yet
	Trusted                   // it satisfies the policy
	Exempt                    // it does not, or could not be judged, and is exempt
	Unknown                   // an outage: it could not be judged
	NotTrusted                // it does not satisfy the policy
)

// String returns "pending", "trusted", "exempt", "unknown" or "not trusted".
func (o Outcome) String() string {
	switch o {
	case Trusted:
		return "trusted"
	case Exempt:
		return "exempt"
	case Unknown:
		return "unknown"
	case NotTrusted:
		return "not trusted"
	}
	return "pending"
}

// MarshalText encodes the outcome as its name.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// Outcomes lists all outcomes.
func Outcomes() []Outcome { return []Outcome{Pending, Trusted, Exempt, Unknown, NotTrusted} }

// worseOutcome is the outcome of two things that must both be trusted. What is pending
// hides nothing that is known to be wrong, and is not trusted yet.
func worseOutcome(a, b Outcome) Outcome {
	rank := func(o Outcome) int {
		switch o {
		case Trusted:
			return 0
		case Exempt:
			return 1
		case Pending:
			return 2
		case Unknown:
			return 3
		}
		return 4
	}
	if rank(a) >= rank(b) {
		return a
	}
	return b
}

func outcomeOf(d boltseal.Decision) Outcome {
	switch d {
	case boltseal.Allow:
		return Trusted
	case boltseal.Unknown:
		return Unknown
	}
	return NotTrusted
}
