package memo

import (
	"context"
	"sync"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/lru"
)

// manifests keeps what was found about single manifests of images of several
// platforms, which such images may have in common. One verification each, however
// many ask at once.
type manifests struct {
	kept    *lru.Cache[key, keptManifest]
	mu      sync.Mutex
	ongoing map[key]chan struct{} // closed when the work ends, whatever it came to
}

type keptManifest struct {
	result boltseal.Result
	until  time.Time
}

func newManifests(bytes int64) *manifests {
	return &manifests{kept: lru.New[key, keptManifest](bytes), ongoing: map[key]chan struct{}{}}
}

// sharing is the use that one verification makes of what is known of manifests.
type sharing struct {
	memo  *Memo
	of    key // of the image
	mu    sync.Mutex
	until time.Time // when the first of what was used runs out; zero = nothing was
}

// sharing returns k's engine, told to ask for manifests here where it ever does;
// otherwise nil in sharing's place.
func (m *Memo) sharing(k key) (*boltseal.Engine, *sharing) {
	if _, below := k.engine.Policy().(boltseal.IndexPolicy); !below {
		return k.engine, nil
	}
	s := &sharing{memo: m, of: k}
	return k.engine.WithShare(s.answer), s
}

// within ends an answer no later than what it was made of.
func (s *sharing) within(a *Answer) *Answer {
	if s != nil && !s.until.IsZero() && s.until.Before(a.until) {
		a.until = s.until
	}
	return a
}

// answer is a [boltseal.Share].
func (s *sharing) answer(ctx context.Context, ref boltseal.Reference, collect func(context.Context) boltseal.Result) boltseal.Result {
	k := s.of
	k.image = canonicalName(ref)
	ms := s.memo.manifests
	for {
		if e, ok := ms.kept.Get(k); ok && s.memo.o.Clock().Before(e.until) {
			s.used(e.until)
			return e.result
		}
		ms.mu.Lock()
		done, busy := ms.ongoing[k]
		if !busy {
			done = make(chan struct{})
			ms.ongoing[k] = done
		}
		ms.mu.Unlock()
		if !busy {
			return s.lead(ctx, k, done, collect)
		}
		_, end := boltseal.BeginStep(ctx, boltseal.Step{Stage: boltseal.StageShared, Host: ref.Registry})
		select {
		case <-done: // it may have been cut off, by what is no concern of ours
			end(boltseal.Ending{})
		case <-ctx.Done():
			end(boltseal.Ending{})
			return collect(ctx)
		}
	}
}

func (s *sharing) lead(ctx context.Context, k key, done chan struct{}, collect func(context.Context) boltseal.Result) boltseal.Result {
	ms := s.memo.manifests
	defer func() {
		ms.mu.Lock()
		delete(ms.ongoing, k)
		ms.mu.Unlock()
		close(done)
	}()
	r := collect(ctx)
	if ctx.Err() != nil {
		return r
	}
	until := s.memo.until(&r)
	s.used(until)
	ms.kept.Put(k, keptManifest{r, until}, manifestCost(k, &r))
	return r
}

func (s *sharing) used(until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until.IsZero() || until.Before(s.until) {
		s.until = until
	}
}

// evidenceCost is roughly the memory of one piece of evidence, with its texts.
const evidenceCost = 2 << 10

func manifestCost(k key, r *boltseal.Result) int64 {
	return entryCost + 1<<10 + int64(2*len(k.image)) + evidenceCost*int64(len(r.Evidence)+1) + 400*int64(len(r.PassedOver))
}
