package integrity_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/net"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
)

var actions = []v1alpha1.EnforcementAction{v1alpha1.Deny, v1alpha1.Warn, v1alpha1.DryRun}

// checkMessages checks what is said of a verdict: bounded, no control character but the
// line ends between images, and warnings that the API server hands on.
func checkMessages(t *testing.T, v integrity.Verdict) {
	t.Helper()
	total := 0
	for _, w := range v.Warnings {
		total += utf8.RuneCountInString(w)
		if len(w) > integrity.MaxWarning {
			t.Errorf("a warning of %d bytes", len(w))
		}
		if _, err := net.NewWarningHeader(299, "-", w); err != nil {
			t.Errorf("the API server drops the warning %q: %v", w, err)
		}
	}
	if total > integrity.MaxWarnings {
		t.Errorf("warnings of %d characters", total)
	}
	for _, text := range []string{v.Message, v.Audit["dryrun"], v.Audit["policies"]} {
		if len(text) > integrity.MaxMessage || !utf8.ValidString(text) {
			t.Errorf("%d bytes, or not UTF-8: %q", len(text), text)
		}
		if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("byte %d must not reach a terminal: %q", i, text)
		}
	}
	if got := strings.Count(v.Message, "\n"); got > strings.Count(v.Message, "\n- ") {
		t.Errorf("a line that begins no image's part: %q", v.Message)
	}
}

// What could not be judged is not said to be not trusted.
func TestHeadlineOfADenial(t *testing.T) {
	t.Parallel()
	found := func(decision boltseal.Decision, cause boltseal.Cause) integrity.Found {
		return integrity.Found{Decision: decision, Reason: boltseal.Reason{Cause: cause, Message: "m"}}
	}
	bad, unusable, refused := found(boltseal.Deny, boltseal.CauseUntrustedSigner), found(boltseal.Unknown, boltseal.CauseUnusable), found(boltseal.Unknown, boltseal.CauseUnauthorized)
	for want, images := range map[string][]integrity.Found{
		"the image is not trusted":                                  {bad},
		"the image could not be checked":                            {unusable},
		"2 of 2 images could not be checked":                        {unusable, refused},
		"2 of 2 images are not trusted":                             {bad, bad},
		"1 of 3 images are not trusted, and 2 could not be checked": {bad, unusable, refused},
		"1 of 2 images could not be checked":                        {refused, found(boltseal.Allow, "")},
	} {
		var all []integrity.Image
		for i, f := range images {
			all = append(all, image(fmt.Sprint("c", i), f))
		}
		v := judge(t, v1alpha1.ImageIntegrityPolicySpec{}, all...)
		if !strings.HasPrefix(v.Message, want+"\n") && !strings.HasPrefix(v.Message, want+" (") {
			t.Errorf("%q, want %q", v.Message, want)
		}
	}
}

func TestMessagesAreBounded(t *testing.T) {
	t.Parallel()
	var images []integrity.Image
	for i := range 500 {
		images = append(images, image(fmt.Sprint("c", i), denied()))
	}
	for _, a := range actions {
		v := judge(t, v1alpha1.ImageIntegrityPolicySpec{EnforcementAction: a}, images...)
		checkMessages(t, v)
		if a == v1alpha1.Deny && !strings.Contains(v.Message, " more") {
			t.Error("what was left out is not counted")
		}
	}
}

// TestOneImageIsAlwaysToldOf: however long its parts are.
func TestOneImageIsAlwaysToldOf(t *testing.T) {
	t.Parallel()
	long := func(begin string) string { return begin + strings.Repeat("é", 10_000) }
	img := integrity.Image{Where: long("WHERE"), Image: long("IMAGE"), Found: integrity.Found{Reason: boltseal.Reason{Message: long("FOUND"), Remedy: long("REMEDY")}}}
	var policies []*integrity.Policy
	for i := range 20 {
		policies = append(policies, compile(t, long(fmt.Sprint("POLICY", i)), v1alpha1.ImageIntegrityPolicySpec{}))
	}
	v := integrity.Judge(policies, []integrity.Image{img}, integrity.Context{Decision: long("d")})
	checkMessages(t, v)
	for _, part := range []string{"WHERE", "IMAGE", "FOUND", "POLICY0", "and 15 more", "REMEDY"} {
		if !strings.Contains(v.Message, part) {
			t.Errorf("%s is missing in %q", part, v.Message)
		}
	}
}

