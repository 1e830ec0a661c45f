// Command parts runs the parts of `make test`: all of them, whatever fails, and says at the end which did.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// part is a target of the Makefile.
type part struct {
	target string
	does   string
	takes  string // on two idle cores
}

var parts = []part{
	{"lint", "format, module checksums, vet, staticcheck", "1 minute"},
	{"race", "every unit test under the race detector", "5 minutes"},
	{"e2e", "a real control plane and a real Gatekeeper", "15 minutes"},
}

const preamble = "Times are for two idle cores. The first run takes about 15 minutes more: it fills Go's caches and builds the control plane.\n" +
	"A part that fails does not keep the next one from running. `make check` is the quick loop.\n"

func main() {
	makeCommand := flag.String("make", "make", "the make `command`")
	dir := flag.String("dir", ".", "the Makefile's `folder`")
	failed := flag.String("failed", "", "`file` in it that gets the names of the parts that failed; without it they are told by the exit code")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := func(ctx context.Context, target string) error {
		cmd := exec.CommandContext(ctx, *makeCommand, "--no-print-directory", target)
		cmd.Dir = *dir
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		return cmd.Run()
	}
	names, err := runParts(ctx, os.Stdout, parts, run, time.Now)
	if err == nil && *failed != "" {
		err = writeNames(filepath.Join(*dir, *failed), names)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "make test:", err)
	}
	if err != nil || len(names) > 0 && *failed == "" {
		os.Exit(1)
	}
}

func writeNames(file string, names []string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(strings.Join(names, ", ")), 0o644)
}

// runParts runs all the parts in their order and returns the names of those that failed. An error means that it was
// stopped before the end.
func runParts(ctx context.Context, w io.Writer, parts []part, run func(context.Context, string) error, now func() time.Time) ([]string, error) {
	fmt.Fprintf(w, "make test runs %d parts, one after the other:\n", len(parts))
	for _, p := range parts {
		fmt.Fprintf(w, "  %-6s %-45s about %s\n", p.target, p.does, p.takes)
	}
	fmt.Fprint(w, preamble)
	var failed, all []string
	begin := now()
	for _, p := range parts {
		fmt.Fprintf(w, "\n== %s: %s\n", p.target, p.does)
		start := now()
		err := run(ctx, p.target)
		took := now().Sub(start).Round(time.Second)
		if ctx.Err() != nil {
			return failed, errors.New("stopped during " + p.target + ": the parts after it did not run")
		}
		verdict := "passed"
		if err != nil {
			verdict, failed = "FAILED", append(failed, p.target)
		}
		fmt.Fprintf(w, "== %s %s after %s\n", p.target, verdict, took)
		all = append(all, p.target)
	}
	took := now().Sub(begin).Round(time.Second)
	if len(failed) > 0 {
		fmt.Fprintf(w, "\n%d of %d parts failed after %s: %s\n", len(failed), len(all), took, strings.Join(failed, ", "))
	} else {
		fmt.Fprintf(w, "\nall parts passed after %s: %s\n", took, strings.Join(all, ", "))
	}
	return failed, nil
}
