package notation

import (
	"bytes"
	"crypto/x509"
	"sync"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/trust"
)

// TestTimeIsAskedAnew although the chain is known.
func TestTimeIsAskedAnew(t *testing.T) {
	t.Parallel()
	chain := timedChain(t)
	s := setup{statement: statementOf(), stores: []*trust.Store{store(t, trust.TypeCA, "release", chain)}, chains: NewChainCache(0)}
	env := sign(t, chain, testca.SignOptions{SigningTime: start.Add(day)})
	for _, c := range []struct {
		now  time.Time
		want boltseal.Cause
	}{{start.Add(day), ""}, {start.Add(-day), boltseal.CauseCertificateExpired}, {end.Add(day), boltseal.CauseCertificateExpired}, {end, ""}} {
		s.now = c.now
		expectCause(t, verify(t, s.verifier(t), env), c.want)
		if n, _ := s.chains.certs.Usage(); n != 3 {
			t.Errorf("%d certificates are known, want 3", n)
		}
	}
}

// TestStoresShareNoVerdict: verifiers that share a cache and trust different
// roots judge the same bytes differently, at the same time.
func TestStoresShareNoVerdict(t *testing.T) {
	t.Parallel()
	cache := NewChainCache(0)
	chains := []*testca.Chain{testca.Test(t, testca.Options{Intermediates: []testca.Spec{{}}}), testca.Test(t, testca.Options{Intermediates: []testca.Spec{{}}})}
	var verifiers []*Verifier
	var envelopes []testca.Envelope
	for _, c := range chains {
		verifiers = append(verifiers, setup{statement: statementOf(), stores: []*trust.Store{store(t, trust.TypeCA, "release", c)}, chains: cache}.verifier(t))
		envelopes = append(envelopes, sign(t, c, testca.SignOptions{}))
	}
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 20 {
				v, e := (g+i)%2, (g+i/2)%2
				ev, err := verifiers[v].Verify(t.Context(), subject(t), candidate(envelopes[e]))
				if err != nil || (ev.Outcome == boltseal.Verified) != (v == e) {
					t.Errorf("verifier %d, signer %d: %v, %+v, %v", v, e, ev.Outcome, ev.Reason, err)
				}
			}
		})
	}
	all.Wait()
	if certs, _ := cache.certs.Usage(); certs != 6 {
		t.Errorf("%d certificates are known, want 6", certs)
	}
	if links, _ := cache.links.Usage(); links != 6 {
		t.Errorf("%d links are known, want 6", links)
	}
}

// TestStrangersFillNoCache: neither what is malformed nor what nobody trusts.
func TestStrangersFillNoCache(t *testing.T) {
	t.Parallel()
	chain, stranger := testca.Test(t, testca.Options{}), testca.Test(t, testca.Options{})
	cache := NewChainCache(0)
	for _, l := range []string{"strict", "audit"} {
		v := setup{statement: statementOf(level(l)), stores: []*trust.Store{store(t, trust.TypeCA, "release", chain)}, chains: cache}.verifier(t)
		verify(t, v, sign(t, stranger, testca.SignOptions{}))
		verify(t, v, tampered(t, chain))
	}
	certs, _ := cache.certs.Usage()
	links, _ := cache.links.Usage()
	if certs+links > 0 {
		t.Errorf("%d certificates and %d links", certs, links)
	}
}

