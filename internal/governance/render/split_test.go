package render_test

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	integrityv1 "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/governance/render"
)

// denied counts the constraints that look at an image in a namespace, as Gatekeeper reads them.
func denied(t *testing.T, r *render.Result, namespace, image string) (n int) {
	t.Helper()
	for _, u := range r.Objects {
		if u.GetKind() == "ConstraintTemplate" {
			continue
		}
		list := func(fields ...string) []string {
			l, _, err := unstructured.NestedStringSlice(u.Object, fields...)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		p, problems := integrity.Compile("c", integrityv1.ImageIntegrityPolicySpec{ExcludedImages: list("spec", "parameters", "excludedImages"),
			Match: integrityv1.Match{Namespaces: list("spec", "match", "namespaces"), ExcludedNamespaces: list("spec", "match", "excludedNamespaces")}})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if len(integrity.NewSet([]*integrity.Policy{p}).Select(integrity.Object{Kind: "Pod", Namespace: namespace})) > 0 && !p.Excludes(image) {
			n++
		}
	}
	return n
}

func exemptionWithin(namespaces, images string) *v1alpha1.ExemptionWithin {
	split := func(s string) []string { return strings.Fields(s) }
	return &v1alpha1.ExemptionWithin{Namespaces: split(namespaces), Images: split(images)}
}

// TestImagesInNamespaces: with Gatekeeper an image is exempt in exactly the namespaces
// that an exemption names, and everything else is looked at exactly once.
func TestImagesInNamespaces(t *testing.T) {
	t.Parallel()
	const a, b, c = "reg.example/a:1", "reg.example/b:1", "reg.example/c:1"
	d := demand("/A", exempt("wide", exemptionWithin("shop*", a)), exempt("narrow", exemptionWithin("shop-eu shop-us-*", b)), exempt("other", exemptionWithin("lab", a+" "+c)),
		exempt("gone", exemptionWithin("closed", "")))
	r := run(t, v1alpha1.EngineGatekeeper, nil, d)
	o := r.Outcomes[0]
	if len(o.Honoured) != 4 || len(o.More) != 4 || o.Name != r.Objects[len(r.Objects)-1].GetName() {
		t.Errorf("%+v", o)
	}
	names := append(slices.Clone(o.More), o.Name)
	slices.Sort(names)
	if len(slices.Compact(names)) != 5 || len(names[0]) > 63 {
		t.Errorf("names %q", names)
	}
	exemptIn := map[string][]string{"shop": {a}, "shop-eu": {a, b}, "shop-us-1": {a, b}, "shop-us": {a}, "lab": {a, c}, "laboratory": nil, "default": nil, "closed": {a, b, c}, "old-1": {a, b, c}}
	for ns, images := range exemptIn {
		for _, image := range []string{a, b, c} {
			want := 1
			if slices.Contains(images, image) {
				want = 0
			}
			if got := denied(t, r, ns, image); got != want {
				t.Errorf("%s in %s: %d constraints, want %d", image, ns, got, want)
			}
		}
	}
	narrow := demand("/A", func(d *v1alpha1.Demand) { d.Match.Namespaces = []string{"shop-*"} }, exempt("wide", exemptionWithin("shop* lab", a)))
	r = run(t, v1alpha1.EngineGatekeeper, nil, narrow)
	for ns, want := range map[string]int{"shop": 0, "lab": 0, "shop-eu": 1} {
		if got := denied(t, r, ns, b); got != want {
			t.Errorf("a demand for shop-* looks at %s %d times, want %d", ns, got, want)
		}
		if denied(t, r, ns, a) != 0 {
			t.Errorf("not exempt in %s", ns)
		}
	}
}

// TestOwnEngineSaysAll: every form of exemption within a cluster stands in the policy.
func TestOwnEngineSaysAll(t *testing.T) {
	t.Parallel()
	all := exemptionWithin("shop", "reg.example/a@sha256:*")
	all.Workloads = []string{"Deployment/web", "CronJob/night"}
	r := run(t, v1alpha1.EngineBoltseal, nil, demand("/A", exempt("all", all, now.Add(1e9)), exempt("images", exemptionWithin("", "reg.example/b*"))))
	list, _, err := unstructured.NestedSlice(r.Objects[0].Object, "spec", "exemptions")
	if err != nil || len(list) != 2 || len(r.Outcomes[0].Honoured) != 2 {
		t.Fatalf("%v %+v %v", list, r.Outcomes[0], err)
	}
	first := list[0].(map[string]any)
	if first["expires"] != "2026-11-01T12:00:01Z" || first["category"] != "Waiver" || len(first["workloads"].([]any)) != 2 {
		t.Errorf("%v", first)
	}
	if excluded, _, _ := unstructured.NestedSlice(r.Objects[0].Object, "spec", "match", "excludedNamespaces"); len(excluded) != 2 {
		t.Errorf("what is exempt is not checked: %v", excluded)
	}
}
