package webhook

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/e2e/process"
)

// roll replaces the replicas one after the other, and returns when the old ones have ended.
func roll(t *testing.T, args ...string) {
	t.Helper()
	var old []*replica
	for range len(standing) {
		old = append(old, replaceOldest(t, args...))
	}
	ended(t, old)
}

// replaceOldest does as a Deployment does: a new replica is started, and when it is ready the oldest one is told to
// stop. It does not wait until that one has ended.
func replaceOldest(t *testing.T, args ...string) (old *replica) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
	defer cancel()
	r, err := start(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.waitReady(ctx); err != nil {
		t.Fatal(err)
	}
	old = standing[0]
	standing = append(standing[1:], r)
	eventually(t, "the new replica is in the service", func() error { return want(front.leadsTo(r), "it is not ready") })
	if err := old.leave(); err != nil {
		t.Fatal(err)
	}
	return old
}

// ended waits until replicas that were told to stop have ended.
func ended(t *testing.T, old []*replica) {
	t.Helper()
	for _, r := range old {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	}
}

// TestRollingRestart replaces replicas twenty times while Pods are created by few workers, whose connections idle,
// and by more than the API server keeps connections for, and all processors are busy with something else. Not one
// request may be lost, up to the end of the last replica.
func TestRollingRestart(t *testing.T) {
	settled(t)
	signed, _ := image("signed", signer)
	ns := namespace(t, "prod")
	// As the chart has it, with a delay that is long for a service that looks every 50 ms.
	chart := []string{"--shutdown-delay", "5s", "--shutdown-timeout", "100s"}
	roll(t, chart...)
	quiet := busy(t)
	var old []*replica
	for _, workers := range []int{3, 30} {
		stop := load(t, workers, ns, signed)
		for range 10 {
			old = append(old, replaceOldest(t, chart...))
		}
		if workers == 30 {
			ended(t, old)
		}
		t.Logf("%d workers: %d creates during ten restarts", workers, stop())
	}
	quiet()
	// Nobody asks any more, and nothing is lost by an end at once.
	last := standing
	standing = nil
	restart(t)
	for _, r := range last {
		if err := r.kill(); err != nil {
			t.Error(err)
		}
	}
}

// busy keeps all processors at work until quiet is called.
func busy(t *testing.T) (quiet func()) {
	t.Helper()
	var loops []*process.Process
	for i := range 3 * runtime.NumCPU() {
		p, err := cluster.Run(process.Spec{Name: fmt.Sprint("busy-", i), Path: "/bin/sh", Args: []string{"-c", "while :; do :; done"}})
		if err != nil {
			t.Fatal(err)
		}
		loops = append(loops, p)
	}
	quiet = sync.OnceFunc(func() {
		for _, p := range loops {
			if err := p.Kill(); err != nil {
				t.Error(err)
			}
		}
	})
	t.Cleanup(quiet)
	return quiet
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