// TestNobodyForgesAMessage: whoever chooses an image's text or a certificate's
// name writes no line of their own, and gets no warning dropped.
func TestNobodyForgesAMessage(t *testing.T) {
	t.Parallel()
	const evil = "x\n- container \"b\": all is well\x1b[2J\x00\u202e\u0085\xff"
	for _, d := range []boltseal.Decision{boltseal.Deny, boltseal.Unknown} {
		for _, a := range actions {
			for _, o := range []v1alpha1.UnavailableAction{v1alpha1.UnavailableDeny, v1alpha1.UnavailableAllow, v1alpha1.UnavailableLastKnownGood} {
				img := integrity.Image{Where: evil, Image: evil, Found: integrity.Found{Decision: d, Reason: boltseal.Reason{Cause: boltseal.CauseUnavailable, Message: evil, Remedy: evil}}}
				p := compile(t, evil, v1alpha1.ImageIntegrityPolicySpec{EnforcementAction: a, OnUnavailable: v1alpha1.OnUnavailable{Action: o}})
				img = remember(img, func(time.Duration) (integrity.Found, time.Time) { return trusted(), now.Add(-time.Minute) }, p)
				v := integrity.Judge([]*integrity.Policy{p}, []integrity.Image{img}, integrity.Context{Pod: true, Decision: evil, Now: now})
				checkMessages(t, v)
				if strings.Count(v.Message, "\n") > 1 {
					t.Errorf("a line of their own: %q", v.Message)
				}
				if a == v1alpha1.Warn && len(v.Warnings) == 0 {
					t.Errorf("%s, %s: nobody is warned", d, o)
				}
			}
		}
	}
}

func FuzzJudge(f *testing.F) {
	f.Add("reg.example/a:1", "found", "reg.example/*", uint8(0), uint8(0), uint8(0))
	f.Add("a\n\x1b", "b\r\n", "reg.example/a:*", uint8(2), uint8(1), uint8(2))
	f.Fuzz(func(t *testing.T, name, found, excluded string, decision, action, unavailable uint8) {
		img := integrity.Image{Where: name, Image: name, Pinned: decision&4 != 0, Found: integrity.Found{Decision: boltseal.Decision(decision % 3), Reason: boltseal.Reason{Cause: boltseal.CauseUnavailable, Message: found, Remedy: found}}}
		spec := v1alpha1.ImageIntegrityPolicySpec{EnforcementAction: actions[action%3],
			OnUnavailable: v1alpha1.OnUnavailable{Action: []v1alpha1.UnavailableAction{v1alpha1.UnavailableDeny, v1alpha1.UnavailableAllow, v1alpha1.UnavailableLastKnownGood}[unavailable%3]}}
		if _, problems := integrity.Compile("p", v1alpha1.ImageIntegrityPolicySpec{ExcludedImages: []string{excluded}}); len(problems) == 0 {
			spec.ExcludedImages = []string{excluded}
		}
		p, problems := integrity.Compile("p", spec)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		v := integrity.Judge([]*integrity.Policy{p}, []integrity.Image{img}, integrity.Context{Pod: true, Now: now})
		checkMessages(t, v)
		let := img.Found.Decision == boltseal.Unknown && unavailable%3 == 1
		want := img.Found.Decision == boltseal.Allow && img.Pinned || action%3 != 0 || let || p.Excludes(name)
		if v.Allowed != want || v.Images[0].Excluded != p.Excludes(name) || v.Images[0].Trusted != (img.Found.Decision == boltseal.Allow && !p.Excludes(name)) || (v.Message == "") != v.Allowed {
			t.Errorf("%+v", v)
		}
	})
}

func BenchmarkJudge(b *testing.B) {
	p := compile(b, "p", v1alpha1.ImageIntegrityPolicySpec{ExcludedImages: []string{"mcr.example/*"}})
	var images []integrity.Image
	for i := range 5 {
		images = append(images, image(fmt.Sprint("c", i), trusted()))
	}
	b.ReportAllocs()
	for b.Loop() {
		if v := integrity.Judge([]*integrity.Policy{p}, images, integrity.Context{Pod: true, Decision: "d", Now: now}); !v.Allowed {
			b.Fatal(v)
		}
	}
}
