// Package memo answers for images: one verification each, however many ask at once, and its answer is kept while it holds.
package memo

import (
	"container/list"
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/fair"
	"github.com/boltseal/boltseal/internal/base/lru"
	"github.com/boltseal/boltseal/internal/tracing/timing"
)

// Defaults of Options.
const (
	DefaultBytes       = 24 << 20
	DefaultAllowTTL    = 5 * time.Minute
	DefaultDenyTTL     = 10 * time.Second
	DefaultUnknownTTL  = time.Second
	DefaultTagTTL      = 10 * time.Second
	DefaultWorkTimeout = 10 * time.Second
	DefaultMaxWork     = 4096
)

// Options make a Memo. The zero value means the defaults and keeps no encodings.
type Options struct {
	// Bytes bounds what is kept, roughly. 0 means DefaultBytes.
	Bytes int64
	// AllowTTL, DenyTTL and UnknownTTL are how long an answer is good at most,
	// by its decision; evidence that runs out earlier ends it earlier. 0 means
	// the defaults. UnknownTTL is the back-off after an outage.
	AllowTTL, DenyTTL, UnknownTTL time.Duration
	// TagTTL is how long a tag is taken to name the same digest. 0 means
	// DefaultTagTTL.
	TagTTL time.Duration
	// WorkTimeout bounds one verification, which goes on when those who asked
	// have left, so that it is there when they ask again. 0 means DefaultWorkTimeout.
	WorkTimeout time.Duration
	// MaxWork bounds the verifications under way, a quarter of them for one
	// namespace and at one registry host. 0 means DefaultMaxWork.
	MaxWork int
	// Encode is called once for each result, with the engine that it is of. Nil
	// means no encodings.
	Encode func(*boltseal.Engine, *boltseal.Result) Encoded
	// Panicked is told of a panic in a verification, which denies its image. Nil
	// means that nobody wants to know.
	Panicked func(what string, value any, stack []byte)
	// Stats counts. Nil means that nobody wants to know.
	Stats *Stats
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
}

// Stats counts what a Memo did. One may be shared by many.
type Stats struct {
	Hits, Joined, Verified, Overloaded atomic.Uint64
	InFlight                           atomic.Int64
}

type key struct {
	engine *boltseal.Engine
	image  string
}

type entry struct {
	answer *Answer
	until  time.Time
}

// work is one verification under way.
type work struct {
	done    chan struct{}
	answer  *Answer         // to be read after done
	ctx     context.Context //nolint:containedctx // the work's own: those who wait for it have others
	cancel  context.CancelFunc
	counted bool             // in Stats.InFlight
	times   *timing.Recorder // nil where it is a part of other work

	// Under Memo.mu.
	asker, host string
	at          *list.Element // its seat, nil where it has none
	yielded     bool
}

// resolution is what a tag names, or the look for it under way.
type resolution struct {
	done  chan struct{}
	desc  ocispec.Descriptor // to be read after done, as is the rest
	err   error
	until time.Time
}

// Memo keeps answers. It is safe for concurrent use.
type Memo struct {
	o    Options
	kept *lru.Cache[key, entry]
	tags *lru.Cache[key, *resolution]
	// manifests are those that images of several platforms are made of.
	manifests *manifests
	turns     *fair.Slots
	begins    *fair.Slots // to begin work, which is short: it does not wait for turns, which are long
	mu        sync.Mutex
	ongoing   map[key]*work
	seats     seats
}

