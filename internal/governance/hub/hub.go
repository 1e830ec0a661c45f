package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/compliance"
	"github.com/boltseal/boltseal/internal/governance/definition"
)

// Defaults of Options.
const (
	// DefaultQuiet is how long nothing must change before everything is judged
	// anew, DefaultMost how long that is put off at most.
	DefaultQuiet = 20 * time.Millisecond
	DefaultMost  = 150 * time.Millisecond
	// DefaultReportEvery is how often changed reports are looked at.
	DefaultReportEvery = time.Second
	// DefaultStatusEvery is how often the status of one cluster is written on
	// account of its reports, DefaultSeenEvery where only the time of contact changed.
	DefaultStatusEvery = 3 * time.Second
	DefaultSeenEvery   = time.Minute
	// DefaultRecheck is how often everything is judged although nothing changed:
	// reports grow stale, and exemptions end.
	DefaultRecheck = 10 * time.Second
	// DefaultDeploymentTimeout is how long a remediation waits for one cluster.
	DefaultDeploymentTimeout = 30 * time.Minute
)

const (
	// clientQPS and clientBurst bound what the hub costs the API server, in requests a second.
	clientQPS   = 100
	clientBurst = 200
	// writeTimeout bounds one write.
	writeTimeout = 10 * time.Second
	// retryWrite is how long after a failed write the next one is tried.
	retryWrite = 500 * time.Millisecond
	// retryKind is how often a kind is looked for that the cluster does not have.
	retryKind = time.Second
)

// Options make a Hub. The zero value of all but Config is usable.
type Options struct {
	// Config is the way to the API server of the hub cluster. Required.
	Config *rest.Config
	// Namespace is Boltseal's own; it is part of the source of notifications.
	Namespace string
	// Version of Boltseal, for the user agent.
	Version string
	// Notify receives what changed, as CloudEvents.
	Notify []Sink
	// Quiet and Most bound how long events are gathered. 0 means the defaults.
	Quiet, Most time.Duration
	// ReportEvery, StatusEvery, SeenEvery and Recheck pace the work. 0 means the defaults.
	ReportEvery, StatusEvery, SeenEvery, Recheck time.Duration
	// StaleAfter without a report nothing is known of a cluster. 0 means compliance.StaleAfter.
	StaleAfter time.Duration
	// DeploymentTimeout of a remediation, for one cluster. 0 means the default.
	DeploymentTimeout time.Duration
	// Log receives what an operator should know. Nil discards it.
	Log *slog.Logger
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
}

// Hub governs clusters.
type Hub struct {
	o        Options
	config   *rest.Config
	scheme   *runtime.Scheme
	metrics  *metrics
	notifier *notifier
	running  sync.Mutex
}

// New makes a Hub. It does not talk to the cluster yet. The error wraps
// boltseal.ErrConfiguration where a sink cannot be used.
func New(o Options) (*Hub, error) {
	for _, d := range []struct {
		have *time.Duration
		want time.Duration
	}{
		{&o.Quiet, DefaultQuiet}, {&o.Most, DefaultMost}, {&o.ReportEvery, DefaultReportEvery}, {&o.StatusEvery, DefaultStatusEvery},
		{&o.SeenEvery, DefaultSeenEvery}, {&o.Recheck, DefaultRecheck}, {&o.StaleAfter, compliance.StaleAfter},
		{&o.DeploymentTimeout, DefaultDeploymentTimeout},
	} {
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
	if o.Config == nil {
		return nil, errors.New("hub: Options.Config is required")
	}
	m := newMetrics()
	n, err := newNotifier(o.Notify, o.Log, m)
	if err != nil {
		return nil, err
	}
	config := rest.CopyConfig(o.Config)
	config.QPS, config.Burst = clientQPS, clientBurst
	rest.AddUserAgent(config, "boltseal-hub/"+o.Version)
	return &Hub{o: o, config: config, scheme: newScheme(), metrics: m, notifier: n}, nil
}

// Metrics are what Prometheus reads.
func (h *Hub) Metrics() []prometheus.Collector { return h.metrics.all() }

func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(v1alpha1.GroupVersion,
		&v1alpha1.PolicyDefinition{}, &v1alpha1.PolicyDefinitionList{}, &v1alpha1.PolicySetDefinition{}, &v1alpha1.PolicySetDefinitionList{},
		&v1alpha1.PolicyAssignment{}, &v1alpha1.PolicyAssignmentList{}, &v1alpha1.PolicyExemption{}, &v1alpha1.PolicyExemptionList{},
		&v1alpha1.Remediation{}, &v1alpha1.RemediationList{}, &v1alpha1.FeatureRegistration{}, &v1alpha1.FeatureRegistrationList{},
		&v1alpha1.Cluster{}, &v1alpha1.ClusterList{}, &v1alpha1.ClusterBundle{}, &v1alpha1.ClusterBundleList{},
		&v1alpha1.ClusterReport{}, &v1alpha1.ClusterReportList{})
	metav1.AddToGroupVersion(scheme, v1alpha1.GroupVersion)
	return scheme
}

