package service_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testwait"
	"github.com/boltseal/boltseal/oci"
)

// TestMain runs more tests side by side than there are processors: most of the
// time they wait for a budget to run out.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", "8"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// config trusts the roots for all images; policies are further documents.
func config(roots []byte, policies ...string) string {
	indented := strings.ReplaceAll(strings.TrimSpace(string(roots)), "\n", "\n      ")
	return `apiVersion: config.ratify.deislabs.io/v1beta1
kind: KeyManagementProvider
metadata: {name: roots}
spec:
  type: inline
  parameters:
    value: |
      ` + indented + `
---
apiVersion: config.ratify.deislabs.io/v1beta1
kind: Store
metadata: {name: store}
spec: {name: oras}
---
apiVersion: config.ratify.deislabs.io/v1beta1
kind: Verifier
metadata: {name: verifier}
spec:
  name: notation
  artifactTypes: application/vnd.cncf.notary.signature
  parameters:
    verificationCertStores: {ca: {release: [roots]}}
    trustPolicyDoc:
      version: "1.0"
      trustPolicies:
        - name: all
          registryScopes: ["*"]
          signatureVerification: {level: strict}
          trustStores: ["ca:release"]
          trustedIdentities: ["*"]
` + strings.Join(append([]string{""}, policies...), "---\n")
}

func policy(name, spec string) string {
	return "apiVersion: boltseal.dev/v1alpha1\nkind: ImageIntegrityPolicy\nmetadata: {name: " + name + "}\nspec: {" + spec + "}\n"
}

// running is a service that answers, with a house whose signer it trusts.
type running struct {
	*testhouse.House
	t      testing.TB
	file   string
	base   string
	health string
	scrape string // where metrics are
	audit  *lockedBuffer
	client *http.Client
	stop   func() error

	callers time.Duration // what admission requests say that their caller waits, 0 = nothing
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// leaving is the time in which a test sees a service that leaves: a busy machine needs some of it.
const leaving = 10 * time.Second

// ample is a limit that only a hang reaches. The server gives up writing an answer a little later.
const ample = 35 * time.Second

func start(t testing.TB, ho testhouse.Options, o service.Options, policies ...string) *running {
	t.Helper()
	h := testhouse.New(t, ho)
	return startWith(t, h, o, config(h.Signer.Root().PEM(), policies...))
}

// startWith is start with a configuration of its own.
func startWith(t testing.TB, h *testhouse.House, o service.Options, text string) *running {
	t.Helper()
	r := &running{House: h, t: t, audit: &lockedBuffer{}}
	r.file = filepath.Join(t.TempDir(), "config.yaml")
	r.write(text)
	o.Files, o.Listen, o.Health, o.Metrics = []string{r.file}, "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	if o.Audit == nil {
		o.Audit = r.audit
	}
	if o.Deps.DockerConfig == nil {
		o.Deps.DockerConfig = func(string) oci.CredentialSource { return nil }
	}
	// Nobody is to be late on a busy machine, where a test does not say that somebody is.
	for _, limit := range []*time.Duration{&o.Server.VerifyTimeout, &o.Server.MutateTimeout, &o.Server.WebhookTimeout, &o.Server.BodyTimeout, &o.Memo.WorkTimeout} {
		if *limit == 0 {
			*limit = ample
		}
	}
	o.Names = []string{"127.0.0.1"}
	o.InsecureHTTP = o.TLS.Cert == "" && !o.SelfSigned
	s := testhouse.Need(service.New(o))(t)
	r.base, r.health, r.scrape = "http://"+s.Addr(), "http://"+s.AddrOf("health"), "http://"+s.AddrOf("metrics")
	if !o.InsecureHTTP {
		r.base = "https://" + s.Addr()
	}
	r.client = &http.Client{Timeout: testwait.Patience, Transport: &http.Transport{MaxIdleConnsPerHost: 64, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // what the certificate is does not matter to most tests
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	var once sync.Once
	var err error
	r.stop = func() error {
		once.Do(func() {
			cancel()
			r.client.CloseIdleConnections() // a server waits for them
			err = <-ended
		})
		return err
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil && !strings.Contains(err.Error(), "cut off after") {
			t.Error(err)
		}
	})
	return r
}

func (r *running) write(text string) {
	r.t.Helper()
	tmp := r.file + ".new"
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(tmp, r.file); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) post(path string, body []byte) (int, []byte) {
	r.t.Helper()
	resp, err := r.client.Post(r.base+path, "application/json", bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b := testhouse.Need(io.ReadAll(resp.Body))(r.t)
	if resp.StatusCode == 200 && resp.Header.Get("Content-Type") != "application/json" {
		r.t.Errorf("content type %q", resp.Header.Get("Content-Type"))
	}
	return resp.StatusCode, b
}

func (r *running) request(ctx context.Context, path string, body []byte) *http.Request {
	r.t.Helper()
	req := testhouse.Need(http.NewRequestWithContext(ctx, http.MethodPost, r.base+path, bytes.NewReader(body)))(r.t)
	req.Header.Set("Content-Type", "application/json")
	return req
}

// item is one answer to Gatekeeper.
type item struct {
	Key   string
	Value json.RawMessage
	Error string
}

func (i item) trusted() bool {
	var v struct{ IsSuccess bool }
	return json.Unmarshal(i.Value, &v) == nil && v.IsSuccess
}

func (r *running) gatekeeper(path string, keys ...string) []item {
	r.t.Helper()
	body := testhouse.Need(json.Marshal(map[string]any{"apiVersion": "externaldata.gatekeeper.sh/v1beta1", "kind": "ProviderRequest", "request": map[string]any{"keys": keys}}))(r.t)
	status, b := r.post(path, body)
	var resp struct {
		Response struct {
			Items       []item
			SystemError string
		}
	}
	if err := json.Unmarshal(b, &resp); status != 200 || err != nil || resp.Response.SystemError != "" || len(resp.Response.Items) != len(keys) {
		r.t.Fatalf("HTTP %d: %s: %v", status, b, err)
	}
	for i, k := range keys {
		if resp.Response.Items[i].Key != k {
			r.t.Errorf("key %q answered as %q", k, resp.Response.Items[i].Key)
		}
	}
	return resp.Response.Items
}

func pod(namespace string, images ...string) *admissionv1.AdmissionRequest {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
	for i, image := range images {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: fmt.Sprint("c", i), Image: image})
	}
	b, _ := json.Marshal(p)
	return &admissionv1.AdmissionRequest{UID: "uid-1", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Namespace: namespace,
		Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: b}}
}

