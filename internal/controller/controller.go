// Package controller turns a cluster's resources into the live configuration, and writes how each stands into its status.
package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/boltseal/boltseal/internal/compile"
)

// Defaults of Options.
const (
	// DefaultQuiet is how long nothing must change before the resources are
	// compiled, DefaultMost how long that is put off at most.
	DefaultQuiet = 20 * time.Millisecond
	DefaultMost  = 150 * time.Millisecond
	// DefaultAwait is how long what a resource names is waited for: each kind is
	// watched apart, and the word on one may come before that on another that was
	// written earlier.
	DefaultAwait = 250 * time.Millisecond
	// retryKind is how often a kind is looked for that the cluster does not have.
	retryKind = time.Second
	// recheck is how often the resources are compiled although nothing changed: that
	// certificates expire soon is to be told in time.
	recheck = time.Hour
)

// clientQPS and clientBurst bound what statuses and events cost the API server,
// in requests a second.
const (
	clientQPS   = 100
	clientBurst = 200
)

// Options make a Controller.
type Options struct {
	// Config is the way to the API server. Required.
	Config *rest.Config
	// Apply puts the resources in force, and returns how each stands. Required.
	Apply func(*compile.Cluster) map[compile.Key]*compile.Standing
	// Cluster says how resources are read.
	Cluster compile.ClusterOptions
	// Namespace is Boltseal's own, for the lease of the replica that writes
	// statuses. Required.
	Namespace string
	// Identity names this replica. Required, and different for each.
	Identity string
	// Lead, where set, runs while this replica holds the lease: what else is for one
	// replica alone. It returns when its context ends.
	Lead func(context.Context)
	// Quiet and Most bound how long events are gathered. 0 means the defaults.
	Quiet, Most time.Duration
	// Await is how long a name that came to name nothing puts off what the cluster's
	// edits do. 0 means the default.
	Await time.Duration
	// Log receives what an operator should know. Nil discards it.
	Log *slog.Logger
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
}

// Controller watches a cluster.
type Controller struct {
	o          Options
	cache      cache.Cache
	table      *table
	changed    chan struct{} // room for one: somebody has to look
	synced     atomic.Int32  // kinds whose resources are all known
	namespaces sync.Map      // name → map[string]string, its labels
	resources  *prometheus.GaugeVec
	dangling   map[compile.Dangling]bool // as last put in force; nil = nothing was yet
	expiring   prometheus.Gauge
	contact    prometheus.Gauge
	writer     *writer
	nodes      *nodes
	kinds      *kinds
	discovery  *discovery.DiscoveryClient
	direct     client.Client // asks the API server, not the cache
	suspected  atomic.Bool   // some kind may not be there any more
	unsettled  bool          // what went is to be looked at again; of the loop's
	lookAgain  time.Duration // when; of the loop's
	spawn      func(func())  // set by Run
}

// contacted notes when the API server answered.
type contacted struct {
	http.RoundTripper
	clock func() time.Time
	at    prometheus.Gauge
}

func (c contacted) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(r)
	if err == nil {
		c.at.Set(float64(c.clock().Unix()))
	}
	return resp, err
}

// New makes a Controller. It does not talk to the cluster yet.
func New(o Options) (*Controller, error) {
	if o.Quiet <= 0 {
		o.Quiet = DefaultQuiet
	}
	if o.Most <= 0 {
		o.Most = DefaultMost
	}
	if o.Await <= 0 {
		o.Await = DefaultAwait
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	contact := prometheus.NewGauge(prometheus.GaugeOpts{Name: "boltseal_cluster_contact_timestamp_seconds",
		Help: "When the API server last answered. What is served is at most as old as that."})
	config := rest.CopyConfig(o.Config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return contacted{next, o.Clock, contact} })
	config.QPS, config.Burst = clientQPS, clientBurst
	rest.AddUserAgent(config, "boltseal")
	hc, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("the way to the cluster: %w", err)
	}
	mapper, err := apiutil.NewDynamicRESTMapper(config, hc)
	if err != nil {
		return nil, fmt.Errorf("the way to the cluster: %w", err)
	}
	disco, err := discovery.NewDiscoveryClientForConfigAndClient(config, hc)
	if err != nil {
		return nil, fmt.Errorf("the way to the cluster: %w", err)
	}
	c := &Controller{o: o, table: newTable(), nodes: newNodes(), kinds: newKinds(), discovery: disco, changed: make(chan struct{}, 1), contact: contact,
		resources: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "boltseal_resources",
			Help: "Resources of the cluster, by kind and by whether they apply as they are written."}, []string{"kind", "ready"})}
	c.expiring = prometheus.NewGauge(prometheus.GaugeOpts{Name: "boltseal_expiring_certificates",
		Help: "Certificates of the cluster's providers that have expired, or will within 30 days."})
	// What the API server keeps about who changed which field is longer than most resources.
	c.cache, err = cache.New(config, cache.Options{HTTPClient: hc, Mapper: mapper, DefaultTransform: stripObject,
		DefaultWatchErrorHandler: func(_ context.Context, _ *toolscache.Reflector, err error) {
			o.Log.Warn("watching the cluster failed, and is tried again", "error", err.Error())
			c.suspect(err)
		}})
	if err != nil {
		return nil, fmt.Errorf("the way to the cluster: %w", err)
	}
	cl, err := client.New(config, client.Options{HTTPClient: hc, Mapper: mapper})
	if err != nil {
		return nil, fmt.Errorf("the way to the cluster: %w", err)
	}
	c.direct = cl
	if c.writer, err = newWriter(c, config, cl); err != nil {
		return nil, err
	}
	return c, nil
}

