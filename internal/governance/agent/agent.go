// Package agent makes what the hub demands of one cluster stand in it, and tells the hub how far it is.
//
// It reads one ClusterBundle and writes one ClusterReport at the hub, which may be
// the same cluster. What it was told last it keeps in a ConfigMap, so that it goes
// on without the hub. A bundle that is gone is believed to be gone only after
// Options.GoneAfter of a hub that answers: a hub that was set up anew must not
// loosen its clusters.
//
// The add-on of Azure is, here, what Options.AddOn says; see package addon.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/dynamic"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	chart "github.com/boltseal/boltseal/charts/boltseal"
	"github.com/boltseal/boltseal/internal/governance/agent/addon"
	"github.com/boltseal/boltseal/internal/governance/agent/apply"
	"github.com/boltseal/boltseal/internal/governance/agent/keep"
	"github.com/boltseal/boltseal/internal/governance/compliance"
)

// Defaults of Options.
const (
	// DefaultQuiet is how long nothing must change before the agent acts, DefaultMost
	// how long that is put off at most.
	DefaultQuiet = 50 * time.Millisecond
	DefaultMost  = 300 * time.Millisecond
	// DefaultHeartbeat is how often the agent reports although nothing changed: a
	// fifth of what makes a report stale.
	DefaultHeartbeat = compliance.StaleAfter / 5
	// DefaultRecheck is how often everything is looked at although nothing changed.
	DefaultRecheck = 30 * time.Second
	// DefaultGoneAfter is how long a hub must answer that it has no bundle before
	// nothing is demanded any more.
	DefaultGoneAfter = 10 * time.Minute
)

// What is kept in the cluster, by the names of ConfigMaps.
const (
	KeptBundle = "boltseal-agent-bundle"
	KeptSeen   = "boltseal-agent-seen"
	KeptAddOn  = "boltseal-agent-addon"
)

const (
	// keepEvery is how often what was seen is kept at most.
	keepEvery = 10 * time.Second
	// mutedAfter the cluster itself does not answer, the agent has nothing to tell.
	mutedAfter = 2 * time.Minute
	// lastWords is how long an agent that ends takes to keep what it saw.
	lastWords   = 3 * time.Second
	clientQPS   = 50
	clientBurst = 100
	// MaxVersion is the longest version that is reported, in bytes.
	MaxVersion = 128
)

// Options make an Agent.
type Options struct {
	// Hub is the way to the API server of the hub, Member that to the cluster's own.
	// They may be the same. Required.
	Hub, Member *rest.Config
	// Cluster is the cluster's name at the hub. Required.
	Cluster string
	// Namespace is Boltseal's own in the member. Required.
	Namespace string
	// Version of Boltseal.
	Version string
	// AddOn is what is installed and removed where the hub says so. The zero value is
	// for a Boltseal that is already there: it is reported as installed by somebody
	// else, and is never removed.
	AddOn addon.Set
	// Exempt are namespaces that are never judged, for Gatekeeper, beside Namespace.
	Exempt []string
	// Quiet and Most bound how long events are gathered. 0 means the defaults.
	Quiet, Most time.Duration
	// Heartbeat, Recheck and GoneAfter are as the defaults say. 0 means the defaults.
	Heartbeat, Recheck, GoneAfter time.Duration
	// Log receives what an operator should know. Nil discards it.
	Log *slog.Logger
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
}

// Agent is the agent of one cluster.
type Agent struct {
	o           Options
	hub, member dynamic.Interface
	configMaps  typedcorev1.ConfigMapInterface
	template    []byte
	metrics     *metrics
	running     sync.Mutex
}

