package cli

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFilesBesideAKubeconfig: what a kubeconfig names is found beside it, wherever the
// program was started.
func TestFilesBesideAKubeconfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "config")
	text := `{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: "https://127.0.0.1:1", certificate-authority: ca.crt}}],
  contexts: [{name: c, context: {cluster: c, user: u}}], users: [{name: u, user: {tokenFile: token}}]}`
	for name, content := range map[string]string{"config": text, "ca.crt": "x", "token": "t"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := namedCluster("--kubeconfig", path)
	if err != nil || c.CAFile != filepath.Join(dir, "ca.crt") || c.BearerTokenFile != filepath.Join(dir, "token") {
		t.Errorf("%+v, %v", c, err)
	}
}
