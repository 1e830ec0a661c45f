package boltseal_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/policy"
)

// unsignedAt is what an unsigned image comes to at a registry with a habit; the
// others say so that nothing is signed. An API that fails has not said so.
func unsignedAt(h testregistry.Habit) (boltseal.Decision, boltseal.Cause) {
	status := ""
	if _, err := fmt.Sscanf(h.Name, "the API answers %s", &status); err == nil && status != "404" {
		switch status {
		case "401", "403":
			return boltseal.Unknown, boltseal.CauseUnauthorized
		case "500", "501", "503":
			return boltseal.Unknown, boltseal.CauseUnavailable
		}
		return boltseal.Unknown, boltseal.CauseUnusable
	}
	if strings.HasSuffix(h.Name, "web page") {
		return boltseal.Unknown, boltseal.CauseUnusable
	}
	return boltseal.Deny, boltseal.CauseNothingSigned
}

// TestRegistriesAsTheyAre: whatever a registry does otherwise, a signed image is
// trusted there, by a tag and by a digest, the first time and the next; one that
// nobody trusted signed is not, and of an unsigned one it is said that nothing is
// signed only where the registry said so.
func TestRegistriesAsTheyAre(t *testing.T) {
	t.Parallel()
	for _, habit := range testregistry.Habits() {
		t.Run(habit.Product+"/"+habit.Name, func(t *testing.T) {
			t.Parallel()
			if habit.Report == "" {
				t.Error("no report says so")
			}
			h := newHouse(t, houseOptions{Registry: testregistry.Options{NoReferrersAPI: habit.Tags, PageSize: habit.PageSize, Token: &testregistry.TokenOptions{Anonymous: true}}})
			signed, foreign := h.Registry.PushImage(repo, "signed", 0), h.Registry.PushImage(repo, "foreign", 0)
			h.Registry.Sign(repo, signed, h.Stranger, testca.SignOptions{})
			h.Registry.PushReferrer(repo, signed, "application/spdx+json", []byte("{}"))
			h.Registry.Sign(repo, signed, h.Signer, testca.SignOptions{})
			h.Registry.Sign(repo, foreign, h.Stranger, testca.SignOptions{})
			plain := h.Registry.PushImage(repo, "plain", 0)
			h.Registry.Adopt(habit)
			for range 2 {
				for _, ref := range []string{h.Registry.Ref(repo, "signed"), h.Registry.Pinned(repo, signed.Digest)} {
					r := h.Verify(t, ref)
					expect(t, r, boltseal.Allow, "")
					if r.Subject.Digest != signed.Digest || r.Subject.Size != signed.Size {
						t.Errorf("%s is %+v", ref, r.Subject)
					}
				}
				r := h.Verify(t, h.Registry.Ref(repo, "foreign"))
				decision, cause := unsignedAt(habit)
				if cause == boltseal.CauseNothingSigned {
					cause = boltseal.CauseUntrustedSigner
				}
				expect(t, r, decision, cause) // the rest of the list was not seen
				decision, cause = unsignedAt(habit)
				r = h.Verify(t, h.Registry.Ref(repo, "plain"))
				expect(t, r, decision, cause)
				expect(t, h.Verify(t, h.Registry.Pinned(repo, plain.Digest)), decision, cause)
				if decision == boltseal.Unknown && (!strings.Contains(r.Reason.Remedy, h.Registry.Host) || strings.Contains(r.Reason.Remedy, "push the image")) {
					t.Errorf("advice: %q", r.Reason.Remedy)
				}
				if h := h.Verify(t, h.Registry.Ref(repo, "none")); h.Decision == boltseal.Allow {
					t.Errorf("an image that is not there: %+v", h.Reason)
				}
			}
		})
	}
}

// TestAllAfterTheAPIFailed: where every signature must hold, the tag's list is not
// taken for all there are.
func TestAllAfterTheAPIFailed(t *testing.T) {
	t.Parallel()
	for _, habit := range testregistry.Habits() {
		if want, cause := unsignedAt(habit); want == boltseal.Unknown {
			t.Run(habit.Name, func(t *testing.T) {
				t.Parallel()
				h := newHouse(t, houseOptions{Registry: testregistry.Options{NoReferrersAPI: true}, Rule: policy.All})
				image := h.Registry.PushImage(repo, "signed", 0)
				h.Registry.Sign(repo, image, h.Signer, testca.SignOptions{})
				h.Registry.Adopt(habit)
				for range 3 {
					expect(t, h.Verify(t, h.Registry.Ref(repo, "signed")), boltseal.Unknown, cause)
				}
			})
		}
	}
}

// TestAnswersThatSayNothing: no answer to any question about an image denies it that
// is neither the content nor that it is not there.
func TestAnswersThatSayNothing(t *testing.T) {
	t.Parallel()
	answers := map[string]func(*testregistry.Answer){}
	for _, status := range []int{203, 204, 206, 300, 304, 305, 400, 402, 405, 406, 407, 409, 410, 418, 424, 451, 499, 500, 501, 511, 520} {
		answers[fmt.Sprint(status)] = func(a *testregistry.Answer) { a.Status = status }
	}
	for name, body := range map[string]string{"no JSON": "{", "another JSON": `{"ok":true}`, "nothing": "", "null": "null", "errors": `{"errors":[{"code":"UNKNOWN","message":"x"}]}`} {
		answers[name] = func(a *testregistry.Answer) { a.Body = []byte(body) }
	}
	for _, mediaType := range []string{"text/html", "TEXT/HTML; charset=utf-8", "application/xhtml+xml", "application/json", ""} {
		answers["a page as "+mediaType] = func(a *testregistry.Answer) {
			a.Header = http.Header{"Content-Type": {mediaType}}
			a.Body = []byte("<html>sign in</html>")
		}
	}
	for name, change := range answers {
		for _, class := range []testregistry.Class{testregistry.Manifest, testregistry.Referrers, testregistry.Blob, testregistry.Token} {
			t.Run(name+"/"+string(class), func(t *testing.T) {
				t.Parallel()
				h := newHouse(t, houseOptions{Registry: testregistry.Options{Token: &testregistry.TokenOptions{Anonymous: true}}})
				image := h.Registry.PushImage(repo, "v", 0)
				h.Registry.Sign(repo, image, h.Signer, testca.SignOptions{})
				remove := h.Registry.Inject(testregistry.Fault{Kind: testregistry.Changed, Class: class, Change: func(a *testregistry.Answer) {
					if a.Status == http.StatusOK {
						change(a)
					}
				}})
				for _, ref := range []string{h.Registry.Ref(repo, "v"), h.Registry.Pinned(repo, image.Digest)} {
					r := h.Verify(t, ref)
					if r.Decision != boltseal.Unknown || !r.Reason.Cause.Outage() || strings.Contains(r.Reason.Remedy, "push") {
						t.Errorf("%s: %s (%s: %s; do: %s)", ref, r.Decision, r.Reason.Cause, r.Reason.Message, r.Reason.Remedy)
					}
				}
				remove()
				expect(t, h.Verify(t, h.Registry.Ref(repo, "v")), boltseal.Allow, "")
			})
		}
	}
}
