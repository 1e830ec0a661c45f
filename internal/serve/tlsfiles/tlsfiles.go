// Package tlsfiles makes a TLS server's configuration of files, and of their successors without a restart.
package tlsfiles

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Files name a certificate chain with its key, and the CAs of clients; all PEM.
type Files struct {
	Cert, Key string
	// ClientCA, where set, makes a client certificate of one of its CAs a
	// condition for every connection.
	ClientCA string
}

// Paths lists the files that are set.
func (f Files) Paths() []string {
	var out []string
	for _, p := range []string{f.Cert, f.Key, f.ClientCA} {
		if p != "" {
			out = append(out, p)
		}
	}
	return out
}

// Server is a TLS 1.3 configuration that can be reloaded under load: connections
// that are open keep what they began with.
type Server struct {
	files   Files
	ask     bool       // AskClients
	mu      sync.Mutex // for changes
	held    *tls.Certificate
	current atomic.Pointer[tls.Config]
}

// New loads the files. Their content must be right: there is nothing to fall
// back on yet.
func New(f Files) (*Server, error) {
	if (f.Cert == "") != (f.Key == "") {
		return nil, errors.New("a certificate and its key belong together")
	}
	s := &Server{files: f}
	return s, s.Reload()
}

// Reload reads the files again. On an error the configuration before stays.
func (s *Server) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files.Cert == "" {
		return s.apply(s.held)
	}
	c, err := tls.LoadX509KeyPair(s.files.Cert, s.files.Key)
	if err != nil {
		return fmt.Errorf("server certificate: %w", err)
	}
	return s.apply(&c)
}

// apply puts a certificate in force, with the client CAs as they are now; nil is
// none yet.
func (s *Server) apply(c *tls.Certificate) error {
	cfg, err := serverConfig(c, s.files.ClientCA, s.ask)
	if err != nil || c == nil {
		return err
	}
	s.current.Store(cfg)
	return nil
}

// Held makes a Server whose certificate comes by Use: until then no connection
// succeeds. clientCA is as in Files.
func Held(clientCA string) (*Server, error) {
	s := &Server{files: Files{ClientCA: clientCA}}
	return s, s.Reload()
}

// Use puts a certificate in force. Where the client CAs have become unreadable, it
// stays what it was: Reload puts both in force when they are mended.
func (s *Server) Use(c tls.Certificate) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = &c
	return s.apply(&c)
}

// AskClients asks for a client certificate without demanding one: what it is good
// for is decided at each request. It changes nothing where a client CA makes one a
// condition. It is for the beginning, before connections come.
func (s *Server) AskClients() {
	s.ask = true
	if cfg := s.current.Load(); cfg != nil && cfg.ClientAuth == tls.NoClientCert {
		cfg = cfg.Clone()
		cfg.ClientAuth = tls.RequestClientCert
		s.current.Store(cfg)
	}
}

// SelfSigned makes a certificate of its own for the given names, for a first
// try. clientCA may be "".
func SelfSigned(names []string, clientCA string, now time.Time) (*Server, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "boltseal (self-signed)"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cfg, err := serverConfig(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, clientCA, false)
	if err != nil {
		return nil, err
	}
	s := &Server{}
	s.current.Store(cfg)
	return s, nil
}

func serverConfig(c *tls.Certificate, clientCA string, ask bool) (*tls.Config, error) {
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2", "http/1.1"},
	}
	if c != nil {
		cfg.Certificates = []tls.Certificate{*c}
	}
	if ask {
		// No CAs are named: a client would keep a certificate to itself whose CA
		// has just been changed.
		cfg.ClientAuth = tls.RequestClientCert
	}
	if clientCA != "" {
		b, err := os.ReadFile(clientCA)
		if err != nil {
			return nil, fmt.Errorf("client CA: %w", err)
		}
		cfg.ClientCAs = x509.NewCertPool()
		if !cfg.ClientCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("client CA: %s has no certificate", clientCA)
		}
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return cfg, nil
}

// Config is for a listener. Each connection gets the configuration of its moment,
// with its own session tickets: what an old client CA let in is not resumed
// under a new one.
func (s *Server) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			c := s.current.Load()
			if c == nil {
				return nil, errNone
			}
			return c, nil
		},
	}
}

// OpenConfig is Config for whoever proves in another way who they are: it asks no client for a
// certificate.
func (s *Server) OpenConfig() *tls.Config {
	out := s.Config()
	out.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		c := s.current.Load()
		if c == nil {
			return nil, errNone
		}
		c = c.Clone()
		c.ClientAuth, c.ClientCAs, c.VerifyPeerCertificate, c.VerifyConnection = tls.NoClientCert, nil, nil, nil
		return c, nil
	}
	return out
}

var errNone = errors.New("there is no server certificate yet")

// Leaf is the certificate in force.
func (s *Server) Leaf() (*x509.Certificate, error) {
	cfg := s.current.Load()
	if cfg == nil {
		return nil, errNone
	}
	c := cfg.Certificates[0]
	if c.Leaf != nil {
		return c.Leaf, nil
	}
	return x509.ParseCertificate(c.Certificate[0])
}
