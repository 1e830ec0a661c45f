package agent

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/agent/addon"
	"github.com/boltseal/boltseal/internal/governance/agent/apply"
	"github.com/boltseal/boltseal/internal/governance/agent/keep"
	"github.com/boltseal/boltseal/internal/governance/agent/observe"
)

// known is what was demanded last, as it is kept.
type known struct {
	UID        types.UID                  `json:"uid"`
	Generation int64                      `json:"generation"`
	Spec       v1alpha1.ClusterBundleSpec `json:"spec"`
}

// remembered is what outlives a restart beside what is demanded.
type remembered struct {
	Sequence int64              `json:"sequence"`
	Seen     []observe.Sighting `json:"seen"`
}

// loop is one Run.
type loop struct {
	*Agent
	applier  *apply.Applier
	observer *observe.Observer
	reporter *reporter
	addon    *addon.Installer
	bundles  keep.Keeper
	seen     keep.Keeper
	keptAt   time.Time
	changed  chan struct{} // room for one

	mu       sync.Mutex
	bundle   *known // what is demanded; nil: nobody ever said
	fresh    bool   // it came from the hub, not from what was kept
	unsaved  bool
	goneFrom time.Time // since when the hub says that it has none; zero: it has
	noHub    func(error)
}

func (l *loop) poke() { signalChannel(l.changed) }

// recall reads what is kept, for as long as the cluster does not answer. It
// returns false when ctx ended. What is damaged is as if it were not there: what
// is installed stays until the hub says what is demanded.
func (l *loop) recall(ctx context.Context) bool {
	var pause backOff
	complain := l.complain("what is kept in the cluster cannot be read, and is tried again", "what is kept in the cluster can be read")
	var k known
	var before remembered
	for _, one := range []struct {
		keeper *keep.Keeper
		into   any
		found  func()
	}{
		{&l.bundles, &k, func() { l.bundle = &k }},
		{&l.seen, &before, func() {}},
	} {
		for {
			ok, err := one.keeper.Load(ctx, one.into)
			if ok {
				one.found()
			}
			// Without the right to read it, the hub is still there to ask.
			if err == nil || errors.Is(err, keep.ErrUnusable) || apierrors.IsForbidden(err) {
				if err != nil {
					l.o.Log.Warn("what is kept is left aside", "error", err.Error())
				}
				break
			}
			complain(err)
			if pause.wait(ctx); ctx.Err() != nil {
				return false
			}
		}
	}
	l.observer = observe.New(observe.Options{Dynamic: l.member, Log: l.o.Log, Clock: l.o.Clock}, before.Seen)
	l.reporter.sequence = before.Sequence
	return ctx.Err() == nil
}

// told is told of the bundle at the hub.
func (l *loop) told(b *v1alpha1.ClusterBundle) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.o.Clock()
	if b == nil {
		if l.goneFrom.IsZero() {
			l.goneFrom = now
			if l.bundle != nil {
				l.o.Log.Warn("the hub has no bundle for this cluster; its last requirements still apply for now", "for", l.o.GoneAfter)
			}
		}
	} else {
		l.goneFrom = time.Time{}
		next := &known{UID: b.UID, Generation: b.Generation, Spec: b.Spec}
		l.unsaved = l.unsaved || l.bundle == nil || l.bundle.UID != next.UID || l.bundle.Generation != next.Generation
		l.bundle, l.fresh = next, true
	}
	l.poke()
}

// contact is told whether the hub answers.
func (l *loop) contact(err error) {
	l.mu.Lock()
	if err != nil {
		l.goneFrom = time.Time{} // it has to say so without a break
	}
	l.mu.Unlock()
	l.metrics.contact(err == nil)
	l.noHub(err)
}

// demanded is what is demanded now, nil where nobody ever said. again is when that
// changes by itself.
func (l *loop) demanded(now time.Time) (b *known, again time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.goneFrom.IsZero() || l.bundle == nil || l.bundle.UID == "" {
		return l.bundle, time.Time{}
	}
	if end := l.goneFrom.Add(l.o.GoneAfter); now.Before(end) {
		return l.bundle, end
	}
	l.o.Log.Warn("the hub has had no bundle for this cluster for long; nothing is required any more", "for", l.o.GoneAfter)
	l.bundle, l.unsaved = &known{}, true
	return l.bundle, time.Time{}
}

