package notation

import (
	"testing"

	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/verifier"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/trust"
)

// BenchmarkVerify is one verification of a signature with a chain of three P-256
// certificates at level strict: with nothing known, with the issuers known and
// the leaf not, with the whole chain known; and by notation-go's verifier.
func BenchmarkVerify(b *testing.B) {
	const leaves = 500
	root := testca.Test(b, testca.Options{Intermediates: []testca.Spec{{}}})
	stores := []*trust.Store{store(b, trust.TypeCA, "release", root)}
	var envelopes []testca.Envelope
	var candidates []boltseal.Candidate
	for range leaves {
		c := must(root.IssueLeaf(testca.Spec{}))(b)
		envelopes = append(envelopes, sign(b, c, testca.SignOptions{}))
		candidates = append(candidates, candidate(envelopes[len(envelopes)-1]))
	}
	about := subject(b)
	revocation := NewRevocation(RevocationOptions{})
	fresh := func(b *testing.B) (*Verifier, *ChainCache) {
		cache := NewChainCache(0)
		return setup{statement: statementOf(), stores: stores, revocation: revocation, chains: cache}.verifier(b), cache
	}
	one := func(b *testing.B, v *Verifier, i int) {
		ev, err := v.Verify(b.Context(), about, candidates[i])
		if err != nil || ev.Outcome != boltseal.Verified {
			b.Fatalf("%+v, %v", ev.Reason, err)
		}
	}
	b.Run("cold", func(b *testing.B) {
		b.ReportAllocs()
		v, cache := fresh(b)
		for i := 0; b.Loop(); i++ {
			*cache = *NewChainCache(0)
			one(b, v, i%leaves)
		}
	})
	b.Run("issuers known", func(b *testing.B) {
		b.ReportAllocs()
		v, cache := fresh(b)
		for i := 0; b.Loop(); i++ {
			if i%leaves == 0 {
				*cache = *NewChainCache(0)
				cache.keep(root.X509()[1:])
			}
			one(b, v, i%leaves)
		}
	})
	b.Run("chain known", func(b *testing.B) {
		b.ReportAllocs()
		v, _ := fresh(b)
		for b.Loop() {
			one(b, v, 0)
		}
	})
	b.Run("chain known, parallel", func(b *testing.B) {
		v, _ := fresh(b)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				one(b, v, 0)
			}
		})
	})
	b.Run("notation-go", func(b *testing.B) {
		b.ReportAllocs()
		v := must(verifier.New(theirs(b, document(statementOf())), memoryStore{"ca:release": root.X509()[2:]}, nil))(b)
		for i := 0; b.Loop(); i++ {
			env := envelopes[i%leaves]
			_, err := v.Verify(b.Context(), target, env.Content,
				notation.VerifierVerifyOptions{ArtifactReference: repository + "@" + target.Digest.String(), SignatureMediaType: env.MediaType})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
