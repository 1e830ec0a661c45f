// Command kit builds the control plane of the end-to-end tests and runs one to play with.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/boltseal/boltseal/e2e/background"
	"github.com/boltseal/boltseal/e2e/binaries"
	"github.com/boltseal/boltseal/e2e/kit"
)

const usage = `usage: kit COMMAND

  build             build etcd, kube-apiserver, kube-controller-manager, kubectl and Gatekeeper, unless cached
  path              print the folder that holds them (exit status 1 if something is not built)
  versions          print their versions
  prune             remove the builds of other versions
  up [flags]        run a control plane until interrupted; -d leaves it running in the background
     -d             return when it is ready
     -dir DIR       keep its data, keys and logs in DIR (default: cluster in the cache folder)
     -port PORT     the apiserver's port on 127.0.0.1 (default: a free one)
     -gatekeeper    with Gatekeeper
  down [-dir DIR]   stop the one in the background
`

// errUsage means that the arguments are wrong.
var errUsage = errors.New("wrong usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprintf(os.Stderr, "kit: %v\n%s", err, usage)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "kit:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: no command", errUsage)
	}
	o := binaries.Options{Progress: os.Stderr}
	switch args[0] {
	case "build":
		set, err := binaries.Build(ctx, o)
		if err == nil {
			fmt.Println(set.Dir)
		}
		return err
	case "path":
		set, ok, err := binaries.Cached(ctx, o)
		if err == nil && !ok {
			err = fmt.Errorf("%s is not complete; run `kit build`", set.Dir)
		}
		if err == nil {
			fmt.Println(set.Dir)
		}
		return err
	case "versions":
		versions, err := binaries.Versions()
		for _, name := range slices.Sorted(maps.Keys(versions)) {
			fmt.Println(name, versions[name])
		}
		return err
	case "prune":
		removed, err := binaries.Prune(ctx, o)
		for _, path := range removed {
			fmt.Println("removed", path)
		}
		return err
	case "up":
		return up(ctx, args[1:])
	case "down":
		return down(ctx, args[1:])
	case "help", "-h", "-help", "--help":
		fmt.Print(usage)
		return nil
	default:
		return fmt.Errorf("%w: unknown command %q", errUsage, args[0])
	}
}

// upFlags are the flags of up and down.
type upFlags struct {
	detach, gatekeeper bool
	dir                string
	port               int
}

func parseUp(name string, args []string) (upFlags, error) {
	var f upFlags
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.Usage = func() {}
	fs.SetOutput(io.Discard)
	fs.StringVar(&f.dir, "dir", "", "folder for data, keys and logs")
	if name == "up" {
		fs.BoolVar(&f.detach, "d", false, "leave it running in the background")
		fs.BoolVar(&f.gatekeeper, "gatekeeper", false, "with Gatekeeper")
		fs.IntVar(&f.port, "port", 0, "the apiserver's port")
	}
	if err := fs.Parse(args); err != nil {
		return f, fmt.Errorf("%w: %w", errUsage, err)
	}
	if fs.NArg() > 0 {
		return f, fmt.Errorf("%w: %s takes only flags, not %q", errUsage, name, fs.Args())
	}
	if f.dir == "" {
		cache, err := binaries.DefaultCacheDir()
		if err != nil {
			return f, err
		}
		f.dir = filepath.Join(cache, "cluster")
	}
	dir, err := filepath.Abs(f.dir)
	f.dir = dir
	return f, err
}

func up(ctx context.Context, args []string) error {
	f, err := parseUp("up", args)
	if err != nil {
		return err
	}
	if f.detach {
		// The build's progress belongs on the terminal, so it comes before.
		if _, err := binaries.Build(ctx, binaries.Options{Progress: os.Stderr}); err != nil {
			return err
		}
		if err := os.MkdirAll(f.dir, 0o700); err != nil {
			return err
		}
		again := []string{"up", "-dir=" + f.dir, fmt.Sprintf("-port=%d", f.port), fmt.Sprintf("-gatekeeper=%t", f.gatekeeper)}
		return background.Launch(ctx, again, filepath.Join(f.dir, "kit.log"), os.Stdout)
	}
	out, err := background.FromLauncher()
	if err != nil {
		return err
	}
	begin := time.Now()
	cluster, err := kit.Start(ctx, kit.Options{Dir: f.dir, APIServerPort: f.port})
	if err != nil {
		return err
	}
	if f.gatekeeper {
		if _, err := cluster.StartGatekeeper(ctx, kit.GatekeeperOptions{}); err != nil {
			return errors.Join(err, cluster.Stop())
		}
	}
	fmt.Fprintf(out, `# ready after %s; logs in %s
export KUBECONFIG=%s
export PATH=%s:$PATH
`, time.Since(begin).Round(100*time.Millisecond), filepath.Dir(cluster.LogFile("any")), cluster.Kubeconfig(), filepath.Dir(cluster.Kubectl()))
	if err := out.Ready(); err != nil {
		return errors.Join(err, cluster.Stop())
	}
	return errors.Join(cluster.Wait(ctx), cluster.Stop())
}

func down(ctx context.Context, args []string) error {
	f, err := parseUp("down", args)
	if err != nil {
		return err
	}
	was, err := kit.StopDir(ctx, f.dir)
	if err == nil && !was {
		fmt.Fprintln(os.Stderr, "no cluster runs in", f.dir)
	}
	return err
}
