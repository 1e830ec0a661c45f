package webhook

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/boltseal/boltseal/e2e/await"
)

// probeEvery is how often the service asks whether its replicas are ready: as a kubelet does, but sooner.
const probeEvery = 50 * time.Millisecond

// service is what a Service with its endpoints is in a cluster with nodes: connections go to replicas that are
// ready, in turn, and stay with the one they were made to.
type service struct {
	listener net.Listener
	accepted atomic.Int64

	mu       sync.Mutex
	replicas []*replica
	ready    []*replica
	next     int
}

func newService() (*service, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &service{listener: l}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.accepted.Add(1)
			go s.connect(c)
		}
	}()
	go func() {
		for {
			s.probe()
			time.Sleep(probeEvery) // waits: the time between two probes
		}
	}()
	return s, nil
}

func (s *service) port() int { return s.listener.Addr().(*net.TCPAddr).Port }

func (s *service) add(r *replica) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replicas = append(s.replicas, r)
}

func (s *service) remove(r *replica) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replicas = slices.DeleteFunc(s.replicas, func(o *replica) bool { return o == r })
}

// probe finds out which replicas are ready.
func (s *service) probe() {
	s.mu.Lock()
	all := slices.Clone(s.replicas)
	s.mu.Unlock()
	var ready []*replica
	for _, r := range all {
		if r.isReady(context.Background()) == nil {
			ready = append(ready, r)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = ready
}

// leadsTo reports whether connections are made to a replica.
func (s *service) leadsTo(r *replica) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.ready, r)
}

func (s *service) connect(c net.Conn) {
	defer c.Close()
	s.mu.Lock()
	if len(s.ready) == 0 {
		s.mu.Unlock()
		return
	}
	s.next++
	r := s.ready[s.next%len(s.ready)]
	s.mu.Unlock()
	b, err := net.Dial("tcp", r.address)
	if err != nil {
		return
	}
	defer b.Close()
	go func() {
		_, _ = io.Copy(b, c)
		_ = b.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(c, b)
}

var probes = &http.Client{Timeout: await.Limit}
