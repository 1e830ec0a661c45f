package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

// hang is longer than anything here takes, however busy the machine is.
const hang = 2 * time.Minute

// certificate is one that clients here do not look at.
func certificate(t testing.TB) *tls.Config {
	t.Helper()
	chain := testca.Test(t, testca.Options{})
	cert := tls.Certificate{Certificate: chain.Raw()[:1], PrivateKey: chain.Leaf().Key}
	return &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
}

// instance is a running server, as Run runs it.
type instance struct {
	address string
	leave   func()        // tells it to stop
	left    chan struct{} // closed when it knows
	ended   chan error
}

// run runs a server until its leave is called. heard, where it is not nil, is closed when
// whoever is to know has heard that it leaves: its grace begins then.
func run(t testing.TB, l net.Listener, config *tls.Config, grace, drain time.Duration, heard <-chan struct{}) *instance {
	t.Helper()
	s := New(Options{Metrics: NewMetrics(Sources{}), VerifyTimeout: hang, BodyTimeout: hang})
	ctx, cancel := context.WithCancel(context.Background())
	i := &instance{address: l.Addr().String(), leave: cancel, left: make(chan struct{}), ended: make(chan error, 1)}
	leaving := func() {
		s.Drain()
		close(i.left)
		if heard != nil {
			<-heard
		}
	}
	e := Endpoint{Name: "main", Listener: l, TLS: config, Handler: s.Handler(), Lasting: true, Arrival: hang}
	go func() { i.ended <- Run(ctx, []Endpoint{e}, leaving, grace, drain, slog.New(slog.DiscardHandler)) }()
	return i
}

func (i *instance) end(t testing.TB) {
	t.Helper()
	select {
	case err := <-i.ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(hang):
		t.Fatal("it does not end")
	}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// ask sends a request on a connection, and returns the answer.
func ask(t testing.TB, c net.Conn, r *bufio.Reader) *http.Response {
	t.Helper()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp
}

// TestIdleConnectionsAreLeftToTheirClients: one that nothing was asked on while the
// server was leaving is served afterwards, until its client was told, or closed it.
func TestIdleConnectionsAreLeftToTheirClients(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]*tls.Config{"plain": nil, "TLS": certificate(t)} {
		for _, before := range []int{0, 1, 3} { // requests before
			synctest.Test(t, func(t *testing.T) {
				l := newPipes()
				i := run(t, l, config, 10*time.Second, 100*time.Second, nil)
				c := l.dial(t, config)
				r := bufio.NewReader(c)
				for range before {
					if resp := ask(t, c, r); resp.Close {
						t.Errorf("%s: told to go although the server stays", name)
					}
				}
				silent := l.dial(t, config)
				time.Sleep(50 * time.Second) // longer than a header may take
				i.leave()
				time.Sleep(50 * time.Second) // longer than the grace
				if resp := ask(t, c, r); !resp.Close {
					t.Errorf("%s: not told that the server leaves", name)
				}
				if _, err := r.ReadByte(); err != io.EOF {
					t.Errorf("%s: after that: %v", name, err)
				}
				synctest.Wait()
				select {
				case <-i.ended:
					t.Errorf("%s: it ended while a client held a connection", name)
				default:
				}
				_ = silent.Close()
				i.end(t)
				_ = c.Close()
			})
		}
	}
}

// TestLeavingHasAnEnd: clients that never let go are waited for so long, and no longer.
func TestLeavingHasAnEnd(t *testing.T) {
	t.Parallel()
	config := certificate(t)
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		i := run(t, l, config, 10*time.Second, 60*time.Second, nil)
		c, fresh := l.dial(t, config), l.dial(t, config)
		ask(t, c, bufio.NewReader(c))
		begin := time.Now()
		i.leave()
		for _, held := range []net.Conn{c, fresh} {
			if _, err := io.Copy(io.Discard, held); err != nil {
				t.Error(err)
			}
		}
		i.end(t)
		if took := time.Since(begin); took < 60*time.Second || took > 70*time.Second {
			t.Errorf("it ended after %s", took)
		}
	})
}

// TestAskedPlainlyOfTLS: who forgot the s of https learns of it.
func TestAskedPlainlyOfTLS(t *testing.T) {
	t.Parallel()
	i := run(t, listen(t), certificate(t), 0, time.Minute, nil)
	resp, err := http.Get("http://" + i.address + "/")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusBadRequest || !bytes.Contains(text, []byte("https://")) {
		t.Errorf("HTTP %d: %s: %v", resp.StatusCode, text, err)
	}
	i.leave()
	i.end(t)
}

