package memo_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

// flood asks for n images of a registry that does not answer, and returns when all of
// them are under way or refused: how many were refused.
func flood(t *testing.T, m *memoAndAll, e *boltseal.Engine, r *testregistry.Registry, asker string, n int, digests bool) (refused func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(boltseal.WithAsker(t.Context(), asker))
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	before := m.stats.Overloaded.Load()
	for i := range n {
		image := r.Ref("flood", fmt.Sprint(asker, i))
		wg.Go(func() {
			if digests {
				_, _ = m.Digest(ctx, e, image)
			} else {
				m.Answer(ctx, e, image)
			}
		})
	}
	return func() int { return int(m.stats.Overloaded.Load() - before) }
}

// twoRegistries are one that answers, and one that never does, for one engine.
func twoRegistries(t *testing.T) (h *testhouse.House, hangs *testregistry.Registry) {
	t.Helper()
	h = testhouse.New(t, testhouse.Options{})
	other := testhouse.New(t, testhouse.Options{})
	undo := other.Registry.Inject(testregistry.Fault{Kind: testregistry.Hang})
	t.Cleanup(undo)
	return h, other.Registry
}

// TestAHostThatHangsCostsItself: it takes its share of the work under way, whoever
// asks for its images and by whichever way, and another host's images are verified.
func TestAHostThatHangsCostsItself(t *testing.T) {
	t.Parallel()
	for _, digests := range []bool{false, true} {
		h, hangs := twoRegistries(t)
		_, image := h.Signed("v", h.Signer)
		m := newMemo(memo.Options{MaxWork: 40, WorkTimeout: time.Minute})
		var refused []func() int
		for _, asker := range []string{"", "a", "b", "c", "d", "e"} {
			refused = append(refused, flood(t, m, h.Engine, hangs, asker, 10, digests))
		}
		testwait.Until(t, "all but a share are refused", func() bool {
			n := 0
			for _, f := range refused {
				n = max(n, f())
			}
			return n == 50
		})
		if d := m.decision(t, h.Engine, image); d != boltseal.Allow {
			t.Errorf("an image of another registry: %s", d)
		}
		a := m.Answer(boltseal.WithAsker(t.Context(), "f"), h.Engine, hangs.Ref("flood", "more"))
		if a.Decision != boltseal.Unknown || !strings.Contains(a.Reason.Message, "has not answered yet") {
			t.Errorf("one more of the registry that hangs: %+v", a.Reason)
		}
	}
}

// TestANamespaceThatFloodsCostsItself: whatever registries it names.
func TestANamespaceThatFloodsCostsItself(t *testing.T) {
	t.Parallel()
	h, first := twoRegistries(t)
	_, second := twoRegistries(t)
	_, image := h.Signed("v", h.Signer)
	m := newMemo(memo.Options{MaxWork: 40, WorkTimeout: time.Minute})
	a := flood(t, m, h.Engine, first, "team", 8, false)
	b := flood(t, m, h.Engine, second, "team", 8, false)
	testwait.Until(t, "all but a share are refused", func() bool { return max(a(), b()) == 6 })
	own := m.Answer(boltseal.WithAsker(t.Context(), "team"), h.Engine, image)
	if own.Decision != boltseal.Unknown || !strings.Contains(own.Reason.Message, "namespace team") {
		t.Errorf("one more of the namespace that floods: %s %+v", own.Decision, own.Reason)
	}
	if a := m.Answer(boltseal.WithAsker(t.Context(), "shop"), h.Engine, image); a.Decision != boltseal.Allow {
		t.Errorf("another namespace's image: %+v", a.Reason)
	}
}

// TestWhoHasMostYields: where several namespaces take all that there is, another one
// finds a place.
func TestWhoHasMostYields(t *testing.T) {
	t.Parallel()
	h, _ := twoRegistries(t)
	_, image := h.Signed("v", h.Signer)
	m := newMemo(memo.Options{MaxWork: 8, WorkTimeout: time.Minute})
	for _, asker := range []string{"a", "b", "c", "d"} {
		_, hangs := twoRegistries(t)
		ctx, cancel := context.WithCancel(boltseal.WithAsker(t.Context(), asker))
		defer cancel()
		for i := range 2 {
			go m.Answer(ctx, h.Engine, hangs.Ref("flood", fmt.Sprint(i)))
		}
	}
	testwait.Until(t, "all is taken", func() bool { return m.stats.InFlight.Load() == 8 })
	if a := m.Answer(boltseal.WithAsker(t.Context(), "shop"), h.Engine, image); a.Decision != boltseal.Allow {
		t.Errorf("a fifth namespace's image: %+v", a.Reason)
	}
	testwait.Until(t, "one has made room", func() bool { return m.stats.InFlight.Load() == 7 })
}
