// Package tests runs Boltseal as a process against a real control plane.
package tests

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/process"
	"github.com/boltseal/boltseal/e2e/product"
)

var (
	cluster  *kit.Cluster
	boltseal *server
	crds     string // the CustomResourceDefinitions
)

const startTimeout = 60 * time.Second

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
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/boltseal")
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
func start(ctx context.Context, binary, name, apiServer string) (*server, error) {
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
	var address [3]string
	for i := range address {
		port, err := kit.FreePort()
		if err != nil {
			return nil, err
		}
		address[i] = fmt.Sprintf("127.0.0.1:%d", port)
	}
	s := &server{binary: binary, base: "http://" + address[0], health: "http://" + address[1], metrics: "http://" + address[2]}
	s.process, err = cluster.Run(process.Spec{Name: name, Path: binary, Args: []string{"serve", "--kubeconfig", kubeconfig, "--insecure-http",
		"--listen", address[0], "--health-listen", address[1], "--metrics-listen", address[2], "--audit-log", "off", "--pprof"}})
	return s, err
}
