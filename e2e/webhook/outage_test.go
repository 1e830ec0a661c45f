package webhook

import (
	"context"
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// roll replaces the replicas one after the other, as a Deployment does: a new one is started, and when it is ready
// an old one is told to stop.
func roll(t *testing.T, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
	defer cancel()
	for range len(standing) {
		r, err := start(ctx, args...)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.waitReady(ctx); err != nil {
			t.Fatal(err)
		}
		old := standing[0]
		standing = append(standing[1:], r)
		eventually(t, "the new replica is in the service", func() error { return want(front.endpoints() == len(standing)+1, "%d endpoints", front.endpoints()) })
		if err := old.stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRollingRestart replaces all replicas twice while Pods are created.
func TestRollingRestart(t *testing.T) {
	settled(t)
	signed, _ := image("signed", signer)
	ns := namespace(t, "prod")
	for _, workers := range []int{3, 30} { // few, whose connections idle, and more than are kept open
		stop := load(t, workers, ns, signed)
		roll(t)
		t.Logf("%d workers: %d creates during a rolling restart", workers, stop())
	}
}

// TestAllReplicasDown kills all replicas at once.
func TestAllReplicasDown(t *testing.T) {
	settled(t)
	ctx, cl := t.Context(), cluster.Client()
	signed, _ := image("signed", signer)
	ns := namespace(t, "prod")
	before, err := secret(ctx)
	if err != nil {
		t.Fatal(err)
	}
	stopAll(t, (*replica).kill)
	if err := cl.Create(ctx, pod(ns, "signed", signed)); err == nil || !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), "failed calling webhook") {
		t.Errorf("a Pod that nobody judged: %v", err)
	}
	// Boltseal itself must be able to come back, and what a cluster runs on.
	for _, in := range []string{"kube-system", system} {
		if err := cl.Create(ctx, pod(in, fmt.Sprint("needed-", names), signed)); err != nil {
			t.Errorf("a Pod in %s: %v", in, err)
		}
		if err := cluster.Apply(ctx, deployment(in)); err != nil {
			t.Errorf("a Deployment in %s: %v", in, err)
		}
	}
	eventually(t, "the Deployments' Pods are there", func() error {
		for _, in := range []string{"kube-system", system} {
			if n, err := podsOf(ctx, in, "needed"); err != nil || n != 2 {
				return fmt.Errorf("%s: %d Pods, %w", in, n, err)
			}
		}
		return nil
	})
	restart(t)
	eventually(t, "a signed image is admitted again", func() error {
		return client.IgnoreAlreadyExists(cl.Create(ctx, pod(ns, "signed", signed)))
	})
	unsigned, _ := image("unsigned")
	if err := denied(cl.Create(ctx, pod(ns, "unsigned", unsigned))); err != nil {
		t.Error(err)
	}
	after, err := secret(ctx)
	if err != nil || string(after.Data["ca.crt"]) != string(before.Data["ca.crt"]) {
		t.Errorf("the CA is another one: %v", err)
	}
}

func deployment(ns string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: needed, namespace: %s}
spec:
  replicas: 2
  selector: {matchLabels: {app: needed}}
  template:
    metadata: {labels: {app: needed}}
    spec: {containers: [{name: app, image: registry.example/unsigned}]}
`, ns)
}
