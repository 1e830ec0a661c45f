package memo

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/answer/signers"
	"github.com/boltseal/boltseal/internal/tracing/timing"
)

// Encoded is what is kept of a result's evidence.
type Encoded struct {
	Report []byte // in the format of a caller; Alike follows it
	Alike  string // which many have in common
	Audit  []byte // in the format of an audit line
}

// Answer is what is known about one image. It is immutable. The evidence is in
// Encoded, in the forms that are needed: a fraction of the memory.
type Answer struct {
	Decision boltseal.Decision
	Reason   boltseal.Reason // empty where Decision is Allow
	Digest   digest.Digest   // of the image's manifest; "" where it could not be resolved
	Signers  signers.Set
	Encoded
	// Refused is set where its verification was not begun, since too many were under way.
	Refused bool
	// Expires is when its evidence runs out, at the latest; zero = never.
	Expires time.Time
	until   time.Time
}

func (m *Memo) encode(e *boltseal.Engine, r *boltseal.Result) *Answer {
	a := &Answer{Decision: r.Decision, Digest: r.Subject.Digest, Signers: signers.Of(r)}
	if r.Decision != boltseal.Allow {
		a.Reason = r.Reason
	}
	if m.o.Encode != nil {
		a.Encoded = m.o.Encode(e, r)
	}
	return a
}

const (
	entryCost  = 160 // list, map and key
	answerCost = 252 // the struct of an Answer
)

func (a *Answer) cost() int64 {
	return answerCost + int64(cap(a.Report)+len(a.Alike)+cap(a.Audit)+len(a.Reason.Message)+len(a.Reason.Remedy))
}

// spent is where the time of the work went, for one who waited so long for it.
func (w *work) spent(waited time.Duration, leads bool) *timing.Times {
	var t timing.Times
	if w.times != nil {
		t = w.times.Times()
	}
	t.Waited, t.Joined = waited, !leads
	return &t
}
