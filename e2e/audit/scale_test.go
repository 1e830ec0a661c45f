package audit

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"

	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/process"
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// scale is how much runs.
type scale struct {
	pods, images, namespaces int
	unsigned                 int // one of so many images is not signed
	latency                  time.Duration
	within                   time.Duration // admission is measured for so long beside it
	load                     time.Duration // how long admission is measured before the audit
}

// TestScale audits a cluster from cold while Pods are admitted. It is small unless BOLTSEAL_AUDIT_SCALE is "full".
func TestScale(t *testing.T) {
	s := scale{pods: 400, images: 100, namespaces: 10, unsigned: 10, latency: 5 * time.Millisecond, within: 30 * time.Second, load: 2 * time.Second}
	if os.Getenv("BOLTSEAL_AUDIT_SCALE") == "full" {
		s = scale{pods: 10_000, images: 2_000, namespaces: 100, unsigned: 10, latency: 20 * time.Millisecond, within: 2 * time.Minute, load: 30 * time.Second}
	}
	crds, err := reportCRDs(t.Context())
	need(t, err)
	removePolicies(t, "admitted", "scale")
	apply(t, crds, config(signer), document("ImageIntegrityPolicy", "", "admitted", "match: {namespaces: [admitted]}\n  resolveTags: false"))
	images := s.push()
	begin := time.Now()
	s.populate(t, images)
	t.Logf("%d Pods were made in %s", s.pods, time.Since(begin).Round(time.Second))
	registry.SetLatency(s.latency)
	defer registry.SetLatency(0)
	need(t, start(t.Context()))
	defer func(p *process.Process) { p.Stop(0) }(server.Process)
	eventually(t, "the Pods are known", func() error {
		n, err := metric(t.Context(), "boltseal_audit_pods", `"ignored"`)
		return errors.Join(err, want(int(n) >= s.pods, "%f Pods", n))
	})

	// The second replica does not audit. What happens to it alike is the machine's doing: registry, API server and
	// load run on the same one.
	auditing := server
	need(t, start(t.Context()))
	defer func(p *process.Process) { p.Stop(0) }(server.Process)
	both := []*admission{newAdmission(t, auditing), newAdmission(t, server)}
	server = auditing
	measure(t.Context(), both, s.load/4) // connections and code are warm
	before := measure(t.Context(), both, s.load)

	requests := registry.Count(testregistry.Any)
	ctx, stop := context.WithCancel(t.Context())
	var during [][2]sample
	var wg sync.WaitGroup
	wg.Go(func() { during = measure(ctx, both, s.within) })
	begin = time.Now()
	apply(t, document("ImageIntegrityPolicy", "", "scale", "match: {namespaceSelector: {matchLabels: {scale: audit}}}"))
	for {
		audit, err := auditOf(t.Context(), "", "scale")
		if err == nil && int(audit.Pods) == s.pods && audit.Pending == 0 {
			if int(audit.Images) != s.images || int(audit.ViolatingImages) != s.images/s.unsigned || int(audit.Violations) != s.pods/s.unsigned || audit.Unknown != 0 {
				t.Errorf("%+v", audit)
			}
			break
		}
		if time.Since(begin) > await.Limit {
			t.Fatalf("%d Pods with %d images were not audited within %s: %+v %v\n%s", s.pods, s.images, await.Limit, audit, err, logEnd())
		}
		time.Sleep(100 * time.Millisecond) // waits: the time between two looks
	}
	took, asked := time.Since(begin), registry.Count(testregistry.Any)-requests
	stop()
	wg.Wait()
	after := measure(t.Context(), both, s.load)
	t.Logf("%d Pods with %d images, registry %s away: audited in %s, %.1f requests an image", s.pods, s.images, s.latency, took.Round(100*time.Millisecond), float64(asked)/float64(s.images))
	for i, what := range []string{"warm", "cold"} {
		for r, which := range []string{"that audits", "beside it"} {
			t.Logf("admission, %s, by the replica %-11s  before: %s  during: %s  after: %s", what, which, before[r][i], during[r][i], after[r][i])
		}
	}
	s.reports(t)

	passed(t)
	requests = registry.Count(testregistry.Any)
	writes, err := metric(t.Context(), "boltseal_audit_writes_total", "")
	need(t, err)
	passed(t)
	if n := registry.Count(testregistry.Any) - requests; n != 0 {
		t.Errorf("the second pass asked the registry %d times", n)
	}
	if now, err := metric(t.Context(), "boltseal_audit_writes_total", ""); err != nil || now != writes {
		t.Errorf("the second pass wrote %f times, %v", now-writes, err)
	}
	seconds, err := metric(t.Context(), "boltseal_audit_last_pass_duration_seconds", "")
	need(t, err)
	rss, err := metric(t.Context(), "process_resident_memory_bytes", "")
	need(t, err)
	t.Logf("the second pass took %.0f ms and no request; the replica has %.0f MiB resident", seconds*1000, rss/(1<<20))
}

// push pushes and signs the images.
func (s scale) push() (pinned []string) {
	for i := range s.images {
		desc := registry.PushImage(fmt.Sprintf("team%02d/app%04d", i%20, i), "v1", 0)
		if i%s.unsigned != 0 {
			registry.Sign(fmt.Sprintf("team%02d/app%04d", i%20, i), desc, signer, signOptions)
		}
		pinned = append(pinned, registry.Pinned(fmt.Sprintf("team%02d/app%04d", i%20, i), desc.Digest))
	}
	return pinned
}

