package notation

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	nx509 "github.com/notaryproject/notation-core-go/x509"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/trust"
)

// badChain is a chain that breaks a rule, or one that only looks so.
type badChain struct {
	name  string
	chain func(testing.TB) *testca.Chain
	cause boltseal.Cause
	says  string
	// theirs is why notation-core-go takes this chain although we do not, ""
	// where it does not either.
	theirs string
}

func made(o testca.Options) func(testing.TB) *testca.Chain {
	return func(tb testing.TB) *testca.Chain { tb.Helper(); return testca.Test(tb, o) }
}

func leafOf(s testca.Spec) func(testing.TB) *testca.Chain { return made(testca.Options{Leaf: s}) }

func subCA(s testca.Spec) func(testing.TB) *testca.Chain {
	return made(testca.Options{Intermediates: []testca.Spec{s}})
}

func ekuOf(list ...x509.ExtKeyUsage) testca.Spec { return testca.Spec{EKU: list} }

func extensionOf(critical bool, value string, id ...int) []pkix.Extension {
	return []pkix.Extension{{Id: asn1.ObjectIdentifier(id), Critical: critical, Value: []byte(value)}}
}

func number(n int) *int { return &n }

const (
	bad        = boltseal.CauseBadCertificate
	strictEKU  = "the specification forbids anyExtendedKeyUsage and asks for codeSigning; the library looks for some other usages only"
	strictCA   = "the specification asks for critical basic constraints; the library does not look"
	strictSize = "a limit on what is verified before anybody is trusted"
	strictName = "RFC 5280 section 4.2.1.10; the library does not look"
)

