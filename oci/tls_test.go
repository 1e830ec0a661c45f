package oci_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/oci"
)

var quiet = log.New(io.Discard, "", 0)

func TestTLS(t *testing.T) {
	t.Parallel()
	i := newImage(t, testregistry.Options{TLS: true}, 0)
	pem := x509.NewCertPool()
	pem.AppendCertsFromPEM(i.reg.CAPEM())
	for name, c := range map[string]struct {
		o    oci.Options
		want error
		says string
	}{
		"CA of the host":      {o: oci.Options{Hosts: map[string]oci.HostOptions{i.reg.Host: {RootCAs: pem}}}},
		"CA of the options":   {o: oci.Options{RootCAs: pem, Hosts: map[string]oci.HostOptions{i.reg.Host: {}}}},
		"no CA":               {o: oci.Options{Hosts: map[string]oci.HostOptions{i.reg.Host: {}}}, want: boltseal.ErrUnavailable, says: "caFile"},
		"another CA":          {o: oci.Options{Hosts: map[string]oci.HostOptions{i.reg.Host: {RootCAs: x509.NewCertPool()}}}, want: boltseal.ErrUnavailable, says: "authority that is not known"},
		"CA of the host wins": {o: oci.Options{RootCAs: pem, Hosts: map[string]oci.HostOptions{i.reg.Host: {RootCAs: x509.NewCertPool()}}}, want: boltseal.ErrUnavailable},
		"loopback is plain":   {o: oci.Options{RootCAs: pem}, want: boltseal.ErrUnusable, says: "HTTP 400"},
		"useHttp":             {o: oci.Options{Hosts: map[string]oci.HostOptions{i.reg.Host: {PlainHTTP: true}}}, want: boltseal.ErrUnusable, says: "HTTP 400"},
	} {
		i.reg.ResetLog()
		got, err := newRegistry(t, c.o).Resolve(testContext(t), i.byTag())
		if c.want != nil {
			wantError(t, err, c.want, i.reg.Host, c.says)
			if n := i.reg.Count(testregistry.Any); n != 0 {
				t.Errorf("%s: %d requests", name, n)
			}
		} else if err != nil || got.Digest != i.desc.Digest {
			t.Errorf("%s: %v, %v", name, got.Digest, err)
		}
	}
}

func TestTLSWrongCertificates(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spec testca.Spec
		says string
	}{
		"another name": {testca.Spec{Mutate: func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"registry.example"} }}, "for another name"},
		"expired":      {testca.Spec{NotAfter: time.Now().Add(-time.Hour)}, "has expired"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newImage(t, testregistry.Options{TLS: true, ServerCert: c.spec}, 0)
			_, err := secured(t, i, oci.Options{}).Resolve(testContext(t), i.byTag())
			wantError(t, err, boltseal.ErrUnavailable, i.reg.Host, c.says)
		})
	}
}

func TestTLSWhereNoneIs(t *testing.T) {
	t.Parallel()
	i := newImage(t, testregistry.Options{}, 0)
	_, err := newRegistry(t, oci.Options{Hosts: map[string]oci.HostOptions{i.reg.Host: {}}}).Resolve(testContext(t), i.byTag())
	wantError(t, err, boltseal.ErrUnavailable, i.reg.Host, "does not speak TLS", "useHttp")
}

func TestClientCertificate(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{Leaf: testca.Spec{EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}})
	s := httptest.NewUnstartedServer(headHandler("sha256:"+zeros, "application/vnd.oci.image.manifest.v1+json", "9"))
	clients := x509.NewCertPool()
	clients.AddCert(chain.Root().Certificate)
	s.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	s.Config.ErrorLog = quiet
	s.StartTLS()
	t.Cleanup(s.Close)
	host := strings.TrimPrefix(s.URL, "https://")
	roots := s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	certificate := tls.Certificate{Certificate: chain.Raw(), PrivateKey: chain.Leaf().Key}
	r := newRegistry(t, oci.Options{RootCAs: roots, Hosts: map[string]oci.HostOptions{host: {Certificates: []tls.Certificate{certificate}}}})
	if _, err := r.Resolve(testContext(t), tagged(host, repo, "v1")); err != nil {
		t.Error(err)
	}
	_, err := newRegistry(t, oci.Options{RootCAs: roots, Hosts: map[string]oci.HostOptions{host: {}}}).Resolve(testContext(t), tagged(host, repo, "v1"))
	wantError(t, err, boltseal.ErrUnavailable, host)
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if _, err := oci.NewRegistry(oci.Options{Hosts: map[string]oci.HostOptions{"": {}}}); err == nil || !isOnly(err, boltseal.ErrConfiguration) {
		t.Error(err)
	}
}

// proxy stands for the network: it leads each name to a server of this test.
type proxy struct {
	url   *url.URL
	asked atomic.Int32

	mu    sync.Mutex
	names []string
}

