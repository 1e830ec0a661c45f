package testca_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/notaryproject/notation-core-go/signature"
	_ "github.com/notaryproject/notation-core-go/signature/cose" // registers the format
	_ "github.com/notaryproject/notation-core-go/signature/jws"  // registers the format
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal/internal/test/testca"
)

var target = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("x"), Size: 1}

// TestRightChainsAndEnvelopes: what is made without further wishes is right, to
// crypto/x509 and to the Notary Project's own library.
func TestRightChainsAndEnvelopes(t *testing.T) {
	t.Parallel()
	for _, a := range testca.SigningAlgorithms() {
		for n := range 3 {
			c := testca.Test(t, testca.Options{Leaf: testca.Spec{Key: a}, Intermediates: make([]testca.Spec, n)})
			if len(c.Certs) != n+2 {
				t.Fatalf("%d certificates with %d intermediates", len(c.Certs), n)
			}
			roots, middle := x509.NewCertPool(), x509.NewCertPool()
			roots.AddCert(c.Root().Certificate)
			for _, cert := range c.X509()[1 : n+1] {
				middle.AddCert(cert)
			}
			if _, err := c.Leaf().Verify(x509.VerifyOptions{Roots: roots, Intermediates: middle, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}); err != nil {
				t.Errorf("%s, %d intermediates: %v", a, n, err)
			}
			for _, f := range []testca.Format{testca.JWS, testca.COSE} {
				for _, scheme := range []string{testca.SchemeX509, testca.SchemeSigningAuthority} {
					verified(t, c, testca.SignOptions{Format: f, Scheme: scheme, Expiry: time.Now().Add(time.Hour)})
				}
			}
		}
	}
	self, err := testca.NewSelfSigned(testca.Options{})
	if err != nil || len(self.Certs) != 1 {
		t.Fatalf("%+v, %v", self, err)
	}
	verified(t, self, testca.SignOptions{})
}

func verified(t *testing.T, c *testca.Chain, o testca.SignOptions) {
	t.Helper()
	e, err := c.Sign(target, o)
	if err != nil {
		t.Fatal(err)
	}
	env, err := signature.ParseEnvelope(e.MediaType, e.Content)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := env.Verify(); err != nil {
		t.Errorf("%s %s: %v", o.Format, o.Scheme, err)
	}
}

func TestIssueLeaf(t *testing.T) {
	t.Parallel()
	c := testca.Test(t, testca.Options{Intermediates: []testca.Spec{{}}})
	other, err := c.IssueLeaf(testca.Spec{CommonName: "other"})
	if err != nil {
		t.Fatal(err)
	}
	if other.Leaf().Equal(c.Leaf().Certificate) || !other.Root().Equal(c.Root().Certificate) || other.Leaf().CheckSignatureFrom(c.X509()[1]) != nil {
		t.Error("not another leaf of the same issuers")
	}
	verified(t, other, testca.SignOptions{})
}
