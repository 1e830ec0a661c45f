package oci

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/boltseal/boltseal"
)

// Pauses between tries of one request. A registry's Retry-After wins over both.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 5 * time.Second
)

// request is one question to a registry with all its tries.
type request struct {
	ctx        context.Context
	r          *Registry
	h          *host
	op         string
	ref        boltseal.Reference
	method     string
	url        *url.URL
	accept     string
	authorized bool       // a 401 was answered already, with the credential that there is
	renewed    bool       // and with a fresh one
	refreshed  bool       // a token that was older than the request was refused otherwise, and another one tried
	began      int64      // tokens up to this number are older than the request
	misled     *challenge // one that could not be answered
	bare       int        // tries that showed nothing, after the first
	attempts   int        // tries, 0 for the usual number
	keep       bool       // what is read is held until the verification of a signature ends
	away       string     // the host that a redirect led to, "" for the registry itself
}

func (r *Registry) request(ctx context.Context, op string, ref boltseal.Reference, method, path, accept string) *request {
	h := r.hosts.get(ref.Registry)
	return &request{ctx: ctx, r: r, h: h, began: r.auth.count.Load(), op: op, ref: ref, method: method, accept: accept,
		url: &url.URL{Scheme: h.scheme, Host: h.address, Path: "/v2/" + ref.Repository + "/" + path}}
}

// fail wraps an error with its context.
func (q *request) fail(status int, err error) error {
	target := q.ref
	return &boltseal.StoreError{Op: q.op, Host: q.h.name, Target: target.String(), Status: status, Err: err}
}

// statusOf is the HTTP status of a failed request, 0 where there is none.
func statusOf(err error) int {
	var se *boltseal.StoreError
	if errors.As(err, &se) {
		return se.Status
	}
	return 0
}

// do asks until there is an answer to consume, or a reason to stop. consume
// sees answers with status 200 only.
func (q *request) do(consume func(*http.Response) error) error {
	if err := boltseal.SpendBudget(q.ctx, boltseal.Cost{Requests: 1}); err != nil {
		return q.fail(0, err)
	}
	for attempt := 1; ; attempt++ {
		if status, err := q.enter(); err != nil {
			return q.fail(status, err)
		}
		status, wait, err := q.try(consume)
		most := cmp.Or(q.attempts, q.r.opts.Limits.Attempts)
		if errors.Is(err, errTooMany) && q.away == "" && q.attempts == 0 {
			most = q.r.opts.Limits.Throttled
			if wait > 0 {
				q.h.pause(min(wait, q.r.opts.Limits.RetryAfter))
			}
		}
		q.h.slots.Give() // others may ask while this one pauses; whoever takes the slot knows of a pause of the registry's
		if err == nil {
			return nil
		}
		if wait < 0 || attempt >= most || q.ctx.Err() != nil {
			return q.giveUp(status, err)
		}
		if wait == 0 {
			wait = min(firstPause<<(attempt-1), maxPause)
			wait = wait/2 + time.Duration(q.r.opts.Jitter()*float64(wait/2))
		}
		_, end := boltseal.BeginStep(q.ctx, boltseal.Step{Stage: boltseal.StageQueue, Host: q.h.name})
		pauseErr := q.pause(wait)
		if end(boltseal.Ending{Err: pauseErr}); pauseErr != nil {
			return q.giveUp(status, fmt.Errorf("%w; %w", err, pauseErr))
		}
	}
}

// giveUp is fail after the last try.
func (q *request) giveUp(status int, err error) error {
	if q.misled != nil && q.ctx.Err() == nil {
		// The registry may have moved its token server, or never have meant
		// this one: the next request asks it again.
		if q.h.challenge.CompareAndSwap(q.misled, nil) {
			q.h.door.shut()
		}
	}
	return q.fail(status, err)
}

// enter waits for one of the registry's slots, and for the end of a pause that
// it asked for.
func (q *request) enter() (status int, err error) {
	_, end := boltseal.BeginStep(q.ctx, boltseal.Step{Stage: boltseal.StageQueue, Host: q.h.name})
	defer func() { end(boltseal.Ending{Err: err}) }()
	for {
		if err := q.pause(q.h.paused()); err != nil {
			return http.StatusTooManyRequests, fmt.Errorf("%w, and leaves no time for this request", err)
		}
		if err := q.h.slots.Take(q.ctx, boltseal.AskerOf(q.ctx)); err != nil {
			return 0, fmt.Errorf("waiting for one of %d requests to the registry to end: %w", q.r.opts.Limits.HostRequests, unavailableError(err))
		}
		if q.h.paused() <= 0 {
			return 0, nil
		}
		q.h.slots.Give()
	}
}

