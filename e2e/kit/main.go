package kit

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Main is the body of a test package's TestMain: it starts a cluster, sets *cluster, runs the tests (testing.M's
// Run) and stops the cluster. It returns the exit status for os.Exit; a cluster that does not start, or does not
// stop in good order, fails the package.
//
// When the tests panic or time out, this process ends without Stop: the kernel then kills the cluster's processes
// (on Linux), and the next cluster's start removes its folder.
func Main(run func() int, o Options, cluster **Cluster) int {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	c, err := Start(ctx, o)
	// From here on an interrupt ends the process as usual.
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e kit:", err)
		return 1
	}
	*cluster = c
	status := run()
	if err := c.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e kit:", err)
		return max(status, 1)
	}
	return status
}