// stripObject keeps of an object what is looked at.
func stripObject(in any) (any, error) {
	if o, err := meta.Accessor(in); err == nil {
		o.SetManagedFields(nil)
		o.SetAnnotations(nil)
	}
	return in, nil
}

// Metrics are what Prometheus reads.
func (c *Controller) Metrics() []prometheus.Collector {
	return []prometheus.Collector{c.resources, c.expiring, c.contact}
}

// NamespaceLabels returns a namespace's labels, nil where they are not known.
func (c *Controller) NamespaceLabels(name string) map[string]string {
	v, ok := c.namespaces.Load(name)
	if !ok {
		return nil
	}
	return v.(map[string]string)
}

// Run watches until ctx ends. It competes for the lease, and leads while it holds
// it, until standing ends, which may be sooner: then the lease is let go of at once,
// while the configuration stays current.
func (c *Controller) Run(ctx, standing context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	c.spawn = wg.Go
	wg.Go(func() {
		if err := c.cache.Start(ctx); err != nil {
			cancel(fmt.Errorf("watching the cluster: %w", err))
		}
	})
	all := Kinds()
	for _, gvk := range all {
		wg.Go(func() {
			c.watchKind(ctx, objectOf(gvk), gvk.Kind, optionalKind(gvk), c.resourceHandler(gvk), c.kindKnown(gvk.Kind))
		})
	}
	ns := &metav1.PartialObjectMetadata{}
	ns.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "Namespace"})
	wg.Go(func() { c.watchKind(ctx, ns, "Namespace", false, c.namespaceHandler(), c.kindKnown("Namespace")) })
	wg.Go(func() {
		standing, leave := context.WithCancel(standing)
		defer context.AfterFunc(ctx, leave)()
		defer leave()
		c.writer.run(standing)
	})
	c.loop(ctx, int32(len(all)+1))
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// kindKnown counts a kind whose resources are all known.
func (c *Controller) kindKnown(kind string) func() {
	return func() {
		c.kinds.know(kind)
		c.synced.Add(1)
		c.poke()
	}
}

// Resources are all resources that the cluster has, nil where they are not all known,
// and a channel that is closed when there are others.
func (c *Controller) Resources() (entries []compile.Entry, moved <-chan struct{}) {
	if entries, moved = c.table.present(); c.synced.Load() < int32(len(Kinds())+1) {
		entries = nil
	}
	return entries, moved
}

// Recompile compiles the resources soon, although none of them changed.
func (c *Controller) Recompile() { c.poke() }

// Fetched takes in when what a provider has was last confirmed.
func (c *Controller) Fetched(key compile.Key, at time.Time) { c.writer.fetched(key, at) }

