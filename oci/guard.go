package oci

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/boltseal/boltseal"
)

// lookUpTime bounds the question which kind of address a registry has.
const lookUpTime = 2 * time.Second

// addressKind orders addresses by how far inside they are.
type addressKind int

const (
	publicAddress   addressKind = iota
	privateAddress              // RFC 1918, RFC 4193, RFC 6598, loopback
	internalAddress             // link-local and cloud metadata: no registry is there
)

// Where clouds keep services for their machines, beside link-local addresses.
var internalPrefixes = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),          // this host
	netip.MustParsePrefix("255.255.255.255/32"), // broadcast
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba Cloud
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure
	netip.MustParsePrefix("192.0.0.192/32"),     // Oracle Cloud
	netip.MustParsePrefix("fd00:ec2::/32"),      // AWS
	netip.MustParsePrefix("fd20:ce::/32"),       // Google Cloud
}

var (
	carrierNAT = netip.MustParsePrefix("100.64.0.0/10")
	siteLocal  = netip.MustParsePrefix("fec0::/10")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	// Addresses that carry an IPv4 address in their last four bytes: RFC 6052,
	// RFC 8215, and the IPv4-compatible ones of RFC 4291.
	embedding = []netip.Prefix{
		netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("::/96"),
	}
)

func kindOf(ip netip.Addr) addressKind {
	ip = ip.Unmap().WithZone("")
	switch {
	case ip.IsLinkLocalUnicast(), ip.IsMulticast(), ip.IsUnspecified(), withinPrefixes(ip, internalPrefixes):
		return internalAddress
	case ip.IsLoopback(), ip.IsPrivate(), carrierNAT.Contains(ip), siteLocal.Contains(ip):
		return privateAddress
	case withinPrefixes(ip, embedding):
		b := ip.As16()
		return kindOf(netip.AddrFrom4([4]byte(b[12:])))
	case sixToFour.Contains(ip):
		b := ip.As16()
		return kindOf(netip.AddrFrom4([4]byte(b[2:6])))
	}
	return publicAddress
}

