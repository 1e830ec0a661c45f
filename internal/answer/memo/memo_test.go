package memo_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

var signOptions = testca.SignOptions{}

// clock can be set forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

type memoAndAll struct {
	*memo.Memo
	stats *memo.Stats
	clock *clock
}

func newMemo(o memo.Options) *memoAndAll {
	m := &memoAndAll{stats: &memo.Stats{}, clock: &clock{}}
	o.Stats, o.Clock = m.stats, m.clock.now
	m.Memo = memo.New(o)
	return m
}

func (m *memoAndAll) decision(t *testing.T, e *boltseal.Engine, image string) boltseal.Decision {
	t.Helper()
	return m.Answer(testwait.Context(t), e, image).Decision
}

// result is the answer in the form that testhouse knows.
func result(a *memo.Answer) boltseal.Result {
	return boltseal.Result{Decision: a.Decision, Reason: a.Reason}
}

func TestOneVerificationForAHundred(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{Registry: testregistry.Options{Latency: 10 * time.Millisecond}})
	byTag, byDigest := h.Signed("v", h.Signer)
	m := newMemo(memo.Options{})
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			image := byTag
			if i%2 == 0 {
				image = byDigest
			}
			if d := m.decision(t, h.Engine, image); d != boltseal.Allow {
				t.Errorf("%s: %s", image, d)
			}
		})
	}
	wg.Wait()
	if got := m.stats.Verified.Load(); got != 1 {
		t.Errorf("%d verifications of one image", got)
	}
	if got := h.Registry.Count(testregistry.Blob); got != 1 {
		t.Errorf("%d envelopes were fetched", got)
	}
	requests := h.Registry.Count(testregistry.Any)
	for _, image := range []string{byTag, byDigest, byTag + byDigest[strings.Index(byDigest, "@"):]} {
		if d := m.decision(t, h.Engine, image); d != boltseal.Allow {
			t.Errorf("warm %s: %s", image, d)
		}
	}
	if got := h.Registry.Count(testregistry.Any); got != requests {
		t.Errorf("%d requests for what is known", got-requests)
	}
}

func TestHowLongAnswersHold(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	m := newMemo(memo.Options{})
	signedTag, signedDigest := h.Signed("signed", h.Signer)
	_, unsigned := h.Signed("unsigned")

	if m.decision(t, h.Engine, signedTag) != boltseal.Allow || m.decision(t, h.Engine, unsigned) != boltseal.Deny {
		t.Fatal("wrong from the start")
	}
	// Somebody moves the tag: noticed when the tag's time is up, not before.
	moved := h.Registry.PushImage(testhouse.Repo, "", 0)
	h.Registry.Tag(testhouse.Repo, "signed", moved.Digest)
	m.clock.forward(memo.DefaultTagTTL / 2)
	if d := m.decision(t, h.Engine, signedTag); d != boltseal.Allow {
		t.Errorf("half the tag's time: %s", d)
	}
	m.clock.forward(memo.DefaultTagTTL/2 + time.Millisecond)
	if d := m.decision(t, h.Engine, signedTag); d != boltseal.Deny {
		t.Errorf("the tag names an unsigned image by now: %s", d)
	}
	before := m.stats.Verified.Load()
	if d := m.decision(t, h.Engine, signedDigest); d != boltseal.Allow || m.stats.Verified.Load() != before {
		t.Errorf("the digest's answer still holds: %s after %d verifications", d, m.stats.Verified.Load()-before)
	}
	// A denial is looked at again soon: whoever signs now need not wait.
	h.Registry.Sign(testhouse.Repo, h.Registry.PushImage(testhouse.Repo, "", 0), h.Signer, signOptions)
	m.clock.forward(memo.DefaultDenyTTL)
	m.decision(t, h.Engine, unsigned)
	if m.stats.Verified.Load() == before {
		t.Error("a denial was not checked again")
	}
	before = m.stats.Verified.Load()
	m.clock.forward(memo.DefaultAllowTTL)
	m.decision(t, h.Engine, signedDigest)
	if m.stats.Verified.Load() != before+1 {
		t.Error("an answer outlived its time")
	}
}

func TestEvidenceThatRunsOutEndsTheAnswer(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	image := h.Registry.PushImage(testhouse.Repo, "v", 0)
	o := signOptions
	o.Expiry = time.Now().Add(30 * time.Second)
	h.Registry.Sign(testhouse.Repo, image, h.Signer, o)
	m := newMemo(memo.Options{})
	ref := h.Registry.Pinned(testhouse.Repo, image.Digest)
	if d := m.decision(t, h.Engine, ref); d != boltseal.Allow {
		t.Fatal(d)
	}
	m.clock.forward(31 * time.Second)
	before := m.stats.Verified.Load()
	m.decision(t, h.Engine, ref)
	if m.stats.Verified.Load() != before+1 {
		t.Error("an answer outlived the signature's expiry")
	}
}