func (c *Controller) poke() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *Controller) resourceHandler(gvk schema.GroupVersionKind) toolscache.ResourceEventHandler {
	observe := func(in any) {
		u, ok := in.(*unstructured.Unstructured)
		if !ok {
			return
		}
		changed, err := c.table.observe(u)
		if err != nil {
			c.o.Log.Error("a resource could not be read", "error", err.Error())
		}
		if changed {
			c.poke()
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    observe,
		UpdateFunc: func(_, in any) { observe(in) },
		DeleteFunc: func(in any) {
			// It is forgotten once it is clear that its kind is still there.
			if o := deletedObject(in); o != nil && c.table.mark(compile.Key{Kind: gvk.Kind, Namespace: o.GetNamespace(), Name: o.GetName()}, c.o.Clock()) {
				c.poke()
			}
		},
	}
}

func (c *Controller) namespaceHandler() toolscache.ResourceEventHandler {
	observe := func(in any) {
		if o, err := meta.Accessor(in); err == nil {
			labels := o.GetLabels()
			if labels == nil {
				labels = map[string]string{} // known to have none
			}
			c.namespaces.Store(o.GetName(), labels)
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    observe,
		UpdateFunc: func(_, in any) { observe(in) },
		DeleteFunc: func(in any) {
			if o := deletedObject(in); o != nil {
				c.namespaces.Delete(o.GetName())
			}
		},
	}
}

// deletedObject is the object that a deletion is about, which may have been seen only
// by its absence.
func deletedObject(in any) metav1.Object {
	if gone, ok := in.(toolscache.DeletedFinalStateUnknown); ok {
		in = gone.Obj
	}
	o, err := meta.Accessor(in)
	if err != nil {
		return nil
	}
	return o
}

// loop compiles whenever something changed and then was quiet for a moment. It
// begins when everything that is there is known: half a configuration would deny
// what the whole one allows, and the other way round.
func (c *Controller) loop(ctx context.Context, want int32) {
	again := time.NewTicker(recheck)
	defer again.Stop()
	for {
		var look <-chan time.Time
		if c.unsettled {
			look = time.After(c.lookAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-c.changed:
		case <-again.C:
		case <-look:
			if !c.confirm(ctx) {
				continue
			}
		}
		if c.synced.Load() < want {
			continue // the last kind to be known pokes again
		}
		c.settle(ctx)
		c.confirm(ctx)
		c.await(ctx)
		c.askNodes(ctx)
		if ctx.Err() != nil {
			return
		}
		c.compile()
	}
}

// settle waits until nothing changes, but not for long.
func (c *Controller) settle(ctx context.Context) {
	most := time.NewTimer(c.o.Most)
	defer most.Stop()
	for {
		quiet := time.NewTimer(c.o.Quiet)
		select {
		case <-c.changed:
			quiet.Stop()
			continue
		case <-quiet.C:
		case <-most.C:
		case <-ctx.Done():
		}
		quiet.Stop()
		return
	}
}

// await gives names that came to name nothing a moment: what they name may be
// under way, as may be the end of who names it. A namespace's first Verifier, seen
// before its provider, would deny what the cluster's allowed and its own will. The
// first time all is known, and nothing is waited for.
func (c *Controller) await(ctx context.Context) {
	if c.dangling == nil || !c.newlyDangling() {
		return
	}
	most := time.NewTimer(c.o.Await)
	defer most.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-most.C:
			return
		case <-c.changed:
			c.confirm(ctx)
			if !c.newlyDangling() {
				c.settle(ctx)
				c.confirm(ctx)
				return
			}
		}
	}
}

// newlyDangling reports whether a name names nothing that named something, or was
// not there, in what is in force.
func (c *Controller) newlyDangling() bool {
	entries, _ := c.table.entries()
	for _, d := range compile.NewCluster(c.o.Cluster, entries).Dangling() {
		if !c.dangling[d] {
			return true
		}
	}
	return false
}

func (c *Controller) compile() {
	entries, versions := c.table.entries()
	cluster := compile.NewCluster(c.o.Cluster, entries)
	c.dangling = map[compile.Dangling]bool{}
	for _, d := range cluster.Dangling() {
		c.dangling[d] = true
	}
	standing := c.o.Apply(cluster)
	c.table.settle(entries, standing)
	c.count(standing)
	c.writer.set(versions, standing)
}

// count sets the metric, for every kind, so that one that is gone reads 0.
func (c *Controller) count(standing map[compile.Key]*compile.Standing) {
	type label struct{ kind, ready string }
	n := map[label]int{}
	for _, gvk := range Kinds() {
		n[label{gvk.Kind, "true"}], n[label{gvk.Kind, "false"}] = 0, 0
	}
	expiring := 0
	for k, st := range standing {
		expiring += len(st.Expiring)
		ready := "false"
		if st.OK() {
			ready = "true"
		}
		n[label{k.Kind, ready}]++
	}
	c.expiring.Set(float64(expiring))
	for l, v := range n {
		c.resources.WithLabelValues(l.kind, l.ready).Set(float64(v))
	}
}
