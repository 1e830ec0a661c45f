// Package installed installs the chart as it stands on a node, uses it as the pages say, and removes it.
package installed

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-logr/logr"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/machine"
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

const (
	system = "boltseal-system"
	image  = "ghcr.io/boltseal/boltseal:0.1.0" // the chart's
)

var (
	cluster  *kit.Cluster
	node     *machine.Machine
	registry *testregistry.Registry
	root     string // Boltseal's module
	binary   string
	digests  = map[string]string{} // of what is in the registry, by reference
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	network, err := machine.Reserve()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(kit.Main(func() int {
		ctx, cancel := context.WithTimeout(context.Background(), 3*await.Limit)
		defer cancel()
		if err := prepare(ctx, network); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		status := m.Run()
		registry.Close()
		if err := node.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return status
	}, kit.Options{APIServerArgs: network.APIServerArgs()}, &cluster))
}

// prepare builds the program and starts a registry and a node.
func prepare(ctx context.Context, network *machine.Network) (err error) {
	if root, err = product.Root(ctx); err != nil {
		return err
	}
	bin := filepath.Join(cluster.Dir(), "bin") // for PATH
	if err := os.Mkdir(bin, 0o700); err != nil {
		return err
	}
	if binary, err = product.Build(ctx, bin); err != nil {
		return err
	}
	if err := os.Symlink(cluster.Kubectl(), filepath.Join(bin, "kubectl")); err != nil {
		return err
	}
	if registry, err = testregistry.Start(testregistry.Options{}); err != nil {
		return err
	}
	for i, tag := range []string{"signed", "unsigned"} {
		digests[registry.Ref("app", tag)] = registry.Host + "/app@" + registry.PushImage("app", tag, i).Digest.String()
	}
	node, err = machine.Start(ctx, cluster, machine.Options{Network: network, Programs: map[string]string{image: binary},
		ImageID: func(image string) string { return digests[image] }})
	return err
}
