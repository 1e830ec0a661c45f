package boltseal_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/policy"
)

// hintOf is the list of a chain's thumbprints.
func hintOf(t testing.TB, c *testca.Chain) string {
	t.Helper()
	var prints []string
	for _, cert := range c.Certs {
		prints = append(prints, digest.FromBytes(cert.Raw).Encoded())
	}
	b, err := json.Marshal(prints)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// signWithHint attaches a signature by c whose manifest has a hint of its own; "" is none.
func signWithHint(t testing.TB, r *testregistry.Registry, image ocispec.Descriptor, c *testca.Chain, hint string) ocispec.Descriptor {
	t.Helper()
	env, err := c.Sign(image, testca.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var annotations map[string]string
	if hint != "" {
		annotations = map[string]string{boltseal.HintThumbprints: hint}
	}
	a, err := testca.SignatureManifest(image, testca.ManifestOptions{Annotations: annotations}, env)
	if err != nil {
		t.Fatal(err)
	}
	return r.PushArtifact(repo, a)
}

// listedLast is a store that lists some artifacts after all others.
type listedLast struct {
	boltseal.Store
	last map[digest.Digest]bool
}

func (s listedLast) Referrers(ctx context.Context, ref boltseal.Reference, d digest.Digest, types []string) (boltseal.Listing, error) {
	l, err := s.Store.Referrers(ctx, ref, d, types)
	slices.SortStableFunc(l.Referrers, func(a, b ocispec.Descriptor) int {
		switch {
		case s.last[a.Digest] == s.last[b.Digest]:
			return 0
		case s.last[a.Digest]:
			return 1
		}
		return -1
	})
	return l, err
}

// TestSignaturesOfStrangersHideNoRightOne: whoever may push to a repository can attach any number of signatures. They
// cost neither the limit nor requests, as long as the right one says whose it is.
func TestSignaturesOfStrangersHideNoRightOne(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]testregistry.Options{"referrers API": {}, "referrers tag": {NoReferrersAPI: true}, "pages": {PageSize: 7}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, houseOptions{Registry: o})
			r := h.Registry
			image := r.PushImage(repo, "v", 0)
			strangers := 0
			for _, hint := range []string{hintOf(t, h.Stranger), "", "[]", `["` + strings.Repeat("0", 64) + `"]`, strings.Repeat("a", boltseal.MaxHintBytes+1)} {
				for range boltseal.DefaultMaxSignatures / 4 {
					signWithHint(t, r, image, h.Stranger, hint)
					strangers++
				}
			}
			right := r.Sign(repo, image, h.Signer, testca.SignOptions{})
			e := h.Engine.WithStores(func(s boltseal.Store) boltseal.Store {
				return listedLast{s, map[digest.Digest]bool{right.Digest: true}}
			})
			r.ResetLog()
			got, err := e.Verify(t.Context(), r.Pinned(repo, image.Digest))
			if err != nil || got.Decision != boltseal.Allow {
				t.Fatalf("%s %+v, %v", got.Decision, got.Reason, err)
			}
			if got.Truncated == "" {
				t.Errorf("%d signatures, and nothing says that only %d are judged", strangers+1, boltseal.DefaultMaxSignatures)
			}
			// The right one's manifest and envelope, and nothing of the others.
			if n := r.Count(testregistry.Blob); n != 1 {
				t.Errorf("%d envelopes were fetched", n)
			}
			if len(got.Evidence) != 1 || got.Evidence[0].Referrer != right.Digest {
				t.Errorf("evidence: %+v", got.Evidence)
			}
		})
	}
}

// TestSignatureWithoutAHintComesBeforeStrangers: older signers list no thumbprints.
func TestSignatureWithoutAHintComesBeforeStrangers(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	image := h.Registry.PushImage(repo, "v", 0)
	for range boltseal.DefaultMaxSignatures + 5 {
		signWithHint(t, h.Registry, image, h.Stranger, hintOf(t, h.Stranger))
	}
	right := signWithHint(t, h.Registry, image, h.Signer, "")
	e := h.Engine.WithStores(func(s boltseal.Store) boltseal.Store {
		return listedLast{s, map[digest.Digest]bool{right.Digest: true}}
	})
	if got, err := e.Verify(t.Context(), h.Registry.Pinned(repo, image.Digest)); err != nil || got.Decision != boltseal.Allow {
		t.Fatalf("%s %+v, %v", got.Decision, got.Reason, err)
	}
}

