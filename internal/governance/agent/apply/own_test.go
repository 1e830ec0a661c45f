package apply

import (
	"maps"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/boltseal/boltseal/internal/governance/render"
)

// objectOf is an object with a spec, as an API server shows it.
func objectOf(change ...func(*unstructured.Unstructured)) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "boltseal.dev/v1alpha1", "kind": "ImageIntegrityPolicy", "metadata": map[string]any{"name": "azurepolicy-a"},
		"spec": map[string]any{"enforcementAction": "deny"},
	}}
	u.SetUID("uid-1")
	u.SetGeneration(3)
	for _, f := range change {
		f(u)
	}
	return u
}

func label(u *unstructured.Unstructured) {
	u.SetLabels(map[string]string{render.LabelGovernance: render.ByGovernance})
}

func annotate(pairs map[string]string) func(*unstructured.Unstructured) {
	return func(u *unstructured.Unstructured) {
		all := u.GetAnnotations()
		if all == nil {
			all = map[string]string{}
		}
		maps.Copy(all, pairs)
		u.SetAnnotations(all)
	}
}

func writtenBy(manager, subresource string) func(*unstructured.Unstructured) {
	return func(u *unstructured.Unstructured) {
		u.SetManagedFields(append(u.GetManagedFields(), metav1.ManagedFieldsEntry{Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, Subresource: subresource}))
	}
}

// TestOnlyWhatTheAgentMadeIsItsOwn: labels and annotations can be copied or written by anybody, and a field manager can be
// one of many; an object is the agent's where both say so, and removed only where every mark is there.
func TestOnlyWhatTheAgentMadeIsItsOwn(t *testing.T) {
	t.Parallel()
	governed, copied := annotate(map[string]string{AnnotationGoverned: "azurepolicy-a"}), annotate(map[string]string{AnnotationGoverned: "azurepolicy-b"})
	agent := writtenBy(FieldManager, "")
	type change = func(*unstructured.Unstructured)
	for name, c := range map[string]struct {
		changes         []change
		made            bool
		owns, mayBeGone bool
	}{
		"somebody's":                           {nil, false, false, false},
		"written by others, with both marks":   {[]change{label, governed, writtenBy("kubectl", "")}, false, false, false},
		"both marks":                           {[]change{label, governed, agent}, false, true, true},
		"both marks, and others write it, too": {[]change{label, governed, writtenBy("kubectl", ""), agent}, false, true, true},
		"the label alone":                      {[]change{label, agent}, false, true, false},
		"the annotation alone":                 {[]change{governed, agent}, false, true, false},
		"no mark is left":                      {[]change{agent}, false, false, false},
		"a copy under another name":            {[]change{copied, agent}, false, false, false},
		"a copy with its label":                {[]change{label, copied, agent}, false, true, false},
		"only its status was written":          {[]change{label, governed, writtenBy(FieldManager, "status")}, false, false, false},
		"made by this process, marks gone":     {nil, true, true, true},
	} {
		a := &Applier{made: map[types.UID]bool{}}
		u := objectOf(c.changes...)
		if c.made {
			a.made[u.GetUID()] = true
		}
		if got := a.owns(u); got != c.owns {
			t.Errorf("%s: owns %v, want %v", name, got, c.owns)
		}
		if got := a.mayRemove(u); got != c.mayBeGone {
			t.Errorf("%s: may be removed %v, want %v", name, got, c.mayBeGone)
		}
	}
	a := &Applier{made: map[types.UID]bool{"uid-1": true}}
	if again := objectOf(func(u *unstructured.Unstructured) { u.SetUID("uid-2") }); a.owns(again) {
		t.Error("an object that somebody made again under the name of one of ours is taken for ours")
	}
}

