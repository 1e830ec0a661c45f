package running

import (
	"cmp"
	"slices"
	"strings"
)

// Workload is what Pods belong to, by what they say of themselves: whoever may
// create Pods may claim an owner, so that nothing is allowed because of it.
type Workload struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Name is the workload's. Of Pods that nobody owns and that are alike, it is the
	// first one's.
	Name string `json:"name"`
	// Pods is how many of its Pods run the image.
	Pods int `json:"pods"`
}

const (
	podKind = "Pod"
	// What controllers write on the ReplicaSets' Pods: the last part of the
	// ReplicaSet's name.
	deploymentHash = "pod-template-hash"
	rolloutHash    = "rollouts-pod-template-hash"
)

// workloadOf is what a sort of Pods belongs to: the controller in their
// ownerReferences; for a ReplicaSet that a Deployment or an Argo Rollout made, that
// one. A Pod that its node made, or that nobody owns, is its own.
func workloadOf(s *sort) Workload {
	o := unpackOwner(s.owner.Value())
	if o == nil || o.Kind == "Node" {
		return Workload{APIVersion: "v1", Kind: podKind, Name: s.first[0].Name, Pods: s.pods}
	}
	w := Workload{APIVersion: o.APIVersion, Kind: o.Kind, Name: o.Name, Pods: s.pods}
	if o.Kind != "ReplicaSet" {
		return w
	}
	labels := unpackLabels(s.labels.Value())
	if name, ok := cutHash(o.Name, labels[deploymentHash]); ok {
		w.Kind, w.Name = "Deployment", name
	} else if name, ok := cutHash(o.Name, labels[rolloutHash]); ok {
		w.APIVersion, w.Kind, w.Name = "argoproj.io/v1alpha1", "Rollout", name
	}
	return w
}

// cutHash takes the hash of a template from the end of a ReplicaSet's name.
func cutHash(name, hash string) (string, bool) {
	if hash == "" {
		return "", false
	}
	owner, ok := strings.CutSuffix(name, "-"+hash)
	return owner, ok && owner != ""
}

// addWorkload adds Pods to the workload they belong to; all stay in order.
func addWorkload(all []Workload, w Workload) []Workload {
	i, found := slices.BinarySearchFunc(all, w, compareWorkloads)
	if !found {
		return slices.Insert(all, i, w)
	}
	all[i].Pods += w.Pods
	return all
}

func compareWorkloads(a, b Workload) int {
	return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.APIVersion, b.APIVersion), strings.Compare(a.Name, b.Name))
}
