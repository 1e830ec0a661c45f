package tlsfiles_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/serve/tlsfiles"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

// pki is a CA of server or client certificates.
func pki(t *testing.T, name string, eku x509.ExtKeyUsage) *testca.Chain {
	t.Helper()
	return testca.Test(t, testca.Options{Leaf: testca.Spec{Subject: testca.Subject(name), Mutate: func(c *x509.Certificate) {
		c.IPAddresses, c.ExtKeyUsage = []net.IP{net.IPv4(127, 0, 0, 1)}, []x509.ExtKeyUsage{eku}
		c.ExtraExtensions = nil
	}}})
}

type files struct {
	tlsfiles.Files
	t *testing.T
}

func newFiles(t *testing.T) files {
	d := t.TempDir()
	return files{tlsfiles.Files{Cert: filepath.Join(d, "tls.crt"), Key: filepath.Join(d, "tls.key"), ClientCA: filepath.Join(d, "ca.crt")}, t}
}

func (f files) write(server, client *testca.Chain) {
	f.t.Helper()
	key, err := testca.KeyPEM(server.Leaf().Key)
	if err != nil {
		f.t.Fatal(err)
	}
	for name, b := range map[string][]byte{f.Cert: server.PEM(), f.Key: key, f.ClientCA: client.Root().PEM()} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
}

func serve(t *testing.T, s *tlsfiles.Server) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", s.Config())
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }), ReadHeaderTimeout: testwait.Patience}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return "https://" + l.Addr().String()
}

func client(client *testca.Chain, max uint16, roots ...*testca.Chain) *http.Client {
	cfg := &tls.Config{RootCAs: x509.NewCertPool(), MaxVersion: max, MinVersion: tls.VersionTLS12}
	for _, r := range roots {
		cfg.RootCAs.AddCert(r.Root().Certificate)
	}
	if client != nil {
		cfg.Certificates = []tls.Certificate{{Certificate: client.Raw(), PrivateKey: client.Leaf().Key}}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}, Timeout: testwait.Patience}
}

func get(c *http.Client, url string) error {
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.ReadAll(resp.Body)
	return err
}

func TestWhoGetsIn(t *testing.T) {
	t.Parallel()
	server, friend, stranger := pki(t, "server", x509.ExtKeyUsageServerAuth), pki(t, "friend", x509.ExtKeyUsageClientAuth), pki(t, "stranger", x509.ExtKeyUsageClientAuth)
	f := newFiles(t)
	f.write(server, friend)
	s, err := tlsfiles.New(f.Files)
	if err != nil {
		t.Fatal(err)
	}
	url := serve(t, s)
	if err := get(client(friend, 0, server), url); err != nil {
		t.Errorf("a client with a certificate of the CA: %v", err)
	}
	for name, c := range map[string]*http.Client{
		"no certificate": client(nil, 0, server), "a stranger": client(stranger, 0, server), "TLS 1.2": client(friend, tls.VersionTLS12, server),
	} {
		if err := get(c, url); err == nil {
			t.Errorf("%s got in", name)
		}
	}
	if leaf, err := s.Leaf(); err != nil || !leaf.Equal(server.Leaf().Certificate) {
		t.Errorf("leaf: %v", err)
	}
}

func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	oldServer, newServer := pki(t, "old", x509.ExtKeyUsageServerAuth), pki(t, "new", x509.ExtKeyUsageServerAuth)
	friend := pki(t, "friend", x509.ExtKeyUsageClientAuth)
	f := newFiles(t)
	f.write(oldServer, friend)
	s, err := tlsfiles.New(f.Files)
	if err != nil {
		t.Fatal(err)
	}
	url := serve(t, s)
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			c := client(friend, 0, oldServer, newServer)
			for !stop.Load() {
				if err := get(c, url); err != nil {
					t.Errorf("a request failed while files changed: %v", err)
					return
				}
			}
		})
	}
	for i := range 20 {
		if i%4 == 3 { // a broken file must not matter
			if err := os.WriteFile(f.Cert, []byte("not a certificate"), 0o600); err != nil {
				t.Error(err)
			}
			if s.Reload() == nil {
				t.Error("a broken certificate was taken")
			}
		}
		f.write([]*testca.Chain{oldServer, newServer}[i%2], friend)
		if err := s.Reload(); err != nil {
			t.Error(err)
		}
	}
	stop.Store(true)
	wg.Wait()
	if err := get(client(friend, 0, newServer), url); err != nil {
		t.Errorf("the new certificate is not served: %v", err)
	}
}

