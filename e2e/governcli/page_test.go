package governcli

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestPageOfTheCallersOwn serves the page with the caller's kubeconfig, and writes the same as
// a file.
func TestPageOfTheCallersOwn(t *testing.T) {
	c := newCLI(t)
	c.ok("crds", "apply")
	c.ok("cluster", "register", "-n", "fra1", "--scope", "/emea/prod")
	c.ok("policy", "assignment", "create", "-n", "watch", "--policy-set-definition", "image-integrity", "--scope", "/emea")
	reported(t, "fra1")
	out, _, status := c.run("compliance", "-o", "html")
	c.has(out, "<!DOCTYPE html>", "Nothing is known of ", `href="#cluster=fra1"`)
	if status != 2 {
		t.Errorf("status %d, and nothing is known", status)
	}

	cmd := exec.CommandContext(t.Context(), binary, "compliance", "serve", "--listen", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+cluster.Kubeconfig())
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	_, url, _ := strings.Cut(line, "Open ")
	url, _, _ = strings.Cut(url, " ")
	resp, err := http.Get(url + "?cluster=fra1")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %v %s", resp.StatusCode, err, body)
	}
	c.has(string(body), "<!DOCTYPE html>", "Nothing is known of this cluster now")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it did not end well: %v", err)
	}
	c.ok("policy", "assignment", "delete", "watch")
}
