package credential

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestKeptConfigurationChangesNothing: after any edit of the docker configuration file,
// of the same length and within the same moment too, a source that has read it before
// says what one says that has not.
func TestKeptConfigurationChangesNothing(t *testing.T) {
	t.Parallel()
	const seed = 4
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's
	path := filepath.Join(t.TempDir(), "config.json")
	registries := []string{"a.example", "b.example", "docker.io", "c.example"}
	var entries map[string]string
	write := func() {
		text := `{"auths":{`
		for i, name := range registries[:3] {
			if i > 0 {
				text += ","
			}
			text += fmt.Sprintf("%q:%s", name, entries[name])
		}
		text += "}}"
		if r.IntN(8) == 0 {
			text = "{" // broken
		}
		switch r.IntN(3) {
		case 0: // another file in its place, as a Secret's
			if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
		case 1:
			_ = os.Remove(path)
			if r.IntN(3) == 0 {
				return
			}
			fallthrough
		default:
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	draw := func() string {
		return []string{`{"auth":"` + auth("u", fmt.Sprint("p", r.IntN(4))) + `"}`, `{"identitytoken":"t` + fmt.Sprint(r.IntN(4)) + `"}`, `{}`}[r.IntN(3)]
	}
	kept := NewDocker(DockerOptions{Path: path, Getenv: func(string) string { return "" }})
	seen := map[string]bool{}
	for step := range 300 {
		if entries == nil || r.IntN(2) == 0 {
			entries = map[string]string{}
			for _, name := range registries {
				entries[name] = draw()
			}
			write()
		}
		host := registries[r.IntN(len(registries))]
		ask := func(d *Docker) string {
			c, err := d.Credential(t.Context(), host, "team/app")
			return fmt.Sprintf("%+v %v", c, err)
		}
		want, got := ask(NewDocker(DockerOptions{Path: path, Getenv: func(string) string { return "" }})), ask(kept)
		if got != want {
			t.Fatalf("seed %d, step %d, %s: %s, and read anew %s", seed, step, host, got, want)
		}
		seen[want] = true
	}
	if len(seen) < 6 {
		t.Errorf("all are alike: %v", seen)
	}
}
