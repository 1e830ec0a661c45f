// Package sigkey checks signatures with public keys, by algorithms that the key decides.
package sigkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes that keys name
	_ "crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
)

// Limits on RSA keys, in bits: smaller ones can be broken, larger ones and large
// exponents cost more than a signature may.
const (
	MinRSABits     = 2048
	MaxRSABits     = 4096
	maxRSAExponent = 1<<17 - 1
)

// Algorithm is how a key signs. A signature never says it: no signer can choose a
// weaker one.
type Algorithm struct {
	Hash crypto.Hash // 0 for Ed25519, which signs the message itself
	PSS  bool        // RSA with PSS, not PKCS #1 v1.5
}

// ErrWrong is a signature that the key did not make.
var ErrWrong = errors.New("the signature was not made by this key, or what it signs was changed")

// Default is the algorithm that a key signs with where nothing else is configured
// (architecture-docs algorithm-registry.md). An error says that such keys are not
// allowed.
func Default(key crypto.PublicKey) (Algorithm, error) {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return Algorithm{Hash: crypto.SHA256}, nil
		case elliptic.P384():
			return Algorithm{Hash: crypto.SHA384}, nil
		case elliptic.P521():
			return Algorithm{Hash: crypto.SHA512}, nil
		}
		return Algorithm{}, fmt.Errorf("an ECDSA key on %s; P-256, P-384 and P-521 are allowed", k.Curve.Params().Name)
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < MinRSABits || bits > MaxRSABits {
			return Algorithm{}, fmt.Errorf("an RSA key of %d bits; %d to %d are allowed", bits, MinRSABits, MaxRSABits)
		}
		if k.E > maxRSAExponent {
			return Algorithm{}, fmt.Errorf("an RSA key with the exponent %d; at most %d is allowed", k.E, maxRSAExponent)
		}
		return Algorithm{Hash: crypto.SHA256}, nil
	case ed25519.PublicKey:
		return Algorithm{}, nil
	}
	return Algorithm{}, fmt.Errorf("a key of type %T; ECDSA, RSA and Ed25519 are allowed", key)
}

// Check says whether a key may be used with an algorithm.
func Check(key crypto.PublicKey, a Algorithm) error {
	def, err := Default(key)
	if err != nil {
		return err
	}
	_, isRSA := key.(*rsa.PublicKey)
	switch {
	case a.PSS && !isRSA:
		return errors.New("PSS is for RSA keys only")
	case a.Hash == def.Hash:
		return nil
	case def.Hash == 0:
		return errors.New("an Ed25519 key takes no hash")
	case a.Hash != crypto.SHA256 && a.Hash != crypto.SHA384 && a.Hash != crypto.SHA512:
		return fmt.Errorf("the hash %v; SHA-256, SHA-384 and SHA-512 are allowed", a.Hash)
	case !isRSA && (def.Hash != crypto.SHA384 || a.Hash != crypto.SHA256):
		return fmt.Errorf("the hash %v with an ECDSA key that is for %v", a.Hash, def.Hash)
	}
	return nil
}

// Verify checks a signature over a message.
func Verify(key crypto.PublicKey, a Algorithm, message, signature []byte) error {
	if k, ok := key.(ed25519.PublicKey); ok {
		return wrongUnless(len(k) == ed25519.PublicKeySize && ed25519.Verify(k, message, signature))
	}
	h := a.Hash.New()
	h.Write(message)
	return VerifyDigest(key, a, h.Sum(nil), signature)
}

// VerifyDigest checks a signature over a digest by the algorithm's hash; with an Ed25519
// key it is Ed25519ph (RFC 8032), and the digest is by SHA-512.
func VerifyDigest(key crypto.PublicKey, a Algorithm, digest, signature []byte) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return wrongUnless(ecdsa.VerifyASN1(k, digest, signature))
	case *rsa.PublicKey:
		if a.PSS {
			return wrongUnless(rsa.VerifyPSS(k, a.Hash, digest, signature, nil) == nil)
		}
		return wrongUnless(rsa.VerifyPKCS1v15(k, a.Hash, digest, signature) == nil)
	case ed25519.PublicKey:
		return wrongUnless(len(k) == ed25519.PublicKeySize && len(digest) == crypto.SHA512.Size() &&
			ed25519.VerifyWithOptions(k, digest, signature, &ed25519.Options{Hash: crypto.SHA512}) == nil)
	}
	return fmt.Errorf("a key of type %T", key)
}

func wrongUnless(ok bool) error {
	if !ok {
		return ErrWrong
	}
	return nil
}

// SPKI is the DER form of a public key, by which keys are compared.
func SPKI(key crypto.PublicKey) ([]byte, error) { return x509.MarshalPKIXPublicKey(key) }
