package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/internal/compile"
)

// LeaseName is the lease of the replica that writes statuses and events.
const LeaseName = "boltseal-status"

// The lease's times. What the leader does is not urgent: verdicts do not wait for it.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
	// retryWrite is how long after a failed write the next one is tried.
	retryWrite = 2 * time.Second
	// writeTimeout bounds one write.
	writeTimeout = 10 * time.Second
	// maxWrites is how many statuses are written before it is looked what is the
	// most urgent now.
	maxWrites = 50
)

// writer writes statuses and events, in the one replica that holds the lease.
type writer struct {
	c       *Controller
	client  client.Client
	lock    resourcelock.Interface
	events  typedcorev1.EventsGetter
	work    chan struct{} // room for one: there is something to write
	leading sync.Mutex    // held by the one lead that writes
	mu      sync.Mutex
	reports map[compile.Key]*report
	open    map[compile.Key]bool // reports that may not have been written yet
	// written is the version of each resource that this replica's last write made:
	// where the cache has another one, it may be behind. Used by the leader alone.
	written map[compile.Key]string
}

func newWriter(c *Controller, config *rest.Config, cl client.Client) (*writer, error) {
	core, err := typedcorev1.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("the way to the cluster: %w", err)
	}
	leases, err := coordinationv1.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("the way to the cluster: %w", err)
	}
	return &writer{c: c, client: cl, events: core, work: make(chan struct{}, 1), reports: map[compile.Key]*report{}, open: map[compile.Key]bool{},
		written: map[compile.Key]string{},
		lock: &resourcelock.LeaseLock{LeaseMeta: metav1.ObjectMeta{Namespace: c.o.Namespace, Name: LeaseName}, Client: leases,
			LockConfig: resourcelock.ResourceLockConfig{Identity: c.o.Identity}}}, nil
}

// set takes in how everything stands now.
func (w *writer) set(versions map[compile.Key]version, standing map[compile.Key]*compile.Standing) {
	now := w.c.o.Clock()
	w.mu.Lock()
	defer w.mu.Unlock()
	for key := range w.reports {
		if standing[key] == nil {
			delete(w.reports, key)
			delete(w.open, key)
		}
	}
	for key, st := range standing {
		r := &report{key: key, version: versions[key], verdict: evaluateStanding(key, st)}
		old := w.reports[key]
		if isProvider(key) {
			r.provided(st, old, now)
		}
		if old != nil && old.version == r.version && old.verdict == r.verdict && old.props == r.props && old.expiring == r.expiring && r.fetched.Sub(old.fetched) < minFetched {
			continue
		}
		w.reports[key] = r
		w.open[key] = true
	}
	w.poke()
}

func (w *writer) poke() {
	select {
	case w.work <- struct{}{}:
	default:
	}
}

// run competes for the lease, and writes while it is held. Losing it ends the
// writing, and nothing else.
func (w *writer) run(ctx context.Context) {
	for ctx.Err() == nil {
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: w.lock, LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod, ReleaseOnCancel: true, Name: LeaseName,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: w.lead,
				OnStoppedLeading: func() {},
			},
		})
		if err != nil {
			w.c.o.Log.Error("statuses cannot be written", "error", err.Error())
			return
		}
		elector.Run(ctx)
		w.ended() // Run does not wait for what it started
	}
}

// ended returns when no lead is writing.
func (w *writer) ended() {
	w.leading.Lock()
	defer w.leading.Unlock()
}

// lead writes what there is to write until ctx ends.
func (w *writer) lead(ctx context.Context) {
	w.leading.Lock()
	defer w.leading.Unlock()
	var others sync.WaitGroup
	defer others.Wait()
	if w.c.o.Lead != nil {
		others.Go(func() { w.c.o.Lead(ctx) })
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: w.events.Events("")})
	recorder := broadcaster.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: "boltseal"})
	w.c.o.Log.Info("this replica writes statuses")
	w.mu.Lock()
	for key := range w.reports {
		w.open[key] = true // what an earlier leader wrote is not known here
	}
	w.mu.Unlock()
	clear(w.written)
	var failed []*report
	var retry <-chan time.Time
	for ctx.Err() == nil {
		left, bad, err := w.writeSome(ctx, recorder)
		if failed = append(failed, bad...); err != nil && ctx.Err() == nil {
			w.c.o.Log.Warn("statuses could not be written, and are tried again", "count", len(bad), "error", err.Error())
		}
		if len(failed) > 0 && retry == nil {
			retry = time.After(retryWrite)
		}
		if left > 0 {
			continue
		}
		select {
		case <-ctx.Done():
		case <-w.work:
		case <-retry:
			w.reopen(failed)
			failed, retry = nil, nil
		}
	}
}