// TestRestartsLoseNoRequest restarts servers twenty times while thirty workers ask
// without a pause and all processors are busy with something else. Requests are sent
// once: a client that may not repeat them, as the API server's may not, would tell
// its user of each that is lost.
func TestRestartsLoseNoRequest(t *testing.T) {
	t.Cleanup(busy())
	for name, proto := range map[string]string{"HTTP/1.1": "http/1.1", "HTTP/2": "h2"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &replicas{config: certificate(t), proto: proto}
			// Fewer connections are kept than are used, so that new ones are made all the
			// time, and some stay idle; these are let go of, as the API server does.
			// waits: a server is waited for longer than a client keeps a connection, whatever the two are
			transport := &http.Transport{DialTLSContext: r.dial, MaxIdleConnsPerHost: 25, IdleConnTimeout: 2 * time.Second, ForceAttemptHTTP2: true}
			client := &http.Client{Transport: transport, Timeout: hang}
			r.add(t)
			r.add(t)
			var asked, lost atomic.Int64
			stop := make(chan struct{})
			var workers sync.WaitGroup
			body := bytes.Repeat([]byte("x"), 20_000)
			for w := range 30 {
				workers.Go(func() {
					for n := 0; ; n++ {
						select {
						case <-stop:
							return
						// waits: so that connections idle for a while; the pace of those who ask
						case <-time.After(time.Duration(w*n%10) * time.Millisecond):
						}
						asked.Add(1)
						if err := post(client, body); err != nil && lost.Add(1) <= 3 {
							t.Error(err)
						}
					}
				})
			}
			var gone []*instance
			for n := range 20 {
				r.add(t)
				oldest := r.oldest()
				if n%2 == 0 { // the Service hears first
					r.removeOldest()
				}
				oldest.leave()
				<-oldest.left
				from := asked.Load()
				testwait.Until(t, "more requests", func() bool { return asked.Load() >= from+50 })
				if n%2 == 1 {
					r.removeOldest()
				}
				close(oldest.heard)
				gone = append(gone, oldest.instance)
			}
			for _, i := range gone {
				i.end(t) // while the others are asked on
			}
			close(stop)
			workers.Wait()
			transport.CloseIdleConnections()
			for _, i := range r.serving {
				close(i.heard)
				i.leave()
				i.end(t)
			}
			t.Logf("%d requests over %d connections, %d lost", asked.Load(), r.dialled.Load(), lost.Load())
			if lost.Load() > 0 {
				t.Errorf("%d of %d requests were lost", lost.Load(), asked.Load())
			}
		})
	}
}

// replicas are what is behind a Service.
type replicas struct {
	config  *tls.Config
	proto   string
	dialled atomic.Int64

	mu      sync.RWMutex
	serving []replica // those that get new connections
}

// replica is a server that goes on for new clients until heard is closed.
type replica struct {
	*instance
	heard chan struct{}
}

func (r *replicas) add(t testing.TB) {
	t.Helper()
	heard := make(chan struct{})
	i := run(t, listen(t), r.config, 0, 5*hang, heard)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.serving = append(r.serving, replica{i, heard})
}

func (r *replicas) oldest() replica {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.serving[0]
}

// removeOldest returns when no connection to it is under way.
func (r *replicas) removeOldest() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.serving = slices.Delete(r.serving, 0, 1)
}

// dial connects to one of them, in turn.
func (r *replicas) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{r.proto}}}
	return d.DialContext(ctx, network, r.serving[int(r.dialled.Add(1))%len(r.serving)].address)
}

// post asks once, and reports what kept the answer from coming. What it says is
// that the endpoint takes no such request, which is as good as any.
func post(client *http.Client, body []byte) error {
	resp, err := client.Post("https://replicas.example"+PathVerify, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// busy keeps all processors at work until quiet is called.
func busy() (quiet func()) {
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for !stop.Load() {
			}
		})
	}
	return func() { stop.Store(true); wg.Wait() }
}

// pipes is a listener within this process, for clocks that are not the machine's.
type pipes struct {
	conns chan net.Conn
	ended chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), ended: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.ended) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

// dial connects, with HTTP/1.1.
func (p *pipes) dial(t testing.TB, config *tls.Config) net.Conn {
	t.Helper()
	near, far := net.Pipe()
	p.conns <- far
	if config == nil {
		return near
	}
	c := tls.Client(near, &tls.Config{InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}
