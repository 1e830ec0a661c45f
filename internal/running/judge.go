package running

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"k8s.io/client-go/util/flowcontrol"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/answer/signers"
	"github.com/boltseal/boltseal/internal/answer/snapshot"
)

// JudgeOptions make a Judge. The zero value means the defaults.
type JudgeOptions struct {
	// Concurrency is how many images are verified at a time. 0 means
	// DefaultConcurrency.
	Concurrency int
	// Rate is how many images are verified in a second at most. 0 means
	// DefaultRate, less than 0 as many as there are.
	Rate float64
	// Recheck is how long what was found about a trusted image is good, RecheckDenied
	// about another one; evidence that runs out earlier ends it earlier. 0 means the
	// defaults.
	Recheck, RecheckDenied time.Duration
	// Asked is told of every image that was verified. Nil means that nobody is.
	Asked func(boltseal.Decision)
	// Owners tells which images the owners of Pods name, for exemptions of workloads.
	// Nil means that nobody does, and such exemptions take nothing out.
	Owners Owners
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
}

// Judge judges what runs, and remembers what it found from one time to the next.
// Its methods must not be called side by side.
type Judge struct {
	o       JudgeOptions
	limiter flowcontrol.RateLimiter
	targets map[use]target // of the last plan
	mu      sync.Mutex
	known   map[unit]verdict
	hosts   map[string]*host
	owners  map[owned]template // what was asked of owners
	ends    time.Time          // when the next exemption does; zero = none
}

// verdict is what was found about an image.
type verdict struct {
	decision boltseal.Decision
	reason   boltseal.Reason
	signers  signers.Set
	until    time.Time // it is found out anew after that
	outages  int       // in a row
}

// host is how a registry does.
type host struct {
	outages int // images in a row that it left without an answer
	reason  boltseal.Reason
	until   time.Time     // it is not asked before that
	probe   chan struct{} // one image is asked about, to see whether it is back; closed then
}

// NewJudge makes a Judge.
func NewJudge(o JudgeOptions) *Judge {
	if o.Concurrency <= 0 {
		o.Concurrency = DefaultConcurrency
	}
	if o.Rate == 0 {
		o.Rate = DefaultRate
	}
	if o.Recheck <= 0 {
		o.Recheck = DefaultRecheck
	}
	if o.RecheckDenied <= 0 {
		o.RecheckDenied = DefaultRecheckDenied
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	j := &Judge{o: o, limiter: flowcontrol.NewFakeAlwaysRateLimiter(), known: map[unit]verdict{}, hosts: map[string]*host{}, owners: map[owned]template{}}
	if o.Rate > 0 {
		j.limiter = flowcontrol.NewTokenBucketRateLimiter(float32(o.Rate), max(1, o.Concurrency))
	}
	return j
}

// Judge judges all that runs, and returns when everything was asked, or ctx ends:
// what was not asked then is Pending. progress is told how many of how many images
// are done; nil means that nobody is.
func (j *Judge) Judge(ctx context.Context, snap *snapshot.Snapshot, v *Inventory, progress func(done, total int)) *Result {
	p := j.plan(ctx, snap, v)
	open := j.open(p)
	if progress == nil {
		progress = func(int, int) {}
	}
	done := len(p.units) - len(open)
	progress(done, len(p.units))
	var mu sync.Mutex
	j.ask(ctx, ctx.Done(), snap.Memo, open, func() {
		mu.Lock()
		defer mu.Unlock()
		done++
		progress(done, len(p.units))
	})
	j.confirm(ctx, p)
	return j.result(p)
}

func (j *Judge) plan(ctx context.Context, snap *snapshot.Snapshot, v *Inventory) *plan {
	p := newPlan(ctx, snap, v, j.targets, j.o.Clock())
	j.targets, j.ends = p.targets, p.ends
	return p
}

// open forgets what no longer runs, takes in what others found out meanwhile, and
// returns the images that have to be asked about: those first that nothing is known
// of.
func (j *Judge) open(p *plan) []unit {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := j.o.Clock()
	known, hosts := make(map[unit]verdict, len(p.units)), map[string]*host{}
	var never, again []unit
	for _, u := range p.units {
		v, ok := j.settled(u, now)
		if !ok {
			v, ok = j.recall(p.snap.Memo, u, now)
		}
		if h := j.hosts[u.target.host]; h != nil {
			hosts[u.target.host] = h
		}
		switch {
		case !ok:
			never = append(never, u)
		case !now.Before(v.until):
			again = append(again, u)
			fallthrough
		default:
			known[u] = v
		}
	}
	j.known, j.hosts = known, hosts
	return append(never, again...)
}

// recall is what is known about an image, by whoever asked.
func (j *Judge) recall(m *memo.Memo, u unit, now time.Time) (verdict, bool) {
	v, ok := j.known[u]
	valid := ok && now.Before(v.until)
	if valid && v.decision == boltseal.Allow || u.target.other != "" {
		return v, ok
	}
	// Admission may have asked since; an outage that it met says nothing new.
	a := m.Peek(u.engine, u.target.ref, now)
	if a == nil || a.Decision == boltseal.Unknown || valid && a.Decision == v.decision {
		return v, ok
	}
	return j.verdictOf(v, a, now), true
}

// settled answers for images that nobody need be asked about.
func (j *Judge) settled(u unit, now time.Time) (verdict, bool) {
	v := verdict{until: now.Add(j.o.Recheck)}
	switch {
	case u.target.ref == "":
		v.reason = u.target.problem
	case u.engine == nil:
		v.reason = u.why
	default:
		return verdict{}, false
	}
	return v, true
}

// ask verifies images. It begins no further one once stop is closed, and returns
// when those under way are done. done is called after each.
func (j *Judge) ask(ctx context.Context, stop <-chan struct{}, m *memo.Memo, units []unit, done func()) {
	next := make(chan unit)
	var wg sync.WaitGroup
	for range min(j.o.Concurrency, len(units)) {
		wg.Go(func() {
			for u := range next {
				if !j.spared(ctx, u) && (j.limiter.Wait(ctx) != nil || !j.one(ctx, m, u)) {
					j.cutOff(u)
				}
				done()
			}
		})
	}
	defer wg.Wait()
	defer close(next)
	for _, u := range units {
		select {
		case next <- u:
		case <-stop:
			return
		case <-ctx.Done():
			return
		}
	}
}

// spared answers for an image whose registry has just left others without an
// answer: the registry is spared, and the time too. When it is to be asked again,
// one image finds out for all whether it is back.
func (j *Judge) spared(ctx context.Context, u unit) bool {
	for {
		probe, answer := j.spare(u)
		if probe == nil {
			return answer
		}
		select {
		case <-probe:
		case <-ctx.Done():
			return true
		}
	}
}

func (j *Judge) spare(u unit) (probe <-chan struct{}, answered bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	h := j.hosts[u.target.host]
	switch {
	case h == nil || h.outages < maxOutages:
		return nil, false
	case h.probe != nil:
		return h.probe, false
	case !j.o.Clock().Before(h.until):
		h.probe = make(chan struct{})
		return nil, false
	}
	j.known[u] = verdict{decision: boltseal.Unknown, until: h.until, outages: 1, reason: boltseal.Reason{Cause: boltseal.CauseUnavailable,
		Message: fmt.Sprintf("%s was not asked, since others of its images could not be checked: %s", u.target.host, h.reason.Message), Remedy: h.reason.Remedy}}
	return nil, true
}

// probed lets those go on that wait to hear whether a registry is back.
func (h *host) probed() {
	if h != nil && h.probe != nil {
		close(h.probe)
		h.probe = nil
	}
}

// cutOff lets another image find out whether the registry is back.
func (j *Judge) cutOff(u unit) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.hosts[u.target.host].probed()
}

