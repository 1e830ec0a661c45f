package apply

import (
	"context"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"

	integrityv1 "github.com/boltseal/boltseal/api/integrity/v1alpha1"
)

// Groups of Gatekeeper.
const (
	TemplateGroup   = "templates.gatekeeper.sh"
	ConstraintGroup = "constraints.gatekeeper.sh"

	templateKind = "ConstraintTemplate"
)

func policyResource() schema.GroupVersionResource {
	return integrityv1.GroupVersion.WithResource("imageintegritypolicies")
}

func templateResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: TemplateGroup, Version: "v1", Resource: "constrainttemplates"}
}

// constraintResource is where Gatekeeper's constraints of a kind are.
func constraintResource(kind string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: ConstraintGroup, Version: "v1beta1", Resource: strings.ToLower(kind)}
}

// resourceOf is where an object of a rendering is.
func resourceOf(u *unstructured.Unstructured) schema.GroupVersionResource {
	switch u.GetKind() {
	case integrityv1.KindImageIntegrityPolicy:
		return policyResource()
	case templateKind:
		g := u.GroupVersionKind()
		return schema.GroupVersionResource{Group: TemplateGroup, Version: g.Version, Resource: "constrainttemplates"}
	}
	return constraintResource(u.GetKind())
}

// kind is what is known of the objects of one kind.
type kind struct {
	gvr     schema.GroupVersionResource
	inf     toolscache.SharedIndexInformer
	changed func()
	stop    context.CancelFunc

	mu     sync.Mutex
	known  bool // it was found out whether the cluster has the kind
	absent bool
}

func (k *kind) found(err error) {
	k.mu.Lock()
	was, knew := k.absent, k.known
	switch {
	case err == nil:
		k.known, k.absent = true, false
	case apierrors.IsNotFound(err):
		k.known, k.absent = true, true
	}
	tell := k.known != knew || k.absent != was
	k.mu.Unlock()
	if tell {
		k.changed()
	}
}

// state tells whether the cluster has the kind, and whether all that is there is
// known.
func (k *kind) state() (there, synced bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.absent, k.known && (k.absent || k.inf.HasSynced())
}

// get returns the object of a name, nil where it is not there. It must not be
// changed.
func (k *kind) get(name string) *unstructured.Unstructured {
	if there, _ := k.state(); !there {
		return nil
	}
	in, ok, err := k.inf.GetStore().GetByKey(name)
	if err != nil || !ok {
		return nil
	}
	u, _ := in.(*unstructured.Unstructured)
	return u
}

// all are the objects, which must not be changed.
func (k *kind) all() []*unstructured.Unstructured {
	if there, _ := k.state(); !there {
		return nil
	}
	var out []*unstructured.Unstructured
	for _, in := range k.inf.GetStore().List() {
		if u, ok := in.(*unstructured.Unstructured); ok {
			out = append(out, u)
		}
	}
	return out
}

// follow begins to watch a kind, unless it is watched already, and returns it.
// What the cluster does not have yet is looked for again and again.
func (a *Applier) follow(ctx context.Context, gvr schema.GroupVersionResource) *kind {
	if k := a.kinds[gvr]; k != nil {
		return k
	}
	ctx, cancel := context.WithCancel(ctx)
	k := &kind{gvr: gvr, changed: a.o.Changed, stop: cancel}
	resource := a.dynamic.Resource(gvr)
	lw := toolscache.ToListWatcherWithWatchListSemantics(&toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := resource.List(ctx, o)
			k.found(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return resource.Watch(ctx, o)
		},
	}, plainList{})
	k.inf = toolscache.NewSharedIndexInformer(lw, &unstructured.Unstructured{}, 0, toolscache.Indexers{})
	// Neither call fails before the informer runs.
	_ = k.inf.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *toolscache.Reflector, err error) {
		if ctx.Err() == nil && !apierrors.IsNotFound(err) {
			a.o.Log.Warn("watching a kind failed, and is tried again", "resource", gvr.GroupResource().String(), "error", err.Error())
		}
	})
	tell := func(any) { a.o.Changed() }
	_, _ = k.inf.AddEventHandler(toolscache.ResourceEventHandlerFuncs{AddFunc: tell, UpdateFunc: func(_, _ any) { a.o.Changed() }, DeleteFunc: tell})
	a.kinds[gvr] = k
	a.running.Go(func() { k.inf.RunWithContext(ctx) })
	a.running.Go(func() {
		if toolscache.WaitForCacheSync(ctx.Done(), k.inf.HasSynced) {
			a.o.Changed()
		}
	})
	return k
}

type plainList struct{}

func (plainList) IsWatchListSemanticsUnSupported() bool { return true }

// waitFor waits until a kind is known; false is for later.
func waitFor(ctx context.Context, k *kind) bool {
	for {
		if _, ok := k.state(); ok {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pollEvery):
		}
	}
}
