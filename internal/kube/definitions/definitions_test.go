package definitions

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func definition(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	all, err := Parse([]byte(text))
	if err != nil || len(all) != 1 {
		t.Fatal(len(all), err)
	}
	return all[0]
}

const ours = `
---
metadata: {name: stores.example, annotations: {boltseal.dev/schema-revision: "2"}}
spec: {versions: [{name: v1beta1, served: true, storage: true}]}
---
`

func TestMerge(t *testing.T) {
	t.Parallel()
	version := func(name string, storage bool) string {
		if storage {
			return name + " stored"
		}
		return name
	}
	for _, c := range []struct {
		name, live string
		want       []string // nil: nothing is applied
	}{
		{"absent", "", []string{"v1beta1 stored"}},
		{"as it is", ours, []string{"v1beta1 stored"}},
		{"older", `{metadata: {annotations: {boltseal.dev/schema-revision: "1"}}, spec: {versions: [{name: v1beta1, storage: true}]}}`, []string{"v1beta1 stored"}},
		{"newer", `{metadata: {annotations: {boltseal.dev/schema-revision: "3"}}, spec: {versions: [{name: v1beta1, storage: true}]}}`, nil},
		{"10 is newer than 2", `{metadata: {annotations: {boltseal.dev/schema-revision: "10"}}, spec: {versions: [{name: v1beta1, storage: true}]}}`, nil},
		{"Ratify's", `{spec: {versions: [{name: v1alpha1, served: true, storage: false}, {name: v1beta1, served: true, storage: true}]}}`, []string{"v1beta1 stored", "v1alpha1"}},
		{"Ratify's of old", `{spec: {versions: [{name: v1alpha1, served: true, storage: true}]}}`, []string{"v1beta1 stored", "v1alpha1"}},
		{"nonsense for a revision", `{metadata: {annotations: {boltseal.dev/schema-revision: "many"}}, spec: {versions: [{name: v1beta1, storage: true}]}}`, []string{"v1beta1 stored"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wanted := definition(t, ours)
			var live *unstructured.Unstructured
			if c.live != "" {
				live = definition(t, c.live)
			}
			got, err := mergeDefinition(wanted, live)
			if err != nil {
				t.Fatal(err)
			}
			var have []string
			if got != nil {
				versions, _, _ := unstructured.NestedSlice(got.Object, "spec", "versions")
				for _, in := range versions {
					storage, _, _ := unstructured.NestedBool(in.(map[string]any), "storage")
					have = append(have, version(versionName(in), storage))
				}
				if got.GetName() != "stores.example" {
					t.Errorf("name %q", got.GetName())
				}
			}
			if !slices.Equal(have, c.want) {
				t.Errorf("%v, want %v", have, c.want)
			}
			if n, _, _ := unstructured.NestedSlice(wanted.Object, "spec", "versions"); len(n) != 1 {
				t.Error("what is wanted was changed")
			}
		})
	}
}

func TestServes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`{status: {}}`: false,
		`{status: {conditions: [{type: Established, status: "True"}, {type: NamesAccepted, status: "True"}]}}`:                  true,
		`{status: {conditions: [{type: Established, status: "True"}, {type: NamesAccepted, status: "False", message: taken}]}}`: false,
		`{status: {conditions: [{type: Established, status: "False"}]}}`:                                                        false,
	} {
		if ok, _ := servesDefinition(definition(t, text)); ok != want {
			t.Errorf("%s: %v", text, ok)
		}
	}
}