// save keeps the bundle before it is acted upon: an agent that starts without the
// hub must not go back to an older one.
func (l *loop) save(ctx context.Context, b *known) error {
	l.mu.Lock()
	due := l.unsaved && b != nil
	l.mu.Unlock()
	if !due {
		return nil
	}
	err := l.bundles.Save(ctx, b)
	l.metrics.wrote("bundle", err)
	if err != nil && !errors.Is(err, keep.ErrTooMuch) {
		return fmt.Errorf("keeping what is required: %w", err)
	}
	l.mu.Lock()
	l.unsaved = l.bundle != b
	l.mu.Unlock()
	if err != nil {
		l.o.Log.Error("what is required is enforced, but cannot be kept for a restart without the hub", "error", err.Error())
	}
	return nil
}

// run acts whenever something changed and then was quiet for a moment.
func (l *loop) run(ctx context.Context) {
	var pause backOff
	complain := l.complain("not all that is required is applied; it is tried again", "all that is required is applied")
	l.poke()
	next := time.Time{}
	for ctx.Err() == nil {
		wait := l.o.Recheck
		if !next.IsZero() {
			wait = min(wait, max(0, next.Sub(l.o.Clock())))
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-l.changed:
			l.settle(ctx)
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			break
		}
		var err error
		next, err = l.safely(ctx)
		switch {
		case err == nil:
			pause.reset()
			complain(nil)
		case ctx.Err() == nil:
			// Whatever changes meanwhile is acted upon at once.
			if at := l.o.Clock().Add(pause.step()); next.IsZero() || at.Before(next) {
				next = at
			}
			if !errors.Is(err, apply.ErrNotYet) {
				complain(err)
			}
		}
	}
	if l.observer.News() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
		defer cancel()
		if err := l.remember(ctx); err != nil {
			l.o.Log.Warn("what was seen could not be kept", "error", err.Error())
		}
	}
}

// remember keeps what is to outlive a restart.
func (l *loop) remember(ctx context.Context) error {
	if err := l.seen.Save(ctx, remembered{Sequence: l.reporter.number(), Seen: l.observer.Memory()}); err != nil {
		return fmt.Errorf("keeping what was seen: %w", err)
	}
	return nil
}

// settle waits until nothing changes, but not for long.
func (l *loop) settle(ctx context.Context) {
	most := time.NewTimer(l.o.Most)
	defer most.Stop()
	for {
		quiet := time.NewTimer(l.o.Quiet)
		select {
		case <-l.changed:
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

// safely is pass; a panic ends it, and nothing else.
func (l *loop) safely(ctx context.Context) (next time.Time, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return l.pass(ctx)
}

// pass brings the cluster up to what is demanded, and tells how it stands.
func (l *loop) pass(ctx context.Context) (next time.Time, err error) {
	begun := l.o.Clock()
	b, next := l.demanded(begun)
	unkept := l.save(ctx, b)
	if b == nil {
		// Nobody ever said what is demanded: nothing is touched.
		l.reporter.set(v1alpha1.ClusterReportContent{Version: l.o.Version, AddOn: l.addon.Report()})
		return next, nil
	}
	l.addon.Want(b.Spec.AddOn)
	result, err := l.applier.Pass(ctx, ctx, &b.Spec)
	err = errors.Join(unkept, err)
	if result == nil {
		l.metrics.passed(nil, b.Generation, l.o.Clock().Sub(begun))
		return next, err
	}
	seen := l.observer.Observe(ctx, result)
	now := l.o.Clock()
	report := observe.Bound(v1alpha1.ClusterReportContent{BundleGeneration: b.Generation, Version: l.o.Version, Engine: result.Engine,
		AddOn: l.addon.Report(), Pods: seen.Pods, Demands: seen.Demands})
	if now.Sub(seen.Reached) < mutedAfter {
		l.reporter.set(report)
	}
	l.metrics.passed(report.Demands, b.Generation, now.Sub(begun))
	sooner := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	sooner(result.Next)
	sooner(seen.Again)
	if due := l.keptAt.Add(keepEvery); now.Before(due) {
		if l.observer.News() {
			sooner(due)
		}
		return next, err
	}
	l.keptAt = now
	return next, errors.Join(err, l.remember(ctx))
}
