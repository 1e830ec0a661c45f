package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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

func command(t *testing.T, args ...string) (stdout, stderr string, status int) {
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

// playOn starts a playground, types what the command says one can type, and returns what that prints.
func playOn(t *testing.T, args ...string) (dir, printed string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "playground")
	out, errOut, status := command(t, append([]string{"up", "-dir", dir}, args...)...)
	t.Cleanup(func() { command(t, "down", "-dir", dir) })
	if status != 0 {
		log, _ := os.ReadFile(filepath.Join(dir, "cluster.log"))
		t.Fatalf("status %d\n%s%s%s", status, out, errOut, log)
	}
	got, err := exec.Command("/bin/sh", "-c", out).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, got)
	}
	return dir, string(got)
}

func has(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not in\n%s", w, text)
		}
	}
}

// TestPlayground: the list ends with doctor, audit and compliance, and each of them says that all is well.
func TestPlayground(t *testing.T) {
	dir, got := playOn(t)
	has(t, got, "pod/demo-signed created\n", `container "demo-unsigned": image 127.0.0.1:`, "is not trusted: nothing signed", `container "demo-stranger"`, "who is not trusted",
		"verifier.config.ratify.deislabs.io/verifier-notation", "EnforcementAction is deny", "kind: BoltsealTrustedImages", "0 wrong")
	endsWell(t, dir)
	if _, errOut, status := command(t, "up", "-dir", dir); status == 0 || !strings.Contains(errOut, "another cluster runs in "+dir) {
		t.Errorf("a second one: status %d\n%s", status, errOut)
	}
	if _, errOut, status := command(t, "down", "-dir", dir); status != 0 || errOut != "" {
		t.Errorf("down: status %d\n%s", status, errOut)
	}
	if _, errOut, status := command(t, "down", "-dir", dir); status != 0 || !strings.Contains(errOut, "no cluster runs in "+dir) {
		t.Errorf("a second down: status %d\n%s", status, errOut)
	}
}

// TestPlaygroundWithoutGatekeeper: its list ends as the other one, and boltseal demo shows a denial as kubectl prints it.
func TestPlaygroundWithoutGatekeeper(t *testing.T) {
	dir, got := playOn(t, "-gatekeeper=false")
	has(t, got, "pod/demo-signed created\n", `container "demo-unsigned": image 127.0.0.1:`, "nothing signed", `container "demo-stranger"`, "who is not trusted", "Decision ", "0 wrong")
	endsWell(t, dir)
	t.Log(got)
	demo, err := exec.Command(filepath.Join(dir, "boltseal"), "demo").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, demo)
	}
	if kubectl, shown := denial(t, got), denial(t, string(demo)); kubectl != shown {
		t.Errorf("kubectl prints of a denied Pod\n%s\nand boltseal demo shows\n%s", kubectl, shown)
	}
}

// endsWell asks what both lists end with, and each answer must be that all is well.
func endsWell(t *testing.T, dir string) {
	t.Helper()
	for _, verb := range []string{"doctor", "audit", "compliance"} {
		if !strings.Contains(endOfList, "\nboltseal "+verb) {
			t.Errorf("%s is not in the list", verb)
		}
		cmd := exec.Command(filepath.Join(dir, "boltseal"), verb)
		cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(dir, "kubeconfig"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("boltseal %s: %v\n%s", verb, err, out)
		}
	}
}

// denial is the first denial of the Pod demo-unsigned in a text, without what differs between two runs: the registry's
// port, the decision's number, and how far the lines are indented.
func denial(t *testing.T, text string) string {
	t.Helper()
	for _, part := range strings.Split(text, "Error from server")[1:] {
		if !strings.Contains(part, `container "demo-unsigned"`) {
			continue
		}
		var lines []string
		for _, line := range strings.Split("Error from server"+part, "\n") {
			if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "pod/") {
				break
			}
			lines = append(lines, varying.ReplaceAllString(line, "…"))
		}
		return strings.Join(lines, "\n")
	}
	t.Fatalf("no denial of demo-unsigned in\n%s", text)
	return ""
}

var varying = regexp.MustCompile(`127\.0\.0\.1:[0-9]+|\b[0-9a-f]{16}\b|sha256:[0-9a-f]+`)

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"fly"}, {"up", "-no-such-flag"}, {"down", "argument"}} {
		if _, errOut, status := command(t, args...); status != 2 || !strings.Contains(errOut, "usage: cluster COMMAND") {
			t.Errorf("%q: status %d\n%s", args, status, errOut)
		}
	}
}
