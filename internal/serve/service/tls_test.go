package service_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/serve/tlsfiles"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

func certificate(t *testing.T, eku x509.ExtKeyUsage) *testca.Chain {
	t.Helper()
	return testca.Test(t, testca.Options{Leaf: testca.Spec{EKU: []x509.ExtKeyUsage{eku}, Mutate: func(c *x509.Certificate) {
		c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}}})
}

func writeTLS(t *testing.T, f tlsfiles.Files, server, client *testca.Chain) {
	t.Helper()
	for name, b := range map[string][]byte{f.Cert: server.PEM(), f.Key: testhouse.Need(testca.KeyPEM(server.Leaf().Key))(t), f.ClientCA: client.Root().PEM()} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTLSIsReloadedUnderLoad(t *testing.T) {
	t.Parallel()
	d := t.TempDir()
	f := tlsfiles.Files{Cert: filepath.Join(d, "tls.crt"), Key: filepath.Join(d, "tls.key"), ClientCA: filepath.Join(d, "ca.crt")}
	first, second, client := certificate(t, x509.ExtKeyUsageServerAuth), certificate(t, x509.ExtKeyUsageServerAuth), certificate(t, x509.ExtKeyUsageClientAuth)
	writeTLS(t, f, first, client)
	r := start(t, testhouse.Options{}, service.Options{TLS: f}, policy("prod", ""))
	tag, _ := r.Signed("v", r.Signer)
	roots := x509.NewCertPool()
	roots.AddCert(first.Root().Certificate)
	roots.AddCert(second.Root().Certificate)
	with := func(certs ...tls.Certificate) *http.Client {
		return &http.Client{Timeout: testwait.Patience, Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certs}}}
	}
	if _, err := with().Post(r.base+server.PathValidate, "application/json", nil); err == nil {
		t.Fatal("no client certificate, and it got in")
	}
	own := tls.Certificate{Certificate: client.Raw(), PrivateKey: client.Leaf().Key}
	r.client = with(own)
	var quit, renewed atomic.Bool
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !quit.Load() {
				if !r.validate("team", tag).Allowed {
					t.Error("a request failed")
					return
				}
			}
		})
	}
	writeTLS(t, f, second, client)
	eventually(t, "the new certificate", func() bool {
		c := with(own)
		resp, err := c.Post(r.base+server.PathValidate, "application/json", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		c.CloseIdleConnections()
		renewed.Store(resp.TLS.PeerCertificates[0].Equal(second.Leaf().Certificate))
		return renewed.Load()
	})
	quit.Store(true)
	wg.Wait()
}

func TestPlainHTTPIsForLoopback(t *testing.T) {
	t.Parallel()
	for _, o := range []service.Options{
		{Listen: "0.0.0.0:0", InsecureHTTP: true}, {Listen: ":0", InsecureHTTP: true}, {Listen: "127.0.0.1:0"},
	} {
		o.Files = []string{"none"}
		if s, err := service.New(o); !errors.Is(err, boltseal.ErrConfiguration) || s != nil {
			t.Errorf("%+v: %v", o.Listen, err)
		}
	}
}
