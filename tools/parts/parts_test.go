package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

func TestAllPartsRunWhateverFails(t *testing.T) {
	t.Parallel()
	var clock time.Time
	now := func() time.Time { clock = clock.Add(time.Minute); return clock }
	for _, bad := range [][]string{nil, {"lint"}, {"race"}, {"lint", "e2e"}, {"lint", "race", "e2e"}} {
		var ran []string
		var out strings.Builder
		failed, err := runParts(t.Context(), &out, parts, func(_ context.Context, target string) error {
			ran = append(ran, target)
			if slices.Contains(bad, target) {
				return errors.New("exit status 2")
			}
			return nil
		}, now)
		if err != nil || !slices.Equal(failed, bad) {
			t.Errorf("failed: %q, %v, want %q", failed, err, bad)
		}
		if len(ran) != len(parts) {
			t.Errorf("%q failed: only %q ran", bad, ran)
		}
		last := lastLine(out.String())
		for _, name := range bad {
			if !strings.Contains(last, name) {
				t.Errorf("last line does not name %s: %s", name, last)
			}
		}
		if len(bad) == 0 && !strings.HasPrefix(last, "all parts passed") {
			t.Errorf("last line: %s", last)
		}
		head := strings.Join(strings.Split(out.String(), "\n")[:1+len(parts)], "\n")
		for _, p := range parts {
			if !strings.Contains(head, p.target) || !strings.Contains(head, p.takes) {
				t.Errorf("first lines say nothing of %s:\n%s", p.target, head)
			}
		}
	}
}

func TestInterruptEndsTheRun(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	ran := 0
	_, err := runParts(ctx, &strings.Builder{}, parts, func(context.Context, string) error {
		ran++
		cancel()
		return ctx.Err()
	}, time.Now)
	if err == nil || ran != 1 || !strings.Contains(err.Error(), parts[0].target) {
		t.Errorf("ran %d parts, %v", ran, err)
	}
}

func TestNamesAreWritten(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "new", "failed")
	for names, want := range map[string][]string{"lint, e2e": {"lint", "e2e"}, "": nil} {
		if err := writeNames(file, want); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != names {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// TestPartsAreTargets holds the table against the Makefile.
func TestPartsAreTargets(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if !strings.Contains(string(text), "\n"+p.target+":") {
			t.Errorf("the Makefile has no target %s", p.target)
		}
	}
}
