package governance

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	policy "github.com/boltseal/boltseal/api/policy/v1alpha1"

	"github.com/boltseal/boltseal/e2e/await"
)

// TestHubCrashed: the hub's etcd, API server and Boltseal die at once, and come again on what etcd has on its disk.
// Members deny all the while; nothing is lost, and nothing double.
func TestHubCrashed(t *testing.T) {
	ns1, ns2, exempt := fra1.namespace(t), fra2.namespace(t), fra1.namespace(t)
	fra1.run(t, ns1, "old", unsigned)
	quiet(t)
	assign(t, "kept", "/emea/fra1")
	ok(t, "policy", "exemption", "create", "--name", "kept", "--policy-assignment", "kept", "--exemption-category", "Waiver", "--namespace", exempt, "--expires-on", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	t.Cleanup(func() { _, _ = boltseal(context.Background(), "policy", "exemption", "delete", "--name", "kept") })
	fra1.until(t, "denied", ns1, unsigned, false)
	fra1.until(t, "exempt", exempt, unsigned, true)
	reported(t, "fra1", "NonCompliant")
	before := eventualHub(t, ns1)
	made, err := fra1.governed(t.Context())
	need(t, err)

	need(t, hub.server.Process.Kill())
	need(t, hub.cluster.Crash())
	if _, err := boltseal(t.Context(), "policy", "assignment", "list"); err == nil {
		t.Error("the hub answers")
	}
	await.Throughout(3*time.Second, func() {
		fra1.is(t, "without a hub", ns1, unsigned, false)
		fra1.is(t, "without a hub, exempt", exempt, unsigned, true)
		fra2.is(t, "without a hub", ns2, unsigned, true)
	})
	ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
	defer cancel()
	begin := time.Now()
	need(t, hub.cluster.Restart(ctx))
	need(t, hub.start(ctx))
	t.Logf("the hub is back after %s", time.Since(begin).Round(time.Millisecond))
	assign(t, "after", "/emea/fra2")
	fra2.until(t, "what is assigned now denies", ns2, unsigned, false)
	reported(t, "fra2", "Compliant")
	reported(t, "fra1", "NonCompliant")
	after := eventualHub(t, ns1)
	if before.assignment != after.assignment || !before.first.Equal(after.first) || before.reports != after.reports || before.clusters != after.clusters {
		t.Errorf("before %+v, after %+v", before, after)
	}
	for what, n := range after.events {
		if n != before.events[what] {
			t.Errorf("%q was told %d times before and %d after, and nothing had changed", what, before.events[what], n)
		}
	}
	if len(before.events) == 0 {
		t.Error("nothing was told of fra1 at all")
	}
	ok(t, "policy", "exemption", "delete", "--name", "kept")
	fra1.until(t, "what changes reaches those who were there", exempt, unsigned, false)
	now, err := fra1.governed(t.Context())
	if err != nil || len(now) != len(made) {
		t.Errorf("before %v, after %v: %v", made, now, err)
	}
	for name := range maps.Keys(made) {
		if _, ok := now[name]; !ok {
			t.Errorf("%s was made anew", name)
		}
	}
}

// memory is what the hub knows.
type memory struct {
	assignment        types.UID
	first             time.Time // when the image was seen first
	reports, clusters int
	events            map[string]int32 // about fra1, by what they say
}

// eventualHub reads what the hub knows once it knows of an image in a namespace.
func eventualHub(t *testing.T, ns string) (m memory) {
	t.Helper()
	eventually(t, "the hub knows of the image", func() (err error) {
		m, err = knows(t.Context(), ns)
		return err
	})
	return m
}

func knows(ctx context.Context, ns string) (m memory, err error) {
	cl := hub.cluster.Client()
	a := object(policy.KindPolicyAssignment, "kept")
	if err := cl.Get(ctx, client.ObjectKey{Name: "kept"}, a); err != nil {
		return m, err
	}
	m.assignment = a.GetUID()
	list := func(kind string) (*unstructured.UnstructuredList, error) {
		l := &unstructured.UnstructuredList{}
		l.SetGroupVersionKind(policy.GroupVersion.WithKind(kind + "List"))
		return l, cl.List(ctx, l)
	}
	clusters, err := list(policy.KindCluster)
	if err != nil {
		return m, err
	}
	reports, err := list(policy.KindClusterReport)
	if err != nil {
		return m, err
	}
	m.clusters, m.reports = len(clusters.Items), len(reports.Items)
	for i := range reports.Items {
		demands, _, _ := unstructured.NestedSlice(reports.Items[i].Object, "report", "demands")
		for _, d := range demands {
			components, _, _ := unstructured.NestedSlice(d.(map[string]any), "components")
			for _, in := range components {
				c := in.(map[string]any)
				if c["namespace"] != ns {
					continue
				}
				text, _ := c["firstSeen"].(string)
				if m.first, err = time.Parse(time.RFC3339, text); err != nil {
					return m, err
				}
			}
		}
	}
	if m.first.IsZero() {
		return m, fmt.Errorf("no report names an image of %s", ns)
	}
	var events corev1.EventList
	if err := cl.List(ctx, &events); err != nil {
		return m, err
	}
	m.events = map[string]int32{}
	for _, e := range events.Items {
		if e.InvolvedObject.Kind == policy.KindCluster && e.InvolvedObject.Name == "fra1" {
			m.events[e.Reason+": "+e.Message] += max(1, e.Count)
		}
	}
	return m, nil
}