// New makes a Memo.
func New(o Options) *Memo {
	defaultTo(&o.Bytes, DefaultBytes)
	defaultTo(&o.AllowTTL, DefaultAllowTTL)
	defaultTo(&o.DenyTTL, DefaultDenyTTL)
	defaultTo(&o.UnknownTTL, DefaultUnknownTTL)
	defaultTo(&o.TagTTL, DefaultTagTTL)
	defaultTo(&o.WorkTimeout, DefaultWorkTimeout)
	defaultTo(&o.MaxWork, DefaultMaxWork)
	if o.Stats == nil {
		o.Stats = &Stats{}
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return &Memo{o: o, kept: lru.New[key, entry](o.Bytes), tags: lru.New[key, *resolution](o.Bytes / 8), manifests: newManifests(o.Bytes / 4), ongoing: make(map[key]*work),
		seats: newSeats(o.MaxWork), turns: fair.NewSlots(turnsAtATime()), begins: fair.NewSlots(turnsAtATime())}
}

func defaultTo[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Usage returns the number of answers that are kept and roughly their bytes.
func (m *Memo) Usage() (entries int, bytes int64) { return m.kept.Usage() }

// Retain forgets the answers of engines that keep does not want.
func (m *Memo) Retain(keep func(*boltseal.Engine) bool) {
	gone := func(k key) bool { return !keep(k.engine) }
	m.kept.DeleteFunc(gone)
	m.tags.DeleteFunc(gone)
	m.manifests.kept.DeleteFunc(gone)
}

// Peek returns what is known about the image at the time now, nil where it has to
// be verified. One reading of the clock does for all images of a request.
func (m *Memo) Peek(e *boltseal.Engine, image string, now time.Time) *Answer {
	a, ok := m.getAt(key{e, image}, now)
	if !ok {
		return nil
	}
	m.o.Stats.Hits.Add(1)
	return a
}

// Answer verifies the image, as a user writes it, by the engine, or returns what
// an earlier verification found. When ctx ends first the answer is Unknown, and
// says so.
func (m *Memo) Answer(ctx context.Context, e *boltseal.Engine, image string) *Answer {
	a, _ := m.Timed(ctx, e, image)
	return a
}

// Timed is Answer, and says where the time of the verification went, nil where none
// was waited for. ctx's observer and its traceparent are those of the verification,
// where it begins with this call.
func (m *Memo) Timed(ctx context.Context, e *boltseal.Engine, image string) (*Answer, *timing.Times) {
	if a, ok := m.get(key{e, image}); ok {
		m.o.Stats.Hits.Add(1)
		return a, nil
	}
	image = strings.Clone(image) // it may be a part of a request, which must not be kept whole
	ref, err := boltseal.ParseReference(image)
	if err != nil { // nothing was found that could be encoded
		return &Answer{Reason: boltseal.ReasonOf(err)}, nil
	}
	k := key{e, canonicalName(ref)}
	if k.image != image {
		if a, ok := m.get(k); ok {
			m.o.Stats.Hits.Add(1)
			m.alias(key{e, image}, ref, a)
			return a, nil
		}
	}
	start := m.o.Clock()
	w, leads, refused := m.begin(ctx, k, ref)
	switch {
	case refused != nil:
		return refused, nil
	case w == nil:
		took := m.o.Clock().Sub(start)
		return m.encode(e, &boltseal.Result{Decision: boltseal.Unknown, Reason: lateReason(ref, took), Findings: boltseal.Findings{Image: image, Reference: ref, CollectedAt: start.UTC()}}),
			&timing.Times{Waited: took}
	}
	select {
	case <-w.done:
		if k.image != image {
			m.alias(key{e, image}, ref, w.answer)
		}
		return w.answer, w.spent(m.o.Clock().Sub(start), leads)
	case <-ctx.Done():
		took := m.o.Clock().Sub(start)
		return m.encode(e, &boltseal.Result{Decision: boltseal.Unknown, Reason: lateReason(ref, took), Findings: boltseal.Findings{Image: image, Reference: ref, CollectedAt: start.UTC()}}), w.spent(took, leads)
	}
}

// begin joins the work on k, or begins it; the answer is why it is not to be done now.
// All three are zero where ctx ended before. It is done in turn: of a review with a
// thousand images that are refused, no more than one at a time takes a processor.
func (m *Memo) begin(ctx context.Context, k key, ref boltseal.Reference) (w *work, leads bool, refused *Answer) {
	done, err := slotOf(ctx, m.begins)
	if err != nil {
		return nil, false, nil
	}
	defer done()
	w, leads, refusal := m.join(ctx, k, ref.Registry)
	switch {
	case refusal != nil:
		a := m.encode(k.engine, &boltseal.Result{Decision: boltseal.Unknown, Reason: *refusal, Findings: boltseal.Findings{Image: ref.String(), Reference: ref}})
		a.Refused = true
		return nil, false, a
	case leads:
		go m.lead(k, w, ref)
	default:
		m.o.Stats.Joined.Add(1)
	}
	return w, leads, nil
}

// canonicalName is the name of the image with its digest, or with its tag where no
// digest is given.
func canonicalName(ref boltseal.Reference) string {
	if ref.Digest != "" {
		return ref.Name() + "@" + ref.Digest.String()
	}
	return ref.String()
}

func (m *Memo) get(k key) (*Answer, bool) { return m.getAt(k, m.o.Clock()) }

func (m *Memo) getAt(k key, now time.Time) (*Answer, bool) {
	e, ok := m.kept.Get(k)
	if !ok || !now.Before(e.until) {
		return nil, false
	}
	return e.answer, true
}

// alias keeps an answer under another spelling of the image.
func (m *Memo) alias(k key, ref boltseal.Reference, a *Answer) {
	until := a.until
	if ref.Digest == "" {
		// The tag's own entry says how long the tag is good.
		e, ok := m.kept.Get(key{k.engine, canonicalName(ref)})
		if !ok || e.answer != a {
			return
		}
		until = e.until
	}
	m.kept.Put(k, entry{a, until}, int64(len(k.image))+entryCost)
}

// join returns the work on k, and whether the caller, who asks in the name of ctx's
// asker, is to do it; or why it is not to be done now.
func (m *Memo) join(ctx context.Context, k key, host string) (w *work, leads bool, refusal *boltseal.Reason) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := m.begun(k); w != nil {
		return w, false, nil
	}
	if w, refusal = m.newWork(ctx, host); refusal != nil {
		return nil, false, refusal
	}
	m.ongoing[k] = w
	return w, true, nil
}

// begun is the work on k: what is under way, or what ended since the caller looked for
// its answer; nil where there is none. It is to be called with mu held: an answer is kept
// before its work leaves ongoing.
func (m *Memo) begun(k key) *work {
	if w, ok := m.ongoing[k]; ok {
		return w
	}
	a, ok := m.get(k)
	if !ok {
		return nil
	}
	w := &work{done: make(chan struct{}), answer: a}
	close(w.done)
	return w
}

// within is join for a part of work that has its seat and its time.
func (m *Memo) within(k key) (w *work, leads bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := m.begun(k); w != nil {
		return w, false
	}
	w = &work{done: make(chan struct{})}
	m.ongoing[k] = w
	return w, true
}

// lead does the work on k, whoever waits for it.
func (m *Memo) lead(k key, w *work, ref boltseal.Reference) {
	m.o.Stats.InFlight.Add(1)
	w.counted = true
	ctx := w.ctx
	defer w.cancel()
	defer m.finish(k, w, ref)
	if ref.Digest != "" {
		m.o.Stats.Verified.Add(1)
		e, shared := m.sharing(k)
		w.answer = shared.within(m.judged(k.engine, e.Collect(ctx, ref)))
		return
	}
	w.answer = m.tagged(w, k.engine, ref)
}

// finish publishes an answer. It runs deferred: a panic in the work becomes a
// denial of this one image, without encodings, for those may be what panics.
func (m *Memo) finish(k key, w *work, ref boltseal.Reference) {
	if p := recover(); p != nil {
		w.answer = &Answer{Reason: boltseal.ReasonOf(m.panicked(ref, p)), until: m.o.Clock().Add(m.o.UnknownTTL)}
	}
	m.mu.Lock()
	m.seats.give(w)
	if w.yielded && w.answer.Decision == boltseal.Unknown {
		until := w.answer.until
		w.answer = m.encode(k.engine, &boltseal.Result{Decision: boltseal.Unknown, Reason: yieldedReason(), Findings: boltseal.Findings{Image: ref.String(), Reference: ref}})
		w.answer.until = until
	}
	m.mu.Unlock()
	until := w.answer.until
	cost := entryCost + int64(len(k.image))
	if ref.Digest == "" {
		if t := m.o.Clock().Add(m.o.TagTTL); t.Before(until) {
			until = t
		}
	} else {
		if d := string(w.answer.Digest); strings.HasSuffix(k.image, d) {
			w.answer.Digest = digest.Digest(k.image[len(k.image)-len(d):]) // one text for both
		}
		cost += w.answer.cost()
	}
	m.kept.Put(k, entry{w.answer, until}, cost)
	m.mu.Lock()
	delete(m.ongoing, k)
	m.mu.Unlock()
	if w.counted {
		m.o.Stats.InFlight.Add(-1)
	}
	close(w.done)
}

// panicked tells of a panic.
func (m *Memo) panicked(ref boltseal.Reference, p any) error {
	what := "verifying " + ref.String()
	if m.o.Panicked != nil {
		m.o.Panicked(what, p, debug.Stack())
	}
	return fmt.Errorf("%s: panic: %.200v", what, p)
}

// tagged resolves the tag and answers for the digest, together with all who ask
// for the digest itself.
func (m *Memo) tagged(mine *work, e *boltseal.Engine, ref boltseal.Reference) *Answer {
	ctx := mine.ctx
	r := m.resolve(ctx, e, ref, mine)
	if r.err != nil {
		f := boltseal.Findings{Image: ref.String(), Reference: ref, Failure: boltseal.ReasonOf(r.err), CollectedAt: m.o.Clock().UTC()}
		return m.judged(e, f)
	}
	desc := r.desc
	pinned := ref.WithDigest(desc.Digest)
	k := key{e, canonicalName(pinned)}
	if a, ok := m.get(k); ok {
		return a
	}
	w, leads := m.within(k)
	if leads {
		m.collect(ctx, k, w, pinned, desc)
		return w.answer
	}
	_, end := boltseal.BeginStep(ctx, boltseal.Step{Stage: boltseal.StageShared, Host: ref.Registry})
	defer end(boltseal.Ending{})
	select {
	case <-w.done:
		return w.answer
	case <-ctx.Done():
		return m.encode(e, &boltseal.Result{Decision: boltseal.Unknown, Reason: lateReason(ref, m.o.WorkTimeout), Findings: boltseal.Findings{Image: ref.String(), Reference: ref}})
	}
}

// resolve finds out what a tag names, once for all who ask within TagTTL. A
// failure is not kept: the answer that is made of it is. mine is the caller's work
// that this is a part of, nil where there is none.
func (m *Memo) resolve(ctx context.Context, e *boltseal.Engine, ref boltseal.Reference, mine *work) *resolution {
	k := key{e, canonicalName(ref)}
	m.mu.Lock()
	r, ok := m.tags.Get(k)
	if ok {
		select {
		case <-r.done:
			ok = r.err == nil && m.o.Clock().Before(r.until)
		default:
		}
	}
	if !ok {
		w := mine
		if w == nil {
			var refusal *boltseal.Reason
			if w, refusal = m.newWork(ctx, ref.Registry); refusal != nil {
				m.mu.Unlock()
				return &resolution{err: fmt.Errorf("%w: %s", boltseal.ErrUnavailable, refusal.Message)}
			}
		}
		r = &resolution{done: make(chan struct{})}
		m.tags.Put(k, r, entryCost+int64(len(k.image)))
		go m.look(e, ref, r, w, mine == nil)
	}
	m.mu.Unlock()
	if ok {
		var end func(boltseal.Ending)
		ctx, end = boltseal.BeginStep(ctx, boltseal.Step{Stage: boltseal.StageShared, Host: ref.Registry})
		defer end(boltseal.Ending{})
	}
	select {
	case <-r.done:
		return r
	case <-ctx.Done():
		return &resolution{err: &boltseal.StoreError{Op: "resolve", Host: ref.Registry, Target: ref.String(), Err: fmt.Errorf("%w in time", boltseal.ErrUnavailable)}}
	}
}

// look resolves a tag as a part of w, which is all of it where alone is set.
func (m *Memo) look(e *boltseal.Engine, ref boltseal.Reference, r *resolution, w *work, alone bool) {
	defer close(r.done)
	if alone {
		defer func() {
			w.cancel()
			m.mu.Lock()
			m.seats.give(w)
			m.mu.Unlock()
		}()
	}
	defer func() {
		if p := recover(); p != nil {
			r.err = m.panicked(ref, p)
		}
	}()
	r.desc, r.err = e.Resolve(w.ctx, ref)
	r.until = m.o.Clock().Add(m.o.TagTTL)
}

func (m *Memo) collect(ctx context.Context, k key, w *work, ref boltseal.Reference, desc ocispec.Descriptor) {
	defer m.finish(k, w, ref)
	m.o.Stats.Verified.Add(1)
	e, shared := m.sharing(k)
	w.answer = shared.within(m.judged(k.engine, e.CollectResolved(ctx, ref, desc)))
}

// judged decides, and sets how long the answer is good.
func (m *Memo) judged(e *boltseal.Engine, f boltseal.Findings) *Answer {
	r := e.Decide(f)
	until := m.until(&r)
	a := m.encode(e, &r)
	a.until, a.Expires = until, r.ValidUntil()
	return a
}

// until is how long what was found is good.
func (m *Memo) until(r *boltseal.Result) time.Time {
	ttl := m.o.DenyTTL
	switch r.Decision {
	case boltseal.Allow:
		ttl = m.o.AllowTTL
	case boltseal.Unknown:
		ttl = m.o.UnknownTTL
	}
	until := m.o.Clock().Add(ttl)
	if v := r.ValidUntil(); !v.IsZero() && v.Before(until) {
		until = v
	}
	return until
}
