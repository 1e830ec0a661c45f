package controller

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

func TestMain(m *testing.M) {
	LogTo(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// replica is a controller that runs, and what it has put in force.
type replica struct {
	*Controller
	t       testing.TB
	stop    func() error
	resign  context.CancelFunc // leads no more, and watches on
	mu      sync.Mutex
	cache   compile.Cache
	applied int
	check   func(map[compile.Key]*compile.Standing) // nil = nobody looks
	now     map[compile.Key]*compile.Standing
	log     *lockedBuffer
	nodes   *compile.Nodes // as last compiled with
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

func start(t testing.TB, s *apiServer, identity string) *replica {
	t.Helper()
	return startAwaiting(t, s, identity, 0)
}

// startAwaiting is start with a time for what is under way.
func startAwaiting(t testing.TB, s *apiServer, identity string, await time.Duration) *replica {
	t.Helper()
	r := &replica{t: t, log: &lockedBuffer{}}
	deps := testDeps()
	var err error
	r.Controller, err = New(Options{Config: s.config(), Namespace: "boltseal-system", Identity: identity, Log: slog.New(slog.NewTextHandler(r.log, nil)),
		Cluster: compile.ClusterOptions{CertificateStores: []string{"default"}},
		Quiet:   5 * time.Millisecond, Most: 20 * time.Millisecond, Await: await,
		Apply: func(c *compile.Cluster) map[compile.Key]*compile.Standing {
			r.mu.Lock()
			defer r.mu.Unlock()
			deps.Nodes = r.Nodes()
			r.nodes = deps.Nodes
			_, r.now = c.Compile(deps, &r.cache)
			r.applied++
			if r.check != nil {
				r.check(r.now)
			}
			return r.now
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	standing, resign := context.WithCancel(ctx)
	r.resign = resign
	go func() { ended <- r.Run(ctx, standing) }()
	var once sync.Once
	r.stop = func() error {
		once.Do(func() { cancel(); err = <-ended })
		return err
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// standing is how a resource stands in force, "" where it is not there.
func (r *replica) standing(kind, namespace, name string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.now[compile.Key{Kind: kind, Namespace: namespace, Name: name}]
	if st == nil {
		return ""
	}
	return string(st.Serving)
}

func (r *replica) times() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.applied
}

// scrape is the metrics as Prometheus reads them.
func (r *replica) scrape() string {
	reg := prometheus.NewRegistry()
	reg.MustRegister(r.Metrics()...)
	w := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	testwait.Until(t, what, f)
}

func (r *replica) becomes(kind, namespace, name, serving string) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%s %s/%s is %q", kind, namespace, name, serving), func() bool { return r.standing(kind, namespace, name) == serving })
}

func parse(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(data); err != nil {
		t.Fatal(err)
	}
	return u
}

func document(t testing.TB, kind, namespace, name, spec string) *unstructured.Unstructured {
	t.Helper()
	group := "config.ratify.deislabs.io/v1beta1"
	if strings.HasSuffix(kind, "ImageIntegrityPolicy") {
		group = "boltseal.dev/v1alpha1"
	}
	if namespace != "" {
		namespace = ", namespace: " + namespace
	}
	return parse(t, fmt.Sprintf("{apiVersion: %s, kind: %s, metadata: {name: %s%s}, spec: {%s}}", group, kind, name, namespace, spec))
}

func roots(t testing.TB, name string, pem []byte) *unstructured.Unstructured {
	t.Helper()
	value, err := json.Marshal(string(pem))
	if err != nil {
		t.Fatal(err)
	}
	return document(t, "KeyManagementProvider", "", name, "type: inline, parameters: {value: "+string(value)+"}")
}

func verifier(t testing.TB, namespace, name, provider string) *unstructured.Unstructured {
	t.Helper()
	kind := "Verifier"
	if namespace != "" {
		kind = "NamespacedVerifier"
	}
	return document(t, kind, namespace, name, `name: notation, artifactTypes: "*", parameters: {verificationCertStores: {certs: [`+provider+`]}, trustPolicyDoc: {version: "1.0",
  trustPolicies: [{name: all, registryScopes: ["*"], signatureVerification: {level: strict}, trustStores: ["ca:certs"], trustedIdentities: ["*"]}]}}`)
}

func namespaceOf(t testing.TB, name, labels string) *unstructured.Unstructured {
	return parse(t, "{apiVersion: v1, kind: Namespace, metadata: {name: "+name+", labels: {"+labels+"}}}")
}

// ready is the condition of an object as it stands in the cluster, about its
// present generation; nil where there is none.
func (s *apiServer) ready(u *unstructured.Unstructured) (map[string]any, *metav1.Condition) {
	have := s.get(u)
	if have == nil {
		return nil, nil
	}
	st, _, _ := unstructured.NestedMap(have.Object, "status")
	c := meta.FindStatusCondition(readConditions(st), ConditionReady)
	if c != nil && c.ObservedGeneration != have.GetGeneration() {
		c = nil
	}
	return st, c
}

func (s *apiServer) stands(t testing.TB, u *unstructured.Unstructured, reason string) (map[string]any, *metav1.Condition) {
	t.Helper()
	var st map[string]any
	var c *metav1.Condition
	eventually(t, fmt.Sprintf("the status of %s is %s", pathOf(u), reason), func() bool {
		st, c = s.ready(u)
		return c != nil && c.Reason == reason
	})
	return st, c
}

func pem(t testing.TB) []byte {
	t.Helper()
	return testca.Test(t, testca.Options{}).Root().PEM()
}

// TestResourcesAreLive: what is there, what is added, changed and deleted takes
// effect, in any order, and stands in statuses, events and the metric.
func TestResourcesAreLive(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	v, p := verifier(t, "", "v", "roots"), roots(t, "roots", pem(t))
	s.apply(v)
	r := start(t, s, "one")
	r.becomes("Verifier", "", "v", "Reduced")
	if !strings.Contains(r.scrape(), "boltseal_cluster_contact_timestamp_seconds 1.") {
		t.Errorf("nobody knows when the API server last answered:\n%s", r.scrape())
	}
	st, c := s.stands(t, v, ReasonReduced)
	if st["issuccess"] != false || !strings.Contains(fmt.Sprint(st["error"]), "roots, which is not there") || len(fmt.Sprint(st["brieferror"])) > maxBrief || c.Status != metav1.ConditionFalse {
		t.Errorf("status %v", st)
	}
	s.apply(p)
	r.becomes("Verifier", "", "v", "Current")
	st, _ = s.stands(t, v, ReasonInForce)
	if st["issuccess"] != true || st["error"] != nil || st["brieferror"] != nil {
		t.Errorf("status %v", st)
	}
	st, _ = s.stands(t, p, ReasonInForce)
	if st["lastfetchedtime"] == nil || !strings.Contains(fmt.Sprint(st["properties"]), "CN=") {
		t.Errorf("status %v", st)
	}
	eventually(t, "events tell of both", func() bool { return s.written("POST", "/namespaces/default/events") == 2 })
	fetched := st["lastfetchedtime"]
	s.apply(document(t, "KeyManagementProvider", "", "roots", "type: inline, parameters: {value: x}"))
	st, _ = s.stands(t, p, ReasonLastGood)
	if st["lastfetchedtime"] != fetched || st["properties"] == nil || r.standing("Verifier", "", "v") != "Current" {
		t.Errorf("status %v", st)
	}
	eventually(t, "the metric counts", func() bool {
		return strings.Contains(r.scrape(), `{kind="KeyManagementProvider",ready="false"} 1`) && strings.Contains(r.scrape(), `{kind="Verifier",ready="true"} 1`)
	})
	s.remove(p)
	r.becomes("KeyManagementProvider", "", "roots", "")
	s.stands(t, v, ReasonReduced)
	s.remove(v)
	r.becomes("Verifier", "", "v", "")
	eventually(t, "the metric counts none", func() bool {
		return strings.Contains(r.scrape(), `{kind="Verifier",ready="true"} 0`) && strings.Contains(r.scrape(), `{kind="Verifier",ready="false"} 0`)
	})
}

// TestNothingBeforeAllIsKnown: half a configuration would deny what the whole one
// allows, and the other way round.
func TestNothingBeforeAllIsKnown(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	allowed := make(chan struct{})
	s.refuse = func(r *http.Request) int {
		select {
		case <-allowed:
			return 0
		default:
		}
		if strings.HasSuffix(r.URL.Path, "/keymanagementproviders") {
			return 403
		}
		return 0
	}
	st := document(t, "Store", "", "s", "name: oras")
	s.apply(st)
	r := start(t, s, "one")
	eventually(t, "the failure is logged", func() bool { return strings.Contains(r.log.String(), "is tried again") })
	s.apply(document(t, "Store", "", "t", "name: oras"))
	if r.times() != 0 {
		t.Error("half a configuration is in force")
	}
	close(allowed)
	r.becomes("Store", "", "s", "Current")
}

// TestLosesTheAPIServer: what is in force stays, and what was missed is made up for.
func TestLosesTheAPIServer(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	s.apply(document(t, "Store", "", "s", "name: oras"))
	s.apply(namespaceOf(t, "team", "images: trusted"))
	r := start(t, s, "one")
	r.becomes("Store", "", "s", "Current")
	up := s.goDown()
	eventually(t, "every watch has noticed", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.away > 2*len(Kinds())
	})
	if r.standing("Store", "", "s") != "Current" || r.NamespaceLabels("team")["images"] != "trusted" {
		t.Error("something was forgotten")
	}
	before := r.times()
	s.apply(document(t, "Store", "", "t", "name: oras, parameters: {scopes: [example.com]}"))
	s.remove(document(t, "Store", "", "s", ""))
	if r.times() != before {
		t.Error("something was compiled for nothing")
	}
	up()
	r.becomes("Store", "", "t", "Current")
	r.becomes("Store", "", "s", "")
}

// TestStartsWithoutTheAPIServer: a replica that comes up before it waits.
func TestStartsWithoutTheAPIServer(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	s.apply(document(t, "Store", "", "s", "name: oras"))
	up := s.goDown()
	r := start(t, s, "one")
	eventually(t, "it is logged", func() bool { return strings.Contains(r.log.String(), "cannot be watched yet") })
	if r.times() != 0 {
		t.Error("an empty configuration is in force")
	}
	up()
	r.becomes("Store", "", "s", "Current")
}

func TestNamespaceLabels(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	s.apply(namespaceOf(t, "team", "a: b"))
	s.apply(namespaceOf(t, "plain", ""))
	r := start(t, s, "one")
	eventually(t, "both are known", func() bool { return r.NamespaceLabels("team") != nil && r.NamespaceLabels("plain") != nil })
	if l := r.NamespaceLabels("plain"); len(l) != 0 {
		t.Errorf("labels %v", l)
	}
	if r.NamespaceLabels("other") != nil {
		t.Error("labels of a namespace that is not there")
	}
	s.apply(namespaceOf(t, "team", "a: c"))
	eventually(t, "the change is known", func() bool { return r.NamespaceLabels("team")["a"] == "c" })
	s.remove(namespaceOf(t, "team", ""))
	eventually(t, "the deletion is known", func() bool { return r.NamespaceLabels("team") == nil })
}

// TestABurstIsGathered: a thousand resources are not compiled a thousand times,
// nor is what only touches metadata or the status.
func TestABurstIsGathered(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	r := start(t, s, "one")
	eventually(t, "it has begun", func() bool { return r.times() == 1 })
	data := pem(t)
	for i := range 300 {
		s.apply(roots(t, fmt.Sprint("p", i), data))
	}
	for i := range 300 {
		r.becomes("KeyManagementProvider", "", fmt.Sprint("p", i), "Current")
	}
	if n := r.times(); n > 100 {
		t.Errorf("compiled %d times", n)
	}
	s.stands(t, roots(t, "p0", data), ReasonInForce)
	eventually(t, "all statuses are written", func() bool { return s.written("PATCH", "/status") == 300 })
	before := r.times()
	s.mu.Lock()
	for path, o := range s.objects {
		if strings.Contains(path, "keymanagementproviders") {
			u := unstructured.Unstructured{Object: o}
			u.SetLabels(map[string]string{"touched": "true"})
			s.put(path, "MODIFIED", o)
		}
	}
	s.mu.Unlock()
	s.apply(document(t, "Store", "", "s", "name: oras"))
	r.becomes("Store", "", "s", "Current")
	if n := r.times() - before; n > 3 {
		t.Errorf("labels were compiled %d times", n)
	}
}

func TestNewRefusesABadConfig(t *testing.T) {
	t.Parallel()
	_, err := New(Options{Config: &rest.Config{Host: "http://127.0.0.1:1", TLSClientConfig: rest.TLSClientConfig{CAFile: "/is/not/there"}}})
	if err == nil || !strings.Contains(err.Error(), "the way to the cluster") || errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
