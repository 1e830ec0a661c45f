package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"testing"
	"time"
)

const serverName = "boltseal." + system + ".svc"

// seen are the certificates that callers met.
type seen struct {
	mu              sync.Mutex
	leafs, issuers  map[string]bool
	shakes, bundles int
}

// shake connects to a replica as the API server would that trusts what the webhook configuration says now. A caller that
// was slower than a new CA's announcement has not been promised anything.
func (s *seen) shake(ctx context.Context, r *replica) error {
	begin := time.Now()
	_, v, err := configurations(ctx)
	if err != nil {
		return err
	}
	bundle := v.Webhooks[0].ClientConfig.CABundle
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return fmt.Errorf("the caBundle holds no certificate: %q", bundle)
	}
	d := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: serverName}}
	c, err := d.DialContext(ctx, "tcp", r.address)
	switch {
	case err != nil && time.Since(begin) > announcement:
		return nil
	case err != nil:
		return fmt.Errorf("%s, %d CAs: %w", r.name, authorities(bundle), err)
	}
	defer c.Close()
	leaf := c.(*tls.Conn).ConnectionState().PeerCertificates[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leafs[string(leaf.Raw)], s.issuers[leaf.Issuer.CommonName] = true, true
	s.shakes++
	s.bundles = max(s.bundles, authorities(bundle))
	return nil
}

// announcement is how long a CA is announced before it is used: longer than the API server takes to hear of it.
const announcement = 10 * time.Second

// TestRotation renews certificates and CAs again and again while Pods are created, and while callers connect anew. It asks
// for each renewal: that they come by themselves as well is a test of package servingcert, which has a clock of its own.
func TestRotation(t *testing.T) {
	const authoritiesToSee = 4
	settled(t)
	signed, _ := image("signed", signer)
	ns := namespace(t, "prod")
	roll(t, "--tls-ca-announce", announcement.String())
	s := &seen{leafs: map[string]bool{}, issuers: map[string]bool{}}
	// More at a time than the API server keeps connections open, so that it makes new ones all the time.
	connections := front.accepted.Load()
	stop := load(t, 30, ns, signed)
	shaking, quit := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, r := range standing {
		wg.Go(func() {
			for shaking.Err() == nil {
				if err := s.shake(context.WithoutCancel(shaking), r); err != nil {
					t.Error(err)
					return
				}
				time.Sleep(20 * time.Millisecond) // waits: the pace of those who connect
			}
		})
	}
	begin := time.Now()
	for n := 2; n <= authoritiesToSee; n++ {
		renew(t, "authority")
		eventually(t, fmt.Sprint("callers meet certificates of ", n, " CAs"), func() error {
			s.mu.Lock()
			defer s.mu.Unlock()
			return want(len(s.issuers) >= n, "%d", len(s.issuers))
		})
	}
	leafs := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.leafs)
	}
	before := leafs()
	renew(t, "certificate")
	eventually(t, "callers meet the certificate that was asked for", func() error { return want(leafs() > before, "%d certificates", leafs()) })
	quit()
	wg.Wait()
	created := stop()
	t.Logf("%s: %d creates over %d connections, %d handshakes; %d CAs, %d certificates, at most %d CAs in a bundle", time.Since(begin).Round(time.Second),
		created, front.accepted.Load()-connections, s.shakes, len(s.issuers), len(s.leafs), s.bundles)
	if len(s.issuers) < authoritiesToSee || len(s.leafs) <= authoritiesToSee || s.bundles < 2 || created < 100 {
		t.Error("too little was renewed or created")
	}
	roll(t)
}

// renew asks for a renewal as an administrator does, and waits until it is under way.
func renew(t *testing.T, what string) {
	t.Helper()
	eventually(t, "asking to renew the "+what, func() error {
		sec, err := secret(t.Context())
		if err != nil {
			return err
		}
		if sec.Annotations == nil {
			sec.Annotations = map[string]string{}
		}
		sec.Annotations["boltseal.dev/renew"] = what
		return cluster.Client().Update(t.Context(), sec)
	})
	eventually(t, "the renewal of the "+what, func() error {
		sec, err := secret(t.Context())
		if err != nil {
			return err
		}
		return want(sec.Annotations["boltseal.dev/renew"] == "", "nobody has looked")
	})
}
