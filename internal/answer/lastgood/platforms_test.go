package lastgood_test

import (
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/answer/lastgood"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// TestPlatformsFromMemory: the index and what refers to its manifests are
// remembered, and judged as when the registry answered.
func TestPlatformsFromMemory(t *testing.T) {
	t.Parallel()
	memory := lastgood.New(0, nil)
	h := testhouse.New(t, testhouse.Options{})
	h.Index("whole", "linux/amd64+", "linux/arm64+")
	h.Index("half", "linux/amd64+", "linux/arm64")
	h.Index("never", "linux/amd64+")
	e := h.Asking(t, boltseal.EachPlatform, of(memory, "registry"))
	for _, tag := range []string{"whole", "half"} {
		testhouse.Need(e.Verify(t.Context(), h.Registry.Ref(testhouse.Repo, tag)))(t)
	}
	h.Registry.Inject(testregistry.Fault{Kind: testregistry.Status, Status: 503})
	for tag, want := range map[string]boltseal.Decision{"whole": boltseal.Allow, "half": boltseal.Deny, "never": boltseal.Unknown} {
		ref := testhouse.Need(boltseal.ParseReference(h.Registry.Ref(testhouse.Repo, tag)))(t)
		if r, _ := memory.Verify(t.Context(), e, ref, time.Hour); r.Decision != want {
			t.Errorf("%s: %v %+v", tag, r.Decision, r.Reason)
		}
	}
}
