// Package fleet measures what many clusters cost a hub: a real API server and etcd, the real hub, and agents that are simulated but for what they send.
package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	chart "github.com/boltseal/boltseal/charts/boltseal"
	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/internal/governance/agent"
	"github.com/boltseal/boltseal/internal/governance/agent/observe"
)

var cluster *kit.Cluster

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	os.Exit(kit.Main(func() int {
		crds, err := chart.CRDs()
		if err == nil {
			err = cluster.Apply(context.Background(), string(crds))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}, kit.Options{Controllers: []string{}}, &cluster))
}

// setting reads a number from the environment.
func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q", name, text)
	}
	return n
}

// unlimited is the administrator's way, which no client's limit slows down.
func unlimited() *rest.Config {
	c := cluster.Config()
	c.QPS = -1
	return c
}

// member is the agent of one cluster as far as the hub can tell: it follows its bundle and reports the worst that
// 10,000 Pods can come to, when the bundle changes and as a heartbeat.
type member struct {
	name    string
	bundles dynamic.ResourceInterface
	reports dynamic.ResourceInterface
	taken   atomic.Int64 // generation of the bundle that was taken up
	size    atomic.Int64 // of the last report, in bytes
	sent    *atomic.Int64
}

func newMember(name string, sent *atomic.Int64) (*member, error) {
	d, err := dynamic.NewForConfig(unlimited())
	if err != nil {
		return nil, err
	}
	return &member{name: name, sent: sent, bundles: d.Resource(v1alpha1.GroupVersion.WithResource("clusterbundles")),
		reports: d.Resource(v1alpha1.GroupVersion.WithResource("clusterreports"))}, nil
}

func (m *member) run(ctx context.Context) error {
	w, err := m.bundles.Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", m.name).String()})
	if err != nil {
		return err
	}
	defer w.Stop()
	var last *v1alpha1.ClusterBundle
	beat := time.NewTicker(agent.DefaultHeartbeat)
	defer beat.Stop()
	for sequence := int64(1); ; sequence++ {
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
		case e, ok := <-w.ResultChan():
			u, is := e.Object.(*unstructured.Unstructured)
			if !ok || !is {
				return fmt.Errorf("the watch of %s ended: %v", m.name, e.Object)
			}
			b, err := u.MarshalJSON()
			if err != nil {
				return err
			}
			last = &v1alpha1.ClusterBundle{}
			if err := json.Unmarshal(b, last); err != nil {
				return err
			}
		}
		if last == nil {
			continue
		}
		if err := m.report(ctx, last, sequence); err != nil && ctx.Err() == nil {
			return err
		}
		m.taken.Store(last.Generation)
	}
}

// report writes as much as the bounds of a report let through.
func (m *member) report(ctx context.Context, b *v1alpha1.ClusterBundle, sequence int64) error {
	now := metav1.NewTime(time.Now().UTC().Truncate(time.Second))
	c := v1alpha1.ClusterReportContent{Sequence: sequence, At: &now, BundleGeneration: b.Generation, Version: "v1.0.0", Engine: v1alpha1.EngineBoltseal, Pods: 10_000,
		AddOn: v1alpha1.AddOnReport{State: v1alpha1.AddOnInstalled, InstalledBy: "other"}}
	for _, d := range b.Spec.Demands {
		r := v1alpha1.DemandReport{Name: d.Name, State: v1alpha1.NonCompliant, Pods: 10_000, Violations: 5_000}
		for i := range observe.MaxComponents {
			r.Components = append(r.Components, v1alpha1.Component{Namespace: fmt.Sprintf("team-%03d", i), Image: fmt.Sprintf("registry.example/team-%03d/a-service-with-a-name@sha256:%064x", i, i),
				Pods: 50, Pod: fmt.Sprintf("a-service-with-a-name-7d9c8b6f5d-%05d", i), State: v1alpha1.NonCompliant, Reason: "not-trusted",
				Message: strings.Repeat("signed by somebody who is not trusted. ", 20), FirstSeen: now, LastSeen: now})
		}
		c.Demands = append(c.Demands, r)
	}
	body, err := json.Marshal(map[string]any{"apiVersion": v1alpha1.GroupVersion.String(), "kind": "ClusterReport", "metadata": map[string]any{"name": m.name}, "report": observe.Bound(c)})
	if err != nil {
		return err
	}
	m.size.Store(int64(len(body)))
	force := true
	_, err = m.reports.Patch(ctx, m.name, types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: "boltseal-agent", Force: &force})
	m.sent.Add(1)
	return err
}

// sample is what the API server says of itself.
type sample struct {
	at                               time.Time
	requests, writes, cpu, rss, etcd float64
}

var line = regexp.MustCompile(`(?m)^(apiserver_request_total|process_cpu_seconds_total|process_resident_memory_bytes|apiserver_storage_size_bytes)(\{[^\n]*\})? (\S+)`)

func measure(t *testing.T, kube *kubernetes.Clientset) sample {
	t.Helper()
	text, err := kube.RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := sample{at: time.Now()}
	for _, m := range line.FindAllStringSubmatch(string(text), -1) {
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Fatal(m[0], err)
		}
		switch m[1] {
		case "apiserver_request_total":
			if !strings.Contains(m[2], `group="policy.boltseal.dev"`) {
				continue
			}
			s.requests += v
			for _, verb := range []string{"APPLY", "PATCH", "PUT", "POST", "DELETE"} {
				if strings.Contains(m[2], `verb="`+verb+`"`) {
					s.writes += v
				}
			}
		case "process_cpu_seconds_total":
			s.cpu = v
		case "process_resident_memory_bytes":
			s.rss = v
		default:
			s.etcd += v
		}
	}
	return s
}