// pause waits, unless the caller would have gone by then.
func (q *request) pause(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	if most := q.r.opts.Limits.RetryAfter; d > most {
		return fmt.Errorf("%w: it asks us to wait for %v, longer than the limit of %v", boltseal.ErrUnavailable, d.Round(time.Millisecond), most)
	}
	if deadline, ok := q.ctx.Deadline(); ok && time.Until(deadline) <= d {
		return fmt.Errorf("%w: another try in %v would come too late", boltseal.ErrUnavailable, d.Round(time.Millisecond))
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-q.ctx.Done():
		return unavailableError(q.ctx.Err())
	}
}

// held has an answer consumed while its bytes are counted.
func (q *request) held(ctx context.Context, end context.CancelFunc, resp *http.Response, consume func(*http.Response) error) error {
	share := q.r.opts.Room.enter(q.h.name, end)
	resp.Body = &heldBody{ReadCloser: resp.Body, ctx: ctx, share: share}
	err := consume(resp)
	if !share.arrived() && err != nil {
		err = errCameSlowly
	}
	if err != nil || !q.keep || !boltseal.KeepUntilDone(q.ctx, share.leave) {
		share.leave()
	}
	return err
}

// maxBare is how many tries of one request may show nothing, beside the first.
const maxBare = 3

// final marks an error that another try would not fix.
const final = -1

// try asks once, answering a challenge where one comes. wait is final, 0 for
// the usual pause, or the time that the registry asked for.
func (q *request) try(consume func(*http.Response) error) (status int, wait time.Duration, err error) {
	_, end := boltseal.BeginStep(q.ctx, boltseal.Step{Stage: boltseal.StageQueue, Host: q.h.name})
	leave := q.h.door.enter(q.ctx, q.ref.String(), q.r.opts.Limits.RequestTimeout/4)
	end(boltseal.Ending{})
	ctx, cancel := context.WithTimeout(q.ctx, q.r.opts.Limits.RequestTimeout)
	defer cancel()
	defer func() { leave(err == nil || status != 0) }()
	for {
		header := http.Header{"User-Agent": {q.r.opts.UserAgent}, "Accept": {q.accept}}
		shown, err := q.r.auth.show(ctx, q.h, q.ref.Repository)
		if err != nil {
			q.misled = shown.challenge
			return statusOf(err), retryDelay(err), &signIn{err}
		}
		q.misled = nil
		if shown.header != "" {
			header["Authorization"] = []string{shown.header}
		}
		resp, err := q.send(ctx, header)
		if err != nil {
			return 0, retryDelay(err), q.led(classifyError(err))
		}
		if resp.StatusCode == http.StatusOK {
			if err := q.held(ctx, cancel, resp, consume); err != nil {
				resp.Body.Close() // what is left of it may be long, or never come
				return resp.StatusCode, retryDelay(err), q.led(classifyError(err))
			}
			drainBody(resp)
			return resp.StatusCode, 0, nil
		}
		if q.away == "" && resp.StatusCode == http.StatusUnauthorized {
			denied := q.failure(ctx, cancel, resp).add(boltseal.ErrUnauthorized, shown.secrets()...)
			again := q.r.auth.refused(q.h, resp, q.ref.Repository, shown)
			leave(true)
			drainBody(resp)
			if again && !q.authorized {
				q.authorized = true
				continue
			}
			// Another request may have given up on the token server meanwhile, and so
			// this one showed nothing: that says nothing of what it has to show.
			if again && shown.header == "" && q.bare < maxBare {
				q.bare++
				continue
			}
			if q.renewed {
				return resp.StatusCode, final, denied
			}
			q.renewed = true
			fresh, err := q.r.auth.renew(ctx, q.h, q.ref.Repository, shown.as)
			if err != nil {
				return resp.StatusCode, retryDelay(err), err
			}
			if !fresh {
				return resp.StatusCode, final, denied
			}
			continue
		}
		if q.away == "" && (resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusBadRequest) {
			// What a token allows may have changed since it was given, and some say so
			// of one that has ended.
			q.r.auth.forget(q.h, q.ref.Repository, shown)
			if fresh, err := q.refresh(ctx, shown); err != nil {
				drainBody(resp)
				return resp.StatusCode, retryDelay(err), err
			} else if fresh {
				drainBody(resp)
				continue
			}
		}
		wait, err = q.refusal(q.failure(ctx, cancel, resp), resp, shown)
		drainBody(resp)
		return resp.StatusCode, wait, q.led(err)
	}
}

