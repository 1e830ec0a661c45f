package oci

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
)

const (
	// MaxMirrors bounds the sources of one Mirrors, and the endpoints of a source.
	MaxMirrors = 64
	// DefaultMirrorTimeout is how long one endpoint may take while another is left.
	DefaultMirrorTimeout = time.Second
	// DefaultMirrorPause is how long an endpoint that did not answer is asked last.
	DefaultMirrorPause = 15 * time.Second
)

// Mirror names other places of images.
type Mirror struct {
	// Source is a host, or host/path, that images' names begin with. Required.
	Source string
	// Endpoints are the places that stand for the source, host or host/path, in
	// the order they are asked. Required.
	Endpoints []string
	// Only leaves the source itself out. False asks it last.
	Only bool
}

// MirrorOptions make a Mirrors.
type MirrorOptions struct {
	// Store reads what the endpoints and the sources have. Required.
	Store boltseal.Store
	// Mirrors, of which the longest source that fits an image counts.
	Mirrors []Mirror
	// Timeout is how long one endpoint may take while another is left. 0 means
	// DefaultMirrorTimeout.
	Timeout time.Duration
	// Pause is how long an endpoint that did not answer is asked last. 0 means
	// DefaultMirrorPause.
	Pause time.Duration
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
}

// Mirrors is a Store that fetches images from other places than their names say.
// Trust policies see the name, never the place. What is named by a digest is the
// same everywhere; what a tag means, the first place that has it says.
type Mirrors struct {
	o       MirrorOptions
	sources []source
}

var _ boltseal.Store = (*Mirrors)(nil)

type source struct {
	at        boltseal.Place
	endpoints []*endpoint
	only      bool
}

type endpoint struct {
	boltseal.Place
	downUntil atomic.Int64 // Unix nanoseconds of MirrorOptions.Clock
}

