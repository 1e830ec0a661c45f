package service_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// TestHangingAnywhere: whichever answer of the registry does not come, ours does.
// The limit is far above the budget, for machines that are busy; that the budget is
// below what the caller waits is a test of package server.
func TestHangingAnywhere(t *testing.T) {
	t.Parallel()
	for _, class := range []testregistry.Class{testregistry.Manifest, testregistry.Referrers, testregistry.Blob, testregistry.Token} {
		for _, kind := range []testregistry.Kind{testregistry.Hang, testregistry.Drip} {
			if class == testregistry.Token && kind == testregistry.Drip {
				continue // the token server knows no such fault
			}
			t.Run(string(class)+" "+string(kind), func(t *testing.T) {
				t.Parallel()
				r := start(t, testhouse.Options{Registry: testregistry.Options{Token: &testregistry.TokenOptions{Anonymous: true}}},
					// waits: the registry never answers, however late the machine gets that far
					service.Options{Server: server.Options{VerifyTimeout: 700 * time.Millisecond, MutateTimeout: 300 * time.Millisecond}}, policy("prod", ""))
				tag, pinned := r.Signed("v", r.Signer)
				r.Registry.Inject(testregistry.Fault{Kind: kind, Class: class, Delay: time.Second})
				if it := r.gatekeeper(server.PathVerify, tag)[0]; it.trusted() || !strings.Contains(string(it.Value), "resolving descriptor") {
					t.Errorf("verify: %s %s", it.Value, it.Error)
				}
				r.gatekeeper(server.PathMutate, tag)
				if a := r.review(server.PathValidate+"?timeout=1s", pod("team", tag, pinned)); a.Allowed || !strings.Contains(a.Result.Message, r.Registry.Host) {
					t.Errorf("validate: %+v", a.Result)
				}
				if a := r.review(server.PathPin+"?timeout=1s", pod("team", tag)); !a.Allowed || len(a.Patch) > 0 {
					t.Errorf("pin: %+v", a)
				}
			})
		}
	}
}

// TestRetriesWithinTheBudget: what a registry says once or twice in a bad moment
// is not what the caller hears.
func TestRetriesWithinTheBudget(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]testregistry.Fault{
		"503":              {Kind: testregistry.Status, Status: 503},
		"502":              {Kind: testregistry.Status, Status: 502},
		"429":              {Kind: testregistry.Status, Status: 429, RetryAfter: "1"},
		"429 without time": {Kind: testregistry.Status, Status: 429},
		"reset":            {Kind: testregistry.Reset},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, testhouse.Options{}, service.Options{}, policy("prod", ""))
			tag, _ := r.Signed("v", r.Signer)
			for _, class := range []testregistry.Class{testregistry.Manifest, testregistry.Referrers, testregistry.Blob} {
				f := fault
				f.Class, f.Times = class, 1
				r.Registry.Inject(f)
			}
			if it := r.gatekeeper(server.PathVerify, tag)[0]; !it.trusted() {
				t.Errorf("%s %s", it.Value, it.Error)
			}
		})
	}
}

// TestRetryAfterBeyondTheBudget: nobody waits for what cannot come in time.
func TestRetryAfterBeyondTheBudget(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{}, policy("prod", ""))
	tag, _ := r.Signed("v", r.Signer)
	r.Registry.Inject(testregistry.Fault{Kind: testregistry.Status, Status: 429, RetryAfter: "3600"})
	a := r.validate("team", tag)
	if a.Allowed || !strings.Contains(a.Result.Message, "429") || !strings.Contains(a.Result.Message, r.Registry.Host) {
		t.Errorf("%+v", a.Result)
	}
}

// TestThrottlingDoesNotFeedOnItself: fifty images at once at a registry that asks
// for a pause get one by one through, and it is not asked much more than if it
// had answered all.
func TestThrottlingDoesNotFeedOnItself(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{})
	var keys []string
	for i := range 50 {
		_, pinned := r.Signed(fmt.Sprint("v", i), r.Signer)
		keys = append(keys, pinned)
	}
	const refused = 5
	r.Registry.Inject(testregistry.Fault{Kind: testregistry.Status, Status: 429, RetryAfter: "1", Times: refused})
	before := r.Registry.Count(testregistry.Any)
	for _, it := range r.gatekeeper(server.PathVerify, keys...) {
		if !it.trusted() {
			t.Errorf("%s: %s %s", it.Key, it.Value, it.Error)
		}
	}
	const each = 4 // descriptor, listing, manifest, envelope
	if got := r.Registry.Count(testregistry.Any) - before; got > each*len(keys)+2*refused {
		t.Errorf("%d requests for %d images", got, len(keys))
	}
}

