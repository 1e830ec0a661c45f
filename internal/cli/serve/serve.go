package serve

import (
	"io"
	"net"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/boltseal/boltseal/internal/answer/externaldata"
	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/cli/input"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/tracing"
)

type serveFlags struct {
	o                   service.Options
	report, auditLog    string
	logFormat, logLevel string
	cacheMB, memoryMB   int
	lentTo, drivers     []string
	cluster             input.ClusterFlags
	running             runningFlags
	hooks               hookFlags
	govern              Governance
}

// Governance is the part of governance that runs beside a server: flags of its own, and work for a cluster.
type Governance interface {
	// Register adds its flags.
	Register(fl *pflag.FlagSet)
	// Apply adds what the flags ask for to a server's options; set tells whether a flag was set, version is Boltseal's own. Its
	// errors are about the command line.
	Apply(o *service.Options, set func(flag string) bool, version string) error
}

// Governed is what the commands need of governance, which is not theirs.
type Governed struct {
	Beside Governance                             // beside a server
	Kinds  []schema.GroupVersionKind              // that people write
	Advise func(doc strict.Node) []strict.Problem // what is wrong with one document of these kinds
}

func newServe(env frame.Env, g Governed) *cobra.Command {
	f := serveFlags{govern: g.Beside}
	cmd := &cobra.Command{
		Use:   "serve [--config FILE | --kubeconfig FILE | --in-cluster]",
		Short: "Answer Gatekeeper and the Kubernetes API server",
		Long: `Answer two questions about images over HTTPS:

  Gatekeeper's external data, in Ratify's shapes
    POST ` + server.PathVerify + `
    POST ` + server.PathMutate + `
  Kubernetes' AdmissionReview, by the ImageIntegrityPolicies of the configuration
    POST ` + server.PathValidate + `
    POST ` + server.PathPin + `
  and what whoever changes Boltseal's own resources should know
    POST ` + server.PathAdvise + `

The configuration is in files, or in the custom resources of a cluster. It is
watched, as are certificates and client CAs: an edit is live without a restart,
and a broken one leaves the last good one serving (see /readyz?verbose at the
health address, and the resources' statuses).

Every flag can be set by an environment variable too: --tls-cert is
BOLTSEAL_TLS_CERT. OpenTelemetry's variables say where traces go, if anywhere:
OTEL_EXPORTER_OTLP_ENDPOINT and those beside it.`,
		Example: `  A first try on this machine:
    boltseal serve --config verify-config.yaml --tls-self-signed --listen 127.0.0.1:6001

  In a cluster, by its custom resources, as its admission webhook, with
  certificates that are made and renewed:
    boltseal serve --in-cluster --webhook=enforce

  By files, for callers with a certificate:
    boltseal serve --config /etc/boltseal/config.yaml \
      --tls-cert /tls/tls.crt --tls-key /tls/tls.key --client-ca /tls/ca.crt`,
		GroupID: "serve",
		Args:    frame.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := frame.SetFromEnvironment(cmd.Flags(), env.Getenv); err != nil {
				return frame.UsageFailure(cmd, err)
			}
			return runServe(cmd, env, f, g)
		},
	}
	f.register(cmd.Flags())
	return cmd
}

