// Package addon installs and removes the add-on that verifies images in a cluster.
//
// What Azure deploys with deployAKSImageIntegrity, and removes with
// --disable-image-integrity, is a Set of objects here: Boltseal's own manifests,
// which the agent of a cluster installs where its bundle says so. An inventory is
// written before the first object and after the last, and each object bears a mark
// and is written under a field manager of its own, so that whoever goes on after
// being cut off finds what was made. What somebody else made is neither
// overwritten nor removed; where the add-on was installed by somebody else
// altogether, that is said, and nothing is done. Where Boltseal itself is the
// agent's process, the Set is empty: there is nothing to install, and nothing that
// an assignment could remove.
package addon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/agent/keep"
)

const (
	// FieldManager is under what name the add-on is written.
	FieldManager = "boltseal-agent-addon"
	// AnnotationAddOn marks an object of the add-on with its own name.
	AnnotationAddOn = "boltseal.dev/add-on"

	// ByAssignment and ByOther are who installed the add-on.
	ByAssignment = "assignment"
	ByOther      = "other"
)

const (
	timeout = 15 * time.Second
	// DefaultRecheck is how often an installed add-on is looked at.
	DefaultRecheck = time.Minute
	// firstRetry and mostRetry bound the pause after a failure.
	firstRetry = time.Second
	mostRetry  = 5 * time.Minute
	// waitReady is how often is looked whether it runs, while it does not.
	waitReady  = 2 * time.Second
	maxMessage = 1024
	pageSize   = 500
)

// Options make an Installer.
type Options struct {
	// Dynamic is the way to the cluster. Required.
	Dynamic dynamic.Interface
	// Set is what to install.
	Set Set
	// Inventory keeps what was made. Required.
	Inventory *keep.Keeper
	// Changed is told when Report may answer otherwise. Nil means nobody is.
	Changed func()
	// Wrote is told of every write and its error. Nil tells nobody.
	Wrote func(what string, err error)
	// Recheck is how often an installed add-on is looked at. 0 means DefaultRecheck.
	Recheck time.Duration
	// Log receives what an operator should know. Nil discards it.
	Log *slog.Logger
}

// Installer brings the add-on to what is wanted.
type Installer struct {
	o     Options
	poked chan struct{}

	mu     sync.Mutex
	want   *v1alpha1.BundleAddOn
	report v1alpha1.AddOnReport
}

// New makes an Installer. It does not talk to the cluster yet.
func New(o Options) *Installer {
	if o.Changed == nil {
		o.Changed = func() {}
	}
	if o.Wrote == nil {
		o.Wrote = func(string, error) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Recheck <= 0 {
		o.Recheck = DefaultRecheck
	}
	in := &Installer{o: o, poked: make(chan struct{}, 1)}
	if len(o.Set.Objects) == 0 {
		in.report = v1alpha1.AddOnReport{State: v1alpha1.AddOnInstalled, InstalledBy: ByOther}
	}
	return in
}

// Want says what is wanted from now on.
func (in *Installer) Want(w v1alpha1.BundleAddOn) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.want != nil && sameAddOn(*in.want, w) {
		return
	}
	in.want = w.DeepCopy()
	if len(in.o.Set.Objects) == 0 {
		in.report.Attempt, in.report.Message = w.Attempt, ""
		if w.Enabled != nil && !*w.Enabled {
			in.report.Message = "Boltseal was installed in the cluster by somebody else than an assignment, and is not removed"
		}
	}
	select {
	case in.poked <- struct{}{}:
	default:
	}
}

func sameAddOn(a, b v1alpha1.BundleAddOn) bool {
	return (a.Enabled == nil) == (b.Enabled == nil) && (a.Enabled == nil || *a.Enabled == *b.Enabled) && a.Purge == b.Purge && a.Attempt == b.Attempt
}

// Report tells how far the add-on is.
func (in *Installer) Report() v1alpha1.AddOnReport {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.report
}

func (in *Installer) tell(r v1alpha1.AddOnReport) {
	if len(r.Message) > maxMessage {
		r.Message = strings.ToValidUTF8(r.Message[:maxMessage], "")
	}
	in.mu.Lock()
	changed := in.report != r
	in.report = r
	in.mu.Unlock()
	if changed {
		in.o.Changed()
	}
}