// NewMirrors returns a Store that asks the endpoints of o. An error wraps
// [boltseal.ErrConfiguration] and names what is wrong.
func NewMirrors(o MirrorOptions) (*Mirrors, error) {
	if o.Timeout <= 0 {
		o.Timeout = DefaultMirrorTimeout
	}
	if o.Pause <= 0 {
		o.Pause = DefaultMirrorPause
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	m := &Mirrors{o: o}
	if len(o.Mirrors) > MaxMirrors {
		return nil, fmt.Errorf("%w: %d sources have mirrors; the limit is %d", boltseal.ErrConfiguration, len(o.Mirrors), MaxMirrors)
	}
	seen := map[boltseal.Place]bool{}
	for _, c := range o.Mirrors {
		s, err := newSource(c)
		if err != nil {
			return nil, err
		}
		if seen[s.at] {
			return nil, fmt.Errorf("%w: %q has its mirrors twice", boltseal.ErrConfiguration, c.Source)
		}
		seen[s.at] = true
		m.sources = append(m.sources, s)
	}
	return m, nil
}

func newSource(c Mirror) (source, error) {
	at, err := boltseal.ParsePlace(c.Source)
	if err != nil {
		return source{}, err
	}
	s := source{at: at, only: c.Only}
	if len(c.Endpoints) == 0 || len(c.Endpoints) > MaxMirrors {
		return source{}, fmt.Errorf("%w: %q has %d mirrors; it takes 1 to %d", boltseal.ErrConfiguration, c.Source, len(c.Endpoints), MaxMirrors)
	}
	seen := map[boltseal.Place]bool{at: true}
	for _, text := range c.Endpoints {
		p, err := boltseal.ParsePlace(text)
		if err != nil {
			return source{}, err
		}
		if seen[p] {
			return source{}, fmt.Errorf("%w: %q is listed twice among %q and its mirrors", boltseal.ErrConfiguration, text, c.Source)
		}
		seen[p] = true
		s.endpoints = append(s.endpoints, &endpoint{Place: p})
	}
	return s, nil
}

// candidate is one place of one image. Endpoint is nil for the source itself.
type candidate struct {
	ref      boltseal.Reference
	endpoint *endpoint
	down     bool // it did not answer lately
}

// candidates are the places of an image in the order they are to be asked.
func (m *Mirrors) candidates(ref boltseal.Reference) []candidate {
	var best *source
	var below string
	for i := range m.sources {
		s := &m.sources[i]
		if rest, ok := s.at.Rest(ref); ok && (best == nil || len(s.at.Path) > len(best.at.Path)) {
			best, below = s, rest
		}
	}
	if best == nil {
		return []candidate{{ref: ref}}
	}
	now := m.o.Clock().UnixNano()
	var up, down []candidate
	for _, e := range best.endpoints {
		c := candidate{ref: e.With(ref, below), endpoint: e}
		if e.downUntil.Load() > now {
			c.down = true
			down = append(down, c)
		} else {
			up = append(up, c)
		}
	}
	if !best.only {
		up = append(up, candidate{ref: ref})
	}
	return append(up, down...)
}

// ask asks the places one after the other until one settles the question. Where
// none does, a place that did not answer keeps it open: it may have had the answer.
func (m *Mirrors) ask(ctx context.Context, ref boltseal.Reference, do func(context.Context, boltseal.Reference) (settled bool, err error)) error {
	places := m.candidates(ref)
	var absent, open error
	for i, c := range places {
		last := i == len(places)-1
		settled, err := m.one(ctx, c, last && !(c.down && len(places) > 1), do)
		switch {
		case settled && err == nil:
			return nil
		case err == nil: // it answered, and has nothing
		case errors.Is(err, boltseal.ErrNotFound):
			absent = err
		case open == nil || errors.Is(err, boltseal.ErrUnavailable) && !errors.Is(open, boltseal.ErrUnavailable):
			open = err
		}
		if err := ctx.Err(); err != nil && !last {
			return &boltseal.StoreError{Op: "asking mirrors", Host: c.ref.Registry, Target: ref.String(), Err: fmt.Errorf("%w: %w", boltseal.ErrUnavailable, err)}
		}
	}
	if open != nil {
		return open
	}
	return absent
}

// one asks one place, which may take its time where patient.
func (m *Mirrors) one(ctx context.Context, c candidate, patient bool, do func(context.Context, boltseal.Reference) (bool, error)) (bool, error) {
	within := ctx
	if !patient {
		var cancel context.CancelFunc
		within, cancel = context.WithTimeout(ctx, m.o.Timeout)
		defer cancel()
	}
	settled, err := do(within, c.ref)
	if c.endpoint == nil || ctx.Err() != nil { // the caller's end says nothing of the place
		return settled, err
	}
	if err != nil && within.Err() != nil && !errors.Is(err, boltseal.ErrUnavailable) {
		err = fmt.Errorf("%w: %w", boltseal.ErrUnavailable, err)
	}
	switch {
	case errors.Is(err, boltseal.ErrUnusable): // it answers, and may for another image
	case errors.Is(err, boltseal.ErrUnavailable):
		c.endpoint.downUntil.Store(m.o.Clock().Add(m.o.Pause).UnixNano())
	case err == nil:
		c.endpoint.downUntil.Store(0)
	}
	return settled, err
}

// Resolve asks for the image's manifest: see [boltseal.Store].
func (m *Mirrors) Resolve(ctx context.Context, ref boltseal.Reference) (d ocispec.Descriptor, err error) {
	err = m.ask(ctx, ref, func(ctx context.Context, at boltseal.Reference) (bool, error) {
		got, err := m.o.Store.Resolve(ctx, at)
		if err == nil {
			d = got
		}
		return err == nil, err
	})
	return d, err
}

// Referrers lists the artifacts of the first place that has any: see
// [boltseal.Store]. Pull-through caches seldom have signatures, so a place
// without any settles nothing while another is left.
func (m *Mirrors) Referrers(ctx context.Context, ref boltseal.Reference, subject digest.Digest, artifactTypes []string) (l boltseal.Listing, err error) {
	answered := false
	err = m.ask(ctx, ref, func(ctx context.Context, at boltseal.Reference) (bool, error) {
		got, err := m.o.Store.Referrers(ctx, at, subject, artifactTypes)
		if err == nil && (len(got.Referrers) > 0 || got.Truncated != "") {
			l = got
			return true, nil
		}
		answered = answered || err == nil
		return false, err
	})
	if errors.Is(err, boltseal.ErrNotFound) && answered {
		err = nil // the image is where somebody answered, and has none there
	}
	return l, err
}

// Manifest returns the bytes of a manifest: see [boltseal.Store].
func (m *Mirrors) Manifest(ctx context.Context, ref boltseal.Reference, d ocispec.Descriptor) ([]byte, error) {
	return m.content(ctx, ref, d, m.o.Store.Manifest)
}

// Blob returns the bytes of a blob: see [boltseal.Store].
func (m *Mirrors) Blob(ctx context.Context, ref boltseal.Reference, d ocispec.Descriptor) ([]byte, error) {
	return m.content(ctx, ref, d, m.o.Store.Blob)
}

func (m *Mirrors) content(ctx context.Context, ref boltseal.Reference, d ocispec.Descriptor,
	fetch func(context.Context, boltseal.Reference, ocispec.Descriptor) ([]byte, error)) (b []byte, err error) {
	err = m.ask(ctx, ref, func(ctx context.Context, at boltseal.Reference) (bool, error) {
		got, err := fetch(ctx, at, d)
		if err == nil {
			b = got
		}
		return err == nil, err
	})
	return b, err
}
