package tracing

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
)

// Errors of [TLSFiles]; they never say what is in a file, nor what it is called.
var (
	errNoCA   = errors.New("the file has no PEM certificates that can be read")
	errNoPair = errors.New("the files are not a PEM certificate and its key")
)

// TLSFiles are PEM files for connections to the collector: the CAs of its certificate ("" for the system's), and the
// client certificate that is shown to it with its key ("" for none). They are read again before each export, so that a
// renewed certificate needs no restart.
type TLSFiles struct{ CA, Cert, Key string }

// read returns the configuration that the files make, and what is in them.
func (f TLSFiles) read() (c *tls.Config, content [][]byte, err error) {
	c = &tls.Config{MinVersion: tls.VersionTLS12}
	content = make([][]byte, 3)
	var errs [3]error
	for i, name := range []string{f.CA, f.Cert, f.Key} {
		if name != "" {
			content[i], errs[i] = boundedFile(name)
		}
	}
	if f.CA != "" {
		c.RootCAs = x509.NewCertPool()
		if errs[0] != nil || !c.RootCAs.AppendCertsFromPEM(content[0]) {
			err = errNoCA
		}
	}
	if f.Cert != "" || f.Key != "" {
		pair, pairErr := tls.X509KeyPair(content[1], content[2])
		if errs[1] != nil || errs[2] != nil || pairErr != nil {
			err = errors.Join(err, errNoPair)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, content, err
}

// boundedFile reads a file of at most maxTLSFileBytes.
func boundedFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxTLSFileBytes+1))
	if err == nil && len(b) > maxTLSFileBytes {
		err = fmt.Errorf("more than %d bytes", maxTLSFileBytes)
	}
	return b, err
}

// renewing is a transport whose TLS files are read again before each request. While they cannot be read, the last good
// ones are used, and the log says so once.
type renewing struct {
	files TLSFiles
	with  func(*tls.Config) *http.Transport
	log   *slog.Logger

	mu      sync.Mutex
	content [][]byte
	current *http.Transport
	failing bool
}

// RoundTrip implements http.RoundTripper.
func (r *renewing) RoundTrip(req *http.Request) (*http.Response, error) {
	t, err := r.transport()
	if err != nil {
		return nil, err
	}
	return t.RoundTrip(req)
}

func (r *renewing) transport() (*http.Transport, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, content, err := r.files.read()
	switch {
	case err != nil && r.current == nil:
		return nil, err
	case err != nil:
		if !r.failing {
			r.log.Warn("the collector's TLS files cannot be read, the last good ones are used", "error", err)
		}
		r.failing = true
	case r.current == nil || !slices.EqualFunc(content, r.content, bytes.Equal):
		if r.current != nil {
			r.current.CloseIdleConnections() // the next request is made with the new files
		}
		r.current, r.content, r.failing = r.with(c), content, false
	default:
		r.failing = false
	}
	return r.current, nil
}

// newClient asks the collector, and nobody that it names: the headers are for it alone.
func newClient(c *Config, log *slog.Logger) *http.Client {
	with := func(t *tls.Config) *http.Transport {
		return &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: t, ForceAttemptHTTP2: true, MaxIdleConns: 2, MaxConnsPerHost: 2,
			IdleConnTimeout: time.Minute, TLSHandshakeTimeout: c.Timeout, ResponseHeaderTimeout: c.Timeout, MaxResponseHeaderBytes: 32 << 10}
	}
	return &http.Client{Timeout: c.Timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &renewing{files: c.TLS, with: with, log: log}}
}