// populate makes the Pods, each with the status that a kubelet would write.
func (s scale) populate(t *testing.T, images []string) {
	namespaces := make([]string, s.namespaces)
	for i := range namespaces {
		namespaces[i] = namespace(t, map[string]string{"scale": "audit"})
	}
	next := make(chan int)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range next {
				if err := s.pod(t.Context(), i, namespaces[i%s.namespaces], images[i%s.images]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range s.pods {
		next <- i
	}
	close(next)
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

func (scale) pod(ctx context.Context, i int, ns, image string) error {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprintf("app-%04d-7d9c6b5f4-%05d", i%2000, i), Labels: map[string]string{"app": fmt.Sprintf("app-%04d", i%2000)}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image[:len(image)-len("@sha256:")-64] + ":v1"}}}}
	if err := cluster.Client().Create(ctx, p); err != nil {
		return err
	}
	p.Status.Phase = corev1.PodRunning
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", Image: p.Spec.Containers[0].Image, ImageID: image, Ready: true,
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: p.CreationTimestamp}}}}
	return cluster.Client().Status().Update(ctx, p)
}

// reports measures what reports come to as the API server keeps them.
func (s scale) reports(t *testing.T) {
	t.Helper()
	const most = 400 << 10
	eventually(t, "all reports", func() error {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(openreports.SchemeGroupVersion.WithKind("ReportList"))
		if err := cluster.Client().List(t.Context(), list, client.MatchingLabels{"app.kubernetes.io/managed-by": "boltseal"}); err != nil {
			return err
		}
		size, images := 0, 0
		for _, u := range list.Items {
			b, err := json.Marshal(u.Object)
			if err != nil {
				return err
			}
			var r openreports.Report
			if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(u.Object, &r, true); err != nil {
				return err
			}
			size, images = size+len(b), images+r.Summary.Fail
		}
		if size > most {
			t.Fatalf("the reports come to %d bytes", size)
		}
		if len(list.Items) != s.namespaces {
			return fmt.Errorf("%d reports", len(list.Items))
		}
		t.Logf("%d reports of %d bytes together tell of %d violations", len(list.Items), size, images)
		return nil
	})
}

// sample is how long requests took.
type sample []time.Duration

func (s sample) String() string {
	return fmt.Sprintf("p50 %s p90 %s p99 %s of %d", s.quantile(.5), s.quantile(.9), s.quantile(.99), len(s))
}

func (s sample) quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	slices.Sort(s)
	return s[int(q*float64(len(s)-1))].Round(10 * time.Microsecond)
}

// admission asks as the API server does, at a steady rate.
type admission struct {
	t      *testing.T
	url    string
	client *http.Client
	warm   string // an image that is known
}

// fresh numbers images that nobody knows.
var fresh atomic.Int64

// measure asks several replicas at the same time.
func measure(ctx context.Context, replicas []*admission, d time.Duration) [][2]sample {
	out := make([][2]sample, len(replicas))
	var wg sync.WaitGroup
	for i, a := range replicas {
		wg.Go(func() { out[i] = a.run(ctx, d) })
	}
	wg.Wait()
	return out
}

func newAdmission(t *testing.T, server *product.Server) *admission {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(server.CA) {
		t.Fatal("no CA")
	}
	a := &admission{t: t, url: server.URL, client: &http.Client{Timeout: await.Limit, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 64}}}
	_, a.warm = image("admitted", signer)
	eventually(t, "the policy is in force", func() error {
		ok, err := a.ask(t.Context(), registry.Host+"/nothing/here:v1")
		return errors.Join(err, want(!ok, "anything is admitted"))
	})
	return a
}

// admissionEvery is the time between two requests; one of coldOf is for an image that nobody knows.
const (
	admissionEvery = 20 * time.Millisecond
	coldOf         = 10
)

// run asks until the time is up or ctx ends: warm ones first, then cold ones. A request is counted from when it is
// due, so that a server which is late is seen to be.
func (a *admission) run(ctx context.Context, d time.Duration) (out [2]sample) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	tick := time.NewTicker(admissionEvery)
	defer tick.Stop()
	for i := 1; ; i++ {
		select {
		case <-ctx.Done():
			wg.Wait()
			return out
		case <-tick.C:
		}
		ref, kind := a.warm, 0
		if i%coldOf == 0 {
			desc := registry.PushImage(repo, fmt.Sprint("cold", fresh.Add(1)), 0)
			registry.Sign(repo, desc, signer, signOptions)
			ref, kind = registry.Pinned(repo, desc.Digest), 1
		}
		due := time.Now()
		wg.Go(func() {
			ok, err := a.ask(context.WithoutCancel(ctx), ref)
			if err != nil || !ok {
				a.t.Errorf("%s: admitted %t, %v", ref, ok, err)
			}
			mu.Lock()
			defer mu.Unlock()
			out[kind] = append(out[kind], time.Since(due))
		})
	}
}

func (a *admission) ask(ctx context.Context, image string) (allowed bool, err error) {
	pod, err := json.Marshal(corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "admitted"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}}})
	if err != nil {
		return false, err
	}
	body, err := json.Marshal(admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: &admissionv1.AdmissionRequest{
		UID: "u", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Namespace: "admitted", Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: pod}}})
	if err != nil {
		return false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+"/admission/validate?timeout=10s", bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.client.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return false, err
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(text, &review); err != nil || review.Response == nil {
		return false, fmt.Errorf("HTTP %d: %s %w", resp.StatusCode, text, err)
	}
	return review.Response.Allowed, nil
}
