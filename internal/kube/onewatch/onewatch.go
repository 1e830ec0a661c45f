// Package onewatch watches one object of a cluster by its name, and needs no right to any other.
package onewatch

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// DefaultRetry is how often a kind is looked for that the cluster does not have.
const DefaultRetry = 5 * time.Second

// Options say what to watch.
type Options struct {
	// Client is the way to the API server. Required.
	Client client.WithWatch
	// Object and List are an empty object of its kind and an empty list of them, as
	// Client takes them. Required.
	Object client.Object
	List   client.ObjectList
	// Namespace is "" for an object that is in none.
	Namespace, Name string
	// Keep removes from the object what is not to be kept in memory. Nil keeps
	// everything but the managed fields.
	Keep func(client.Object)
	// Changed is told of the object as it is now, one call at a time; nil means
	// that it is not there, its kind is not, or it may not be read. The first call
	// comes when this is known. The object must not be changed. Required.
	Changed func(client.Object)
	// Retry is how long to wait before a kind that is not there, or an object that
	// may not be read, is looked for again. 0 means DefaultRetry.
	Retry time.Duration
	// Log receives what an operator should know. Nil discards it.
	Log *slog.Logger
}

// Run watches until ctx ends.
func Run(ctx context.Context, o Options) {
	if o.Retry <= 0 {
		o.Retry = DefaultRetry
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	w := &watcher{o: o}
	var err error
	if w.kind, err = apiutil.GVKForObject(o.Object, o.Client.Scheme()); err != nil {
		o.Log.Error("an object cannot be watched", "name", o.Name, "error", err.Error())
		return
	}
	for ctx.Err() == nil {
		w.run(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(o.Retry):
		}
	}
}

type watcher struct {
	o      Options
	kind   schema.GroupVersionKind
	mu     sync.Mutex
	told   bool   // Changed was called
	gone   bool   // with nil, the last time
	failed string // what was last complained about
}

// run watches until ctx ends or there is nothing to watch.
func (w *watcher) run(ctx context.Context) {
	if _, err := w.o.Client.RESTMapper().RESTMapping(w.kind.GroupKind(), w.kind.Version); err != nil {
		w.fail(err)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	inf := toolscache.NewSharedIndexInformer(w.lister(), w.o.Object, 0, toolscache.Indexers{})
	if err := errors.Join(inf.SetTransform(w.keep), inf.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *toolscache.Reflector, err error) {
		if isAbsent(err) {
			cancel()
		}
		w.fail(err)
	})); err != nil {
		w.o.Log.Error("an object cannot be watched", "kind", w.kind.Kind, "name", w.o.Name, "error", err.Error())
		return
	}
	tell := func(any) { w.tell(inf.GetStore()) }
	reg, err := inf.AddEventHandler(toolscache.ResourceEventHandlerFuncs{AddFunc: tell, UpdateFunc: func(_, _ any) { tell(nil) }, DeleteFunc: tell})
	if err != nil {
		w.o.Log.Error("an object cannot be watched", "kind", w.kind.Kind, "name", w.o.Name, "error", err.Error())
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if toolscache.WaitForCacheSync(ctx.Done(), reg.HasSynced) {
			w.tell(inf.GetStore()) // there may have been nothing to handle
		}
	})
	inf.RunWithContext(ctx)
}

// lister lists and watches the one object. Rights that are bound to a name cover
// requests with this field selector (Kubernetes, RBAC, "Referring to resources").
func (w *watcher) lister() toolscache.ListerWatcher {
	list := func() client.ObjectList { return w.o.List.DeepCopyObject().(client.ObjectList) }
	options := func(raw metav1.ListOptions) *client.ListOptions {
		return &client.ListOptions{Namespace: w.o.Namespace, FieldSelector: fields.OneTermEqualSelector("metadata.name", w.o.Name), Raw: &raw}
	}
	// One object needs no stream of initial events.
	return toolscache.ToListWatcherWithWatchListSemantics(&toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, raw metav1.ListOptions) (runtime.Object, error) {
			l := list()
			return l, w.o.Client.List(ctx, l, options(raw))
		},
		WatchFuncWithContext: func(ctx context.Context, raw metav1.ListOptions) (watch.Interface, error) {
			return w.o.Client.Watch(ctx, list(), options(raw))
		},
	}, plainList{})
}

type plainList struct{}

func (plainList) IsWatchListSemanticsUnSupported() bool { return true }

func (w *watcher) keep(in any) (any, error) {
	if o, ok := in.(client.Object); ok {
		o.SetManagedFields(nil)
		if w.o.Keep != nil {
			w.o.Keep(o)
		}
	}
	return in, nil
}

// tell tells what the store holds now, so that the last call tells the latest.
func (w *watcher) tell(store toolscache.Store) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := w.o.Name
	if w.o.Namespace != "" {
		key = w.o.Namespace + "/" + w.o.Name
	}
	in, _, _ := store.GetByKey(key)
	o, _ := in.(client.Object)
	w.failed = ""
	w.call(o)
}

func (w *watcher) call(o client.Object) {
	if o == nil && w.told && w.gone {
		return
	}
	w.told, w.gone = true, o == nil
	w.o.Changed(o)
}

// isAbsent reports whether it is no use to ask again at once: there is no such
// kind, or it may not be read.
func isAbsent(err error) bool {
	return meta.IsNoMatchError(err) || apierrors.IsNotFound(err) || apierrors.IsForbidden(err)
}

func (w *watcher) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if isAbsent(err) {
		w.call(nil)
	}
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) || errors.Is(err, context.Canceled) || w.failed == err.Error() {
		return
	}
	w.failed = err.Error()
	w.o.Log.Warn("an object cannot be watched, and is tried again", "kind", w.kind.Kind, "namespace", w.o.Namespace, "name", w.o.Name, "error", err.Error())
}