// TestCopiedHintsDecideNothing: a stranger can write the thumbprints of somebody else. Within the limit the right one is
// found after all; beyond it the image is denied, and told why.
func TestCopiedHintsDecideNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	for _, copies := range []int{1, boltseal.DefaultMaxSignatures - 1, boltseal.DefaultMaxSignatures} {
		image := h.Registry.PushImage(repo, fmt.Sprint("v", copies), copies)
		for range copies {
			signWithHint(t, h.Registry, image, h.Stranger, hintOf(t, h.Signer))
		}
		last := map[digest.Digest]bool{h.Registry.Sign(repo, image, h.Signer, testca.SignOptions{}).Digest: true}
		e := h.Engine.WithStores(func(s boltseal.Store) boltseal.Store { return listedLast{s, last} })
		got, err := e.Verify(t.Context(), h.Registry.Pinned(repo, image.Digest))
		if err != nil {
			t.Fatal(err)
		}
		if copies < boltseal.DefaultMaxSignatures {
			expect(t, got, boltseal.Allow, boltseal.CauseNone)
			continue
		}
		if got.Decision == boltseal.Allow || got.Truncated == "" || !strings.Contains(got.Reason.Message, "limit") {
			t.Errorf("%d copies: %s, %+v, %q", copies, got.Decision, got.Reason, got.Truncated)
		}
		image = h.Registry.PushImage(repo, "only", 9)
		signWithHint(t, h.Registry, image, h.Stranger, hintOf(t, h.Signer))
		expect(t, h.Verify(t, h.Registry.Pinned(repo, image.Digest)), boltseal.Deny, boltseal.CauseUntrustedSigner)
	}
}

// TestOrderIsNoRule: where all signatures must be verified, a promising one does not stand for the others.
func TestOrderIsNoRule(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{Rule: policy.All})
	image := h.Registry.PushImage(repo, "v", 0)
	h.Registry.Sign(repo, image, h.Signer, testca.SignOptions{})
	expect(t, h.Verify(t, h.Registry.Pinned(repo, image.Digest)), boltseal.Allow, boltseal.CauseNone)
	signWithHint(t, h.Registry, image, h.Stranger, hintOf(t, h.Stranger))
	expect(t, h.Verify(t, h.Registry.Pinned(repo, image.Digest)), boltseal.Deny, boltseal.CauseUntrustedSigner)
}

// ranker is a verifier whose hints are whatever a test wants.
type ranker struct {
	boltseal.Verifier
	promise func() boltseal.Promise
}

func (r ranker) Promise(boltseal.Subject, map[string]string) boltseal.Promise { return r.promise() }

// TestRankersThatAreWrong: a panic and promises that do not exist change no decision.
func TestRankersThatAreWrong(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	image := h.Registry.PushImage(repo, "v", 0)
	h.Registry.Sign(repo, image, h.Stranger, testca.SignOptions{})
	h.Registry.Sign(repo, image, h.Signer, testca.SignOptions{})
	for name, promise := range map[string]func() boltseal.Promise{
		"panics": func() boltseal.Promise { panic("a hint") },
		"-7":     func() boltseal.Promise { return -7 },
		"99":     func() boltseal.Promise { return 99 },
	} {
		e := h.EngineOf(t, houseOptions{Engine: boltseal.Options{Verifiers: []boltseal.Verifier{ranker{h.Verifier(t, "notation", ""), promise}}}})
		if got, err := e.Verify(t.Context(), h.Registry.Pinned(repo, image.Digest)); err != nil || got.Decision != boltseal.Allow {
			t.Errorf("%s: %s %+v, %v", name, got.Decision, got.Reason, err)
		}
	}
}

// BenchmarkRightSignature: what the order costs and gains, with the limit on signatures out of the way.
func BenchmarkRightSignature(b *testing.B) {
	for _, c := range []struct {
		name              string
		strangers, rights int
	}{{"49 strangers first", 49, 1}, {"one", 0, 1}, {"500 right ones", 0, 500}} {
		b.Run(c.name, func(b *testing.B) {
			h := newHouse(b, houseOptions{})
			image := h.Registry.PushImage(repo, "v", 0)
			last := map[digest.Digest]bool{}
			for range c.strangers {
				signWithHint(b, h.Registry, image, h.Stranger, hintOf(b, h.Stranger))
			}
			for range c.rights {
				last[h.Registry.Sign(repo, image, h.Signer, testca.SignOptions{}).Digest] = true
			}
			e := h.Engine.WithStores(func(s boltseal.Store) boltseal.Store { return listedLast{s, last} })
			h.Registry.ResetLog()
			for b.Loop() {
				if got, err := e.Verify(b.Context(), h.Registry.Pinned(repo, image.Digest)); err != nil || got.Decision != boltseal.Allow {
					b.Fatal(got.Decision, got.Reason, err)
				}
			}
			b.ReportMetric(float64(h.Registry.Count(testregistry.Any))/float64(b.N), "requests/op")
		})
	}
}
