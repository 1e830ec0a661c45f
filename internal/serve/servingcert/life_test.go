package servingcert

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestRenewalComesByItself runs a replica for two days, in which nobody asks for anything: it serves no certificate whose
// last third has begun, and what it served before is trusted for as long as it was valid, and no longer.
func TestRenewalComesByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		life := lifetimes(t, Lifetimes{Authority: 9 * hour, Certificate: 3 * hour, Announce: time.Minute})
		const look = 10 * time.Minute
		var mu sync.Mutex // of what follows
		var served *x509.Certificate
		leafs, ends := 0, map[string]time.Time{} // of the last certificate of each CA
		var since time.Time
		var k *Keeper
		var err error
		k, err = New(Options{Client: newClient(t), Namespace: testNamespace, Secret: testSecret, Names: svcNames, Lifetimes: life,
			Announced: func(*x509.Certificate) (time.Time, bool) {
				mu.Lock()
				defer mu.Unlock()
				return since, true
			},
			Changed: func() {
				mu.Lock()
				defer mu.Unlock()
				since = time.Now()
			},
			Use: func(c tls.Certificate) {
				mu.Lock()
				defer mu.Unlock()
				served = c.Leaf
				leafs++
				ends[c.Leaf.Issuer.CommonName] = c.Leaf.NotAfter
			}})
		if err != nil {
			t.Fatal(err)
		}
		go k.Run(ctx, ctx)
		begin := time.Now()
		check := func() {
			mu.Lock()
			defer mu.Unlock()
			now := time.Now()
			if served == nil || now.After(served.NotAfter.Add(look-life.Certificate/3)) {
				t.Fatalf("after %s it serves %v", now.Sub(begin), served)
			}
			trusted := map[string]bool{}
			for _, ca := range readBundle(t, k.Bundle()) {
				trusted[ca.Subject.CommonName] = true
			}
			for name, until := range ends {
				if now.Before(until) && !trusted[name] {
					t.Fatalf("after %s the CA %s is not trusted, of which a certificate is valid until %s", now.Sub(begin), name, until)
				}
				if now.After(until.Add(look)) && trusted[name] {
					t.Fatalf("after %s the CA %s is trusted, whose last certificate ended %s", now.Sub(begin), name, until)
				}
			}
		}
		for time.Since(begin) < 48*hour {
			time.Sleep(look) // waits: two days of the bubble's clock
			synctest.Wait()
			check()
		}
		stop()
		synctest.Wait()
		if leafs < 20 || len(ends) < 8 {
			t.Errorf("%d certificates of %d CAs", leafs, len(ends))
		}
	})
}
