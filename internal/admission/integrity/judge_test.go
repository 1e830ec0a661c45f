package integrity_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func trusted() integrity.Found {
	return integrity.Found{Decision: boltseal.Allow, Reason: boltseal.Reason{Message: `signed by "CN=a"`}}
}

func denied() integrity.Found {
	return integrity.Found{Reason: boltseal.Reason{Cause: boltseal.CauseNothingSigned, Message: "nothing signed", Remedy: "sign it"}}
}

func outage(c boltseal.Cause) integrity.Found {
	return integrity.Found{Decision: boltseal.Unknown, Reason: boltseal.Reason{Cause: c, Message: "503 from reg.example", Remedy: "try again"}}
}

func image(name string, r integrity.Found) integrity.Image {
	return integrity.Image{Where: `container "` + name + `"`, Image: "reg.example/" + name + "@sha256:0", Pinned: true, Found: r}
}

func judge(t *testing.T, spec v1alpha1.ImageIntegrityPolicySpec, images ...integrity.Image) integrity.Verdict {
	t.Helper()
	return integrity.Judge([]*integrity.Policy{compile(t, "prod", spec)}, images, integrity.Context{Pod: true, Decision: "d1", Now: now})
}

// remember puts into an image what memory answers for the policies that want to know.
func remember(img integrity.Image, recall func(maxAge time.Duration) (integrity.Found, time.Time), policies ...*integrity.Policy) integrity.Image {
	if recall == nil {
		return img
	}
	for _, age := range integrity.RecallAges(policies, img.Image) {
		f, since := recall(age)
		img.Remembered = append(img.Remembered, integrity.Remembered{MaxAge: age, Found: f, Since: since})
	}
	return img
}

func TestActions(t *testing.T) {
	for action, want := range map[v1alpha1.EnforcementAction]struct {
		allowed          bool
		message, warning string
	}{
		"":              {false, "nothing signed", ""},
		v1alpha1.Deny:   {false, "nothing signed", ""},
		v1alpha1.Warn:   {true, "", "nothing signed"},
		v1alpha1.DryRun: {true, "", ""},
	} {
		v := judge(t, v1alpha1.ImageIntegrityPolicySpec{EnforcementAction: action}, image("a", trusted()), image("b", denied()))
		if v.Allowed != want.allowed || (want.message == "") != (v.Message == "") || (want.warning == "") != (len(v.Warnings) == 0) {
			t.Errorf("%s: %+v", action, v)
		}
		if action == v1alpha1.DryRun && !strings.Contains(v.Audit["dryrun"], `container "b": image reg.example/b@sha256:0: nothing signed; required by policy "prod". What to do: sign it`) {
			t.Errorf("dryrun: %q", v.Audit["dryrun"])
		}
	}
}

func TestDenialReads(t *testing.T) {
	v := judge(t, v1alpha1.ImageIntegrityPolicySpec{}, image("a", trusted()), image("b", denied()))
	want := `1 of 2 images are not trusted (decision d1)
- container "b": image reg.example/b@sha256:0: nothing signed; required by policy "prod". What to do: sign it`
	if v.Message != want {
		t.Errorf("got\n%s\nwant\n%s", v.Message, want)
	}
}