func newProxy(t *testing.T, names map[string]string) *proxy {
	t.Helper()
	p := &proxy{}
	direct := &http.Transport{}
	t.Cleanup(direct.CloseIdleConnections)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		p.asked.Add(1)
		p.mu.Lock()
		p.names = append(p.names, req.Host)
		p.mu.Unlock()
		to, ok := names[req.Host]
		switch {
		case !ok:
			w.WriteHeader(http.StatusBadGateway)
		case req.Method == http.MethodConnect:
			tunnel(w, to)
		default:
			req.URL.Host, req.RequestURI = to, ""
			resp, err := direct.RoundTrip(req)
			if err != nil {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			defer resp.Body.Close()
			for k, v := range resp.Header {
				w.Header()[k] = v
			}
			w.WriteHeader(resp.StatusCode)
			_, _ = io.Copy(w, resp.Body)
		}
	}))
	t.Cleanup(s.Close)
	p.url, _ = url.Parse(s.URL)
	return p
}

func tunnel(w http.ResponseWriter, to string) {
	server, err := net.Dial("tcp", to)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	w.WriteHeader(http.StatusOK)
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		server.Close()
		return
	}
	go func() {
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	go func() {
		_, _ = io.Copy(client, server)
		client.Close()
	}()
}

func (p *proxy) forAll(*http.Request) (*url.URL, error) { return p.url, nil }

func TestProxyAndPlainHTTP(t *testing.T) {
	t.Parallel()
	i := newImage(t, testregistry.Options{}, 0)
	p := newProxy(t, map[string]string{"registry.example:5000": i.reg.Host})
	r := newRegistry(t, oci.Options{PlainHTTP: true, Proxy: p.forAll})
	if _, err := r.Resolve(testContext(t), tagged("registry.example:5000", repo, "v1")); err != nil || p.asked.Load() != 1 {
		t.Errorf("%d requests, %v", p.asked.Load(), err)
	}
	// PlainHTTP is not for the hosts that have settings, nor the default.
	for _, o := range []oci.Options{
		{PlainHTTP: true, Proxy: p.forAll, Hosts: map[string]oci.HostOptions{"registry.example:5000": {}}},
		{Proxy: p.forAll},
	} {
		_, err := newRegistry(t, o).Resolve(testContext(t), tagged("registry.example:5000", repo, "v1"))
		wantError(t, err, boltseal.ErrUnavailable, "registry.example:5000", "does not speak TLS")
	}
	// What lies behind the proxy is judged as far as it can be seen.
	for to, says := range map[string]string{
		"http://169.254.169.254": "link-local or metadata", "http://2852039166": "cannot check", "http://0xa9fea9fe": "cannot check", "http://169.254.43518": "cannot check",
	} {
		before := p.asked.Load()
		remove := i.reg.Inject(testregistry.Fault{Kind: testregistry.Redirect, Host: to})
		_, err := r.Resolve(testContext(t), tagged("registry.example:5000", repo, "v1"))
		wantError(t, err, boltseal.ErrRefused, "registry.example:5000", says)
		remove()
		if n := p.asked.Load(); n != before+1 {
			t.Errorf("%s: %d requests", to, n-before)
		}
	}
}

// Docker Hub is reached by another name, and has its tokens elsewhere.
func TestDockerHub(t *testing.T) {
	t.Parallel()
	names := testca.Spec{Mutate: func(c *x509.Certificate) {
		c.DNSNames = []string{"registry-1.docker.io", "auth.docker.io", "cdn.example"}
	}}
	i := newImage(t, testregistry.Options{TLS: true, ServerCert: names,
		Token: &testregistry.TokenOptions{Users: users, Realm: "https://auth.docker.io/token"}}, 0)
	blob := i.reg.PushBlob(repo, "application/octet-stream", []byte("x"))
	p := newProxy(t, map[string]string{"registry-1.docker.io:443": i.reg.Host, "auth.docker.io:443": i.reg.Host, "cdn.example:443": i.reg.Host})
	r := newRegistry(t, oci.Options{Proxy: p.forAll, RootCAs: i.reg.RootCAs(), Credentials: rightPassword})
	ref := tagged(boltseal.DockerHub, repo, "v1")
	got, err := r.Resolve(testContext(t), ref)
	if err != nil || got.Digest != i.desc.Digest {
		t.Fatalf("%v, %v", got.Digest, err)
	}
	if _, err := r.Blob(testContext(t), ref, blob); err != nil {
		t.Error(err)
	}
	if n := i.reg.TokensIssued(""); n != 1 {
		t.Errorf("%d tokens", n)
	}
	i.reg.Inject(testregistry.Fault{Kind: testregistry.Redirect, Class: testregistry.Blob, Match: hasCredentials, Host: "https://cdn.example"})
	_, err = r.Blob(testContext(t), ref, blob)
	wantError(t, err, boltseal.ErrUnauthorized, boltseal.DockerHub, "redirects to cdn.example")
	_, err = r.Resolve(testContext(t), tagged(boltseal.DockerHub, repo, "none"))
	wantError(t, err, boltseal.ErrNotFound, boltseal.DockerHub)
}