// TestLastKnownGoodEnds: memory stands in for maxAge and no longer, and a tag that
// was never asked for is not known by the digest that it would name.
func TestLastKnownGoodEnds(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	r := start(t, testhouse.Options{}, service.Options{Memo: shortLived, Clock: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }},
		policy("memory", "onUnavailable: {action: lastKnownGood, maxAge: 1h}"))
	tag, pinned := r.Signed("seen", r.Signer)
	unseenTag, seenDigest := r.Signed("unseen", r.Signer)
	for _, image := range []string{tag, seenDigest} {
		if a := r.validate("team", image); !a.Allowed {
			t.Fatalf("%+v", a.Result)
		}
	}
	r.Registry.Inject(testregistry.Fault{Kind: testregistry.Status, Status: 503})
	remembered := func(image string, want bool) {
		t.Helper()
		a := r.validate("team", image)
		warned := strings.Contains(strings.Join(a.Warnings, "\n"), "from evidence in memory")
		if a.Allowed != want || warned != want {
			t.Errorf("%s: %+v %+v", image, a, a.Result)
		}
		if !want && (!strings.Contains(a.Result.Message, "503") || !strings.Contains(a.Result.Message, r.Registry.Host)) {
			t.Errorf("%s: %s", image, a.Result.Message)
		}
	}
	ahead.Store(int64(59 * time.Minute))
	remembered(tag, true)
	remembered(pinned, true)
	remembered(seenDigest, true)
	remembered(unseenTag, false)
	ahead.Store(int64(61 * time.Minute))
	remembered(tag, false)
	remembered(pinned, false)
	if n := r.metric("boltseal_last_known_good_total"); n != "6" {
		t.Errorf("counted %s times, want once for each of mutate and validate", n)
	}
	eventually(t, "the audit log says so", func() bool { return strings.Contains(r.audit.String(), `"lastKnownGood":"20`) })
}

// TestNothingSignedIsAnAnswer: a registry that says so is not out of reach, though
// memory knows better.
func TestNothingSignedIsAnAnswer(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]int{"401": 401, "403": 403, "404": 404} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, testhouse.Options{}, service.Options{Memo: shortLived}, policy("memory", "onUnavailable: {action: lastKnownGood}"))
			tag, _ := r.Signed("v", r.Signer)
			if !r.validate("team", tag).Allowed {
				t.Fatal("denied")
			}
			r.Registry.Inject(testregistry.Fault{Kind: testregistry.Status, Status: status, Class: testregistry.Manifest})
			eventually(t, "denied", func() bool {
				a := r.validate("team", tag)
				return !a.Allowed && !strings.Contains(strings.Join(a.Warnings, ""), "from evidence in memory")
			})
			if n := r.metric("boltseal_last_known_good_total"); n != "0" {
				t.Errorf("memory was asked %s times", n)
			}
		})
	}
}

// TestDrain: what was asked before the signal is answered, and the service says
// before it stops that it will.
func TestDrain(t *testing.T) {
	t.Parallel()
	overBoth(t, func(t *testing.T, o service.Options) {
		o.Grace, o.Drain = 300*time.Millisecond, ample
		r := start(t, testhouse.Options{}, o, policy("prod", ""))
		tag, _ := r.Signed("v", r.Signer)
		goOn := make(chan struct{})
		r.Registry.Inject(testregistry.Fault{Kind: testregistry.Custom, Class: testregistry.Blob, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			<-goOn
			w.WriteHeader(http.StatusServiceUnavailable)
		})})
		answered, closes := make(chan string, 1), false
		go func() {
			resp, err := r.client.Do(r.request(context.WithoutCancel(t.Context()), server.PathValidate, reviewOf(pod("team", tag))))
			if err != nil {
				answered <- err.Error()
				return
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			closes = resp.Close
			answered <- fmt.Sprint(string(b), err)
		}()
		eventually(t, "it is being checked", func() bool { return r.metric("boltseal_verifications_in_flight") == "1" })
		stopped := make(chan error, 1)
		go func() { stopped <- r.stop() }()
		eventually(t, "not ready", func() bool { status, _ := r.ready(); return status == 503 })
		if status, _ := r.get(r.health + "/healthz"); status != 200 {
			t.Errorf("it lives: HTTP %d", status)
		}
		close(goOn)
		if got := <-answered; !strings.Contains(got, r.Registry.Host) {
			t.Errorf("answered %q", got)
		}
		if !o.SelfSigned && !closes { // of HTTP/2 the client's library does not say it
			t.Error("whoever asked before the signal is not told to ask another the next time")
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if resp, err := r.client.Get(r.base + "/"); err == nil {
			_ = resp.Body.Close()
			t.Error("it still answers")
		}
	})
}

// TestDrainHasAnEnd: who takes longer than that is cut off, and the exit says so.
func TestDrainHasAnEnd(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{Drain: 100 * time.Millisecond}, policy("prod", ""))
	tag, _ := r.Signed("v", r.Signer)
	r.Registry.Inject(testregistry.Fault{Kind: testregistry.Hang})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		resp, err := r.client.Do(r.request(ctx, server.PathValidate, reviewOf(pod("team", tag))))
		if err == nil {
			_ = resp.Body.Close()
			t.Errorf("answered: HTTP %d", resp.StatusCode)
		}
	}()
	eventually(t, "it is being checked", func() bool { return r.metric("boltseal_verifications_in_flight") == "1" })
	if err := r.stop(); err == nil || !strings.Contains(err.Error(), "cut off after 100ms") {
		t.Errorf("%v", err)
	}
	<-done
}
