package integrity_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/opencontainers/go-digest"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
)

var one, two = digest.FromString("one"), digest.FromString("two")

// named is an image by its tag, which stands for a digest.
func named(f integrity.Found, d digest.Digest) integrity.Image {
	f.Digest = d
	return integrity.Image{Where: `container "a"`, Image: "reg.example/a:1", Found: f}
}

// TestPodsCarryTheDigest: what a policy that denies does not admit without its
// digest, and what is said of each tag, for all that a policy may say.
func TestPodsCarryTheDigest(t *testing.T) {
	t.Parallel()
	off := false
	for _, tt := range []struct {
		name    string
		pod     bool
		resolve *bool
		kinds   []string
		pin     bool
		fails   bool
		warns   bool // of a tag that a node may resolve to something else
	}{
		{"Pod", true, nil, nil, true, true, false},
		{"Pod, not resolved", true, &off, nil, false, false, true},
		{"template", false, nil, nil, false, false, false},
		{"template, not resolved", false, &off, nil, false, false, true},
		{"template, whose Pods the policy looks at", false, nil, []string{"Deployment", "Pod"}, false, false, false},
		{"template, whose Pods the policy passes over", false, nil, []string{"Deployment"}, false, false, true},
	} {
		for _, action := range actions {
			for _, unavailable := range []v1alpha1.UnavailableAction{v1alpha1.UnavailableDeny, v1alpha1.UnavailableAllow, v1alpha1.UnavailableLastKnownGood} {
				p := compile(t, "p", v1alpha1.ImageIntegrityPolicySpec{ResolveTags: tt.resolve, EnforcementAction: action,
					Match: v1alpha1.Match{Kinds: tt.kinds}, OnUnavailable: v1alpha1.OnUnavailable{Action: unavailable}})
				v := integrity.Judge([]*integrity.Policy{p}, []integrity.Image{named(trusted(), one), image("b", trusted())}, integrity.Context{Pod: tt.pod, Now: now})
				checkMessages(t, v)
				said := v.Message + strings.Join(v.Warnings, "\n") + v.Audit["dryrun"]
				o := v.Images[0]
				if (o.Pin == one) != tt.pin || o.Unpinned != tt.fails || v.Allowed != (!tt.fails || action != v1alpha1.Deny) || (v.Applied[0].Fails == 1) != tt.fails ||
					!o.Trusted || strings.Contains(said, "nothing replaced its tag") != tt.fails || strings.Contains(said, "is a tag, and the node may pull") != tt.warns ||
					tt.fails && !strings.Contains(said, string(one)) {
					t.Errorf("%s, %s, %s: %+v", tt.name, action, unavailable, v)
				}
				if o := v.Images[1]; o.Pin != "" || o.Unpinned || !o.Trusted {
					t.Errorf("%s: an image with its digest: %+v", tt.name, o)
				}
			}
		}
	}
}

// TestWhoIsToldOfATag: the message says what is wrong, and what to do by who asks.
func TestWhoIsToldOfATag(t *testing.T) {
	t.Parallel()
	p := compile(t, "p", v1alpha1.ImageIntegrityPolicySpec{})
	for asked, want := range map[bool]string{true: "a warning of /admission/mutate says why", false: "boltseal webhook print"} {
		v := integrity.Judge([]*integrity.Policy{p}, []integrity.Image{named(trusted(), one)}, integrity.Context{Pod: true, PinAsked: asked})
		if v.Allowed || !strings.HasPrefix(v.Message, "the image is not pinned\n") || !strings.Contains(v.Message, want) ||
			!strings.Contains(v.Message, "try again") || strings.Contains(v.Message, "…") || strings.Contains(v.Message, "resolveTags: false") == asked {
			t.Errorf("%s", v.Message)
		}
	}
	v := integrity.Judge([]*integrity.Policy{p}, []integrity.Image{named(trusted(), one), image("b", denied())}, integrity.Context{Pod: true})
	if !strings.HasPrefix(v.Message, "2 of 2 images are not trusted or not pinned\n") {
		t.Errorf("%s", v.Message)
	}
	// What could not be judged keeps its tag, and whoever asked to pin it is told why.
	v = integrity.Judge([]*integrity.Policy{p}, []integrity.Image{named(outage(boltseal.CauseUnavailable), ""), named(denied(), one), named(trusted(), one)}, integrity.Context{Pod: true})
	if len(v.NotPinned) != 1 || !strings.Contains(v.NotPinned[0], "keeps its tag") || !strings.Contains(v.NotPinned[0], "503 from reg.example") {
		t.Errorf("%q", v.NotPinned)
	}
}

