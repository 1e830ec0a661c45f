package oci

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/fair"
)

// host is what is known of one registry.
type host struct {
	name      string // as it stands in an image's name
	scheme    string
	address   string // where it is reached, host[:port]
	opts      HostOptions
	transport *http.Transport
	guards    *guards
	proxy     func(*http.Request) (*url.URL, error)
	guarded   bool            // its address is judged, though a proxy dials it
	proxied   *http.Transport // for what that proxy dials
	slots     *fair.Slots     // requests under way, in turn for those who ask
	renewing  chan struct{}   // room for one: held while another credential is looked for
	renewed   time.Time       // when that was last done; guarded by renewing

	challenge   atomic.Pointer[challenge] // what it asks for, nil = not known to ask
	habits      habits
	door        door
	pausedUntil atomic.Int64 // Unix nanoseconds of real time; it asked us to wait
	kind        atomic.Int32 // 1 + the addressKind of its own address, 0 = not known yet
}

// paused is how long the registry wants to be left alone. This is real time, as
// in the timers and the contexts' deadlines that it is held against.
func (h *host) paused() time.Duration {
	until := h.pausedUntil.Load()
	if until == 0 {
		return 0
	}
	return time.Until(time.Unix(0, until))
}

// pause leaves the registry alone for d. A longer pause is not cut short.
func (h *host) pause(d time.Duration) {
	until := time.Now().Add(d).UnixNano()
	for {
		old := h.pausedUntil.Load()
		if old >= until || h.pausedUntil.CompareAndSwap(old, until) {
			return
		}
	}
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
	t.guards = newGuards(o)
	// Users name registries, but users of a cluster are not its administrators:
	// no image may lead to the metadata service of the cloud.
	t.shared = o.guarded(privateAddress)
	t.shared.Proxy = o.Proxy
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
				old.close()
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
	h := &host{name: name, scheme: "https", address: name, opts: set, transport: t.shared, guards: t.guards, proxy: t.opts.Proxy, proxied: t.guards.proxied,
		slots: fair.NewSlots(t.opts.Limits.HostRequests), guarded: !named || t.opts.GuardHosts, renewing: make(chan struct{}, 1)}
	h.opts.AuthRealms = append(ownRealms(name), set.AuthRealms...)
	if name == boltseal.DockerHub {
		h.address = "registry-1.docker.io"
	}
	if set.PlainHTTP || !named && (t.opts.PlainHTTP || isLoopback(name)) {
		h.scheme = "http"
	}
	if named {
		h.transport = newTransport(t.opts.Limits, t.opts.tlsConfig(set))
		if t.opts.GuardHosts {
			h.transport.DialContext = t.opts.guardedDial(privateAddress)
		}
		if set.Proxy != nil {
			h.proxy = set.Proxy
			h.proxied = t.opts.throughProxy(set.Proxy)
		}
		h.transport.Proxy = h.proxy
	}
	return h
}

func (t *hostTable) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.hosts {
		h.close()
	}
	t.shared.CloseIdleConnections()
	t.guards.public.CloseIdleConnections()
	t.guards.private.CloseIdleConnections()
	t.guards.proxied.CloseIdleConnections()
}

func (h *host) close() {
	h.transport.CloseIdleConnections()
	h.proxied.CloseIdleConnections()
}

func hostName(address string) string {
	if h, _, err := net.SplitHostPort(address); err == nil {
		return h
	}
	return strings.Trim(address, "[]")
}

func isLoopback(address string) bool {
	h := hostName(address)
	ip, err := netip.ParseAddr(h)
	return h == "localhost" || strings.HasSuffix(h, ".localhost") || err == nil && ip.IsLoopback()
}
