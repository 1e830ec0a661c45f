package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// envMain makes the test program be the command.
const envMain = "BOLTSEAL_E2E_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(envMain) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// kitCommand runs the command and returns what it printed and its exit status.
func kitCommand(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errOut strings.Builder
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), envMain+"=1")
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// TestUpAndDown shows that a cluster in the background survives the command that started it, that what is printed
// leads to it, and that it can be stopped.
func TestUpAndDown(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cluster")
	out, errOut, status := kitCommand(t, "up", "-d", "-dir", dir)
	t.Cleanup(func() { kitCommand(t, "down", "-dir", dir) })
	if status != 0 || !strings.Contains(out, "export KUBECONFIG="+filepath.Join(dir, "kubeconfig")) {
		t.Fatalf("status %d\n%s%s", status, out, errOut)
	}
	shell := exec.Command("/bin/sh", "-ec", out+"\nkubectl get namespace default -o name")
	if got, err := shell.CombinedOutput(); err != nil || strings.TrimSpace(string(got)) != "namespace/default" {
		t.Errorf("kubectl: %s, %v", got, err)
	}
	if _, errOut, status := kitCommand(t, "up", "-d", "-dir", dir); status == 0 || !strings.Contains(errOut, "another cluster runs in "+dir) {
		t.Errorf("a second cluster in the same folder: status %d\n%s", status, errOut)
	}
	if _, errOut, status := kitCommand(t, "down", "-dir", dir); status != 0 || errOut != "" {
		t.Errorf("down: status %d\n%s", status, errOut)
	}
	if err := exec.Command("/bin/sh", "-ec", out+"\nkubectl get namespace default --request-timeout=2s").Run(); err == nil {
		t.Error("it still answers")
	}
	if _, errOut, status := kitCommand(t, "down", "-dir", dir); status != 0 || !strings.Contains(errOut, "no cluster runs in "+dir) {
		t.Errorf("a second down: status %d\n%s", status, errOut)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{}, {"fly"}, {"up", "-no-such-flag"}, {"up", "argument"}, {"down", "-d"}} {
		if _, errOut, status := kitCommand(t, args...); status != 2 || !strings.Contains(errOut, "usage: kit COMMAND") {
			t.Errorf("%q: status %d\n%s", args, status, errOut)
		}
	}
	if out, _, status := kitCommand(t, "versions"); status != 0 || strings.Count(out, "\n") != 5 {
		t.Errorf("versions: status %d\n%s", status, out)
	}
}
