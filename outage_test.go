package boltseal_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/internal/test/testwait"
	"github.com/boltseal/boltseal/oci"
)

// TestOutageIsUnknown: whatever keeps us from the evidence leaves the question
// open. It is neither an allow nor a denial that blames the image.
func TestOutageIsUnknown(t *testing.T) {
	t.Parallel()
	classes := []testregistry.Class{testregistry.Manifest, testregistry.Referrers, testregistry.Blob}
	faults := map[string]testregistry.Fault{
		"503":   {Kind: testregistry.Status, Status: 503},
		"429":   {Kind: testregistry.Status, Status: 429, RetryAfter: "1"},
		"reset": {Kind: testregistry.Reset},
		"hang":  {Kind: testregistry.Hang},
		"drip":  {Kind: testregistry.Drip, Delay: 300 * time.Millisecond},
		"401":   {Kind: testregistry.Status, Status: 401},
		"cut":   {Kind: testregistry.TruncatedBody},
	}
	for name, fault := range faults {
		for _, class := range classes {
			t.Run(name+" "+string(class), func(t *testing.T) {
				t.Parallel()
				h := newHouse(t, houseOptions{})
				image := h.Registry.PushImage(repo, "v", 0)
				h.Registry.Sign(repo, image, h.Signer, testca.SignOptions{})
				fault := fault
				fault.Class, fault.Method = class, "GET"
				if class == testregistry.Manifest && (name == "503" || name == "429" || name == "reset" || name == "hang" || name == "401") {
					fault.Method = "" // the HEAD of the image too
				}
				h.Registry.Inject(fault)
				ctx := testwait.Context(t)
				if name == "hang" || name == "drip" || name == "429" {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, 700*time.Millisecond) // waits: no answer ever comes, however late the machine gets that far
					defer cancel()
				}
				res, err := h.Engine.Verify(ctx, h.Registry.Ref(repo, "v"))
				if err != nil {
					t.Fatal(err)
				}
				want := boltseal.CauseUnavailable
				if name == "401" {
					want = boltseal.CauseUnauthorized
				}
				if res.Decision != boltseal.Unknown || res.Reason.Cause != want {
					t.Errorf("%s (%s: %s), want unknown (%s)", res.Decision, res.Reason.Cause, res.Reason.Message, want)
				}
				if !strings.Contains(res.Reason.Message+res.Reason.Remedy, h.Registry.Host) {
					t.Errorf("the reason does not name the registry: %+v", res.Reason)
				}
			})
		}
	}
}

// TestFalseContentIsNoVerdict: answers that contradict their digests say nothing
// of the image, and nothing is trusted because of them.
func TestFalseContentIsNoVerdict(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]testregistry.Fault{
		"envelope":      {Class: testregistry.Blob, Kind: testregistry.WrongBody},
		"manifest":      {Class: testregistry.Manifest, Method: "GET", Kind: testregistry.WrongBody},
		"head":          {Class: testregistry.Manifest, Method: "HEAD", Kind: testregistry.WrongDigest},
		"long envelope": {Class: testregistry.Blob, Kind: testregistry.LongBody},
		"listing":       {Class: testregistry.Referrers, Kind: testregistry.WrongBody, Body: []byte(`{"schemaVersion":2,"manifests":null`)},
		"endless":       {Class: testregistry.Referrers, Kind: testregistry.EndlessBody},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, houseOptions{})
			image := h.Registry.PushImage(repo, "v", 0)
			h.Registry.Sign(repo, image, h.Signer, testca.SignOptions{})
			h.Registry.Inject(fault)
			res := h.Verify(t, h.Registry.Pinned(repo, image.Digest))
			want, cause := boltseal.Unknown, boltseal.CauseUnusable
			if name == "endless" {
				want, cause = boltseal.Deny, boltseal.CauseLimit
			}
			if name == "head" {
				return // GET decides
			}
			if res.Decision != want || res.Reason.Cause != cause {
				t.Errorf("%s (%s: %s), want what is no answer", res.Decision, res.Reason.Cause, res.Reason.Message)
			}
		})
	}
}