// badChains is item 4 of the bad inputs.
func badChains(now time.Time) []badChain {
	day := 24 * time.Hour
	nine := make([]testca.Spec, 8)
	ten := make([]testca.Spec, 9)
	return []badChain{
		{"right", made(testca.Options{Intermediates: []testca.Spec{{}}}), boltseal.CauseNone, "", ""},
		{"of ten certificates", made(testca.Options{Intermediates: nine}), boltseal.CauseNone, "", ""},
		{"of eleven certificates", made(testca.Options{Intermediates: ten}), boltseal.CauseLimit, "at most 10", strictSize},
		{"self-signed signer", func(tb testing.TB) *testca.Chain { return must(testca.NewSelfSigned(testca.Options{}))(tb) }, boltseal.CauseNone, "", ""},
		{"without EKU", leafOf(testca.Spec{NoEKU: true}), boltseal.CauseNone, "", ""},
		{"EKU code signing and an unknown one", leafOf(testca.Spec{Mutate: func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}} }}), boltseal.CauseNone, "", ""},
		{"CA with EKU code signing", subCA(ekuOf(x509.ExtKeyUsageCodeSigning)), boltseal.CauseNone, "", ""},
		{"CA with any EKU", subCA(ekuOf(x509.ExtKeyUsageAny)), boltseal.CauseNone, "", ""},
		{"non-repudiation beside digital signature", leafOf(testca.Spec{KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment}), boltseal.CauseNone, "", ""},
		{"without a path length", made(testca.Options{Intermediates: []testca.Spec{{MaxPathLen: number(-1)}}, Root: testca.Spec{MaxPathLen: number(-1)}}), boltseal.CauseNone, "", ""},

		{"leaf expired", leafOf(testca.Spec{NotBefore: now.Add(-2 * day), NotAfter: now.Add(-day)}), boltseal.CauseCertificateExpired, "expired on", ""},
		{"leaf not yet valid", leafOf(testca.Spec{NotBefore: now.Add(day)}), boltseal.CauseCertificateExpired, "not valid before", ""},
		{"intermediate expired", subCA(testca.Spec{NotBefore: now.Add(-2 * day), NotAfter: now.Add(-day)}), boltseal.CauseCertificateExpired, "Intermediate CA 1", ""},
		{"intermediate not yet valid", subCA(testca.Spec{NotBefore: now.Add(day)}), boltseal.CauseCertificateExpired, "Intermediate CA 1", ""},
		{"root expired", made(testca.Options{Root: testca.Spec{NotBefore: now.Add(-2 * day), NotAfter: now.Add(-day)}}), boltseal.CauseCertificateExpired, "Root CA", ""},

		{"EKU server authentication", leafOf(ekuOf(x509.ExtKeyUsageServerAuth)), bad, "not for code signing", ""},
		{"EKU time stamping", leafOf(ekuOf(x509.ExtKeyUsageTimeStamping)), bad, "not for code signing", ""},
		{"EKU code signing and server authentication", leafOf(ekuOf(x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageServerAuth)), bad, "besides code signing", ""},
		{"EKU code signing and OCSP signing", leafOf(ekuOf(x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageOCSPSigning)), bad, "besides code signing", ""},
		{"EKU any", leafOf(ekuOf(x509.ExtKeyUsageAny)), bad, "not for code signing", strictEKU},
		{"EKU any and code signing", leafOf(ekuOf(x509.ExtKeyUsageAny, x509.ExtKeyUsageCodeSigning)), bad, "besides code signing", strictEKU},
		{"EKU unknown only", leafOf(testca.Spec{NoEKU: true, Mutate: func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}} }}), bad, "not for code signing", strictEKU},
		{"CA with EKU server authentication", subCA(ekuOf(x509.ExtKeyUsageServerAuth)), bad, "a CA for other purposes", strictEKU},
		{"CA with EKU time stamping", subCA(ekuOf(x509.ExtKeyUsageTimeStamping)), bad, "a CA for other purposes", strictEKU},

		{"leaf is a CA", leafOf(testca.Spec{Mutate: func(c *x509.Certificate) { c.IsCA = true }}), bad, "a CA must not sign images", ""},
		{"leaf with certSign", leafOf(testca.Spec{KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}), bad, "digital signature", ""},
		{"leaf with key encipherment", leafOf(testca.Spec{KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment}), bad, "digital signature", ""},
		{"leaf without digital signature", leafOf(testca.Spec{KeyUsage: x509.KeyUsageContentCommitment}), bad, "digital signature", ""},
		{"leaf without key usage", leafOf(testca.Spec{Mutate: func(c *x509.Certificate) { c.KeyUsage = 0 }}), bad, "key usage", ""},
		{"leaf with key usage not critical", leafOf(testca.Spec{Extensions: extensionOf(false, "\x03\x02\x07\x80", 2, 5, 29, 15)}), bad, "critical", ""},
		{"root without key usage", made(testca.Options{Root: testca.Spec{Mutate: func(c *x509.Certificate) { c.KeyUsage = 0 }}}), bad, "key usage", ""},
		{"CA without certSign", subCA(testca.Spec{KeyUsage: x509.KeyUsageCRLSign}), bad, "key usage does not allow", ""},
		{"intermediate is no CA", subCA(testca.Spec{Mutate: func(c *x509.Certificate) { c.IsCA, c.MaxPathLenZero = false, false }}), bad, "no CA", ""},
		{"basic constraints not critical", subCA(testca.Spec{Extensions: extensionOf(false, "\x30\x03\x01\x01\xff", 2, 5, 29, 19)}), bad, "critical", strictCA},
		{"no basic constraints", subCA(testca.Spec{Mutate: func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA, c.MaxPathLenZero = false, false, false }}), bad, "no CA", ""},
		{"path longer than the root allows", made(testca.Options{Intermediates: []testca.Spec{{}}, Root: testca.Spec{MaxPathLen: number(0)}}), bad, "allows 0 CAs below it", ""},
		{"path longer than an intermediate allows", made(testca.Options{Intermediates: []testca.Spec{{MaxPathLen: number(0)}, {}}}), bad, "allows 0 CAs below it", ""},
		{"unknown critical extension in the leaf", leafOf(testca.Spec{Extensions: extensionOf(true, "\x05\x00", 1, 2, 3, 4)}), bad, "1.2.3.4", "the specification asks that it be understood; the library does not look"},
		{"unknown critical extension in a CA", subCA(testca.Spec{Extensions: extensionOf(true, "\x05\x00", 1, 2, 3, 4)}), bad, "1.2.3.4", "the specification asks that it be understood; the library does not look"},

		{"leaf signed with SHA-1", leafOf(testca.Spec{SHA1: true}), bad, "SHA1", ""},
		{"intermediate signed with SHA-1", subCA(testca.Spec{SHA1: true}), bad, "SHA1", ""},
		{"RSA-1024 leaf", leafOf(testca.Spec{Key: testca.RSA1024}), boltseal.CauseUnsupported, "", ""},
		{"P-224 leaf", leafOf(testca.Spec{Key: testca.P224}), boltseal.CauseUnsupported, "", ""},
		{"Ed25519 leaf", leafOf(testca.Spec{Key: testca.Ed25519}), boltseal.CauseUnsupported, "", ""},
		{"RSA-1024 intermediate", subCA(testca.Spec{Key: testca.RSA1024}), bad, "1024 bits", "the specification sets sizes for all; the library looks at the leaf only"},
		{"P-224 intermediate", subCA(testca.Spec{Key: testca.P224}), bad, "P-224", "the specification sets sizes for all; the library looks at the leaf only"},
		{"Ed25519 intermediate", subCA(testca.Spec{Key: testca.Ed25519}), bad, "", "the specification sets algorithms for all; the library looks at the leaf only"},
		{"RSA-16384 intermediate", wideIntermediate, bad, "an RSA key of 16", strictSize},

		{"without its root", without(-1), bad, "must reach its root", ""},
		{"without its intermediate", without(1), bad, "not issued by the next", ""},
		{"reversed", reordered(2, 1, 0), bad, "a CA must not sign images", ""},
		{"issuers swapped", reordered(0, 2, 1), bad, "", ""},
		{"root twice", reordered(0, 1, 2, 2), bad, "allows 1 CAs below it", ""},
		{"root twice, without a path length", rootTwice, bad, "self-signed and not the last", ""},
		{"another root of the same name", impostorRoot, bad, "signature that is not by", ""},
		{"a second, self-signed leaf below it", selfSignedBelow, bad, "self-signed and not the last", ""},

		{"name constraints met", constrainedTo("release.example"), boltseal.CauseNone, "", ""},
		{"name constraints not met", constrainedTo("evil.test"), bad, "name constraints", strictName},
		{"name constraints without names", subCA(constraint()), boltseal.CauseNone, "", ""},
		{"a certificate of 70 kB", leafOf(testca.Spec{Extensions: extensionOf(false, strings.Repeat("x", 70_000), 1, 2, 3, 4)}), boltseal.CauseMalformed, "at most", strictSize},
	}
}

