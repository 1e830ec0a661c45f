package service_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/audit"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/internal/test/testwait"
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
	for range 2 {
		if !r.validate("team", known).Allowed {
			t.Fatal("not trusted")
		}
	}
	if d := r.lastDecision(":known"); len(d.Images) != 1 || d.Images[0].Spent != nil {
		t.Errorf("what is known was waited for: %+v", d.Images[0].Spent)
	}
	r.Registry.Inject(testregistry.Fault{Kind: testregistry.Hang, Class: testregistry.Referrers})
	// The caller's time runs out while the list of signatures does not come: of a longer time, most goes there on any machine.
	testwait.Grow(t, time.Second, func(callers time.Duration) error {
		tag := "slow-" + callers.String()
		slow, _ := r.Signed(tag, r.Signer)
		if status, body := r.post(server.PathValidate+"?timeout="+callers.String(), reviewOf(pod("team", slow))); status != 200 {
			t.Fatalf("HTTP %d: %s", status, body)
		}
		d := r.lastDecision(":" + tag)
		img, least := d.Images[0].Spent, callers*2/5
		switch {
		case d.Spent == nil || d.Spent.Images < least || d.Spent.Images > d.Took:
			return fmt.Errorf("the request: %+v of %s", d.Spent, d.Took)
		case img == nil || img.Waited < least || img.Joined || img.Referrers < least || img.Revocation != 0 || img.Token != 0:
			return fmt.Errorf("the image: %+v", img)
		case img.Slowest == nil || img.Slowest.Host != r.Registry.Host || img.Slowest.Took < least || img.Slowest.Status != 0:
			return fmt.Errorf("the slowest request: %+v", img.Slowest)
		}
		return nil
	})
}
