package chart

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
)

// moduleFile reads a file of a module that this one requires.
func moduleFile(ctx context.Context, module string, path ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-json", module).Output()
	if err != nil {
		return "", err
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(out, &m); err != nil {
		return "", err
	}
	b, err := os.ReadFile(filepath.Join(append([]string{m.Dir}, path...)...))
	return string(b), err
}
