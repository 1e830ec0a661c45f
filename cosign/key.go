package cosign

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/cosign/internal/sigkey"
)

// Key is a public key whose signatures are trusted.
type Key struct {
	// Name is shown in messages. Required.
	Name string
	// Public is an ECDSA key on P-256, P-384 or P-521, an RSA key of 2048 to 4096 bits,
	// or an Ed25519 key. Required.
	Public crypto.PublicKey
	// Hash is what the key signs with. Zero means the curve's own hash, or SHA-256 with
	// RSA. A P-384 key may be set to SHA-256, and an RSA key to any of SHA-256, SHA-384
	// and SHA-512: a signature never says it.
	Hash crypto.Hash
	// PSS: an RSA key signs with PSS. Zero means PKCS #1 v1.5.
	PSS bool
	// NotBefore and NotAfter are when the key's signatures count, by their trusted time,
	// or where they have none, by the time of the verification. Zero means no bound.
	NotBefore, NotAfter time.Time
}

// maxKeyBytes bounds the text of one public key.
const maxKeyBytes = 64 << 10

// ParsePublicKey reads one public key in PEM (RFC 7468: "PUBLIC KEY", or "RSA PUBLIC
// KEY"), of a kind that a [Key] may have. Errors wrap [boltseal.ErrConfiguration], and
// hold nothing of the text.
func ParsePublicKey(b []byte) (crypto.PublicKey, error) {
	key, err := readPublicKey(b)
	if err == nil {
		_, err = sigkey.Default(key)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", boltseal.ErrConfiguration, err)
	}
	return key, nil
}

func readPublicKey(b []byte) (crypto.PublicKey, error) {
	if len(b) > maxKeyBytes {
		return nil, fmt.Errorf("a public key of %d bytes, at most %d", len(b), maxKeyBytes)
	}
	block, rest := pem.Decode(b)
	if block == nil {
		return nil, errors.New(`not a public key: it has no "-----BEGIN PUBLIC KEY-----"`)
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("more than one public key: each has a place of its own")
	}
	switch {
	case block.Type == "PUBLIC KEY":
		if key, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil {
			return key, nil
		}
		return nil, errors.New("not a public key: the content of its PEM block is not one")
	case block.Type == "RSA PUBLIC KEY":
		if key, err := x509.ParsePKCS1PublicKey(block.Bytes); err == nil {
			return key, nil
		}
		return nil, errors.New("not a public key: the content of its PEM block is not one")
	case strings.Contains(block.Type, "PRIVATE KEY"):
		return nil, errors.New("a private key: remove it, replace the key since it has been seen, and put the public key here (cosign public-key)")
	case block.Type == "CERTIFICATE":
		return nil, errors.New("a certificate, and a public key is needed")
	}
	return nil, errors.New("not a public key: its PEM block is of another type")
}

// trustedKey is a key that was checked.
type trustedKey struct {
	Key
	window
	algorithm   sigkey.Algorithm
	fingerprint string
	signer      *boltseal.Signer
}

func checkKey(k Key) (*trustedKey, error) {
	if k.Name == "" {
		return nil, errors.New("a key has no name")
	}
	a, err := sigkey.Default(k.Public)
	if err != nil {
		return nil, fmt.Errorf("the key %q is %w", k.Name, err)
	}
	if k.Hash != 0 {
		a.Hash = k.Hash
	}
	a.PSS = k.PSS
	if err := sigkey.Check(k.Public, a); err != nil {
		return nil, fmt.Errorf("the key %q: %w", k.Name, err)
	}
	if !k.NotAfter.IsZero() && k.NotAfter.Before(k.NotBefore) {
		return nil, fmt.Errorf("the key %q has a validity that ends before it starts", k.Name)
	}
	der, err := sigkey.SPKI(k.Public)
	if err != nil {
		return nil, fmt.Errorf("the key %q cannot be used", k.Name)
	}
	sum := sha256.Sum256(der)
	t := &trustedKey{Key: k, window: window{k.NotBefore, k.NotAfter}, algorithm: a, fingerprint: "sha256:" + hex.EncodeToString(sum[:])}
	t.signer = &boltseal.Signer{Subject: "key " + k.Name, Fingerprint: t.fingerprint, NotBefore: k.NotBefore, NotAfter: k.NotAfter}
	return t, nil
}