// one verifies an image, and reports whether that was not cut off.
func (j *Judge) one(ctx context.Context, m *memo.Memo, u unit) bool {
	a := m.Answer(ctx, u.engine, u.target.ref)
	// What was found elsewhere speaks for the image where the Pod's own repository
	// does not know it, and only then: a signature is looked for where it is to be.
	if u.target.other != "" && (a.Reason.Cause == boltseal.CauseImageNotFound || a.Reason.Cause == boltseal.CauseUnauthorized) {
		if b := m.Answer(ctx, u.engine, u.target.other); b.Decision == boltseal.Allow {
			a = b
		}
	}
	if ctx.Err() != nil && a.Decision == boltseal.Unknown {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	now := j.o.Clock()
	j.heard(u.target.host, a.Decision == boltseal.Unknown && a.Reason.Cause == boltseal.CauseUnavailable, a.Reason, now)
	j.known[u] = j.verdictOf(j.known[u], a, now)
	if j.o.Asked != nil {
		j.o.Asked(a.Decision)
	}
	return true
}

// heard notes whether a registry answered.
func (j *Judge) heard(name string, outage bool, why boltseal.Reason, now time.Time) {
	h := j.hosts[name]
	defer h.probed()
	if !outage {
		delete(j.hosts, name)
		return
	}
	if h == nil {
		h = &host{}
		j.hosts[name] = h
	}
	h.outages++
	h.reason, h.until = why, now.Add(backOff(h.outages-maxOutages))
}

// verdictOf is the verdict of an answer, given the one before.
func (j *Judge) verdictOf(before verdict, a *memo.Answer, now time.Time) verdict {
	v := verdict{decision: a.Decision, reason: a.Reason, signers: a.Signers}
	switch a.Decision {
	case boltseal.Allow:
		v.reason = boltseal.Reason{} // nobody asks why
		// Spread, so that what was asked together is not asked together again.
		v.until = now.Add(j.o.Recheck - time.Duration(rand.Int64N(int64(j.o.Recheck)/4+1)))
		if !a.Expires.IsZero() && a.Expires.Before(v.until) {
			v.until = laterOf(a.Expires, now.Add(leastRecheck))
		}
	case boltseal.Unknown:
		v.outages = before.outages + 1
		v.until = now.Add(backOff(v.outages - 1))
	default:
		v.until = now.Add(j.o.RecheckDenied)
	}
	return v
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// backOff is how long to wait after n outages and one.
func backOff(n int) time.Duration {
	return min(firstRetry<<min(max(n, 0), 10), mostRetry)
}

// wake is when the first image is to be asked about again that could not be judged,
// or the next exemption ends.
func (j *Judge) wake() (at time.Time, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	at, ok = j.ends, !j.ends.IsZero()
	for _, v := range j.known {
		if v.decision == boltseal.Unknown && (!ok || v.until.Before(at)) {
			at, ok = v.until, true
		}
	}
	return at, ok
}

// verdicts returns what is known about the plan's images, in order; nil where
// nothing is.
func (j *Judge) verdicts(p *plan) []*verdict {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := j.o.Clock()
	out := make([]*verdict, len(p.units))
	for i, u := range p.units {
		v, ok := j.settled(u, now)
		if !ok {
			v, ok = j.known[u]
		}
		if ok {
			out[i] = &v
		}
	}
	return out
}

// left is how many images have to be asked about.
func (j *Judge) left(units []unit) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	now, n := j.o.Clock(), 0
	for _, u := range units {
		if v, ok := j.known[u]; !ok || !now.Before(v.until) {
			n++
		}
	}
	return n
}
