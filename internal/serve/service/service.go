// Package service puts the server together by hand: configuration files, caches, TLS, audit and endpoints.
package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/answer/externaldata"
	"github.com/boltseal/boltseal/internal/answer/lastgood"
	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/answer/snapshot"
	"github.com/boltseal/boltseal/internal/audit"
	"github.com/boltseal/boltseal/internal/base/filewatch"
	"github.com/boltseal/boltseal/internal/base/lru"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/controller"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/running"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/tlsfiles"
	"github.com/boltseal/boltseal/internal/tracing"
	"github.com/boltseal/boltseal/notation"
	"github.com/boltseal/boltseal/oci"
	"github.com/boltseal/boltseal/trust"
)

// DefaultDrain is how long requests and connections may take once the server stops.
const DefaultDrain = 15 * time.Second

// alikeBytes bounds the texts that answers share. 64 KiB hold those of some hundred
// signers; what is forgotten is shared no more.
const alikeBytes = 64 << 10

// Options make a Service.
type Options struct {
	// Keys is what providers of certificates, and of registries' credentials, are
	// asked with; Objects and Clock are filled in.
	Keys keys.Env
	// Files hold the configuration; they are watched. At least one, where Cluster
	// is nil.
	Files []string
	// Cluster, where set, is where the configuration is in place of Files.
	Cluster *ClusterOptions
	// Deps are what engines are made with; Wrap, Chains, Revocation, Cloud and Panicked
	// are filled in.
	Deps compile.Deps
	// Listen is where Gatekeeper and the API server ask. Health and Metrics are
	// for probes and Prometheus; "" leaves them out.
	Listen, Health, Metrics string
	// Page, where set, is answered at PageListen with the server's certificate. No caller is asked
	// for a certificate there: it finds out by itself who asks.
	Page       http.Handler
	PageListen string
	// InsecureHTTP answers without TLS, on loopback only.
	InsecureHTTP bool
	// TLS names certificate files; they are watched. SelfSigned makes a
	// certificate for Names in their place. A certificate that is kept in the
	// cluster bears Names beside those of the Service.
	TLS        tlsfiles.Files
	SelfSigned bool
	Names      []string
	// AdmissionCA, where set, is a file with CAs: whoever asks as the API server does
	// must show a certificate of one. It is watched.
	AdmissionCA string
	// TrustNetwork says that the network lets only the API server reach the admission
	// webhook, so that it needs to show no certificate.
	TrustNetwork bool
	// BundleFile, where set, is a file with the CAs of TLS.Cert, which are put into
	// the caBundle of whatever points here. It is watched.
	BundleFile string
	// Profile serves /debug/pprof beside the metrics.
	Profile bool
	// Report is the version of Gatekeeper's reports. "" means 0.2.0.
	Report externaldata.ReportVersion
	// Exempt are namespaces that are never judged, beside kube-system.
	Exempt []string
	// Server has time-outs and the like; what a Service makes itself is filled in.
	Server server.Options
	// Memo bounds what is kept; Encode, Stats, Clock and Panicked are filled in.
	Memo memo.Options
	// MemoryBytes bounds what is remembered of registries. 0 means the default.
	MemoryBytes int64
	// Advise says what is wrong with a document of the kinds in Advised, which are more
	// of Boltseal's own. Nil means that nothing is said of them.
	Advise  func(strict.Node) []strict.Problem
	Advised []schema.GroupVersionKind
	// Tracing says where traces go. Nil means that none are recorded.
	Tracing *tracing.Config
	// Audit receives a line for each decision. Nil means none.
	Audit io.Writer
	// Grace is how long the server goes on as before after it was told to stop.
	Grace time.Duration
	// Drain is how long after that requests under way may take, and connections
	// stay open that nothing was asked on since. 0 means DefaultDrain.
	Drain time.Duration
	// Log receives what an operator should know. Nil discards it.
	Log *slog.Logger
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
}

