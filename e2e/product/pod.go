package product

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/process"
)

// inCluster is how a container asks for the cluster that it is in.
const inCluster = "--in-cluster"

// StartPod runs the one container of a Pod as a process named name, as a node would: with its arguments, its
// environment and the rights of its ServiceAccount. What a process on the loopback interface must do otherwise is
// otherwise: where the cluster is, and at which addresses it listens, unless its arguments do not say.
func StartPod(ctx context.Context, c *kit.Cluster, binary, name, namespace string, spec corev1.PodSpec) (*Server, error) {
	if len(spec.Containers) != 1 {
		return nil, fmt.Errorf("a Pod of %d containers", len(spec.Containers))
	}
	config, err := c.ServiceAccountConfig(ctx, namespace, spec.ServiceAccountName)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(c.Dir(), name+".d")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := kit.WriteKubeconfig(kubeconfig, config); err != nil {
		return nil, err
	}
	container := spec.Containers[0]
	args := slices.Clone(container.Args)
	i := slices.Index(args, inCluster)
	if i < 0 {
		return nil, fmt.Errorf("the container is not told %s: %q", inCluster, args)
	}
	args[i] = "--kubeconfig=" + kubeconfig
	s := &Server{}
	var what []string
	for flag, w := range map[string]string{"--listen=": Main, "--health-listen=": Health, "--metrics-listen=": Metrics} {
		i := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, flag) })
		if i < 0 {
			continue
		}
		args[i] = flag + AnyPort
		what = append(what, w)
	}
	if slices.Contains(what, Main) {
		args = append(args, "--namespace="+namespace)
	}
	env := os.Environ()
	for _, e := range container.Env {
		env = append(env, e.Name+"="+e.Value)
	}
	return s, s.run(ctx, c, process.Spec{Name: name, Path: binary, Args: args, Env: env}, what...)
}
