// Command boltseal says whether container images are trusted, and why.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/boltseal/boltseal/internal/cli"
	"github.com/boltseal/boltseal/internal/cli/frame"
)

// Set by the linker.
var version, commit string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	code := cli.Main(ctx, frame.Env{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv,
		Version: version, Commit: commit,
	})
	os.Exit(code)
}
