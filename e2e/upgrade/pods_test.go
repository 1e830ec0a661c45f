package upgrade

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// replicas are the Pods of the Deployment that are not being deleted.
func replicas(t *testing.T) []corev1.Pod {
	t.Helper()
	var pods corev1.PodList
	if err := cluster.Client().List(t.Context(), &pods, client.InNamespace(system), client.MatchingLabels{"app.kubernetes.io/component": "server"}); err != nil {
		t.Fatal(err)
	}
	var out []corev1.Pod
	for _, p := range pods.Items {
		if p.DeletionTimestamp == nil {
			out = append(out, p)
		}
	}
	return out
}

// drained evicts both replicas as a drain of their node does: the disruption budget holds the second until the one that
// comes in place of the first is ready.
func drained(t *testing.T) {
	t.Helper()
	evict := func(p corev1.Pod) error {
		return cluster.Client().SubResource("eviction").Create(t.Context(), &p, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name}})
	}
	pods := replicas(t)
	if len(pods) != 2 {
		t.Fatalf("%d replicas", len(pods))
	}
	node.Cordon()
	eventually(t, "the first replica may go", func() error { return evict(pods[0]) })
	for _, when := range []string{"at once", "when another is to come"} {
		if err := evict(pods[1]); !apierrors.IsTooManyRequests(err) {
			t.Errorf("the last replica may go, %s: %v", when, err)
		}
		eventually(t, "another is to come", func() error { return want(len(replicas(t)) == 2, "%d replicas", len(replicas(t))) })
	}
	if err := node.Uncordon(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second replica may go", func() error { return evict(pods[1]) })
}

// jobFailed holds that a Job that failed is there to be asked why, by the command of docs/troubleshooting.md, and that its
// rights are not.
func jobFailed(t *testing.T) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), cluster.Kubectl(), "--kubeconfig", cluster.Kubeconfig(), "-n", system, "logs", "job/boltseal-crds")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), brokenSays) {
		t.Errorf("%v: %s", err, out)
	}
	for _, o := range []client.Object{&rbacv1.ClusterRole{}, &rbacv1.ClusterRoleBinding{}} {
		if err := cluster.Client().Get(t.Context(), client.ObjectKey{Name: "boltseal-crds"}, o); !apierrors.IsNotFound(err) {
			t.Errorf("the %T of the Job is there after it: %v", o, errors.Join(err))
		}
	}
}
