package input

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/cli/frame"
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
	c, err := NamedCluster("--kubeconfig", path)
	if err != nil || c.CAFile != filepath.Join(dir, "ca.crt") || c.BearerTokenFile != filepath.Join(dir, "token") {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestEveryFileOfKUBECONFIGIsRead: a list of files is parted as the system parts lists, and completion knows the contexts that
// commands take.
func TestEveryFileOfKUBECONFIGIsRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var files []string
	for _, name := range []string{"one", "two"} {
		path := filepath.Join(dir, name)
		text := strings.ReplaceAll(`{apiVersion: v1, kind: Config, clusters: [{name: NAME, cluster: {server: "https://NAME.example"}}],
  contexts: [{name: NAME, context: {cluster: NAME, user: NAME}}], users: [{name: NAME, user: {token: t}}]}`, "NAME", name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, path)
	}
	env := frame.Env{Getenv: func(name string) string {
		return map[string]string{"KUBECONFIG": strings.Join(files, string(filepath.ListSeparator))}[name]
	}}
	if got := (Kubeconfig{}).Contexts(env); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("contexts: %v", got)
	}
	for _, name := range []string{"one", "two"} {
		c, err := Kubeconfig{Context: name}.Config(env)
		if err != nil || c.Host != "https://"+name+".example" {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	if got := (Kubeconfig{File: files[1]}).Contexts(env); !slices.Equal(got, []string{"two"}) {
		t.Errorf("a file that a flag names is not the only one that is read: %v", got)
	}
}
