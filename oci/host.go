package oci

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/boltseal/boltseal"
)

// host is what is known of one registry.
type host struct {
	name      string // as it stands in an image's name
	scheme    string
	address   string // where it is reached, host[:port]
	opts      HostOptions
	transport *http.Transport
	guards    *guards
	slots     chan struct{} // requests under way

	challenge   atomic.Pointer[challenge] // what it asks for, nil = not known to ask
	tagSchema   atomic.Int64              // Unix time until which it is known to have no referrers API
	pausedUntil atomic.Int64              // Unix nanoseconds; it asked us to wait
	addressKind func() addressKind
}

// hostTable makes hosts when they are first asked for, a bounded number of them.
type hostTable struct {
	opts   Options
	guards *guards
	shared *http.Transport

	mu    sync.Mutex
	hosts map[string]*host
}

func (t *hostTable) init(o Options) {
	t.opts, t.hosts = o, make(map[string]*host)
	t.shared = newTransport(o.Limits, o.tlsConfig(HostOptions{}))
	t.guards = newGuards(o)
}

func (t *hostTable) get(name string) *host {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h, ok := t.hosts[name]; ok {
		return h
	}
	if len(t.hosts) >= t.opts.Limits.Hosts {
		for k, old := range t.hosts { // any one: its state is only a saving
			if old.transport != t.shared {
				old.transport.CloseIdleConnections()
			}
			delete(t.hosts, k)
			break
		}
	}
	h := t.make(name)
	t.hosts[name] = h
	return h
}

func (t *hostTable) make(name string) *host {
	set, named := t.opts.Hosts[name]
	h := &host{name: name, scheme: "https", address: name, opts: set, transport: t.shared, guards: t.guards,
		slots: make(chan struct{}, t.opts.Limits.HostRequests)}
	if name == boltseal.DockerHub {
		h.address = "registry-1.docker.io"
		h.opts.AuthRealms = append([]string{"auth.docker.io"}, set.AuthRealms...)
	}
	if set.PlainHTTP || !named && (t.opts.PlainHTTP || isLoopback(name)) {
		h.scheme = "http"
	}
	if set.RootCAs != nil || set.Certificates != nil {
		h.transport = newTransport(t.opts.Limits, t.opts.tlsConfig(set))
	}
	h.addressKind = sync.OnceValue(func() addressKind { return lookUpKind(h.address) })
	return h
}

func (t *hostTable) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.hosts {
		h.transport.CloseIdleConnections()
	}
	t.shared.CloseIdleConnections()
	t.guards.public.CloseIdleConnections()
	t.guards.private.CloseIdleConnections()
}

func hostname(address string) string {
	if h, _, err := net.SplitHostPort(address); err == nil {
		return h
	}
	return strings.Trim(address, "[]")
}

func isLoopback(address string) bool {
	h := hostname(address)
	ip, err := netip.ParseAddr(h)
	return h == "localhost" || strings.HasSuffix(h, ".localhost") || err == nil && ip.IsLoopback()
}

// addressKind orders addresses by how far inside they are.
type addressKind int

const (
	publicAddress   addressKind = iota
	privateAddress              // RFC 1918, RFC 4193, RFC 6598, loopback
	internalAddress             // link-local and cloud metadata: no registry is there
)

var (
	carrierNAT  = netip.MustParsePrefix("100.64.0.0/10")
	awsMetadata = netip.MustParsePrefix("fd00:ec2::/32")
	alibabaMeta = netip.MustParseAddr("100.100.100.200")
	zeroNet     = netip.MustParsePrefix("0.0.0.0/8")
	nat64       = netip.MustParsePrefix("64:ff9b::/96")
)

func kindOf(ip netip.Addr) addressKind {
	ip = ip.Unmap()
	if nat64.Contains(ip) {
		b := ip.As16()
		return kindOf(netip.AddrFrom4([4]byte(b[12:])))
	}
	switch {
	case ip.IsLinkLocalUnicast(), ip.IsMulticast(), ip.IsUnspecified(), zeroNet.Contains(ip), awsMetadata.Contains(ip), ip == alibabaMeta:
		return internalAddress
	case ip.IsLoopback(), ip.IsPrivate(), carrierNAT.Contains(ip):
		return privateAddress
	}
	return publicAddress
}

// lookUpKind is the kind of a registry's own address: one on a private network
// may send us elsewhere on it.
func lookUpKind(address string) addressKind {
	name := hostname(address)
	if ip, err := netip.ParseAddr(name); err == nil {
		return kindOf(ip)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil || len(ips) == 0 {
		return publicAddress
	}
	kind := privateAddress
	for _, ip := range ips {
		kind = min(kind, kindOf(ip))
	}
	return kind
}

// guards are the transports for hosts that a registry, not a user, has named:
// the address is judged when it is dialled, so a name that resolves to another
// address the second time gains nothing.
type guards struct{ public, private *http.Transport }

func newGuards(o Options) *guards {
	guard := func(most addressKind) *http.Transport {
		t := newTransport(o.Limits, o.tlsConfig(HostOptions{}))
		t.Proxy = nil // the dialled address must be the one that is judged
		d := &net.Dialer{Timeout: o.Limits.RequestTimeout, ControlContext: refuse(most)}
		t.DialContext = d.DialContext
		return t
	}
	return &guards{public: guard(publicAddress), private: guard(privateAddress)}
}

// elsewhere is the transport for a host that the registry named.
func (h *host) elsewhere() *http.Transport {
	if h.addressKind() == privateAddress {
		return h.guards.private
	}
	return h.guards.public
}

func refused(format string, a ...any) error {
	return fmt.Errorf("%w: %s", boltseal.ErrRefused, fmt.Sprintf(format, a...))
}