func TestOutageIsNeverADenial(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	_, image := h.Signed("v", h.Signer)
	remove := h.Registry.Inject(testregistry.Fault{Kind: testregistry.Status, Status: 503, Class: testregistry.Referrers})
	m := newMemo(memo.Options{})
	if d := m.decision(t, h.Engine, image); d != boltseal.Unknown {
		t.Fatalf("during the outage: %s", d)
	}
	asked := h.Registry.Count(testregistry.Referrers)
	if d := m.decision(t, h.Engine, image); d != boltseal.Unknown || h.Registry.Count(testregistry.Referrers) != asked {
		t.Errorf("right after: %s, and the registry was asked %d times more", d, h.Registry.Count(testregistry.Referrers)-asked)
	}
	remove()
	m.clock.forward(memo.DefaultUnknownTTL + time.Millisecond)
	if d := m.decision(t, h.Engine, image); d != boltseal.Allow {
		t.Errorf("after the outage: %s", d)
	}
}

func TestOneThatHangsCostsItselfOnly(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	m := newMemo(memo.Options{WorkTimeout: testwait.Patience})
	var images []string
	for i := range 10 {
		_, d := h.Signed(fmt.Sprint("v", i), h.Signer)
		images = append(images, d)
	}
	_, digest, _ := strings.Cut(images[3], "@")
	h.Registry.Inject(testregistry.Fault{Kind: testregistry.Hang, Class: testregistry.Referrers, Target: digest})
	ctx, expire := testwait.Deadline(t.Context())
	defer expire()
	answers := make([]*memo.Answer, len(images))
	var all sync.WaitGroup
	var answered atomic.Int32
	for i, image := range images {
		all.Go(func() {
			answers[i] = m.Answer(ctx, h.Engine, image)
			answered.Add(1)
		})
	}
	testwait.Until(t, "the others are answered", func() bool { return answered.Load() == int32(len(images)-1) })
	testwait.Until(t, "it is asked for the one that hangs", func() bool { return h.Registry.Count(testregistry.Referrers) == len(images) })
	expire()
	all.Wait()
	for i, a := range answers {
		want := boltseal.Allow
		if i == 3 {
			want = boltseal.Unknown
			if a.Reason.Cause != boltseal.CauseUnavailable || !strings.Contains(a.Reason.Message, h.Registry.Host) {
				t.Errorf("the one that hangs: %+v", a.Reason)
			}
		}
		if a.Decision != want {
			t.Errorf("image %d: %s, want %s", i, a.Decision, want)
		}
	}
}

func TestWorkGoesOnWhenTheCallerHasLeft(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	_, image := h.Signed("v", h.Signer)
	m := newMemo(memo.Options{WorkTimeout: testwait.Patience})
	ctx, expire := testwait.Deadline(t.Context())
	defer expire()
	left := make(chan struct{})
	h.Registry.Inject(testregistry.Fault{Kind: testregistry.Custom, Class: testregistry.Referrers, Times: 1, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		expire()
		<-left
		w.WriteHeader(http.StatusServiceUnavailable) // and it is asked again
	})})
	if d := m.Answer(ctx, h.Engine, image).Decision; d != boltseal.Unknown {
		t.Errorf("without the time to look: %s", d)
	}
	close(left)
	if d := m.decision(t, h.Engine, image); d != boltseal.Allow || m.stats.Verified.Load() != 1 {
		t.Errorf("%s after %d verifications, want the first one's answer", d, m.stats.Verified.Load())
	}
}

func TestTooMuchWork(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	_, first := h.Signed("a", h.Signer)
	_, second := h.Signed("b", h.Signer)
	h.Registry.Inject(testregistry.Fault{Kind: testregistry.Hang, Class: testregistry.Referrers, Times: 1})
	m := newMemo(memo.Options{MaxWork: 1, WorkTimeout: testwait.Patience})
	ctx, leave := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer leave()
	wg.Go(func() { m.Answer(ctx, h.Engine, first) })
	testwait.Until(t, "the first is at work", func() bool { return h.Registry.Count(testregistry.Referrers) == 1 })
	leave()
	testhouse.Expect(t, result(m.Answer(t.Context(), h.Engine, second)), boltseal.Unknown, boltseal.CauseUnavailable)
	if m.stats.Overloaded.Load() != 1 {
		t.Error("not counted")
	}
}

func TestEnginesDoNotShareAnswers(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	tag, _ := h.Signed("v", h.Signer)
	other := h.EngineOf(t, testhouse.Options{Engine: boltseal.Options{Verifiers: []boltseal.Verifier{h.VerifierFor(t, h.Stranger, "other", "")}}})
	m := newMemo(memo.Options{})
	if a, b := m.decision(t, h.Engine, tag), m.decision(t, other, tag); a != boltseal.Allow || b != boltseal.Deny {
		t.Errorf("%s and %s, want allow and deny", a, b)
	}
}

