package testregistry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/opencontainers/go-digest"

	"github.com/boltseal/boltseal/internal/test/testca"
)

// DefaultAddress is where registries listen: loopback, on a free port.
const DefaultAddress = "127.0.0.1:0"

// readHeaderTimeout bounds how long a client may take to send its headers.
const readHeaderTimeout = 30 * time.Second

// Options make a registry. The zero value speaks plain HTTP, has the referrers
// API, asks for no credentials, and answers at once.
type Options struct {
	// Address is where to listen. "" means DefaultAddress.
	Address string
	// TLS serves HTTPS with a certificate of a CA made for the purpose.
	TLS bool
	// ServerCert changes the server's certificate (an expired one, another
	// name). Its EKU and its names are set unless it sets them.
	ServerCert testca.Spec
	// Token asks for bearer tokens, Basic for a password. At most one of them.
	Token *TokenOptions
	Basic *BasicOptions
	// NoReferrersAPI makes the referrers endpoint answer 404. The push helpers
	// then keep the referrers tag schema (OCI distribution-spec 1.1) up to date,
	// as clients do; pushes over HTTP must do so themselves.
	NoReferrersAPI bool
	// NoReferrersFilter ignores the artifactType filter, and says so.
	NoReferrersFilter bool
	// PageSize is how many referrers a page holds. 0 means all on one page.
	PageSize int
	// Latency delays each request.
	Latency time.Duration
	// MaxLog bounds the request log; later requests are counted only. 0 means
	// DefaultMaxLog, a negative number no log.
	MaxLog int
	// Clock tells when tokens expire. Nil means time.Now. The log and the delays
	// use real time always.
	Clock func() time.Time
	// ErrorLog receives what net/http complains about. Nil discards it.
	ErrorLog *log.Logger
}

// Registry is a running registry. It is safe for concurrent use.
type Registry struct {
	// Host is host and port, as they stand in an image reference.
	Host string
	// URL is the base address, without a trailing slash.
	URL string

	opts    Options
	store   *store
	content http.Handler
	auth    authenticator
	faults  faults
	log     requestLog
	latency atomic.Int64
	ca      *testca.Chain // nil without TLS
	servers []*http.Server
	done    chan struct{}
	closed  atomic.Bool
	fail    func(error)
	seq     atomic.Uint64
}

// Start runs a registry until [Registry.Close].
func Start(o Options) (*Registry, error) {
	if o.Token != nil && o.Basic != nil {
		return nil, errors.New("testregistry: Token and Basic exclude each other")
	}
	ln, err := net.Listen("tcp", addressOr(o.Address))
	if err != nil {
		return nil, fmt.Errorf("testregistry: %w", err)
	}
	r := &Registry{Host: ln.Addr().String(), opts: o, store: newStore(), done: make(chan struct{}),
		fail: func(err error) { panic(err) }}
	r.latency.Store(int64(o.Latency))
	r.log.max = o.MaxLog
	r.content = ociserver.New(r.store, &ociserver.Options{DisableReferrersAPI: o.NoReferrersAPI, DisableReferrersFiltering: o.NoReferrersFilter})
	scheme := "http"
	var tlsConfig *tls.Config
	if o.TLS {
		scheme = "https"
		if tlsConfig, err = r.serverTLS(); err != nil {
			ln.Close()
			return nil, err
		}
	}
	r.URL = scheme + "://" + r.Host
	if err := r.startAuth(tlsConfig); err != nil {
		ln.Close()
		return nil, err
	}
	r.serve(ln, http.HandlerFunc(r.handle), tlsConfig)
	return r, nil
}

// New is [Start] for a test, which it ends on an error, of the push helpers
// too. The registry is closed with the test.
func New(tb TB, o Options) *Registry {
	tb.Helper()
	r, err := Start(o)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	r.fail = func(err error) {
		tb.Helper()
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(r.Close)
	return r
}

func addressOr(a string) string {
	if a == "" {
		return DefaultAddress
	}
	return a
}

func (r *Registry) serve(ln net.Listener, h http.Handler, tlsConfig *tls.Config) {
	errorLog := r.opts.ErrorLog
	if errorLog == nil {
		errorLog = log.New(discard{}, "", 0)
	}
	srv := &http.Server{Handler: h, TLSConfig: tlsConfig.Clone(), ErrorLog: errorLog, ReadHeaderTimeout: readHeaderTimeout,
		BaseContext: func(net.Listener) context.Context { return context.Background() }}
	r.servers = append(r.servers, srv)
	go func() {
		// Serve returns an error always; the one after Close is of no interest,
		// and another would show in every request.
		if tlsConfig != nil {
			_ = srv.ServeTLS(ln, "", "")
			return
		}
		_ = srv.Serve(ln)
	}()
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// Close stops the registry at once, with the requests that hang in it.
func (r *Registry) Close() {
	if r.closed.Swap(true) {
		return
	}
	close(r.done)
	for _, s := range r.servers {
		s.Close()
	}
}

func (r *Registry) serverTLS() (*tls.Config, error) {
	spec := r.opts.ServerCert
	if len(spec.EKU) == 0 {
		spec.EKU = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	mutate := spec.Mutate
	spec.Mutate = func(c *x509.Certificate) {
		c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
		c.DNSNames = []string{"localhost"}
		if mutate != nil {
			mutate(c)
		}
	}
	var err error
	r.ca, err = testca.New(testca.Options{Leaf: spec, Root: testca.Spec{CommonName: "Boltseal Test Registry CA"}})
	if err != nil {
		return nil, err
	}
	cert := tls.Certificate{Certificate: r.ca.Raw()[:1], PrivateKey: r.ca.Leaf().Key}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

// CAPEM is the certificate to trust for TLS, in PEM; nil without TLS.
func (r *Registry) CAPEM() []byte {
	if r.ca == nil {
		return nil
	}
	return r.ca.Root().PEM()
}

// RootCAs is a pool of the certificate to trust for TLS; nil without TLS.
func (r *Registry) RootCAs() *x509.CertPool {
	if r.ca == nil {
		return nil
	}
	pool := x509.NewCertPool()
	pool.AddCert(r.ca.Root().Certificate)
	return pool
}

// Client is an HTTP client that trusts the registry, with a pool of its own.
func (r *Registry) Client() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.RootCAs(), MinVersion: tls.VersionTLS12}}}
}

// Ref is an image reference by tag, Pinned by digest.
func (r *Registry) Ref(repo, tag string) string { return r.Host + "/" + repo + ":" + tag }

// Pinned is an image reference by digest.
func (r *Registry) Pinned(repo string, d digest.Digest) string {
	return r.Host + "/" + repo + "@" + d.String()
}

// SetLatency changes the delay of each request from now on.
func (r *Registry) SetLatency(d time.Duration) { r.latency.Store(int64(d)) }
