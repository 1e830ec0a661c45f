// Package doctor tests boltseal doctor on a real cluster.
package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/internal/demo"
)

var cluster *kit.Cluster

func TestMain(m *testing.M) { os.Exit(kit.Main(m.Run, kit.Options{}, &cluster)) }

type finding struct{ Area, Subject, Level, Message, Remedy string }

// examine runs the program and returns what it found and its exit status.
func examine(t *testing.T, binary string, args ...string) ([]finding, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, append([]string{"doctor", "--kubeconfig", cluster.Kubeconfig(), "-o", "json"}, args...)...)
	out, err := cmd.Output()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	var v struct{ Findings []finding }
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return v.Findings, cmd.ProcessState.ExitCode()
}

func find(fs []finding, area, level string, words ...string) error {
	for _, f := range fs {
		text := fmt.Sprint(f)
		all := f.Area == area && f.Level == level
		for _, w := range words {
			all = all && strings.Contains(text, w)
		}
		if all {
			return nil
		}
	}
	return fmt.Errorf("no finding %s %s with %q in %+v", area, level, words, fs)
}

// TestDoctor goes the way of an installation, and asks the doctor at every step.
func TestDoctor(t *testing.T) {
	ctx := t.Context()
	binary, err := product.Build(ctx, cluster.Dir())
	if err != nil {
		t.Fatal(err)
	}
	expect := func(step string, fs []finding, area, level string, words ...string) {
		t.Helper()
		if err := find(fs, area, level, words...); err != nil {
			t.Errorf("%s: %v", step, err)
		}
	}
	fs, status := examine(t, binary)
	expect("an empty cluster", fs, "cluster", "problem", "Verifier", "does not know this kind", "boltseal crds")
	expect("an empty cluster", fs, "configuration", "problem", "no resource")
	expect("an empty cluster", fs, "replicas", "problem", "not there")
	expect("an empty cluster", fs, "permissions", "problem", "it may not")
	if status != 1 {
		t.Errorf("status %d", status)
	}

	if err := product.Install(ctx, cluster, binary); err != nil {
		t.Fatal(err)
	}
	d, err := demo.Start(demo.Options{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := cluster.Apply(ctx, string(d.Config)); err != nil {
		t.Fatal(err)
	}
	fs, _ = examine(t, binary, "--image", d.Image("signed"), "--image", d.Image("unsigned"))
	expect("resources without Boltseal", fs, "cluster", "problem", "have no status of their present version")
	expect("resources without Boltseal", fs, "configuration", "ok", "4 resources of 4")
	expect("resources without Boltseal", fs, "certificates", "ok", "release-roots")
	expect("resources without Boltseal", fs, "registries", "ok", d.Host+"/demo/app")
	expect("resources without Boltseal", fs, "images", "ok", "signed", "trusted")
	expect("resources without Boltseal", fs, "images", "problem", "nothing signed")
	expect("resources without Boltseal", fs, "webhooks", "warning", "not enforced")
	expect("resources without Boltseal", fs, "permissions", "ok")

	s, err := product.Start(ctx, cluster, binary, product.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(d.Config), "- release-roots", "- release-root", 1)
	if err := cluster.Apply(ctx, broken); err != nil {
		t.Fatal(err)
	}
	deadline, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for {
		fs, status = examine(t, binary)
		err := find(fs, "configuration", "problem", "Verifier verifier-notation", "release-root", "did you mean")
		if err == nil && find(fs, "cluster", "problem", "have no status") != nil {
			break
		}
		if deadline.Err() != nil {
			t.Fatalf("a broken edit: %v", fs)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if status != 1 {
		t.Errorf("status %d", status)
	}
}
