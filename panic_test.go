package boltseal_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

// broken is a store and a policy that panic where they are told to.
type broken struct {
	boltseal.Store
	boltseal.Policy
	where string
}

func (b *broken) at(where string) {
	if b.where == where {
		panic("broken in " + where)
	}
}

func (b *broken) Resolve(ctx context.Context, ref boltseal.Reference) (ocispec.Descriptor, error) {
	b.at("Resolve")
	return b.Store.Resolve(ctx, ref)
}

func (b *broken) Referrers(ctx context.Context, ref boltseal.Reference, subject digest.Digest, types []string) (boltseal.Listing, error) {
	b.at("Referrers")
	return b.Store.Referrers(ctx, ref, subject, types)
}

func (b *broken) Manifest(ctx context.Context, ref boltseal.Reference, d ocispec.Descriptor) ([]byte, error) {
	b.at("Manifest")
	return b.Store.Manifest(ctx, ref, d)
}

func (b *broken) Blob(ctx context.Context, ref boltseal.Reference, d ocispec.Descriptor) ([]byte, error) {
	b.at("Blob")
	return b.Store.Blob(ctx, ref, d)
}

func (b *broken) Decide(f *boltseal.Findings) (boltseal.Decision, boltseal.Reason) {
	b.at("Decide")
	return b.Policy.Decide(f)
}

// TestPanicsDeny: in whatever part, and in whatever goroutine, a panic denies the
// image, is told, and does not end the process.
func TestPanicsDeny(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"Resolve", "Referrers", "Manifest", "Blob", "Decide", ""} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			h := testhouse.New(t, testhouse.Options{})
			tag, pinned := h.Signed("v", h.Stranger, h.Stranger, h.Signer, h.Signer)
			var mu sync.Mutex
			var told []string
			b := &broken{where: where, Policy: h.Engine.Policy()}
			e := h.EngineOf(t, testhouse.Options{
				Wrap: func(s boltseal.Store) boltseal.Store { b.Store = s; return b },
				Engine: boltseal.Options{Policy: b, Panicked: func(what string, value any, stack []byte) {
					mu.Lock()
					defer mu.Unlock()
					if value == "broken in "+where && what != "" && strings.Contains(string(stack), "panic_test.go") {
						told = append(told, what)
					}
				}}})
			for _, image := range []string{tag, pinned} {
				told = nil
				r, err := e.Verify(t.Context(), image)
				if where == "" {
					testhouse.Expect(t, r, boltseal.Allow, "")
					continue
				}
				if err != nil || r.Decision != boltseal.Deny || len(told) == 0 {
					t.Errorf("%s: %s (%s), %v, told %q", image, r.Decision, r.Reason.Message, err, told)
				}
			}
		})
	}
}
