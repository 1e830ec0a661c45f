package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/agent/apply"
)

// leastPause is what passes at least between two reports.
const leastPause = 500 * time.Millisecond

// reporter writes what the agent tells to the hub, when it changed or when it is
// time to show that the agent lives; it must have looked again for that. Nobody
// waits for it.
type reporter struct {
	resource  dynamic.ResourceInterface
	name      string
	heartbeat time.Duration
	clock     func() time.Time
	wrote     func(what string, err error)
	failed    func(error) // told why the hub does not take reports, and nil when it does

	mu       sync.Mutex
	next     *v1alpha1.ClusterReportContent // nil: nothing to tell yet
	poked    chan struct{}
	sent     *v1alpha1.ClusterReportContent
	sentAt   time.Time
	beat     time.Duration // until the next report, if nothing changes
	sequence int64
	known    bool // the hub was asked what it has
}

// number is that of the last report.
func (r *reporter) number() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sequence
}

// set is told what there is to tell now.
func (r *reporter) set(c v1alpha1.ClusterReportContent) {
	r.mu.Lock()
	r.next = &c
	r.mu.Unlock()
	signalChannel(r.poked)
}

func signalChannel(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (r *reporter) run(ctx context.Context) {
	var pause backOff
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-r.poked:
		}
		for ctx.Err() == nil {
			err := r.send(ctx)
			r.failed(err)
			if err == nil {
				pause.reset()
				break
			}
			pause.wait(ctx)
		}
		sleepContext(ctx, leastPause)
	}
}

// send writes the report where it is due.
func (r *reporter) send(ctx context.Context) error {
	r.mu.Lock()
	next, sent := r.next, r.sent
	r.mu.Unlock()
	now := r.clock()
	if next == nil || sent != nil && reflect.DeepEqual(*next, *sent) && now.Sub(r.sentAt) < r.beat && !now.Before(r.sentAt) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, hubTimeout)
	defer cancel()
	if !r.known {
		if err := r.recall(ctx); err != nil {
			return err
		}
	}
	c := *next
	at := metav1.NewTime(now.UTC().Truncate(time.Second))
	c.Sequence, c.At = r.sequence+1, &at
	body, err := json.Marshal(map[string]any{"apiVersion": v1alpha1.GroupVersion.String(), "kind": "ClusterReport",
		"metadata": map[string]any{"name": r.name}, "report": c})
	if err != nil {
		return err
	}
	force := true
	_, err = r.resource.Patch(ctx, r.name, types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: apply.FieldManager, Force: &force})
	r.wrote("report", err)
	if err != nil {
		return fmt.Errorf("the report: %w", err)
	}
	r.mu.Lock()
	r.sequence++
	r.sent, r.sentAt = next, now
	// Agents that began together do not report together for ever.
	r.beat = r.heartbeat - rand.N(r.heartbeat/5)
	r.mu.Unlock()
	return nil
}

// recall asks the hub for the number of the last report.
func (r *reporter) recall(ctx context.Context) error {
	u, err := r.resource.Get(ctx, r.name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		r.known = true
		return nil
	case err != nil:
		return fmt.Errorf("the last report: %w", err)
	}
	r.mu.Lock()
	r.sequence, r.known = max(r.sequence, sequenceOf(u)), true
	r.mu.Unlock()
	return nil
}

func sequenceOf(u *unstructured.Unstructured) int64 {
	var rep v1alpha1.ClusterReport
	if runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &rep) != nil {
		return 0
	}
	return max(0, rep.Report.Sequence)
}
