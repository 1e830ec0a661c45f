package integrity_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
)

func group(t testing.TB, policy string, action v1alpha1.EnforcementAction, images ...integrity.Image) integrity.Group {
	t.Helper()
	return integrity.Group{Policies: []*integrity.Policy{compile(t, policy, v1alpha1.ImageIntegrityPolicySpec{EnforcementAction: action})}, Images: images}
}

// TestGroupsMustAllBeSatisfied: every group has its say about every image, and
// none takes another's back.
func TestGroupsMustAllBeSatisfied(t *testing.T) {
	t.Parallel()
	for _, cluster := range []integrity.Found{trusted(), denied(), outage(boltseal.CauseUnavailable)} {
		for _, own := range []integrity.Found{trusted(), denied(), outage(boltseal.CauseUnavailable)} {
			for _, clusterAction := range actions {
				for _, ownAction := range actions {
					a, b := group(t, "cluster", clusterAction, image("x", cluster)), group(t, "team/own", ownAction, image("x", own))
					one, other := integrity.Judge(a.Policies, a.Images, integrity.Context{Now: now}), integrity.Judge(b.Policies, b.Images, integrity.Context{Now: now})
					v := integrity.JudgeAll(integrity.Context{Now: now, Decision: "d"}, a, b)
					checkMessages(t, v)
					both := cluster.Decision == boltseal.Allow && own.Decision == boltseal.Allow
					if v.Allowed != (one.Allowed && other.Allowed) || v.Images[0].Trusted != both || (v.Message == "") != v.Allowed ||
						len(v.Warnings) != len(one.Warnings)+len(other.Warnings) || len(v.Applied) != 2 {
						t.Errorf("%s by %s, %s by %s: %+v", cluster.Decision, clusterAction, own.Decision, ownAction, v)
					}
					// What is told of the image is what keeps it out.
					if want := map[bool]int{true: 1}[cluster.Decision == boltseal.Allow && own.Decision != boltseal.Allow]; v.Images[0].Group != want {
						t.Errorf("%s, %s: of group %d", cluster.Decision, own.Decision, v.Images[0].Group)
					}
				}
			}
		}
	}
}

func TestGroupsReadAsOneMessage(t *testing.T) {
	t.Parallel()
	other := denied()
	other.Reason.Message = "signed by somebody else"
	v := integrity.JudgeAll(integrity.Context{Pod: true, Decision: "d1", Now: now},
		group(t, "prod", v1alpha1.Deny, image("a", trusted()), image("b", denied())),
		group(t, "team/own", v1alpha1.Deny, image("a", trusted()), image("b", other)))
	want := `1 of 2 images are not trusted (decision d1)
- container "b": image reg.example/b@sha256:0: nothing signed; required by policy "prod". What to do: sign it
- container "b": image reg.example/b@sha256:0: signed by somebody else; required by policy "team/own". What to do: sign it`
	if v.Message != want {
		t.Errorf("got\n%s\nwant\n%s", v.Message, want)
	}
	if v.Audit["policies"] != "prod=deny,team/own=deny" || v.Audit["decision"] != "d1" {
		t.Errorf("audit %v", v.Audit)
	}
}

// TestGroupsStayWithinTheBounds: what two have to say is bounded as what one has.
func TestGroupsStayWithinTheBounds(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 3000)
	var images []integrity.Image
	for i := range 100 {
		img := image(fmt.Sprint("c", i), denied())
		img.Pinned, img.Image, img.Found.Reason.Message, img.Found.Reason.Remedy = false, img.Image+long, long, long
		images = append(images, img)
	}
	for _, a := range actions {
		for _, b := range actions {
			for n := range 2 {
				var groups []integrity.Group
				for g := range 2 + n*6 {
					groups = append(groups, group(t, fmt.Sprint(strings.Repeat("p", 300), g), []v1alpha1.EnforcementAction{a, b}[g%2], images...))
				}
				v := integrity.JudgeAll(integrity.Context{Pod: true, Decision: long, Now: now}, groups...)
				checkMessages(t, v)
				if !v.Allowed && (!strings.Contains(v.Message, "100 of 100 images") || !strings.Contains(v.Message, "\n- and ")) {
					t.Errorf("%.300s", v.Message)
				}
			}
		}
	}
}

func TestGroupsWarnOnceOfATag(t *testing.T) {
	t.Parallel()
	img := image("a", trusted())
	img.Image, img.Pinned, img.Found.Digest = "reg.example/a:1", false, digest.FromString("a")
	off := false
	p := compile(t, "p", v1alpha1.ImageIntegrityPolicySpec{ResolveTags: &off})
	g := integrity.Group{Policies: []*integrity.Policy{p}, Images: []integrity.Image{img}}
	if v := integrity.JudgeAll(integrity.Context{Pod: true, Now: now}, g, g); !v.Allowed || len(v.Warnings) != 1 || v.Images[0].Pin != "" {
		t.Errorf("%+v", v)
	}
}

// TestGroupsExclude: an image that one group passes over is the other's to judge.
func TestGroupsExclude(t *testing.T) {
	t.Parallel()
	img := func(f integrity.Found) integrity.Image {
		i := image("a", f)
		i.Image = "reg.example/a:1"
		return i
	}
	excluding := integrity.Group{Policies: []*integrity.Policy{compile(t, "x", v1alpha1.ImageIntegrityPolicySpec{ExcludedImages: []string{"reg.example/*"}})}, Images: []integrity.Image{img(denied())}}
	for _, tt := range []struct {
		found             integrity.Found
		allowed, excluded bool
		groups            func(judging integrity.Group) []integrity.Group
	}{
		{trusted(), true, false, func(j integrity.Group) []integrity.Group { return []integrity.Group{excluding, j} }},
		{trusted(), true, false, func(j integrity.Group) []integrity.Group { return []integrity.Group{j, excluding} }},
		{denied(), false, false, func(j integrity.Group) []integrity.Group { return []integrity.Group{excluding, j} }},
		{denied(), false, false, func(j integrity.Group) []integrity.Group { return []integrity.Group{j, excluding} }},
		{denied(), true, true, func(integrity.Group) []integrity.Group { return []integrity.Group{excluding, excluding} }},
	} {
		v := integrity.JudgeAll(integrity.Context{Now: now}, tt.groups(group(t, "p", v1alpha1.Deny, img(tt.found)))...)
		if v.Allowed != tt.allowed || v.Images[0].Excluded != tt.excluded || v.Images[0].Trusted != (tt.allowed && !tt.excluded) {
			t.Errorf("%+v", v)
		}
	}
}

// TestOneGroupIsJudge: nothing changes for those who have one.
func TestOneGroupIsJudge(t *testing.T) {
	t.Parallel()
	g := group(t, "p", v1alpha1.Warn, image("a", trusted()), image("b", denied()))
	c := integrity.Context{Pod: true, Decision: "d", Now: now}
	if a, b := integrity.Judge(g.Policies, g.Images, c), integrity.JudgeAll(c, g); !reflect.DeepEqual(a, b) {
		t.Errorf("%+v\n%+v", a, b)
	}
}