func reviewOf(q *admissionv1.AdmissionRequest) []byte {
	// What is large is put in afterwards: an encoder would look at each byte of it.
	small := *q
	object, old := []byte(`"the object, which is large"`), []byte(`"the old object, which is large"`)
	if len(q.Object.Raw) > 1<<20 {
		small.Object.Raw = object
	}
	if len(q.OldObject.Raw) > 1<<20 {
		small.OldObject.Raw = old
	}
	b, _ := json.Marshal(admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: &small})
	b = bytes.Replace(b, object, q.Object.Raw, 1)
	return bytes.Replace(b, old, q.OldObject.Raw, 1)
}

func (r *running) review(path string, q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	r.t.Helper()
	if r.callers > 0 && !strings.Contains(path, "?") {
		path += "?timeout=" + r.callers.String()
	}
	status, b := r.post(path, reviewOf(q))
	var rv admissionv1.AdmissionReview
	if err := json.Unmarshal(b, &rv); status != 200 || err != nil || rv.Response == nil || rv.Response.UID != q.UID {
		r.t.Fatalf("HTTP %d: %s: %v", status, b, err)
	}
	return rv.Response
}

// validate does with a Pod what the API server does: it has the images pinned, and
// what is left of it validated.
func (r *running) validate(namespace string, images ...string) *admissionv1.AdmissionResponse {
	r.t.Helper()
	return r.review(server.PathValidate, r.mutated(pod(namespace, images...)))
}

// mutated is the question with what the mutating endpoint makes of its object.
func (r *running) mutated(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionRequest {
	r.t.Helper()
	out := *q
	if patch := r.review(server.PathPin, q).Patch; len(patch) > 0 {
		out.Object.Raw = testhouse.Need(testhouse.Need(jsonpatch.DecodePatch(patch))(r.t).Apply(q.Object.Raw))(r.t)
	}
	return &out
}

// patched is what the mutating endpoint makes of a Pod's images.
func (r *running) patched(namespace string, images ...string) []string {
	r.t.Helper()
	var p corev1.Pod
	if err := json.Unmarshal(r.mutated(pod(namespace, images...)).Object.Raw, &p); err != nil {
		r.t.Fatal(err)
	}
	out := make([]string, len(images))
	for i, c := range p.Spec.Containers {
		out[i] = c.Image
	}
	return out
}

func (r *running) ready() (int, string) { return r.get(r.health + "/readyz?verbose") }

func (r *running) get(url string) (int, string) {
	r.t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// metric is the value of a series as it stands in the exposition, "" where there
// is none.
func (r *running) metric(series string) string {
	r.t.Helper()
	_, text := r.get(r.scrape + "/metrics")
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// eventually waits for something that is to happen soon.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	testwait.Until(t, what, f)
}
