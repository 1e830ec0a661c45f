// Package clientca decides by certificates who may ask, by CAs that change without a restart.
package clientca

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultOverlap is how long the certificates of CAs before the last change are
// still taken: a Secret that is mounted as files reaches its Pods a minute or two
// after it has changed.
const DefaultOverlap = 15 * time.Minute

// Limits on what is read.
const (
	maxBytes    = 1 << 20
	maxPrevious = 4
)

// ErrNotLetIn is wrapped by what Check answers.
var ErrNotLetIn = errors.New("not let in")

// Options make Clients.
type Options struct {
	// Source says for people where the CAs come from: "Secret x/y, ca.crt".
	Source string
	// Overlap is how long the CAs before a change are still good. 0 means
	// DefaultOverlap, less than 0 not at all.
	Overlap time.Duration
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
}

// Clients are those who have a certificate of one of the CAs. It begins with none,
// and lets nobody in. It is safe for concurrent use.
type Clients struct {
	o       Options
	mu      sync.Mutex // for Set
	current atomic.Pointer[generation]
}

// generation are the CAs of a moment.
type generation struct {
	pem      []byte
	pools    []pool // the current one, then those before
	accepted atomic.Pointer[accepted]
}

type pool struct {
	pem   []byte
	roots *x509.CertPool
	until time.Time // zero: for as long as the generation
}

// accepted is the last certificate that was found good: there are few clients, and
// each of their requests asks.
type accepted struct {
	raw   []byte
	until time.Time
}

// New makes Clients.
func New(o Options) *Clients {
	if o.Overlap == 0 {
		o.Overlap = DefaultOverlap
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return &Clients{o: o}
}

// Set puts CAs in force, in PEM. On an error those before stay. changed tells
// whether they are others than before.
func (c *Clients) Set(b []byte) (changed bool, err error) {
	if len(b) > maxBytes {
		return false, fmt.Errorf("%s: more than %d bytes", c.o.Source, maxBytes)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.current.Load()
	if old != nil && bytes.Equal(old.pem, b) {
		return false, nil
	}
	roots, err := readCertificates(b)
	if err != nil {
		return false, fmt.Errorf("%s: %w", c.o.Source, err)
	}
	g := &generation{pem: bytes.Clone(b), pools: []pool{{pem: b, roots: roots}}}
	if old != nil && c.o.Overlap > 0 {
		now := c.o.Clock()
		for _, p := range old.pools {
			if p.until.IsZero() {
				p.until = now.Add(c.o.Overlap)
			}
			if now.Before(p.until) && len(g.pools) <= maxPrevious && !bytes.Equal(p.pem, b) {
				g.pools = append(g.pools, p)
			}
		}
	}
	c.current.Store(g)
	return true, nil
}

// readCertificates takes certificates only: a key that is pasted among them is an accident
// that should be noticed.
func readCertificates(b []byte) (*x509.CertPool, error) {
	roots, n := x509.NewCertPool(), 0
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it contains a %.40q, not certificates only", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be read", n+1)
		}
		roots.AddCert(cert)
		n++
	}
	if n == 0 {
		return nil, errors.New("it contains no certificate in PEM")
	}
	return roots, nil
}

// Check reports whether whoever is at the other end may ask: nil, or an error that
// wraps ErrNotLetIn and says what is missing. A connection without TLS is nobody's.
func (c *Clients) Check(state *tls.ConnectionState) error {
	g := c.current.Load()
	switch {
	case g == nil:
		return fmt.Errorf("%w: nobody may ask here until there are CAs of clients in %s", ErrNotLetIn, c.o.Source)
	case state == nil || len(state.PeerCertificates) == 0:
		return fmt.Errorf("%w: show a client certificate of a CA in %s", ErrNotLetIn, c.o.Source)
	}
	chain, now := state.PeerCertificates, c.o.Clock()
	if last := g.accepted.Load(); last != nil && now.Before(last.until) && bytes.Equal(last.raw, chain[0].Raw) {
		return nil
	}
	intermediates := x509.NewCertPool()
	for _, cert := range chain[1:] {
		intermediates.AddCert(cert)
	}
	var first error
	for _, p := range g.pools {
		if !p.until.IsZero() && !now.Before(p.until) {
			continue
		}
		chains, err := chain[0].Verify(x509.VerifyOptions{Roots: p.roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if err == nil {
			g.accepted.Store(&accepted{raw: chain[0].Raw, until: chainExpiry(chains[0], p.until)})
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return fmt.Errorf("%w: the client certificate is not good by the CAs in %s: %s", ErrNotLetIn, c.o.Source, truncateText(first.Error()))
}

// chainExpiry is when a chain stops being good.
func chainExpiry(chain []*x509.Certificate, until time.Time) time.Time {
	for _, cert := range chain {
		if until.IsZero() || cert.NotAfter.Before(until) {
			until = cert.NotAfter
		}
	}
	return until
}

// truncateText bounds what a client's certificate can make us say.
func truncateText(s string) string {
	const most = 300
	return s[:min(len(s), most)]
}