// Run installs and removes as is wanted until ctx ends.
func (in *Installer) Run(ctx context.Context) {
	if len(in.o.Set.Objects) == 0 {
		return
	}
	pause := time.Duration(0)
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-in.poked:
			pause = 0 // what is newly wanted is tried at once
		case <-again.C:
		}
		in.mu.Lock()
		want := in.want
		in.mu.Unlock()
		if want == nil {
			continue
		}
		next := in.o.Recheck
		switch err := in.Reconcile(ctx, *want); {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errNotReady):
			next = waitReady
		case err != nil:
			pause = min(max(firstRetry, 2*pause), mostRetry)
			next = pause
			in.o.Log.Warn("the add-on is not as it is wanted; it is tried again", "error", err.Error())
			r := in.Report()
			r.State, r.Attempt, r.Message = v1alpha1.AddOnFailed, want.Attempt, err.Error()
			in.tell(r)
		default:
			pause = 0
		}
		again.Reset(next)
	}
}

// errNotReady means that everything is installed, and does not run yet.
var errNotReady = errors.New("it does not run yet")

// inventory is what was made, or may have been.
type inventory struct {
	Version string `json:"version"`
	Digest  string `json:"digest"`
	Items   []item `json:"items"`
	// Removing says that it was being removed.
	Removing bool `json:"removing,omitempty"`
}

// Reconcile brings the add-on to what is wanted, once. It may be cut off at any
// write, and called again.
func (in *Installer) Reconcile(ctx context.Context, want v1alpha1.BundleAddOn) error {
	var inv inventory
	known, err := in.o.Inventory.Load(ctx, &inv)
	if errors.Is(err, keep.ErrUnusable) {
		// The marks on the objects still tell which are ours.
		inv = inventory{}
		for _, u := range in.o.Set.Objects {
			inv.Items = append(inv.Items, itemOf(u))
		}
		known, err = true, nil
	}
	if err != nil {
		return err
	}
	r := v1alpha1.AddOnReport{InstalledBy: ByAssignment, Attempt: want.Attempt}
	if !known {
		foreign, err := in.foreign(ctx)
		if err != nil {
			return err
		}
		if foreign != "" {
			r.State, r.InstalledBy = v1alpha1.AddOnInstalled, ByOther
			r.Message = fmt.Sprintf("somebody else than an assignment installed it (%s); it is left as it is", foreign)
			in.tell(r)
			return nil
		}
	}
	switch {
	case want.Enabled == nil && !slices.ContainsFunc(inv.Items, func(i item) bool { return !holdsUserData(i.Kind) }):
		r.State, r.InstalledBy = v1alpha1.AddOnAbsent, ""
		in.tell(r)
		return nil
	case want.Enabled == nil && inv.Removing, want.Enabled != nil && !*want.Enabled:
		return in.remove(ctx, inv, known, want.Purge, r)
	}
	return in.install(ctx, inv, r)
}

// foreign names an object of the set that somebody else made; what only holds
// other things does not count.
func (in *Installer) foreign(ctx context.Context) (string, error) {
	for _, u := range in.o.Set.Objects {
		if holdsUserData(u.GetKind()) {
			continue
		}
		live, err := in.get(ctx, itemOf(u))
		if err != nil {
			return "", err
		}
		if live != nil && !isOurs(live) {
			return itemOf(u).String(), nil
		}
	}
	return "", nil
}

func isOurs(u *unstructured.Unstructured) bool {
	if u.GetAnnotations()[AnnotationAddOn] != u.GetName() {
		return false
	}
	return slices.ContainsFunc(u.GetManagedFields(), func(m metav1.ManagedFieldsEntry) bool { return m.Manager == FieldManager })
}

func (in *Installer) at(i item) dynamic.ResourceInterface {
	return in.within(i.gvr(), i.Namespace)
}

func (in *Installer) within(gvr schema.GroupVersionResource, namespace string) dynamic.ResourceInterface {
	if namespace == "" {
		return in.o.Dynamic.Resource(gvr)
	}
	return in.o.Dynamic.Resource(gvr).Namespace(namespace)
}

// get returns an object, nil where it is not there.
func (in *Installer) get(ctx context.Context, i item) (*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	u, err := in.at(i).Get(ctx, i.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", i, err)
	}
	return u, nil
}
