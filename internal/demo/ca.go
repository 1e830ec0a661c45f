package demo

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

// Key is the kind of a key pair.
type Key string

// Kinds of keys.
const (
	P256    Key = "P-256"
	P384    Key = "P-384"
	P521    Key = "P-521"
	P224    Key = "P-224"
	RSA1024 Key = "RSA-1024"
	RSA2048 Key = "RSA-2048"
	RSA3072 Key = "RSA-3072"
	RSA4096 Key = "RSA-4096"
)

// NewKey makes a key pair; the zero Key means P256.
func NewKey(k Key) (crypto.Signer, error) {
	switch k {
	case "", P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case P521:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case P224:
		return ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	}
	var bits int
	if _, err := fmt.Sscanf(string(k), "RSA-%d", &bits); err != nil {
		return nil, fmt.Errorf("%q is no kind of key", k)
	}
	return rsa.GenerateKey(rand.Reader, bits)
}

// Cert is a certificate with its private key and those above it.
type Cert struct {
	*x509.Certificate
	Key    crypto.Signer
	Parent *Cert // nil for a root and what is self-signed
}

// Template describes a certificate. The zero value is completed by New.
type Template struct {
	Name      string        // common name
	Key       Key           // zero = P256
	NotBefore time.Time     // zero = a week before now
	Life      time.Duration // zero = a year
	CA        bool
	// Edit changes the template at last, so that any bad certificate can be made.
	Edit func(*x509.Certificate)
}

// New makes a certificate signed by parent, or by itself where parent is nil.
func New(t Template, parent *Cert) (*Cert, error) {
	key, err := NewKey(t.Key)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	if t.NotBefore.IsZero() {
		t.NotBefore = time.Now().Add(-7 * 24 * time.Hour)
	}
	if t.Life == 0 {
		t.Life = 365 * 24 * time.Hour
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Country: []string{"IS"}, Province: []string{"Reykjavik"}, Organization: []string{"Boltseal Demo"}, CommonName: t.Name},
		NotBefore: t.NotBefore, NotAfter: t.NotBefore.Add(t.Life), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	if t.CA {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
	}
	if t.Edit != nil {
		t.Edit(c)
	}
	issuer, signer := c, key
	if parent != nil {
		issuer, signer = parent.Certificate, parent.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Cert{Certificate: parsed, Key: key, Parent: parent}, nil
}

// Chain makes a root, an intermediate and a leaf of one kind of key, and
// returns the leaf.
func Chain(name string, key Key) (*Cert, error) {
	root, err := New(Template{Name: name + " Root", Key: key, CA: true}, nil)
	if err != nil {
		return nil, err
	}
	inter, err := New(Template{Name: name + " Issuing CA", Key: key, CA: true}, root)
	if err != nil {
		return nil, err
	}
	return New(Template{Name: name, Key: key}, inter)
}

// Certificates returns the chain, leaf first.
func (c *Cert) Certificates() []*x509.Certificate {
	var chain []*x509.Certificate
	for ; c != nil; c = c.Parent {
		chain = append(chain, c.Certificate)
	}
	return chain
}

// Root returns the last certificate of the chain.
func (c *Cert) Root() *Cert {
	for c.Parent != nil {
		c = c.Parent
	}
	return c
}

// PEM encodes certificates.
func PEM(certs ...*x509.Certificate) string {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return string(out)
}
