package memo_test

import (
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/internal/test/testwait"
	"github.com/boltseal/boltseal/policy"
)

func platformsEngine(t *testing.T, h *testhouse.House, demand boltseal.Demand) *boltseal.Engine {
	t.Helper()
	p := testhouse.Need(policy.New(policy.Options{Default: policy.Any, MultiArch: demand}))(t)
	return h.EngineOf(t, testhouse.Options{Engine: boltseal.Options{Policy: p}})
}

func listings(h *testhouse.House, d ocispec.Descriptor) (n int) {
	for _, r := range h.Registry.Requests(testregistry.Referrers) {
		if r.Target == d.Digest.String() {
			n++
		}
	}
	return n
}

// TestManifestsInCommon: what two images have in common is verified once, and an
// answer ends with the first of what it was made of.
func TestManifestsInCommon(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{Registry: testregistry.Options{Latency: 5 * time.Millisecond}})
	common, unsigned, other := h.Registry.PushImage(testhouse.Repo, "", 0), h.Registry.PushImage(testhouse.Repo, "", 0), h.Registry.PushImage(testhouse.Repo, "", 0)
	for _, d := range []ocispec.Descriptor{common, other} {
		h.Registry.Sign(testhouse.Repo, d, h.Signer, testca.SignOptions{})
	}
	images := []string{
		h.Registry.Pinned(testhouse.Repo, h.Registry.PushIndex(testhouse.Repo, "a", common).Digest),
		h.Registry.Pinned(testhouse.Repo, h.Registry.PushIndex(testhouse.Repo, "b", common, other).Digest),
	}
	h.Registry.PushIndex(testhouse.Repo, "c", common, unsigned)
	e := platformsEngine(t, h, boltseal.EachPlatform)
	m := newMemo(memo.Options{AllowTTL: time.Minute, DenyTTL: 10 * time.Second})
	var wg sync.WaitGroup
	for range 10 {
		for _, image := range images {
			wg.Go(func() { m.decision(t, e, image) })
		}
	}
	wg.Wait()
	if n := listings(h, common); n != 1 {
		t.Errorf("%d listings of what all have in common", n)
	}
	for tag, want := range map[string]boltseal.Decision{"a": boltseal.Allow, "b": boltseal.Allow, "c": boltseal.Deny} {
		if d := m.decision(t, e, h.Registry.Ref(testhouse.Repo, tag)); d != want {
			t.Errorf("%s: %v", tag, d)
		}
	}
	// A fourth image comes late: its answer must not outlive the common part's.
	m.clock.forward(50 * time.Second)
	late := h.Registry.Pinned(testhouse.Repo, h.Registry.PushIndex(testhouse.Repo, "late", other, common).Digest)
	if d := m.decision(t, e, late); d != boltseal.Allow || listings(h, common) != 1 {
		t.Errorf("%v, %d listings", d, listings(h, common))
	}
	m.clock.forward(11 * time.Second)
	if m.Peek(e, late, m.clock.now()) != nil {
		t.Error("an answer is kept for longer than what it was made of")
	}
	if d := m.decision(t, e, late); d != boltseal.Allow || listings(h, common) != 2 {
		t.Errorf("%v, %d listings", d, listings(h, common))
	}
	m.Retain(func(*boltseal.Engine) bool { return false })
	if d := m.decision(t, e, late); d != boltseal.Allow || listings(h, common) != 3 {
		t.Errorf("forgotten, and %v with %d listings", d, listings(h, common))
	}
}

// TestManifestsCutOff: a denial elsewhere that cuts work off leaves nothing behind.
func TestManifestsCutOff(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	good, bad := h.Registry.PushImage(testhouse.Repo, "", 0), h.Registry.PushImage(testhouse.Repo, "", 0)
	h.Registry.Sign(testhouse.Repo, good, h.Signer, testca.SignOptions{})
	denied := h.Registry.Pinned(testhouse.Repo, h.Registry.PushIndex(testhouse.Repo, "", good, bad).Digest)
	alone := h.Registry.Pinned(testhouse.Repo, h.Registry.PushIndex(testhouse.Repo, "", good).Digest)
	remove := h.Registry.Inject(testregistry.Fault{Kind: testregistry.Hang, Class: testregistry.Referrers, Target: good.Digest.String(), Times: 1})
	e := platformsEngine(t, h, boltseal.EachPlatform)
	m := newMemo(memo.Options{})
	if a := m.Answer(testwait.Context(t), e, denied); a.Decision != boltseal.Deny || a.Reason.Cause != boltseal.CauseNothingSigned {
		t.Errorf("%+v", a)
	}
	remove() // the denial may have come before it was asked
	if d := m.decision(t, e, alone); d != boltseal.Allow {
		t.Errorf("what was cut off is remembered: %v", d)
	}
}
