// Package lastgood keeps what registries answered, for the time when they do not answer.
package lastgood

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/lru"
)

// DefaultBytes is the size of a Memory that nobody sized.
const DefaultBytes = 32 << 20

// Memory holds tags, listings and content. It outlives configurations, and what
// is in it proves nothing by itself: it is verified again when it is used.
type Memory struct {
	tags     *lru.Cache[string, seen[ocispec.Descriptor]]
	listings *lru.Cache[string, seen[boltseal.Listing]]
	content  *lru.Cache[digest.Digest, []byte]
	clock    func() time.Time
}

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
		tags:     lru.New[string, seen[ocispec.Descriptor]](bytes / 8),
		listings: lru.New[string, seen[boltseal.Listing]](bytes / 4),
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

// Wrap returns a store that remembers what s answers.
func (m *Memory) Wrap(s boltseal.Store) boltseal.Store { return &recorder{s, m} }

type recorder struct {
	boltseal.Store
	memory *Memory
}

func (r *recorder) Resolve(ctx context.Context, ref boltseal.Reference) (ocispec.Descriptor, error) {
	d, err := r.Store.Resolve(ctx, ref)
	if err == nil {
		now := r.memory.clock()
		for _, k := range [2]string{tagKey(ref), ref.Name() + "@" + d.Digest.String()} {
			r.memory.tags.Put(k, seen[ocispec.Descriptor]{d, now}, int64(len(k))+overhead)
		}
	}
	return d, err
}

func (r *recorder) Referrers(ctx context.Context, ref boltseal.Reference, subject digest.Digest, types []string) (boltseal.Listing, error) {
	l, err := r.Store.Referrers(ctx, ref, subject, types)
	if err == nil {
		r.memory.listings.Put(listingKey(ref, subject), seen[boltseal.Listing]{l, r.memory.clock()}, overhead*int64(1+len(l.Referrers)))
	}
	return l, err
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

// tagKey is the name that was resolved: the digest counts where there is one.
func tagKey(ref boltseal.Reference) string {
	if ref.Digest != "" {
		return ref.Name() + "@" + ref.Digest.String()
	}
	return ref.String()
}

func listingKey(ref boltseal.Reference, subject digest.Digest) string {
	return ref.Name() + "@" + subject.String()
}

// Verify verifies an image by the engine from memory alone, as its stores would
// have answered at most maxAge ago. since is the oldest moment that the result
// relies on. Where memory does not suffice the Decision is Unknown.
//
// The engine's trust policy, certificates, revocation and clock are today's: a
// certificate that was removed or revoked since denies.
func (m *Memory) Verify(ctx context.Context, e *boltseal.Engine, ref boltseal.Reference, maxAge time.Duration) (r boltseal.Result, since time.Time) {
	now := m.clock()
	view := &view{memory: m, oldest: now.Add(-maxAge)}
	view.since.Store(now.UnixNano())
	offline := e.WithStores(func(boltseal.Store) boltseal.Store { return view })
	r = offline.Decide(offline.Collect(ctx, ref))
	return r, time.Unix(0, view.since.Load())
}

// view is a store that answers from memory.
type view struct {
	memory *Memory
	oldest time.Time
	since  atomic.Int64 // Unix nanoseconds
}

func (v *view) Resolve(_ context.Context, ref boltseal.Reference) (ocispec.Descriptor, error) {
	s, ok := v.memory.tags.Get(tagKey(ref))
	if ok && v.fresh(s.at) {
		return s.value, nil
	}
	return ocispec.Descriptor{}, v.unknown("resolve", ref)
}

func (v *view) Referrers(_ context.Context, ref boltseal.Reference, subject digest.Digest, _ []string) (boltseal.Listing, error) {
	s, ok := v.memory.listings.Get(listingKey(ref, subject))
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
	if !ok || int64(len(b)) != d.Size {
		return nil, v.unknown(op, ref)
	}
	return b, nil
}

// fresh reports whether something seen at t may still be used, and notes that it was.
func (v *view) fresh(t time.Time) bool {
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

func (v *view) unknown(op string, ref boltseal.Reference) error {
	return &boltseal.StoreError{Op: op, Host: ref.Registry, Target: ref.String(),
		Err: fmt.Errorf("%w: and it is not remembered", boltseal.ErrUnavailable)}
}
