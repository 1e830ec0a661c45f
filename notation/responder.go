package notation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/notaryproject/notation-core-go/revocation/crl"
	"golang.org/x/crypto/ocsp"
)

// Limits on what a responder sends.
const (
	maxOCSPBytes = 64 << 10
	maxCRLBytes  = 32 << 20
)

// revocationClient speaks to the servers that certificates name. Those names
// come from outside, so the address is judged when it is dialled.
type revocationClient struct {
	transport *http.Transport
	ocsp, crl time.Duration
}

func newRevocationClient(o RevocationOptions) *revocationClient {
	d := &net.Dialer{Timeout: o.CRLTimeout, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil || !allowed(ap.Addr().Unmap(), o.AllowedNetworks) {
			return fmt.Errorf("%w: %s", errPrivateResponder, address)
		}
		return nil
	}}
	return &revocationClient{ocsp: o.OCSPTimeout, crl: o.CRLTimeout, transport: &http.Transport{
		DialContext: d.DialContext, MaxIdleConns: 16, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
		ResponseHeaderTimeout: o.CRLTimeout, MaxResponseHeaderBytes: 32 << 10, DisableCompression: true,
	}}
}

var (
	errPrivateResponder = errors.New("a private address, which is not asked unless it is allowed")
	sharedSpace         = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
	zeroNetwork         = netip.MustParsePrefix("0.0.0.0/8")
	nat64               = netip.MustParsePrefix("64:ff9b::/96")
)

func allowed(ip netip.Addr, networks []netip.Prefix) bool {
	for _, n := range networks {
		if n.Contains(ip) {
			return true
		}
	}
	if nat64.Contains(ip) {
		b := ip.As16()
		return allowed(netip.AddrFrom4([4]byte(b[12:])), networks)
	}
	return ip.IsGlobalUnicast() && !ip.IsPrivate() && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() &&
		!sharedSpace.Contains(ip) && !zeroNetwork.Contains(ip)
}

// answerKey names an answer: what was asked where, and whose signature it bears.
type answerKey struct {
	question [sha256.Size]byte
	issuer   [sha256.Size]byte
}

// answer was verified before it was kept.
type answer struct {
	ocsp  []byte
	crl   *crl.Bundle
	until time.Time
}

// session is the check of one chain. It is the HTTP client and the CRL fetcher
// of the library that judges the answers, so that it can keep those that are
// verified, and note how long the verdict holds.
type session struct {
	r      *Revocation
	chain  []*x509.Certificate
	outage atomic.Bool

	mu    sync.Mutex
	until time.Time
}

func (s *session) ends(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.Before(s.until) {
		s.until = t
	}
}

func (s *session) ocspClient() *http.Client {
	return &http.Client{Transport: roundTripper(s.ocsp), Timeout: s.r.client.ocsp, CheckRedirect: noRedirect}
}

func noRedirect(*http.Request, []*http.Request) error {
	return errors.New("a redirect, which is not followed")
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// send asks over plain HTTP, which is what OCSP and CRL have: https would need
// the very check that is being made.
func (s *session) send(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "http" {
		return nil, fmt.Errorf("%s: only http is spoken here", req.URL.Scheme)
	}
	resp, err := s.r.client.transport.RoundTrip(req)
	if err != nil && !errors.Is(err, errPrivateResponder) || err == nil && (resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests) {
		s.outage.Store(true)
	}
	return resp, err
}

// ocsp answers from the cache, or asks and keeps what is validly signed (RFC
// 6960) until its next update.
func (s *session) ocsp(req *http.Request) (*http.Response, error) {
	h := sha256.New()
	fmt.Fprintln(h, req.Method, req.URL)
	if req.Body != nil {
		b, err := io.ReadAll(io.LimitReader(req.Body, maxOCSPBytes))
		if err != nil {
			return nil, err
		}
		h.Write(b)
		req = req.Clone(req.Context())
		req.Body = io.NopCloser(bytes.NewReader(b))
	}
	var key answerKey
	h.Sum(key.question[:0])
	for i := range s.chain[:len(s.chain)-1] {
		key.issuer = sha256.Sum256(s.chain[i+1].Raw)
		if a, ok := s.r.answers.Get(key); ok && s.r.clock().Before(a.until) {
			s.ends(a.until)
			return ocspResponse(req, a.ocsp), nil
		}
	}
	resp, err := s.send(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxOCSPBytes+1))
	if err != nil {
		s.outage.Store(true)
		return nil, err
	}
	if len(b) > maxOCSPBytes {
		return nil, fmt.Errorf("an OCSP answer of more than %d bytes", maxOCSPBytes)
	}
	s.keepOCSP(key, b)
	return ocspResponse(req, b), nil
}

