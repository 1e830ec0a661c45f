package keys

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Intervals of a Refresher.
const (
	// MinInterval is the shortest time between two attempts that succeed.
	MinInterval = time.Second
	// firstBackoff is the wait after the first failure; it doubles with each further
	// one, up to maxBackoff.
	firstBackoff = time.Second
	maxBackoff   = 5 * time.Minute
	// firstThrottled is the wait after the first answer that says to wait and not for
	// how long; it doubles too.
	firstThrottled = 10 * time.Second
	// jitter is by which part a wait is shortened, or lengthened after a failure, at
	// most: replicas and providers do not ask in step.
	jitter = 0.1
)

// Options make a Refresher.
type Options struct {
	Env Env
	// Changed is called after what a provider has, or what is wrong with it, has
	// changed, and after its first attempt. It must not block. Nil means that nobody
	// wants to know.
	Changed func()
	// Fetched is called after an attempt that confirmed what was known.
	// It must not block. Nil means that nobody wants to know.
	Fetched func(Want, State)
	// Begin is told that an attempt at a resource's provider begins, and end of what came
	// of it. Nil means that nobody wants to know.
	Begin func(ctx context.Context, resource string) (_ context.Context, end func(error))
	// Random returns a number in [0, 1). Nil means math/rand's.
	Random func() float64
	// Log receives what an operator should know. Nil discards it.
	Log *slog.Logger
}

// Refresher runs the providers that are wanted. What it knows is read without
// waiting for any of them. It is safe for concurrent use.
type Refresher struct {
	o      Options
	ctx    context.Context
	cancel context.CancelFunc
	room   chan struct{} // bounds how many fetch at a time
	wg     sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	running map[string]*runner // by Want.ID
	tried   chan struct{}      // closed when all that are wanted were tried; nil = nobody waits
}

// runner is one provider that is wanted.
type runner struct {
	r      *Refresher
	want   Want
	stop   context.CancelFunc
	again  chan struct{} // room for one: fetch now
	state  State         // under Refresher.mu
	totals totals        // likewise
}

// totals are what a runner did since it began.
type totals struct{ succeeded, failed float64 }

// NewRefresher makes a Refresher that runs until Close.
func NewRefresher(o Options) *Refresher {
	o.Env = o.Env.Complete()
	if o.Changed == nil {
		o.Changed = func() {}
	}
	if o.Fetched == nil {
		o.Fetched = func(Want, State) {}
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r := &Refresher{o: o, room: make(chan struct{}, o.Env.Limits.Concurrent), running: map[string]*runner{}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Close stops all providers and waits for them.
func (r *Refresher) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.wg.Wait()
}

// Use says which providers are wanted from now on. Those that are new begin at
// once, those that are not wanted any more end; what is known of the others stays.
func (r *Refresher) Use(wants []Want) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	keep := make(map[string]bool, len(wants))
	for _, w := range wants {
		keep[w.ID] = true
		if r.running[w.ID] == nil {
			r.start(w)
		}
	}
	for id, run := range r.running {
		if !keep[id] {
			run.stop()
			delete(r.running, id)
		}
	}
	r.settle()
}

func (r *Refresher) start(w Want) {
	ctx, stop := context.WithCancel(r.ctx)
	run := &runner{r: r, want: w, stop: stop, again: make(chan struct{}, 1)}
	r.running[w.ID] = run
	r.wg.Go(func() { defer stop(); run.run(ctx) })
}

// State is what is known of a provider now.
func (r *Refresher) State(w Want) State {
	r.mu.Lock()
	defer r.mu.Unlock()
	if run := r.running[w.ID]; run != nil {
		return run.state
	}
	return State{}
}

// Tried reports whether every provider that is wanted has been tried.
func (r *Refresher) Tried() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.allTried()
}

func (r *Refresher) allTried() bool {
	for _, run := range r.running {
		if !run.state.Tried {
			return false
		}
	}
	return true
}

// settle wakes whoever waits until all were tried.
func (r *Refresher) settle() {
	if r.tried != nil && r.allTried() {
		close(r.tried)
		r.tried = nil
	}
}

// Wait returns when every provider that is wanted has been tried, or ctx ends.
func (r *Refresher) Wait(ctx context.Context) {
	r.mu.Lock()
	if r.allTried() {
		r.mu.Unlock()
		return
	}
	if r.tried == nil {
		r.tried = make(chan struct{})
	}
	tried := r.tried
	r.mu.Unlock()
	select {
	case <-tried:
	case <-ctx.Done():
	case <-r.ctx.Done():
	}
}

