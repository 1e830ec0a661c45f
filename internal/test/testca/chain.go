package testca

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"
)

// Spec describes one certificate. The zero value is what a well-run CA makes
// for its place in the chain.
type Spec struct {
	// Key is the key's algorithm. "" means P256.
	Key Algorithm
	// Signer is the key itself, for certificates that share one. Nil means a
	// key of algorithm Key; RSA leaf keys are shared within the process unless
	// FreshKey is set.
	Signer   crypto.Signer
	FreshKey bool
	// Subject is the whole subject. Where it is empty, it is C=US, ST=WA,
	// O=Boltseal Test and CommonName.
	Subject pkix.Name
	// RawSubject is the subject's DER and wins over Subject, for names that
	// pkix.Name cannot say.
	RawSubject []byte
	// CommonName is the CN where Subject is empty. "" means a name by role.
	CommonName string
	// NotBefore and NotAfter are the validity. Zero means a day before the
	// clock, and ten years (CA) or one year (leaf) after it.
	NotBefore, NotAfter time.Time
	// EKU replaces the extended key usages: codeSigning for a leaf (or
	// timeStamping, see Options), none for a CA.
	EKU []x509.ExtKeyUsage
	// NoEKU leaves the extension out.
	NoEKU bool
	// KeyUsage replaces the key usage: digitalSignature for a leaf, certSign
	// and cRLSign for a CA.
	KeyUsage x509.KeyUsage
	// MaxPathLen is the path length constraint of a CA. Nil means as many as
	// stand below it in the chain; a negative number means no constraint.
	MaxPathLen *int
	// OCSP and CRL are the addresses written into the certificate.
	OCSP, CRL []string
	// Extensions are added, and replace those of the same identifier.
	Extensions []pkix.Extension
	// SHA1 signs this certificate with SHA-1 (its issuer's key must be RSA or EC).
	SHA1 bool
	// Mutate changes the finished template, for everything else.
	Mutate func(*x509.Certificate)
}

// Options make a chain.
type Options struct {
	// Clock is the time that default validities are around. Nil means time.Now.
	Clock func() time.Time
	// Rand makes keys and serial numbers reproducible (all but RSA keys). Nil
	// means the system's randomness.
	Rand io.Reader
	// Leaf, Intermediates (from the root's side to the leaf's) and Root
	// describe the certificates.
	Leaf          Spec
	Intermediates []Spec
	Root          Spec
	// Timestamping makes the leaf a TSA's: timeStamping as its sole, critical EKU.
	Timestamping bool
	// Revocation is the base address of a [Responder], written into all
	// certificates below the root. OCSP and CRL choose what is written.
	Revocation string
	OCSP, CRL  bool
}

// Cert is a certificate with its private key.
type Cert struct {
	*x509.Certificate
	Key crypto.Signer
}

// PEM is the certificate in PEM.
func (c *Cert) PEM() []byte { return CertPEM(c.Certificate) }

// Chain is a leaf with its issuers.
type Chain struct {
	// Certs are the certificates in order, the leaf first, the root last.
	Certs []*Cert
	opts  Options
}

// New makes a root, the intermediates, and a leaf.
func New(o Options) (*Chain, error) {
	below := len(o.Intermediates)
	root, err := issueCertificate(o, o.Root, nil, place{name: "Root CA", ca: true, pathLen: below})
	if err != nil {
		return nil, fmt.Errorf("testca: root: %w", err)
	}
	certs := []*Cert{root}
	for i, spec := range o.Intermediates {
		c, err := issueCertificate(o, spec, certs[0], place{name: fmt.Sprintf("Intermediate CA %d", i+1), ca: true, pathLen: below - i - 1})
		if err != nil {
			return nil, fmt.Errorf("testca: intermediate %d: %w", i+1, err)
		}
		certs = append([]*Cert{c}, certs...)
	}
	return (&Chain{Certs: append([]*Cert{nil}, certs...), opts: o}).IssueLeaf(o.Leaf)
}

// NewSelfSigned makes a chain of one: a signer that is not a CA and has signed
// itself, as `notation cert generate-test` does. Only Leaf of the options counts.
func NewSelfSigned(o Options) (*Chain, error) {
	leaf, err := issueCertificate(o, o.Leaf, nil, place{name: "Self-signed Signer", timestamping: o.Timestamping})
	if err != nil {
		return nil, fmt.Errorf("testca: self-signed certificate: %w", err)
	}
	return &Chain{Certs: []*Cert{leaf}, opts: o}, nil
}

// Test is [New] for a test, which it ends on an error.
func Test(tb TB, o Options) *Chain {
	tb.Helper()
	c, err := New(o)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	return c
}

// IssueLeaf makes a chain with another leaf under the same issuers.
func (c *Chain) IssueLeaf(s Spec) (*Chain, error) {
	if len(c.Certs) < 2 {
		return nil, errors.New("testca: a self-signed signer issues nothing")
	}
	leaf, err := issueCertificate(c.opts, s, c.Certs[1], place{name: "Signer", timestamping: c.opts.Timestamping})
	if err != nil {
		return nil, fmt.Errorf("testca: leaf: %w", err)
	}
	return &Chain{Certs: append([]*Cert{leaf}, c.Certs[1:]...), opts: c.opts}, nil
}

// WithCerts makes a chain of other certificates that signs with the first one's
// key: for chains that are reordered, cut short, or patched together.
func (c *Chain) WithCerts(certs ...*Cert) *Chain { return &Chain{Certs: certs, opts: c.opts} }

// Leaf is the certificate that signs.
func (c *Chain) Leaf() *Cert { return c.Certs[0] }