// refresh reports whether to ask once more with another token or credential than the
// one that was refused by a status that is not 401. A token that was given to this
// very request is as good as the next.
func (q *request) refresh(ctx context.Context, s shown) (bool, error) {
	if q.refreshed || s.header == "" {
		return false, nil
	}
	q.refreshed = true
	if s.token != "" && s.as.Anonymous() {
		return s.number <= q.began, nil
	}
	return q.r.auth.renew(ctx, q.h, q.ref.Repository, s.as)
}

// led adds where a redirect led, as the registry may not be what is at fault.
func (q *request) led(err error) error {
	if q.away == "" {
		return err
	}
	err = fmt.Errorf("it redirects to %s: %w", q.away, err)
	if errors.Is(err, boltseal.ErrUnauthorized) {
		return withRemedy(err, "name the image by "+q.away+", and give the Store credentials for that: those of "+q.h.name+" do not go there")
	}
	return err
}

// send follows redirects, each judged before anything goes there. It notes the
// host that answers in q.away, where that is not the registry.
func (q *request) send(ctx context.Context, header http.Header) (*http.Response, error) {
	u, transport := q.url, q.h.transport
	if err := q.h.allowed(u); err != nil {
		return nil, err
	}
	q.away = ""
	guest := false // a token for a guest was shown, or there is none
	for redirects := 0; ; redirects++ {
		req := (&http.Request{Method: q.method, URL: u, Header: header, Host: u.Host,
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx)
		resp, err := observedRoundTrip(transport, req, q.away == "")
		if err != nil {
			return nil, err
		}
		switch resp.StatusCode {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		case http.StatusUnauthorized:
			if q.away == "" || guest {
				return resp, nil
			}
			guest = true
			token, err := q.guestToken(ctx, u, resp)
			if err != nil {
				drainBody(resp)
				return nil, err
			}
			if token == "" {
				return resp, nil
			}
			drainBody(resp)
			header = asGuest(header, token)
			redirects-- // the same question again
			continue
		default:
			return resp, nil
		}
		drainBody(resp)
		next, err := u.Parse(resp.Header.Get("Location"))
		switch {
		case err != nil || resp.Header.Get("Location") == "" || next.Hostname() == "":
			return nil, fmt.Errorf("%w: a redirect that leads nowhere", boltseal.ErrUnusable)
		case redirects >= q.r.opts.Limits.Redirects:
			return nil, fmt.Errorf("%w: more than %d redirects", boltseal.ErrUnusable, q.r.opts.Limits.Redirects)
		case next.User != nil:
			return nil, withRemedy(refusedError("a redirect that carries credentials"), "let "+u.Host+" redirect without a user and password in the address")
		case next.Scheme != "https" && (next.Scheme != "http" || u.Scheme != "http"):
			return nil, withRemedy(refusedError("a redirect to %.20s://%.200s, without TLS", next.Scheme, next.Host),
				"let "+u.Host+" redirect to https:// (its external URL, or X-Forwarded-Proto of the proxy before it), or serve its content itself")
		}
		if next.Host != u.Host || next.Scheme != u.Scheme {
			// Another host has no business with the registry's credentials.
			header = asGuest(header, "")
			q.away, guest = next.Host, false
			if e, ok := q.r.auth.kept(guestKey(q.h, next, repositoryOf(next.Path))); ok {
				header = asGuest(header, e.token)
			}
			if transport, err = q.h.elsewhere(ctx, next); err != nil {
				return nil, err
			}
		}
		u = next
	}
}

// asGuest is the header of a request to another host than the registry: without what
// the registry is shown.
func asGuest(header http.Header, token string) http.Header {
	header = http.Header{"User-Agent": header["User-Agent"], "Accept": header["Accept"]}
	if token != "" {
		header["Authorization"] = []string{"Bearer " + token}
	}
	return header
}

var errTooMany = fmt.Errorf("%w: too many requests", boltseal.ErrUnavailable)

// refusal turns a status other than 200 into an error. What was shown to the
// registry must not be in it, whatever the registry says.
func (q *request) refusal(f failure, resp *http.Response, s shown) (wait time.Duration, err error) {
	wait = final
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound:
		return final, f.notFound()
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		err = boltseal.ErrUnauthorized
	case code == http.StatusTooManyRequests:
		wait, err = retryAfter(resp, q.r.opts.Clock()), errTooMany
	case code == http.StatusRequestTimeout, code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
		wait, err = retryAfter(resp, q.r.opts.Clock()), boltseal.ErrUnavailable
	case code >= 500:
		err = boltseal.ErrUnavailable
	default:
		err = fmt.Errorf("%w: neither the content nor \"it is not there\"", boltseal.ErrUnusable)
	}
	if err = f.add(err, s.secrets()...); resp.StatusCode == http.StatusProxyAuthRequired {
		err = withRemedy(err, "a proxy asks for a user and a password: set HTTPS_PROXY of Boltseal's Pod, with them, from a Secret, or name a proxy that asks for none in the Store's parameters")
	}
	return wait, err
}