// Service is a server with everything it needs, listening.
type Service struct {
	o         Options
	live      snapshot.Live
	memory    *lastgood.Memory
	audit     *audit.Log
	metrics   *server.Metrics
	stats     memo.Stats
	alike     *lru.Cache[string, string] // see one
	server    *server.Server
	tls       *tlsfiles.Server // nil = plain HTTP
	endpoints []server.Endpoint
	reg       registration
	unproven  string                 // the endpoints where nothing proves who asks
	files     *filewatch.Watcher     // nil where a cluster is watched
	named     *filewatch.Follower    // files that resources are made of
	cluster   *controller.Controller // nil where files are
	compiled  compile.Cache          // of the cluster's resources
	recalls   bool                   // some policy of the cluster's wanted memory
	complaint string                 // what was last said about broken resources
	tracer    *tracing.Tracer        // nil where traces are not recorded
	tlsFiles  *filewatch.Watcher     // nil where no certificate file is used
	auditor   *running.Auditor       // nil where what runs is not looked at
	advising  chan struct{}          // a place for the one change that is looked at

	keys        *keys.Refresher
	keysChanged chan struct{} // room for one: what was fetched is to be put in force
	loading     sync.Mutex    // held while files are put in force
	good        *compile.Set  // of the files, that is in force; nil = none is yet
}

// New opens the listeners and loads the configuration. A configuration that does
// not work is no error: the service is not ready until it does.
func New(o Options) (*Service, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Drain <= 0 {
		o.Drain = DefaultDrain
	}
	if o.Report == "" {
		o.Report = externaldata.Report020
	}
	o.Deps.Clock = o.Clock
	o.Deps.Chains = notation.NewChainCache(0)
	o.Deps.Room = oci.NewRoom(0)
	o.Deps.Sources = &credential.Pool{}
	o.Deps.Revocation = notation.NewRevocation(notation.RevocationOptions{Clock: o.Clock})
	s := &Service{o: o, memory: lastgood.New(o.MemoryBytes, o.Clock), audit: audit.NewLog(o.Audit, 0), alike: lru.NewWhole[string, string](alikeBytes), advising: make(chan struct{}, 1)}
	s.named = filewatch.NewFollower(filewatch.Options{FileBytes: trust.MaxPEMBytes + 1})
	s.metrics = server.NewMetrics(server.Sources{Live: &s.live, Memo: &s.stats, Memory: s.memory, Audit: s.audit, Clock: o.Clock})
	so := o.Server
	if err := s.startTracing(&so); err != nil {
		return nil, err
	}
	if o.Cluster != nil {
		var err error
		if s.cluster, err = s.watchCluster(); err != nil {
			return nil, err
		}
		s.metrics.Register(s.cluster.Metrics()...)
		if err = s.auditRunning(); err != nil {
			return nil, err
		}
		for _, a := range o.Cluster.Alone {
			s.metrics.Register(a.Metrics()...)
		}
		so.NamespaceLabels = s.cluster.NamespaceLabels
		so.Checks = append(so.Checks, server.Check{Name: "the cluster's resources", Run: s.cluster.Ready})
	} else {
		s.files = filewatch.New(filewatch.Options{Paths: o.Files})
	}
	so.Live, so.Metrics, so.Audit, so.Memory, so.Log, so.Exempt, so.Encode, so.Advise, so.Clock = &s.live, s.metrics, s.audit, s.memory, o.Log, o.Exempt, s.encode, s.advise, o.Clock
	if err := s.register(&so); err != nil {
		s.close()
		return nil, err
	}
	if err := s.fetchKeys(); err != nil {
		s.close()
		return nil, err
	}
	s.server = server.New(so)
	if err := s.listen(); err != nil {
		s.close()
		return nil, err
	}
	if s.files != nil {
		s.load()
	}
	return s, nil
}

// Addr is where Gatekeeper and the API server can ask.
func (s *Service) Addr() string { return s.endpoints[0].Listener.Addr().String() }

// TLS is the certificate in use, nil for plain HTTP.
func (s *Service) TLS() *tlsfiles.Server { return s.tls }

