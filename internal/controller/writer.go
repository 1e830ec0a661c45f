package controller

import (
	"context"
	"fmt"
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
)

// writer writes statuses and events, in the one replica that holds the lease.
type writer struct {
	c       *Controller
	client  client.Client
	lock    resourcelock.Interface
	events  typedcorev1.EventsGetter
	work    chan struct{} // room for one: there is something to write
	mu      sync.Mutex
	reports map[compile.Key]*report
	open    map[compile.Key]bool // reports that may not have been written yet
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
		r := &report{key: key, version: versions[key], verdict: judge(key, st)}
		old := w.reports[key]
		if isProvider(key) {
			r.provider = true
			if len(st.Certificates) > 0 {
				r.fetched = now
				if old != nil && !old.fetched.IsZero() && (old.version == r.version || st.Serving == compile.ServingLastGood) {
					r.fetched, r.props = old.fetched, old.props
				} else if props, err := propertiesOf(st.Certificates); err == nil {
					r.props = props
				}
			}
		}
		if old != nil && old.version == r.version && old.verdict == r.verdict && old.props == r.props {
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
	}
}

// lead writes what there is to write until ctx ends.
func (w *writer) lead(ctx context.Context) {
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
	for {
		if !w.writeAll(ctx, recorder) {
			select {
			case <-ctx.Done():
			case <-time.After(retryWrite):
			}
		} else {
			select {
			case <-ctx.Done():
			case <-w.work:
			}
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// writeAll writes all open reports, and reports whether none is left to try again.
func (w *writer) writeAll(ctx context.Context, recorder record.EventRecorder) bool {
	w.mu.Lock()
	open := make([]*report, 0, len(w.open))
	for key := range w.open {
		open = append(open, w.reports[key])
	}
	clear(w.open)
	w.mu.Unlock()
	slices.SortFunc(open, func(a, b *report) int { return a.key.Compare(b.key) })
	failed, first := 0, error(nil)
	for _, r := range open {
		err := ctx.Err()
		if err == nil {
			err = w.write(ctx, r, recorder)
		}
		if err == nil {
			continue
		}
		if failed++; failed == 1 {
			first = fmt.Errorf("%s: %w", r.key, err)
		}
		w.mu.Lock()
		if w.reports[r.key] == r {
			w.open[r.key] = true
		}
		w.mu.Unlock()
	}
	if failed > 0 && ctx.Err() == nil {
		w.c.o.Log.Warn("statuses could not be written, and are tried again", "count", failed, "error", first.Error())
	}
	return failed == 0
}

// write brings a resource's status up to the report, and tells of what changed
// by an event.
func (w *writer) write(ctx context.Context, r *report, recorder record.EventRecorder) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	u := objectOf(groupVersion(r.key.Kind).WithKind(r.key.Kind))
	err := w.c.cache.Get(ctx, client.ObjectKey{Namespace: r.key.Namespace, Name: r.key.Name}, u)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return err
	case u.GetUID() != r.version.uid:
		return nil // it was made anew, and is reported anew
	}
	old, _, _ := unstructured.NestedMap(u.Object, "status")
	status, changed, err := r.status(old, w.c.o.Clock())
	if err != nil || !changed {
		return err
	}
	body, err := r.patch(old, status)
	if err != nil {
		return err
	}
	err = w.client.Status().Patch(ctx, u.DeepCopy(), client.RawPatch(types.MergePatchType, body))
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // it is gone, or made anew
	}
	if err != nil {
		return err
	}
	was := meta.FindStatusCondition(conditions(old), ConditionReady)
	switch {
	case !r.verdict.ready && (was == nil || was.Message != r.verdict.message || was.Status == metav1.ConditionTrue):
		recorder.Event(u, corev1.EventTypeWarning, r.verdict.reason, clip(r.verdict.message, maxEvent))
	case r.verdict.ready && was != nil && was.Status != metav1.ConditionTrue:
		recorder.Event(u, corev1.EventTypeNormal, r.verdict.reason, r.verdict.message)
	}
	return nil
}

// maxEvent is what the API server takes as an event's message (core/v1 validation).
const maxEvent = 1024
