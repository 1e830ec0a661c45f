// Command fuzz runs every fuzz target for a time and fails where one found a fault or made too few executions to mean anything.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"syscall"
	"text/tabwriter"
	"time"
)

// wanted is the number of executions that a target makes in wantedIn on two idle cores.
const (
	wanted   = 10_000
	wantedIn = 20 * time.Second
)

func main() {
	var r runner
	flag.StringVar(&r.goCommand, "go", "go", "the go `command`")
	flag.StringVar(&r.dir, "dir", ".", "the module's `folder`")
	flag.DurationVar(&r.time, "time", wantedIn, "how long each target runs")
	flag.StringVar(&r.minimize, "minimize", "50x", "the most executions (Nx) or the most time that go on making one interesting input smaller")
	only := flag.String("only", "", "run the targets that match this `regular expression`, of PACKAGE.TARGET")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := fuzzAll(ctx, r, *only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// fuzzAll runs the targets one after the other and reports whether each was fine. An error means that not all ran.
func fuzzAll(ctx context.Context, r runner, only string) (bool, error) {
	chosen, err := regexp.Compile(only)
	if err != nil {
		return false, err
	}
	targets, err := findTargets(r.dir)
	if err != nil {
		return false, err
	}
	var results []result
	built := map[string]string{} // package to its test binary
	bins, err := os.MkdirTemp("", "boltseal-fuzz-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(bins)
	for _, t := range targets {
		if !chosen.MatchString(t.String()) {
			continue
		}
		if built[t.pkg] == "" {
			bin := fmt.Sprintf("%s/%d.test", bins, len(built))
			if err := r.build(ctx, t.pkg, bin); err != nil {
				return false, err
			}
			built[t.pkg] = bin
		}
		res, err := r.run(ctx, t, built[t.pkg])
		if err != nil {
			return false, err
		}
		fmt.Println(res)
		if res.failed {
			fmt.Println(res.output)
		}
		results = append(results, res)
	}
	if len(results) == 0 {
		return false, fmt.Errorf("no fuzz target matches %q", only)
	}
	return report(results), nil
}

// report prints the table and the last line, and reports whether all targets were fine.
func report(results []result) bool {
	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "executions\tneeded\tof the machine\ttarget\t")
	faults, few := 0, 0
	for _, r := range results {
		fmt.Fprintf(w, "%d\t%d\t%.0f %%\t%s\t\n", r.execs, r.needed(), 100*r.share, r.target)
		if r.failed {
			faults++
		} else if r.tooFew() {
			few++
		}
	}
	w.Flush()
	fmt.Printf("%d targets, %d with a fault, %d with too few executions (needed: %d in %s of the whole machine)\n", len(results), faults, few, wanted, wantedIn)
	return faults+few == 0
}

func (r runner) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	return cmd
}
