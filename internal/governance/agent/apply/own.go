package apply

import (
	"maps"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/boltseal/boltseal/internal/governance/render"
)

const (
	// FieldManager is under what name the agent writes.
	FieldManager = "boltseal-agent"
	// AnnotationGoverned on an object is its own name: who copies an object to
	// another name does not make the copy the agent's.
	AnnotationGoverned = "boltseal.dev/governed-as"
)

// owns reports whether the agent made an object: it wrote it, by what the API
// server says, and it bears its mark, or is one that this process made. Both
// marks would have to be taken off for an object to be somebody else's.
func (a *Applier) owns(u *unstructured.Unstructured) bool {
	if a.made[u.GetUID()] {
		return true
	}
	marked := render.Managed(u) || u.GetAnnotations()[AnnotationGoverned] == u.GetName()
	return marked && isOurs(u)
}

// mayRemove is stricter than owns: what goes must bear both marks.
func (a *Applier) mayRemove(u *unstructured.Unstructured) bool {
	return a.made[u.GetUID()] || render.Managed(u) && u.GetAnnotations()[AnnotationGoverned] == u.GetName() && isOurs(u)
}

func isOurs(u *unstructured.Unstructured) bool {
	for _, m := range u.GetManagedFields() {
		if m.Manager == FieldManager && m.Subresource == "" {
			return true
		}
	}
	return false
}

// markOwned marks what is to be applied.
func markOwned(u *unstructured.Unstructured) {
	annotations := u.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[AnnotationGoverned] = u.GetName()
	u.SetAnnotations(annotations)
}

// written is what is known of an object since it was written last.
type written struct {
	uid        types.UID
	generation int64
	spec       any // as it was wanted
}

// matchesWanted reports whether a live object is as it is wanted. What an API server
// filled in is told from what somebody added by the generation: the one that the
// agent's own write came to has nothing of anybody else's.
func matchesWanted(live, want *unstructured.Unstructured, last written) bool {
	return last.uid == live.GetUID() && last.generation == live.GetGeneration() && reflect.DeepEqual(last.spec, want.Object["spec"]) &&
		containsAll(want.GetLabels(), live.GetLabels()) && containsAll(want.GetAnnotations(), live.GetAnnotations()) && len(staleAnnotations(live, want)) == 0
}

func containsAll(want, have map[string]string) bool {
	for k, v := range want {
		if h, ok := have[k]; !ok || h != v {
			return false
		}
	}
	return true
}

// staleAnnotations are annotations that the agent may have set and does not want.
func staleAnnotations(live, want *unstructured.Unstructured) []string {
	var out []string
	for _, k := range []string{render.AnnotationAssignment, render.AnnotationDefinition, render.AnnotationReference, render.AnnotationSetDefinition,
		render.AnnotationMessage, render.AnnotationInstalledBy} {
		_, has := live.GetAnnotations()[k]
		if _, wants := want.GetAnnotations()[k]; has && !wants {
			out = append(out, k)
		}
	}
	return out
}

// mergeObject is the live object as it is to be: the whole spec is the agent's, and of
// labels and annotations those that it sets.
func mergeObject(live, want *unstructured.Unstructured) *unstructured.Unstructured {
	out := live.DeepCopy()
	out.SetAPIVersion(want.GetAPIVersion())
	out.Object["spec"] = want.DeepCopy().Object["spec"]
	labels, annotations := out.GetLabels(), out.GetAnnotations()
	if labels == nil {
		labels = map[string]string{}
	}
	if annotations == nil {
		annotations = map[string]string{}
	}
	maps.Copy(labels, want.GetLabels())
	maps.Copy(annotations, want.GetAnnotations())
	for _, k := range staleAnnotations(live, want) {
		delete(annotations, k)
	}
	out.SetLabels(labels)
	out.SetAnnotations(annotations)
	unstructured.RemoveNestedField(out.Object, "status")
	return out
}

// truncateText cuts a text to at most n bytes, at a letter's edge.
func truncateText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
