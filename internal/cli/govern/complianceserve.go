package govern

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/spf13/cobra"

	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/governance/overview"
	"github.com/boltseal/boltseal/internal/governance/page"
	"github.com/boltseal/boltseal/internal/governance/pageserver"
	"github.com/boltseal/boltseal/internal/serve/service"
)

func newComplianceServe(env frame.Env) *cobra.Command {
	var f struct {
		hub    hubFlags
		listen string
	}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Show compliance in a browser on this machine",
		Long: `Show compliance as pages in a browser on this machine: from assignments to clusters,
their namespaces and images by links, with reasons, what to do and what would be
denied. The pages are read with your own kubeconfig, and show what you may read.

Everybody who can open connections on this machine sees what you may read, as with
'kubectl proxy': on a machine that you share, use 'boltseal compliance -o html'.`,
		Example: `    boltseal compliance serve
    boltseal compliance serve --listen 127.0.0.1:9000 --context hub`,
		Args: frame.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, ok := service.OnLoopback(f.listen); !ok {
				return frame.BadUsage(cmd, "--listen %s is not on this machine alone: choose 127.0.0.1:PORT", frame.SafeText(f.listen))
			}
			h, err := f.hub.open(env)
			if err != nil {
				return err
			}
			return serveCompliance(cmd.Context(), env, h, f.listen)
		},
	}
	cmd.Flags().StringVar(&f.listen, "listen", "127.0.0.1:8095", "`ADDRESS` of this machine; port 0 is any free one")
	f.hub.register(cmd)
	return cmd
}

func serveCompliance(ctx context.Context, env frame.Env, h *hub, listen string) error {
	log, err := frame.NewLogger(env.Stderr, "text", "warn")
	if err != nil {
		return err
	}
	var once sync.Once
	read := func(ctx context.Context) (page.Input, error) {
		in, missing, err := h.pageInput(ctx, overview.Filter{})
		if missing != nil {
			once.Do(func() { log.Warn("the page has no what-ifs", "error", missing) })
		}
		return in, err
	}
	// What cannot be read at all is said here rather than in a browser.
	if _, err := read(ctx); err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	at, ok := l.Addr().(*net.TCPAddr)
	if !ok || !at.IP.IsLoopback() {
		return errors.Join(fmt.Errorf("--listen %s leads to %s, which is not on this machine alone: choose 127.0.0.1:PORT", listen, l.Addr()), l.Close())
	}
	fmt.Fprintf(env.Stdout, "Open http://%s/ in a browser. Press Ctrl+C to end.\n", at)
	return pageserver.Serve(ctx, l, pageserver.New(pageserver.Options{Source: read, Port: at.Port, Log: log}))
}
