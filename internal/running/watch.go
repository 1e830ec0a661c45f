package running

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/boltseal/boltseal/internal/admission/integrity"
)

// stillThere selects the Pods that may run.
const stillThere = "status.phase!=Succeeded,status.phase!=Failed"

// pageSize is how many objects are listed at a time.
const pageSize = 500

// clientQPS and clientBurst bound what the audit costs the API server, in requests
// a second.
const (
	clientQPS   = 50
	clientBurst = 50
)

const protobuf = "application/vnd.kubernetes.protobuf"

// coreClient speaks protobuf: Pods are long.
func coreClient(config *rest.Config) (typedcorev1.CoreV1Interface, error) {
	config = rest.CopyConfig(config)
	config.ContentType, config.AcceptContentTypes = protobuf, protobuf+",application/json"
	config.QPS, config.Burst = clientQPS, clientBurst
	core, err := typedcorev1.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("the way to the cluster: %w", err)
	}
	return core, nil
}

// List reads once what runs in a namespace, or in all where that is "". drivers are
// the CSI drivers that mount images.
func List(ctx context.Context, config *rest.Config, namespace string, drivers integrity.Drivers) (*Inventory, error) {
	core, err := coreClient(config)
	if err != nil {
		return nil, err
	}
	v := NewInventory(drivers)
	if namespace != "" {
		ns, err := core.Namespaces().Get(ctx, namespace, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("namespace %s: %w", namespace, err)
		}
		v.AddNamespace(ns.Name, ns.Labels)
	} else {
		err := eachPage(func(o metav1.ListOptions) (string, error) {
			list, err := core.Namespaces().List(ctx, o)
			if err != nil {
				return "", err
			}
			for i := range list.Items {
				v.AddNamespace(list.Items[i].Name, list.Items[i].Labels)
			}
			return list.Continue, nil
		}, metav1.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("namespaces: %w", err)
		}
	}
	err = eachPage(func(o metav1.ListOptions) (string, error) {
		list, err := core.Pods(namespace).List(ctx, o)
		if err != nil {
			return "", err
		}
		for i := range list.Items {
			if err := (podStore{v: v}).Add(&list.Items[i]); err != nil {
				return "", err
			}
		}
		return list.Continue, nil
	}, metav1.ListOptions{FieldSelector: stillThere})
	if err != nil {
		return nil, fmt.Errorf("pods: %w", err)
	}
	return v, nil
}

func eachPage(page func(metav1.ListOptions) (string, error), o metav1.ListOptions) error {
	o.Limit = pageSize
	for {
		next, err := page(o)
		if err != nil || next == "" {
			return err
		}
		o.Continue = next
	}
}

// follow keeps the Inventory up to date until ctx ends. synced is called once when
// all that is there is known.
func (v *Inventory) follow(ctx context.Context, core typedcorev1.CoreV1Interface, synced func()) {
	var left atomic.Int32
	left.Store(2)
	known := func() {
		if left.Add(-1) == 0 {
			synced()
		}
	}
	pods := &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = stillThere
			return core.Pods("").List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = stillThere
			return core.Pods("").Watch(ctx, o)
		},
	}
	namespaces := &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return core.Namespaces().List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return core.Namespaces().Watch(ctx, o)
		},
	}
	var wg sync.WaitGroup
	run := func(name string, lw toolscache.ListerWatcher, expected any, store toolscache.ReflectorStore) {
		wg.Go(func() {
			toolscache.NewReflectorWithOptions(lw, expected, store, toolscache.ReflectorOptions{Name: "audit of " + name}).RunWithContext(ctx)
		})
	}
	run("pods", pods, &corev1.Pod{}, podStore{v, sync.OnceFunc(known)})
	run("namespaces", namespaces, &corev1.Namespace{}, namespaceStore{v, sync.OnceFunc(known)})
	wg.Wait()
}