// Once fetches what is wanted one time, and returns what came of it when all were
// tried or ctx ended.
func Once(ctx context.Context, env Env, wants []Want) func(Want) State {
	r := NewRefresher(Options{Env: env})
	defer r.Close()
	r.Use(wants)
	r.Wait(ctx)
	states := make(map[string]State, len(wants))
	for _, w := range wants {
		states[w.ID] = r.State(w)
	}
	return func(w Want) State { return states[w.ID] }
}

func (run *runner) run(ctx context.Context) {
	p, err := open(run.want, run.r.o.Env)
	if err != nil {
		run.done(nil, err)
		return // the same parameters will not do better
	}
	if w, ok := p.(Watcher); ok {
		var watching sync.WaitGroup
		defer watching.Wait()
		watching.Go(func() { w.Watch(ctx, run.poke) })
	}
	for ctx.Err() == nil {
		groups, err := run.attempt(ctx, p)
		if ctx.Err() != nil {
			return
		}
		wait := run.done(groups, err)
		var due <-chan time.Time
		timer := &time.Timer{}
		if wait > 0 {
			timer = time.NewTimer(wait)
			due = timer.C
		}
		select {
		case <-ctx.Done():
		case <-due:
		case <-run.again:
		}
		if wait > 0 {
			timer.Stop()
		}
	}
}

func (run *runner) poke() {
	select {
	case run.again <- struct{}{}:
	default:
	}
}

// open makes the provider. A panic is one provider's failure.
func open(w Want, env Env) (p Provider, err error) {
	defer recovered(&err)
	return w.Parameters.Open(env, w.Namespace)
}

func recovered(err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("a fault in Boltseal, which deserves a report: %s", Clean(fmt.Sprint(v)))
	}
}

// attempt fetches once, when there is room.
func (run *runner) attempt(ctx context.Context, p Provider) (groups []Group, err error) {
	r := run.r
	select {
	case r.room <- struct{}{}:
		defer func() { <-r.room }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, r.o.Env.Limits.Attempt)
	defer cancel()
	if r.o.Begin != nil {
		var end func(error)
		ctx, end = r.o.Begin(ctx, run.want.Resource)
		defer func() { end(err) }()
	}
	defer recovered(&err)
	return p.Fetch(ctx)
}

// done takes in what an attempt came to, and returns when the next one is due; 0 =
// when somebody asks for it.
func (run *runner) done(groups []Group, err error) time.Duration {
	r, now := run.r, run.r.o.Env.Clock()
	r.mu.Lock()
	old := run.state
	next := State{Content: old.Content, Fetched: old.Fetched, Tried: true}
	if err == nil {
		var content *Content
		if content, err = merge(old.Content, groups); content != nil && !content.equal(old.Content) {
			next.Content = content
		}
	}
	if next.Err = err; err == nil {
		next.Fetched = now
		run.totals.succeeded++
	} else {
		next.Failures = old.Failures + 1
		run.totals.failed++
	}
	wait := next.wait(run.want.Interval, r.o.Random())
	if wait > 0 {
		next.Next = now.Add(wait)
	}
	run.state = next
	current := r.running[run.want.ID] == run
	r.settle()
	r.mu.Unlock()
	if !current {
		return wait // nobody wants it any more
	}
	run.tell(old, next)
	switch {
	case old.Content != next.Content || old.Trouble() != next.Trouble(): // so the first attempt always counts
		r.o.Changed()
	case err == nil:
		r.o.Fetched(run.want, next)
	}
	return wait
}

// tell logs what an operator should know.
func (run *runner) tell(old, next State) {
	log := run.r.o.Log.With("provider", run.want.Resource)
	switch {
	case next.Err != nil && (old.Err == nil || old.Err.Error() != next.Err.Error()):
		log.Warn("certificates could not be fetched, and are tried again", "error", next.Err.Error(), "known", next.Content != nil)
	case next.Err == nil && old.Err != nil:
		log.Info("certificates are fetched again", "certificates", len(next.Content.Certificates()))
	case old.Content != next.Content:
		log.Info("certificates fetched", "certificates", len(next.Content.Certificates()))
	}
}

// wait is how long to wait before the next attempt; 0 = until somebody asks for
// it. random is in [0, 1).
func (s State) wait(interval time.Duration, random float64) time.Duration {
	if s.Failures == 0 {
		if interval <= 0 {
			return 0
		}
		interval = max(interval, MinInterval)
		return interval - time.Duration(random*jitter*float64(interval))
	}
	double := min(s.Failures-1, 20)
	d := min(firstBackoff<<double, maxBackoff)
	if interval > 0 {
		d = min(d, max(interval, firstBackoff)) // not less often than when all is well
	}
	if after, throttled := Throttled(s.Err); throttled {
		least := max(interval, firstThrottled)
		d = max(after, min(least<<min(double, 10), max(maxBackoff, interval)))
	}
	return d + time.Duration(random*jitter*float64(d))
}