func constraint() testca.Spec {
	return testca.Spec{Mutate: func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"release.example"}, true
	}}
}

func constrainedTo(host string) func(testing.TB) *testca.Chain {
	return made(testca.Options{Intermediates: []testca.Spec{constraint()}, Leaf: testca.Spec{Mutate: func(c *x509.Certificate) {
		c.DNSNames, c.URIs = []string{host}, []*url.URL{{Scheme: "https", Host: host}}
	}}})
}

func reordered(order ...int) func(testing.TB) *testca.Chain {
	return func(tb testing.TB) *testca.Chain {
		tb.Helper()
		c := testca.Test(tb, testca.Options{Intermediates: []testca.Spec{{}}})
		var certs []*testca.Cert
		for _, i := range order {
			certs = append(certs, c.Certs[i])
		}
		// The first key signs although its certificate stands elsewhere.
		return c.WithCerts(certs...)
	}
}

func without(i int) func(testing.TB) *testca.Chain {
	return func(tb testing.TB) *testca.Chain {
		tb.Helper()
		c := testca.Test(tb, testca.Options{Intermediates: []testca.Spec{{}}})
		at := i // two tests may ask for the same chain side by side
		if at < 0 {
			at += len(c.Certs)
		}
		return c.WithCerts(slices.Delete(slices.Clone(c.Certs), at, at+1)...)
	}
}

