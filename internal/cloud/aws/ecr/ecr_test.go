package ecr_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/aws/ecr"
	"github.com/boltseal/boltseal/internal/test/testcloud"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

const secret = "opaque-password-which-nobody-should-see"

// answer is one of GetAuthorizationToken.
func answer(token, ends, proxy string) string {
	return fmt.Sprintf(`{"authorizationData":[{"authorizationToken":%q,"expiresAt":%s,"proxyEndpoint":%q}]}`, token, ends, proxy)
}

func encoded(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// TestAnswers: whatever Amazon ECR answers but a password for the registry that was
// asked for is an error that says what it is.
func TestAnswers(t *testing.T) {
	t.Parallel()
	later := fmt.Sprint(time.Now().Add(12 * time.Hour).Unix())
	good, proxy := encoded("AWS:"+secret), "https://"+host
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		set    func(h *house)
		is     error // nil = it is taken
		says   string
	}{
		{name: "as it should be", answer: says(200, answer(good, later, proxy))},
		{name: "an end with a fraction", answer: says(200, answer(good, later+".5", proxy))},
		{name: "in another form of the host", answer: says(200, answer(good, later, "https://"+owner+".dkr-ecr."+region+".on.aws"))},
		{name: "not allowed", set: func(h *house) { h.put("AWS_ROLE_ARN", role+"2"); h.aws.Trust(role+"2", subject) }, is: boltseal.ErrUnauthorized, says: "not authorized to perform: ecr:GetAuthorizationToken"},
		{name: "throttled", set: func(h *house) { h.ecr.Throttle(true) }, is: boltseal.ErrUnavailable, says: "ThrottlingException"},
		{name: "throttled by 429", answer: says(429, `{"__type":"TooManyRequestsException"}`), is: boltseal.ErrUnavailable, says: "HTTP 429"},
		{name: "broken", answer: says(500, `{"__type":"ServerException","message":"no"}`), is: boltseal.ErrUnavailable, says: "ServerException"},
		{name: "broken by 400", answer: says(400, `{"__type":"ServerException","message":"no"}`), is: boltseal.ErrUnavailable, says: "ServerException"},
		{name: "busy", answer: says(503, `<html>`), is: boltseal.ErrUnavailable, says: "HTTP 503"},
		{name: "refused", answer: says(400, `{"__type":"InvalidParameterException","message":"Invalid parameter"}`), is: boltseal.ErrUnauthorized, says: "InvalidParameterException: Invalid parameter"},
		{name: "the clock is wrong", answer: says(400, `{"__type":"InvalidSignatureException","message":"Signature expired: `+secret+`"}`), is: boltseal.ErrUnauthorized, says: "clock"},
		{name: "not there", answer: says(404, `gone`), is: boltseal.ErrUnauthorized, says: "HTTP 404"},
		{name: "no JSON", answer: says(200, `<html>`+secret), is: boltseal.ErrMalformed, says: "something else"},
		{name: "of another shape", answer: says(200, `{"authorizationData":"`+secret+`"}`), is: boltseal.ErrMalformed, says: ""},
		{name: "an end that is none", answer: says(200, answer(good, `"`+secret+`"`, proxy)), is: boltseal.ErrMalformed, says: ""},
		{name: "nothing", answer: says(200, `{}`), is: boltseal.ErrMalformed, says: "no authorizationData"},
		{name: "no tokens", answer: says(200, `{"authorizationData":[]}`), is: boltseal.ErrMalformed, says: "no authorizationData"},
		{name: "many tokens", answer: says(200, `{"authorizationData":[`+strings.Repeat(`{},`, 50)+`{}]}`), is: boltseal.ErrLimit, says: "more than"},
		{name: "no token", answer: says(200, answer("", later, proxy)), is: boltseal.ErrMalformed, says: "no authorizationToken"},
		{name: "no base64", answer: says(200, answer("*"+secret, later, proxy)), is: boltseal.ErrMalformed, says: "not that of the user"},
		{name: "another user", answer: says(200, answer(encoded("root:"+secret), later, proxy)), is: boltseal.ErrMalformed, says: "not that of the user"},
		{name: "no password", answer: says(200, answer(encoded("AWS:"), later, proxy)), is: boltseal.ErrMalformed, says: "not that of the user"},
		{name: "a password of two lines", answer: says(200, answer(encoded("AWS:"+secret+"\r\nX-Evil: 1"), later, proxy)), is: boltseal.ErrMalformed, says: "no password has"},
		{name: "a password that is too long", answer: says(200, answer(encoded("AWS:"+strings.Repeat("a", 40<<10)), later, proxy)), is: boltseal.ErrLimit, says: "longer"},
		{name: "no end", answer: says(200, `{"authorizationData":[{"authorizationToken":"`+good+`","proxyEndpoint":"`+proxy+`"}]}`), is: boltseal.ErrMalformed, says: "when it ends"},
		{name: "an end that was", answer: says(200, answer(good, "1700000000", proxy)), is: boltseal.ErrUnavailable, says: "clock"},
		{name: "too long", answer: says(200, answer(strings.Repeat("a", 1<<20), later, proxy)), is: boltseal.ErrLimit, says: "too long"},
		{name: "another account", answer: says(200, answer(good, later, "https://"+second)), is: boltseal.ErrRefused, says: "another registry"},
		{name: "another region", answer: says(200, answer(good, later, "https://"+owner+".dkr.ecr.eu-west-1.amazonaws.com")), is: boltseal.ErrRefused, says: "another registry"},
		{name: "a lookalike", answer: says(200, answer(good, later, "https://"+host+".evil.example")), is: boltseal.ErrRefused, says: "another registry"},
		{name: "without TLS", answer: says(200, answer(good, later, "http://"+host)), is: boltseal.ErrRefused, says: "another registry"},
		{name: "a port", answer: says(200, answer(good, later, proxy+":444")), is: boltseal.ErrRefused, says: "another registry"},
		{name: "nobody's", answer: says(200, answer(good, later, "")), is: boltseal.ErrRefused, says: "another registry"},
		{name: "cut", set: func(h *house) { h.Cut(api) }, is: boltseal.ErrUnavailable, says: "Amazon ECR at " + api},
		{name: "broken off", answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"authorizationData":[{"authorizationToken":"`+secret)
		}, is: boltseal.ErrUnavailable, says: "breaks off"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.ecr.Keep(secret)
			h.ecr.Keep(good)
			if c.answer != nil {
				h.ecr.Instead(c.answer)
			}
			if c.set != nil {
				c.set(h)
			}
			if _, err := h.get(t, h.source(t, ecr.Options{}), host); !errors.Is(err, c.is) || c.is != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v\nwant %v with %s", err, c.is, c.says)
			}
		})
	}
}

