// Package lastgood keeps what registries answered, for the time when they do not answer.
package lastgood

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/lru"
)

// DefaultBytes is the size of a Memory that nobody sized.
const DefaultBytes = 32 << 20

// Memory holds tags, listings and content. It outlives configurations, and what
// is in it proves nothing by itself: it is verified again when it is used.
//
// What a tag names and what refers to an image is whatever somebody said, so it
// serves those alone who heard it from the same one. Content is what its digest says,
// whoever sent it, and serves everybody.
type Memory struct {
	tags     *lru.Cache[tagKey, seen[ocispec.Descriptor]]
	listings *lru.Cache[listingKey, seen[boltseal.Listing]]
	content  *lru.Cache[digest.Digest, []byte]
	clock    func() time.Time
}

// tagKey is who was asked, and for what: the digest counts where there is one.
type tagKey struct{ asked, image string }

// listingKey is who was asked, for what refers to which manifest, and for which types:
// a store may leave out what nobody asked for.
type listingKey struct{ asked, manifest, types string }

type seen[T any] struct {
	value T
	at    time.Time
}

// New makes a Memory of roughly the given number of bytes; 0 means DefaultBytes.
// A nil clock means time.Now.
func New(bytes int64, clock func() time.Time) *Memory {
	if bytes <= 0 {
		bytes = DefaultBytes
	}
	if clock == nil {
		clock = time.Now
	}
	return &Memory{
		tags:     lru.New[tagKey, seen[ocispec.Descriptor]](bytes / 8),
		listings: lru.New[listingKey, seen[boltseal.Listing]](bytes / 4),
		content:  lru.New[digest.Digest, []byte](bytes - bytes/8 - bytes/4),
		clock:    clock,
	}
}

// Usage returns roughly the bytes that are held.
func (m *Memory) Usage() int64 {
	_, a := m.tags.Usage()
	_, b := m.listings.Usage()
	_, c := m.content.Usage()
	return a + b + c
}

// Wrap returns a store that remembers what s answers. asked says who is asked and in
// whose name: it is the same for the same Store with the same settings and the same
// credentials only.
func (m *Memory) Wrap(asked string, s boltseal.Store) boltseal.Store { return &recorder{s, asked, m} }

type recorder struct {
	boltseal.Store
	asked  string
	memory *Memory
}

func (r *recorder) Resolve(ctx context.Context, ref boltseal.Reference) (ocispec.Descriptor, error) {
	d, err := r.Store.Resolve(ctx, ref)
	if err == nil {
		now := r.memory.clock()
		for _, k := range [2]tagKey{r.tag(ref), {r.asked, ref.Name() + "@" + d.Digest.String()}} {
			r.memory.tags.Put(k, seen[ocispec.Descriptor]{d, now}, int64(len(k.image))+overhead)
		}
	}
	return d, err
}

func (r *recorder) Referrers(ctx context.Context, ref boltseal.Reference, subject digest.Digest, types []string) (boltseal.Listing, error) {
	l, err := r.Store.Referrers(ctx, ref, subject, types)
	k := r.listing(ref, subject, types)
	old, known := r.memory.listings.Get(k)
	if err == nil && (l.Incomplete == nil || !known || old.value.Incomplete != nil) { // a part does not replace the whole
		kept, cost := withHints(l)
		r.memory.listings.Put(k, seen[boltseal.Listing]{kept, r.memory.clock()}, int64(len(k.manifest)+len(k.types))+overhead+cost)
	}
	return l, err
}

// withHints returns what is kept of a listing, and its cost in bytes. Hints order
// candidates, so that one by itself needs none.
func withHints(l boltseal.Listing) (kept boltseal.Listing, cost int64) {
	if len(l.Referrers) == 1 && l.Referrers[0].Annotations != nil {
		l.Referrers = slices.Clone(l.Referrers)
		l.Referrers[0].Annotations = nil
	}
	for i := range l.Referrers {
		cost += overhead
		if hints := l.Referrers[i].Annotations; len(hints) > 0 {
			cost += overhead // the map
			for name, value := range hints {
				cost += int64(len(name) + len(value))
			}
		}
	}
	return l, cost
}

func (r *recorder) Manifest(ctx context.Context, ref boltseal.Reference, d ocispec.Descriptor) ([]byte, error) {
	b, err := r.Store.Manifest(ctx, ref, d)
	return r.keep(d, b, err)
}

func (r *recorder) Blob(ctx context.Context, ref boltseal.Reference, d ocispec.Descriptor) ([]byte, error) {
	b, err := r.Store.Blob(ctx, ref, d)
	return r.keep(d, b, err)
}

