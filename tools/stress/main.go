// Command stress runs the unit tests many times under the race detector while other work keeps the machine busy, and then
// the end-to-end tests once. A verdict that depends on how fast the machine is shows here.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
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
	unit := flag.String("packages", "./...", "the packages, as for go test, separated by spaces; empty is none")
	flag.IntVar(&r.beside, "beside", 4, "how many packages run beside each other")
	busy := flag.Int("busy", 6, "how many busy loops run beside the tests")
	e2e := flag.String("e2e", "e2e", "`folder` of the end-to-end tests")
	endToEnd := flag.String("e2e-packages", "", "the end-to-end packages, as for go test, separated by spaces; empty is none")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failures, err := stressAll(ctx, r, strings.Fields(*unit), *busy, *e2e, strings.Fields(*endToEnd))
	if err != nil {
		fmt.Fprintln(os.Stderr, "stress:", err)
	}
	if err != nil || failures > 0 {
		os.Exit(1)
	}
}

// stressAll runs the unit tests, some packages beside each other, and then the end-to-end tests in the module of the
// folder e2e, and returns how many failures there were. An error means that not all ran.
func stressAll(ctx context.Context, r runner, unit []string, busy int, e2e string, endToEnd []string) (int, error) {
	unitPkgs, err := r.withTests(ctx, r.dir, unit)
	if err != nil {
		return 0, err
	}
	endPkgs, err := r.withTests(ctx, e2e, endToEnd)
	if err != nil {
		return 0, err
	}
	if len(unitPkgs)+len(endPkgs) == 0 {
		return 0, errors.New("no package is named")
	}
	fmt.Fprintf(r.out, "%d packages, %d beside each other, each test %d times under the race detector; then %d end-to-end packages once; GOMAXPROCS=%d, %d busy loops beside it\n",
		len(unitPkgs), r.beside, r.count, len(endPkgs), r.procs, busy)
	begin := time.Now()
	quiet := startNoise(busy)
	defer quiet()
	failures, err := r.runAll(ctx, unitPkgs)
	if err != nil {
		return failures, err
	}
	for _, p := range endPkgs {
		res := r.runOnce(ctx, p)
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

// runAll builds and runs packages, r.beside at a time, and prints the result of each as it comes.
func (r runner) runAll(ctx context.Context, pkgs []pkg) (failures int, err error) {
	bins, err := os.MkdirTemp("", "boltseal-stress-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(bins)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan pkg, len(pkgs))
	for _, p := range pkgs {
		queue <- p
	}
	close(queue)
	var telling sync.Mutex
	var workers sync.WaitGroup
	for i := range max(r.beside, 1) {
		bin := filepath.Join(bins, fmt.Sprintf("stressed%d.test", i))
		workers.Go(func() {
			for p := range queue {
				if err := r.build(ctx, p, bin); err != nil {
					cancel(err)
				}
				if ctx.Err() != nil {
					return
				}
				res := r.run(ctx, p, bin)
				if ctx.Err() != nil {
					return
				}
				telling.Lock()
				failures += res.failures
				err := r.tell(res)
				telling.Unlock()
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	workers.Wait()
	return failures, context.Cause(ctx)
}
