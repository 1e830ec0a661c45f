package service_test

import (
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/audit"
	"github.com/boltseal/boltseal/internal/server"
	"github.com/boltseal/boltseal/internal/service"
	"github.com/boltseal/boltseal/internal/testhouse"
	"github.com/boltseal/boltseal/internal/testregistry"
)

// lastDecision is the last decision in the audit log that speaks of a text.
func (r *running) lastDecision(text string) *audit.Decision {
	r.t.Helper()
	var found *audit.Decision
	eventually(r.t, "a decision about "+text, func() bool {
		c, err := audit.Find(strings.NewReader(r.audit.String()), "")
		if err != nil || c.Decision == nil {
			return false
		}
		for _, img := range c.Decision.Images {
			if strings.Contains(img.Image, text) {
				found = c.Decision
			}
		}
		return found != nil
	})
	return found
}

// TestDecisionSaysWhereItsTimeWent: of a registry that does not answer in time, the
// line says that, and what was asked of it; of what is known already it says nothing.
func TestDecisionSaysWhereItsTimeWent(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{}, policy("prod", ""))
	known, _ := r.Signed("known", r.Signer)
	slow, _ := r.Signed("slow", r.Signer)
	for range 2 {
		if !r.validate("team", known).Allowed {
			t.Fatal("not trusted")
		}
	}
	if d := r.lastDecision(":known"); len(d.Images) != 1 || d.Images[0].Spent != nil {
		t.Errorf("what is known was waited for: %+v", d.Images[0].Spent)
	}
	r.Registry.Inject(testregistry.Fault{Kind: testregistry.Hang, Class: testregistry.Referrers})
	if status, body := r.post(server.PathValidate+"?timeout=1s", reviewOf(pod("team", slow))); status != 200 {
		t.Fatalf("HTTP %d: %s", status, body)
	}
	d := r.lastDecision(":slow")
	img := d.Images[0].Spent
	// The time-out of the request is a lower bound of what the parts took.
	const least = 400e6
	switch {
	case d.Spent == nil || d.Spent.Images < least || d.Spent.Images > d.Took:
		t.Errorf("the request: %+v of %s", d.Spent, d.Took)
	case img == nil || img.Waited < least || img.Joined || img.Referrers < least || img.Revocation != 0 || img.Token != 0:
		t.Errorf("the image: %+v", img)
	case img.Slowest == nil || img.Slowest.Host != r.Registry.Host || img.Slowest.Took < least || img.Slowest.Status != 0:
		t.Errorf("the slowest request: %+v", img.Slowest)
	}
}
