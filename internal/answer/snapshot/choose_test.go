package snapshot_test

import (
	"context"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/answer/snapshot"
)

// choices are engines of a configuration with one for the namespace "team" and no other.
type choices struct {
	snapshot.Engines
	team, stranger, pod *boltseal.Engine
	perPod              bool
	asked               int
}

func (c *choices) EngineFor(namespace string) *boltseal.Engine {
	if namespace == "team" {
		return c.team
	}
	return nil
}

func (c *choices) PerPod(*boltseal.Engine) bool { return c.perPod }

func (c *choices) ForPod(context.Context, *boltseal.Engine, string, []string, string) *boltseal.Engine {
	c.asked++
	return c.pod
}

func (c *choices) ForStranger(e *boltseal.Engine) (*boltseal.Engine, bool) {
	if c.stranger == nil {
		return e, false
	}
	return c.stranger, true
}

// TestChoiceOfAnEngine: whose resources and credentials count is decided here, for the
// webhook, Gatekeeper's provider and the audit alike.
func TestChoiceOfAnEngine(t *testing.T) {
	t.Parallel()
	team, stranger, pod := new(boltseal.Engine), new(boltseal.Engine), new(boltseal.Engine)
	for name, tt := range map[string]struct {
		owner    string
		proven   bool
		engines  choices
		want     *boltseal.Engine
		withheld bool
		reads    int // of a Pod's Secrets
		cause    boltseal.Cause
	}{
		"nobody's":                        {owner: "other", proven: true, cause: boltseal.CauseNoVerifier},
		"the namespace's":                 {owner: "team", proven: true, want: team},
		"a Pod's own":                     {owner: "team", proven: true, engines: choices{perPod: true, pod: pod}, want: pod, reads: 1},
		"a Pod's own, which fails":        {owner: "team", proven: true, engines: choices{perPod: true}, reads: 1, cause: boltseal.CauseInternal},
		"a stranger's":                    {owner: "team", engines: choices{stranger: stranger}, want: stranger, withheld: true},
		"a stranger's, who names a Pod":   {owner: "team", engines: choices{stranger: stranger, perPod: true, pod: pod}, want: stranger, withheld: true},
		"a stranger's, nothing withheld":  {owner: "team", want: team},
		"a stranger's, who names nothing": {owner: "other", cause: boltseal.CauseNoVerifier},
	} {
		e := tt.engines
		e.team = team
		c := (&snapshot.Snapshot{Engines: &e}).Choose(tt.owner, tt.proven)
		if e.asked > 0 {
			t.Errorf("%s: Secrets are read before it is known for which Pod", name)
		}
		c = c.ForPod(t.Context(), snapshot.Pod{Namespace: "team"})
		if c.Engine != tt.want || c.Withheld != tt.withheld || c.Why.Cause != tt.cause || e.asked != tt.reads {
			t.Errorf("%s: %+v, %d reads", name, c, e.asked)
		}
	}
}