// run is one Run: what is known while this replica leads.
type run struct {
	*Hub
	cache   cache.Cache
	client  client.Client
	events  record.EventRecorder
	changed chan struct{} // room for one: something is to be judged now
	later   chan struct{} // room for one: a report changed
	// written is when the status of each cluster was written last.
	written map[string]time.Time
	// refused is why a cluster's bundle cannot be stored.
	refused    map[string]string
	library    definition.Library
	libraryKey string
	faults     map[string]error // of definitions, by kind and name
	retry      bool             // a write failed in this pass
	discovery  *discovery.DiscoveryClient
	deleted    atomic.Bool // something was deleted since the last pass
	unknown    string      // why it is not known what is demanded; "" where it is
}

// Run governs until ctx ends. It is for one replica at a time: the one that holds
// the lease.
func (h *Hub) Run(ctx context.Context) error {
	h.running.Lock() // the run before may still be ending
	defer h.running.Unlock()
	for {
		if err := h.once(ctx); !errors.Is(err, errAnew) {
			return err
		}
	}
}

// errAnew: kinds were not known and are again, so that all is to be read anew.
var errAnew = errors.New("all is read anew")

// once governs until ctx ends, or kinds were gone and are there again.
func (h *Hub) once(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &run{Hub: h, changed: make(chan struct{}, 1), later: make(chan struct{}, 1), written: map[string]time.Time{},
		refused: map[string]string{}}
	if err := r.connect(); err != nil {
		return fmt.Errorf("the way to the hub cluster: %w", err)
	}
	core, err := typedcorev1.NewForConfig(h.config)
	if err != nil {
		return fmt.Errorf("the way to the hub cluster: %w", err)
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: core.Events("")})
	r.events = broadcaster.NewRecorder(h.scheme, corev1.EventSource{Component: "boltseal"})

	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() {
		if err := r.cache.Start(ctx); err != nil {
			cancel(fmt.Errorf("watching the hub cluster: %w", err))
		}
	})
	wg.Go(func() { h.notifier.run(ctx) })
	var known sync.WaitGroup
	for _, o := range watchedKinds() {
		known.Go(func() { r.watch(ctx, o) })
	}
	known.Wait()
	if r.loop(ctx); ctx.Err() == nil {
		return errAnew
	}
	return contextCause(ctx)
}

