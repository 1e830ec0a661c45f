package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/kube/served"
)

// lookTimeout bounds a question after the kinds that the cluster knows.
const lookTimeout = 10 * time.Second

// maxProblem bounds what is told of one error, in bytes.
const maxProblem = 300

// optionalKind reports whether a cluster may do without a kind. Ratify's may be absent;
// Boltseal's own come with it, and where one is not known, nobody knows whether
// there are policies.
func optionalKind(gvk schema.GroupVersionKind) bool { return mayBeAbsent(gvk.Kind) }

// mayBeAbsent is optional by the kind's name.
func mayBeAbsent(kind string) bool {
	return groupVersion(kind).Group == v1beta1.GroupVersion.Group
}

// kinds is what is known of the kinds themselves. It is safe for concurrent use.
type kinds struct {
	mu       sync.Mutex
	open     map[string]string // kinds whose resources are not all known yet → why
	vanished map[string]bool   // kinds that the cluster knew, and does not know any more
	problem  string            // what a watch last failed of
	ours     chan struct{}     // closed once no kind that must be there is open
}

func newKinds() *kinds {
	k := &kinds{open: map[string]string{"Namespace": ""}, ours: make(chan struct{})}
	for _, gvk := range Kinds() {
		k.open[gvk.Kind] = ""
	}
	return k
}

// wait notes why a kind is not known yet.
func (k *kinds) wait(kind, why string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.open[kind]; ok {
		k.open[kind] = why
	}
}

// know notes that all of a kind is known, or that it may be absent and is.
func (k *kinds) know(kind string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.open, kind)
	for _, gvk := range Kinds() {
		if _, ok := k.open[gvk.Kind]; ok && !optionalKind(gvk) {
			return
		}
	}
	select {
	case <-k.ours:
	default:
		close(k.ours)
	}
}

// failed notes why a watch failed.
func (k *kinds) failed(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.problem = err.Error()
	if len(k.problem) > maxProblem {
		k.problem = strings.ToValidUTF8(k.problem[:maxProblem], "") + "…"
	}
}

// Ready reports whether all that the cluster says is known, and what is not. Before
// it is, nothing is in force: what is not known is never taken for none.
func (c *Controller) Ready() (ok bool, text string) {
	k := c.kinds
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.open) == 0 {
		return true, "all kinds of resources are known"
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(k.open)) {
		if why := k.open[kind]; why != "" {
			kind += " (" + why + ")"
		}
		parts = append(parts, kind)
	}
	text = "not known yet: " + strings.Join(parts, ", ")
	if k.problem != "" {
		text += "; the last problem: " + k.problem
	}
	return false, text
}

// Vanished says which kinds the cluster knew, and does not know any more. What was
// known of them stays in force. Nil means none.
func (c *Controller) Vanished() error {
	c.kinds.mu.Lock()
	defer c.kinds.mu.Unlock()
	if len(c.kinds.vanished) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s; what was read of them before still applies. What to do: apply their CustomResourceDefinitions (boltseal crds) and the resources again",
		errVanished, strings.Join(slices.Sorted(maps.Keys(c.kinds.vanished)), ", "))
}

var errVanished = errors.New("the cluster does not know kinds any more that it knew")

// suspect has the kinds looked for again where a watch failed since one is not there.
func (c *Controller) suspect(err error) {
	c.kinds.failed(err)
	if apierrors.IsNotFound(err) {
		c.suspected.Store(true)
		c.poke()
	}
}

// confirm tells resources that were deleted from those that went with their kind:
// who deletes a CustomResourceDefinition deletes all its resources by the way, and
// what they demanded or trusted is then not known, rather than none. Those stay in
// force; the others are forgotten. It reports whether anything changed, and has
// itself called again while something is open.
func (c *Controller) confirm(ctx context.Context) (changed bool) {
	suspected := c.suspected.Swap(false)
	c.kinds.mu.Lock()
	was := maps.Clone(c.kinds.vanished)
	c.kinds.mu.Unlock()
	// The API server may say that a definition is on its way out a moment after its
	// resources went. A policy stays in force until then.
	gone, fresh := c.table.marked(c.o.Clock().Add(-served.Lag), func(kind string) bool { return was[kind] || !mayBeAbsent(kind) })
	c.unsettled, c.lookAgain = fresh, served.Lag
	if len(gone) == 0 && !suspected && len(was) == 0 {
		return false
	}
	now := map[string]bool{}
	asked := map[schema.GroupVersion]map[string]bool{}
	for _, gvk := range Kinds() {
		keys := gone[gvk.Kind]
		if len(keys) == 0 && !was[gvk.Kind] && !(suspected && c.table.has(gvk.Kind)) {
			continue
		}
		there, err := c.there(ctx, gvk, len(keys) > 0 && (was[gvk.Kind] || !optionalKind(gvk)), asked)
		if there != present {
			c.unsettled = true
		}
		switch {
		case err != nil:
			c.o.Log.Warn("whether resources went with their kind could not be found out, and is asked again; they still apply", "kind", gvk.Kind, "error", err.Error())
			now[gvk.Kind], c.lookAgain = was[gvk.Kind], retryKind
		case there == vanished:
			now[gvk.Kind], c.lookAgain = true, retryKind
		case there == unclear:
			now[gvk.Kind] = was[gvk.Kind]
		default:
			changed = c.table.sweep(keys) || changed
		}
	}
	maps.DeleteFunc(now, func(_ string, v bool) bool { return !v })
	for kind := range now {
		if !was[kind] {
			c.o.Log.Error("the cluster does not know a kind any more; what was read of it before still applies. Apply the CustomResourceDefinitions again (boltseal crds)", "kind", kind)
		}
	}
	c.kinds.mu.Lock()
	c.kinds.vanished = now
	c.kinds.mu.Unlock()
	return changed || !maps.Equal(was, now)
}

// presence is what became of a kind that resources were deleted of.
type presence uint8

const (
	unclear  presence = iota // it is looked for again
	vanished                 // the cluster does not serve it any more
	present
)

// there looks for a kind. careful is set where the watch may not have told yet of
// resources that came since others went: the API server is asked for them where none
// would be left.
func (c *Controller) there(ctx context.Context, gvk schema.GroupVersionKind, careful bool, asked map[schema.GroupVersion]map[string]bool) (presence, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	known, ok := asked[gvk.GroupVersion()]
	if !ok {
		var err error
		if known, err = served.Kinds(ctx, c.discovery, gvk.GroupVersion()); err != nil {
			return unclear, err
		}
		asked[gvk.GroupVersion()] = known
	}
	switch {
	case !known[gvk.Kind]:
		return vanished, nil
	case !careful || !c.table.last(gvk.Kind):
		return present, nil
	}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(gvk.GroupVersion().WithKind(gvk.Kind + "List"))
	if err := c.direct.List(ctx, list, client.Limit(1)); err != nil {
		return unclear, err
	}
	if len(list.Items) > 0 {
		return unclear, nil // the watch will tell of it
	}
	return present, nil
}

// keysByKind are keys of resources, by their kinds.
type keysByKind map[string][]compile.Key