// TestAnyChangeOfSomebodyElseIsSeen: an object is as it is wanted only while nobody wrote it since.
func TestAnyChangeOfSomebodyElseIsSeen(t *testing.T) {
	t.Parallel()
	wanted := func() *unstructured.Unstructured {
		return objectOf(label, annotate(map[string]string{render.AnnotationAssignment: "/a", AnnotationGoverned: "azurepolicy-a"}))
	}
	last := written{uid: "uid-1", generation: 3, spec: map[string]any{"enforcementAction": "deny"}}
	type change = func(*unstructured.Unstructured)
	none := func(*unstructured.Unstructured) {}
	for name, c := range map[string]struct {
		live, want change
		last       written
		stands     bool
	}{
		"as it was written":                  {none, none, last, true},
		"the API server filled in a default": {func(u *unstructured.Unstructured) { u.Object["spec"].(map[string]any)["default"] = "x" }, none, last, true},
		"somebody added a label": {func(u *unstructured.Unstructured) {
			u.SetLabels(map[string]string{render.LabelGovernance: render.ByGovernance, "x": "y"})
		}, none, last, true},
		"never written by this process":             {none, none, written{}, false},
		"somebody changed its spec":                 {func(u *unstructured.Unstructured) { u.SetGeneration(4) }, none, last, false},
		"somebody made it again":                    {func(u *unstructured.Unstructured) { u.SetUID("uid-2") }, none, last, false},
		"something else is wanted":                  {none, func(u *unstructured.Unstructured) { u.Object["spec"] = map[string]any{"enforcementAction": "warn"} }, last, false},
		"somebody took the label off":               {func(u *unstructured.Unstructured) { u.SetLabels(nil) }, none, last, false},
		"somebody changed an annotation":            {annotate(map[string]string{render.AnnotationAssignment: "/b"}), none, last, false},
		"an annotation that is not wanted any more": {annotate(map[string]string{render.AnnotationMessage: "old"}), none, last, false},
		"somebody's own annotation":                 {annotate(map[string]string{"team": "a"}), none, last, true},
	} {
		live, want := wanted(), wanted()
		c.live(live)
		c.want(want)
		if got := matchesWanted(live, want, c.last); got != c.stands {
			t.Errorf("%s: %v, want %v", name, got, c.stands)
		}
		// Whatever somebody did, writing what merge makes puts it right.
		merged := mergeObject(live, want)
		made := written{merged.GetUID(), merged.GetGeneration(), want.DeepCopy().Object["spec"]}
		if !matchesWanted(merged, want, made) {
			t.Errorf("%s: what is written is not what is wanted: %v", name, merged.Object)
		}
	}
}

// TestMergeKeepsWhatIsSomebodyElses: labels and annotations of others stay, and no status is written; the spec is wholly
// the agent's.
func TestMergeKeepsWhatIsSomebodyElses(t *testing.T) {
	t.Parallel()
	live := objectOf(annotate(map[string]string{"team": "a", render.AnnotationMessage: "old"}), func(u *unstructured.Unstructured) {
		u.SetLabels(map[string]string{"x": "y"})
		u.SetResourceVersion("77")
		u.Object["spec"] = map[string]any{"enforcementAction": "dryrun", "excludedImages": []any{"added/by-hand"}}
		u.Object["status"] = map[string]any{"byPod": "x"}
	})
	want := objectOf(label, annotate(map[string]string{render.AnnotationAssignment: "/a"}))
	before := live.DeepCopy()
	out := mergeObject(live, want)
	if _, has := out.Object["status"]; has {
		t.Error("a status is written")
	}
	if spec := out.Object["spec"].(map[string]any); len(spec) != 1 || spec["enforcementAction"] != "deny" {
		t.Errorf("spec %v: an exclusion added by hand stays", spec)
	}
	if a := out.GetAnnotations(); a["team"] != "a" || a[render.AnnotationAssignment] != "/a" || a[render.AnnotationMessage] != "" {
		t.Errorf("annotations %v", a)
	}
	if l := out.GetLabels(); l["x"] != "y" || l[render.LabelGovernance] != render.ByGovernance {
		t.Errorf("labels %v", l)
	}
	if out.GetResourceVersion() != "77" || out.GetUID() != live.GetUID() {
		t.Error("an update without the version that was seen would overwrite a newer one")
	}
	if !equalObjects(live, before) {
		t.Error("the object that an informer keeps was changed")
	}
}

func equalObjects(a, b *unstructured.Unstructured) bool {
	x, errX := a.MarshalJSON()
	y, errY := b.MarshalJSON()
	return errX == nil && errY == nil && string(x) == string(y)
}

// TestGatekeepersOwnErrorIsReported: a template that Gatekeeper took from the API server and cannot compile says so in its
// status, by Pod; what a Pod said of an older generation is no news of this one.
func TestGatekeepersOwnErrorIsReported(t *testing.T) {
	t.Parallel()
	status := func(pods ...any) func(*unstructured.Unstructured) {
		return func(u *unstructured.Unstructured) { u.Object["status"] = map[string]any{"byPod": pods} }
	}
	broken := map[string]any{"observedGeneration": int64(3), "errors": []any{map[string]any{"code": "x", "message": "rego: line 1"}}}
	old := map[string]any{"observedGeneration": int64(2), "errors": []any{map[string]any{"message": "of before"}}}
	fine := map[string]any{"observedGeneration": int64(3)}
	for name, c := range map[string]struct {
		template *unstructured.Unstructured
		want     string
	}{
		"none":             {nil, ""},
		"no status":        {objectOf(), ""},
		"fine":             {objectOf(status(fine)), ""},
		"broken":           {objectOf(status(fine, broken)), "rego: line 1"},
		"broken before":    {objectOf(status(old, fine)), ""},
		"another form":     {objectOf(status("x", map[string]any{"observedGeneration": int64(3), "errors": []any{"y", map[string]any{}}})), ""},
		"status is a text": {objectOf(func(u *unstructured.Unstructured) { u.Object["status"] = "x" }), ""},
	} {
		if got := gatekeeperFailed(c.template); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