// Run serves until ctx ends, then drains. What is for one replica alone ends with
// ctx; what keeps the answers current goes on until the last was given, for a policy
// that is applied meanwhile applies to whatever is still asked here.
func (s *Service) Run(ctx context.Context) error {
	defer s.close()
	serving, leave := context.WithCancel(ctx)
	defer leave()
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var failed error
	var wg sync.WaitGroup
	if s.cluster != nil {
		wg.Go(func() {
			if failed = s.cluster.Run(watching, serving); failed != nil {
				leave()
			}
		})
		wg.Go(func() { s.named.Run(watching, s.cluster.Recompile) })
	} else {
		wg.Go(func() { s.files.Run(watching, s.load) })
		wg.Go(func() { s.named.Run(watching, s.loadKeys) })
	}
	if s.tlsFiles != nil {
		wg.Go(func() { s.tlsFiles.Run(watching, s.reloadTLS) })
	}
	wg.Go(func() { s.runRegistration(watching, serving) })
	wg.Go(func() { s.followKeys(watching) })
	context.AfterFunc(watching, s.keys.Close) // whoever waits for it goes on
	for _, e := range s.endpoints {
		s.o.Log.Info("listening", "what", e.Name, "address", e.Listener.Addr().String(), "tls", e.TLS != nil)
	}
	err := server.Run(serving, s.endpoints, s.server.Drain, s.o.Grace, s.o.Drain, s.o.Log)
	stop()
	wg.Wait()
	return errors.Join(failed, err)
}

func (s *Service) close() {
	if s.keys != nil {
		s.keys.Close()
	}
	for _, e := range s.endpoints {
		_ = e.Listener.Close()
	}
	if snap := s.live.Load(); snap != nil {
		snap.Engines.Close()
	}
	s.audit.Close()
	s.stopTracing()
}

func (s *Service) listen() error {
	main := server.Endpoint{Name: "provider and webhook", Lasting: true, Handler: s.server.Handler()}
	if paths := s.tlsPaths(); len(paths) > 0 {
		// Before they are read, so that no change is missed.
		s.tlsFiles = filewatch.New(filewatch.Options{Paths: paths})
	}
	var err error
	switch {
	case s.o.InsecureHTTP:
		if _, ok := OnLoopback(s.o.Listen); !ok {
			return fmt.Errorf("%w: plain HTTP is for loopback only, and %q is not: anybody on the way could change a verdict", boltseal.ErrConfiguration, s.o.Listen)
		}
	case s.o.SelfSigned:
		s.tls, err = tlsfiles.SelfSigned(s.o.Names, s.o.TLS.ClientCA, s.o.Clock())
	case s.reg.keeper != nil: // it brings the certificate
	case s.o.TLS.Cert == "":
		return fmt.Errorf("%w: no certificate: name --tls-cert and --tls-key, or try --tls-self-signed", boltseal.ErrConfiguration)
	default:
		s.tls, err = tlsfiles.New(s.o.TLS)
	}
	if err = errors.Join(err, s.loadClientFiles()); err != nil {
		return err
	}
	if s.tls != nil {
		if s.reg.provider != nil || s.reg.webhook != nil {
			s.tls.AskClients()
		}
		main.TLS = s.tls.Config()
	}
	page := server.Endpoint{Name: "page", Handler: s.o.Page}
	if s.tls != nil {
		page.TLS = s.tls.OpenConfig()
	}
	if s.o.Page == nil {
		s.o.PageListen = ""
	}
	all := []struct {
		address string
		e       server.Endpoint
	}{
		{s.o.Listen, main},
		{s.o.Health, server.Endpoint{Name: "health", Handler: s.server.Health()}},
		{s.o.Metrics, server.Endpoint{Name: "metrics", Handler: s.metrics.Serve(s.o.Profile)}},
		{s.o.PageListen, page},
	}
	for i, a := range all {
		if a.address == "" && i > 0 {
			continue
		}
		if a.e.Listener, err = net.Listen("tcp", a.address); err != nil {
			return fmt.Errorf("%s: %w", a.e.Name, err)
		}
		s.endpoints = append(s.endpoints, a.e)
	}
	return nil
}

// OnLoopback reports whether an address, HOST:PORT, can be reached from this machine
// only, with its host.
func OnLoopback(address string) (host string, ok bool) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "", false
	}
	ip := net.ParseIP(host)
	return host, host == "localhost" || ip != nil && ip.IsLoopback()
}

// load puts the files' configuration in force. What does not work changes
// nothing but the status.
func (s *Service) load() {
	s.loading.Lock()
	defer s.loading.Unlock()
	s.loadFiles()
}

