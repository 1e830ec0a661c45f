package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

const flaky = `package m

import ("os"; "runtime"; "testing")

func TestEverySecondTime(t *testing.T) {
	t.Run("sub", func(t *testing.T) {
		if _, err := os.Stat("mark"); err == nil { os.Remove("mark"); t.Error("failed") } else { os.WriteFile("mark", nil, 0o600) }
	})
}

func TestProcessors(t *testing.T) { if runtime.GOMAXPROCS(0) != 2 { t.Error(runtime.GOMAXPROCS(0)) } }
`

func module(t *testing.T, name string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	files["go.mod"] = "module example.com/" + name + "\n\ngo 1.26.0\n"
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestFailuresAreCounted: five runs, of which the second and the fourth fail; a package that panics; one that is fine.
func TestFailuresAreCounted(t *testing.T) {
	dir := module(t, "m", map[string]string{
		"m_test.go":       flaky,
		"fine/m_test.go":  "package fine\n\nimport \"testing\"\n\nfunc TestFine(*testing.T) {}\n",
		"dies/m_test.go":  "package dies\n\nimport \"os\"\n\nimport \"testing\"\n\nfunc TestDies(*testing.T) { os.Exit(3) }\n",
		"empty/no_test.s": "",
		"empty/e.go":      "package empty\n",
	})
	bad := "package m\n\nimport \"testing\"\n\nfunc TestEnd(t *testing.T) { t.Error(\"end\") }\n"
	end := module(t, "e2e", map[string]string{"m_test.go": bad, "fine/m_test.go": "package fine\n", "other/m_test.go": bad})
	var out strings.Builder
	logs := filepath.Join(t.TempDir(), "logs")
	r := runner{goCommand: "go", dir: dir, logs: logs, count: 5, procs: 2, beside: 3, out: &out}
	before := runtime.NumGoroutine()
	failures, err := stressAll(t.Context(), r, []string{"./..."}, 2, end, []string{".", "./fine"})
	if err != nil || failures != 4 {
		t.Errorf("%d failures, %v\n%s", failures, err, out.String())
	}
	// waits: what waited for a process may still be ending, which a slow machine only makes longer
	for end := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
	}
	text := out.String()
	for _, want := range []string{"FAIL  example.com/m ", "2 failures: TestEverySecondTime TestEverySecondTime;", "ok    example.com/m/fine ", "FAIL  example.com/m/dies ", "FAIL  example.com/e2e ", "TestEnd;", "ok    example.com/e2e/fine "} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "4 failures after ") {
		t.Errorf("last line: %s", last)
	}
	for _, name := range []string{"example.com_m.log", "example.com_m_dies.log", "example.com_e2e.log"} {
		if b, err := os.ReadFile(filepath.Join(logs, name)); err != nil || len(b) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNothingToStressIsAnError(t *testing.T) {
	dir := module(t, "m", map[string]string{"m.go": "package m\n"})
	r := runner{goCommand: "go", dir: dir, logs: dir, count: 1, procs: 2, out: &strings.Builder{}}
	if _, err := stressAll(t.Context(), r, nil, 1, dir, nil); err == nil {
		t.Error("no package is named, no error")
	}
	if _, err := stressAll(t.Context(), r, []string{"./..."}, 1, dir, nil); err == nil {
		t.Error("no package with tests, no error")
	}
	if err := os.WriteFile(filepath.Join(dir, "m_test.go"), []byte("package m\n\nfunc broken("), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := stressAll(t.Context(), r, []string{"./..."}, 1, dir, nil); err == nil {
		t.Error("does not build, no error")
	}
}
