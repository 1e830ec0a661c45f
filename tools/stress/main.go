// Command stress runs the unit tests many times under the race detector while other work keeps the machine busy, and then
// the end-to-end tests once. A verdict that depends on how fast the machine is shows here.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	r := runner{out: os.Stdout}
	flag.StringVar(&r.goCommand, "go", "go", "the go `command`")
	flag.StringVar(&r.dir, "dir", ".", "the module's `folder`")
	flag.StringVar(&r.logs, "logs", "dist/stress", "`folder` for the output of packages that fail")
	flag.IntVar(&r.count, "count", 10, "how many times each test runs")
	flag.IntVar(&r.procs, "procs", 2, "GOMAXPROCS of the tests")
	packages := flag.String("packages", "./...", "the packages, as for go test, separated by spaces; empty is none")
	busy := flag.Int("busy", 6, "how many busy loops run beside the tests")
	e2e := flag.String("e2e", "", "`folder` of the end-to-end tests; empty leaves them out")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failures, err := stressAll(ctx, r, strings.Fields(*packages), *busy, *e2e)
	if err != nil {
		fmt.Fprintln(os.Stderr, "stress:", err)
	}
	if err != nil || failures > 0 {
		os.Exit(1)
	}
}

// stressAll runs the packages one after the other and returns how many failures there were. An error means that not all ran.
func stressAll(ctx context.Context, r runner, packages []string, busy int, e2e string) (int, error) {
	bins, err := os.MkdirTemp("", "boltseal-stress-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(bins)
	pkgs, err := r.withTests(ctx, packages)
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(r.out, "%d packages, each test %d times under the race detector, GOMAXPROCS=%d, %d busy loops beside it\n", len(pkgs), r.count, r.procs, busy)
	begin := time.Now()
	failures := 0
	for _, p := range pkgs {
		bin := bins + "/stressed.test"
		if err := r.build(ctx, p, bin); err != nil { // without the noise: it is not what is tested
			return failures, err
		}
		quiet := startNoise(busy)
		res := r.run(ctx, p, bin)
		quiet()
		if ctx.Err() != nil {
			return failures, ctx.Err()
		}
		failures += res.failures
		if err := r.tell(res); err != nil {
			return failures, err
		}
	}
	if e2e != "" {
		quiet := startNoise(busy)
		res := r.runOnce(ctx, e2e)
		quiet()
		if ctx.Err() != nil {
			return failures, ctx.Err()
		}
		failures += res.failures
		if err := r.tell(res); err != nil {
			return failures, err
		}
	}
	fmt.Fprintf(r.out, "%d failures after %s\n", failures, time.Since(begin).Round(time.Second))
	return failures, nil
}
