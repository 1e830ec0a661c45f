package tracing

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

// TestACollectorsNewCAIsReadWithoutARestart: a collector gets a certificate of another CA, and exports go on as soon as the
// file has that CA; while the file cannot be read, the last good CAs are used, and the log says so once.
func TestACollectorsNewCAIsReadWithoutARestart(t *testing.T) {
	t.Parallel()
	chain := func(name string) *testca.Chain {
		return testca.Test(t, testca.Options{Leaf: testca.Spec{Subject: testca.Subject(name), Mutate: func(c *x509.Certificate) {
			c.IPAddresses, c.ExtKeyUsage, c.ExtraExtensions = []net.IP{net.IPv4(127, 0, 0, 1)}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, nil
		}}})
	}
	before, after := chain("before"), chain("after")
	var shown atomic.Pointer[testca.Chain]
	shown.Store(before)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // it says when it is not trusted, as it has to be
	s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		c := shown.Load()
		return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: c.Raw(), PrivateKey: c.Leaf().Key}}}, nil
	}}
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.crt")
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(ca, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	c := newClient(&Config{TLS: TLSFiles{CA: ca}, Timeout: testwait.Patience}, slog.New(slog.NewTextHandler(&log, nil)))
	ask := func() error {
		resp, err := c.Get(s.URL)
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	write(before.Root().PEM())
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	write([]byte("no certificate"))
	for range 2 {
		if err := ask(); err != nil {
			t.Errorf("the last good CA is not used: %v", err)
		}
	}
	if n := strings.Count(log.String(), "last good"); n != 1 || strings.Contains(log.String(), ca) {
		t.Errorf("the log says it %d times: %s", n, log.String())
	}
	shown.Store(after)
	s.CloseClientConnections()
	write(before.Root().PEM())
	if err := ask(); err == nil {
		t.Error("a certificate of a CA that is in no file is trusted")
	}
	write(after.Root().PEM())
	if err := ask(); err != nil {
		t.Errorf("the new CA is not read: %v", err)
	}
	write(before.Root().PEM())
	if err := ask(); err == nil {
		t.Error("a CA that was taken out of the file is trusted")
	}
}