// TestRedirects: what is signed, and the Pod's tokens, go where they are meant to go
// only, whatever is answered.
func TestRedirects(t *testing.T) {
	t.Parallel()
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, at := range []string{api, stsHost, testcloud.PodIdentityAgent} {
			h := newHouse(t)
			if at == testcloud.PodIdentityAgent {
				h.pod(t, testcloud.Claims{}, agent)
			}
			h.Serve("evil.example", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("evil.example was asked") }))
			h.Serve(at, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "https://evil.example/", status) }))
			if _, err := h.get(t, h.source(t, ecr.Options{}), host); !errors.Is(err, boltseal.ErrRefused) || !strings.Contains(err.Error(), "leads elsewhere") {
				t.Errorf("%d by %s: %v", status, at, err)
			}
			if n := h.asked(at); n != 1 {
				t.Errorf("%d by %s: %d requests", status, at, n)
			}
		}
	}
}

// TestShared: many images of many registries cost one sign-in, each registry has a
// password of its own, and one that was refused is dropped.
func TestShared(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.source(t, ecr.Options{})
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
	if h.asked(api) != 2 || h.asked(stsHost) != 1 || one.Password == two.Password {
		t.Errorf("%d and %d requests", h.asked(api), h.asked(stsHost))
	}
	s.Invalidate(second, "app", one) // not that registry's
	s.Invalidate(host, "app", two)
	if c, err := h.get(t, s, host); err != nil || c != one || h.asked(api) != 2 {
		t.Errorf("%v, %d requests", err, h.asked(api))
	}
	s.Invalidate(host, "app", one)
	again, err := h.get(t, s, host)
	if err != nil || again.Password == one.Password || h.asked(api) != 3 {
		t.Errorf("%v, %d requests", err, h.asked(api))
	}
	s.Invalidate(host, "app", one) // comes late
	if _, err := h.get(t, s, host); err != nil || h.asked(api) != 3 {
		t.Errorf("%v, %d requests", err, h.asked(api))
	}
}

