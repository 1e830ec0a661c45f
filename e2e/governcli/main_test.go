// Package governcli tests the commands that govern clusters on a real API server.
package governcli

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/product"
)

var (
	cluster    *kit.Cluster
	build      sync.Once
	binary     string
	buildError error
)

func TestMain(m *testing.M) {
	os.Exit(kit.Main(m.Run, kit.Options{Controllers: []string{}}, &cluster))
}

// cli runs the program against the cluster.
type cli struct {
	t      *testing.T
	binary string
}

func newCLI(t *testing.T) cli {
	t.Helper()
	build.Do(func() { binary, buildError = product.Build(t.Context(), cluster.Dir()) })
	if err := buildError; err != nil {
		t.Fatal(err)
	}
	return cli{t, binary}
}

// run returns what is printed and the exit status.
func (c cli) run(args ...string) (stdout, stderr string, status int) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), c.binary, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+cluster.Kubeconfig())
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		c.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// ok runs what must succeed.
func (c cli) ok(args ...string) string {
	c.t.Helper()
	out, errs, status := c.run(args...)
	if status != 0 {
		c.t.Fatalf("boltseal %s: status %d\n%s%s", strings.Join(args, " "), status, out, errs)
	}
	return out
}

// fails runs what must fail and say words.
func (c cli) fails(words string, args ...string) {
	c.t.Helper()
	out, errs, status := c.run(args...)
	if status != 2 || !strings.Contains(errs, words) {
		c.t.Errorf("boltseal %s: status %d, want 2 and %q\n%s%s", strings.Join(args, " "), status, words, out, errs)
	}
}

// has checks what was printed.
func (c cli) has(out string, words ...string) {
	c.t.Helper()
	for _, w := range words {
		if !strings.Contains(out, w) {
			c.t.Errorf("no %q in\n%s", w, out)
		}
	}
}

func decode[T any](t *testing.T, out string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return v
}
