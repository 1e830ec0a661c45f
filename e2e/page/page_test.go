package page

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// run runs the next blocks of a section, and returns what they print.
func run(t *testing.T, blocks []string, n int) (string, []string) {
	t.Helper()
	if len(blocks) < n {
		t.Fatalf("the section has %d blocks left, want %d", len(blocks), n)
	}
	out, err := shell(t.Context(), strings.Join(blocks[:n], "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return out, blocks[n:]
}

func has(t *testing.T, out string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(out, w) {
			t.Errorf("no %q in\n%s", w, out)
		}
	}
}

// says waits until a command prints a word, whatever its exit status.
func says(t *testing.T, word, script string) {
	t.Helper()
	eventually(t, script+" says "+word, func() error {
		out, err := shell(t.Context(), script)
		if !strings.Contains(out, word) {
			return fmt.Errorf("%s: %w", out, err)
		}
		return nil
	})
}

// TestPage goes through the page from its beginning to "Disable", on one cluster.
func TestPage(t *testing.T) {
	page := commands(t)

	out, left := run(t, page["Before"], 2)
	has(t, out, "Registered", "nothing to do")
	if len(left) > 0 {
		t.Errorf("not run: %q", left)
	}

	_, left = run(t, page["Enable"], 1)
	out, left = run(t, left, 1)
	has(t, out, "remediation")
	if len(left) > 0 {
		t.Errorf("not run: %q", left)
	}
	says(t, "Succeeded", "boltseal policy remediation show -n remediation")
	says(t, "Compliant", "boltseal cluster list")

	blocks := page["Deploy"]
	out, left = run(t, blocks, 1)
	has(t, out, "demo-signed created", "demo-unsigned created") // the effect is Audit
	for name, image := range map[string]string{"demo-signed": signed, "demo-unsigned": unsigned} {
		if err := cluster.SetRunning(t.Context(), "default", name, map[string]string{name: image}); err != nil {
			t.Fatal(err)
		}
	}
	says(t, "NonCompliant", "boltseal compliance")
	says(t, repo, "boltseal compliance --by image")

	if _, left = run(t, left, 1); len(left) > 0 {
		t.Errorf("not run: %q", left)
	}
	says(t, "denied the request", "kubectl run demo-denied --image=${UNSIGNED_IMAGE} --dry-run=server")
	if out, err := shell(t.Context(), "kubectl run demo-again --image=${SIGNED_IMAGE}"); err != nil {
		t.Error(out, err)
	}

	if _, left = run(t, page["Disable"], 1); len(left) > 0 {
		t.Errorf("not run: %q", left)
	}
	eventually(t, "nothing is required any more", func() error {
		out, err := shell(t.Context(), "kubectl run demo-free --image=${UNSIGNED_IMAGE} --dry-run=server && kubectl get imageintegritypolicies")
		if err == nil && !strings.Contains(out, "No resources found") {
			err = errors.New(out)
		}
		return err
	})
	// The user's configuration stays.
	if out, err := shell(t.Context(), "kubectl get verifiers.config.ratify.deislabs.io -o name"); err != nil || !strings.Contains(out, "verifier-notary-inline") {
		t.Error(out, err)
	}
}
