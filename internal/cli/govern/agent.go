package govern

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/cli/input"
	"github.com/boltseal/boltseal/internal/governance/agent"
)

// The lease of the replica that acts.
const (
	agentLease         = "boltseal-agent"
	agentLeaseDuration = 15 * time.Second
	agentRenewDeadline = 10 * time.Second
	agentRetryPeriod   = 2 * time.Second
)

type agentFlags struct {
	from                input.ClusterFlags
	hub, hubSecret      string
	cluster, addOn      string
	exempt              []string
	metrics             string
	logFormat, logLevel string
}

func newAgent(env frame.Env) *cobra.Command {
	var f agentFlags
	cmd := &cobra.Command{
		Use:   "agent --hub-kubeconfig FILE --cluster NAME",
		Short: "Apply in this cluster what its hub requires",
		Long: `Apply in this cluster what the assignments at its hub require, and report the state to
the hub. It serves no requests, so it needs no Service and no webhook.
"boltseal serve --hub-kubeconfig" does the same beside serving; this is for clusters
that have no Boltseal yet, and for those where Gatekeeper alone denies.

It goes on without the hub: what was required last still applies. It only adds; what
somebody else has made is never changed or removed.

Where the hub says that the cluster is to have the add-on, it installs the manifests
of --add-on, and removes exactly these when the hub says so.

Every flag can be set by an environment variable too: --cluster is BOLTSEAL_CLUSTER.`,
		Example: `  At the hub, once:
    boltseal cluster register --name fra1 --scope /emea/production
    boltseal cluster kubeconfig --name fra1 > fra1.kubeconfig

  In the cluster:
    boltseal agent --hub-kubeconfig fra1.kubeconfig --cluster fra1 --in-cluster \
      --add-on boltseal.yaml`,
		GroupID: "serve",
		Args:    frame.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := frame.SetFromEnvironment(cmd.Flags(), env.Getenv); err != nil {
				return frame.UsageFailure(cmd, err)
			}
			return runAgent(cmd, env, f)
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&f.hub, "hub-kubeconfig", "", "`FILE` that names the hub cluster with the assignments")
	registerHubSecret(fl, &f.hubSecret)
	fl.StringVar(&f.cluster, "cluster", "", "`NAME` of this cluster at its hub")
	fl.StringVar(&f.from.Kubeconfig, "kubeconfig", "", "`FILE` that names this cluster")
	fl.BoolVar(&f.from.InCluster, "in-cluster", false, "this cluster is the one that this Pod runs in; the default in a Pod")
	fl.StringVar(&f.from.Namespace, "namespace", "", "Boltseal's own `NAMESPACE` in this cluster; default: the Pod's, or "+input.DefaultNamespace)
	fl.StringVar(&f.addOn, "add-on", "", "YAML `FILE` with what is installed where the hub says so, such as the release's boltseal.yaml")
	fl.StringSliceVar(&f.exempt, "exempt-namespaces", nil, "`NAMESPACES` that Gatekeeper never checks for assignments, in addition to kube-system and Boltseal's own")
	fl.StringVar(&f.metrics, "metrics-listen", "", "`ADDRESS` of /metrics and /healthz, plain HTTP; empty for none")
	fl.StringVar(&f.logFormat, "log-format", "text", "`FORMAT`: text or json")
	fl.StringVar(&f.logLevel, "log-level", "info", "`LEVEL`: debug, info, warn or error")
	return cmd
}

func runAgent(cmd *cobra.Command, env frame.Env, f agentFlags) error {
	bad := func(err error) error { return frame.UsageFailure(cmd, err) }
	log, err := frame.NewLogger(env.Stderr, f.logFormat, f.logLevel)
	if err != nil {
		return bad(err)
	}
	if f.hub == "" {
		return bad(errors.New("--hub-kubeconfig is missing: a cluster that is its own hub needs no agent but that of boltseal serve"))
	}
	if err := checkName("--cluster", f.cluster); err != nil {
		return bad(err)
	}
	member, err := f.from.Options(env, nil, log)
	if err != nil {
		return bad(err)
	}
	at, renewal, err := renewedHub(f.hub, f.hubSecret, member.Namespace, member.Config, log)
	if err != nil {
		return bad(err)
	}
	version := env.Build().Version
	set, err := readAddOn(f.addOn, version)
	if err != nil {
		return bad(err)
	}
	a, err := agent.New(agent.Options{Hub: at, Member: member.Config, Cluster: f.cluster, Namespace: member.Namespace, Version: version, AddOn: set,
		Exempt: f.exempt, Log: log})
	if err != nil {
		return bad(err)
	}
	kube, err := kubernetes.NewForConfig(member.Config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	metrics := a.Metrics()
	if renewal != nil {
		metrics = append(metrics, renewal.Metrics()...)
	}
	if f.metrics != "" {
		wg.Go(func() { serveMetrics(ctx, f.metrics, metrics, log) })
	}
	lock := &resourcelock.LeaseLock{LeaseMeta: metav1.ObjectMeta{Namespace: member.Namespace, Name: agentLease}, Client: kube.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: member.Identity}}
	for ctx.Err() == nil {
		if err := runElected(ctx, lock, func(ctx context.Context) {
			var wg sync.WaitGroup
			defer wg.Wait()
			if renewal != nil {
				wg.Go(func() { _ = renewal.Run(ctx) }) // it ends with ctx, and only then
			}
			if err := a.Run(ctx); err != nil && ctx.Err() == nil {
				log.Error("the agent stopped, and is started again", "error", err.Error())
			}
		}); err != nil {
			return err
		}
	}
	return nil
}

// runElected runs while this replica holds the lease, and returns when that has ended.
func runElected(ctx context.Context, lock resourcelock.Interface, run func(context.Context)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	var begun sync.Once
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{Lock: lock, LeaseDuration: agentLeaseDuration,
		RenewDeadline: agentRenewDeadline, RetryPeriod: agentRetryPeriod, ReleaseOnCancel: true, Name: agentLease,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				begun.Do(func() {
					defer close(ended)
					defer cancel() // who does not run must not hold the lease
					run(ctx)
				})
			},
			OnStoppedLeading: func() {},
		}})
	if err != nil {
		return fmt.Errorf("the lease %s: %w", agentLease, err)
	}
	elector.Run(ctx)
	cancel()
	begun.Do(func() { close(ended) }) // it was never held
	<-ended
	return nil
}

// serveMetrics answers /metrics and /healthz until ctx ends.
func serveMetrics(ctx context.Context, address string, metrics []prometheus.Collector, log *slog.Logger) {
	registry := prometheus.NewRegistry()
	for _, m := range metrics {
		registry.MustRegister(m)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	s := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.ListenAndServe(); err != nil && !errors.Is(err, http.ErrServerClosed) {
		log.Error("the metrics are not served", "error", err.Error())
	}
}
