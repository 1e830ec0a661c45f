// Package testcloud fakes the services of clouds over TLS, for tests: their identities, vaults and registries.
//
// They are fakes: they answer in the shapes that the services' public documentation
// gives, and refuse what the services refuse. They are spoken to at the hosts' real
// names, which lead here, by the clouds' own SDKs; where a client of ours asks, a test
// holds the fake against the SDK too.
package testcloud

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// TB is the part of testing.TB that is needed.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, a ...any)
}

// Request is one that a fake has seen.
type Request struct{ Method, Host, Path, Query string }

// Cloud is the hosts that lead here.
type Cloud struct {
	clock    func() time.Time
	listener net.Listener
	server   *http.Server
	ca       *x509.Certificate
	caKey    *ecdsa.PrivateKey

	mu       sync.Mutex
	hosts    map[string]http.Handler // by name, without a port
	certs    map[string]*tls.Certificate
	requests []Request
	secrets  []string
	faults   map[string]*fault // by host
	proxies  []net.Listener
}

// fault is what a host does in place of answering.
type fault struct {
	status     int // 0 = cut the connection
	retryAfter string
	left       int // requests; below 0 = all
	hang       bool
}

// Start starts a cloud without hosts, which ends with the test. A nil clock means
// time.Now.
func Start(tb TB, clock func() time.Time) *Cloud {
	tb.Helper()
	if clock == nil {
		clock = time.Now
	}
	c := &Cloud{clock: clock, hosts: map[string]http.Handler{}, certs: map[string]*tls.Certificate{}, faults: map[string]*fault{}}
	var err error
	if c.caKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		tb.Fatalf("%v", err)
	}
	if c.ca, err = c.issue(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "cloud"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}, nil, &c.caKey.PublicKey); err != nil {
		tb.Fatalf("%v", err)
	}
	if c.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		tb.Fatalf("%v", err)
	}
	c.server = &http.Server{Handler: c, TLSConfig: &tls.Config{GetCertificate: c.certificate, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = c.server.ServeTLS(c.listener, "", "") }()
	tb.Cleanup(c.close)
	return c
}

func (c *Cloud) close() {
	_ = c.server.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.proxies {
		_ = l.Close()
	}
}

func (c *Cloud) issue(template, parent *x509.Certificate, pub any) (*x509.Certificate, error) {
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, c.caKey)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// certificate is that of a host that leads here.
func (c *Cloud) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := hello.ServerName
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hosts[name] == nil {
		return nil, fmt.Errorf("no host %q", name)
	}
	if cert := c.certs[name]; cert != nil {
		return cert, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf, err := c.issue(&x509.Certificate{SerialNumber: big.NewInt(int64(len(c.certs) + 2)), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}}, c.ca, &key.PublicKey)
	if err != nil {
		return nil, err
	}
	cert := &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}
	c.certs[name] = cert
	return cert, nil
}

// CAPEM is the authority of all hosts' certificates.
func (c *Cloud) CAPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.ca.Raw})
}

// Serve has a host answered by h.
func (c *Cloud) Serve(host string, h http.Handler) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hosts[host] = h
}

// Transport leads the hosts' names here, and knows no others.
func (c *Cloud) Transport() *http.Transport {
	roots := x509.NewCertPool()
	roots.AddCert(c.ca)
	return &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			host, port, _ := net.SplitHostPort(address)
			if !c.knows(host) {
				return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
			}
			if port == "80" {
				return c.plain(), nil
			}
			return (&net.Dialer{}).DialContext(ctx, network, c.listener.Addr().String())
		},
	}
}

func (c *Cloud) knows(host string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hosts[host] != nil
}

// plain is a connection to the hosts without TLS.
func (c *Cloud) plain() net.Conn {
	near, far := net.Pipe()
	go func() {
		l := &oneConn{conn: make(chan net.Conn, 1), done: make(chan struct{})}
		l.conn <- far
		_ = (&http.Server{Handler: c, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0), ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				l.once.Do(func() { close(l.done) })
			}
		}}).Serve(l)
	}()
	return near
}

type oneConn struct {
	conn chan net.Conn
	done chan struct{}
	once sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// Proxy starts an HTTP proxy that leads the hosts' names here, for a process of its
// own ($HTTPS_PROXY), and returns its URL.
func (c *Cloud) Proxy(tb TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("%v", err)
	}
	c.mu.Lock()
	c.proxies = append(c.proxies, l)
	c.mu.Unlock()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.tunnel(conn)
		}
	}()
	return (&url.URL{Scheme: "http", Host: l.Addr().String()}).String()
}

func (c *Cloud) tunnel(conn net.Conn) {
	defer conn.Close()
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil || req.Method != http.MethodConnect {
		return
	}
	host, _, _ := net.SplitHostPort(req.Host)
	if !c.knows(host) {
		_, _ = io.WriteString(conn, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return
	}
	to, err := net.Dial("tcp", c.listener.Addr().String())
	if err != nil {
		return
	}
	defer to.Close()
	if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	go func() { _, _ = io.Copy(to, conn); _ = to.Close() }()
	_, _ = io.Copy(conn, to)
}

// ServeHTTP answers for all hosts.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	c.mu.Lock()
	c.requests = append(c.requests, Request{r.Method, host, r.URL.Path, r.URL.RawQuery})
	h := c.hosts[host]
	f := c.faults[host]
	var now fault
	broken := f != nil && f.left != 0
	if broken {
		f.left--
		now = *f
	}
	c.mu.Unlock()
	switch {
	case broken && now.hang:
		<-r.Context().Done()
	case broken && now.status == 0:
		panic(http.ErrAbortHandler)
	case broken:
		if now.retryAfter != "" {
			w.Header().Set("Retry-After", now.retryAfter)
		}
		w.WriteHeader(now.status)
		_, _ = io.WriteString(w, `{"error":{"code":"Throttled","message":"Request was not processed because too many requests were received."}}`)
	case h == nil:
		http.NotFound(w, r)
	default:
		h.ServeHTTP(w, r)
	}
}

func (c *Cloud) setFault(host string, f *fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults[host] = f
}

// Cut has a host cut its connections.
func (c *Cloud) Cut(host string) { c.setFault(host, &fault{left: -1}) }

// Hang has a host answer nothing.
func (c *Cloud) Hang(host string) { c.setFault(host, &fault{left: -1, hang: true}) }

// Refuse has a host answer n requests with an HTTP status, and all where n is below
// 0; retryAfter is what it says of when to come again, "" = nothing.
func (c *Cloud) Refuse(host string, n, status int, retryAfter string) {
	c.setFault(host, &fault{status: status, retryAfter: retryAfter, left: n})
}

// Mend has a host answer again.
func (c *Cloud) Mend(host string) { c.setFault(host, nil) }

// Requests are those that a host has seen; "" = all hosts.
func (c *Cloud) Requests(host string) []Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.requests), func(r Request) bool { return host != "" && r.Host != host })
}

// keep notes what must never be seen in a log or an error.
func (c *Cloud) keep(secret string) {
	if secret == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.secrets, secret) {
		c.secrets = append(c.secrets, secret)
	}
}

// Secrets are all tokens, assertions, passwords and private keys that were seen or
// given away.
func (c *Cloud) Secrets() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.secrets)
}
