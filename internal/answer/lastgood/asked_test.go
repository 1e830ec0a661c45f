package lastgood_test

import (
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/answer/lastgood"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/notation"
)

// TestWhatOneHeardServesNobodyElse: the same image, asked for by another Store or for
// other types of artifacts, is not remembered; what is read by its digest serves all.
func TestWhatOneHeardServesNobodyElse(t *testing.T) {
	t.Parallel()
	memory := lastgood.New(0, nil)
	h := testhouse.New(t, testhouse.Options{Wrap: of(memory, "ours")})
	theirs := h.EngineOf(t, testhouse.Options{Wrap: of(memory, "theirs")})
	bare := h.EngineOf(t, testhouse.Options{})
	others := h.EngineOf(t, testhouse.Options{Wrap: of(memory, "ours"), Engine: boltseal.Options{
		Verifiers: []boltseal.Verifier{h.Verifier(t, "notation", "", notation.ArtifactType, "application/vnd.example.other")}}})
	image, _ := h.Signed("v", h.Signer)
	h.Verify(t, image)
	h.Registry.Inject(testregistry.Fault{Kind: testregistry.Status, Status: 503})
	ref := testhouse.Need(boltseal.ParseReference(image))(t)
	for name, c := range map[string]struct {
		e    *boltseal.Engine
		want boltseal.Decision
	}{
		"who heard it": {h.Engine, boltseal.Allow}, "another Store": {theirs, boltseal.Unknown}, "a Store of which nothing is remembered": {bare, boltseal.Unknown},
		"the same Store for more types": {others, boltseal.Unknown},
	} {
		r, _ := memory.Verify(t.Context(), c.e, ref, time.Hour)
		if r.Decision != c.want || c.want == boltseal.Unknown && r.Reason.Cause != boltseal.CauseUnavailable {
			t.Errorf("%s: %s %+v", name, r.Decision, r.Reason)
		}
	}
}

// TestContentServesAll: bytes are what their digest says, whoever read them.
func TestContentServesAll(t *testing.T) {
	t.Parallel()
	memory := lastgood.New(0, nil)
	h := testhouse.New(t, testhouse.Options{})
	image := h.Registry.PushImage(testhouse.Repo, "v", 0)
	h.Registry.Sign(testhouse.Repo, image, h.Signer, testca.SignOptions{})
	ref := testhouse.Need(boltseal.ParseReference(h.Registry.Ref(testhouse.Repo, "v")))(t)
	ours, theirs := memory.Wrap("ours", h.Store), memory.Wrap("theirs", h.Store)
	if _, err := ours.Manifest(t.Context(), ref, image); err != nil {
		t.Fatal(err)
	}
	usage := memory.Usage()
	if _, err := theirs.Manifest(t.Context(), ref, image); err != nil {
		t.Fatal(err)
	}
	if memory.Usage() != usage {
		t.Error("the same bytes are kept twice")
	}
}
