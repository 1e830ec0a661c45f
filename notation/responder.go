package notation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/boltseal/boltseal"
)

// Limits on what a responder sends.
const (
	maxOCSPBytes = 20 << 10 // more than this the library does not read
	maxCRLBytes  = 32<<20 - 1
)

// responderClient speaks to the servers that certificates name. Those names
// come from outside, so the address is judged when it is dialled.
type responderClient struct {
	transport *http.Transport
	ocsp, crl time.Duration
}

func newResponderClient(o RevocationOptions) *responderClient {
	d := &net.Dialer{Timeout: o.CRLTimeout, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil || !allowedAddress(ap.Addr().Unmap(), o.AllowedNetworks) {
			return fmt.Errorf("%w: %s", errPrivateResponder, address)
		}
		return nil
	}}
	return &responderClient{ocsp: o.OCSPTimeout, crl: o.CRLTimeout, transport: &http.Transport{
		DialContext: d.DialContext, MaxIdleConns: 16, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
		ResponseHeaderTimeout: o.CRLTimeout, MaxResponseHeaderBytes: 32 << 10, DisableCompression: true,
	}}
}

var errPrivateResponder = errors.New("a private address, which is not asked unless it is allowed")

// Networks that the standard library does not tell from public ones, and where
// no CA's public server is.
var (
	notPublic = []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),        // RFC 1122: this host
		netip.MustParsePrefix("100.64.0.0/10"),    // RFC 6598: shared; a cloud's metadata
		netip.MustParsePrefix("168.63.129.16/32"), // Azure's host: WireServer
		netip.MustParsePrefix("192.0.0.0/24"),     // RFC 6890: protocol assignments; a cloud's metadata
		netip.MustParsePrefix("198.18.0.0/15"),    // RFC 2544: benchmarks
		netip.MustParsePrefix("240.0.0.0/4"),      // RFC 1112: reserved
		netip.MustParsePrefix("64:ff9b:1::/48"),   // RFC 8215: translation within a site
		netip.MustParsePrefix("2001::/23"),        // RFC 2928: protocol assignments, Teredo
		netip.MustParsePrefix("2002::/16"),        // RFC 3056: 6to4, around any IPv4 address
		netip.MustParsePrefix("fec0::/10"),        // RFC 3879: site-local
	}
	nat64 = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052
)

func allowedAddress(ip netip.Addr, networks []netip.Prefix) bool {
	ip = ip.WithZone("")
	in := func(list []netip.Prefix) bool {
		for _, n := range list {
			if n.Contains(ip) {
				return true
			}
		}
		return false
	}
	if in(networks) {
		return true
	}
	if nat64.Contains(ip) {
		b := ip.As16()
		return allowedAddress(netip.AddrFrom4([4]byte(b[12:])), networks)
	}
	return ip.IsGlobalUnicast() && !ip.IsPrivate() && !in(notPublic)
}

// ask sends a request over plain HTTP, which is what OCSP and CRLs have: https
// would need the very check that is being made. The answer is read to its end.
// Errors wrap boltseal.ErrUnavailable where no answer came.
func (c *responderClient) ask(req *http.Request, most int) (_ *http.Response, err error) {
	if req.URL.Scheme != "http" {
		return nil, fmt.Errorf("%.20q: only http is spoken here", req.URL.Scheme)
	}
	status := 0
	_, end := boltseal.BeginStep(req.Context(), boltseal.Step{Stage: boltseal.StageRequest, Host: req.URL.Host, Method: req.Method})
	defer func() { end(boltseal.Ending{Status: status, Err: err}) }()
	resp, err := c.transport.RoundTrip(req)
	if errors.Is(err, errPrivateResponder) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", boltseal.ErrUnavailable, err)
	}
	defer resp.Body.Close()
	status = resp.StatusCode
	if resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests {
		return nil, fmt.Errorf("%w: HTTP status %d", boltseal.ErrUnavailable, resp.StatusCode)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP status %d", resp.StatusCode)
	}
	if resp.ContentLength > int64(most) {
		return nil, fmt.Errorf("an answer of %d bytes, at most %d", resp.ContentLength, most)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, int64(most)+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", boltseal.ErrUnavailable, err)
	}
	if len(b) > most {
		return nil, fmt.Errorf("an answer of more than %d bytes", most)
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
	return resp, nil
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// localResponse is a response as if it had come from the network.
func localResponse(req *http.Request, b []byte) *http.Response {
	return &http.Response{Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(b)), ContentLength: int64(len(b)), Request: req}
}
