package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// hang is how long one run of a package may take in the noise: only a hang takes longer.
const hang = 15 * time.Minute

// pkg is a package with tests.
type pkg struct{ path, dir string }

// result is what the runs of a package showed.
type result struct {
	name     string
	failures int
	tests    []string // each name as often as it failed
	took     time.Duration
	output   []byte
}

// runner runs packages.
type runner struct {
	goCommand string
	dir       string
	logs      string
	count     int
	procs     int
	beside    int // packages at a time; 0 = 1
	out       io.Writer
}

func (r runner) command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	return cmd
}

// withTests lists the packages of the module in dir that have tests, in the order that `go list` gives.
func (r runner) withTests(ctx context.Context, dir string, patterns []string) ([]pkg, error) {
	if len(patterns) == 0 {
		return nil, nil
	}
	args := []string{"list", "-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}\t{{.Dir}}{{end}}"}
	cmd := r.command(ctx, dir, r.goCommand, append(args, patterns...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var pkgs []pkg
	for line := range strings.Lines(string(out)) {
		if path, dir, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			pkgs = append(pkgs, pkg{path, dir})
		}
	}
	if len(pkgs) == 0 {
		return nil, fmt.Errorf("no package of %q has tests", patterns)
	}
	return pkgs, nil
}

func (r runner) build(ctx context.Context, p pkg, bin string) error {
	out, err := r.command(ctx, r.dir, r.goCommand, "test", "-race", "-c", "-o", bin, p.path).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s does not build: %w\n%s", p.path, err, out)
	}
	return nil
}

func (r runner) run(ctx context.Context, p pkg, bin string) result {
	cmd := r.command(ctx, p.dir, bin, fmt.Sprintf("-test.count=%d", r.count), fmt.Sprintf("-test.timeout=%s", time.Duration(r.count)*hang), "-test.paniconexit0")
	return r.observe(p.path, cmd)
}

// runOnce runs the tests of a package once, as `go test` does.
func (r runner) runOnce(ctx context.Context, p pkg) result {
	return r.observe(p.path, r.command(ctx, p.dir, r.goCommand, "test", "-count=1", "-timeout=1h", "."))
}

func (r runner) observe(name string, cmd *exec.Cmd) result {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Env = append(os.Environ(), fmt.Sprintf("GOMAXPROCS=%d", r.procs))
	start := time.Now()
	err := cmd.Run()
	res := result{name: name, took: time.Since(start), output: out.Bytes()}
	if err != nil {
		res.tests = failedTests(out.Bytes())
		res.failures = max(1, len(res.tests)) // a panic or a hang ends the program without naming a test
		res.output = fmt.Appendf(res.output, "%v\n", err)
	}
	return res
}

var failure = regexp.MustCompile(`(?m)^--- FAIL: (\S+)`)

// failedTests returns the tests that failed, as often as they did; subtests belong to their test.
func failedTests(output []byte) []string {
	var names []string
	for _, m := range failure.FindAllSubmatch(output, -1) {
		names = append(names, string(m[1]))
	}
	return names
}

// tell prints one line of the result and keeps the output of a failure in a file.
func (r runner) tell(res result) error {
	if res.failures == 0 {
		_, err := fmt.Fprintf(r.out, "ok    %-70s %s\n", res.name, res.took.Round(time.Second))
		return err
	}
	if err := os.MkdirAll(r.logs, 0o755); err != nil {
		return err
	}
	log := filepath.Join(r.logs, strings.ReplaceAll(res.name, "/", "_")+".log")
	if err := os.WriteFile(log, res.output, 0o644); err != nil {
		return err
	}
	_, err := fmt.Fprintf(r.out, "FAIL  %-70s %s  %d failures: %s; output in %s\n", res.name, res.took.Round(time.Second), res.failures, strings.Join(res.tests, " "), log)
	return err
}
