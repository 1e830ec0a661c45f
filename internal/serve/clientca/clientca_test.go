package clientca_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/serve/clientca"
	"github.com/boltseal/boltseal/internal/test/testca"
)

// pki is a CA with an intermediate and a certificate for clients.
func pki(t *testing.T, eku x509.ExtKeyUsage) *testca.Chain {
	t.Helper()
	return testca.Test(t, testca.Options{Intermediates: []testca.Spec{{}}, Leaf: testca.Spec{Mutate: func(c *x509.Certificate) {
		c.ExtKeyUsage, c.ExtraExtensions = []x509.ExtKeyUsage{eku}, nil
	}}})
}

func shows(c *testca.Chain) *tls.ConnectionState {
	certs := c.X509()
	return &tls.ConnectionState{PeerCertificates: certs[:len(certs)-1]}
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func refused(t *testing.T, c *clientca.Clients, s *tls.ConnectionState, words string) {
	t.Helper()
	err := c.Check(s)
	if !errors.Is(err, clientca.ErrNotLetIn) || !strings.Contains(err.Error(), words) || !strings.Contains(err.Error(), "Secret x/y") {
		t.Errorf("%v, not %q", err, words)
	}
}

func letIn(t *testing.T, c *clientca.Clients, s *tls.ConnectionState) {
	t.Helper()
	for range 2 { // the second time from memory
		if err := c.Check(s); err != nil {
			t.Error(err)
		}
	}
}

func TestWhoIsLetIn(t *testing.T) {
	t.Parallel()
	now := &clock{now: time.Now()}
	c := clientca.New(clientca.Options{Source: "Secret x/y", Clock: now.time})
	friend, stranger, server := pki(t, x509.ExtKeyUsageClientAuth), pki(t, x509.ExtKeyUsageClientAuth), pki(t, x509.ExtKeyUsageServerAuth)
	refused(t, c, shows(friend), "nobody may ask here until there are CAs")
	if changed, err := c.Set(friend.Root().PEM()); err != nil || !changed {
		t.Fatal(changed, err)
	}
	if changed, err := c.Set(friend.Root().PEM()); err != nil || changed {
		t.Errorf("the same again: %t, %v", changed, err)
	}
	letIn(t, c, shows(friend))
	refused(t, c, nil, "show a client certificate")
	refused(t, c, &tls.ConnectionState{}, "show a client certificate")
	refused(t, c, shows(stranger), "unknown authority")
	letIn(t, c, shows(friend))
	refused(t, c, &tls.ConnectionState{PeerCertificates: stranger.X509()[:1]}, "unknown authority")
	if _, err := c.Set(server.Root().PEM()); err != nil {
		t.Fatal(err)
	}
	refused(t, c, shows(server), "usage")
	// What was let in is not when its certificate has expired.
	letIn(t, c, shows(friend))
	now.add(20 * 365 * 24 * time.Hour)
	refused(t, c, shows(friend), "not good")
}

func TestOverlap(t *testing.T) {
	t.Parallel()
	now := &clock{now: time.Now()}
	c := clientca.New(clientca.Options{Source: "Secret x/y", Overlap: time.Minute, Clock: now.time})
	old, next, last := pki(t, x509.ExtKeyUsageClientAuth), pki(t, x509.ExtKeyUsageClientAuth), pki(t, x509.ExtKeyUsageClientAuth)
	for i, ca := range []*testca.Chain{old, next, last} {
		if _, err := c.Set(ca.Root().PEM()); err != nil {
			t.Fatal(i, err)
		}
		now.add(20 * time.Second)
	}
	letIn(t, c, shows(old)) // changed 40 s ago
	letIn(t, c, shows(next))
	letIn(t, c, shows(last))
	letIn(t, c, shows(old)) // and remembered
	now.add(20 * time.Second)
	refused(t, c, shows(old), "unknown authority")
	letIn(t, c, shows(next))
	now.add(time.Hour)
	refused(t, c, shows(next), "unknown authority")
	letIn(t, c, shows(last))
	// Back to one from before is no change of what it is good for.
	if _, err := c.Set(old.Root().PEM()); err != nil {
		t.Fatal(err)
	}
	now.add(time.Hour)
	letIn(t, c, shows(old))

	strict := clientca.New(clientca.Options{Source: "Secret x/y", Overlap: -1, Clock: now.time})
	for _, ca := range []*testca.Chain{old, next} {
		if _, err := strict.Set(ca.Root().PEM()); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, strict, shows(old), "unknown authority")
}

func TestBrokenCAs(t *testing.T) {
	t.Parallel()
	c := clientca.New(clientca.Options{Source: "Secret x/y"})
	friend := pki(t, x509.ExtKeyUsageClientAuth)
	if _, err := c.Set(friend.Root().PEM()); err != nil {
		t.Fatal(err)
	}
	key, err := testca.KeyPEM(friend.Leaf().Key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "no PEM": []byte("x"), "a key": append(friend.Root().PEM(), key...),
		"half": []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "too much": make([]byte, 2<<20),
	} {
		if changed, err := c.Set(b); err == nil || changed || !strings.Contains(err.Error(), "Secret x/y") {
			t.Errorf("%s: %t, %v", name, changed, err)
		}
	}
	letIn(t, c, shows(friend))
}