// reopen has reports written again that could not be written, unless there are
// later ones.
func (w *writer) reopen(rs []*report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range rs {
		if w.reports[r.key] == r {
			w.open[r.key] = true
		}
	}
}

// urgent takes the reports that are to be written next: those that say that
// something is wrong come first. left is how many stay open.
func (w *writer) urgent() (next []*report, left int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.written, func(key compile.Key, _ string) bool { return w.reports[key] == nil })
	for key := range w.open {
		next = append(next, w.reports[key])
	}
	slices.SortFunc(next, func(a, b *report) int {
		if a.verdict.ready != b.verdict.ready {
			if a.verdict.ready {
				return 1
			}
			return -1
		}
		return a.key.Compare(b.key)
	})
	next = next[:min(len(next), maxWrites)]
	for _, r := range next {
		delete(w.open, r.key)
	}
	return next, len(w.open)
}

// writeSome writes the most urgent open reports. bad are those that could not be
// written, err is why the first could not.
func (w *writer) writeSome(ctx context.Context, recorder record.EventRecorder) (left int, bad []*report, err error) {
	next, left := w.urgent()
	for _, r := range next {
		failure := ctx.Err()
		if failure == nil {
			failure = w.write(ctx, r, recorder)
		}
		if failure == nil {
			continue
		}
		if bad = append(bad, r); err == nil {
			err = fmt.Errorf("%s: %w", r.key, failure)
		}
	}
	return left, bad, err
}

// read reads the resource whose status is to be written, nil where it is gone or
// was made anew, which is reported anew.
func (w *writer) read(ctx context.Context, r *report) (*unstructured.Unstructured, error) {
	u := objectOf(groupVersion(r.key.Kind).WithKind(r.key.Kind))
	name := client.ObjectKey{Namespace: r.key.Namespace, Name: r.key.Name}
	err := w.c.cache.Get(ctx, name, u)
	if rv := w.written[r.key]; err == nil && rv != "" && rv != u.GetResourceVersion() {
		// A status that is older than the one that stands there would be taken for it.
		err = w.client.Get(ctx, name, u)
	}
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	case u.GetUID() != r.version.uid:
		return nil, nil
	}
	return u, nil
}

// auditField of a policy's status is the audit's, and written by it alone.
const auditField = "audit"

// write brings a resource's status up to the report, and tells of what changed
// by an event.
func (w *writer) write(ctx context.Context, r *report, recorder record.EventRecorder) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	u, err := w.read(ctx, r)
	if err != nil || u == nil {
		delete(w.written, r.key)
		return err
	}
	old, _, _ := unstructured.NestedMap(u.Object, "status")
	delete(old, auditField)
	status, changed, err := r.status(old, w.c.o.Clock())
	if err != nil || !changed {
		return err
	}
	body, err := r.patch(old, status)
	if err != nil {
		return err
	}
	after := u.DeepCopy()
	err = w.client.Status().Patch(ctx, after, client.RawPatch(types.MergePatchType, body))
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // it is gone, or made anew
	}
	if err != nil {
		return err
	}
	w.written[r.key] = after.GetResourceVersion()
	was := meta.FindStatusCondition(readConditions(old), ConditionReady)
	switch {
	case !r.verdict.ready && (was == nil || was.Message != r.verdict.message || was.Status == metav1.ConditionTrue):
		recorder.Event(u, corev1.EventTypeWarning, r.verdict.reason, truncateText(r.verdict.message, maxEvent))
	case r.verdict.ready && was != nil && was.Status != metav1.ConditionTrue:
		recorder.Event(u, corev1.EventTypeNormal, r.verdict.reason, truncateText(r.verdict.message, maxEvent))
	}
	if was := meta.FindStatusCondition(readConditions(old), ConditionExpiring); r.expiring != "" && (was == nil || was.Message != truncateText(r.expiring, maxError)) {
		recorder.Event(u, corev1.EventTypeWarning, ReasonExpiring, truncateText(r.expiring, maxEvent))
	}
	return nil
}

// maxEvent is what the API server takes as an event's message (core/v1 validation).
const maxEvent = 1024
