package running

import (
	"fmt"
	"slices"
	"testing"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
)

func TestWorkloadOf(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	for name, c := range map[string]struct {
		owners []metav1.OwnerReference
		labels map[string]string
		want   Workload
	}{
		"nobody owns it": {want: Workload{"v1", "Pod", "p", 4}},
		"its node made it": {owners: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n", Controller: &yes}},
			want: Workload{"v1", "Pod", "p", 4}},
		"an owner that does not control it": {owners: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "n", Controller: &no}},
			want: Workload{"v1", "Pod", "p", 4}},
		"a StatefulSet": {owners: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "db", Controller: &yes}},
			want: Workload{"apps/v1", "StatefulSet", "db", 4}},
		"a Deployment": {owners: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "cart-7d9c6b5f4", Controller: &yes}},
			labels: map[string]string{"pod-template-hash": "7d9c6b5f4"}, want: Workload{"apps/v1", "Deployment", "cart", 4}},
		"a Rollout": {owners: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "cart-7d9c6b5f4", Controller: &yes}},
			labels: map[string]string{"rollouts-pod-template-hash": "7d9c6b5f4"}, want: Workload{"argoproj.io/v1alpha1", "Rollout", "cart", 4}},
		"a ReplicaSet of its own": {owners: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "cart-7d9c6b5f4", Controller: &yes}},
			want: Workload{"apps/v1", "ReplicaSet", "cart-7d9c6b5f4", 4}},
		"a label that is not the name's end": {owners: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "cart", Controller: &yes}},
			labels: map[string]string{"pod-template-hash": "cart"}, want: Workload{"apps/v1", "ReplicaSet", "cart", 4}},
	} {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", Labels: c.labels, OwnerReferences: c.owners}}
		s := &sort{kind: kind{namespace: "n", labels: unique.Make(packLabels(p.Labels)), owner: unique.Make(packOwner(p))}, pods: 4, first: []Pod{{Namespace: "n", Name: "p"}}}
		if got := workloadOf(s); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// TestResultsHaveIDsOfTheirOwn: programs that collect reports keep one result for
// each id, so that no two results of a cluster may share one, and a result keeps
// its id for as long as it is about the same image in the same workload.
func TestResultsHaveIDsOfTheirOwn(t *testing.T) {
	t.Parallel()
	deployment := func(name string) Workload { return Workload{"apps/v1", "Deployment", name, 2} }
	at := time.Unix(1_800_000_000, 0)
	findings := func(outcome Outcome) (all []*Finding) {
		for _, ns := range []string{"shop", "bank"} {
			for _, policy := range []string{"p", "q"} {
				for _, image := range []string{"a", "b", "c"} {
					all = append(all, &Finding{Namespace: ns, Policy: policy, Action: v1alpha1.Deny, Outcome: outcome, Image: image, Pods: 4,
						Workloads: []Workload{deployment("x"), deployment("y"), {"apps/v1", "StatefulSet", "x", 1}}})
				}
				all = append(all, &Finding{Namespace: ns, Policy: policy, Action: v1alpha1.Deny, Outcome: Exempt, Exemption: "old", Image: "a", Pods: 1, Workloads: []Workload{deployment("x")}})
			}
		}
		return all
	}
	ids := func(outcome Outcome, most int) (all []string) {
		for ns, n := range reportsOf(&Result{At: at, Findings: findings(outcome)}) {
			for _, r := range n.report(ns, most, nil, at).Results {
				if len(r.Subjects) > 1 {
					t.Errorf("a result has %d subjects", len(r.Subjects))
				}
				all = append(all, r.Properties["resultID"])
			}
		}
		slices.Sort(all)
		return all
	}
	for _, most := range []int{0, 1, 5, 5000} {
		all := ids(NotTrusted, most)
		if n := len(slices.Compact(slices.Clone(all))); n != len(all) || slices.Contains(all, "") {
			t.Errorf("at most %d: %d results have %d ids: %q", most, len(all), n, all)
		}
	}
	if n := len(ids(NotTrusted, 5000)); n != 2*2*(3*3+1) {
		t.Errorf("%d results", n)
	}
	if a, b := ids(NotTrusted, 5000), ids(Unknown, 5000); !slices.Equal(a, b) {
		t.Error("an id depends on what comes out")
	}
	if a, b := resultID("ab", "c"), resultID("a", "bc"); a == b {
		t.Error("two subjects share an id")
	}
}

// TestWorkloadsAreCounted: the Pods of one workload are one result, which counts
// them, in the order of names.
func TestWorkloadsAreCounted(t *testing.T) {
	t.Parallel()
	var all []Workload
	for i := range 6 {
		all = addWorkload(all, Workload{"apps/v1", "Deployment", fmt.Sprintf("w%d", 2-i%3), i + 1})
	}
	if want := []Workload{{"apps/v1", "Deployment", "w0", 9}, {"apps/v1", "Deployment", "w1", 7}, {"apps/v1", "Deployment", "w2", 5}}; !slices.Equal(all, want) {
		t.Errorf("%+v", all)
	}
}