// New makes an Agent. It talks to no cluster yet.
func New(o Options) (*Agent, error) {
	for _, d := range []struct {
		have *time.Duration
		want time.Duration
	}{{&o.Quiet, DefaultQuiet}, {&o.Most, DefaultMost}, {&o.Heartbeat, DefaultHeartbeat}, {&o.Recheck, DefaultRecheck}, {&o.GoneAfter, DefaultGoneAfter}} {
		if *d.have <= 0 {
			*d.have = d.want
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if len(o.Version) > MaxVersion {
		o.Version = o.Version[:MaxVersion]
	}
	switch {
	case o.Hub == nil || o.Member == nil:
		return nil, errors.New("agent: Options.Hub and Options.Member are required")
	case o.Cluster == "" || o.Namespace == "":
		return nil, errors.New("agent: Options.Cluster and Options.Namespace are required")
	case o.Heartbeat >= compliance.StaleAfter:
		return nil, fmt.Errorf("agent: a heartbeat every %s is none: reports are stale after %s", o.Heartbeat, compliance.StaleAfter)
	}
	if !slices.Contains(o.Exempt, o.Namespace) {
		o.Exempt = append(slices.Clone(o.Exempt), o.Namespace)
	}
	a := &Agent{o: o, metrics: newMetrics()}
	var err error
	if a.template, err = chart.GatekeeperTemplate(); err != nil {
		return nil, err
	}
	configure := func(in *rest.Config) *rest.Config {
		c := rest.CopyConfig(in)
		c.QPS, c.Burst = clientQPS, clientBurst
		rest.AddUserAgent(c, "boltseal-agent/"+o.Version)
		return c
	}
	hub, member := configure(o.Hub), configure(o.Member)
	hub.Wrap(func(next http.RoundTripper) http.RoundTripper { return bounded{next} })
	if a.hub, err = dynamic.NewForConfig(hub); err != nil {
		return nil, fmt.Errorf("the way to the hub: %w", err)
	}
	if a.member, err = dynamic.NewForConfig(member); err != nil {
		return nil, fmt.Errorf("the way to the cluster: %w", err)
	}
	core, err := typedcorev1.NewForConfig(member)
	if err != nil {
		return nil, fmt.Errorf("the way to the cluster: %w", err)
	}
	a.configMaps = core.ConfigMaps(o.Namespace)
	return a, nil
}

// Metrics are what Prometheus reads.
func (a *Agent) Metrics() []prometheus.Collector { return a.metrics.all() }

// Run acts until ctx ends. It is for one replica at a time: the one that holds the
// lease. Neither cluster must be there when it begins.
func (a *Agent) Run(ctx context.Context) error {
	a.running.Lock() // the run before may still be ending
	defer a.running.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	l := &loop{Agent: a, changed: make(chan struct{}, 1),
		bundles: keep.Keeper{ConfigMaps: a.configMaps, Name: KeptBundle, Of: a.o.Cluster},
		seen:    keep.Keeper{ConfigMaps: a.configMaps, Name: KeptSeen, Of: a.o.Cluster}}
	var err error
	l.applier, err = apply.New(apply.Options{Dynamic: a.member, OwnTemplate: a.template, Exempt: a.o.Exempt, Changed: l.poke,
		Wrote: a.metrics.wrote, Log: a.o.Log, Clock: a.o.Clock})
	if err != nil {
		cancel()
		return err
	}
	l.reporter = &reporter{resource: a.hub.Resource(v1alpha1.GroupVersion.WithResource("clusterreports")), name: a.o.Cluster,
		heartbeat: a.o.Heartbeat, clock: a.o.Clock, wrote: a.metrics.wrote, poked: make(chan struct{}, 1),
		failed: l.complain("the hub does not take reports, and is asked again", "the hub takes reports")}
	l.addon = addon.New(addon.Options{Dynamic: a.member, Set: a.o.AddOn, Changed: l.poke, Log: a.o.Log, Wrote: a.metrics.wrote,
		Inventory: &keep.Keeper{ConfigMaps: a.configMaps, Name: KeptAddOn, Of: a.o.Cluster}})
	hub := &follower{resource: a.hub.Resource(v1alpha1.GroupVersion.WithResource("clusterbundles")), name: a.o.Cluster,
		tell: l.told, failed: l.contact}
	l.noHub = a.complain("the hub does not answer; its last requirements still apply", "the hub answers")

	var wg sync.WaitGroup
	defer wg.Wait()
	defer l.applier.Wait()
	defer cancel()
	if !l.recall(ctx) {
		return nil
	}
	l.applier.Start(ctx)
	wg.Go(func() { hub.run(ctx) })
	wg.Go(func() { l.reporter.run(ctx) })
	wg.Go(func() { l.addon.Run(ctx) })
	l.run(ctx)
	return nil
}

// complain makes a function that logs an error when it is another than before, and
// when it is mended.
func (a *Agent) complain(what, mended string) func(error) {
	var mu sync.Mutex
	last := ""
	return func(err error) {
		mu.Lock()
		defer mu.Unlock()
		text := ""
		if err != nil {
			text = err.Error()
		}
		switch {
		case text == last:
		case err != nil:
			a.o.Log.Warn(what, "error", text)
		default:
			a.o.Log.Info(mended)
		}
		last = text
	}
}
