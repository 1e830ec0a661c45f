package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/internal/governance/agent"
	"github.com/boltseal/boltseal/internal/governance/agent/observe"
	"github.com/boltseal/boltseal/internal/governance/hub"
)

func made(kind, name string, spec map[string]any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	u.SetAPIVersion(v1alpha1.GroupVersion.String())
	u.SetKind(kind)
	u.SetName(name)
	return u
}

// TestFleet: every cluster gets what is assigned and is judged by what it reports, and a hub at rest writes nothing but
// the times of contact. BOLTSEAL_FLEET is how many clusters there are (3), BOLTSEAL_FLEET_REST for how many seconds
// nothing happens (5).
func TestFleet(t *testing.T) {
	n, rest := setting(t, "BOLTSEAL_FLEET", 3), time.Duration(setting(t, "BOLTSEAL_FLEET_REST", 5))*time.Second
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	kube, err := kubernetes.NewForConfig(unlimited())
	need(t, err)
	d, err := dynamic.NewForConfig(unlimited())
	need(t, err)
	resource := func(name string) dynamic.ResourceInterface {
		return d.Resource(v1alpha1.GroupVersion.WithResource(name))
	}
	emptyAll, emptyOwn := resident(t)
	begin := measure(t, kube)
	var sent atomic.Int64
	var members []*member
	for i := range n {
		name := fmt.Sprintf("cluster-%04d", i)
		_, err := resource("clusters").Create(ctx, made("Cluster", name, map[string]any{"scope": fmt.Sprintf("/region-%d/%s", i%10, name)}), metav1.CreateOptions{})
		need(t, err)
		m, err := newMember(name, &sent)
		need(t, err)
		members = append(members, m)
		running.Go(func() {
			if err := m.run(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
	}
	judged := func() bool {
		list, err := resource("clusters").List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		need(t, err)
		count := 0
		for i := range list.Items {
			if !strings.HasPrefix(list.Items[i].GetName(), "cluster-") {
				continue // the hub's own
			}
			state, _, _ := unstructured.NestedString(list.Items[i].Object, "status", "compliance", "state")
			violations, _, _ := unstructured.NestedInt64(list.Items[i].Object, "status", "compliance", "violations")
			if state == string(v1alpha1.NonCompliant) && violations > 0 {
				count++
			}
		}
		return count == n
	}
	until(t, "every cluster has a bundle", func() bool { return taken(members, 1) })
	before := measure(t, kube)

	assigned := time.Now()
	_, err = resource("policyassignments").Create(ctx, made("PolicyAssignment", "everywhere", map[string]any{"scope": "/", "policyDefinitionId": "image-integrity",
		"parameters": map[string]any{"effect": map[string]any{"value": "Deny"}}}), metav1.CreateOptions{})
	need(t, err)
	until(t, "every member has taken it up", func() bool { return taken(members, 2) })
	up := time.Since(assigned)
	until(t, "every cluster is judged by its report", judged)
	last := time.Since(assigned)
	after := measure(t, kube)

	time.Sleep(hub.DefaultStatusEvery + 2*time.Second) // waits: statuses follow at their own pace; what follows later is measured, and allowed for
	calm, sentBefore := measure(t, kube), sent.Load()
	time.Sleep(rest) // waits: what is sent at rest is counted, and compared with how long the rest was
	end, beats := measure(t, kube), sent.Load()-sentBefore
	seconds := end.at.Sub(calm.at).Seconds()

	t.Logf("%d clusters of 10,000 Pods, a report has %d KiB", n, members[0].size.Load()>>10)
	t.Logf("assignment to the last member: %s; to the last judgement: %s", up.Round(time.Millisecond), last.Round(time.Millisecond))
	t.Logf("for the assignment: %.0f requests, %.0f of them writes; API server %.1f CPU seconds", after.requests-before.requests, after.writes-before.writes, after.cpu-before.cpu)
	t.Logf("at rest for %.0f s: %d heartbeats; %.2f requests a second, %.2f writes; API server %.3f CPU", seconds, beats, (end.requests-calm.requests)/seconds, (end.writes-calm.writes)/seconds, (end.cpu-calm.cpu)/seconds)
	t.Logf("etcd: %.1f MiB before, %.1f MiB after, %.0f KiB a cluster", begin.etcd/(1<<20), end.etcd/(1<<20), (end.etcd-begin.etcd)/float64(n)/1024)
	t.Logf("API server: %.0f MiB resident before, %.0f MiB after", begin.rss/(1<<20), end.rss/(1<<20))
	all, own := resident(t)
	t.Logf("the hub's process: %.1f MiB resident before, %.1f MiB after; of that its own %.1f MiB and %.1f MiB, %.0f KiB a cluster", emptyAll/(1<<20), all/(1<<20), emptyOwn/(1<<20), own/(1<<20), (own-emptyOwn)/float64(n)/1024)

	// A heartbeat is one write of the agent, and its note one of the hub; the hub's own cluster has them too.
	if most := 2 * (float64(beats) + seconds/agent.DefaultHeartbeat.Seconds() + 2); end.writes-calm.writes > most {
		t.Errorf("%.0f writes at rest, at most %.0f are due", end.writes-calm.writes, most)
	}
	for _, m := range members {
		if size := m.size.Load(); size > observe.MaxReportBytes+1<<10 {
			t.Errorf("a report of %d bytes", size)
		}
	}
}

func taken(members []*member, generation int64) bool {
	for _, m := range members {
		if m.taken.Load() < generation {
			return false
		}
	}
	return true
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	await.Until(t, what, func() error {
		if !f() {
			return errors.New("not yet")
		}
		return nil
	})
}

func need(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
