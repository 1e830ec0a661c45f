package memo

import (
	"context"
	"strings"

	"github.com/boltseal/boltseal"
)

// Digest returns the image's canonical reference with the digest that it names
// now, and lets the verification of it begin, for it will be asked for next.
// Errors wrap one of boltseal's sentinels.
func (m *Memo) Digest(ctx context.Context, e *boltseal.Engine, image string) (boltseal.Reference, error) {
	ref, err := boltseal.ParseReference(strings.Clone(image))
	if err != nil || ref.Digest != "" {
		return ref, err
	}
	if a, ok := m.get(key{e, canonicalName(ref)}); ok && a.Digest != "" {
		m.o.Stats.Hits.Add(1)
		return ref.WithDigest(a.Digest), nil
	}
	r := m.resolve(ctx, e, ref, nil)
	if r.err != nil {
		return boltseal.Reference{}, r.err
	}
	k := key{e, canonicalName(ref)}
	if _, ok := m.get(k); !ok {
		if w, leads, _ := m.join(ctx, k, ref.Registry); leads {
			go m.lead(k, w, ref)
		}
	}
	return ref.WithDigest(r.desc.Digest), nil
}
