package running

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/answer/snapshot"
)

// Defaults of Options.
const (
	// DefaultSettle is how long changes of Pods are gathered before they are looked
	// at.
	DefaultSettle = 2 * time.Second
	// DefaultSlice is after what time of asking the results so far are written for
	// the first time; each further time takes twice as long.
	DefaultSlice = 10 * time.Second
	// settleConfiguration is how long changes of the configuration are gathered.
	settleConfiguration = 100 * time.Millisecond
	// leastPause is what passes at least between two looks, mostPause is how long
	// nothing is tried after a panic.
	leastPause = time.Second
	mostPause  = time.Minute
)

// Options make an Auditor.
type Options struct {
	// Config is the way to the API server. Required.
	Config *rest.Config
	// Live is the configuration in force. Required.
	Live *snapshot.Live
	// Interval is how often everything is looked at, whether anything changed or
	// not. 0 means DefaultInterval.
	Interval time.Duration
	// Settle and Slice are as the defaults say. 0 means the defaults.
	Settle, Slice time.Duration
	// Judge says how images are judged; its Asked and Clock are filled in.
	Judge JudgeOptions
	// Drivers are the CSI drivers that mount images.
	Drivers integrity.Drivers
	// ReportBytes bounds the results in all reports together. 0 means
	// DefaultReportBytes.
	ReportBytes int
	// Begin is told that a pass over everything that runs begins, and end of its end. Nil
	// means that nobody wants to know.
	Begin func(context.Context) (_ context.Context, end func(error))
	// Log receives what an operator should know. Nil discards it.
	Log *slog.Logger
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
}

// Auditor looks at what runs, and writes what it finds: reports, the status of
// policies, events and metrics.
type Auditor struct {
	o       Options
	core    typedcorev1.CoreV1Interface
	dynamic dynamic.Interface
	metrics *metrics
}

// New makes an Auditor. It does not talk to the cluster yet.
func New(o Options) (*Auditor, error) {
	def := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&o.Interval, DefaultInterval)
	def(&o.Settle, DefaultSettle)
	def(&o.Slice, DefaultSlice)
	if o.ReportBytes <= 0 {
		o.ReportBytes = DefaultReportBytes
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	a := &Auditor{o: o, metrics: newMetrics()}
	config := rest.CopyConfig(o.Config)
	config.QPS, config.Burst = clientQPS, clientBurst
	rest.AddUserAgent(config, "boltseal-audit")
	var err error
	if a.core, err = coreClient(config); err != nil {
		return nil, err
	}
	if a.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("the way to the cluster: %w", err)
	}
	return a, nil
}

// Metrics are what Prometheus reads.
func (a *Auditor) Metrics() []prometheus.Collector { return a.metrics.all() }

// Run looks at what runs until ctx ends. Of all replicas one may do so at a time:
// the one with the lease.
func (a *Auditor) Run(ctx context.Context) {
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: a.core.Events("")})
	events := broadcaster.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: "boltseal"})
	a.o.Log.Info("this replica audits what runs", "interval", a.o.Interval)
	a.metrics.leading.Set(1)
	defer a.metrics.stopped()
	for ctx.Err() == nil {
		if err := a.lead(ctx, events); err != nil && ctx.Err() == nil {
			a.o.Log.Error("the audit of what runs failed, and begins anew", "error", err.Error())
			sleepContext(ctx, mostPause)
		}
	}
}

func sleepContext(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// lead is one life of the audit; a panic ends it, and nothing else.
func (a *Auditor) lead(ctx context.Context, events record.EventRecorder) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	jo := a.o.Judge
	jo.Owners = NewOwners(a.dynamic)
	jo.Asked, jo.Clock = func(d boltseal.Decision) { a.metrics.verified.WithLabelValues(d.String()).Inc() }, a.o.Clock
	l := &loop{a: a, judge: NewJudge(jo), inventory: NewInventory(a.o.Drivers), writer: newWriter(a, events), poked: make(chan struct{}, 1)}
	l.inventory.changed = l.poke
	synced := make(chan struct{})
	wg.Go(func() { l.inventory.follow(ctx, a.core, func() { close(synced) }) })
	select {
	case <-ctx.Done():
		return nil
	case <-synced:
	}
	due := time.NewTicker(a.o.Interval)
	defer due.Stop()
	for l.due = due.C; ctx.Err() == nil; {
		l.pass(ctx)
	}
	return nil
}