// TestOneGoodSignatureBesideAnOutage: a candidate out of reach does not take
// away what another one proves, and one that is rejected does not decide while
// another is out of reach.
func TestOneGoodSignatureBesideAnOutage(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	image := h.Registry.PushImage(repo, "v", 0)
	bad := h.Registry.Sign(repo, image, h.Signer, testca.SignOptions{})
	h.Registry.Inject(testregistry.Fault{Class: testregistry.Manifest, Method: "GET", Target: bad.Digest.String(), Kind: testregistry.Status})
	h.Registry.Sign(repo, image, h.Stranger, testca.SignOptions{})
	expect(t, h.Verify(t, h.Registry.Ref(repo, "v")), boltseal.Unknown, boltseal.CauseUnavailable)
	h.Registry.Sign(repo, image, h.Signer, testca.SignOptions{})
	expect(t, h.Verify(t, h.Registry.Ref(repo, "v")), boltseal.Allow, "")
}

func TestRoundTrips(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]testregistry.Options{
		"referrers API": {}, "tag schema": {NoReferrersAPI: true}, "tokens": {Token: &testregistry.TokenOptions{Anonymous: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testwait.Grow(t, 20*time.Millisecond, func(latency time.Duration) error { // so that what runs side by side is seen to
				o.Latency = latency
				h := newHouse(t, houseOptions{Registry: o})
				image := h.Registry.PushImage(repo, "v", 0)
				h.Registry.Sign(repo, image, h.Signer, testca.SignOptions{})
				// The first image tells what the registry wants and can.
				h.Verify(t, h.Registry.Ref(repo, "v"))
				for ref, most := range map[string]int{h.Registry.Pinned(repo, image.Digest): 3, h.Registry.Ref(repo, "v"): 4} {
					h.Registry.ResetLog()
					expect(t, h.Verify(t, ref), boltseal.Allow, "")
					if got := testregistry.SerialDepth(h.Registry.Requests()); got > most {
						return fmt.Errorf("%s: %d serial round trips, want at most %d: %v", ref, got, most, paths(h.Registry.Requests()))
					}
				}
				return nil
			})
		})
	}
}

func paths(rs []testregistry.Request) (out []string) {
	for _, r := range rs {
		out = append(out, r.Method+" "+r.Path)
	}
	return out
}

func TestOneTokenForARepository(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{Registry: testregistry.Options{Token: &testregistry.TokenOptions{Anonymous: true}}})
	var refs []string
	for range 20 {
		image := h.Registry.PushImage(repo, "", 0)
		h.Registry.Sign(repo, image, h.Signer, testca.SignOptions{})
		refs = append(refs, h.Registry.Pinned(repo, image.Digest))
	}
	before := h.Registry.TokensIssued("")
	h.Registry.ResetLog()
	done := make(chan boltseal.Result)
	for _, ref := range refs {
		go func() {
			r, _ := h.Engine.Verify(t.Context(), ref)
			done <- r
		}()
	}
	for range refs {
		expect(t, <-done, boltseal.Allow, "")
	}
	if got := h.Registry.TokensIssued("") - before; got != 1 {
		t.Errorf("%d tokens for one repository", got)
	}
	refused := 0
	for _, r := range h.Registry.Requests() {
		if r.Status == 401 {
			refused++
		}
	}
	if most := 64; refused > most { // those under way before the first challenge was answered
		t.Errorf("%d requests were refused first", refused)
	}
	h.Registry.ResetLog()
	for _, ref := range refs {
		h.Verify(t, ref)
	}
	for _, r := range h.Registry.Requests() {
		if r.Status == 401 {
			t.Fatalf("%s %s went out without the token that is known", r.Method, r.Path)
		}
	}
}

// TestTagMovesMeanwhile: the digest that was verified is the digest that is
// reported, whatever the tag names by then.
func TestTagMovesMeanwhile(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{Store: oci.Options{}})
	good := h.Registry.PushImage(repo, "v", 0)
	h.Registry.Sign(repo, good, h.Signer, testca.SignOptions{})
	evil := h.Registry.PushImage(repo, "", 0)
	ref := need(boltseal.ParseReference(h.Registry.Ref(repo, "v")))(t)
	desc := need(h.Engine.Resolve(t.Context(), ref))(t)
	h.Registry.Tag(repo, "v", evil.Digest)
	res := h.Engine.Decide(h.Engine.CollectResolved(t.Context(), ref, desc))
	expect(t, res, boltseal.Allow, "")
	if res.Subject.Digest != good.Digest {
		t.Errorf("verified %s, reported %s", good.Digest, res.Subject.Digest)
	}
	expect(t, h.Verify(t, h.Registry.Ref(repo, "v")), boltseal.Deny, boltseal.CauseNothingSigned)
}
