package pageserver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/boltseal/boltseal/internal/governance/page"
	"github.com/boltseal/boltseal/internal/governance/page/sample"
	"github.com/boltseal/boltseal/internal/governance/pageserver"
)

func fleet(context.Context) (page.Input, error) { return sample.Fleet(8, 4), nil }

func asked(h http.Handler, method, target, host string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://"+host+target, nil)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestEveryAnswerIsGuarded: headers, whatever the answer is.
func TestEveryAnswerIsGuarded(t *testing.T) {
	t.Parallel()
	h := pageserver.New(pageserver.Options{Source: fleet, Port: 8090})
	for _, tt := range []struct {
		method, target, host string
		status               int
	}{
		{"GET", "/", "127.0.0.1:8090", 200}, {"HEAD", "/", "localhost:8090", 200}, {"GET", "/?cluster=lon1", "[::1]:8090", 200},
		{"GET", "/?cluster=none", "127.0.0.1:8090", 404}, {"GET", "/?token=x", "127.0.0.1:8090", 400}, {"GET", "/favicon.ico", "127.0.0.1:8090", 404}, {"GET", "//evil.example/%2e%2e", "127.0.0.1:8090", 404},
		{"POST", "/", "127.0.0.1:8090", 405}, {"OPTIONS", "/", "127.0.0.1:8090", 405}, {"DELETE", "/?cluster=lon1", "127.0.0.1:8090", 405},
		// A web site's own name that leads to this machine.
		{"GET", "/", "evil.example:8090", 421}, {"GET", "/", "evil.example", 421}, {"GET", "/", "127.0.0.1", 421}, {"GET", "/", "127.0.0.1:8091", 421}, {"GET", "/", "localhost.evil.example:8090", 421}, {"GET", "/", "127.0.0.1.evil.example:8090", 421},
	} {
		w := asked(h, tt.method, tt.target, tt.host)
		if w.Code != tt.status {
			t.Errorf("%s %s at %s: %d, want %d", tt.method, tt.target, tt.host, w.Code, tt.status)
		}
		for name, want := range map[string]string{"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "X-Frame-Options": "DENY"} {
			if got := w.Header().Get(name); !strings.Contains(got, want) {
				t.Errorf("%s %s: %s is %q", tt.method, tt.target, name, got)
			}
		}
		if !strings.Contains(w.Header().Get("Content-Security-Policy"), "frame-ancestors 'none'") || w.Header().Get("Location") != "" || w.Header().Get("Set-Cookie") != "" {
			t.Errorf("%s %s: %v", tt.method, tt.target, w.Header())
		}
		if html := strings.HasPrefix(w.Header().Get("Content-Type"), "text/html"); html != (tt.status == 200) || strings.Contains(w.Body.String(), "lon1") && tt.status != 200 {
			t.Errorf("%s %s: %s", tt.method, tt.target, w.Header().Get("Content-Type"))
		}
	}
}

// TestStateIsReadOnceForMany, and again when it is no longer fresh, while nobody waits.
func TestStateIsReadOnceForMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var reads atomic.Int32
		h := pageserver.New(pageserver.Options{Source: func(context.Context) (page.Input, error) {
			reads.Add(1)
			time.Sleep(2 * time.Second)
			in := sample.Fleet(2, 0)
			in.Now = time.Now()
			return in, nil
		}})
		get := func() string { return asked(h, "GET", "/", "any").Body.String() }
		for range 3 {
			go get()
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		first := get()
		if reads.Load() != 1 {
			t.Errorf("read %d times", reads.Load())
		}
		time.Sleep(pageserver.DefaultFresh)
		start := time.Now()
		if got := get(); got != first || time.Since(start) != 0 {
			t.Errorf("a reader waited %v", time.Since(start))
		}
		time.Sleep(3 * time.Second)
		if get(); reads.Load() != 2 {
			t.Errorf("read %d times", reads.Load())
		}
		time.Sleep(time.Hour)
		start = time.Now()
		if get(); time.Since(start) != 2*time.Second {
			t.Errorf("what is an hour old was shown after %v", time.Since(start))
		}
	})
}

// TestNoStateNoPage: what cannot be read is said, and is no page.
func TestNoStateNoPage(t *testing.T) {
	t.Parallel()
	fails := func(context.Context) (page.Input, error) {
		return sample.Fleet(3, 3), errors.New("reading the clusters: no")
	}
	if w := asked(pageserver.New(pageserver.Options{Source: fails}), "GET", "/", "a"); w.Code != 502 || !strings.Contains(w.Body.String(), "reading the clusters: no") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := asked(pageserver.New(pageserver.Options{Source: fails, Readers: answer{nil}}), "GET", "/", "a"); w.Code != 502 || strings.Contains(w.Body.String(), "clusters") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

type answer struct{ err error }

func (a answer) Check(*http.Request) error { return a.err }

// TestReaders: nobody sees anything who may not.
func TestReaders(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err    error
		status int
	}{{nil, 200}, {pageserver.ErrUnauthenticated, 401}, {fmt.Errorf("%w: list clusters", pageserver.ErrForbidden), 403}, {errors.New("secret"), 503}} {
		read := false
		h := pageserver.New(pageserver.Options{Readers: answer{tt.err}, Source: func(ctx context.Context) (page.Input, error) { read = true; return fleet(ctx) }})
		w := asked(h, "GET", "/", "any")
		if w.Code != tt.status || read != (tt.status == 200) || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%v: %d %v %.100s", tt.err, w.Code, read, w.Body)
		}
		if challenged := w.Header().Get("WWW-Authenticate") != ""; challenged != (tt.status == 401) {
			t.Errorf("%v: %v", tt.err, w.Header())
		}
	}
}

// TestServe ends with its context, and bounds what it reads.
func TestServe(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- pageserver.Serve(ctx, l, pageserver.New(pageserver.Options{Source: fleet, Port: l.Addr().(*net.TCPAddr).Port}))
	}()
	resp, err := http.Get("http://" + l.Addr().String() + "/?assignment=all-watch")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != 200 || !strings.Contains(string(body), "all-watch") {
		t.Errorf("%d %v", resp.StatusCode, err)
	}
	r, err := http.NewRequest("GET", "http://"+l.Addr().String()+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Long", strings.Repeat("a", 64<<10))
	if resp, err = http.DefaultClient.Do(r); err == nil {
		resp.Body.Close()
		if resp.StatusCode != 431 {
			t.Errorf("%d", resp.StatusCode)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
