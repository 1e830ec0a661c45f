// Package keeper keeps credentials and sessions that end: fetched once for many, renewed ahead of their end, dropped when they are refused.
package keeper

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/oci"
)

// Defaults, and limits that nobody needs to change.
const (
	// DefaultTimeout bounds one fetch. It is below oci's limit for a request, so
	// that the message speaks of who was asked.
	DefaultTimeout = 8 * time.Second
	// Margin is how long before its end a credential is no longer given away.
	Margin = 30 * time.Second

	maxAhead       = 10 * time.Minute // renewed so long before the end, at most
	keepFailureFor = 3 * time.Second  // so long, and up to twice as long
	maxFailureFor  = time.Minute      // where whoever was asked said when to come again
	maxKept        = 1000
)

// Options make a Keeper of registry credentials.
type Options = OptionsOf[oci.Credential]

// Keeper keeps registry credentials by key, which is usually a registry's host.
type Keeper = Of[oci.Credential]

// New makes a Keeper that keeps nothing yet. Ends and Same are a credential's own.
func New(o Options) *Keeper {
	o.Ends = func(c oci.Credential) time.Time { return c.Expires }
	o.Same = func(a, b oci.Credential) bool {
		return a.Username == b.Username && a.Password == b.Password && a.RefreshToken == b.RefreshToken && a.AccessToken == b.AccessToken
	}
	return NewOf(o)
}

// OptionsOf make a keeper of values of one type.
type OptionsOf[V any] struct {
	// Fetch gets the value of a key. Its error is what callers see: it must hold no
	// secret, and is kept for a moment. It must not be nil.
	Fetch func(ctx context.Context, key string) (V, error)
	// Ends says when a value ends; zero = it does not say. It must not be nil.
	Ends func(V) time.Time
	// Same reports whether two values are the same, for Drop, which must not be called without it.
	Same func(a, b V) bool
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
	// Jitter returns a number in [0,1) that spreads renewals. Nil means math/rand.
	Jitter func() float64
	// Timeout bounds one fetch. 0 means DefaultTimeout.
	Timeout time.Duration
	// AskAgain has a failure given only to those who waited for it. False means that it is
	// kept for a moment, so that whoever fails often asks seldom.
	AskAgain bool
}

// Of keeps values by key. It is safe for concurrent use.
type Of[V any] struct {
	o      OptionsOf[V]
	flight singleflight.Group

	mu   sync.Mutex
	kept map[string]entry[V]
}

type entry[V any] struct {
	c       V
	have    bool      // there is a credential
	renew   time.Time // from then on it is renewed
	err     error     // of the last fetch; nil where that succeeded
	retry   time.Time // not asked again before, where err is set
	touched time.Time
}

// NewOf makes a keeper that keeps nothing yet.
func NewOf[V any](o OptionsOf[V]) *Of[V] {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Jitter == nil {
		o.Jitter = rand.Float64
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	return &Of[V]{o: o, kept: map[string]entry[V]{}}
}

// Get returns the credential of a key. One that is near its end is renewed beside
// this call, which does not wait for it. Errors are those of Fetch, and
// boltseal.ErrUnavailable where ctx ends first.
func (k *Of[V]) Get(ctx context.Context, key string) (V, error) {
	var none V
	c, ok, due, err := k.look(key)
	if ok && !due || err != nil {
		return c, err
	}
	done := k.flight.DoChan(key, func() (any, error) { return k.fetch(ctx, key) })
	if ok {
		return c, nil
	}
	select {
	case r := <-done:
		if r.Err != nil {
			return none, r.Err
		}
		return r.Val.(V), nil
	case <-ctx.Done():
		return none, fmt.Errorf("%w: %w", boltseal.ErrUnavailable, ctx.Err())
	}
}

// look says what is kept: a credential that is good (ok), whether it is to be
// renewed (due), or the failure that stands.
func (k *Of[V]) look(key string) (c V, ok, due bool, err error) {
	now := k.o.Clock()
	k.mu.Lock()
	defer k.mu.Unlock()
	e, known := k.kept[key]
	if !known {
		return c, false, true, nil
	}
	e.touched = now
	k.kept[key] = e
	failing := e.err != nil && now.Before(e.retry)
	if e.have && k.lasts(e.c, now) {
		return e.c, true, !failing && !now.Before(e.renew), nil
	}
	if failing {
		return c, false, false, e.err
	}
	return c, false, true, nil
}

// fetch runs in a goroutine of its own: the first caller's leaving must not fail
// the others.
func (k *Of[V]) fetch(ctx context.Context, key string) (c V, err error) {
	if c, ok, due, _ := k.look(key); ok && !due {
		return c, nil // the one that everybody waited for came in between
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.o.Timeout)
	defer cancel()
	var none V
	c, err = k.guarded(ctx, key)
	now := k.o.Clock()
	if err == nil && !k.lasts(c, now) {
		c, err = none, fmt.Errorf("%w: the credential that came ends at once; is this machine's clock right?", boltseal.ErrUnavailable)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.kept[key]
	e.touched, e.err = now, err
	if err != nil {
		wait := keepFailureFor + time.Duration(k.o.Jitter()*float64(keepFailureFor))
		var told *keys.Error
		if errors.As(err, &told) {
			wait = min(max(wait, told.RetryAfter), maxFailureFor)
		}
		if e.retry = now.Add(wait); k.o.AskAgain {
			e.retry = now
		}
	} else {
		e.c, e.have, e.retry = c, true, time.Time{}
		e.renew = k.renewal(now, k.o.Ends(c))
	}
	k.kept[key] = e
	k.shrink()
	return c, err
}

// guarded calls Fetch. A panic here, in a goroutine of its own, would end the
// process.
func (k *Of[V]) guarded(ctx context.Context, key string) (c V, err error) {
	defer func() {
		if p := recover(); p != nil {
			c, err = *new(V), errors.New("the credential's source panicked")
		}
	}()
	return k.o.Fetch(ctx, key)
}

// lifeOfUndated is when a credential without an end is renewed.
const lifeOfUndated = 10 * time.Minute

// renewal is a moment between half and all of what is left ahead of the end.
func (k *Of[V]) renewal(now, end time.Time) time.Time {
	if end.IsZero() {
		return now.Add(lifeOfUndated - time.Duration(k.o.Jitter()*float64(lifeOfUndated/4)))
	}
	ahead := min(end.Add(-Margin).Sub(now)/4, maxAhead)
	return end.Add(-Margin - ahead/2 - time.Duration(k.o.Jitter()*float64(ahead/2)))
}

// shrink forgets what nobody has asked for the longest time.
func (k *Of[V]) shrink() {
	for len(k.kept) > maxKept {
		oldest, at := "", time.Time{}
		for key, e := range k.kept {
			if oldest == "" || e.touched.Before(at) {
				oldest, at = key, e.touched
			}
		}
		delete(k.kept, oldest)
	}
}

// Drop forgets a credential of a key, unless there is another one by now.
func (k *Of[V]) Drop(key string, c V) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e, ok := k.kept[key]; ok && e.have && k.o.Same(e.c, c) {
		e.c, e.have = *new(V), false
		k.kept[key] = e
	}
}

// Forget forgets what is kept for a key, whatever it is.
func (k *Of[V]) Forget(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.kept, key)
}

// lasts reports whether a value is good for a while yet.
func (k *Of[V]) lasts(v V, now time.Time) bool {
	end := k.o.Ends(v)
	return end.IsZero() || now.Before(end.Add(-Margin))
}