func (r *recorder) keep(d ocispec.Descriptor, b []byte, err error) ([]byte, error) {
	if err == nil {
		r.memory.content.Put(d.Digest, b, int64(cap(b))+overhead)
	}
	return b, err
}

// overhead is what an entry costs beside its content: a descriptor, keys, lists.
const overhead = 300

func (r *recorder) tag(ref boltseal.Reference) tagKey {
	if ref.Digest != "" {
		return tagKey{r.asked, ref.Name() + "@" + ref.Digest.String()}
	}
	return tagKey{r.asked, ref.String()}
}

func (r *recorder) listing(ref boltseal.Reference, subject digest.Digest, types []string) listingKey {
	return listingKey{r.asked, ref.Name() + "@" + subject.String(), strings.Join(slices.Sorted(slices.Values(types)), " ")}
}

// recorderIn finds the recorder in a store that others are around; nil where nothing
// of it is remembered.
func recorderIn(s boltseal.Store) *recorder {
	for {
		switch t := s.(type) {
		case *recorder:
			return t
		case interface{ Unwrap() boltseal.Store }:
			s = t.Unwrap()
		default:
			return nil
		}
	}
}

// Verify verifies an image by the engine from memory alone, as its stores would
// have answered at most maxAge ago. since is the oldest moment that the result
// relies on. Where memory does not suffice the Decision is Unknown.
//
// The engine's trust policy, certificates, revocation and clock are today's: a
// certificate that was removed or revoked since denies.
func (m *Memory) Verify(ctx context.Context, e *boltseal.Engine, ref boltseal.Reference, maxAge time.Duration) (r boltseal.Result, since time.Time) {
	now := m.clock()
	look := &look{memory: m, oldest: now.Add(-maxAge)}
	look.since.Store(now.UnixNano())
	offline := e.WithStores(func(s boltseal.Store) boltseal.Store { return &view{look, recorderIn(s)} })
	r = offline.Decide(offline.Collect(ctx, ref))
	return r, time.Unix(0, look.since.Load())
}

// look is one use of a Memory.
type look struct {
	memory *Memory
	oldest time.Time
	since  atomic.Int64 // Unix nanoseconds
}

// view is a store that answers from memory, in the place of another one.
type view struct {
	*look
	of *recorder // nil = nothing is remembered of it
}

func (v *view) Resolve(_ context.Context, ref boltseal.Reference) (ocispec.Descriptor, error) {
	if v.of != nil {
		if s, ok := v.memory.tags.Get(v.of.tag(ref)); ok && v.fresh(s.at) {
			return s.value, nil
		}
	}
	return ocispec.Descriptor{}, v.unknown("resolve", ref)
}

func (v *view) Referrers(_ context.Context, ref boltseal.Reference, subject digest.Digest, types []string) (boltseal.Listing, error) {
	if v.of == nil {
		return boltseal.Listing{}, v.unknown("list referrers", ref)
	}
	s, ok := v.memory.listings.Get(v.of.listing(ref, subject, types))
	if !ok || !v.fresh(s.at) {
		return boltseal.Listing{}, v.unknown("list referrers", ref)
	}
	return s.value, nil
}

func (v *view) Manifest(_ context.Context, ref boltseal.Reference, d ocispec.Descriptor) ([]byte, error) {
	return v.read("fetch manifest", ref, d)
}

func (v *view) Blob(_ context.Context, ref boltseal.Reference, d ocispec.Descriptor) ([]byte, error) {
	return v.read("fetch blob", ref, d)
}

func (v *view) read(op string, ref boltseal.Reference, d ocispec.Descriptor) ([]byte, error) {
	b, ok := v.memory.content.Get(d.Digest)
	if !ok || d.Size != 0 && int64(len(b)) != d.Size {
		return nil, v.unknown(op, ref)
	}
	return b, nil
}

// fresh reports whether something seen at t may still be used, and notes that it was.
func (v *look) fresh(t time.Time) bool {
	if t.Before(v.oldest) {
		return false
	}
	for {
		s := v.since.Load()
		if t.UnixNano() >= s || v.since.CompareAndSwap(s, t.UnixNano()) {
			return true
		}
	}
}

func (v *look) unknown(op string, ref boltseal.Reference) error {
	return &boltseal.StoreError{Op: op, Host: ref.Registry, Target: ref.String(),
		Err: fmt.Errorf("%w: and it is not remembered", boltseal.ErrUnavailable)}
}
