package hub

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/compliance"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

// receiver takes CloudEvents over TLS, as whoever is notified does.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	fails  int // requests that are refused first
	bodies [][]byte
	header []http.Header
	taken  chan struct{}
}

func newReceiver(t *testing.T, fails int) *receiver {
	r := &receiver{fails: fails, taken: make(chan struct{}, 10)}
	r.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.bodies, r.header = append(r.bodies, body), append(r.header, req.Header)
		if r.fails--; r.fails >= 0 {
			w.Header().Set("Location", "https://127.0.0.1:1/elsewhere")
			w.WriteHeader([]int{http.StatusServiceUnavailable, http.StatusTemporaryRedirect}[r.fails%2])
			return
		}
		r.taken <- struct{}{}
	}))
	// What is said of a handshake that was broken off is no concern of the test.
	r.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) roots() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(r.Certificate())
	return p
}

// TestNotification: a change is one CloudEvent, sent again until it is taken, and nothing of the secrets in the URL and
// the header is logged.
func TestNotification(t *testing.T) {
	t.Parallel()
	to, stranger := newReceiver(t, 3), newReceiver(t, 0)
	const secret = "s3cret"
	var log bytes.Buffer
	var writing sync.Mutex
	o := Options{Namespace: "boltseal-system", Notify: []Sink{
		{URL: to.URL + "/hook/" + secret, Header: http.Header{"Authorization": {"Bearer " + secret}}, Roots: to.roots(), FirstBackOff: time.Millisecond},
		{URL: stranger.URL + "/" + secret, Roots: x509.NewCertPool(), FirstBackOff: time.Millisecond},
	}}
	m := newMetrics()
	n, err := newNotifier(o.Notify, slog.New(slog.NewTextHandler(locked{&writing, &log}, nil)), m)
	if err != nil {
		t.Fatal(err)
	}
	events := record.NewFakeRecorder(10)
	r := &run{Hub: &Hub{o: o, notifier: n, metrics: m}, events: events}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { n.run(ctx) })

	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	change := compliance.Change{Kind: compliance.TurnedNonCompliant, Cluster: "fra1", Assignment: "deny", Reference: "verify",
		From: v1alpha1.Compliant, To: v1alpha1.NonCompliant, Reason: "NotTrusted", Message: "3 Pods run images that are not trusted"}
	r.tell(&corev1.Pod{}, []compliance.Change{change}, "7", now)
	<-to.taken

	to.mu.Lock()
	if len(to.bodies) != 4 || !bytes.Equal(to.bodies[0], to.bodies[3]) {
		t.Errorf("%d requests, the last %s, the first %s", len(to.bodies), to.bodies[len(to.bodies)-1], to.bodies[0])
	}
	if h := to.header[3]; h.Get("Authorization") != "Bearer "+secret || !strings.HasPrefix(h.Get("Content-Type"), "application/cloudevents+json") {
		t.Errorf("%v", h)
	}
	var e CloudEvent
	d := json.NewDecoder(bytes.NewReader(to.bodies[3]))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		t.Error(err)
	}
	to.mu.Unlock()
	// What the specification requires of each event: id, source, specversion and type that are not empty.
	if e.SpecVersion != "1.0" || e.ID == "" || e.Source != "/boltseal-system/hub" || e.Type != TypeNonCompliant || e.Time != "2030-01-02T03:04:05Z" ||
		e.Subject != "fra1" || e.DataContentType != "application/json" || e.Data.To != "NonCompliant" || e.Data.Assignment != "deny" {
		t.Errorf("%+v", e)
	}
	if text := <-events.Events; !strings.Contains(text, "Warning") || !strings.Contains(text, "deny") {
		t.Error(text)
	}
	// The same change told again, by a hub that was started anew, has the same ID; another one has another.
	again := CloudEvent{}
	r.tell(&corev1.Pod{}, []compliance.Change{change}, "7", now.Add(time.Hour))
	<-to.taken
	to.mu.Lock()
	if err := json.Unmarshal(to.bodies[4], &again); err != nil || again.ID != e.ID {
		t.Errorf("%q and %q: %v", again.ID, e.ID, err)
	}
	to.mu.Unlock()
	testwait.Until(t, "the answer to the last one arrives", func() bool { return testutil.ToFloat64(m.notifications.WithLabelValues("sent")) >= 2 })
	cancel()
	running.Wait()
	if stranger.bodies != nil {
		t.Error("a server whose certificate is not trusted was told")
	}
	if sent := testutil.ToFloat64(m.notifications.WithLabelValues("sent")); sent != 2 {
		t.Errorf("%v are counted as sent", sent)
	}
	writing.Lock()
	defer writing.Unlock()
	if text := log.String(); strings.Contains(text, secret) || !strings.Contains(text, "a notification could not be sent") {
		t.Error(text)
	}
}

type locked struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
