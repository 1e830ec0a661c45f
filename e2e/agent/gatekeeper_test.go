package agent

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	integrity "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/internal/governance/render"
)

// template denies every Pod, or none, under a name.
func template(kind string, denies bool) string {
	rule := `violation[{"msg": msg}] { c := input.review.object.spec.containers[_]; msg := sprintf("image %v is not trusted", [c.image]) }`
	if !denies {
		rule = `violation[{"msg": msg}] { false; msg := "never" }`
	}
	name := strings.ToLower(kind)
	return fmt.Sprintf(`apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: %s}
spec:
  crd: {spec: {names: {kind: %s}}}
  targets:
    - target: admission.k8s.gatekeeper.sh
      rego: |
        package %s
        %s
`, name, kind, name, rule)
}

func constraintOf(kind, name string) string {
	return fmt.Sprintf(`{apiVersion: constraints.gatekeeper.sh/v1beta1, kind: %s, metadata: {name: %s}, spec: {enforcementAction: deny, match: {kinds: [{apiGroups: [""], kinds: [Pod]}], namespaces: [none]}}}`, kind, name)
}

func gkObject(group, version, kind, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.GroupVersionKind{Group: group, Version: version, Kind: kind})
	u.SetName(name)
	return u
}

func constraint(kind, name string) *unstructured.Unstructured {
	return gkObject("constraints.gatekeeper.sh", "v1beta1", kind, name)
}

func templateObject(name string) *unstructured.Unstructured {
	return gkObject("templates.gatekeeper.sh", "v1", "ConstraintTemplate", name)
}

func get(t *testing.T, u *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	if err := inMember.Get(t.Context(), client.ObjectKeyFromObject(u), u); err != nil {
		t.Fatal(err)
	}
	return u
}

// TestGatekeeper renders for Gatekeeper, and sends templates that would change what users' own constraints mean.
func TestGatekeeper(t *testing.T) {
	forget(t)
	newRunner(t, "k1").start(t)
	b := bundle("k1", "Audit")
	b.Spec.Demands[0].Match.Kinds = []string{"Pod"}
	id, name := b.Spec.Demands[0].AssignmentID, b.Spec.Demands[0].Name
	create(t, atHub, b)
	policy(t, name, "is there", func(*integrity.ImageIntegrityPolicy) bool { return true })
	change(t, atHub, "k1", b, func() { b.Spec.Engine = v1alpha1.EngineGatekeeper })
	demand := func(what string, state v1alpha1.ComplianceState, reason string) *v1alpha1.DemandReport {
		t.Helper()
		r := report(t, "k1", what, func(r *v1alpha1.ClusterReportContent) bool {
			return r.BundleGeneration == b.Generation && len(r.Demands) == 1 && r.Demands[0].State == state && (reason == "" || r.Demands[0].Reason == reason)
		})
		return &r.Report.Demands[0]
	}
	demand("lacks Gatekeeper", v1alpha1.Failed, "EngineMissing")
	policy(t, name, "stays until something takes its place", func(*integrity.ImageIntegrityPolicy) bool { return true })

	gk, err := member.StartGatekeeper(t.Context(), kit.GatekeeperOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = gk.Stop(context.Background()) })
	const own = "BoltsealTrustedImages"
	ours := constraint(own, render.ConstraintName("boltsealtrustedimages", id, "r"))
	stands(t, inMember, ours.GetName(), ours, "is made once Gatekeeper is there", func() bool {
		return ours.GetLabels()[render.LabelManagedBy] == render.ManagedByAddOn && ours.GetAnnotations()[render.AnnotationAssignment] == id
	})
	gone(t, inMember, name, &integrity.ImageIntegrityPolicy{})
	change(t, inMember, ours.GetName(), ours, func() {
		_ = unstructured.SetNestedStringSlice(ours.Object, []string{"*"}, "spec", "match", "excludedNamespaces")
		_ = unstructured.SetNestedField(ours.Object, "x", "spec", "match", "name")
	})
	stands(t, inMember, ours.GetName(), ours, "is put back", func() bool {
		list, _, _ := unstructured.NestedStringSlice(ours.Object, "spec", "match", "excludedNamespaces")
		_, added, _ := unstructured.NestedString(ours.Object, "spec", "match", "name")
		return len(list) > 1 && !added
	})

	// Users' own constraints, one of Boltseal's kind and one of their own.
	for _, m := range []string{constraintOf(own, "mine"), template("UsersRule", true)} {
		if err := gk.Apply(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	if err := gk.Apply(t.Context(), constraintOf("UsersRule", "users")); err != nil {
		t.Fatal(err)
	}
	specs := map[*unstructured.Unstructured]any{}
	for _, u := range []*unstructured.Unstructured{constraint(own, "mine"), constraint("UsersRule", "users"), templateObject("usersrule"), templateObject("boltsealtrustedimages")} {
		specs[u] = get(t, u).DeepCopy().Object["spec"]
	}
	untouched := func() {
		t.Helper()
		for u, spec := range specs {
			if before := u.GetUID(); get(t, u).GetUID() != before || !equality.Semantic.DeepEqual(u.Object["spec"], spec) {
				t.Errorf("%s %s was changed", u.GetKind(), u.GetName())
			}
		}
	}
	for _, kind := range []string{own, "UsersRule"} {
		change(t, atHub, "k1", b, func() { b.Spec.Demands[0].Template = template(kind, false) })
		demand("conflicts over "+kind, v1alpha1.Conflict, "ConstraintTemplateConflicts")
		untouched()
	}

	// A definition's own template, with what Gatekeeper finds by it.
	ns, err := member.Namespace(t.Context(), "agent", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := member.Apply(t.Context(), fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: %s}, spec: {containers: [{name: c, image: r.example/x/y:1}]}}", ns)); err != nil {
		t.Fatal(err)
	}
	change(t, atHub, "k1", b, func() {
		b.Spec.Demands[0].Template = template("HubsRule", true)
		b.Spec.Demands[0].Match = integrity.Match{Kinds: []string{"Pod"}, Namespaces: []string{ns}}
	})
	found := demand("finds the Pod", v1alpha1.NonCompliant, "PodsViolate")
	if found.Violations != 1 || len(found.Components) != 1 || found.Components[0].Image != "r.example/x/y:1" || found.Components[0].Namespace != ns || found.Components[0].Pod != "p" {
		t.Errorf("%+v", found)
	}
	gone(t, inMember, ours.GetName(), constraint(own, ours.GetName()))
	untouched() // the template that the agent made stays, as a user's constraint relies on it

	change(t, atHub, "k1", b, func() { b.Spec.Demands = nil })
	gone(t, inMember, "hubsrule", templateObject("hubsrule"))
	untouched()
	if err := inMember.Delete(t.Context(), constraint(own, "mine")); err != nil {
		t.Fatal(err)
	}
	gone(t, inMember, "boltsealtrustedimages", templateObject("boltsealtrustedimages"))
}