// maxRetryAfter stands for all longer waits.
const maxRetryAfter = 24 * time.Hour

// retryAfter reads the header of that name (RFC 9110, section 10.2.3); 0 where
// it says nothing.
func retryAfter(resp *http.Response, now time.Time) time.Duration {
	v := resp.Header.Get("Retry-After")
	if s, err := strconv.ParseUint(v, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(s, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil && at.After(now) {
		return min(at.Sub(now), maxRetryAfter)
	}
	return 0
}

// drainBody lets the connection be used again where little is left of the body.
func drainBody(resp *http.Response) {
	const most = 64 << 10
	_, _ = io.CopyN(io.Discard, resp.Body, most)
	_ = resp.Body.Close()
}

func unavailableError(err error) error { return fmt.Errorf("%w: %w", boltseal.ErrUnavailable, err) }

// classifyError finds the sentinel of an error that came from the network.
func classifyError(err error) error {
	for _, known := range []error{boltseal.ErrRefused, boltseal.ErrUnusable, boltseal.ErrMalformed, boltseal.ErrLimit, boltseal.ErrUnauthorized,
		boltseal.ErrNotFound, boltseal.ErrUnavailable, boltseal.ErrConfiguration} {
		if errors.Is(err, known) {
			return err
		}
	}
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &name):
		return fmt.Errorf("%w: its TLS certificate is for another name: %v", boltseal.ErrUnavailable, err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("%w: its TLS certificate has expired: %v", boltseal.ErrUnavailable, err)
	case errors.As(err, &unknown):
		return fmt.Errorf("%w: its TLS certificate comes from an authority that is not known here (a caFile in the Store's parameters names one): %v", boltseal.ErrUnavailable, err)
	case errors.As(err, &record):
		return fmt.Errorf("%w: it does not speak TLS (useHttp in the Store's parameters allows plain HTTP): %v", boltseal.ErrUnavailable, err)
	}
	return unavailableError(err)
}

// signIn is an error of signing in: nobody was asked the question itself.
type signIn struct{ err error }

func (s *signIn) Error() string { return s.err.Error() }
func (s *signIn) Unwrap() error { return s.err }

// later is an answer that asks to be asked again after a while.
type later struct {
	wait time.Duration
	err  error
}

func (l *later) Error() string { return l.err.Error() }
func (l *later) Unwrap() error { return l.err }

// retryDelay tells whether an error of the network may be gone at the next try,
// and after how long.
func retryDelay(err error) time.Duration {
	if err := classifyError(err); !errors.Is(err, boltseal.ErrUnavailable) || errors.Is(err, boltseal.ErrUnusable) {
		return final
	}
	var cert *tls.CertificateVerificationError
	var asked *later
	switch {
	case errors.As(err, &cert), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return final
	case errors.As(err, &asked):
		return asked.wait
	}
	return 0
}