func (s *session) keepOCSP(key answerKey, b []byte) {
	for i, c := range s.chain[:len(s.chain)-1] {
		parsed, err := ocsp.ParseResponseForCert(b, c, s.chain[i+1])
		if err != nil {
			continue
		}
		s.ends(parsed.NextUpdate)
		if s.r.clock().Before(parsed.NextUpdate) && !parsed.ThisUpdate.After(s.r.clock()) {
			key.issuer = sha256.Sum256(s.chain[i+1].Raw)
			s.r.answers.Put(key, answer{ocsp: b, until: parsed.NextUpdate}, int64(len(b)+256))
		}
		return
	}
}

func ocspResponse(req *http.Request, b []byte) *http.Response {
	return &http.Response{Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/ocsp-response"}}, Body: io.NopCloser(bytes.NewReader(b)),
		ContentLength: int64(len(b)), Request: req}
}

// Fetch implements crl.Fetcher. A list is kept only after its signature by an
// issuer in the chain was verified (RFC 5280 section 6.3).
func (s *session) Fetch(ctx context.Context, url string) (bundle *crl.Bundle, err error) {
	defer func() {
		if p := recover(); p != nil {
			bundle, err = nil, errors.New("the CRL cannot be read")
		}
	}()
	key := answerKey{question: sha256.Sum256([]byte("CRL " + url))}
	for _, issuer := range s.chain[1:] {
		key.issuer = sha256.Sum256(issuer.Raw)
		if a, ok := s.r.answers.Get(key); ok && s.r.clock().Before(a.until) {
			s.ends(a.until)
			return a.crl, nil
		}
	}
	client := &http.Client{Timeout: s.r.client.crl, CheckRedirect: noRedirect, Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := s.send(req)
		if err == nil && resp.ContentLength > maxCRLBytes {
			resp.Body.Close()
			return nil, fmt.Errorf("a CRL of %d bytes, at most %d", resp.ContentLength, maxCRLBytes)
		}
		return resp, err
	})}
	fetcher, err := crl.NewHTTPFetcher(client)
	if err != nil {
		return nil, err
	}
	if bundle, err = fetcher.Fetch(ctx, url); err != nil {
		return nil, err
	}
	until := bundle.BaseCRL.NextUpdate
	if d := bundle.DeltaCRL; d != nil && d.NextUpdate.Before(until) {
		until = d.NextUpdate
	}
	s.ends(until)
	if issuer := s.signer(bundle); issuer != nil && s.r.clock().Before(until) && !bundle.BaseCRL.ThisUpdate.After(s.r.clock()) {
		key.issuer = sha256.Sum256(issuer.Raw)
		cost := len(bundle.BaseCRL.Raw) + 200*len(bundle.BaseCRL.RevokedCertificateEntries)
		if d := bundle.DeltaCRL; d != nil {
			cost += len(d.Raw) + 200*len(d.RevokedCertificateEntries)
		}
		s.r.answers.Put(key, answer{crl: bundle, until: until}, int64(cost))
	}
	return bundle, nil
}

// signer is the certificate of the chain that signed the lists, nil where none did.
func (s *session) signer(b *crl.Bundle) *x509.Certificate {
	for _, c := range s.chain[1:] {
		if b.BaseCRL.CheckSignatureFrom(c) == nil && (b.DeltaCRL == nil || b.DeltaCRL.CheckSignatureFrom(c) == nil) {
			return c
		}
	}
	return nil
}