func (f *serveFlags) register(fl *pflag.FlagSet) {
	fl.SortFlags = false
	o := &f.o
	fl.StringArrayVarP(&o.Files, "config", "c", nil, "YAML `FILE` with the configuration; may be repeated; watched")
	f.cluster.Register(fl)
	f.running.register(fl)
	fl.StringVar(&o.Listen, "listen", ":6001", "`ADDRESS` for Gatekeeper and the API server")
	fl.StringVar(&o.Health, "health-listen", ":9099", "`ADDRESS` of /healthz and /readyz, plain HTTP; empty for none; on loopback where --listen is, unless set")
	fl.StringVar(&o.Metrics, "metrics-listen", ":8888", "`ADDRESS` of /metrics, plain HTTP; empty for none; on loopback where --listen is, unless set")
	fl.StringVar(&o.TLS.Cert, "tls-cert", "", "PEM `FILE` with the server's certificate chain; watched")
	fl.StringVar(&o.TLS.Key, "tls-key", "", "PEM `FILE` with its key; watched")
	fl.StringVar(&o.TLS.ClientCA, "client-ca", "", "PEM `FILE` with CAs: whoever asks must show a certificate of one; watched")
	fl.BoolVar(&o.SelfSigned, "tls-self-signed", false, "make a certificate, for a first try")
	fl.StringSliceVar(&o.Names, "tls-names", []string{"localhost", "127.0.0.1", "::1"}, "`NAMES` in the self-signed certificate; and in the one that is kept in a cluster, beside the Service's, where they are set")
	fl.BoolVar(&o.InsecureHTTP, "insecure-http", false, "answer without TLS; on loopback only")
	f.hooks.registerTLS(fl, o)
	f.hooks.register(fl)
	f.govern.Register(fl)
	fl.DurationVar(&o.Server.VerifyTimeout, "verify-timeout", server.DefaultVerifyTimeout, "`DURATION`: time for one request of Gatekeeper's to verify; keep it below the Provider's timeout")
	fl.DurationVar(&o.Server.MutateTimeout, "mutate-timeout", server.DefaultMutateTimeout, "`DURATION`: time for one request of Gatekeeper's to mutate")
	fl.DurationVar(&o.Server.WebhookTimeout, "webhook-timeout", server.DefaultWebhookTimeout, "`DURATION`: time for one admission request, where the API server does not say its own")
	fl.StringVar(&f.report, "report-version", string(externaldata.Report020), "`VERSION` of the reports for Gatekeeper: 0.2.0 or 0.1.0")
	fl.BoolVar(&o.Server.KeepTags, "mutate-keep-tag", false, "answer mutations with repo:tag@digest in place of Ratify's repo@digest")
	input.RegisterLentTo(fl, &f.lentTo)
	input.RegisterDrivers(fl, &f.drivers)
	fl.IntVar(&f.cacheMB, "cache-mb", memo.DefaultBytes>>20, "`MEBIBYTES` of answers to keep")
	fl.IntVar(&f.memoryMB, "last-known-good-mb", 32, "`MEBIBYTES` of signatures to remember for an outage, where a policy says lastKnownGood")
	fl.StringVar(&f.auditLog, "audit-log", "-", "`FILE` for a line of JSON per decision; - is standard output, off is none")
	fl.StringVar(&f.logFormat, "log-format", "text", "`FORMAT`: text or json")
	fl.StringVar(&f.logLevel, "log-level", "info", "`LEVEL`: debug, info, warn or error")
	fl.DurationVar(&o.Grace, "shutdown-delay", 0, "`DURATION`: how long to go on answering after a signal to stop, for those who have not heard yet")
	fl.DurationVar(&o.Drain, "shutdown-timeout", service.DefaultDrain, "`DURATION`: how long after that requests under way may take, and connections stay open that nothing was asked on since the signal; with 100s no request of the API server's is lost")
	fl.BoolVar(&o.Profile, "pprof", false, "serve /debug/pprof beside the metrics")
}

func runServe(cmd *cobra.Command, env frame.Env, f serveFlags, g Governed) error {
	bad := func(err error) error { return frame.UsageFailure(cmd, err) }
	var err error
	if f.o.Report, err = externaldata.ParseReportVersion(f.report); err != nil {
		return bad(err)
	}
	if f.o.Server.Drivers, err = input.ParseDrivers(f.drivers); err != nil {
		return bad(err)
	}
	if f.o.Log, err = frame.NewLogger(env.Stderr, f.logFormat, f.logLevel); err != nil {
		return bad(err)
	}
	if f.o.Cluster, err = f.cluster.Options(env, f.o.Files, f.o.Log); err != nil {
		return bad(err)
	}
	if err = f.running.set(f.o.Cluster); err != nil {
		return bad(err)
	}
	if err := f.hooks.apply(&f.o, cmd.Flags().Changed); err != nil {
		return bad(err)
	}
	followLoopback(&f.o, cmd.Flags().Changed)
	f.o.Exempt = exemptOwn(f.o.Exempt, f.o.Cluster)
	if f.o.Tracing, err = tracing.FromEnvironment(env.Getenv); err != nil {
		return bad(err)
	}
	if err := f.govern.Apply(&f.o, cmd.Flags().Changed, env.Build().Version); err != nil {
		return bad(err)
	}
	f.o.Memo.Bytes, f.o.MemoryBytes = int64(f.cacheMB)<<20, int64(f.memoryMB)<<20
	f.o.Deps = input.CompileDeps(env)
	f.o.Deps.LentTo = f.lentTo
	f.o.Advise, f.o.Advised = g.Advise, g.Kinds
	f.o.Keys.Getenv = env.Getenv
	audit, done, err := openAudit(env, f.auditLog)
	if err != nil {
		return err
	}
	defer done()
	f.o.Audit = audit
	s, err := service.New(f.o)
	if err != nil {
		return err
	}
	return s.Run(cmd.Context())
}

// followLoopback has health and metrics answer on loopback where the rest does: whoever
// keeps a server to one machine means all of it. set tells whether a flag was set.
func followLoopback(o *service.Options, set func(flag string) bool) {
	host, ok := service.OnLoopback(o.Listen)
	if !ok {
		return
	}
	for flag, address := range map[string]*string{"health-listen": &o.Health, "metrics-listen": &o.Metrics} {
		if _, port, err := net.SplitHostPort(*address); err == nil && !set(flag) {
			*address = net.JoinHostPort(host, port)
		}
	}
}

func openAudit(env frame.Env, name string) (w io.Writer, done func(), err error) {
	switch name {
	case "off", "":
		return nil, func() {}, nil
	case "-":
		return env.Stdout, func() {}, nil
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	return f, func() { _ = f.Close() }, nil
}
