package oci

import (
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
	authorized bool // a 401 was answered with fresh credentials already
}

func (r *Registry) request(ctx context.Context, op string, ref boltseal.Reference, method, path, accept string) *request {
	h := r.hosts.get(ref.Registry)
	return &request{ctx: ctx, r: r, h: h, op: op, ref: ref, method: method, accept: accept,
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
	select {
	case q.h.slots <- struct{}{}:
		defer func() { <-q.h.slots }()
	case <-q.ctx.Done():
		return q.fail(0, unavailable(q.ctx.Err()))
	}
	for attempt := 1; ; attempt++ {
		if err := q.pause(time.Unix(0, q.h.pausedUntil.Load()).Sub(q.r.opts.Clock())); err != nil {
			return q.fail(http.StatusTooManyRequests, err)
		}
		status, wait, err := q.try(consume)
		if err == nil {
			return nil
		}
		if wait < 0 || attempt >= q.r.opts.Limits.Attempts || q.ctx.Err() != nil {
			return q.fail(status, err)
		}
		if wait == 0 {
			wait = min(firstPause<<(attempt-1), maxPause)
			wait = wait/2 + time.Duration(q.r.opts.Jitter()*float64(wait/2))
		} else if status == http.StatusTooManyRequests {
			q.h.pausedUntil.Store(q.r.opts.Clock().Add(wait).UnixNano())
		}
		if q.pause(wait) != nil {
			return q.fail(status, err)
		}
	}
}

// pause waits, unless the caller would have gone by then.
func (q *request) pause(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	if deadline, ok := q.ctx.Deadline(); ok && time.Until(deadline) <= d {
		return fmt.Errorf("%w: it asked us to wait for %v, longer than there is time", boltseal.ErrUnavailable, d.Round(time.Millisecond))
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-q.ctx.Done():
		return unavailable(q.ctx.Err())
	}
}

// final marks an error that another try would not mend.
const final = -1

// try asks once, answering a challenge where one comes. wait is final, 0 for
// the usual pause, or the time that the registry asked for.
func (q *request) try(consume func(*http.Response) error) (status int, wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(q.ctx, q.r.opts.Limits.RequestTimeout)
	defer cancel()
	for {
		header := http.Header{"User-Agent": {q.r.opts.UserAgent}, "Accept": {q.accept}}
		authorization, token, err := q.r.auth.header(ctx, q.h, q.ref.Repository)
		if err != nil {
			return statusOf(err), final, err
		}
		if authorization != "" {
			header["Authorization"] = []string{authorization}
		}
		resp, err := q.send(ctx, header)
		if err != nil {
			return 0, retryable(err), classify(err)
		}
		if resp.StatusCode == http.StatusUnauthorized && !q.authorized {
			q.authorized = true
			again, err := q.r.auth.challenged(q.h, resp, q.ref.Repository, token)
			drain(resp)
			if err != nil {
				return resp.StatusCode, final, err
			}
			if again {
				continue
			}
			return resp.StatusCode, final, boltseal.ErrUnauthorized
		}
		if resp.StatusCode != http.StatusOK {
			wait, err := q.refusal(resp)
			drain(resp)
			return resp.StatusCode, wait, err
		}
		err = consume(resp)
		drain(resp)
		if err != nil {
			return resp.StatusCode, retryable(err), classify(err)
		}
		return resp.StatusCode, 0, nil
	}
}

// send follows redirects, each judged before anything goes there.
func (q *request) send(ctx context.Context, header http.Header) (*http.Response, error) {
	u, transport := q.url, q.h.transport
	for redirects := 0; ; redirects++ {
		req := (&http.Request{Method: q.method, URL: u, Header: header, Host: u.Host,
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx)
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		switch resp.StatusCode {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		default:
			return resp, nil
		}
		drain(resp)
		next, err := u.Parse(resp.Header.Get("Location"))
		switch {
		case err != nil || resp.Header.Get("Location") == "":
			return nil, fmt.Errorf("%w: a redirect that leads nowhere", boltseal.ErrMalformed)
		case redirects >= q.r.opts.Limits.Redirects:
			return nil, fmt.Errorf("%w: more than %d redirects", boltseal.ErrLimit, q.r.opts.Limits.Redirects)
		case next.User != nil:
			return nil, refused("a redirect that carries credentials")
		case next.Scheme != "https" && (next.Scheme != "http" || u.Scheme != "http"):
			return nil, refused("a redirect to %s://%s", next.Scheme, next.Host)
		}
		if next.Host != u.Host || next.Scheme != u.Scheme {
			// Another host has no business with the registry's credentials.
			header = http.Header{"User-Agent": header["User-Agent"], "Accept": header["Accept"]}
			transport = q.h.elsewhere()
		}
		u = next
	}
}

// refusal turns a status other than 200 into an error.
func (q *request) refusal(resp *http.Response) (wait time.Duration, err error) {
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound:
		return final, q.notFound(resp)
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return final, boltseal.ErrUnauthorized
	case code == http.StatusTooManyRequests:
		return retryAfter(resp, q.r.opts.Clock()), fmt.Errorf("%w: too many requests", boltseal.ErrUnavailable)
	case code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
		return retryAfter(resp, q.r.opts.Clock()), boltseal.ErrUnavailable
	case code >= 500:
		return final, boltseal.ErrUnavailable
	}
	return final, fmt.Errorf("%w: an answer that the protocol does not have here", boltseal.ErrMalformed)
}

func retryAfter(resp *http.Response, now time.Time) time.Duration {
	v := resp.Header.Get("Retry-After")
	if s, err := strconv.Atoi(v); err == nil && s > 0 && s < 24*3600 {
		return time.Duration(s) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// drain lets the connection be used again where little is left of the body.
func drain(resp *http.Response) {
	const most = 64 << 10
	_, _ = io.CopyN(io.Discard, resp.Body, most)
	_ = resp.Body.Close()
}

func unavailable(err error) error { return fmt.Errorf("%w: %w", boltseal.ErrUnavailable, err) }

// classify finds the sentinel of an error that came from the network.
func classify(err error) error {
	for _, known := range []error{boltseal.ErrRefused, boltseal.ErrMalformed, boltseal.ErrLimit, boltseal.ErrUnauthorized,
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
	return unavailable(err)
}

// retryable tells whether an error of the network may be gone at the next try.
func retryable(err error) time.Duration {
	if errors.Is(classify(err), boltseal.ErrUnavailable) {
		var cert *tls.CertificateVerificationError
		if !errors.As(err, &cert) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			return 0
		}
	}
	return final
}
