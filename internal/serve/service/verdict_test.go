package service_test

import (
	"bufio"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// longPod asks about a Pod with so much text of '<', each of which the API server
// writes as six bytes, spread as one that starts would have it.
func longPod(image string, bytes int) *admissionv1.AdmissionRequest {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}}}
	var env strings.Builder // an encoder looks at each byte, and the race detector at each look
	for n := 0; n < bytes; n += 100 << 10 {
		fmt.Fprintf(&env, `,{"name":"X%d","value":"%s"}`, n, strings.Repeat(`\u003c`, min(100<<10, bytes-n)))
	}
	p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "first"}}
	text, _ := json.Marshal(p)
	q := pod("shop")
	q.Object.Raw = []byte(strings.Replace(string(text), `{"name":"first"}`, `{"name":"first"}`+env.String(), 1))
	return q
}

// unjudged is the answer to a review that could not be judged: the API server does
// not admit the object by it, whatever the failurePolicy, and pins nothing.
func unjudged(t *testing.T, what, path string, a *admissionv1.AdmissionResponse, why string) {
	t.Helper()
	switch {
	case path == server.PathPin:
		if !a.Allowed || len(a.Patch) > 0 || len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], why) {
			t.Errorf("%s: %+v", what, a)
		}
	case a.Allowed || a.Result == nil || !strings.Contains(a.Result.Message, why):
		t.Errorf("%s: %+v %+v", what, a, a.Result)
	}
}

// TestSizeIsNoWayAroundAVerdict: whatever an API server can store is judged, or
// denied.
func TestSizeIsNoWayAroundAVerdict(t *testing.T) {
	t.Parallel()
	overBoth(t, func(t *testing.T, o service.Options) {
		r := start(t, testhouse.Options{}, o, policy("prod", ""))
		r.client.Timeout = time.Minute
		_, pinned := r.Signed("v", r.Signer)
		_, unsigned := r.Signed("unsigned")
		for _, path := range []string{server.PathValidate, server.PathPin} {
			for _, size := range []int{1100 << 10, 1300 << 10, 3 << 20} {
				for _, update := range []bool{false, true} {
					q := longPod(unsigned, size)
					if update {
						q.Operation, q.OldObject.Raw = admissionv1.Update, longPod(pinned, size).Object.Raw
					}
					why := "the request has more than"
					if size == 1100<<10 && !update { // it is judged
						if why = "nothing signed"; path == server.PathPin {
							continue
						}
					}
					unjudged(t, fmt.Sprintf("%s: %d bytes, update %t", path, len(q.Object.Raw), update), path, r.review(path+"?timeout=30s", q), why)
				}
			}
		}
		if a := r.review(server.PathValidate, longPod(pinned, 1<<20)); !a.Allowed {
			t.Errorf("a large one that is trusted: %+v", a.Result)
		}
	})
}

// answered reads the answer to a review from a connection, nil where there is none.
func answered(t *testing.T, conn net.Conn) (int, *admissionv1.AdmissionResponse) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var rv admissionv1.AdmissionReview
	if err := json.NewDecoder(resp.Body).Decode(&rv); err != nil || rv.Response == nil {
		return resp.StatusCode, &admissionv1.AdmissionResponse{}
	}
	return resp.StatusCode, rv.Response
}

// TestTooLateForAVerdictIsADenial: a review that stops on its way in, wherever that
// is behind its uid, is denied by it; before it nobody knows whom to answer.
func TestTooLateForAVerdictIsADenial(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{}, policy("prod", ""))
	body := string(reviewOf(longPod("evil.invalid/unsigned:v1", 200<<10)))
	uid := strings.Index(body, `"uid-1"`) + len(`"uid-1"`) + 1
	for _, path := range []string{server.PathValidate, server.PathPin} {
		for _, n := range []int{uid - 3, uid, uid + 50, len(body) / 2, len(body) - 1} {
			conn := r.dial(head(path+"?timeout=1s", len(body)) + body[:n])
			status, a := answered(t, conn)
			if n < uid {
				if status != http.StatusRequestTimeout {
					t.Errorf("%s: %d bytes: HTTP %d", path, n, status)
				}
				continue
			}
			if status != 200 || a.UID != "uid-1" {
				t.Errorf("%s: %d bytes: HTTP %d: %+v", path, n, status, a)
			}
			unjudged(t, fmt.Sprint(n, " bytes"), path, a, "did not arrive in time")
		}
	}
}

// TestNoRoomForAVerdictIsADenial: who fills the room gets nothing in by it.
func TestNoRoomForAVerdictIsADenial(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{Server: server.Options{BodyBytes: 64 << 10}}, policy("prod", ""))
	for _, path := range []string{server.PathValidate, server.PathPin} {
		for _, size := range []int{40 << 10, 1300 << 10} { // no room for either, however empty it is
			unjudged(t, fmt.Sprint(path, " ", size), path, r.review(path, longPod("evil.invalid/unsigned:v1", size)), "ask again")
		}
	}
	if n := r.metric(`boltseal_requests_total{code="503",endpoint="admission-validate"}`); n != "2" {
		t.Errorf("counted %q times", n)
	}
}

// TestNobodyKnowsWhoAsksIsADenial: where the API server's certificate is not what it
// is to be, its reviews are denied in so many words.
func TestNobodyKnowsWhoAsksIsADenial(t *testing.T) {
	t.Parallel()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, certificate(t, x509.ExtKeyUsageClientAuth).Root().PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, testhouse.Options{}, service.Options{SelfSigned: true, AdmissionCA: ca}, policy("prod", ""))
	for _, path := range []string{server.PathValidate, server.PathPin} {
		unjudged(t, path, path, r.review(path, pod("shop", "evil.invalid/unsigned:v1")), "certificate")
		unjudged(t, path, path, r.review(path, longPod("evil.invalid/unsigned:v1", 3<<20)), "certificate")
	}
	resp, err := r.client.Post(r.base+server.PathValidate, "application/json", strings.NewReader("{}"))
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("what is no review: %v %v", resp, err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}

// TestARegistryThatHangsIsADenial: what was not judged in time is denied while the
// API server still listens.
func TestARegistryThatHangsIsADenial(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{}, policy("prod", ""))
	_, pinned := r.Signed("v", r.Signer)
	r.Registry.Inject(testregistry.Fault{Kind: testregistry.Hang})
	if a := r.review(server.PathValidate+"?timeout=1s", pod("shop", pinned)); a.Allowed || !strings.Contains(a.Result.Message, "no answer in time") {
		t.Errorf("%+v %+v", a, a.Result)
	}
}
