// Package upgrade installs, upgrades, rolls back and removes Boltseal with Helm while Pods are created.
package upgrade

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/machine"
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/e2e/render"
)

const (
	system         = "boltseal-system"
	release        = "boltseal"
	installTimeout = 3 * await.Limit
	oldVersion     = "0.0.9"
)

var (
	cluster  *kit.Cluster
	node     *machine.Machine
	oldChart string
	newChart string
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	network, err := machine.Reserve()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(kit.Main(func() int {
		ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
		defer cancel()
		if err := prepare(ctx, network); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		status := m.Run()
		if err := node.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return status
	}, kit.Options{APIServerArgs: network.APIServerArgs()}, &cluster))
}

const (
	// image is the chart's.
	image = "ghcr.io/boltseal/boltseal:"
	// brokenSays is what a version that does not work says.
	brokenSays = "this version does not work"
)

// prepare builds two versions of the program and of the chart, and starts a node.
func prepare(ctx context.Context, network *machine.Network) error {
	root, err := product.Root(ctx)
	if err != nil {
		return err
	}
	newChart = filepath.Join(root, "charts", "boltseal")
	now, err := product.Build(ctx, cluster.Dir())
	if err != nil {
		return err
	}
	before, err := oldPair(ctx, root)
	if err != nil {
		return err
	}
	if err := cluster.ApplyObjects(ctx, render.Namespace(system, render.Restricted())); err != nil {
		return err
	}
	broken := filepath.Join(cluster.Dir(), "broken")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\necho "+brokenSays+"\nexit 1\n"), 0o700); err != nil {
		return err
	}
	node, err = machine.Start(ctx, cluster, machine.Options{Network: network, Namespaces: []string{system},
		Programs: map[string]string{image + oldVersion: before, image + "0.1.0": now, image + "broken": broken}})
	return err
}

// oldField is a field of ImageIntegrityPolicy that the old version does not have.
const oldField = "resolveTags"

// oldPair makes a chart and a program of an earlier version: one whose ImageIntegrityPolicy lacks a field.
func oldPair(ctx context.Context, root string) (binary string, err error) {
	oldChart = filepath.Join(cluster.Dir(), "old-chart")
	if err := os.CopyFS(oldChart, os.DirFS(filepath.Join(root, "charts", "boltseal"))); err != nil {
		return "", err
	}
	edit := func(name string, change func(string) (string, error)) error {
		name = filepath.Join(oldChart, name)
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		text, err := change(string(b))
		if err != nil {
			return err
		}
		return os.WriteFile(name, []byte(text), 0o600)
	}
	if err := edit("Chart.yaml", func(text string) (string, error) {
		return strings.NewReplacer("version: 0.1.0", "version: "+oldVersion, "appVersion: 0.1.0", "appVersion: "+oldVersion).Replace(text), nil
	}); err != nil {
		return "", err
	}
	crds, err := filepath.Glob(filepath.Join(oldChart, "crds", "*.yaml"))
	if err != nil {
		return "", err
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for _, name := range crds {
		name = filepath.Join("crds", filepath.Base(name))
		if err := edit(name, older); err != nil {
			return "", err
		}
		overlay.Replace[filepath.Join(root, "charts", "boltseal", name)] = filepath.Join(oldChart, name)
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	file := filepath.Join(cluster.Dir(), "overlay.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		return "", err
	}
	binary = filepath.Join(cluster.Dir(), "boltseal-old")
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", product.Tags, "-overlay", file, "-o", binary, "./cmd/boltseal")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the old version: %w\n%s", err, out)
	}
	return binary, nil
}

// older takes a definition back to before revisions and the field.
func older(text string) (string, error) {
	all, err := kit.Parse(text)
	if err != nil || len(all) != 1 {
		return "", fmt.Errorf("%d definitions: %w", len(all), err)
	}
	u := all[0]
	a := u.GetAnnotations()
	delete(a, "boltseal.dev/schema-revision")
	u.SetAnnotations(a)
	versions := u.Object["spec"].(map[string]any)["versions"].([]any)
	properties := versions[0].(map[string]any)["schema"].(map[string]any)["openAPIV3Schema"].(map[string]any)["properties"].(map[string]any)
	if spec, ok := properties["spec"].(map[string]any); ok { // a report has none
		delete(spec["properties"].(map[string]any), oldField)
	}
	return render.Marshal(u)
}
