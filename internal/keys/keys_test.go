package keys

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

func TestWait(t *testing.T) {
	t.Parallel()
	down := &Error{Op: "get", Err: boltseal.ErrUnavailable}
	busy := &Error{Op: "get", Status: 429, Err: boltseal.ErrUnavailable}
	told := &Error{Op: "get", Status: 503, Err: boltseal.ErrUnavailable, RetryAfter: 7 * time.Minute}
	for _, c := range []struct {
		failures int
		err      error
		interval time.Duration
		least    time.Duration // random 0
		most     time.Duration // random 1
	}{
		{0, nil, 0, 0, 0},
		{0, nil, time.Hour, time.Hour, 54 * time.Minute}, // never later than it says
		{0, nil, time.Millisecond, MinInterval, MinInterval * 9 / 10},
		{1, down, 0, time.Second, 1100 * time.Millisecond},
		{4, down, time.Hour, 8 * time.Second, 8800 * time.Millisecond},
		{50, down, time.Hour, 5 * time.Minute, 330 * time.Second},
		{9, down, 10 * time.Second, 10 * time.Second, 11 * time.Second},
		{1, busy, time.Second, 10 * time.Second, 11 * time.Second}, // less often than when all is well
		{2, busy, time.Second, 20 * time.Second, 22 * time.Second},
		{1, busy, time.Minute, time.Minute, 66 * time.Second},
		{2, busy, time.Minute, 2 * time.Minute, 132 * time.Second},
		{50, busy, time.Hour, time.Hour, 66 * time.Minute},
		{50, busy, 0, 5 * time.Minute, 330 * time.Second},
		{1, told, time.Second, 7 * time.Minute, 462 * time.Second},
	} {
		s := State{Failures: c.failures, Err: c.err}
		if got := s.wait(c.interval, 0); got != c.least {
			t.Errorf("%+v: %v", c, got)
		}
		if got := s.wait(c.interval, 1); got != c.most {
			t.Errorf("%+v: at most %v", c, got)
		}
	}
}

func item(name string, c *testca.Chain) Item {
	return Item{Name: name, Use: InUse, Certificates: c.X509()}
}

// TestMerge: what was not answered stays as it was, and only that.
func TestMerge(t *testing.T) {
	t.Parallel()
	a, b := testca.Test(t, testca.Options{}), testca.Test(t, testca.Options{})
	down := errors.New("down")
	old, err := merge(nil, []Group{{Name: "a", Items: []Item{item("a", a)}}, {Name: "b", Items: []Item{item("b", b)}}})
	if err != nil || len(old.Certificates()) != 2 {
		t.Fatalf("%v %v", old, err)
	}
	now, err := merge(old, []Group{{Name: "a", Problem: "gone"}, {Name: "b", Err: down}})
	if !errors.Is(err, down) || len(now.Certificates()) != 1 || !now.Certificates()[0].Equal(b.Root().Certificate) || Texts(now.Problems()) != "gone" {
		t.Errorf("%+v %v", now, err)
	}
	part, err := merge(nil, []Group{{Name: "a", Items: []Item{item("a", a)}}, {Name: "b", Err: down}})
	if !errors.Is(err, down) || len(part.Certificates()) != 1 || !strings.Contains(Texts(part.Problems()), "b: it has not been fetched yet") {
		t.Errorf("%+v %v", part, err)
	}
	if none, err := merge(nil, []Group{{Name: "a", Err: down}}); none != nil || !errors.Is(err, down) {
		t.Errorf("%+v %v", none, err)
	}
	same, _ := merge(old, []Group{{Name: "a", Items: []Item{item("a", a)}}, {Name: "b", Err: down}})
	if !same.equal(old) || now.equal(old) {
		t.Error("what is the same counts as another, or the other way round")
	}
}

// provider is a function that fetches.
type provider struct {
	Parameters
	fetch func(context.Context) ([]Group, error)
}

func (p provider) Open(Env, string) (Provider, error)         { return p, nil }
func (p provider) Fetch(ctx context.Context) ([]Group, error) { return p.fetch(ctx) }
func want(id string, fetch func(context.Context) ([]Group, error)) Want {
	return Want{ID: id, Resource: "KeyManagementProvider " + id, Parameters: provider{fetch: fetch}}
}

