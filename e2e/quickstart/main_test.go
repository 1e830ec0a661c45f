package quickstart

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/go-logr/logr"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/machine"
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

var (
	cluster  *kit.Cluster
	node     *machine.Machine
	root     string // the repository's folder, where the commands run
	scratch  string // the user's other folders, and the programs helm and notation
	images   string // where the user pushes
	binary   string // Boltseal's
	registry *testregistry.Registry
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	dir, err := os.MkdirTemp("", "boltseal-quickstart-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	scratch = dir
	status := run(m)
	_ = os.RemoveAll(dir)
	os.Exit(status)
}

func run(m *testing.M) int {
	network, err := machine.Reserve()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return kit.Main(func() int {
		if err := prepare(context.Background(), network); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer registry.Close()
		status := m.Run()
		if err := node.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return status
	}, kit.Options{APIServerArgs: network.APIServerArgs()}, &cluster)
}

// prepare makes what the page says that one needs: a cluster, a registry, helm and notation. The cluster's node runs
// the program in place of the image that the page pushes.
func prepare(ctx context.Context, network *machine.Network) (err error) {
	if root, err = product.Root(ctx); err != nil {
		return err
	}
	if registry, err = testregistry.Start(testregistry.Options{MaxLog: -1}); err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(registry.Host)
	if err != nil {
		return err
	}
	images = "localhost:" + port + "/me" // by this name notation speaks plain HTTP
	for module, pkg := range map[string]string{"e2e": "helm.sh/helm/v4/cmd/helm", "tools": "github.com/notaryproject/notation/cmd/notation"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", scratch+string(filepath.Separator), pkg)
		cmd.Dir = filepath.Join(root, module)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	if binary, err = product.Build(ctx, cluster.Dir()); err != nil {
		return err
	}
	node, err = machine.Start(ctx, cluster, machine.Options{Network: network, Namespaces: []string{product.Namespace},
		Programs: map[string]string{images + "/boltseal:0.1.0": binary}})
	return err
}

// environment is the user's, before the page.
func environment() []string {
	folder := func(name string) string { return name + "=" + filepath.Join(scratch, name) }
	return append(os.Environ(), "REGISTRY="+images, "KUBECONFIG="+cluster.Kubeconfig(),
		"MAKEFLAGS=ARCHS=amd64", // the second platform would only take its time
		folder("XDG_CONFIG_HOME"), folder("HELM_CACHE_HOME"), folder("HELM_CONFIG_HOME"), folder("HELM_DATA_HOME"),
		"PATH="+scratch+":"+filepath.Dir(cluster.Kubectl())+":"+os.Getenv("PATH"))
}

// problems are what went wrong in the cluster, beside an error.
func problems(err error) error { return errors.Join(err, node.Problems()) }
