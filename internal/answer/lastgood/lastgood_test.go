package lastgood_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/answer/lastgood"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// of remembers what a store answers under a name.
func of(m *lastgood.Memory, asked string) func(boltseal.Store) boltseal.Store {
	return func(s boltseal.Store) boltseal.Store { return m.Wrap(asked, s) }
}

func TestMemoryStandsInForARegistry(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	memory := lastgood.New(0, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	h := testhouse.New(t, testhouse.Options{Wrap: of(memory, "registry")})
	byTag, byDigest := h.Signed("signed", h.Signer)
	strangers, _ := h.Signed("stranger", h.Stranger)
	unsigned, _ := h.Signed("unsigned")
	never, _ := h.Signed("never", h.Signer)
	for _, image := range []string{byTag, strangers, unsigned} {
		h.Verify(t, image)
	}
	h.Registry.Inject(testregistry.Fault{Kind: testregistry.Status, Status: 503})

	recall := func(e *boltseal.Engine, image string, maxAge time.Duration) (boltseal.Result, time.Time) {
		t.Helper()
		return memory.Verify(t.Context(), e, testhouse.Need(boltseal.ParseReference(image))(t), maxAge)
	}
	before := h.Registry.Count(testregistry.Any)
	for image, want := range map[string]boltseal.Decision{
		byTag: boltseal.Allow, byDigest: boltseal.Allow, strangers: boltseal.Deny, unsigned: boltseal.Deny, never: boltseal.Unknown,
		h.Registry.Ref(testhouse.Repo, "other-tag"): boltseal.Unknown,
	} {
		r, since := recall(h.Engine, image, time.Hour)
		if r.Decision != want {
			t.Errorf("%s: %s (%s), want %s", image, r.Decision, r.Reason.Message, want)
		}
		if want == boltseal.Allow && time.Since(since) > time.Minute {
			t.Errorf("%s: since %s", image, since)
		}
	}
	if got := h.Registry.Count(testregistry.Any); got != before {
		t.Errorf("%d requests to a registry that is out of reach", got-before)
	}

	// The same memory under another trust configuration: the certificate is gone.
	today := h.EngineOf(t, testhouse.Options{Wrap: of(memory, "registry"), Engine: boltseal.Options{
		Verifiers: []boltseal.Verifier{h.VerifierFor(t, h.Stranger, "notation", "")}}})
	if r, _ := recall(today, byTag, time.Hour); r.Decision != boltseal.Deny || r.Reason.Cause != boltseal.CauseUntrustedSigner {
		t.Errorf("a certificate that is no longer trusted: %s (%s)", r.Decision, r.Reason.Message)
	}

	ahead.Store(int64(2 * time.Hour))
	for _, image := range []string{byTag, byDigest} {
		if r, _ := recall(h.Engine, image, time.Hour); r.Decision != boltseal.Unknown || r.Reason.Cause != boltseal.CauseUnavailable {
			t.Errorf("%s after maxAge: %s (%s)", image, r.Decision, r.Reason.Cause)
		}
		if r, since := recall(h.Engine, image, 3*time.Hour); r.Decision != boltseal.Allow || time.Since(since) > time.Minute {
			t.Errorf("%s within a longer maxAge: %s, since %s", image, r.Decision, since)
		}
	}
}

// TestNewsReplacesMemory: what the registry says while it answers is what is
// remembered, a signature that was taken away included.
func TestNewsReplacesMemory(t *testing.T) {
	t.Parallel()
	memory := lastgood.New(0, nil)
	h := testhouse.New(t, testhouse.Options{Wrap: of(memory, "registry")})
	image := h.Registry.PushImage(testhouse.Repo, "v", 0)
	signature := h.Registry.Sign(testhouse.Repo, image, h.Signer, testca.SignOptions{})
	tag := h.Registry.Ref(testhouse.Repo, "v")
	ref := testhouse.Need(boltseal.ParseReference(tag))(t)
	h.Verify(t, tag)
	h.Registry.Delete(testhouse.Repo, signature.Digest)
	h.Verify(t, tag)
	if r, _ := memory.Verify(t.Context(), h.Engine, ref, time.Hour); r.Decision != boltseal.Deny {
		t.Errorf("the signature was deleted: %s", r.Decision)
	}
	if memory.Usage() == 0 {
		t.Error("no usage")
	}
}

// TestMemoryKnowsTheRightSignatureAmongStrangers: what a listing lets expect is remembered with it, so that an outage
// does not deny an image because strangers attached more signatures than are judged.
func TestMemoryKnowsTheRightSignatureAmongStrangers(t *testing.T) {
	t.Parallel()
	memory := lastgood.New(0, nil)
	h := testhouse.New(t, testhouse.Options{Wrap: of(memory, "registry")})
	image := h.Registry.PushImage(testhouse.Repo, "v", 0)
	for range 2 * boltseal.DefaultMaxSignatures {
		h.Registry.Sign(testhouse.Repo, image, h.Stranger, testca.SignOptions{})
	}
	h.Registry.Sign(testhouse.Repo, image, h.Signer, testca.SignOptions{})
	ref := h.Registry.Pinned(testhouse.Repo, image.Digest)
	if r := h.Verify(t, ref); r.Decision != boltseal.Allow {
		t.Fatalf("%s %+v", r.Decision, r.Reason)
	}
	h.Registry.Inject(testregistry.Fault{Kind: testregistry.Status, Status: 503})
	if r, _ := memory.Verify(t.Context(), h.Engine, testhouse.Need(boltseal.ParseReference(ref))(t), time.Hour); r.Decision != boltseal.Allow {
		t.Errorf("%s %+v", r.Decision, r.Reason)
	}
}