// loadFiles reports whether the files' configuration is in force, or about to be.
func (s *Service) loadFiles() bool {
	err := s.compile()
	if errors.Is(err, errAwaited) {
		return true // followKeys comes back
	}
	s.server.Loaded(err)
	if err == nil {
		return true
	}
	serving := "nothing is answered until it is fixed"
	if s.live.Load() != nil {
		serving = "the last good one goes on serving"
	}
	s.o.Log.Error("the configuration does not work; "+serving, "error", err.Error())
	return false
}

func (s *Service) compile() error {
	sources, err := readFiles(s.o.Files)
	if err != nil {
		return err
	}
	set, err := compile.Decode(sources)
	if err != nil {
		return err
	}
	s.named.Watch(s.filesOf(set))
	if s.keys.Use(s.wanted(set)); !s.keys.Tried() {
		return errAwaited
	}
	if err := s.enforce(set); err != nil {
		return err
	}
	s.keys.Use(set.Wants())
	return nil
}

// deps is what engines are made with; recalls has what registries say remembered.
func (s *Service) deps(recalls bool) compile.Deps {
	deps := s.o.Deps
	deps.Unproven = s.unproven
	deps.Panicked, deps.Keys, deps.Cloud = s.server.Panicked, s.keys.State, s.o.Keys
	deps.Forgot = func(c *compile.Compiled) {
		if snap := s.live.Load(); snap != nil && snap.Engines == snapshot.Engines(c) {
			forgetAnswers(snap.Memo, c)
		}
	}
	if s.cluster != nil {
		deps.Nodes = s.cluster.Nodes()
	}
	if recalls {
		deps.Wrap = s.memory.Wrap
	}
	return deps
}

func (s *Service) newMemo() *memo.Memo {
	mo := s.o.Memo
	mo.Encode, mo.Stats, mo.Clock, mo.Panicked = s.encode, &s.stats, s.o.Clock, s.server.Panicked
	return memo.New(mo)
}

// swap puts engines and policies in force.
func (s *Service) swap(compiled *compile.Compiled, policies *integrity.Set, m *memo.Memo) {
	generation := s.live.Swap(snapshot.Snapshot{Engines: compiled, Policies: policies, Memo: m})
	s.o.Log.Info("active configuration", "generation", generation, "policies", len(policies.Policies()))
	for _, w := range compiled.Warnings {
		s.o.Log.Warn("configuration", "warning", w.Error())
	}
	for _, p := range policies.Policies() {
		if p.NeedsNamespaceLabels() && s.o.Server.NamespaceLabels == nil && s.cluster == nil {
			s.o.Log.Warn("a policy selects namespaces by labels, which are not known without a cluster: it applies to all that its other conditions select", "policy", p.Name())
		}
	}
}

// encode keeps what was found as Gatekeeper's report, and records the evidence.
func (s *Service) encode(e *boltseal.Engine, r *boltseal.Result) memo.Encoded {
	id := audit.NewID()
	own, alike := externaldata.EncodeReport(s.o.Report, id, r)
	out := memo.Encoded{Report: own, Alike: s.one(alike)}
	if !s.audit.Enabled() {
		return out
	}
	line := audit.EncodeEvidence(id, s.o.Clock(), e, r)
	s.audit.Line(line)
	out.Audit = audit.EncodeVerdict(id, r, line)
	return out
}

// one is the text, the same for all who have the same: ten thousand images of one
// signer take a third less memory.
func (s *Service) one(text []byte) string {
	if kept, ok := s.alike.Get(string(text)); ok {
		return kept
	}
	kept := string(text)
	s.alike.Put(kept, kept, int64(len(kept)))
	return kept
}

func readFiles(files []string) ([]compile.Source, error) {
	if len(files) == 0 {
		return nil, fmt.Errorf("%w: no configuration file", boltseal.ErrConfiguration)
	}
	var sources []compile.Source
	var errs []error
	for _, name := range files {
		b, err := readFile(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		sources = append(sources, compile.Source{Name: name, Data: b})
	}
	return sources, errors.Join(errs...)
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, strict.MaxBytes+1))
}