func withinPrefixes(ip netip.Addr, prefixes []netip.Prefix) bool {
	for _, p := range prefixes {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// addressKind is the kind of the registry's own address: one on a private
// network may send us elsewhere on it. What could not be looked up counts as
// public, and is looked up again the next time.
func (h *host) addressKind(ctx context.Context) addressKind {
	if k := h.kind.Load(); k != 0 {
		return addressKind(k - 1)
	}
	kind, ok := lookUpKind(ctx, h.address)
	if ok {
		h.kind.Store(int32(kind) + 1)
	}
	return kind
}

func lookUpKind(ctx context.Context, address string) (kind addressKind, ok bool) {
	name := hostName(address)
	if ip, err := netip.ParseAddr(name); err == nil {
		return kindOf(ip), true
	}
	ctx, cancel := context.WithTimeout(ctx, lookUpTime)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil || len(ips) == 0 {
		return publicAddress, false
	}
	kind = privateAddress
	for _, ip := range ips {
		kind = min(kind, kindOf(ip))
	}
	return kind, true
}

// guards are the transports for hosts that a registry, not a user, has named:
// the address is judged when it is dialled, so a name that resolves to another
// address the second time gains nothing.
type guards struct {
	public, private *http.Transport
	proxied         *http.Transport // for what the proxy dials
}

func newGuards(o Options) *guards {
	return &guards{public: o.guarded(publicAddress), private: o.guarded(privateAddress), proxied: o.throughProxy(o.Proxy)}
}

func (o Options) throughProxy(proxy func(*http.Request) (*url.URL, error)) *http.Transport {
	t := newTransport(o.Limits, o.tlsConfig(HostOptions{}))
	t.Proxy = proxy
	return t
}

// guarded makes a transport without a proxy that does not connect to addresses
// further inside than most.
func (o Options) guarded(most addressKind) *http.Transport {
	t := newTransport(o.Limits, o.tlsConfig(HostOptions{}))
	t.DialContext = o.guardedDial(most)
	return t
}

func (o Options) guardedDial(most addressKind) func(context.Context, string, string) (net.Conn, error) {
	return (&net.Dialer{Timeout: o.Limits.RequestTimeout, ControlContext: refuseAddresses(most)}).DialContext
}

// elsewhere is the transport for a URL that the registry named.
func (h *host) elsewhere(ctx context.Context, u *url.URL) (*http.Transport, error) {
	via, err := h.proxy(&http.Request{URL: u})
	if err != nil {
		return nil, fmt.Errorf("%w: the proxy for %s: %v", boltseal.ErrConfiguration, u.Host, err)
	}
	if via == nil {
		if h.addressKind(ctx) == privateAddress {
			return h.guards.private, nil
		}
		return h.guards.public, nil
	}
	if err := judgeProxied(u, min(h.addressKind(ctx), privateAddress)); err != nil {
		return nil, err
	}
	return h.proxied, nil
}

// metadataNames are those by which machines of clouds reach their metadata.
var metadataNames = []string{"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal", "metadata.tencentyun.com"}

// judgeProxied refuses what a proxy must not be sent to. The proxy looks names up;
// what is an address already, and names that mean one, are judged here.
func judgeProxied(u *url.URL, most addressKind) error {
	name := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	ip, err := netip.ParseAddr(name)
	switch {
	case err == nil:
		return checkAddress(ip, most)
	case endsInNumber(name):
		return refusedError("cannot check the address %q", name)
	case slices.Contains(metadataNames, name):
		return refusedError("it leads to %s, a cloud's metadata service", name)
	case most < privateAddress && isLoopback(name):
		return refusedError("it leads to %s, a private address", name)
	}
	return nil
}

// allowed judges where the registry itself is, or one of its token servers, before a
// proxy is asked to go there; without a proxy the dialler does.
func (h *host) allowed(u *url.URL) error {
	if !h.guarded {
		return nil
	}
	via, err := h.proxy(&http.Request{URL: u})
	switch {
	case err != nil:
		return fmt.Errorf("%w: the proxy for %s: %v", boltseal.ErrConfiguration, u.Host, err)
	case via == nil:
		return nil
	}
	return judgeProxied(u, privateAddress)
}

// Guarded is a transport like t that connects to no link-local address and to no metadata
// service of a cloud, and sends no proxy there: for addresses that somebody wrote who is not
// the operator. Errors wrap boltseal.ErrRefused. What a name leads to is judged when it is
// dialled, before anything is sent.
func Guarded(t *http.Transport) *http.Transport {
	t = t.Clone()
	dial := t.DialContext
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if err := judgeProxied(&url.URL{Host: address}, privateAddress); err != nil {
			return nil, err
		}
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if at, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
			if err := checkAddress(at.AddrPort().Addr(), privateAddress); err != nil {
				_ = conn.Close()
				return nil, err
			}
		}
		return conn, nil
	}
	if proxy := t.Proxy; proxy != nil {
		t.Proxy = func(r *http.Request) (*url.URL, error) {
			via, err := proxy(r)
			if via == nil || err != nil {
				return via, err
			}
			return via, judgeProxied(r.URL, privateAddress)
		}
	}
	return t
}

// endsInNumber finds IPv4 addresses in forms that only some programs read, such
// as 2852039166 or 0xa9.254.43518 (WHATWG URL, "ends in a number").
func endsInNumber(name string) bool {
	name = strings.TrimSuffix(name, ".")
	last := name[strings.LastIndexByte(name, '.')+1:]
	if last == "" {
		return false
	}
	return strings.Trim(last, "0123456789") == "" || strings.HasPrefix(strings.ToLower(last), "0x")
}

// refuseAddresses is a dialer's control function: addresses further inside than most are
// not connected to.
func refuseAddresses(most addressKind) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return refusedError("cannot check the address %q", address)
		}
		return checkAddress(ap.Addr(), most)
	}
}

func checkAddress(ip netip.Addr, most addressKind) error {
	switch kind := kindOf(ip); {
	case kind <= most:
		return nil
	case kind == internalAddress:
		return withRemedy(refusedError("it leads to %s, a link-local or metadata address", ip), "see who wrote that address: no registry is at that address, and no setting lets Boltseal connect to it")
	}
	return withRemedy(refusedError("it leads to %s, a private address", ip),
		"a registry with a public address may not lead to a private one: let it serve its content itself (storage.redirect.disable of distribution), or reach it by its private address")
}

func refusedError(format string, a ...any) error {
	return fmt.Errorf("%w: %s", boltseal.ErrRefused, fmt.Sprintf(format, a...))
}
