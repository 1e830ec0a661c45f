package onewatch_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/boltseal/boltseal/internal/kube/onewatch"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

// mapper knows a kind only when it is told to.
type mapper struct {
	meta.RESTMapper
	mu    sync.Mutex
	known bool
}

func (m *mapper) RESTMapping(gk schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.known {
		return nil, &meta.NoKindMatchError{GroupKind: gk, SearchedVersions: versions}
	}
	return m.RESTMapper.RESTMapping(gk, versions...)
}

func (m *mapper) learn() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known = true
}

func secret(name, value string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Data: map[string][]byte{"public": []byte(value), "private": []byte("key")}}
}

type told struct {
	mu  sync.Mutex
	all []string

	watching atomic.Bool
}

func (d *told) add(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, s)
}

func (d *told) await(t *testing.T, want string) {
	t.Helper()
	testwait.Until(t, fmt.Sprintf("%q is told", want), func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.all) > 0 && d.all[len(d.all)-1] == want
	})
}

// watchOne begins to watch ns/one; forbid has it that nothing may be read while it returns true.
func watchOne(t *testing.T, m *mapper, forbid func() bool) (client.WithWatch, *told) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	kinds := meta.NewDefaultRESTMapper(nil)
	kinds.Add(corev1.SchemeGroupVersion.WithKind("Secret"), meta.RESTScopeNamespace)
	m.RESTMapper = kinds
	d := &told{}
	c := fake.NewClientBuilder().WithScheme(scheme).WithRESTMapper(m).
		WithIndex(&corev1.Secret{}, "metadata.name", func(o client.Object) []string { return []string{o.GetName()} }).
		WithInterceptorFuncs(interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, o ...client.ListOption) error {
			if forbid() {
				return apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "one", nil)
			}
			return c.List(ctx, l, o...)
		}, Watch: func(ctx context.Context, c client.WithWatch, l client.ObjectList, o ...client.ListOption) (watch.Interface, error) {
			w, err := c.Watch(ctx, l, o...)
			d.watching.Store(err == nil)
			return w, err
		}}).WithObjects(secret("another", "x")).Build()
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		onewatch.Run(ctx, onewatch.Options{Client: c, Object: &corev1.Secret{}, List: &corev1.SecretList{}, Namespace: "ns", Name: "one", Retry: 5 * time.Millisecond,
			Keep: func(o client.Object) { delete(o.(*corev1.Secret).Data, "private") },
			Changed: func(o client.Object) {
				if o == nil {
					d.add("nothing")
					return
				}
				s := o.(*corev1.Secret)
				if s.Data["private"] != nil {
					t.Error("what is not to be kept was kept")
				}
				d.add(string(s.Data["public"]))
			}})
	})
	t.Cleanup(func() {
		stop()
		wg.Wait()
	})
	return c, d
}

func TestOneObject(t *testing.T) {
	t.Parallel()
	m := &mapper{known: true}
	c, d := watchOne(t, m, func() bool { return false })
	d.await(t, "nothing")
	steps := []func() error{
		func() error { return c.Create(t.Context(), secret("one", "first")) },
		func() error { return c.Update(t.Context(), secret("one", "second")) },
		func() error { return c.Update(t.Context(), secret("another", "other")) },
		func() error { return c.Delete(t.Context(), secret("one", "")) },
	}
	testwait.Until(t, "the watch begins", d.watching.Load) // this API server's watches miss what happens before
	for i, want := range []string{"first", "second", "second", "nothing"} {
		if err := steps[i](); err != nil {
			t.Fatal(err)
		}
		d.await(t, want)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.all {
		if s == "x" || s == "other" {
			t.Error("told of another object")
		}
	}
}

func TestKindThatComesLater(t *testing.T) {
	t.Parallel()
	m := &mapper{}
	c, d := watchOne(t, m, func() bool { return false })
	d.await(t, "nothing")
	if err := c.Create(t.Context(), secret("one", "there")); err != nil {
		t.Fatal(err)
	}
	m.learn()
	d.await(t, "there")
}

func TestForbidden(t *testing.T) {
	t.Parallel()
	m := &mapper{known: true}
	var mu sync.Mutex
	forbidden := true
	c, d := watchOne(t, m, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return forbidden
	})
	if err := c.Create(t.Context(), secret("one", "there")); err != nil {
		t.Fatal(err)
	}
	d.await(t, "nothing")
	mu.Lock()
	forbidden = false
	mu.Unlock()
	d.await(t, "there")
}
