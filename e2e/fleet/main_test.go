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

	integrity "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/internal/governance/agent"
	"github.com/boltseal/boltseal/internal/governance/agent/observe"
)

var (
	cluster  *kit.Cluster
	boltseal *product.Server // the hub
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	os.Exit(kit.Main(func() int {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		if err := install(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}, kit.Options{Controllers: []string{}}, &cluster))
}

// startTimeout bounds what comes before the tests, for what hangs.
const startTimeout = 3 * await.Limit

// install runs the real program as the hub, a process of its own.
func install(ctx context.Context) error {
	binary, err := product.Build(ctx, cluster.Dir())
	if err != nil {
		return err
	}
	if err := product.Install(ctx, cluster, binary); err != nil {
		return err
	}
	if boltseal, err = product.Start(ctx, cluster, binary, product.Options{}); err != nil {
		return err
	}
	return boltseal.Ready(ctx)
}

// resident is the memory of the hub's process in bytes, and what of it is its own (proc_pid_status(5): VmRSS, RssAnon).
func resident(t *testing.T) (all, own float64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", boltseal.Process.PID()))
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) float64 {
		_, rest, _ := strings.Cut(string(b), name+":")
		kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
		if err != nil {
			t.Fatal(name, err)
		}
		return kib * 1024
	}
	return read("VmRSS"), read("RssAnon")
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

// report writes as much as the bounds of a report let through, and fails where that is not nearly all of it.
func (m *member) report(ctx context.Context, b *v1alpha1.ClusterBundle, sequence int64) error {
	now := metav1.NewTime(time.Now().UTC().Truncate(time.Second))
	c := v1alpha1.ClusterReportContent{Sequence: sequence, At: &now, BundleGeneration: b.Generation, Version: "v1.0.0", Engine: v1alpha1.EngineBoltseal, Pods: 10_000,
		AddOn: v1alpha1.AddOnReport{State: v1alpha1.AddOnInstalled, InstalledBy: "other"}}
	for _, d := range b.Spec.Demands {
		r := v1alpha1.DemandReport{Name: d.Name, State: v1alpha1.NonCompliant, Pods: 10_000, Violations: 5_000}
		for i := range observe.MaxComponents {
			r.Components = append(r.Components, v1alpha1.Component{Namespace: fmt.Sprintf("team-%03d-%s", i, strings.Repeat("n", 50)), Image: fmt.Sprintf("registry.example/team-%03d/%s@sha256:%064x", i, strings.Repeat("a", 50), i),
				Pods: 50, Pod: fmt.Sprintf("%s-7d9c8b6f5d-%05d", strings.Repeat("p", 60), i), State: v1alpha1.NonCompliant, Reason: "untrusted-signer",
				Message: strings.Repeat("m", 256), Signer: strings.Repeat("s", 60), FirstSeen: now, LastSeen: now})
		}
		for i := range 10 {
			by := integrity.TrustedBy{Signers: []integrity.SigningCertificate{{Subject: fmt.Sprintf("CN=signer %d,O=%s", i, strings.Repeat("o", 50)), Fingerprint: fmt.Sprintf("sha256:%064x", i), Issuers: []string{strings.Repeat("i", 60), strings.Repeat("r", 60)}}}, Images: 100, Pods: 500}
			for k := range 3 {
				by.First = append(by.First, integrity.TrustedImage{Namespace: fmt.Sprintf("team-%03d", k), Image: fmt.Sprintf("registry.example/team-%03d/%s@sha256:%064x", k, strings.Repeat("t", 50), i), Pods: 50, Pod: strings.Repeat("p", 60)})
			}
			r.TrustedBy = append(r.TrustedBy, by)
		}
		c.Demands = append(c.Demands, r)
	}
	bounded := observe.Bound(c)
	body, err := json.Marshal(map[string]any{"apiVersion": v1alpha1.GroupVersion.String(), "kind": "ClusterReport", "metadata": map[string]any{"name": m.name}, "report": bounded})
	if err != nil {
		return err
	}
	if len(b.Spec.Demands) > 0 && (len(bounded.Demands[0].Components) < observe.MaxComponents || len(body) < observe.MaxReportBytes*9/10) {
		return fmt.Errorf("a report of %d bytes with %d images, and up to %d bytes are allowed", len(body), len(bounded.Demands[0].Components), observe.MaxReportBytes)
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
