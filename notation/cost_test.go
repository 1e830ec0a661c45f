package notation

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"math/big"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/trust"
)

// publicKeysOf is how many checks with a public key it takes until the verdict,
// with nothing known before, and the verdict.
func publicKeysOf(t *testing.T, make func() *Verifier, env testca.Envelope) (int, boltseal.Evidence) {
	t.Helper()
	for n := range int64(50) {
		ctx := boltseal.WithBudget(t.Context(), boltseal.Cost{PublicKeys: n + 1})
		if err := boltseal.SpendBudget(ctx, boltseal.Cost{PublicKeys: 1}); err != nil {
			t.Fatal(err)
		}
		ev, err := make().Verify(ctx, subject(t), candidate(env))
		if err == nil {
			return int(n), ev
		} else if !errors.Is(err, boltseal.ErrLimit) {
			t.Fatal(err)
		}
	}
	t.Fatal("more than fifty")
	return 0, boltseal.Evidence{}
}

// TestStrangersCostALookUp: no signature is checked with a public key before it is
// known that somebody trusts a certificate of its chain.
func TestStrangersCostALookUp(t *testing.T) {
	t.Parallel()
	ten := make([]testca.Spec, 8)
	good := testca.Test(t, testca.Options{Intermediates: []testca.Spec{{}}})
	stranger := testca.Test(t, testca.Options{Intermediates: ten})
	named := testca.Test(t, testca.Options{Intermediates: ten, Root: testca.Spec{Subject: good.Root().Subject, MaxPathLen: number(-1)}})
	openRoot := testca.Test(t, testca.Options{Root: testca.Spec{MaxPathLen: number(-1)}})
	under := testca.Test(t, testca.Options{Intermediates: ten, Root: testca.Spec{Subject: openRoot.Root().Subject, MaxPathLen: number(-1)}})
	withRoot := under.WithCerts(append(append([]*testca.Cert{}, under.Certs[:len(under.Certs)-1]...), openRoot.Root())...)
	for _, c := range []struct {
		name  string
		chain *testca.Chain
		root  *testca.Chain
		level string
		most  int
		cause boltseal.Cause
	}{
		{"trusted", good, good, "strict", 4, ""},
		{"a stranger of ten certificates", stranger, good, "strict", 0, boltseal.CauseUntrustedSigner},
		{"permissive", stranger, good, "permissive", 0, boltseal.CauseUntrustedSigner},
		{"a stranger whose root has a trusted one's name", named, good, "strict", 0, boltseal.CauseUntrustedSigner},
		{"a stranger who adds the trusted root itself", withRoot, openRoot, "strict", 1, boltseal.CauseBadCertificate},
		{"audit only logs who signed, and so looks at the signatures", stranger, good, "audit", 11, ""},
	} {
		for _, format := range []testca.Format{testca.JWS, testca.COSE} {
			t.Run(c.name+" in "+format.String(), func(t *testing.T) {
				t.Parallel()
				env := sign(t, c.chain, testca.SignOptions{Format: format, Unchecked: true})
				n, ev := publicKeysOf(t, func() *Verifier {
					return setup{statement: statementOf(level(c.level)), stores: []*trust.Store{store(t, trust.TypeCA, "release", c.root)}}.verifier(t)
				}, env)
				expectCause(t, ev, c.cause)
				if n > c.most {
					t.Errorf("%d checks with public keys, want at most %d", n, c.most)
				}
				if c.most == 0 && outcomes(ev)[checkIntegrity] != boltseal.CheckSkipped {
					t.Errorf("integrity is %v although nothing was checked", outcomes(ev)[checkIntegrity])
				}
			})
		}
	}
}

// TestPublicKeysOfOneImageAreBounded: not for each signature by itself.
func TestPublicKeysOfOneImageAreBounded(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{})
	env := sign(t, chain, testca.SignOptions{})
	ctx := boltseal.WithBudget(t.Context(), boltseal.Cost{PublicKeys: 7})
	for range 2 { // each takes three: nothing is known before
		if ev, err := trusting(t, chain).Verify(ctx, subject(t), candidate(env)); err != nil || ev.Outcome != boltseal.Verified {
			t.Fatal(ev, err)
		}
	}
	if ev, err := trusting(t, chain).Verify(ctx, subject(t), candidate(env)); !errors.Is(err, boltseal.ErrLimit) {
		t.Errorf("%+v, %v", ev, err)
	}
}

// TestNoPublicKeyAfterTheCallerLeft: what is left of the work is not done.
func TestNoPublicKeyAfterTheCallerLeft(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{})
	ctx, cancel := context.WithCancel(boltseal.WithBudget(t.Context(), boltseal.Cost{PublicKeys: 1}))
	cancel()
	_, err := trusting(t, chain).Verify(ctx, subject(t), candidate(sign(t, chain, testca.SignOptions{})))
	if !errors.Is(err, boltseal.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := boltseal.SpendBudget(ctx, boltseal.Cost{PublicKeys: 1}); err != nil {
		t.Error("a public key was used:", err)
	}
}

// TestKeysThatAreDear are refused for what they are, before they are used.
func TestKeysThatAreDear(t *testing.T) {
	t.Parallel()
	rsaKey := func(bits, exponent int) any {
		n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
		return &rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: exponent}
	}
	curve := func(c elliptic.Curve) any { return must(ecdsa.GenerateKey(c, rand.Reader))(t).Public() }
	for _, c := range []struct {
		name string
		key  any
		ok   bool
	}{
		{"RSA-2048", rsaKey(2048, 65537), true},
		{"RSA-3072", rsaKey(3072, 65537), true},
		{"RSA-4096", rsaKey(4096, 65537), true},
		{"RSA-2048, exponent 3", rsaKey(2048, 3), true},
		{"RSA-2047", rsaKey(2047, 65537), false},
		{"RSA-4097", rsaKey(4097, 65537), false},
		{"RSA-8192", rsaKey(8192, 65537), false},
		{"RSA-2048, exponent 2^31-1", rsaKey(2048, 1<<31-1), false},
		{"RSA-2048, exponent 2^17+1", rsaKey(2048, 1<<17+1), false},
		{"RSA-2048, exponent 65536", rsaKey(2048, 65536), false},
		{"RSA-2048, exponent 1", rsaKey(2048, 1), false},
		{"RSA-2048, exponent 0", rsaKey(2048, 0), false},
		{"P-256", curve(elliptic.P256()), true},
		{"P-521", curve(elliptic.P521()), true},
		{"P-224", curve(elliptic.P224()), false},
	} {
		if err := checkKey(&x509.Certificate{PublicKey: c.key}); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