// Root is the chain's last certificate.
func (c *Chain) Root() *Cert { return c.Certs[len(c.Certs)-1] }

// X509 lists the certificates, the leaf first.
func (c *Chain) X509() []*x509.Certificate {
	out := make([]*x509.Certificate, len(c.Certs))
	for i, cert := range c.Certs {
		out[i] = cert.Certificate
	}
	return out
}

// Raw lists the certificates' DER, the leaf first.
func (c *Chain) Raw() [][]byte {
	out := make([][]byte, len(c.Certs))
	for i, cert := range c.Certs {
		out[i] = cert.Raw
	}
	return out
}

// PEM is the whole chain in PEM, the leaf first.
func (c *Chain) PEM() []byte { return CertPEM(c.X509()...) }

// CertPEM encodes certificates as PEM.
func CertPEM(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// KeyPEM encodes a private key as PKCS #8 in PEM.
func KeyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// place is a certificate's role in its chain.
type place struct {
	name         string
	ca           bool
	pathLen      int
	timestamping bool
}

// issueCertificate makes one certificate; a nil issuer means that it signs itself.
func issueCertificate(o Options, s Spec, issuer *Cert, at place) (*Cert, error) {
	key, err := keyFor(o, s, at)
	if err != nil {
		return nil, err
	}
	tmpl, err := certificateTemplate(o, s, at)
	if err != nil {
		return nil, err
	}
	if o.Revocation != "" && issuer != nil {
		if o.OCSP {
			tmpl.OCSPServer = append(tmpl.OCSPServer, o.Revocation+"/ocsp")
		}
		if o.CRL {
			tmpl.CRLDistributionPoints = append(tmpl.CRLDistributionPoints, o.Revocation+"/crl/"+keyName(issuer.Key.Public()))
		}
	}
	parent, signer := tmpl, key
	if issuer != nil {
		parent, signer = issuer.Certificate, issuer.Key
	}
	if tmpl.SignatureAlgorithm, err = certAlgorithm(signer, s.SHA1); err != nil {
		return nil, err
	}
	if s.Mutate != nil {
		s.Mutate(tmpl)
	}
	// Without a random source the signatures of EC keys are deterministic (RFC 6979).
	der, err := x509.CreateCertificate(nil, tmpl, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Cert{Certificate: cert, Key: key}, nil
}

func keyFor(o Options, s Spec, at place) (crypto.Signer, error) {
	switch {
	case s.Signer != nil:
		return s.Signer, nil
	case at.ca || s.FreshKey:
		return GenerateKey(s.Key, o.Rand)
	}
	return leafKey(s.Key, o.Rand)
}

func certificateTemplate(o Options, s Spec, at place) (*x509.Certificate, error) {
	serial := make([]byte, 16)
	if _, err := io.ReadFull(orSystem(o.Rand), serial); err != nil {
		return nil, err
	}
	serial[0] = serial[0]&0x7f | 0x40 // positive, and of the same length always
	t := clockNow(o.Clock).UTC().Truncate(time.Second)
	tmpl := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), Subject: s.Subject, RawSubject: s.RawSubject,
		NotBefore: s.NotBefore, NotAfter: s.NotAfter, KeyUsage: s.KeyUsage, ExtKeyUsage: s.EKU,
		OCSPServer: s.OCSP, CRLDistributionPoints: s.CRL, ExtraExtensions: s.Extensions,
		BasicConstraintsValid: true, IsCA: at.ca,
	}
	if tmpl.Subject.String() == "" && s.RawSubject == nil {
		tmpl.Subject = Subject(orElse(s.CommonName, "Boltseal Test "+at.name))
	}
	if tmpl.NotBefore.IsZero() {
		tmpl.NotBefore = t.Add(-24 * time.Hour)
	}
	if tmpl.NotAfter.IsZero() {
		tmpl.NotAfter = t.AddDate(1, 0, 0)
		if at.ca {
			tmpl.NotAfter = t.AddDate(10, 0, 0)
		}
	}
	if tmpl.KeyUsage == 0 {
		tmpl.KeyUsage = x509.KeyUsageDigitalSignature
		if at.ca {
			tmpl.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		}
	}
	switch {
	case !at.ca:
	case s.MaxPathLen == nil:
		tmpl.MaxPathLen, tmpl.MaxPathLenZero = at.pathLen, at.pathLen == 0
	case *s.MaxPathLen < 0:
		tmpl.MaxPathLen = -1
	default:
		tmpl.MaxPathLen, tmpl.MaxPathLenZero = *s.MaxPathLen, *s.MaxPathLen == 0
	}
	switch {
	case s.NoEKU:
		tmpl.ExtKeyUsage = nil
	case len(s.EKU) > 0 || at.ca:
	case at.timestamping:
		tmpl.ExtraExtensions = append([]pkix.Extension{EKUExtension(true, oidTimeStamping)}, tmpl.ExtraExtensions...)
	default:
		tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	}
	return tmpl, nil
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Subject is the name C=US, ST=WA, O=Boltseal Test with the given CN.
func Subject(commonName string) pkix.Name {
	return pkix.Name{Country: []string{"US"}, Province: []string{"WA"}, Organization: []string{"Boltseal Test"}, CommonName: commonName}
}

// EKUExtension is an extended key usage extension (RFC 5280, section 4.2.1.12)
// with the given usages.
func EKUExtension(critical bool, usages ...asn1.ObjectIdentifier) pkix.Extension {
	der, err := asn1.Marshal(usages)
	if err != nil {
		panic(err) // object identifiers always encode
	}
	return pkix.Extension{Id: oidExtKeyUsage, Critical: critical, Value: der}
}
