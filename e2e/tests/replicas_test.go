package tests

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

// another starts a replica, and stops it with the test.
func another(t *testing.T, name, apiServer string, args ...string) *server {
	t.Helper()
	s, err := start(t.Context(), boltseal.binary, name, apiServer, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s == boltseal {
			return // it is the one that goes on
		}
		if err := s.process.Stop(0); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *server) log(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(s.process.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// resourceVersion changes with every write, of the status too.
func resourceVersion(t testing.TB, kind, namespace, name string) string {
	t.Helper()
	u := object(kind, namespace, name)
	if err := cluster.Client().Get(t.Context(), client.ObjectKeyFromObject(u), u); err != nil {
		t.Fatal(err)
	}
	return u.GetResourceVersion()
}

// TestTheOtherReplicaTakesOver: every replica answers; one writes statuses, and
// when it is killed the other does.
func TestTheOtherReplicaTakesOver(t *testing.T) {
	clean(t)
	house := testhouse.New(t, testhouse.Options{})
	image, _ := house.Signed("signed", house.Signer)
	apply(t, provider("", "roots", house.Signer), store(""), verifier("", "verifier", "roots"))
	for kind, name := range map[string]string{"KeyManagementProvider": "roots", "Store": "store", "Verifier": "verifier"} {
		stands(t, kind, "", name, true)
	}
	const leads = "this replica writes statuses"
	first, second := boltseal, another(t, "boltseal-2", "")
	if err := second.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if trusted, text, err := second.verdict(image); err != nil || !trusted {
		t.Fatalf("the second replica: %t %s %v", trusted, text, err)
	}
	before := resourceVersion(t, "KeyManagementProvider", "", "roots")
	// An edit goes live in both, and one writes about it.
	apply(t, verifier("", "other", "missing"))
	stands(t, "Verifier", "", "other", false)
	if !strings.Contains(first.log(t), leads) || strings.Contains(second.log(t), leads) {
		t.Fatal("not exactly the first replica writes statuses")
	}
	if err := first.process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	boltseal = second
	// Verdicts and edits do not wait for the new leader.
	apply(t, provider("", "roots", house.Stranger))
	becomes(t, image, false)
	apply(t, provider("", "roots", house.Signer))
	becomes(t, image, true)
	t.Logf("edits are live %s after the leader was killed", time.Since(killed).Round(time.Millisecond))
	apply(t, document("Store", "", "broken", "name: orsa"))
	st, _ := stands(t, "Store", "", "broken", false)
	t.Logf("the other replica writes statuses %s after that: %v", time.Since(killed).Round(time.Millisecond), st["brieferror"])
	if !strings.Contains(second.log(t), leads) {
		t.Error("somebody else wrote the status")
	}
	var lease coordinationv1.Lease
	if err := cluster.Client().Get(t.Context(), client.ObjectKey{Namespace: "boltseal-system", Name: "boltseal-status"}, &lease); err != nil || lease.Spec.HolderIdentity == nil {
		t.Error(lease, err)
	}
	stands(t, "KeyManagementProvider", "", "roots", true)
	if resourceVersion(t, "KeyManagementProvider", "", "roots") == before {
		t.Error("two edits and no status")
	}
	settled := resourceVersion(t, "Store", "", "store")
	apply(t, document("Store", "", "broken", "name: oras\n  parameters: {scopes: [example.com]}"))
	stands(t, "Store", "", "broken", true)
	if resourceVersion(t, "Store", "", "store") != settled {
		t.Error("a status is written again although nothing changed")
	}
}

// TestAReplicaThatLeavesFollowsEdits: after the signal to stop it answers for its delay, by what applies then, and
// not by what applied when it was told. The lease is another's at once.
func TestAReplicaThatLeavesFollowsEdits(t *testing.T) {
	clean(t)
	house := testhouse.New(t, testhouse.Options{})
	signed, _ := house.Signed("signed", house.Signer)
	_, unsigned := house.Signed("unsigned")
	apply(t, provider("", "roots", house.Signer), store(""), verifier("", "verifier", "roots"))
	leaves := another(t, "boltseal-leaves", "", "--shutdown-delay", "1h")
	if err := leaves.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ok, text := leaves.admits(t, "default", unsigned); !ok {
		t.Fatal("denied without a policy: ", text)
	}
	if err := leaves.process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is not ready", func() error {
		status, text, err := get(t.Context(), leaves.health+"/readyz")
		return want(err == nil && status == http.StatusServiceUnavailable, "%d %s %v", status, text, err)
	})
	admits := func(what string, allowed bool) {
		t.Helper()
		eventually(t, what, func() error {
			ok, text := leaves.admits(t, "default", unsigned)
			return want(ok == allowed, "allowed: %t %s", ok, text)
		})
	}
	trusts := func(what string, trusted bool) {
		t.Helper()
		eventually(t, what, func() error {
			ok, text, err := leaves.verdict(signed)
			return want(err == nil && ok == trusted, "trusted: %t %s %v", ok, text, err)
		})
	}
	trusts("a signed image is trusted", true)
	for range 2 {
		apply(t, document("ImageIntegrityPolicy", "", "only-trusted-images", "enforcementAction: deny"))
		admits("a policy that is applied now denies", false)
		apply(t, provider("", "roots", house.Stranger))
		trusts("who is trusted no more is not trusted here", false)
		remove(t, "ImageIntegrityPolicy", "", "only-trusted-images")
		admits("what it denied is admitted when it is gone", true)
		apply(t, provider("", "roots", house.Signer))
		trusts("who is trusted again is trusted here", true)
	}
	// Whoever is left writes statuses.
	stands(t, "KeyManagementProvider", "", "roots", true)
	if err := leaves.process.Err(); err != nil {
		t.Error("it ended within its delay: ", err)
	}
}

// TestAReplicaThatStartsLater does not know what worked before: what is broken
// then stands in by denying, and says so.
func TestAReplicaThatStartsLater(t *testing.T) {
	clean(t)
	house := testhouse.New(t, testhouse.Options{})
	image, _ := house.Signed("signed", house.Signer)
	apply(t, provider("", "roots", house.Signer), store(""), verifier("", "verifier", "roots"))
	becomes(t, image, true)
	apply(t, strings.Replace(verifier("", "verifier", "roots"), "verificationCertStores", "verificationCertStore", 1))
	stands(t, "Verifier", "", "verifier", false)
	late := another(t, "boltseal-late", "")
	if err := late.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if trusted, text, err := late.verdict(image); err != nil || trusted || !strings.Contains(text, "the Verifier verifier does not work") {
		t.Errorf("%t %s %v", trusted, text, err)
	}
	becomes(t, image, true) // by the replica that knows
	apply(t, verifier("", "verifier", "roots"))
	eventually(t, "the late replica heals", func() error {
		trusted, text, err := late.verdict(image)
		return want(err == nil && trusted, "%s %v", text, err)
	})
}

// proxy is the way to the API server, which can be cut.
type proxy struct {
	net.Listener
	to    string
	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, to: to, conns: map[net.Conn]bool{}}
	t.Cleanup(func() { p.set(true); _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	to, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer to.Close()
	p.mu.Lock()
	cut := p.cut
	if !cut {
		p.conns[c] = true
	}
	p.mu.Unlock()
	if cut {
		return
	}
	go func() { _, _ = io.Copy(to, c); _ = to.Close() }()
	_, _ = io.Copy(c, to)
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
}

func (p *proxy) set(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	for c := range p.conns {
		if cut {
			_ = c.Close()
		}
	}
}

// TestAReplicaLosesTheAPIServer: it keeps answering with what it knows, and makes
// up for what it missed.
func TestAReplicaLosesTheAPIServer(t *testing.T) {
	clean(t)
	house := testhouse.New(t, testhouse.Options{})
	image, _ := house.Signed("signed", house.Signer)
	unsigned, _ := house.Signed("unsigned")
	ns := namespace(t, map[string]string{"images": "trusted"})
	apply(t, provider("", "roots", house.Signer), store(""), verifier("", "verifier", "roots"),
		document("ImageIntegrityPolicy", "", "labelled", "match: {namespaceSelector: {matchLabels: {images: trusted}}}"))
	way := newProxy(t, strings.TrimPrefix(cluster.Config().Host, "https://"))
	far := another(t, "boltseal-far", way.Addr().String())
	if err := far.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	way.set(true)
	apply(t, provider("", "roots", house.Stranger)) // which far cannot know
	becomes(t, image, false)
	asked := 0
	await.Throughout(3*time.Second, func() {
		asked++
		if trusted, text, err := far.verdict(image); err != nil || !trusted {
			t.Fatalf("%t %s %v", trusted, text, err)
		}
		if ok, text := far.admits(t, ns, unsigned); ok {
			t.Fatalf("an unsigned image is admitted: %s", text)
		}
		if ok, text := far.admits(t, ns, image); !ok {
			t.Fatal(text)
		}
	})
	t.Logf("%d rounds of requests without the API server", asked)
	if status, text, err := get(t.Context(), far.health+"/readyz"); err != nil || status != 200 {
		t.Errorf("not ready without the API server: %d %s %v", status, text, err)
	}
	way.set(false)
	back := time.Now()
	eventually(t, "what was missed is live", func() error {
		trusted, text, err := far.verdict(image)
		return want(err == nil && !trusted, "%s %v", text, err)
	})
	t.Logf("what was missed is live %s after the API server was back", time.Since(back).Round(time.Millisecond))
}

// TestAReplicaStartsWithoutTheAPIServer: it is not ready, decides nothing, and
// comes up by itself.
func TestAReplicaStartsWithoutTheAPIServer(t *testing.T) {
	clean(t)
	house := testhouse.New(t, testhouse.Options{})
	image, _ := house.Signed("signed", house.Signer)
	apply(t, provider("", "roots", house.Signer), store(""), verifier("", "verifier", "roots"))
	way := newProxy(t, strings.TrimPrefix(cluster.Config().Host, "https://"))
	way.set(true)
	far := another(t, "boltseal-early", way.Addr().String())
	eventually(t, "it answers that it is not ready", func() error {
		status, text, err := get(t.Context(), far.health+"/readyz")
		return want(err == nil && status == 503 && strings.Contains(text, "none is active"), "%d %s %v", status, text, err)
	})
	if trusted, _, err := far.verdict(image); trusted || err == nil || !strings.Contains(err.Error(), "no configuration yet") {
		t.Errorf("%t %v", trusted, err)
	}
	if ok, text := far.admits(t, "default", image); ok || !strings.Contains(text, "no configuration yet") {
		t.Errorf("%t %s", ok, text)
	}
	way.set(false)
	if err := far.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if trusted, text, err := far.verdict(image); err != nil || !trusted {
		t.Errorf("%t %s %v", trusted, text, err)
	}
}

// TestDefinitionsComeAndGo: who deletes a definition deletes its resources by the way. What they demanded stays in
// force, and is told of, until the definition is there again; then what is there with it is live.
func TestDefinitionsComeAndGo(t *testing.T) {
	for name, demand := range map[string]func(ns string) (kind, namespace, spec string){
		"namespacedimageintegritypolicies": func(ns string) (string, string, string) { return "ImageIntegrityPolicy", ns, "enforcementAction: deny" },
		"imageintegritypolicies": func(ns string) (string, string, string) {
			return "ImageIntegrityPolicy", "", "match: {namespaces: [" + ns + "]}"
		},
	} {
		t.Run(name, func(t *testing.T) {
			clean(t)
			ns := namespace(t, nil)
			house := testhouse.New(t, testhouse.Options{})
			unsigned, _ := house.Signed("unsigned")
			kind, in, spec := demand(ns)
			apply(t, provider("", "roots", house.Signer), store(""), verifier("", "verifier", "roots"), document(kind, in, "own", spec))
			admission(t, ns, unsigned, false)
			crd := &unstructured.Unstructured{}
			crd.SetAPIVersion("apiextensions.k8s.io/v1")
			crd.SetKind("CustomResourceDefinition")
			crd.SetName(name + ".boltseal.dev")
			denied := func() {
				t.Helper()
				if ok, text := boltseal.admits(t, ns, unsigned); ok || !strings.Contains(text, "own") {
					t.Fatalf("admitted %t: %s", ok, text)
				}
			}
			if err := cluster.Client().Delete(t.Context(), crd); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the definition is gone", func() error {
				denied()
				err := cluster.Client().Get(t.Context(), client.ObjectKeyFromObject(crd), crd.DeepCopy())
				return want(client.IgnoreNotFound(err) == nil && err != nil, "%v", err)
			})
			eventually(t, "it is told", func() error {
				denied()
				_, text, err := get(t.Context(), boltseal.health+"/readyz?verbose")
				return want(err == nil && strings.Contains(text, "does not know kinds any more"), "%s %v", text, err)
			})
			await.Throughout(3*time.Second, denied) // whatever is looked at again meanwhile
			if err := cluster.Apply(t.Context(), crds); err != nil {
				t.Fatal(err)
			}
			admission(t, ns, unsigned, true) // it is there again, and says nothing
			eventually(t, "the kind takes resources again", func() error {
				return cluster.Apply(t.Context(), document(kind, in, "own", spec))
			})
			admission(t, ns, unsigned, false)
			eventually(t, "all is well", func() error {
				_, text, err := get(t.Context(), boltseal.health+"/readyz?verbose")
				return want(err == nil && !strings.Contains(text, "[-]"), "%s %v", text, err)
			})
		})
	}
}

// rounds counts requests and failures of several askers.
type rounds struct{ asked, failed atomic.Int64 }

func (r *rounds) String() string {
	return fmt.Sprintf("%d requests, %d failed", r.asked.Load(), r.failed.Load())
}
