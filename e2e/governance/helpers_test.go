package governance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	policy "github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/e2e/await"
)

func need(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ok runs a command that must succeed.
func ok(t testing.TB, args ...string) string {
	t.Helper()
	out, err := boltseal(t.Context(), args...)
	need(t, err)
	return out
}

// eventually waits for something, and returns how long that took.
func eventually(t testing.TB, what string, f func() error) time.Duration {
	t.Helper()
	took := await.Until(t, what, f, func() (all string) {
		for _, s := range []*site{hub, fra1, fra2} {
			log, _ := os.ReadFile(s.server.Process.LogFile())
			all += s.name + ":\n" + string(log[max(0, len(log)-2500):])
		}
		return all
	})
	t.Logf("%s: after %s", what, took.Round(time.Millisecond))
	return took
}

// namespace makes one that is judged.
func (s *site) namespace(t testing.TB) string {
	t.Helper()
	ns, err := s.cluster.Namespace(t.Context(), "shop", map[string]string{"judged": "yes"})
	need(t, err)
	return ns
}

func pod(ns, name, image string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}}}
}

// admits asks whether a Pod would be admitted. An error is no denial of an image.
func (s *site) admits(ctx context.Context, ns, image string) (bool, error) {
	err := s.cluster.Client().Create(ctx, pod(ns, "asked", image), client.DryRunAll)
	if err != nil && strings.Contains(err.Error(), "not trusted") {
		return false, nil
	}
	return err == nil, err
}

// until waits until a Pod with the image is admitted, or denied.
func (s *site) until(t testing.TB, what, ns, image string, admitted bool) time.Duration {
	t.Helper()
	return eventually(t, s.name+": "+what, func() error {
		is, err := s.admits(t.Context(), ns, image)
		if err == nil && is != admitted {
			err = fmt.Errorf("admitted: %t", is)
		}
		return err
	})
}

// is checks it at once.
func (s *site) is(t testing.TB, what, ns, image string, admitted bool) {
	t.Helper()
	if is, err := s.admits(t.Context(), ns, image); err != nil || is != admitted {
		t.Errorf("%s: %s: admitted %t, %v", s.name, what, is, err)
	}
}

func object(kind, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(policy.GroupVersion.WithKind(kind))
	if kind == v1alpha1.KindImageIntegrityPolicy {
		u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	}
	u.SetName(name)
	return u
}

// governed are the ImageIntegrityPolicies that the hub demands of a site: name and generation.
func (s *site) governed(ctx context.Context) (map[string]int64, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("ImageIntegrityPolicyList"))
	if err := s.cluster.Client().List(ctx, list); err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for _, u := range list.Items {
		for _, f := range u.GetManagedFields() {
			if f.Manager == "boltseal-agent" {
				out[u.GetName()] = u.GetGeneration()
			}
		}
	}
	return out, nil
}

// state is how far the hub says that a cluster is.
func state(ctx context.Context, name string) (string, *unstructured.Unstructured, error) {
	u := object("Cluster", name)
	if err := hub.cluster.Client().Get(ctx, client.ObjectKey{Name: name}, u); err != nil {
		return "", nil, err
	}
	s, _, err := unstructured.NestedString(u.Object, "status", "compliance", "state")
	return s, u, err
}

// reported waits until the hub says that a cluster is so far.
func reported(t testing.TB, name, want string) time.Duration {
	t.Helper()
	return eventually(t, name+" is reported as "+want, func() error {
		have, _, err := state(t.Context(), name)
		if err == nil && have != want {
			err = errors.New("it is " + have)
		}
		return err
	})
}

// run makes a Pod that runs an image.
func (s *site) run(t testing.TB, ns, name, image string) {
	t.Helper()
	need(t, s.cluster.Client().Create(t.Context(), pod(ns, name, image)))
	t.Cleanup(func() { // what is not trusted would count in the tests that follow
		need(t, s.cluster.Client().Delete(context.Background(), pod(ns, name, image), client.GracePeriodSeconds(0)))
	})
	need(t, s.cluster.SetRunning(t.Context(), ns, name, map[string]string{"app": image}))
}

// restored waits until as many policies as the hub demands are there after they were deleted by hand, and in force.
func (s *site) restored(t testing.TB, n int) {
	t.Helper()
	eventually(t, s.name+": what was deleted by hand is there again", func() error {
		made, err := s.governed(t.Context())
		if err != nil || len(made) != n {
			return errors.Join(fmt.Errorf("%v", made), err)
		}
		for name := range made { // who has a status was seen by Boltseal, which makes none for what is gone
			u := object(v1alpha1.KindImageIntegrityPolicy, name)
			if err := s.cluster.Client().Get(t.Context(), client.ObjectKey{Name: name}, u); err != nil {
				return err
			}
			if c, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions"); len(c) == 0 {
				return fmt.Errorf("%s has no status", name)
			}
		}
		return nil
	})
}
