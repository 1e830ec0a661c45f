package governcli

import (
	"strings"
	"testing"
)

// TestNamesAreCompleted: a shell is offered what exists in the cluster, beside what is built in; a cluster that does not
// answer costs a moment and offers nothing.
func TestNamesAreCompleted(t *testing.T) {
	c := newCLI(t)
	c.ok("crds", "apply", "--kubeconfig", cluster.Kubeconfig())
	c.ok("cluster", "register", "--name", "completed-fra1", "--scope", "/completed")
	c.ok("policy", "assignment", "create", "--name", "completed-images", "-d", "image-integrity", "--scope", "/completed")
	defer func() {
		c.ok("policy", "assignment", "delete", "--name", "completed-images")
		c.ok("cluster", "unregister", "--name", "completed-fra1")
	}()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"cluster", "show", "--name", ""}, "completed-fra1"},
		{[]string{"compliance", "--cluster", "completed"}, "completed-fra1"},
		{[]string{"policy", "assignment", "show", "-n", ""}, "completed-images"},
		{[]string{"policy", "exemption", "create", "-a", ""}, "completed-images"},
		{[]string{"policy", "assignment", "create", "-d", ""}, "image-integrity"},
		{[]string{"audit", "--namespace", ""}, "kube-system"},
	} {
		out := c.ok(append([]string{"__complete"}, tt.args...)...)
		if !strings.Contains("\n"+out, "\n"+tt.want+"\n") || !strings.HasSuffix(strings.TrimSpace(out), ":4") {
			t.Errorf("%v: %q, want %s", tt.args, out, tt.want)
		}
	}
	if out := c.ok("__complete", "cluster", "show", "--kubeconfig", "/nowhere", "--name", ""); strings.TrimSpace(out) != ":4" {
		t.Errorf("%q", out)
	}
}
