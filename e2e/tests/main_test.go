// Package tests runs Boltseal as a process against a real control plane.
package tests

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/process"
	"github.com/boltseal/boltseal/e2e/product"
)

var (
	cluster  *kit.Cluster
	boltseal *server
	crds     string // the CustomResourceDefinitions
)

// startTimeout bounds what comes before the tests, for what hangs.
const startTimeout = 3 * await.Limit

func TestMain(m *testing.M) {
	run := func() int {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		if err := install(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}
	os.Exit(kit.Main(run, kit.Options{}, &cluster))
}

// install builds Boltseal, applies what it needs and starts it.
func install(ctx context.Context) (err error) {
	binary := filepath.Join(cluster.Dir(), "boltseal")
	build := exec.CommandContext(ctx, "go", "build", "-tags", product.Tags, "-o", binary, "./cmd/boltseal")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build boltseal: %w\n%s", err, out)
	}
	// Boltseal starts before the cluster knows its resources, as it may in an installation.
	rights, err := product.Rights(ctx)
	if err != nil {
		return err
	}
	if err := cluster.Apply(ctx, rights); err != nil {
		return err
	}
	if boltseal, err = start(ctx, binary, "boltseal", ""); err != nil {
		return err
	}
	text, err := exec.CommandContext(ctx, binary, "crds").Output()
	if err != nil {
		return fmt.Errorf("boltseal crds: %w", err)
	}
	crds = string(text)
	if err := cluster.Apply(ctx, crds); err != nil {
		return err
	}
	return boltseal.ready(ctx)
}

// server is a running Boltseal.
type server struct {
	binary                string
	base, health, metrics string
	process               *process.Process
}

// start runs a replica with the ServiceAccount's rights. apiServer is the address
// that it asks; "" is the API server's own.
func start(ctx context.Context, binary, name, apiServer string, args ...string) (*server, error) {
	config, err := cluster.ServiceAccountConfig(ctx, "boltseal-system", "boltseal")
	if err != nil {
		return nil, err
	}
	if apiServer != "" {
		config.Host = "https://" + apiServer
	}
	kubeconfig := filepath.Join(cluster.Dir(), name+".kubeconfig")
	if err := kit.WriteKubeconfig(kubeconfig, config); err != nil {
		return nil, err
	}
	s, offset := &server{binary: binary}, product.LogSize(cluster.LogFile(name))
	s.process, err = cluster.Run(process.Spec{Name: name, Path: binary, Args: append([]string{"serve", "--kubeconfig", kubeconfig, "--insecure-http",
		"--listen", product.AnyPort, "--health-listen", product.AnyPort, "--metrics-listen", product.AnyPort, "--shutdown-timeout", product.ShutdownTimeout, "--audit-log", "off", "--pprof"}, args...)})
	if err != nil {
		return nil, err
	}
	at, err := product.Listening(ctx, s.process, offset, product.Main, product.Health, product.Metrics)
	if err != nil {
		return nil, err
	}
	s.base, s.health, s.metrics = "http://"+at[product.Main], "http://"+at[product.Health], "http://"+at[product.Metrics]
	return s, nil
}