func TestOnUnavailable(t *testing.T) {
	recall := func(r integrity.Found) func(time.Duration) (integrity.Found, time.Time) {
		return func(maxAge time.Duration) (integrity.Found, time.Time) {
			if maxAge != time.Hour {
				return integrity.Found{Decision: boltseal.Unknown}, time.Time{}
			}
			return r, now.Add(-10 * time.Minute)
		}
	}
	last := v1alpha1.OnUnavailable{Action: v1alpha1.UnavailableLastKnownGood, MaxAge: &metav1.Duration{Duration: time.Hour}}
	for _, tt := range []struct {
		name    string
		o       v1alpha1.OnUnavailable
		cause   boltseal.Cause
		recall  func(time.Duration) (integrity.Found, time.Time)
		allowed bool
		says    string
	}{
		{"default", v1alpha1.OnUnavailable{}, boltseal.CauseUnavailable, nil, false, "503 from reg.example"},
		{"allow", v1alpha1.OnUnavailable{Action: v1alpha1.UnavailableAllow}, boltseal.CauseUnavailable, nil, true, "admits it without a check"},
		{"allow, but 401", v1alpha1.OnUnavailable{Action: v1alpha1.UnavailableAllow}, boltseal.CauseUnauthorized, nil, false, ""},
		{"allow, but cut off", v1alpha1.OnUnavailable{Action: v1alpha1.UnavailableAllow}, boltseal.CauseIncomplete, nil, false, ""},
		{"remembered", last, boltseal.CauseUnavailable, recall(trusted()), true, "it last did 10m0s ago"},
		{"remembered, revoked since", last, boltseal.CauseUnavailable, recall(denied()), false, "nothing signed"},
		{"not remembered", last, boltseal.CauseUnavailable, recall(outage(boltseal.CauseUnavailable)), false, "503"},
		{"no memory", last, boltseal.CauseUnavailable, nil, false, "503"},
		{"remembered, but 401", last, boltseal.CauseUnauthorized, recall(trusted()), false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spec := v1alpha1.ImageIntegrityPolicySpec{OnUnavailable: tt.o}
			v := judge(t, spec, remember(image("a", outage(tt.cause)), tt.recall, compile(t, "prod", spec)))
			if v.Allowed != tt.allowed || !strings.Contains(v.Message+strings.Join(v.Warnings, "\n"), tt.says) {
				t.Errorf("%+v", v)
			}
		})
	}
}

func TestStrictestWins(t *testing.T) {
	warn := compile(t, "lenient", v1alpha1.ImageIntegrityPolicySpec{EnforcementAction: v1alpha1.Warn})
	deny := compile(t, "strict", v1alpha1.ImageIntegrityPolicySpec{})
	other := compile(t, "stricter", v1alpha1.ImageIntegrityPolicySpec{})
	excluding := compile(t, "excluding", v1alpha1.ImageIntegrityPolicySpec{ExcludedImages: []string{"reg.example/*"}})
	bad := image("a", denied())
	bad.Image = "reg.example/a:1@sha256:" + strings.Repeat("0", 64)
	v := integrity.Judge([]*integrity.Policy{excluding, warn, deny, other}, []integrity.Image{bad}, integrity.Context{})
	if v.Allowed || !strings.Contains(v.Message, `policies "strict", "stricter"`) || len(v.Warnings) != 1 || !strings.Contains(v.Warnings[0], `"lenient"`) {
		t.Errorf("%+v", v)
	}
	if v := integrity.Judge([]*integrity.Policy{excluding}, []integrity.Image{bad}, integrity.Context{}); !v.Allowed || !v.Images[0].Excluded {
		t.Errorf("an excluded image: %+v", v)
	}
	if v := integrity.Judge([]*integrity.Policy{deny}, []integrity.Image{{Where: "x", Image: "y"}}, integrity.Context{}); v.Allowed {
		t.Error("an image that nothing was found about is allowed")
	}
}

// TestUnjudgedIsNotTrusted: an image may pass without being trusted.
func TestUnjudgedIsNotTrusted(t *testing.T) {
	allow := v1alpha1.ImageIntegrityPolicySpec{OnUnavailable: v1alpha1.OnUnavailable{Action: v1alpha1.UnavailableAllow}}
	if v := judge(t, allow, image("a", outage(boltseal.CauseUnavailable))); !v.Allowed || v.Images[0].Trusted || v.Images[0].Pin != "" {
		t.Errorf("not judged: %+v", v)
	}
	all := v1alpha1.ImageIntegrityPolicySpec{ExcludedImages: []string{"reg.example/*"}}
	excluded := image("a", trusted())
	excluded.Image = "reg.example/a:1"
	if v := judge(t, all, excluded); !v.Allowed || v.Images[0].Trusted || !v.Images[0].Excluded {
		t.Errorf("excluded: %+v", v)
	}
	if v := judge(t, allow, image("a", trusted())); !v.Allowed || !v.Images[0].Trusted {
		t.Errorf("trusted: %+v", v)
	}
	if v := integrity.Judge([]*integrity.Policy{{}}, []integrity.Image{image("a", denied())}, integrity.Context{}); v.Allowed {
		t.Error("a policy that nobody compiled admits")
	}
}

