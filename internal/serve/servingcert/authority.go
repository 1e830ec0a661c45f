package servingcert

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
)

const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
	// maxCommonName is X.520's bound on a common name, in characters.
	maxCommonName = 64
)

// authority is a CA.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey // nil: only its certificate is known, and it issues nothing
	// until is when the last certificate of it that may be in use expires.
	until time.Time
}

// leaf is a serving certificate with its key.
type leaf struct {
	cert         *x509.Certificate
	key          *ecdsa.PrivateKey
	certPEM, raw []byte // raw is the key in PEM
}

func (l *leaf) tls() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{l.cert.Raw}, PrivateKey: l.key, Leaf: l.cert}
}

// newAuthority makes a CA. RFC 5280, 4.2.1.9 and 4.2.1.3, for its extensions.
func newAuthority(now time.Time, life time.Duration) (*authority, error) {
	key, serial, err := newKey()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		// Two CAs side by side in a bundle must not be taken for each other.
		Subject:   pkix.Name{Organization: []string{"Boltseal"}, CommonName: "Boltseal serving CA " + hex.EncodeToString(serial.Bytes()[:4])},
		NotBefore: now.Add(-min(maxBackdate, life/10)), NotAfter: now.Add(life),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := signCertificate(t, t, key, key)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key}, nil
}

// issue makes a serving certificate, which ends with its CA at the latest.
func (a *authority) issue(now time.Time, life time.Duration, names []string) (*leaf, error) {
	if a.key == nil {
		return nil, errors.New("the CA's key is not known")
	}
	key, serial, err := newKey()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		NotBefore:    laterOf(now.Add(-min(maxBackdate, life/10)), a.cert.NotBefore), NotAfter: earlierOf(now.Add(life), a.cert.NotAfter),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
			continue
		}
		t.DNSNames = append(t.DNSNames, n)
		if t.Subject.CommonName == "" && len(n) <= maxCommonName {
			t.Subject.CommonName = n
		}
	}
	cert, err := signCertificate(t, a.cert, key, a.key)
	if err != nil {
		return nil, err
	}
	raw, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	return &leaf{cert: cert, key: key, certPEM: certPEM(cert), raw: raw}, nil
}

func newKey() (*ecdsa.PrivateKey, *big.Int, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return nil, nil, err
	}
	b[0] = b[0]&0x7f | 0x40 // positive, and always as long (RFC 5280, 4.1.2.2)
	return key, new(big.Int).SetBytes(b), nil
}

func signCertificate(t, parent *x509.Certificate, key, by *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), by)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: c.Raw})
}

func keyPEM(k *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}

// The readers below never quote what they read: it may be a key.

func readCert(b []byte) (*x509.Certificate, error) {
	block, rest := pem.Decode(b)
	switch {
	case block == nil || block.Type != pemCertificate:
		return nil, errors.New("it is no certificate in PEM")
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, errors.New("there is more than one certificate")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, errors.New("the certificate cannot be read")
	}
	return c, nil
}

func readKey(b []byte, of *x509.Certificate) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != pemKey {
		return nil, errors.New("it is no private key in PEM (PKCS #8)")
	}
	in, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the private key cannot be read")
	}
	key, ok := in.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(of.PublicKey) {
		return nil, errors.New("the private key is not the certificate's")
	}
	return key, nil
}

// readAuthority reads a CA. An unusable key leaves it without one; err says so.
func readAuthority(cert, key []byte, now time.Time) (*authority, error) {
	c, err := readCert(cert)
	if err != nil {
		return nil, err
	}
	switch {
	case !c.IsCA || !c.BasicConstraintsValid || c.KeyUsage&x509.KeyUsageCertSign == 0 || c.CheckSignatureFrom(c) != nil:
		return nil, errors.New("it is no self-signed CA")
	case !now.Before(c.NotAfter):
		return nil, fmt.Errorf("it expired at %s", c.NotAfter.UTC().Format(time.RFC3339))
	}
	a := &authority{cert: c}
	a.key, err = readKey(key, c)
	return a, err
}

// readLeaf reads a serving certificate, which must be the CA's, be valid now and
// bear all names.
func readLeaf(cert, key []byte, by *authority, now time.Time, names []string) (*leaf, error) {
	c, err := readCert(cert)
	if err != nil {
		return nil, err
	}
	switch {
	case c.CheckSignatureFrom(by.cert) != nil:
		return nil, errors.New("it is not the CA's")
	case !now.Before(c.NotAfter):
		return nil, fmt.Errorf("it expired at %s", c.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(c.NotBefore.Add(-maxBackdate)):
		return nil, fmt.Errorf("it is valid from %s only", c.NotBefore.UTC().Format(time.RFC3339))
	case len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth || c.IsCA:
		return nil, errors.New("it is not for a server")
	}
	if lacks := missingNames(c, names); len(lacks) > 0 {
		return nil, fmt.Errorf("it lacks the names %s", strings.Join(lacks, ", "))
	}
	k, err := readKey(key, c)
	if err != nil {
		return nil, err
	}
	return &leaf{cert: c, key: k, certPEM: certPEM(c), raw: bytes.Clone(key)}, nil
}

// missingNames are the names that a certificate does not bear.
func missingNames(c *x509.Certificate, names []string) []string {
	var out []string
	for _, n := range names {
		if c.VerifyHostname(n) != nil {
			out = append(out, n)
		}
	}
	return out
}

// certNames are a certificate's.
func certNames(c *x509.Certificate) []string {
	out := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	return out
}

// renewalDue is when two thirds of a certificate's life have passed.
func renewalDue(c *x509.Certificate) time.Time {
	return c.NotAfter.Add(-c.NotAfter.Sub(c.NotBefore) / 3)
}

func earlierOf(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func laterOf(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
