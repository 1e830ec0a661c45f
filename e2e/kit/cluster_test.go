package kit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/e2e/process"
)

const digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: %s}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      initContainers:
      - {name: setup, image: registry.example/setup:1}
      - {name: sidecar, image: registry.example/sidecar:1, restartPolicy: Always}
      containers:
      - {name: app, image: "registry.example/app:1"}
`

func TestDeploymentGetsPodsAndRuns(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	if err := cluster.Apply(t.Context(), fmt.Sprintf(deployment, ns)); err != nil {
		t.Fatal(err)
	}
	var pods corev1.PodList
	eventually(t, "two pods", func(ctx context.Context) error {
		if err := cluster.Client().List(ctx, &pods, client.InNamespace(ns)); err != nil {
			return err
		}
		return want(len(pods.Items) == 2, "%d pods", len(pods.Items))
	})
	for _, p := range pods.Items {
		if p.Status.Phase != corev1.PodPending || p.Spec.NodeName != "" {
			t.Errorf("pod %s is %s on node %q before anybody said that it runs", p.Name, p.Status.Phase, p.Spec.NodeName)
		}
		if p.Spec.ServiceAccountName != "default" {
			t.Errorf("pod %s has ServiceAccount %q: admission did not run", p.Name, p.Spec.ServiceAccountName)
		}
	}
	n, err := cluster.SetAllRunning(t.Context(), ns, func(image string) string {
		name, _, _ := strings.Cut(image, ":")
		return name + "@" + digest
	})
	if err != nil || n != 2 {
		t.Fatalf("SetAllRunning: %d, %v", n, err)
	}
	eventually(t, "an available deployment", func(ctx context.Context) error {
		var d appsv1.Deployment
		if err := cluster.Client().Get(ctx, client.ObjectKey{Namespace: ns, Name: "web"}, &d); err != nil {
			return err
		}
		return want(d.Status.AvailableReplicas == 2, "%d available", d.Status.AvailableReplicas)
	})
	if err := cluster.Client().List(t.Context(), &pods, client.InNamespace(ns)); err != nil {
		t.Fatal(err)
	}
	for _, p := range pods.Items {
		s := p.Status
		if s.Phase != corev1.PodRunning || len(s.ContainerStatuses) != 1 || len(s.InitContainerStatuses) != 2 {
			t.Fatalf("status %+v", s)
		}
		if got := s.ContainerStatuses[0].ImageID; got != "registry.example/app@"+digest {
			t.Errorf("image id %q", got)
		}
		if s.InitContainerStatuses[0].State.Terminated == nil || s.InitContainerStatuses[1].State.Running == nil {
			t.Errorf("init containers %+v", s.InitContainerStatuses)
		}
	}
	err = cluster.SetRunning(t.Context(), ns, pods.Items[0].Name, map[string]string{"typo": "x"})
	if err == nil || !strings.Contains(err.Error(), `no container "typo"`) {
		t.Errorf("an unknown container: %v", err)
	}
}

func TestUsersHaveOnlyTheirRights(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	account := fmt.Sprintf(`
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: %[1]s}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: %[1]s}
rules:
- {apiGroups: [""], resources: [pods], verbs: [list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects:
- {kind: ServiceAccount, name: reader, namespace: %[1]s}
- {kind: Group, apiGroup: rbac.authorization.k8s.io, name: team-%[1]s}
`, ns)
	if err := cluster.Apply(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	sa, err := cluster.ServiceAccountConfig(t.Context(), ns, "reader")
	if err != nil {
		t.Fatal(err)
	}
	user, err := cluster.UserConfig("alice", "team-"+ns)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := cluster.UserConfig("mallory", "team-other")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		config  *rest.Config
		allowed bool
	}{
		{"ServiceAccount", sa, true},
		{"group", user, true},
		{"other group", stranger, false},
	} {
		cl, err := newClient(tc.config)
		if err != nil {
			t.Fatal(err)
		}
		err = cl.List(t.Context(), &corev1.PodList{}, client.InNamespace(ns))
		if tc.allowed && err != nil || !tc.allowed && !apierrors.IsForbidden(err) {
			t.Errorf("%s: list pods: %v", tc.name, err)
		}
		if err := cl.List(t.Context(), &corev1.SecretList{}, client.InNamespace(ns)); !apierrors.IsForbidden(err) {
			t.Errorf("%s: list secrets: %v", tc.name, err)
		}
	}
}

func TestKubectl(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), cluster.Kubectl(), "--kubeconfig="+cluster.Kubeconfig(), "get", "namespace", "default", "-o", "name").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "namespace/default" {
		t.Fatalf("%s, %v", out, err)
	}
}

func TestStopLeavesNothing(t *testing.T) {
	t.Parallel()
	c, err := Start(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Run(process.Spec{Name: "sleeper", Path: "/bin/sleep", Args: []string{"600"}}); err != nil {
		t.Error(err)
	}
	processes, dir := c.Processes(), c.Dir()
	if len(processes) != 4 {
		t.Errorf("%d processes run", len(processes))
	}
	if err := c.Stop(); err != nil {
		t.Error(err)
	}
	for _, p := range processes {
		if err := syscall.Kill(-p.PID(), 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("%s still runs: %v", p.Name(), err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", dir, err)
	}
	if err := c.Stop(); err != nil {
		t.Errorf("a second Stop: %v", err)
	}
	if _, err := c.Run(process.Spec{Name: "late", Path: "/bin/sleep"}); err == nil {
		t.Error("a stopped cluster started a process")
	}
}

// TestPortsThatAreTaken: where others have the ports that were chosen, others are chosen.
func TestPortsThatAreTaken(t *testing.T) {
	t.Parallel()
	var taken []int
	for range 4 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		taken = append(taken, l.Addr().(*net.TCPAddr).Port)
	}
	times := 0
	// At first one program does not get its port, then another, then none.
	choose := func(n int) ([]int, error) {
		ports, err := freePorts(n)
		if times < n-1 {
			ports[times] = taken[times]
		}
		times++
		return ports, err
	}
	c, err := Start(t.Context(), Options{choosePorts: choose})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	}()
	if times != 4 || len(c.Processes()) != 3 {
		t.Errorf("%d starts, %d processes", times, len(c.Processes()))
	}
	times = 0
	gk, err := c.StartGatekeeper(t.Context(), GatekeeperOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if times != 3 {
		t.Errorf("Gatekeeper was started %d times", times)
	}
	if err := gk.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestStartSaysWhyItFailed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Start(t.Context(), Options{Dir: dir, APIServerArgs: []string{"--no-such-flag"}})
	if !errors.Is(err, process.ErrExited) || !strings.Contains(err.Error(), "no-such-flag") {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "logs", "kube-apiserver.log")); err != nil {
		t.Errorf("the log of a chosen folder is gone: %v", err)
	}
}

// patience bounds how long a test waits for what should happen within a second or two, so that one that waits in
// vain says for what.
const patience = 60 * time.Second

// eventually polls until ask returns nil.
func eventually(t *testing.T, what string, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := cluster.poll(ctx, what, ask); err != nil {
		t.Fatal(err)
	}
}

func want(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}
