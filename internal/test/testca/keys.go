package testca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"
	"math/big"
	"sync"
)

// Algorithm names a kind and size of key.
type Algorithm string

// The algorithms. A signature of the Notary Project may use RSA2048, RSA3072,
// RSA4096, P256, P384 and P521 only; the others are there to be refused.
const (
	P256     Algorithm = "P-256"
	P384     Algorithm = "P-384"
	P521     Algorithm = "P-521"
	P224     Algorithm = "P-224"
	RSA1024  Algorithm = "RSA-1024"
	RSA2048  Algorithm = "RSA-2048"
	RSA3072  Algorithm = "RSA-3072"
	RSA4096  Algorithm = "RSA-4096"
	RSA16384 Algorithm = "RSA-16384" // signs certificates only
	Ed25519  Algorithm = "Ed25519"
)

// SigningAlgorithms lists the algorithms that a signature may use.
func SigningAlgorithms() []Algorithm {
	return []Algorithm{P256, P384, P521, RSA2048, RSA3072, RSA4096}
}

// GenerateKey makes a key. With a nil random it is fresh; otherwise EC and
// Ed25519 keys are a function of the bytes read from it. RSA keys are always fresh.
func GenerateKey(a Algorithm, random io.Reader) (crypto.Signer, error) {
	switch a {
	case P224:
		return ecKey(elliptic.P224(), random)
	case P256, "":
		return ecKey(elliptic.P256(), random)
	case P384:
		return ecKey(elliptic.P384(), random)
	case P521:
		return ecKey(elliptic.P521(), random)
	case RSA1024:
		return rsa.GenerateKey(rand.Reader, 1024)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	case RSA16384:
		return newWideKey(16, 1024)
	case Ed25519:
		seed := make([]byte, ed25519.SeedSize)
		if _, err := io.ReadFull(orSystem(random), seed); err != nil {
			return nil, err
		}
		return ed25519.NewKeyFromSeed(seed), nil
	}
	return nil, fmt.Errorf("testca: no key algorithm %q", a)
}

func orSystem(random io.Reader) io.Reader {
	if random == nil {
		return rand.Reader
	}
	return random
}

// ecKey reads the scalar itself where a source is given: the standard library
// ignores the source that it is handed.
func ecKey(c elliptic.Curve, random io.Reader) (crypto.Signer, error) {
	if random == nil {
		return ecdsa.GenerateKey(c, rand.Reader)
	}
	bits := c.Params().BitSize
	b := make([]byte, (bits+7)/8)
	for range 100 {
		if _, err := io.ReadFull(random, b); err != nil {
			return nil, err
		}
		if bits%8 != 0 {
			b[0] &= 1<<(bits%8) - 1
		}
		if k, err := ecdsa.ParseRawPrivateKey(c, b); err == nil {
			return k, nil
		}
	}
	return nil, fmt.Errorf("testca: the random source yields no scalar of %s", c.Params().Name)
}

// Leaf keys of RSA are made once per process, because making one is slow and no
// test can tell: certificates differ although their key does not. Keys of CAs
// are never shared, since two CAs with one key are one CA.
var (
	sharedRSA1024 = sharedKey(RSA1024)
	sharedRSA2048 = sharedKey(RSA2048)
	sharedRSA3072 = sharedKey(RSA3072)
	sharedRSA4096 = sharedKey(RSA4096)
)

func sharedKey(a Algorithm) func() (crypto.Signer, error) {
	return sync.OnceValues(func() (crypto.Signer, error) { return GenerateKey(a, nil) })
}

func leafKey(a Algorithm, random io.Reader) (crypto.Signer, error) {
	switch a {
	case RSA1024:
		return sharedRSA1024()
	case RSA2048:
		return sharedRSA2048()
	case RSA3072:
		return sharedRSA3072()
	case RSA4096:
		return sharedRSA4096()
	}
	return GenerateKey(a, random)
}

// wideKey is an RSA key of many primes, which makes a modulus of 16384 bits
// within a second. It signs PKCS #1 v1.5 (RFC 8017, section 8.2) with SHA-256.
type wideKey struct {
	public *rsa.PublicKey
	primes []*big.Int
	exps   []*big.Int // d mod (p-1)
}

func newWideKey(primes, bits int) (*wideKey, error) {
	k := &wideKey{}
	n, e, one := big.NewInt(1), big.NewInt(65537), big.NewInt(1)
	for len(k.primes) < primes {
		p, err := rand.Prime(rand.Reader, bits)
		if err != nil {
			return nil, err
		}
		d := new(big.Int).ModInverse(e, new(big.Int).Sub(p, one))
		if d == nil {
			continue
		}
		k.primes, k.exps = append(k.primes, p), append(k.exps, d)
		n.Mul(n, p)
	}
	k.public = &rsa.PublicKey{N: n, E: 65537}
	return k, nil
}

// Public implements [crypto.Signer].
func (k *wideKey) Public() crypto.PublicKey { return k.public }

// Sign implements [crypto.Signer] for SHA-256 and PKCS #1 v1.5.
func (k *wideKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if _, pss := opts.(*rsa.PSSOptions); pss || opts.HashFunc() != crypto.SHA256 {
		return nil, fmt.Errorf("testca: an %s key signs certificates with SHA-256 only", RSA16384)
	}
	prefix := []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}
	em := make([]byte, k.public.Size())
	em[1] = 1
	for i := 2; i < len(em); i++ {
		em[i] = 0xff
	}
	at := len(em) - len(prefix) - len(digest)
	em[at-1] = 0
	copy(em[at:], prefix)
	copy(em[at+len(prefix):], digest)
	m := new(big.Int).SetBytes(em)
	// Garner: s grows to the signature modulo the product of the primes so far.
	s, product := new(big.Int), big.NewInt(1)
	for i, p := range k.primes {
		r := new(big.Int).Exp(new(big.Int).Mod(m, p), k.exps[i], p)
		r.Sub(r, s).Mul(r, new(big.Int).ModInverse(product, p)).Mod(r, p)
		s.Add(s, r.Mul(r, product))
		product.Mul(product, p)
	}
	return s.FillBytes(em), nil
}