func TestSelfSigned(t *testing.T) {
	t.Parallel()
	s, err := tlsfiles.SelfSigned([]string{"localhost", "127.0.0.1"}, "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := s.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	if err := get(c, serve(t, s)); err != nil {
		t.Error(err)
	}
}

func TestWrongFiles(t *testing.T) {
	t.Parallel()
	f := newFiles(t)
	f.write(pki(t, "server", x509.ExtKeyUsageServerAuth), pki(t, "client", x509.ExtKeyUsageClientAuth))
	for name, files := range map[string]tlsfiles.Files{
		"no key": {Cert: f.Cert}, "no certificate": {Key: f.Key}, "missing": {Cert: f.Cert + "x", Key: f.Key},
		"key in place of the CA": {Cert: f.Cert, Key: f.Key, ClientCA: f.Key}, "CA missing": {Cert: f.Cert, Key: f.Key, ClientCA: f.ClientCA + "x"},
	} {
		if _, err := tlsfiles.New(files); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// TestHeld serves certificates that come later, and asks clients for theirs.
func TestHeld(t *testing.T) {
	t.Parallel()
	first, second, friend := pki(t, "first", x509.ExtKeyUsageServerAuth), pki(t, "second", x509.ExtKeyUsageServerAuth), pki(t, "friend", x509.ExtKeyUsageClientAuth)
	s, err := tlsfiles.Held("")
	if err != nil {
		t.Fatal(err)
	}
	s.AskClients()
	url := serve(t, s)
	if err := get(client(nil, 0, first), url); err == nil {
		t.Error("it answers without a certificate")
	}
	if _, err := s.Leaf(); err == nil {
		t.Error("it has a certificate")
	}
	for _, c := range []*testca.Chain{first, second} {
		if err := s.Use(tls.Certificate{Certificate: c.Raw(), PrivateKey: c.Leaf().Key}); err != nil {
			t.Fatal(err)
		}
		for _, who := range []*testca.Chain{nil, friend} { // each is decided about later
			if err := get(client(who, 0, c), url); err != nil {
				t.Error(err)
			}
		}
	}
	if err := get(client(nil, 0, first), url); err == nil {
		t.Error("the first certificate is still served")
	}
}

func TestHeldWithClientCA(t *testing.T) {
	t.Parallel()
	server, friend, stranger := pki(t, "server", x509.ExtKeyUsageServerAuth), pki(t, "friend", x509.ExtKeyUsageClientAuth), pki(t, "stranger", x509.ExtKeyUsageClientAuth)
	f := newFiles(t)
	f.write(server, friend)
	s, err := tlsfiles.Held(f.ClientCA)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Use(tls.Certificate{Certificate: server.Raw(), PrivateKey: server.Leaf().Key}); err != nil {
		t.Fatal(err)
	}
	url := serve(t, s)
	check := func(in, out *testca.Chain) {
		t.Helper()
		if err := get(client(in, 0, server), url); err != nil {
			t.Error(err)
		}
		for _, c := range []*testca.Chain{nil, out} {
			if get(client(c, 0, server), url) == nil {
				t.Error("whoever has no certificate of the CA gets in")
			}
		}
	}
	check(friend, stranger)
	f.write(server, stranger)
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	check(stranger, friend)
	if err := os.WriteFile(f.ClientCA, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s.Reload() == nil || s.Use(tls.Certificate{Certificate: server.Raw(), PrivateKey: server.Leaf().Key}) == nil {
		t.Error("no CA at all was taken")
	}
	check(stranger, friend)
	if _, err := tlsfiles.Held(f.ClientCA); err == nil {
		t.Error("it begins with no CA at all")
	}
}
