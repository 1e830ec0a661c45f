package testca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"

	"github.com/veraison/go-cose"
)

// sigAlgorithm is a signature algorithm by its names in JOSE (RFC 7518, 8037)
// and COSE (RFC 9053).
type sigAlgorithm struct {
	jose string
	cose cose.Algorithm
	hash crypto.Hash
}

var sigAlgorithms = []sigAlgorithm{
	{"PS256", cose.AlgorithmPS256, crypto.SHA256}, {"PS384", cose.AlgorithmPS384, crypto.SHA384}, {"PS512", cose.AlgorithmPS512, crypto.SHA512},
	{"ES256", cose.AlgorithmES256, crypto.SHA256}, {"ES384", cose.AlgorithmES384, crypto.SHA384}, {"ES512", cose.AlgorithmES512, crypto.SHA512},
	{"RS256", cose.Algorithm(-257), crypto.SHA256}, {"EdDSA", cose.AlgorithmEdDSA, 0}, {"HS256", cose.Algorithm(5), crypto.SHA256},
	{"none", 0, 0},
}

func algorithmNamed(jose string) (sigAlgorithm, error) {
	for _, a := range sigAlgorithms {
		if a.jose == jose {
			return a, nil
		}
	}
	return sigAlgorithm{}, fmt.Errorf("no signature algorithm %q", jose)
}

// naturalAlgorithm is the one algorithm that the Notary Project allows for a
// key, or the nearest where it allows none.
func naturalAlgorithm(pub crypto.PublicKey) (sigAlgorithm, error) {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		switch {
		case pub.N.BitLen() >= 4096:
			return algorithmNamed("PS512")
		case pub.N.BitLen() >= 3072:
			return algorithmNamed("PS384")
		}
		return algorithmNamed("PS256")
	case *ecdsa.PublicKey:
		switch size := pub.Curve.Params().BitSize; {
		case size > 384:
			return algorithmNamed("ES512")
		case size > 256:
			return algorithmNamed("ES384")
		}
		return algorithmNamed("ES256")
	case ed25519.PublicKey:
		return algorithmNamed("EdDSA")
	}
	return sigAlgorithm{}, fmt.Errorf("no signature algorithm for a %T", pub)
}

// sign makes a signature in the encoding that JOSE and COSE share. HS256 is
// keyed with the public key's DER, the classic confusion of algorithms.
func (a sigAlgorithm) sign(key crypto.Signer, content []byte) ([]byte, error) {
	switch a.jose {
	case "none":
		return nil, nil
	case "HS256":
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			return nil, err
		}
		mac := hmac.New(sha256.New, der)
		mac.Write(content)
		return mac.Sum(nil), nil
	case "EdDSA":
		return key.Sign(nil, content, crypto.Hash(0))
	}
	h := a.hash.New()
	h.Write(content)
	digest := h.Sum(nil)
	switch pub := key.Public().(type) {
	case *rsa.PublicKey:
		if a.jose[0] == 'R' {
			return key.Sign(rand.Reader, digest, a.hash)
		}
		// RFC 7518, section 3.5: the salt is as long as the hash.
		return key.Sign(rand.Reader, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.hash})
	case *ecdsa.PublicKey:
		der, err := key.Sign(nil, digest, a.hash)
		if err != nil {
			return nil, err
		}
		var rs struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(der, &rs); err != nil {
			return nil, err
		}
		n := (pub.Curve.Params().BitSize + 7) / 8
		sig := make([]byte, 2*n)
		rs.R.FillBytes(sig[:n])
		rs.S.FillBytes(sig[n:])
		return sig, nil
	}
	return nil, fmt.Errorf("a %T cannot sign with %s", key.Public(), a.jose)
}

// certAlgorithm is how a key signs certificates.
func certAlgorithm(key crypto.Signer, sha1 bool) (x509.SignatureAlgorithm, error) {
	switch key.Public().(type) {
	case *rsa.PublicKey:
		if sha1 {
			return x509.SHA1WithRSA, nil
		}
		return x509.SHA256WithRSA, nil
	case *ecdsa.PublicKey:
		if sha1 {
			return x509.ECDSAWithSHA1, nil
		}
		return x509.UnknownSignatureAlgorithm, nil // by the curve's size
	}
	if sha1 {
		return 0, fmt.Errorf("a %T cannot sign with SHA-1", key.Public())
	}
	return x509.UnknownSignatureAlgorithm, nil
}
