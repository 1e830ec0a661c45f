package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// target is a fuzz function; pkg is its package's folder below the module, with a slash between.
type target struct{ pkg, name string }

func (t target) String() string { return t.pkg + "." + t.name }

var declaration = regexp.MustCompile(`(?m)^func (Fuzz[A-Za-z0-9_]*)\(\w+ \*testing\.F\)`)

// findTargets returns the fuzz functions of the module in dir, without those of modules inside it.
func findTargets(dir string) ([]target, error) {
	var found []target
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path == dir {
				return nil
			}
			_, err := os.Stat(filepath.Join(path, "go.mod"))
			if err == nil || strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, filepath.Dir(path))
		for _, m := range declaration.FindAllSubmatch(text, -1) {
			found = append(found, target{filepath.ToSlash(rel), string(m[1])})
		}
		return err
	})
	slices.SortFunc(found, func(a, b target) int { return strings.Compare(a.String(), b.String()) })
	return found, err
}

// runner runs targets.
type runner struct {
	goCommand string
	dir       string
	time      time.Duration
	minimize  string
}

// build compiles the package's tests, instrumented for fuzzing, so that what a target costs is not the compiler's.
func (r runner) build(ctx context.Context, pkg, bin string) error {
	cmd := r.command(ctx, r.goCommand, "test", "-c", "-fuzz=.", "-o", bin, "./"+pkg)
	cmd.Dir = r.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s does not build: %w\n%s", pkg, err, out)
	}
	return nil
}

// run fuzzes one target. A target that finds a fault is a result; an error means that nothing could be learnt.
func (r runner) run(ctx context.Context, t target, bin string) (result, error) {
	cache, err := r.cache(ctx, t.pkg)
	if err != nil {
		return result{}, err
	}
	cmd := r.command(ctx, bin, "-test.run=^$", "-test.fuzz=^"+t.name+"$", "-test.fuzztime="+r.time.String(),
		"-test.fuzzminimizetime="+r.minimize, "-test.fuzzcachedir="+cache, "-test.timeout=0", "-test.paniconexit0")
	cmd.Dir = filepath.Join(r.dir, filepath.FromSlash(t.pkg))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	before := readUsage()
	err = cmd.Run()
	if ctx.Err() != nil {
		return result{}, ctx.Err()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return result{}, err
	}
	return result{target: t, time: r.time, failed: err != nil, output: out.String(), execs: countExecs(out.Bytes()),
		share: readUsage().shareSince(before, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())}, nil
}

// cache is where `go test` keeps the inputs that it found interesting.
func (r runner) cache(ctx context.Context, pkg string) (string, error) {
	cmd := r.command(ctx, r.goCommand, "list", "./"+pkg)
	cmd.Dir = r.dir
	path, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go list %s: %w", pkg, err)
	}
	cmd = r.command(ctx, r.goCommand, "env", "GOCACHE")
	dir, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(dir)), "fuzz", filepath.FromSlash(strings.TrimSpace(string(path)))), nil
}

var progress = regexp.MustCompile(`(?m)^fuzz: elapsed: .*, execs: (\d+) `)

// countExecs reads the last line of progress; without one it is 0.
func countExecs(output []byte) int {
	all := progress.FindAllSubmatch(output, -1)
	if len(all) == 0 {
		return 0
	}
	n, err := strconv.Atoi(string(all[len(all)-1][1]))
	if err != nil {
		return 0
	}
	return n
}
