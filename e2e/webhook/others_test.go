package webhook

import (
	"context"
	"fmt"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const rolloutKinds = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[1]ss.argoproj.io}
spec:
  group: argoproj.io
  scope: Namespaced
  names: {plural: %[1]ss, singular: %[1]s, kind: %[2]s}
  versions:
    - {name: v1alpha1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`

// TestKindsOfOthers: the API server asks about the kinds that a policy names, of
// their groups about no other, and from when they are there.
func TestKindsOfOthers(t *testing.T) {
	settled(t)
	ctx, cl := t.Context(), cluster.Client()
	signed, _ := image("signed", signer)
	unsigned, _ := image("unsigned")
	lab := namespace(t, "lab") // where Pods are only recorded
	of := func(kind, name, image string) *unstructured.Unstructured {
		u := &unstructured.Unstructured{}
		text := fmt.Sprintf("{apiVersion: argoproj.io/v1alpha1, kind: %s, metadata: {name: %s, namespace: %s}, spec: {replicas: 1, template: {spec: {containers: [{name: app, image: %q}]}}}, elsewhere: {image: %q}}", kind, name, lab, image, signed)
		if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
			t.Fatal(err)
		}
		return u
	}
	policy := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte("{apiVersion: boltseal.dev/v1alpha1, kind: ImageIntegrityPolicy, metadata: {name: rollouts}, spec: {match: {kinds: [argoproj.io/Rollout], namespaces: ["+lab+"]}}}"), &policy.Object); err != nil {
		t.Fatal(err)
	}
	if err := cl.Create(ctx, policy); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cl.Delete(context.WithoutCancel(ctx), policy); err != nil && !apierrors.IsNotFound(err) {
			t.Log(err)
		}
	})
	eventually(t, "a rule for the group", func() error {
		_, v, err := configurations(ctx)
		if err != nil {
			return err
		}
		for _, r := range v.Webhooks[0].Rules {
			if r.APIGroups[0] == "argoproj.io" {
				return nil
			}
		}
		return fmt.Errorf("rules: %+v", v.Webhooks[0].Rules)
	})
	// The kinds come later than the policy.
	for singular, kind := range map[string]string{"rollout": "Rollout", "workflow": "Workflow"} {
		if err := cluster.Apply(ctx, fmt.Sprintf(rolloutKinds, singular, kind)); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	eventually(t, "a Rollout is refused where it is applied", func() error {
		n++
		return denied(cl.Create(ctx, of("Rollout", fmt.Sprint("bad", n), unsigned)), `container "app" at spec.template.spec.containers[0].image`, unsigned, `policy "rollouts"`)
	})
	good := of("Rollout", "good", signed)
	if err := cl.Create(ctx, good); err != nil {
		t.Error(err)
	}
	if err := cl.Create(ctx, of("Workflow", "other", unsigned)); err != nil {
		t.Errorf("a kind that nobody names: %v", err)
	}
	// A change outside of spec is a change, too; and one of something else is none.
	changed := good.DeepCopy()
	changed.Object["elsewhere"] = map[string]any{"image": unsigned}
	if err := denied(cl.Update(ctx, changed), "elsewhere.image"); err != nil {
		t.Error(err)
	}
	if err := unstructured.SetNestedField(good.Object, int64(3), "spec", "replicas"); err != nil {
		t.Fatal(err)
	}
	if err := cl.Update(ctx, good); err != nil {
		t.Error(err)
	}
	if err := cl.Delete(ctx, policy); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nobody asks any more", func() error {
		n++
		return cl.Create(ctx, of("Rollout", fmt.Sprint("free", n), unsigned))
	})
}