func contextCause(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func watchedKinds() []client.Object {
	return []client.Object{&v1alpha1.PolicyDefinition{}, &v1alpha1.PolicySetDefinition{}, &v1alpha1.PolicyAssignment{}, &v1alpha1.PolicyExemption{},
		&v1alpha1.Remediation{}, &v1alpha1.FeatureRegistration{}, &v1alpha1.Cluster{}, &v1alpha1.ClusterBundle{}, &v1alpha1.ClusterReport{}}
}

func (r *run) connect() error {
	hc, err := rest.HTTPClientFor(r.config)
	if err != nil {
		return err
	}
	mapper, err := apiutil.NewDynamicRESTMapper(r.config, hc)
	if err != nil {
		return err
	}
	strip := func(in any) (any, error) {
		if o, err := meta.Accessor(in); err == nil {
			o.SetManagedFields(nil)
		}
		return in, nil
	}
	r.cache, err = cache.New(r.config, cache.Options{HTTPClient: hc, Mapper: mapper, Scheme: r.scheme, DefaultTransform: strip,
		DefaultWatchErrorHandler: func(_ context.Context, _ *toolscache.Reflector, err error) {
			r.o.Log.Warn("watching the hub cluster failed, and is tried again", "error", err.Error())
		}})
	if err != nil {
		return err
	}
	if r.discovery, err = discovery.NewDiscoveryClientForConfigAndClient(r.config, hc); err != nil {
		return err
	}
	r.client, err = client.New(r.config, client.Options{HTTPClient: hc, Mapper: mapper, Scheme: r.scheme})
	return err
}

// watch begins to watch a kind, and returns when all that is there is known: half
// of what is demanded would remove the other half from clusters.
func (r *run) watch(ctx context.Context, o client.Object) {
	told := false
	for {
		inf, err := r.cache.GetInformer(ctx, o, cache.BlockUntilSynced(false))
		var reg toolscache.ResourceEventHandlerRegistration
		if err == nil {
			reg, err = inf.AddEventHandler(r.handler())
		}
		if err == nil {
			toolscache.WaitForCacheSync(ctx.Done(), reg.HasSynced)
			return
		}
		if ctx.Err() != nil {
			return
		}
		if !told {
			told = true
			r.o.Log.Warn("a kind of governance cannot be watched yet; apply the CustomResourceDefinitions (boltseal crds)", "kind", fmt.Sprintf("%T", o), "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryKind):
		}
	}
}

// handler asks for a pass. What only the hub writes, a status, asks for none.
func (r *run) handler() toolscache.ResourceEventHandler {
	seen := func(in any) {
		if _, report := in.(*v1alpha1.ClusterReport); report {
			signalChannel(r.later)
			return
		}
		signalChannel(r.changed)
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: seen,
		UpdateFunc: func(was, is any) {
			a, errA := meta.Accessor(was)
			b, errB := meta.Accessor(is)
			if errA == nil && errB == nil && a.GetGeneration() == b.GetGeneration() && a.GetUID() == b.GetUID() &&
				a.GetAnnotations()[definition.AnnotationID] == b.GetAnnotations()[definition.AnnotationID] {
				return
			}
			seen(is)
		},
		DeleteFunc: func(any) {
			r.deleted.Store(true)
			signalChannel(r.changed)
		},
	}
}

func signalChannel(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// loop judges whenever something changed and then was quiet for a moment. It ends
// before ctx where kinds were gone and are there again.
func (r *run) loop(ctx context.Context) {
	again := time.NewTicker(r.o.Recheck)
	defer again.Stop()
	var reports, retry <-chan time.Time
	signalChannel(r.changed)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-r.later:
			if reports == nil {
				reports = time.After(r.o.ReportEvery)
			}
			continue
		case <-r.changed:
			r.settle(ctx)
		case <-reports:
			reports = nil
		case <-retry:
			retry = nil
		case <-again.C:
		}
		r.retry = false
		before := r.unknown
		if !r.known(ctx) {
			r.retry = true
		} else if before != "" {
			return // what was missed meanwhile is in no watch yet
		} else if err := r.pass(ctx); err != nil && ctx.Err() == nil {
			r.retry = true
			r.o.Log.Warn("not all could be brought up to date; it is tried again", "error", err.Error())
		}
		if r.retry && retry == nil {
			retry = time.After(retryWrite)
		}
	}
}

// settle waits until nothing changes, but not for long.
func (r *run) settle(ctx context.Context) {
	most := time.NewTimer(r.o.Most)
	defer most.Stop()
	for {
		quiet := time.NewTimer(r.o.Quiet)
		select {
		case <-r.changed:
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