// TestMemoryIsHeldToMaxAge: whatever memory answers.
func TestMemoryIsHeldToMaxAge(t *testing.T) {
	spec := v1alpha1.ImageIntegrityPolicySpec{OnUnavailable: v1alpha1.OnUnavailable{Action: v1alpha1.UnavailableLastKnownGood, MaxAge: &metav1.Duration{Duration: time.Hour}}}
	for name, tt := range map[string]struct {
		found   integrity.Found
		since   time.Time
		allowed bool
		says    string
	}{
		"within":            {trusted(), now.Add(-time.Hour), true, ""},
		"too old":           {trusted(), now.Add(-time.Hour - 1), false, "503"},
		"nobody knows when": {trusted(), time.Time{}, false, "503"},
		"a no needs no age": {denied(), time.Time{}, false, "nothing signed"},
	} {
		img := remember(image("a", outage(boltseal.CauseUnavailable)), func(time.Duration) (integrity.Found, time.Time) { return tt.found, tt.since }, compile(t, "prod", spec))
		if v := judge(t, spec, img); v.Allowed != tt.allowed || !strings.Contains(v.Message, tt.says) || v.Images[0].Trusted != tt.allowed {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// TestMemoryIsForItsPolicy: each policy is answered from memory as far back as it says
// itself, and an image that none of them wants remembered is not looked up.
func TestMemoryIsForItsPolicy(t *testing.T) {
	t.Parallel()
	aged := func(name string, age time.Duration, excluded ...string) *integrity.Policy {
		return compile(t, name, v1alpha1.ImageIntegrityPolicySpec{ExcludedImages: excluded,
			OnUnavailable: v1alpha1.OnUnavailable{Action: v1alpha1.UnavailableLastKnownGood, MaxAge: &metav1.Duration{Duration: age}}})
	}
	day, hour, elsewhere := aged("a", 24*time.Hour), aged("b", time.Hour), aged("c", 2*time.Hour, "reg.example/*")
	policies := []*integrity.Policy{day, hour, elsewhere, aged("d", time.Hour), compile(t, "e", v1alpha1.ImageIntegrityPolicySpec{})}
	img := image("a", outage(boltseal.CauseUnavailable))
	img.Image = "reg.example/a:1@sha256:" + strings.Repeat("0", 64)
	if got := integrity.RecallAges(policies, img.Image); !slices.Equal(got, []time.Duration{time.Hour, 24 * time.Hour}) {
		t.Fatalf("asked for %v", got)
	}
	img = remember(img, func(maxAge time.Duration) (integrity.Found, time.Time) {
		if maxAge < 2*time.Hour {
			return integrity.Found{Decision: boltseal.Unknown}, time.Time{}
		}
		return trusted(), now.Add(-2 * time.Hour)
	}, policies...)
	if v := integrity.Judge([]*integrity.Policy{day}, []integrity.Image{img}, integrity.Context{Now: now}); !v.Allowed || v.Images[0].Recalled != 2 {
		t.Errorf("a day: %+v", v)
	}
	if v := integrity.Judge([]*integrity.Policy{day, hour}, []integrity.Image{img}, integrity.Context{Now: now}); v.Allowed {
		t.Errorf("a day and an hour: %+v", v)
	}
}
