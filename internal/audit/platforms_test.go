package audit_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/audit"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

// TestEvidenceOfPlatforms: it is written to the byte as encoding/json does, read
// back, and decided again to the same.
func TestEvidenceOfPlatforms(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	whole, strangers := h.Index("whole", "linux/amd64+", "linux/arm64+"), h.Index("strangers", "linux/amd64+", "linux/arm64")
	h.Index("half", "linux/amd64+", "linux/arm64")
	h.Registry.Sign(testhouse.Repo, whole[0], h.Signer, testca.SignOptions{})
	h.Registry.Sign(testhouse.Repo, strangers[2], h.Stranger, testca.SignOptions{})
	for _, demand := range []boltseal.Demand{boltseal.EachPlatform, boltseal.Either, boltseal.Whole} {
		e := h.Asking(t, demand, nil)
		for _, tag := range []string{"whole", "half", "strangers"} {
			r := testhouse.Need(e.Verify(t.Context(), h.Registry.Ref(testhouse.Repo, tag)))(t)
			compareEvidence(t, e, r)
			var ev audit.Evidence
			if err := json.Unmarshal(audit.EncodeEvidence("i", r.CollectedAt, e, &r), &ev); err != nil {
				t.Fatal(err)
			}
			replay := testhouse.Need(ev.Replay())(t)
			if !replay.Agrees || replay.Decision != r.Decision || replay.Reason != r.Reason || len(replay.Changes) == 0 {
				t.Errorf("%s, %s: %+v, at first %+v", demand, tag, replay, r.Reason)
			}
			// Where the stranger's signature denied before the other platform was looked
			// at, accepting it is not known to be enough.
			what := replay.Changes[0].What
			if demand == boltseal.EachPlatform && tag == "strangers" && !strings.Contains(what, "were trusted") && !strings.Contains(what, "this is missing: linux/arm64") {
				t.Errorf("%+v", replay.Changes)
			}
		}
	}
}
