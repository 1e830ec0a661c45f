package service_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

// shortLived answers are looked for again at once, so that a test need not wait.
var shortLived = memo.Options{AllowTTL: time.Millisecond, DenyTTL: time.Millisecond, UnknownTTL: time.Millisecond, TagTTL: time.Millisecond}

var outages = map[string]testregistry.Fault{
	"503":   {Kind: testregistry.Status, Status: 503},
	"429":   {Kind: testregistry.Status, Status: 429, RetryAfter: "1"},
	"reset": {Kind: testregistry.Reset},
	"hang":  {Kind: testregistry.Hang},
}

func TestLastKnownGood(t *testing.T) {
	t.Parallel()
	for name, fault := range outages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, testhouse.Options{}, service.Options{Memo: shortLived},
				policy("memory", "match: {namespaces: [memory]}, onUnavailable: {action: lastKnownGood, maxAge: 1h}"),
				policy("open", "match: {namespaces: [open]}, onUnavailable: {action: allow}"),
				policy("closed", "match: {namespaces: [closed]}"))
			tag, pinned := r.Signed("signed", r.Signer)
			unsigned, _ := r.Signed("unsigned")
			fresh, _ := r.Signed("fresh", r.Signer)
			for _, image := range []string{tag, pinned, unsigned} {
				r.validate("memory", image)
			}
			r.Registry.Inject(fault)
			time.Sleep(2 * time.Millisecond) // waits: until what was answered before has run out; it never sleeps less
			// Nothing is answered before the caller's time has nearly run out, of which memory has a part.
			testwait.Grow(t, 500*time.Millisecond, func(callers time.Duration) error {
				r.callers = callers
				for _, image := range []string{tag, pinned} {
					a := r.validate("memory", image)
					if !a.Allowed || !strings.Contains(strings.Join(a.Warnings, "\n"), "from evidence in memory") {
						return fmt.Errorf("%s from memory: %+v %+v", image, a, a.Result)
					}
				}
				if got := r.patched("memory", tag); !strings.HasPrefix(got[0], tag+"@sha256:") {
					return fmt.Errorf("pinned from memory: %q", got)
				}
				if a := r.validate("memory", unsigned); a.Allowed || !strings.Contains(a.Result.Message, "nothing signed") {
					return fmt.Errorf("what was never signed: %+v", a)
				}
				return nil
			})
			if a := r.validate("memory", fresh); a.Allowed {
				t.Error("what was never seen is allowed from memory")
			}
			if a := r.validate("open", fresh); !a.Allowed || !strings.Contains(strings.Join(a.Warnings, ""), "admits it without a check") {
				t.Errorf("onUnavailable allow: %+v", a)
			}
			if a := r.validate("closed", tag); a.Allowed || !strings.Contains(a.Result.Message, r.Registry.Host) {
				t.Errorf("onUnavailable deny: %+v", a)
			}
			// Today's trust configuration counts, not yesterday's.
			r.write(config(r.Stranger.Root().PEM(), policy("memory", "onUnavailable: {action: lastKnownGood, maxAge: 1h}")))
			eventually(t, "a root that was taken away denies in an outage too", func() bool {
				a := r.validate("memory", tag)
				return !a.Allowed && strings.Contains(a.Result.Message, "who is not trusted")
			})
		})
	}
}

// TestAnAnswerIsNotAnOutage: a registry that says no is not one that says nothing.
func TestAnAnswerIsNotAnOutage(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{Memo: shortLived}, policy("memory", "onUnavailable: {action: lastKnownGood}"), policy("open", "onUnavailable: {action: allow}"))
	image := r.Registry.PushImage(testhouse.Repo, "v", 0)
	signature := r.Registry.Sign(testhouse.Repo, image, r.Signer, testca.SignOptions{})
	tag := r.Registry.Ref(testhouse.Repo, "v")
	if a := r.validate("team", tag); !a.Allowed {
		t.Fatal(a.Result.Message)
	}
	undo := r.Registry.Inject(testregistry.Fault{Kind: testregistry.Status, Status: 401})
	eventually(t, "401 is an answer, and no outage", func() bool { return !r.validate("team", tag).Allowed })
	undo()
	eventually(t, "allowed again", func() bool { return r.validate("team", tag).Allowed })
	r.Registry.Delete(testhouse.Repo, signature.Digest)
	eventually(t, "the signature is gone", func() bool { return !r.validate("team", tag).Allowed })
}

// TestAnswersLeaveInTime: whatever the registry does, the caller hears from us.
// The limit is far above the budget, for machines that are busy.
func TestAnswersLeaveInTime(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{}, policy("prod", ""))
	tag, _ := r.Signed("v", r.Signer)
	r.Registry.Inject(testregistry.Fault{Kind: testregistry.Hang})
	ctx := testwait.Context(t)
	done := make(chan bool, 1)
	go func() { done <- r.review(server.PathValidate+"?timeout=1s", pod("team", tag)).Allowed }()
	select {
	case allowed := <-done:
		if allowed {
			t.Error("allowed in an outage")
		}
	case <-ctx.Done():
		t.Error("no answer, long after the API server has given up")
	}
}

func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{Registry: testregistry.Options{Latency: 20 * time.Millisecond}}, service.Options{Grace: leaving}, policy("prod", ""))
	tag, _ := r.Signed("v", r.Signer)
	var failed, answered atomic.Int64
	var quit atomic.Bool
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !quit.Load() {
				if r.validate("team", tag).Allowed {
					answered.Add(1)
				} else {
					failed.Add(1)
				}
			}
		})
	}
	eventually(t, "load", func() bool { return answered.Load() > 20 })
	stopped := make(chan error)
	go func() { stopped <- r.stop() }()
	eventually(t, "it says that it leaves", func() bool {
		status, text := r.ready()
		return status == 503 && strings.Contains(text, "shutting down")
	})
	quit.Store(true) // as clients do that have seen it is not ready
	wg.Wait()
	if err := <-stopped; err != nil || failed.Load() > 0 {
		t.Errorf("%v, %d requests failed", err, failed.Load())
	}
}