// TestOneHangs: a provider that hangs, and one that panics, keep nobody else.
func TestOneHangs(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{})
	hangs := want("hangs", func(ctx context.Context) ([]Group, error) {
		<-ctx.Done()
		return nil, NoAnswer("get", "x", "vault.example", ctx.Err())
	})
	panics := want("panics", func(context.Context) ([]Group, error) { panic("at the vault") })
	works := want("works", func(context.Context) ([]Group, error) { return []Group{{Items: []Item{item("a", chain)}}}, nil })
	var changes atomic.Int32
	r := NewRefresher(Options{Env: Env{Limits: Limits{Attempt: 50 * time.Millisecond}}, Changed: func() { changes.Add(1) }})
	defer r.Close()
	r.Use([]Want{hangs, panics, works})
	r.Wait(t.Context())
	if st := r.State(hangs); !errors.Is(st.Err, boltseal.ErrUnavailable) || !strings.Contains(st.Err.Error(), "it took too long") {
		t.Errorf("%+v", st)
	}
	if st := r.State(panics); st.Err == nil || !strings.Contains(st.Err.Error(), "a fault in Boltseal") {
		t.Errorf("%+v", st)
	}
	if st := r.State(works); st.Err != nil || len(st.Content.Certificates()) != 1 {
		t.Errorf("%+v", st)
	}
	testwait.Until(t, "each is told after it is known", func() bool { return changes.Load() >= 3 })
	// What is not wanted any more is forgotten.
	r.Use([]Want{works})
	if st := r.State(hangs); st.Tried || st.Err != nil {
		t.Errorf("%+v", st)
	}
	if st := r.State(works); len(st.Content.Certificates()) != 1 {
		t.Errorf("%+v", st)
	}
}

func TestCleanHidesSecrets(t *testing.T) {
	t.Parallel()
	issuer := "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
	for _, text := range []string{"token " + issuer + " is bad", "Bearer " + issuer, "s.AbCdEfGhIjKlMnOpQrStUvWx", "hvs.CAESIJ_xyz-123", strings.Repeat("A", 70)} {
		got := Clean(text)
		for _, secret := range strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '.' }) {
			if len(secret) > 10 && strings.Contains(got, secret) {
				t.Errorf("%q holds %q", got, secret)
			}
		}
	}
	if got := Clean("a\r\nb\x00 Trace ID: 2b1c4d6e-0000-4000-8000-0123456789ab Timestamp: 2026-01-02 03:04:05Z"); got != "a b" {
		t.Errorf("%q", got)
	}
}

func TestClientIsBounded(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, other.URL, http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 100))
	}))
	defer s.Close()
	for most, ok := range map[int64]bool{99: false, 100: true, 101: true} {
		c := Env{Limits: Limits{AnswerBytes: most}}.Client()
		resp, err := c.Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if ok != (err == nil && len(b) == 100) || !ok && !errors.Is(err, boltseal.ErrLimit) {
			t.Errorf("%d: %d bytes, %v", most, len(b), err)
		}
	}
	resp, err := Env{}.Client().Get(s.URL + "/away")
	if err != nil || resp.StatusCode != http.StatusFound || elsewhere.Load() != 0 {
		t.Errorf("%v %v: a redirect was followed", resp, err)
	}
	if resp != nil {
		resp.Body.Close()
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, out := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-7": 0, "99999999999": 0, "999999999": time.Hour, "soon": 0,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute, "Fri, 02 Jan 2026 03:00:05 GMT": 0} {
		if in == "99999999999" {
			out = time.Hour // an int has 64 bits here
		}
		if got := RetryAfter(http.Header{"Retry-After": {in}}, now); got != out {
			t.Errorf("%q: %v", in, got)
		}
	}
}

// TestRootsOnly: what cannot be a root of trust is none.
func TestRootsOnly(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{Intermediates: []testca.Spec{{}}})
	c := NewContent([]Group{{Items: []Item{
		{Use: InUse, Certificates: chain.X509()},
		{Use: InUse, Certificates: []*x509.Certificate{chain.Root().Certificate}},
		{Use: Disabled, Certificates: testca.Test(t, testca.Options{}).X509()},
		{Certificates: testca.Test(t, testca.Options{}).X509()},
	}}})
	if n := len(c.Certificates()); n != 2 {
		t.Errorf("%d certificates", n)
	}
	var none *Content
	if none.Certificates() != nil || none.Problems() != nil || none.Notes() != nil {
		t.Error("nothing has something")
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\nb", "eyJhbGciOiJub25lIn0")
	f.Add("password=", "s.AbCdEfGhIjKlMnOpQrStUvWxYz")
	f.Fuzz(func(t *testing.T, text, secret string) {
		got := Clean(text)
		if len(got) > maxDetail+len("…")+4 || strings.ContainsAny(got, "\r\n\x00") {
			t.Fatalf("%q", got)
		}
		token := "eyJ" + strings.Map(func(r rune) rune {
			if r < 128 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9') {
				return r
			}
			return -1
		}, secret)
		if len(token) > 12 && strings.Contains(Clean("x "+token+"."+token+" y"), token) {
			t.Fatalf("%q shows", token)
		}
	})
}
