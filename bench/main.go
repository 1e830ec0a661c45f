// Command bench measures Boltseal: a registry to measure against, and the load.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := runCommand(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

const usage = `Usage:
  bench registry [flags]   serve signed images until interrupted
  bench verify [flags]     verify them with the engine and print what it cost
  bench load [flags]       put load on any server
  bench bare [flags]       answer as another server does, and do nothing else: the floor
  bench serve [flags]      measure 'boltseal serve' against the floor, row by row
  bench attack [flags]     attack 'boltseal serve', and measure what others notice and the memory
Run each with -h for its flags.`

func runCommand(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%s", usage)
	}
	fs := flag.NewFlagSet(args[0], flag.ExitOnError)
	switch args[0] {
	case "registry":
		return serveRegistry(ctx, fs, args[1:])
	case "verify":
		return measureVerify(ctx, fs, args[1:])
	case "load":
		return loadAny(ctx, fs, args[1:])
	case "bare":
		return serveBare(ctx, fs, args[1:])
	case "serve":
		return measureServe(ctx, fs, args[1:])
	case "attack":
		return runAttack(ctx, fs, args[1:])
	case "attacker": // a part of attack
		return runAttacker(ctx, fs, args[1:])
	}
	return fmt.Errorf("%s", usage)
}