// TestKnownChainsHideNoBadOnes: bad chains are refused although their good parts
// are known.
func TestKnownChainsHideNoBadOnes(t *testing.T) {
	t.Parallel()
	good := testca.Test(t, testca.Options{Intermediates: []testca.Spec{{}}})
	other := testca.Test(t, testca.Options{Intermediates: []testca.Spec{{Subject: good.Certs[1].Subject}}, Root: testca.Spec{Subject: good.Root().Subject}})
	forged := testca.Test(t, testca.Options{Leaf: testca.Spec{Subject: good.Leaf().Subject}, Intermediates: []testca.Spec{{Subject: good.Certs[1].Subject}}, Root: testca.Spec{Subject: good.Root().Subject}})
	cache := NewChainCache(0)
	v := setup{statement: statementOf(), stores: []*trust.Store{store(t, trust.TypeCA, "release", good), store(t, trust.TypeCA, "other", other)}, chains: cache}.verifier(t)
	expectCause(t, verify(t, v, sign(t, good, testca.SignOptions{})), "")
	cache.keep(other.X509())
	for name, chain := range map[string]*testca.Chain{
		"leaf of another CA":         other.WithCerts(other.Leaf(), good.Certs[1], good.Root()),
		"intermediate of another CA": other.WithCerts(other.Leaf(), other.Certs[1], good.Root()),
		"forged leaf":                forged.WithCerts(forged.Leaf(), good.Certs[1], good.Root()),
		"root left out":              good.WithCerts(good.Leaf(), good.Certs[1]),
		"intermediate left out":      good.WithCerts(good.Leaf(), good.Root()),
		"intermediate as the signer": good.WithCerts(good.Certs[1], good.Root()),
		"another, untrusted chain":   other,
	} {
		ev := verify(t, v, sign(t, chain, testca.SignOptions{Unchecked: true}))
		if ev.Outcome != boltseal.Rejected {
			t.Errorf("%s: %v", name, ev.Outcome)
		}
	}
	// One bit in a known leaf makes another certificate.
	raw := good.Raw()
	raw[0] = bytes.Clone(raw[0])
	raw[0][len(raw[0])-1] ^= 1
	if ev := verify(t, v, sign(t, good, testca.SignOptions{Unchecked: true, Chain: raw})); ev.Reason.Cause != boltseal.CauseBadCertificate && ev.Reason.Cause != boltseal.CauseMalformed {
		t.Errorf("%+v", ev.Reason)
	}
}

// TestKnownForOnePurposeOnly: a link proves a signature, and no purpose.
func TestKnownForOnePurposeOnly(t *testing.T) {
	t.Parallel()
	cache := NewChainCache(0)
	stamping := testca.Test(t, testca.Options{Timestamping: true}).X509()
	if err := cache.checkChain(t.Context(), stamping, x509.ExtKeyUsageTimeStamping); err != nil {
		t.Fatal(err)
	}
	cache.keepLinks(stamping)
	if err := cache.checkChain(t.Context(), stamping, x509.ExtKeyUsageCodeSigning); err == nil {
		t.Error("a timestamp authority signs images")
	}
	signing := testca.Test(t, testca.Options{}).X509()
	cache.keep(signing)
	if err := cache.checkChain(t.Context(), signing, x509.ExtKeyUsageTimeStamping); err == nil {
		t.Error("a signer stamps time")
	}
}

// TestChainCacheIsBounded: what does not fit is forgotten, and judged again.
func TestChainCacheIsBounded(t *testing.T) {
	t.Parallel()
	const bytes = 256 << 10
	cache := NewChainCache(bytes)
	root := testca.Test(t, testca.Options{})
	v := setup{statement: statementOf(), stores: []*trust.Store{store(t, trust.TypeCA, "release", root)}, chains: cache}.verifier(t)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 60 {
				signer, err := root.IssueLeaf(testca.Spec{})
				if err != nil {
					t.Error(err)
					return
				}
				env, err := signer.Sign(target, testca.SignOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				ev, err := v.Verify(t.Context(), subject(t), candidate(env))
				if err != nil || ev.Outcome != boltseal.Verified {
					t.Errorf("%+v, %v", ev.Reason, err)
				}
			}
		})
	}
	all.Wait()
	certs, cost := cache.certs.Usage()
	links, linkCosts := cache.links.Usage()
	if cost+linkCosts > bytes || certs >= 240 || certs < 16 || links < 16 {
		t.Errorf("%d certificates and %d links cost %d", certs, links, cost+linkCosts)
	}
}