// loop is the state of one life of the audit.
type loop struct {
	a         *Auditor
	judge     *Judge
	inventory *Inventory
	writer    *writer
	poked     chan struct{}    // room for one: something changed
	due       <-chan time.Time // it is time to look at everything
	complaint string           // what was last said about writes that failed
}

func (l *loop) poke() {
	select {
	case l.poked <- struct{}{}:
	default:
	}
}

// pass looks at everything that runs, writes what it found, and waits for a reason
// to look again.
func (l *loop) pass(ctx context.Context) {
	changed := l.a.o.Live.Changed()
	snap := l.a.o.Live.Load()
	if snap == nil {
		select {
		case <-ctx.Done():
		case <-changed:
		}
		return
	}
	begin := l.a.o.Clock()
	if l.lookTraced(ctx, snap, changed) {
		l.a.metrics.passed(begin, l.a.o.Clock())
		l.wait(ctx, changed)
	}
	select {
	case <-changed:
		sleepContext(ctx, settleConfiguration) // one edit seldom comes alone
	default:
	}
}

// lookTraced is look, which the one who asked for that is told of.
func (l *loop) lookTraced(ctx context.Context, snap *snapshot.Snapshot, changed <-chan struct{}) bool {
	if l.a.o.Begin == nil {
		return l.look(ctx, snap, changed)
	}
	within, end := l.a.o.Begin(ctx)
	whole := l.look(within, snap, changed)
	if whole {
		end(nil)
	} else {
		end(errCutOff)
	}
	return whole
}

var errCutOff = errors.New("it was ended before it was done, by another configuration or the end of this replica's lease")

// look asks about everything that is not known, and writes the results, the first
// ones soon. It reports whether it came to the end: another configuration, or the
// end of ctx, ends it early.
func (l *loop) look(ctx context.Context, snap *snapshot.Snapshot, changed <-chan struct{}) bool {
	for slice := l.a.o.Slice; ; slice *= 2 {
		p := l.judge.plan(ctx, snap, l.inventory)
		open := l.judge.open(p)
		stop, release := untilChanged(ctx, changed, slice)
		l.judge.ask(ctx, stop, snap.Memo, open, func() {})
		release()
		if ctx.Err() != nil {
			return false
		}
		select {
		case <-changed:
			return false // what was found is kept for images that it is still true of
		default:
		}
		l.judge.confirm(ctx, p)
		r := l.judge.result(p)
		l.a.metrics.found(r)
		err := l.writer.write(ctx, r)
		l.complain(ctx, err)
		if l.judge.left(open) == 0 || ctx.Err() != nil {
			return ctx.Err() == nil
		}
	}
}

// complain tells of writes that failed, but not of the same thing again and again.
func (l *loop) complain(ctx context.Context, err error) {
	text := ""
	if err != nil && ctx.Err() == nil {
		text = err.Error()
	}
	if text != "" && text != l.complaint {
		l.a.o.Log.Warn("results of the audit could not be written, and are tried again", "error", text)
	}
	l.complaint = text
}

// untilChanged returns a channel that is closed when the configuration changes, the time
// is up or ctx ends. release must be called.
func untilChanged(ctx context.Context, changed <-chan struct{}, d time.Duration) (stop <-chan struct{}, release func()) {
	ctx, cancel := context.WithTimeout(ctx, d)
	go func() {
		select {
		case <-changed:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx.Done(), cancel
}

// wait returns when there is a reason to look again: the interval is over, the
// configuration or a Pod changed, or an image is to be tried again that could not
// be judged.
func (l *loop) wait(ctx context.Context, changed <-chan struct{}) {
	select {
	case <-changed: // waits for nobody
		return
	case <-ctx.Done():
		return
	case <-time.After(leastPause):
	}
	var retry <-chan time.Time
	if at, ok := l.judge.wake(); ok {
		t := time.NewTimer(max(0, at.Sub(l.a.o.Clock())))
		defer t.Stop()
		retry = t.C
	}
	if l.complaint != "" {
		t := time.NewTimer(firstRetry)
		defer t.Stop()
		retry = t.C
	}
	select {
	case <-ctx.Done():
	case <-changed:
	case <-l.due:
		l.writer.doubt() // somebody else may have changed what was written
	case <-retry:
	case <-l.poked:
		settled := time.NewTimer(l.a.o.Settle)
		defer settled.Stop()
		select {
		case <-ctx.Done():
		case <-changed:
		case <-settled.C:
		}
		select {
		case <-l.poked:
		default:
		}
	}
}
