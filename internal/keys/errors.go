package keys

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/boltseal/boltseal"
)

// Error is the context of a failed conversation with whoever keeps certificates.
// It wraps a sentinel of the root package. Its text is the same each time the same
// thing goes wrong, and holds no secret.
type Error struct {
	Op     string // what was attempted: "get certificate", "sign in"
	Target string // of what; "" = nothing in particular
	Host   string // who was asked
	Status int    // HTTP status, 0 where none was received
	Detail string // what it said, shortened
	Remedy string // what to do, where that is known
	// RetryAfter is how long to leave it alone; 0 = it did not say.
	RetryAfter time.Duration
	Err        error
}

// Error returns one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Target != "" {
		b.WriteString(" " + e.Target)
	}
	if e.Host != "" {
		b.WriteString(" at " + e.Host)
	}
	if e.Status != 0 {
		b.WriteString(": HTTP " + strconv.Itoa(e.Status))
	}
	b.WriteString(": " + e.Err.Error())
	if e.Detail != "" {
		b.WriteString(" (" + e.Detail + ")")
	}
	if e.Remedy != "" {
		b.WriteString("; " + e.Remedy)
	}
	return b.String()
}

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.Err }

// Sentinel is the root package's for an HTTP status.
func Sentinel(status int) error {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return boltseal.ErrUnauthorized
	case status == http.StatusNotFound || status == http.StatusGone:
		return boltseal.ErrNotFound
	case status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status >= 500:
		return boltseal.ErrUnavailable
	case status >= 300 && status < 400:
		return boltseal.ErrRefused
	}
	return boltseal.ErrConfiguration
}

// maxRetryAfter bounds what a server may ask for.
const maxRetryAfter = time.Hour

// RetryAfter reads how long a server wants to be left alone (RFC 9110, section
// 10.2.3); 0 = it does not say.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	d := time.Duration(0)
	if n, err := strconv.Atoi(v); err == nil {
		d = time.Duration(min(max(n, 0), int(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(v); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}

// Throttled reports whether a failure means that whoever was asked is to be left
// alone for a while, and for how long it said so; 0 = it did not say.
func Throttled(err error) (wait time.Duration, ok bool) {
	var e *Error
	if !errors.As(err, &e) {
		return 0, false
	}
	return e.RetryAfter, e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable || e.RetryAfter > 0
}

// NoAnswer makes an error of a request that had no answer. What differs from one
// attempt to the next, such as ports, is left out.
func NoAnswer(op, target, host string, err error) *Error {
	e := &Error{Op: op, Target: target, Host: host, Err: boltseal.ErrUnavailable}
	var known *Error
	var dns *net.DNSError
	var operation *net.OpError
	var outer *url.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, boltseal.ErrLimit):
		e.Err, e.Detail = boltseal.ErrLimit, "its answer is too long"
	case errors.Is(err, boltseal.ErrRefused):
		e.Err, e.Detail = boltseal.ErrRefused, "it leads elsewhere"
	case errors.Is(err, context.DeadlineExceeded):
		e.Detail = "it took too long"
	case errors.Is(err, context.Canceled):
		e.Detail = "interrupted"
	case errors.As(err, &dns):
		e.Detail = "its name cannot be resolved"
	case errors.As(err, &operation):
		e.Detail = Clean(operation.Err.Error())
	case errors.As(err, &outer):
		e.Detail = Clean(outer.Err.Error())
	default:
		e.Detail = Clean(err.Error())
	}
	return e
}

// maxDetail bounds what a stranger says in an error, in bytes.
const maxDetail = 300

// secretive are what a token or a key may look like: the three parts of a JWT, and
// anything long without a blank.
var secretive = regexp.MustCompile(`eyJ[A-Za-z0-9_=-]*(\.[A-Za-z0-9_=-]*)*|hvs\.[A-Za-z0-9_-]+|s\.[A-Za-z0-9]{20,}|[A-Za-z0-9+/_=~-]{64,}`)

// fleeting are numbers that a server gives to one request.
var fleeting = regexp.MustCompile(`(?i)(trace|correlation|request)[ _-]?id:? *[0-9a-f-]{8,}\.?|timestamp:? *[0-9][0-9TZ:. -]*`)

// Clean is a stranger's text as an error may show it: one line, short, without
// what could be a secret.
func Clean(text string) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, ""), func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
	text = strings.Join(strings.Fields(fleeting.ReplaceAllString(secretive.ReplaceAllString(text, "…"), "")), " ")
	if len(text) > maxDetail {
		text = strings.ToValidUTF8(text[:maxDetail], "") + "…"
	}
	return text
}

// Client is an HTTP client that follows no redirect, and reads at most so many
// bytes of an answer.
func (e Env) Client() *http.Client {
	e = e.Complete()
	return &http.Client{
		Transport:     bounded{e.Transport, e.Limits.AnswerBytes},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Direct is the client for who is asked on the node itself, without TLS: by no
// proxy, which would see the Pod's token.
func (e Env) Direct() *http.Client {
	e = e.Complete()
	if t, ok := e.Transport.(*http.Transport); ok {
		t = t.Clone()
		t.Proxy = nil
		e.Transport = t
	}
	return e.Client()
}

type bounded struct {
	next http.RoundTripper
	most int64
}

// CloseIdleConnections closes those of the transport.
func (b bounded) CloseIdleConnections() {
	if c, ok := b.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err == nil {
		resp.Body = &limitedBody{resp.Body, b.most}
	}
	return resp, err
}

// limitedBody fails where there is more than there may be.
type limitedBody struct {
	io.ReadCloser
	left int64
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, fmt.Errorf("the answer is %w", boltseal.ErrLimit)
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n, fmt.Errorf("the answer is %w", boltseal.ErrLimit)
	}
	return n, err
}
