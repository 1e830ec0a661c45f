package cosign

import (
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testsigstore"
)

// BenchmarkVerify is one verification of a signature that was never seen, with the
// authorities of the root known: like the public instance's (a leaf by a CA on P-384, a
// certificate's timestamp, an entry of Rekor with promise and proof), with Rekor's second
// version and a timestamp on P-384, and by a key.
func BenchmarkVerify(b *testing.B) {
	s, key := issue(b, testsigstore.Identity{}), p256(b)
	run := func(name string, p TrustPolicy, s *testsigstore.Signer, o testsigstore.SignOptions) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			v := verifier(b, p)
			c := bundleCandidate(sign(b, s, statement(), o).Bundle(3))
			for b.Loop() {
				if ev, err := v.Verify(b.Context(), subject(), c); err != nil || ev.Outcome != boltseal.Verified {
					b.Fatalf("%+v, %v", ev, err)
				}
			}
		})
	}
	run("rekor", keyless(b), s, testsigstore.SignOptions{})
	run("rekor 2 and timestamp", keyless(b), s, testsigstore.SignOptions{V2: true, Timestamp: true})
	run("key", byKey(key), key, testsigstore.SignOptions{NoLog: true})
	layer := layersOf(b, sign(b, key, simple(), testsigstore.SignOptions{NoLog: true}))
	b.Run("key, layer", func(b *testing.B) {
		b.ReportAllocs()
		v := verifier(b, byKey(key))
		for b.Loop() {
			if ev, err := v.Verify(b.Context(), subject(), layer); err != nil || ev.Outcome != boltseal.Verified {
				b.Fatalf("%+v, %v", ev, err)
			}
		}
	})
}