// TestRetain: what engines that are gone found is forgotten, what others found is not.
func TestRetain(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	tag, digest := h.Signed("v", h.Signer)
	other := h.EngineOf(t, testhouse.Options{})
	m := newMemo(memo.Options{})
	for _, e := range []*boltseal.Engine{h.Engine, other} {
		if m.decision(t, e, tag) != boltseal.Allow {
			t.Error("not allowed")
		}
	}
	m.Retain(func(e *boltseal.Engine) bool { return e == other })
	now := m.clock.now()
	if m.Peek(h.Engine, tag, now) != nil || m.Peek(h.Engine, digest, now) != nil || m.Peek(other, tag, now) == nil || m.Peek(other, digest, now) == nil {
		t.Error("the wrong answers are kept")
	}
	if m.decision(t, h.Engine, tag) != boltseal.Allow || m.stats.Verified.Load() != 3 {
		t.Errorf("%d verifications", m.stats.Verified.Load())
	}
	m.Retain(func(*boltseal.Engine) bool { return false })
	if n, bytes := m.Usage(); n != 0 || bytes != 0 {
		t.Errorf("%d answers of %d bytes are left", n, bytes)
	}
}

func TestInvalidReference(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	m := newMemo(memo.Options{})
	testhouse.Expect(t, result(m.Answer(t.Context(), h.Engine, "NOT a reference")), boltseal.Deny, boltseal.CauseInvalidReference)
}

func TestEncodedOnce(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	_, image := h.Signed("v", h.Signer)
	var n atomic.Int32
	m := newMemo(memo.Options{Encode: func(e *boltseal.Engine, r *boltseal.Result) memo.Encoded {
		n.Add(1)
		return memo.Encoded{Report: fmt.Append(nil, r.Decision, len(r.Evidence), e == h.Engine)}
	}})
	for range 3 {
		if a := m.Answer(t.Context(), h.Engine, image); string(a.Report) != "trusted 1 true" {
			t.Fatalf("report %q", a.Report)
		}
	}
	if n.Load() != 1 {
		t.Errorf("encoded %d times", n.Load())
	}
}

// TestPanics: what panics costs the image that it panics for, and nobody waits
// for it for ever.
func TestPanics(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	tag, image := h.Signed("v", h.Signer)
	_, other := h.Signed("w", h.Signer)
	var told atomic.Int32
	m := newMemo(memo.Options{Encode: func(_ *boltseal.Engine, r *boltseal.Result) memo.Encoded {
		if strings.HasSuffix(image, string(r.Subject.Digest)) {
			panic("it cannot be encoded")
		}
		return memo.Encoded{Report: []byte("r")}
	}, Panicked: func(what string, value any, stack []byte) {
		if value == "it cannot be encoded" && strings.Contains(what, "verifying "+h.Registry.Host) && strings.Contains(string(stack), "memo_test.go") {
			told.Add(1)
		}
	}})
	for _, i := range []string{image, tag} {
		a := m.Answer(t.Context(), h.Engine, i)
		testhouse.Expect(t, result(a), boltseal.Deny, boltseal.CauseInternal)
		if len(a.Report) != 0 {
			t.Errorf("a report: %s", a.Report)
		}
	}
	if d := m.decision(t, h.Engine, other); d != boltseal.Allow || told.Load() == 0 || m.stats.InFlight.Load() != 0 {
		t.Errorf("%s, told %d times, %d under way", d, told.Load(), m.stats.InFlight.Load())
	}
}

func TestBytesAreBounded(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	const most = 64 << 10
	m := newMemo(memo.Options{Bytes: most})
	for i := range 200 {
		m.decision(t, h.Engine, h.Registry.Ref(testhouse.Repo, fmt.Sprint("none", i)))
	}
	if n, bytes := m.Usage(); bytes > most || n == 0 {
		t.Errorf("%d entries of %d bytes", n, bytes)
	}
}

func BenchmarkWarm(b *testing.B) {
	h := testhouse.New(b, testhouse.Options{})
	_, image := h.Signed("v", h.Signer)
	m := memo.New(memo.Options{})
	m.Answer(b.Context(), h.Engine, image)
	b.ReportAllocs()
	for b.Loop() {
		m.Answer(b.Context(), h.Engine, image)
	}
}

func TestDigest(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	tag, pinned := h.Signed("v", h.Signer)
	m := newMemo(memo.Options{})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			ref, err := m.Digest(t.Context(), h.Engine, tag)
			if err != nil || ref.Name()+"@"+ref.Digest.String() != pinned || ref.Tag != "v" {
				t.Errorf("%v, %v", ref, err)
			}
		})
	}
	wg.Wait()
	if d := m.decision(t, h.Engine, pinned); d != boltseal.Allow || m.stats.Verified.Load() != 1 {
		t.Errorf("%s after %d verifications, want the one that was begun already", d, m.stats.Verified.Load())
	}
	heads := 0
	for _, r := range h.Registry.Requests(testregistry.Manifest) {
		if r.Method == "HEAD" && r.Target == "v" {
			heads++
		}
	}
	if heads != 1 {
		t.Errorf("the tag was resolved %d times", heads)
	}
	if _, err := m.Digest(t.Context(), h.Engine, h.Registry.Ref(testhouse.Repo, "gone")); err == nil {
		t.Error("a tag that is not there")
	}
	if _, err := m.Digest(t.Context(), h.Engine, "NO reference"); err == nil {
		t.Error("no reference")
	}
}
