// Package timing adds up where the time of one verification goes.
package timing

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/boltseal/boltseal"
)

// maxHostBytes bounds the name of a host that is kept: the longest that DNS has, with
// a port.
const maxHostBytes = 260

// Times are where time went. A stage's is the time in which at least one of its steps
// was under way; stages overlap.
type Times struct {
	// Waited is how long the asker waited.
	Waited time.Duration
	// Joined is set where the asker waited for a verification that another had begun.
	Joined bool
	Stages [boltseal.Stages]time.Duration
	// Slowest is the HTTP request that took longest, also one that is not answered yet.
	Slowest Request
}

// Request is one HTTP request.
type Request struct {
	Host   string
	Took   time.Duration
	Status int // 0 = no answer
}

// Recorder is the [boltseal.Observer] of one verification.
type Recorder struct {
	clock func() time.Time
	next  boltseal.Observer

	mu      sync.Mutex
	active  [boltseal.Stages]int
	since   [boltseal.Stages]time.Time
	total   [boltseal.Stages]time.Duration
	slowest Request
	open    map[*openRequest]struct{}
}

// openRequest is a request that is not answered yet.
type openRequest struct {
	host  string
	since time.Time
}

// NewRecorder makes a Recorder that tells next, which may be nil, of all steps too.
func NewRecorder(clock func() time.Time, next boltseal.Observer) *Recorder {
	return &Recorder{clock: clock, next: next, open: map[*openRequest]struct{}{}}
}

// Begin implements [boltseal.Observer].
func (r *Recorder) Begin(ctx context.Context, s boltseal.Step) (context.Context, func(boltseal.Ending)) {
	var endNext func(boltseal.Ending)
	if r.next != nil {
		ctx, endNext = r.next.Begin(ctx, s)
	}
	asked := r.begun(s)
	return ctx, func(e boltseal.Ending) {
		r.ended(s.Stage, asked, e.Status)
		if endNext != nil {
			endNext(e)
		}
	}
}

func (r *Recorder) begun(s boltseal.Step) (asked *openRequest) {
	now := r.clock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.active[s.Stage]++; r.active[s.Stage] == 1 {
		r.since[s.Stage] = now
	}
	if s.Stage == boltseal.StageRequest {
		asked = &openRequest{strings.Clone(s.Host[:min(len(s.Host), maxHostBytes)]), now}
		r.open[asked] = struct{}{}
	}
	return asked
}

func (r *Recorder) ended(s boltseal.Stage, asked *openRequest, status int) {
	now := r.clock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.active[s]--; r.active[s] == 0 {
		r.total[s] += now.Sub(r.since[s])
	}
	if asked != nil {
		delete(r.open, asked)
		r.slowest = slowerOf(r.slowest, asked, now, status)
	}
}

func slowerOf(than Request, asked *openRequest, now time.Time, status int) Request {
	if took := now.Sub(asked.since); took > than.Took {
		return Request{asked.host, took, status}
	}
	return than
}

// Times are where the time went until now. What is under way counts.
func (r *Recorder) Times() Times {
	now := r.clock()
	r.mu.Lock()
	defer r.mu.Unlock()
	t := Times{Stages: r.total, Slowest: r.slowest}
	for s, n := range r.active {
		if n > 0 {
			t.Stages[s] += now.Sub(r.since[s])
		}
	}
	for asked := range r.open {
		t.Slowest = slowerOf(t.Slowest, asked, now, 0)
	}
	return t
}