// TestRenewed: a password is renewed ahead of its end, an outage then is not seen, and
// once it has ended it is not shown any more.
func TestRenewed(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	start := time.Now()
	h.at(start)
	s := h.source(t, ecr.Options{})
	first, err := h.get(t, s, host)
	if err != nil || first.Expires.Sub(start).Round(time.Minute) != 12*time.Hour {
		t.Fatalf("%v, until %s", err, first.Expires)
	}
	h.at(start.Add(11 * time.Hour))
	if c, err := h.get(t, s, host); err != nil || c != first || h.asked(api) != 1 {
		t.Errorf("%v, %d requests", err, h.asked(api))
	}
	h.Cut(stsHost)
	h.at(start.Add(12*time.Hour - 3*time.Minute))
	if c, err := h.get(t, s, host); err != nil || c != first {
		t.Errorf("in an outage: %v", err)
	}
	h.at(start.Add(12*time.Hour - 10*time.Second))
	if _, err := h.get(t, s, host); !errors.Is(err, boltseal.ErrUnavailable) {
		t.Errorf("near its end: %v", err)
	}
	h.Mend(stsHost)
	h.at(start.Add(12*time.Hour + time.Minute))
	c, err := h.get(t, s, host)
	if err != nil || c == first || c.Expires.Before(h.clock()) {
		t.Errorf("%v, until %s", err, c.Expires)
	}
}

// TestFailureIsKept: many images of a registry that refuses do not each ask, and
// whoever throttles is left alone for longer.
func TestFailureIsKept(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	start := time.Now()
	h.at(start)
	h.ecr.Throttle(true)
	s := h.source(t, ecr.Options{})
	for i := range 20 {
		h.at(start.Add(time.Duration(i) * 400 * time.Millisecond))
		if _, err := h.get(t, s, host); !errors.Is(err, boltseal.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	if n := h.asked(api); n != 1 {
		t.Errorf("%d requests", n)
	}
	h.ecr.Throttle(false)
	h.at(start.Add(15 * time.Second))
	if _, err := h.get(t, s, host); err != nil {
		t.Error(err)
	}
}

// TestHangs: one who answers nothing takes so long, and no longer.
func TestHangs(t *testing.T) {
	t.Parallel()
	for _, at := range []string{api, stsHost, testcloud.PodIdentityAgent} {
		h := newHouse(t)
		if at == testcloud.PodIdentityAgent {
			h.pod(t, testcloud.Claims{}, agent)
		}
		h.Hang(at)
		var err error
		// The time must be enough to get there, and how much that is, the machine says.
		for timeout := 100 * time.Millisecond; h.asked(at) == 0 && timeout < testwait.Patience; timeout *= 2 { // waits: it grows until it is enough
			if _, err = h.get(t, h.source(t, ecr.Options{Timeout: timeout}), host); err == nil {
				break
			}
		}
		if !errors.Is(err, boltseal.ErrUnavailable) || !strings.Contains(err.Error(), "too long") || !strings.Contains(err.Error(), at) {
			t.Errorf("%s: %v", at, err)
		}
	}
}