func rootTwice(tb testing.TB) *testca.Chain {
	tb.Helper()
	c := testca.Test(tb, testca.Options{Root: testca.Spec{MaxPathLen: number(-1)}})
	return c.WithCerts(c.Leaf(), c.Root(), c.Root())
}

// wideKey takes a second to make.
var wideKey = sync.OnceValues(func() (crypto.Signer, error) { return testca.GenerateKey(testca.RSA16384, nil) })

func wideIntermediate(tb testing.TB) *testca.Chain {
	tb.Helper()
	return testca.Test(tb, testca.Options{Intermediates: []testca.Spec{{Signer: must(wideKey())(tb)}}})
}

func impostorRoot(tb testing.TB) *testca.Chain {
	tb.Helper()
	c := testca.Test(tb, testca.Options{})
	other := testca.Test(tb, testca.Options{Root: testca.Spec{Subject: c.Root().Subject}})
	return c.WithCerts(c.Leaf(), other.Root())
}

func selfSignedBelow(tb testing.TB) *testca.Chain {
	tb.Helper()
	alone := must(testca.NewSelfSigned(testca.Options{}))(tb)
	return alone.WithCerts(alone.Leaf(), testca.Test(tb, testca.Options{Root: testca.Spec{Subject: alone.Leaf().Subject}}).Root())
}

func TestBadChains(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, c := range badChains(now) {
		for _, format := range []testca.Format{testca.JWS, testca.COSE} {
			t.Run(c.name+" in "+format.String(), func(t *testing.T) {
				t.Parallel()
				chain := c.chain(t)
				env := sign(t, chain, testca.SignOptions{Format: format, Unchecked: true})
				// Every certificate of it that may be trusted is trusted.
				var trusted []*x509.Certificate
				for _, cert := range chain.X509() {
					if _, err := trust.NewStore(trust.TypeCA, "release", []*x509.Certificate{cert}); err == nil {
						trusted = append(trusted, cert)
					}
				}
				if len(trusted) == 0 {
					trusted = testca.Test(t, testca.Options{}).X509()[1:]
				}
				v := setup{statement: statementOf(), stores: []*trust.Store{must(trust.NewStore(trust.TypeCA, "release", trusted))(t)}}.verifier(t)
				for range 2 { // the second time from the cache, with the same outcome
					ev := verify(t, v, env)
					if c.cause == boltseal.CauseLimit && ev.Reason.Cause == boltseal.CauseMalformed {
						ev.Reason.Cause = boltseal.CauseLimit // the formats' parsers count for themselves
					}
					expectCause(t, ev, c.cause)
					if !strings.Contains(ev.Reason.Message, c.says) {
						t.Errorf("%q does not say %q", ev.Reason.Message, c.says)
					}
				}
			})
		}
	}
}

// TestBadChainsDifferential holds checkChain against notation-core-go's rules:
// what we take they take, and what they take and we do not has a reason.
func TestBadChainsDifferential(t *testing.T) {
	t.Parallel()
	for _, c := range badChains(time.Now()) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			chain := c.chain(t).X509()
			if c.cause == boltseal.CauseUnsupported || c.cause == boltseal.CauseMalformed || c.cause == boltseal.CauseLimit {
				return // refused with the envelope
			}
			ours := NewChainCache(0).checkChain(t.Context(), chain, x509.ExtKeyUsageCodeSigning)
			other := nx509.ValidateCodeSigningCertChain(chain, nil)
			switch {
			case ours == nil && other != nil:
				t.Errorf("we take what notation-core-go does not: %v", other)
			case ours != nil && other == nil && c.theirs == "":
				t.Errorf("notation-core-go takes this, and we do not for no named reason: %v", ours)
			case (ours == nil || other != nil) && c.theirs != "":
				t.Errorf("the reason %q is out of date: ours %v, notation-core-go's %v", c.theirs, ours, other)
			}
		})
	}
}
