package acr_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/azure/acr"
	"github.com/boltseal/boltseal/internal/test/testcloud"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

// TestExchangeFails: whatever a registry answers but a refresh token is an error that
// says what it is.
func TestExchangeFails(t *testing.T) {
	t.Parallel()
	says := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		set    func(h *house)
		is     error
		says   string
	}{
		{name: "not allowed", answer: says(401, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`), is: boltseal.ErrUnauthorized, says: "AcrPull"},
		{name: "bad request", answer: says(400, `{"errors":[{"code":"BAD_REQUEST","message":"no"}]}`), is: boltseal.ErrUnauthorized, says: "BAD_REQUEST"},
		{name: "not a registry of Azure", answer: says(404, `gone`), is: boltseal.ErrNotFound, says: "HTTP 404"},
		{name: "throttled", answer: says(429, ``), is: boltseal.ErrUnavailable, says: "HTTP 429"},
		{name: "broken", answer: says(500, ``), is: boltseal.ErrUnavailable, says: "HTTP 500"},
		{name: "no JSON", answer: says(200, `<html>`), is: boltseal.ErrMalformed, says: "not JSON"},
		{name: "no token", answer: says(200, `{}`), is: boltseal.ErrMalformed, says: "no refresh_token"},
		{name: "no JWT", answer: says(200, `{"refresh_token":"opaque-token-which-nobody-should-see"}`), is: boltseal.ErrMalformed, says: "no JSON Web Token"},
		{name: "no end", answer: says(200, `{"refresh_token":"eyJhIjoxfQ.eyJhIjoxfQ.c2lnbmF0dXJl"}`), is: boltseal.ErrMalformed, says: "when it ends"},
		{name: "an end that was", answer: says(200, `{"refresh_token":"eyJhIjoxfQ.eyJleHAiOjE3MDAwMDAwMDB9.c2lnbmF0dXJl"}`), is: boltseal.ErrUnavailable, says: "clock"},
		{name: "too long", answer: says(200, `{"refresh_token":"`+strings.Repeat("a", 1<<20)+`"}`), is: boltseal.ErrLimit, says: "too long"},
		{name: "cut", set: func(h *house) { h.Cut(host) }, is: boltseal.ErrUnavailable, says: host},
		{name: "Entra throttles", set: func(h *house) { h.Refuse(testcloud.EntraPublic, -1, 429, "30") }, is: boltseal.ErrUnavailable, says: "sign in"},
		{name: "Entra is broken", set: func(h *house) { h.Refuse(testcloud.EntraPublic, -1, 503, "") }, is: boltseal.ErrUnavailable, says: "sign in"},
		{name: "Entra is cut", set: func(h *house) { h.Cut(testcloud.EntraPublic) }, is: boltseal.ErrUnavailable, says: "sign in"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, nil)
			h.acr.Instead(c.answer)
			if c.set != nil {
				c.set(h)
			}
			_, err := h.get(t, h.source(t, acr.Options{}), host)
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v\nwant %s", err, c.says)
			}
			if strings.Contains(fmt.Sprint(err), "opaque-token") {
				t.Error("the answer's token is told")
			}
		})
	}
}

// TestRedirects: Entra's token goes to the registry's host only, whatever that says.
func TestRedirects(t *testing.T) {
	t.Parallel()
	for _, status := range []int{301, 302, 303, 307, 308} {
		h := newHouse(t, nil)
		for _, evil := range []string{"evil.example", "other.azurecr.io"} {
			h.Serve(evil, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s was asked", r.Host) }))
		}
		for _, to := range []string{"https://evil.example/oauth2/exchange", "https://other.azurecr.io/oauth2/exchange", "http://" + host + "/oauth2/exchange"} {
			h.acr.Instead(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, status) })
			if _, err := h.get(t, h.source(t, acr.Options{}), host); !errors.Is(err, boltseal.ErrRefused) || !strings.Contains(err.Error(), "leads elsewhere") {
				t.Errorf("%d to %s: %v", status, to, err)
			}
		}
		if n := h.exchanges(host); n != 3 {
			t.Errorf("%d: %d exchanges", status, n)
		}
	}
}

// TestWire: the form is what Azure documents, over TLS.
func TestWire(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	var form map[string][]string
	h.acr.Instead(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || r.URL.RawQuery != "" || r.Header.Get("Authorization") != "" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header["Content-Type"])
		}
		form = r.PostForm
		_, _ = io.WriteString(w, `{"refresh_token":"`+h.acr.Issue(client)+`"}`)
	})
	if _, err := h.get(t, h.source(t, acr.Options{}), host); err != nil {
		t.Fatal(err)
	}
	if len(form) != 4 || form["grant_type"][0] != "access_token" || form["service"][0] != host || form["tenant"][0] != tenant || form["access_token"][0] == "" {
		t.Errorf("%d fields", len(form))
	}
}

// TestShared: many images of a registry cost one exchange, each registry has a token
// of its own, and one that was refused is dropped.
func TestShared(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	const second = "second.azurecr.io"
	h.entra.ACR(t, second, tenant, nil).Grant(client)
	s := h.source(t, acr.Options{})
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for _, at := range []string{host, second} {
				if _, err := h.get(t, s, at); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	one, _ := h.get(t, s, host)
	two, _ := h.get(t, s, second)
	if h.exchanges(host) != 1 || h.exchanges(second) != 1 || one.RefreshToken == two.RefreshToken {
		t.Errorf("%d and %d exchanges", h.exchanges(host), h.exchanges(second))
	}
	s.Invalidate(second, "app", one) // not that registry's
	s.Invalidate(host, "app", two)
	if _, err := h.get(t, s, host); err != nil || h.exchanges(host) != 1 {
		t.Errorf("%v, %d exchanges", err, h.exchanges(host))
	}
	s.Invalidate(host, "app", one)
	again, err := h.get(t, s, host)
	if err != nil || again.RefreshToken == one.RefreshToken || h.exchanges(host) != 2 || h.exchanges(second) != 1 {
		t.Errorf("%v, %d exchanges", err, h.exchanges(host))
	}
	s.Invalidate(host, "app", one) // comes late
	if _, err := h.get(t, s, host); err != nil || h.exchanges(host) != 2 {
		t.Errorf("%v, %d exchanges", err, h.exchanges(host))
	}
}

// TestRenewed: a token is renewed ahead of its end, an outage then is not seen, and
// once it has ended it is not shown any more.
func TestRenewed(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	start := time.Now()
	h.at(start)
	h.acr.Life(50 * time.Minute)
	s := h.source(t, acr.Options{})
	first, err := h.get(t, s, host)
	if err != nil {
		t.Fatal(err)
	}
	h.at(start.Add(30 * time.Minute))
	if c, err := h.get(t, s, host); err != nil || c != first || h.exchanges(host) != 1 {
		t.Errorf("%v, %d exchanges", err, h.exchanges(host))
	}
	h.Cut(host)
	h.at(start.Add(45 * time.Minute))
	if c, err := h.get(t, s, host); err != nil || c != first {
		t.Errorf("in an outage: %v", err)
	}
	h.at(start.Add(50*time.Minute - 10*time.Second))
	if _, err := h.get(t, s, host); !errors.Is(err, boltseal.ErrUnavailable) {
		t.Errorf("near its end: %v", err)
	}
	h.Mend(host)
	h.at(start.Add(55 * time.Minute)) // Entra's own token, which the SDK keeps by its own clock, is good for an hour
	c, err := h.get(t, s, host)
	if err != nil || c == first || c.Expires.Before(h.clock()) {
		t.Errorf("%v, until %s", err, c.Expires)
	}
}

// TestFailureIsKept: many images of a registry that refuses do not each ask.
func TestFailureIsKept(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	start := time.Now()
	h.at(start)
	s := h.source(t, acr.Options{ClientID: "00000000-0000-4000-8000-0000000000ee"})
	for range 20 {
		if _, err := h.get(t, s, host); !errors.Is(err, boltseal.ErrUnauthorized) {
			t.Fatal(err)
		}
	}
	asked := len(h.Requests(testcloud.EntraPublic))
	h.at(start.Add(time.Second))
	_, _ = h.get(t, s, host)
	if n := len(h.Requests(testcloud.EntraPublic)); n != asked {
		t.Errorf("%d further requests", n-asked)
	}
	h.entra.Add(tenant, "00000000-0000-4000-8000-0000000000ee", testcloud.App{Federated: []testcloud.Federated{{Issuer: h.cluster, Subject: subject}}})
	h.acr.Grant("00000000-0000-4000-8000-0000000000ee")
	h.at(start.Add(10 * time.Second))
	if _, err := h.get(t, s, host); err != nil {
		t.Error(err)
	}
}

// TestHangs: one who answers nothing takes so long, and no longer.
func TestHangs(t *testing.T) {
	t.Parallel()
	for _, at := range []string{host, testcloud.EntraPublic} {
		h := newHouse(t, nil)
		h.Hang(at)
		var err error
		// The time must be enough to get there, and how much that is, the machine says.
		for timeout := 100 * time.Millisecond; len(h.Requests(at)) == 0 && timeout < testwait.Patience; timeout *= 2 { // waits: it grows until it is enough
			if _, err = h.get(t, h.source(t, acr.Options{Timeout: timeout}), host); err == nil {
				break
			}
		}
		if !errors.Is(err, boltseal.ErrUnavailable) || !strings.Contains(err.Error(), "too long") {
			t.Errorf("%s: %v", at, err)
		}
	}
}
