package boltseal_test

import (
	"context"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

// BenchmarkDemands verifies an index of two platforms, everything signed, over
// loopback. What is demanded is what is paid for.
func BenchmarkDemands(b *testing.B) {
	h := newHouse(b, houseOptions{})
	index := h.Index("v", "linux/amd64+", "linux/arm64+")[0]
	h.Registry.Sign(testhouse.Repo, index, h.Signer, testca.SignOptions{})
	image := h.Registry.Pinned(testhouse.Repo, index.Digest)
	for _, demand := range boltseal.Demands() {
		e := h.Asking(b, demand, nil)
		b.Run(string(demand), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if r, err := e.Verify(context.Background(), image); err != nil || r.Decision != boltseal.Allow {
					b.Fatal(r.Reason, err)
				}
			}
		})
	}
}
