package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	verifyPath   = "/ratify/gatekeeper/v1/verify"
	validatePath = "/admission/validate"
)

// load is a series of requests.
type load struct {
	url    string
	bodies [][]byte
	at     int // side by side
	total  int // requests in all; bodies are used in turn
	check  func(answer []byte) error
}

// outcome is what a load came to.
type outcome struct {
	wall      time.Duration
	cpu       time.Duration // of the server, for all requests
	latencies []time.Duration
}

func (o outcome) perSecond(n int) float64 { return float64(n) / o.wall.Seconds() }
func (o outcome) cpuPer(n int) float64    { return float64(o.cpu.Microseconds()) / float64(n) }
func (o outcome) quantile(q float64) time.Duration {
	return o.latencies[int(q*float64(len(o.latencies)-1))]
}

func loadClient(at int) *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		MaxIdleConnsPerHost: at, DisableCompression: true, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // our own server on loopback
	}}
}

// run sends the requests and measures what they cost the process.
func (l load) run(ctx context.Context, c *http.Client, p *process) (outcome, error) {
	before, err := p.cpu()
	if err != nil {
		return outcome{}, err
	}
	o := outcome{latencies: make([]time.Duration, l.total)}
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	began := time.Now()
	for range l.at {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < l.total && failed.Load() == nil; i = int(next.Add(1)) - 1 {
				t := time.Now()
				if err := l.one(ctx, c, l.bodies[i%len(l.bodies)]); err != nil {
					failed.Store(&err)
				}
				o.latencies[i] = time.Since(t)
			}
		})
	}
	wg.Wait()
	o.wall = time.Since(began)
	after, err := p.cpu()
	if err != nil {
		return outcome{}, err
	}
	o.cpu = after - before
	slices.Sort(o.latencies)
	if e := failed.Load(); e != nil {
		return o, *e
	}
	return o, nil
}

func (l load) one(ctx context.Context, c *http.Client, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP %d: %.300s", resp.StatusCode, answer)
	}
	if l.check != nil {
		return l.check(answer)
	}
	return nil
}

// verifyBatches makes verify requests of n keys each.
func verifyBatches(images []string, n int) (bodies [][]byte) {
	for i := 0; i+n <= len(images); i += n {
		b, _ := json.Marshal(map[string]any{"apiVersion": "externaldata.gatekeeper.sh/v1beta1", "kind": "ProviderRequest", "request": map[string]any{"keys": images[i : i+n]}})
		bodies = append(bodies, b)
	}
	return bodies
}

// checkTrusted checks that n images of an answer are trusted.
func checkTrusted(n int) func([]byte) error {
	return func(answer []byte) error {
		if got := bytes.Count(answer, []byte(`"version":"0.2.0","isSuccess":true`)); got != n {
			return fmt.Errorf("%d of %d images are trusted: %.600s", got, n, answer)
		}
		return nil
	}
}

// podReviews makes reviews of Pods with n containers each.
func podReviews(images []string, n int) (bodies [][]byte) {
	for i := 0; i+n <= len(images); i += n {
		var cs []map[string]any
		for j, image := range images[i : i+n] {
			cs = append(cs, map[string]any{"name": fmt.Sprint("c", j), "image": image, "args": []string{"--listen=:8080", "--log=info"},
				"env":             []map[string]string{{"name": "MODE", "value": "production"}, {"name": "REGION", "value": "north"}},
				"resources":       map[string]any{"requests": map[string]string{"cpu": "100m", "memory": "128Mi"}},
				"volumeMounts":    []map[string]any{{"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true}},
				"imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log"})
		}
		b, _ := json.Marshal(map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": map[string]any{
			"uid": fmt.Sprintf("705ab4f5-6393-11e8-b7cc-%012d", i), "kind": map[string]string{"version": "v1", "kind": "Pod"}, "resource": map[string]string{"version": "v1", "resource": "pods"},
			"namespace": "team", "operation": "CREATE", "userInfo": map[string]any{"username": "system:serviceaccount:kube-system:replicaset-controller", "groups": []string{"system:authenticated"}},
			"object": map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"generateName": "app-", "namespace": "team", "labels": map[string]string{"app": "x", "tier": "web"}},
				"spec": map[string]any{"containers": cs, "serviceAccountName": "default", "restartPolicy": "Always", "volumes": []map[string]any{{"name": "token", "projected": map[string]any{"defaultMode": 420}}}}},
		}})
		bodies = append(bodies, b)
	}
	return bodies
}

func checkAllowed(answer []byte) error {
	if !bytes.Contains(answer, []byte(`"allowed":true`)) {
		return fmt.Errorf("not allowed: %.600s", answer)
	}
	return nil
}
