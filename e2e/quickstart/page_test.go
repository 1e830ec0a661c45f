package quickstart

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/e2e/await"
)

// step is a block of commands of the page, and what the page says that they print.
type step struct {
	commands, prints string
}

// fails is whether the page shows that the last command is refused, or that an image is not trusted.
func (s step) fails() bool {
	return strings.Contains(s.prints, "Error from server") || strings.Contains(s.prints, ", 1 not trusted,")
}

// steps are a page's blocks of sh, each with the block of text that follows it.
func steps(t *testing.T, page string) []step {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	var out []step
	kind, block := "", ""
	for line := range strings.Lines(string(text)) {
		mark, isMark := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isMark && kind == "":
			kind, block = "other"+mark, ""
		case isMark && kind == "othersh":
			out, kind = append(out, step{commands: block}), ""
		case isMark && kind == "othertext":
			if len(out) == 0 || out[len(out)-1].prints != "" {
				t.Fatalf("output without commands:\n%s", block)
			}
			out[len(out)-1].prints, kind = block, ""
		case isMark:
			kind = ""
		default:
			block += line
		}
	}
	return out
}

// matches is whether a step has printed what the page shows: "…" is any text, alone in a line any lines, and how wide
// columns are is of no account.
func (s step) matches(out string) error {
	pattern := `(?s)^`
	for i, line := range strings.Split(strings.TrimSpace(s.prints), "\n") {
		if i > 0 {
			pattern += `\s*\n?`
		}
		for j, part := range strings.Split(strings.Join(strings.Fields(line), " "), "…") {
			if j > 0 {
				if strings.TrimSpace(line) == "…" {
					pattern += `.*`
				} else {
					pattern += `[^\n]*`
				}
			}
			pattern += strings.ReplaceAll(regexp.QuoteMeta(part), " ", `\s+`)
		}
	}
	if !regexp.MustCompile(pattern + `\s*$`).MatchString(strings.TrimSpace(out)) {
		return fmt.Errorf("the page shows\n%s\nand it printed\n%s", s.prints, out)
	}
	return nil
}

// user is somebody's shell: variables and the PATH last from step to step.
type user struct {
	folder string // where the commands run
	env    []string
}

// run runs a step, and says what it printed and whether its last command failed.
func (u *user) run(t *testing.T, s step) (string, error) {
	t.Helper()
	file := filepath.Join(scratch, "environment")
	cmd := exec.CommandContext(t.Context(), "bash", "-c", "set -o allexport\n"+s.commands+"\nstatus=$?; env -0 > "+file+"; exit $status")
	cmd.Dir, cmd.Env = u.folder, u.env
	out, err := cmd.CombinedOutput()
	env, readErr := os.ReadFile(file)
	if readErr != nil {
		t.Fatal(readErr)
	}
	u.env = strings.Split(strings.TrimSuffix(string(env), "\x00"), "\x00")
	return string(out), err
}

// TestPage goes through the page from the build to the removal, on one cluster.
func TestPage(t *testing.T) {
	u := &user{folder: root, env: environment()}
	for _, name := range []string{"notation.txt", "trust.yaml"} {
		t.Cleanup(func() { _ = os.Remove(filepath.Join(root, name)) })
	}
	all := steps(t, "quickstart.md")
	if len(all) < 15 {
		t.Fatalf("the page has %d steps", len(all))
	}
	for _, s := range all {
		if err := u.step(t, s); err != nil {
			t.Fatal(problems(err))
		}
	}
	if err := node.Problems(); err != nil {
		t.Error(err)
	}
}

// step runs a step. A replica reads a new policy a moment after it is made, so that somebody who is quicker tries a
// Pod again.
func (u *user) step(t *testing.T, s step) error {
	t.Helper()
	try := func() (ended, matches error) {
		out, err := u.run(t, s)
		t.Logf("$ %s%s", s.commands, out)
		if (err != nil) != s.fails() {
			return fmt.Errorf("it ended with status %v\n%s", err, out), nil
		}
		return nil, s.matches(out)
	}
	if !strings.HasPrefix(s.commands, "kubectl run") {
		ended, matches := try()
		if matches != nil {
			t.Error(matches)
		}
		return ended
	}
	await.Until(t, s.commands, func() error {
		err := errors.Join(try())
		if err != nil {
			_, _ = u.run(t, step{commands: "kubectl delete pod --ignore-not-found signed unsigned warned"})
		}
		return err
	})
	return nil
}
