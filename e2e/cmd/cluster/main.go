// Command cluster leaves a cluster to play with: a control plane, Gatekeeper, Boltseal and a registry with images.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/boltseal/boltseal/e2e/background"
	"github.com/boltseal/boltseal/e2e/binaries"
	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/machine"
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/internal/demo"
)

const usage = `usage: cluster COMMAND [-dir DIR] [-gatekeeper=false]

  up     start a cluster with Gatekeeper, Boltseal and a registry with images, and leave it running
  run    the same in the foreground, until interrupted
  down   stop it

DIR keeps its data, keys and logs; by default it is a folder in the user's cache. Without Gatekeeper, Boltseal's own
webhook refuses Pods.
`

// installTimeout bounds what is installed into a cluster that runs.
const installTimeout = 2 * time.Minute

var errUsage = errors.New("wrong usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprintf(os.Stderr, "cluster: %v\n%s", err, usage)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: no command", errUsage)
	}
	fs := flag.NewFlagSet(args[0], flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	dir, gatekeeper := fs.String("dir", "", ""), fs.Bool("gatekeeper", true, "")
	if err := fs.Parse(args[1:]); err != nil || fs.NArg() > 0 {
		return fmt.Errorf("%w: %s takes -dir DIR and -gatekeeper=false only", errUsage, args[0])
	}
	if *dir == "" {
		cache, err := binaries.DefaultCacheDir()
		if err != nil {
			return err
		}
		*dir = filepath.Join(cache, "playground")
	}
	folder, err := filepath.Abs(*dir)
	if err != nil {
		return err
	}
	switch args[0] {
	case "up":
		return up(ctx, folder, *gatekeeper)
	case "run":
		return serve(ctx, folder, *gatekeeper)
	case "down":
		was, err := kit.StopDir(ctx, folder)
		if err == nil && !was {
			fmt.Fprintln(os.Stderr, "no cluster runs in", folder)
		}
		return err
	}
	return fmt.Errorf("%w: unknown command %q", errUsage, args[0])
}

// up leaves run in the background.
func up(ctx context.Context, dir string, gatekeeper bool) error {
	// The build's progress belongs on the terminal, so it comes before.
	if _, err := binaries.Build(ctx, binaries.Options{Progress: os.Stderr}); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return background.Launch(ctx, []string{"run", "-dir=" + dir, fmt.Sprintf("-gatekeeper=%t", gatekeeper)}, filepath.Join(dir, "cluster.log"), os.Stdout)
}

// playground is what runs.
type playground struct {
	*kit.Cluster
	demo       *demo.Demo
	network    *machine.Network
	gatekeeper bool
	say        func(format string, a ...any)
}

// serve runs everything until ctx ends.
func serve(ctx context.Context, dir string, gatekeeper bool) (err error) {
	out, err := background.FromLauncher()
	if err != nil {
		return err
	}
	begin := time.Now()
	p := playground{gatekeeper: gatekeeper, say: func(format string, a ...any) { fmt.Fprintf(out, format+"\n", a...) }}
	if p.network, err = machine.Reserve(); err != nil {
		return err
	}
	defer p.network.Release()
	p.say("# starting a control plane …")
	if p.Cluster, err = kit.Start(ctx, kit.Options{Dir: dir, APIServerArgs: p.network.APIServerArgs()}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	if p.demo, err = demo.Start(demo.Options{Now: time.Now()}); err != nil {
		return err
	}
	defer p.demo.Close()
	if err := p.install(ctx); err != nil {
		return err
	}
	p.say("# ready after %s; logs in %s\n", time.Since(begin).Round(100*time.Millisecond), filepath.Dir(p.LogFile("any")))
	p.say("%s", p.list())
	if err := out.Ready(); err != nil {
		return err
	}
	return p.Wait(ctx)
}

// install puts Boltseal into the cluster, as a user would.
func (p playground) install(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, installTimeout)
	defer cancel()
	if err := os.WriteFile(filepath.Join(p.Dir(), "trust.yaml"), p.demo.Config, 0o600); err != nil {
		return err
	}
	p.say("# building Boltseal …")
	binary, err := product.Build(ctx, p.Dir())
	if err != nil {
		return err
	}
	if p.gatekeeper {
		return p.withGatekeeper(ctx, binary)
	}
	return p.withWebhook(ctx, binary)
}

// list is what to type next.
func (p playground) list() string {
	end, about := webhookList, "it runs, by the digest that was verified"
	if p.gatekeeper {
		end, about = gatekeeperList, "it runs"
	}
	repository, _, _ := strings.Cut(p.demo.Image("signed"), ":signed")
	return strings.NewReplacer("KUBECONFIG_FILE", p.Kubeconfig(), "BIN", filepath.Dir(p.Kubectl()), "BOLTSEAL", p.Dir(), "REPOSITORY", repository, "ABOUT", about,
		"SIGNED", p.demo.Image("signed"), "STRANGER", p.demo.Image("stranger"), "PLAIN", p.demo.Image("unsigned")).Replace(commonList + end + `

# stop it: make cluster-down`)
}

const commonList = `export KUBECONFIG=KUBECONFIG_FILE PATH=BIN:BOLTSEAL:$PATH IMAGES=REPOSITORY TRUST=BOLTSEAL/trust.yaml

# what boltseal says without a cluster
boltseal verify --config $TRUST $IMAGES:signed $IMAGES:unsigned
# signed by the release team: ABOUT
kubectl run demo-signed --image=SIGNED
# signed by nobody, and by somebody unknown: denied, with what to do
kubectl run demo-unsigned --image=PLAIN
kubectl run demo-stranger --image=STRANGER
# what decides
kubectl get keymanagementproviders,stores,verifiers
kubectl describe verifier verifier-notation
kubectl explain imageintegritypolicy.spec
`