// TestATagUnderAnExemption: what is exempt could as well not be trusted at all.
func TestATagUnderAnExemption(t *testing.T) {
	t.Parallel()
	p := compile(t, "p", v1alpha1.ImageIntegrityPolicySpec{Exemptions: []v1alpha1.Exemption{{Name: "e", Category: v1alpha1.Waiver, Images: []string{"reg.example/a:1"}}}})
	v := integrity.Judge([]*integrity.Policy{p}, []integrity.Image{named(trusted(), one)}, integrity.Context{Pod: true})
	if o := v.Images[0]; !v.Allowed || o.Pin != one || o.Trusted || len(o.Exempt) != 1 || len(v.Warnings) != 1 || !strings.Contains(v.Warnings[0], "is not pinned, and is exempt") {
		t.Errorf("%+v", v)
	}
}

// TestATagFromMemory: a tag that memory answers for is pinned from it, and is not
// admitted unpinned either.
func TestATagFromMemory(t *testing.T) {
	t.Parallel()
	spec := v1alpha1.ImageIntegrityPolicySpec{OnUnavailable: v1alpha1.OnUnavailable{Action: v1alpha1.UnavailableLastKnownGood, MaxAge: &metav1.Duration{Duration: time.Hour}}}
	img := remember(named(outage(boltseal.CauseUnavailable), ""), func(time.Duration) (integrity.Found, time.Time) {
		f := trusted()
		f.Digest = one
		return f, now.Add(-time.Minute)
	}, compile(t, "prod", spec))
	if v := judge(t, spec, img); v.Allowed || v.Images[0].Pin != one || !strings.Contains(v.Message, string(one)) {
		t.Errorf("%+v", v)
	}
}

// TestAGroupsPinIsItsOwn: what the cluster's policies want pinned does not depend on
// what a namespace's own policies came to, and the other way round; and what the
// cluster's alone do not admit, no policy of a namespace lets in.
func TestAGroupsPinIsItsOwn(t *testing.T) {
	t.Parallel()
	off := false
	founds := map[string]integrity.Image{"trusted": named(trusted(), one), "another image": named(trusted(), two), "not trusted": named(denied(), one), "unknown": named(outage(boltseal.CauseUnavailable), "")}
	var groups []integrity.Group
	var names []string
	for name, img := range founds {
		for _, action := range actions {
			for _, resolve := range []*bool{nil, &off} {
				for _, unavailable := range []v1alpha1.UnavailableAction{v1alpha1.UnavailableDeny, v1alpha1.UnavailableAllow} {
					p := compile(t, "p", v1alpha1.ImageIntegrityPolicySpec{EnforcementAction: action, ResolveTags: resolve, OnUnavailable: v1alpha1.OnUnavailable{Action: unavailable}})
					groups = append(groups, integrity.Group{Policies: []*integrity.Policy{p}, Images: []integrity.Image{img}})
					names = append(names, strings.Join([]string{name, string(action), map[bool]string{true: "resolve", false: "keep"}[resolve == nil], string(unavailable)}, " "))
				}
			}
		}
	}
	for _, pod := range []bool{true, false} {
		c := integrity.Context{Pod: pod, Now: now}
		for i, cluster := range groups {
			for j, own := range groups {
				a, b := integrity.JudgeAll(c, cluster), integrity.JudgeAll(c, own)
				v := integrity.JudgeAll(c, cluster, own)
				checkMessages(t, v)
				pin := a.Images[0].Pin
				if pin == "" {
					pin = b.Images[0].Pin
				}
				deny := func(g integrity.Group) bool { return g.Policies[0].Action() == v1alpha1.Deny }
				other := func(g integrity.Group) digest.Digest { return g.Images[0].Found.Digest }
				holds := func(g integrity.Group) bool { return g.Images[0].Found.Decision == boltseal.Allow }
				differ := holds(cluster) && holds(own) && deny(cluster) && deny(own) && other(cluster) != other(own)
				if v.Images[0].Pin != pin || v.Allowed != (a.Allowed && b.Allowed && !differ) || (v.Message == "") != v.Allowed ||
					v.Images[0].Unpinned != (a.Images[0].Unpinned || b.Images[0].Unpinned) {
					t.Errorf("Pod %t: the cluster %s, the namespace %s: %+v", pod, names[i], names[j], v)
				}
				if differ && (!strings.Contains(v.Message, string(one)) || !strings.Contains(v.Message, string(two))) {
					t.Errorf("the message does not name both digests: %s", v.Message)
				}
			}
		}
	}
	if !slices.ContainsFunc(groups, func(g integrity.Group) bool { return g.Images[0].Found.Digest == two }) {
		t.Error("no group holds another image")
	}
}
