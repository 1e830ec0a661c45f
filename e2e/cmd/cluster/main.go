// Command cluster leaves a cluster to play with: a control plane, Gatekeeper, Boltseal and a registry with images.
package main

import (
	"context"
	"encoding/base64"
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
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/internal/demo"
)

const usage = `usage: cluster COMMAND [-dir DIR]

  up     start a cluster with Gatekeeper, Boltseal and a registry with images, and leave it running
  run    the same in the foreground, until interrupted
  down   stop it

DIR keeps its data, keys and logs; by default it is a folder in the user's cache.
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
	dir := fs.String("dir", "", "")
	if err := fs.Parse(args[1:]); err != nil || fs.NArg() > 0 {
		return fmt.Errorf("%w: %s takes -dir DIR only", errUsage, args[0])
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
		return up(ctx, folder)
	case "run":
		return serve(ctx, folder)
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
func up(ctx context.Context, dir string) error {
	// The build's progress belongs on the terminal, so it comes before.
	if _, err := binaries.Build(ctx, binaries.Options{Progress: os.Stderr}); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return background.Launch(ctx, []string{"run", "-dir=" + dir}, filepath.Join(dir, "cluster.log"), os.Stdout)
}

// serve runs everything until ctx ends.
func serve(ctx context.Context, dir string) (err error) {
	out, err := background.FromLauncher()
	if err != nil {
		return err
	}
	begin := time.Now()
	say := func(format string, a ...any) { fmt.Fprintf(out, format+"\n", a...) }
	say("# starting a control plane …")
	c, err := kit.Start(ctx, kit.Options{Dir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	d, err := demo.Start(demo.Options{Now: time.Now()})
	if err != nil {
		return err
	}
	defer d.Close()
	if err := install(ctx, c, d, say); err != nil {
		return err
	}
	say("# ready after %s; logs in %s\n", time.Since(begin).Round(100*time.Millisecond), filepath.Dir(c.LogFile("any")))
	say("%s", try(c, d))
	if err := out.Ready(); err != nil {
		return err
	}
	return c.Wait(ctx)
}

// install puts Gatekeeper and Boltseal into the cluster, as a user would.
func install(ctx context.Context, c *kit.Cluster, d *demo.Demo, say func(string, ...any)) error {
	ctx, cancel := context.WithTimeout(ctx, installTimeout)
	defer cancel()
	say("# building Boltseal …")
	binary, err := product.Build(ctx, c.Dir())
	if err != nil {
		return err
	}
	say("# starting Gatekeeper and Boltseal …")
	if err := product.Install(ctx, c, binary); err != nil {
		return err
	}
	gk, err := c.StartGatekeeper(ctx, kit.GatekeeperOptions{AuditInterval: 10 * time.Second, FailurePolicy: "Fail"})
	if err != nil {
		return err
	}
	s, err := product.Start(ctx, c, binary, product.Options{ClientCA: gk.ClientCA()})
	if err != nil {
		return err
	}
	if err := s.Ready(ctx); err != nil {
		return err
	}
	if err := c.Apply(ctx, string(d.Config)); err != nil {
		return err
	}
	root, err := product.Root(ctx)
	if err != nil {
		return err
	}
	docs := []string{fmt.Sprintf(`
apiVersion: externaldata.gatekeeper.sh/v1beta1
kind: Provider
metadata: {name: ratify-provider}
spec: {url: %s/ratify/gatekeeper/v1/verify, timeout: 3, caBundle: %s}
`, s.URL, base64.StdEncoding.EncodeToString(s.CA))}
	for _, name := range []string{"template.yaml", "constraint.yaml"} {
		b, err := os.ReadFile(filepath.Join(root, "charts", "boltseal", "gatekeeper", name))
		if err != nil {
			return err
		}
		docs = append(docs, strings.Replace(string(b), "allowTags: false", "allowTags: true", 1)) // Gatekeeper does not mutate here
	}
	return gk.Apply(ctx, docs...)
}

// try is what to type next.
func try(c *kit.Cluster, d *demo.Demo) string {
	return strings.NewReplacer("KUBECONFIG_FILE", c.Kubeconfig(), "BIN", filepath.Dir(c.Kubectl()), "BOLTSEAL", c.Dir(),
		"SIGNED", d.Image("signed"), "STRANGER", d.Image("stranger"), "PLAIN", d.Image("unsigned")).Replace(`export KUBECONFIG=KUBECONFIG_FILE PATH=BIN:BOLTSEAL:$PATH

# signed by the release team: it runs (there is no node, so it stays Pending)
kubectl run demo-signed --image=SIGNED
# signed by nobody, and by somebody unknown: denied, with what to do
kubectl run demo-unsigned --image=PLAIN
kubectl run demo-stranger --image=STRANGER
# what decides
kubectl get keymanagementproviders,stores,verifiers
kubectl describe verifier verifier-notation
kubectl explain imageintegritypolicy.spec
# what Gatekeeper's audit found
kubectl get boltsealtrustedimages only-trusted-images -o yaml

# stop it: make cluster-down`)
}
