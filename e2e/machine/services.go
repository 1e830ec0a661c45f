package machine

import (
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
)

// services route connections as kube-proxy does: a connection to a Service's address goes to one of its endpoints that
// are ready, by chance, and to one that is ending but still serves where none is ready. With no endpoint at all it is
// reset.
type services struct {
	m      *Machine
	slices discoverylisters.EndpointSliceLister

	mu        sync.Mutex
	listeners map[string]routed // by address
}

// routed is a listener and the Service that it is for.
type routed struct {
	net.Listener
	service string
}

func newServices(m *Machine, l discoverylisters.EndpointSliceLister) *services {
	return &services{m: m, slices: l, listeners: map[string]routed{}}
}

func addresses(s *corev1.Service) map[string]string {
	out := map[string]string{}
	if len(s.Spec.Selector) == 0 || s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone {
		return out
	}
	for _, p := range s.Spec.Ports {
		out[net.JoinHostPort(s.Spec.ClusterIP, strconv.Itoa(int(p.Port)))] = p.Name
	}
	return out
}

// see listens at the addresses of a Service, and no more at those that it had before.
func (r *services) see(s *corev1.Service) {
	r.mu.Lock()
	defer r.mu.Unlock()
	want, service := addresses(s), s.Namespace+"/"+s.Name
	r.closeAll(func(address, of string) bool { _, ok := want[address]; return of == service && !ok })
	for address, port := range want {
		if _, there := r.listeners[address]; there {
			continue
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			r.m.complain("Service %s: %w", service, err)
			continue
		}
		r.listeners[address] = routed{l, service}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go r.lead(c.(*net.TCPConn), s.Namespace, s.Name, port)
			}
		}()
	}
}

func (r *services) forget(s *corev1.Service) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closeAll(func(_, of string) bool { return of == s.Namespace+"/"+s.Name })
}

func (r *services) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closeAll(func(string, string) bool { return true })
}

// closeAll closes the listeners that it is told to, by address and Service. r.mu is held.
func (r *services) closeAll(which func(address, service string) bool) {
	for address, l := range r.listeners {
		if which(address, l.service) {
			_ = l.Close()
			delete(r.listeners, address)
		}
	}
}

// endpoint is one of a Service's endpoints for a port, "" where there is none.
func (r *services) endpoint(namespace, name, port string) string {
	found, err := r.slices.EndpointSlices(namespace).List(labels.Set{discoveryv1.LabelServiceName: name}.AsSelector())
	if err != nil {
		return ""
	}
	var ready, ending []string
	for _, s := range found {
		for _, p := range s.Ports {
			if p.Port == nil || p.Name == nil || *p.Name != port {
				continue
			}
			for _, e := range s.Endpoints {
				at := net.JoinHostPort(listensAt(e.Addresses[0]), strconv.Itoa(int(*p.Port)))
				switch c := e.Conditions; {
				case c.Ready == nil || *c.Ready:
					ready = append(ready, at)
				case c.Serving != nil && *c.Serving:
					ending = append(ending, at)
				}
			}
		}
	}
	if len(ready) == 0 {
		ready = ending
	}
	if len(ready) == 0 {
		return ""
	}
	return ready[rand.IntN(len(ready))]
}

// lead leads a connection to an endpoint until both sides have closed.
func (r *services) lead(c *net.TCPConn, namespace, name, port string) {
	defer c.Close()
	at := r.endpoint(namespace, name, port)
	if at == "" {
		_ = c.SetLinger(0)
		return
	}
	b, err := net.Dial("tcp", at)
	if err != nil {
		_ = c.SetLinger(0)
		return
	}
	defer b.Close()
	go func() {
		_, _ = io.Copy(b, c)
		_ = b.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(c, b)
}
