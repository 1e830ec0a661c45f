package hubtoken

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"

	"github.com/boltseal/boltseal/internal/test/weight"
)

var begin = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// tokenOf looks like a ServiceAccount's token; the server of these tests does not
// verify any.
func tokenOf(subject string, issued, ends time.Time) string {
	payload, _ := json.Marshal(map[string]any{"sub": subject, "iat": issued.Unix(), "exp": ends.Unix()})
	return "e30." + base64.RawURLEncoding.EncodeToString(payload) + ".c2ln"
}

const account = "system:serviceaccount:boltseal-system:boltseal-agent-fra1"

func TestParseClaims(t *testing.T) {
	t.Parallel()
	c, ok := parseClaims(tokenOf(account, begin, begin.Add(90*24*time.Hour)))
	if !ok || c.namespace != "boltseal-system" || c.account != "boltseal-agent-fra1" || !c.renewal().Equal(begin.Add(45*24*time.Hour)) {
		t.Errorf("%+v %t", c, ok)
	}
	for name, token := range map[string]string{
		"nothing":           "",
		"no JWT":            "abcdef",
		"two parts":         "e30.e30",
		"no base64":         "e30.???.e30",
		"no JSON":           "e30.e30x.e30",
		"a person's":        tokenOf("alice", begin, begin.Add(time.Hour)),
		"another kind's":    tokenOf("system:node:a:b", begin, begin.Add(time.Hour)),
		"no account":        tokenOf("system:serviceaccount:a:", begin, begin.Add(time.Hour)),
		"it never ends":     "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"`+account+`","iat":1}`)) + ".e30",
		"it ends before":    tokenOf(account, begin, begin.Add(-time.Hour)),
		"it is far too big": tokenOf(account, begin, begin.Add(time.Hour)) + strings.Repeat("a", maxToken),
	} {
		if c, ok := parseClaims(token); ok {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

func FuzzParseClaims(f *testing.F) {
	f.Add(tokenOf(account, begin, begin.Add(time.Hour)))
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		weight.Bound{Floor: 16 << 10, Times: 32}.Check(t, len(token), func() { _, _ = parseClaims(token) })
		if c, ok := parseClaims(token); ok && (c.namespace == "" || c.account == "" || c.lifetime() <= 0 || !c.renewal().Before(c.ends)) {
			t.Errorf("%q: %+v", token, c)
		}
	})
}

// hub is an API server that gives tokens, and a clock that goes on when it is told.
type hub struct {
	*httptest.Server
	mu     sync.Mutex
	now    time.Time
	status int
	shown  []string // what was shown with each request
	ticks  chan time.Time
	waits  chan struct{}
	stored string
	saves  int
	saveErr,
	readErr error
}

func newHub(t *testing.T, token string) (*hub, *Source, *rest.Config) {
	t.Helper()
	h := &hub{now: begin, status: http.StatusCreated, ticks: make(chan time.Time), waits: make(chan struct{}), stored: token}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.shown = append(h.shown, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		w.Header().Set("Content-Type", "application/json")
		if r.Method != http.MethodPost || r.URL.Path != "/api/v1/namespaces/boltseal-system/serviceaccounts/boltseal-agent-fra1/token" || h.status != http.StatusCreated {
			w.WriteHeader(max(h.status, 400))
			fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":%d}`, max(h.status, 400))
			return
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"kind":"TokenRequest","apiVersion":"authentication.k8s.io/v1","status":{"token":%q}}`, tokenOf(account, h.now, h.now.Add(10*time.Hour)))
	}))
	t.Cleanup(h.Close)
	s, config, err := New(Options{Hub: &rest.Config{Host: h.URL, BearerToken: token},
		Read: func() (string, error) { h.mu.Lock(); defer h.mu.Unlock(); return h.stored, h.readErr },
		Save: func(_ context.Context, token string) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.saves++
			if h.saveErr == nil {
				h.stored = token
			}
			return h.saveErr
		},
		Clock: func() time.Time { h.mu.Lock(); defer h.mu.Unlock(); return h.now },
		After: func(time.Duration) <-chan time.Time { h.waits <- struct{}{}; return h.ticks }})
	if err != nil {
		t.Fatal(err)
	}
	return h, s, config
}

// step lets the source look once more, at a time, and returns when it has.
func (h *hub) step(at time.Time, change func()) {
	h.mu.Lock()
	h.now = at
	if change != nil {
		change()
	}
	h.mu.Unlock()
	h.ticks <- at
	<-h.waits
}

// TestRenewal goes through the life of a credential.
func TestRenewal(t *testing.T) {
	t.Parallel()
	first := tokenOf(account, begin, begin.Add(10*time.Hour))
	h, s, config := newHub(t, first)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Run(ctx) }()
	<-h.waits
	h.step(begin.Add(4*time.Hour), nil)
	if s.current() != first || len(h.shown) > 0 {
		t.Error("it is renewed before half of its life")
	}
	h.step(begin.Add(5*time.Hour), func() { h.status = http.StatusForbidden })
	h.step(begin.Add(6*time.Hour), func() { h.status = http.StatusInternalServerError })
	if s.current() != first || h.saves > 0 {
		t.Error("a hub that refuses has changed something")
	}
	h.step(begin.Add(7*time.Hour), func() { h.status, h.saveErr = http.StatusCreated, errors.New("no right") })
	second := tokenOf(account, begin.Add(7*time.Hour), begin.Add(17*time.Hour))
	if s.current() != second || h.stored != first {
		t.Error("it is not used although it cannot be stored")
	}
	h.step(begin.Add(7*time.Hour+time.Minute), func() { h.saveErr = nil })
	if h.stored != second || h.saves != 2 {
		t.Errorf("it is not stored once that works: %d", h.saves)
	}
	h.step(begin.Add(7*time.Hour+2*time.Minute), nil)
	if h.saves != 2 {
		t.Error("it is stored again and again")
	}
	// Whoever replaces it by hand has the last word.
	theirs := tokenOf(account, begin.Add(7*time.Hour), begin.Add(9*time.Hour))
	h.step(begin.Add(7*time.Hour+3*time.Minute), func() { h.stored = theirs })
	if s.current() != theirs {
		t.Error("what somebody stored is not used")
	}
	h.step(begin.Add(7*time.Hour+4*time.Minute), func() { h.readErr = errors.New("gone") })
	if s.current() != theirs {
		t.Error("a file that cannot be read takes the credential away")
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Get(h.URL + "/anything")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := h.shown[len(h.shown)-1]; got != theirs || config.BearerToken != "" {
		t.Errorf("another credential is shown: %s", got)
	}
	cancel()
	<-ended
}

// TestNotRenewable: what is no ServiceAccount's token stays as it is.
func TestNotRenewable(t *testing.T) {
	t.Parallel()
	in := &rest.Config{BearerToken: "opaque"}
	s, out, err := New(Options{Hub: in, Read: func() (string, error) { return "", nil }})
	if s != nil || out != in || err != nil {
		t.Errorf("%v %v %v", s, out, err)
	}
	if _, _, err := New(Options{}); err == nil {
		t.Error("options that lack everything are taken")
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\ncurrent-context: hub\nclusters: [{name: hub, cluster: {server: https://hub.example}}]\ncontexts: [{name: hub, context: {cluster: hub, user: a}}]\nusers: [{name: a, user: {token: old}}, {name: b, user: {token: other}}]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f := File{Path: path}
	if token, err := f.Read(); token != "old" || err != nil {
		t.Errorf("%s %v", token, err)
	}
	if err := f.Save(t.Context(), "new"); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if token, rerr := f.Read(); token != "new" || errors.Join(err, rerr) != nil || !strings.Contains(string(b), "other") || !strings.Contains(string(b), "https://hub.example") {
		t.Errorf("%s %v %s", token, rerr, b)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if len(left) != 1 || err != nil {
		t.Errorf("%v %v", left, err)
	}
	for _, bad := range []string{"", "a: [", "apiVersion: v1\nkind: Config\n"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Read(); err == nil {
			t.Errorf("%q is read", bad)
		}
		if err := f.Save(t.Context(), "new"); err == nil {
			t.Errorf("%q is overwritten", bad)
		}
	}
}

// TestMetricName: the alert about it cannot be tried with a server that is its own hub.
func TestMetricName(t *testing.T) {
	t.Parallel()
	_, s, _ := newHub(t, tokenOf(account, begin, begin.Add(time.Hour)))
	if m := s.Metrics(); len(m) != 1 || !strings.Contains(fmt.Sprint(descOf(m[0])), "boltseal_agent_hub_credential_expiry_timestamp_seconds") {
		t.Errorf("%v", m)
	}
}

func descOf(c prometheus.Collector) *prometheus.Desc {
	to := make(chan *prometheus.Desc, 1)
	c.Describe(to)
	return <-to
}
