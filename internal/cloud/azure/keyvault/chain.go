package keyvault

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/keys"
)

// Content types of the secret behind a certificate.
const (
	contentPEM    = "application/x-pem-file"
	contentPKCS12 = "application/x-pkcs12"
)

// maxChain bounds how many certificates are in one chain.
const maxChain = 20

// chainOf reads the certificates of the secret behind a certificate. Errors hold
// nothing of the secret.
func chainOf(s azsecrets.Secret) ([]*x509.Certificate, error) {
	if s.Value == nil || s.ContentType == nil {
		return nil, errors.New("the secret of this name has no content type: it is not that of a certificate")
	}
	var blocks [][]byte
	switch *s.ContentType {
	case contentPEM:
		for rest := []byte(*s.Value); ; {
			var b *pem.Block
			if b, rest = pem.Decode(rest); b == nil {
				break
			}
			if b.Type == "CERTIFICATE" {
				blocks = append(blocks, b.Bytes)
			}
		}
	case contentPKCS12:
		if s.Managed == nil || !*s.Managed {
			// Anybody's own secret could make us count for hours.
			return nil, errors.New("the secret of this name is PKCS#12 and not that of a certificate of the vault: import it as a certificate")
		}
		der, err := base64.StdEncoding.DecodeString(*s.Value)
		if err != nil {
			return nil, errors.New("the secret of this name says that it is PKCS#12, and is not base64")
		}
		if blocks, err = pkcs12Certificates(der); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("the secret of this name is of type %s: neither %s nor %s", strict.Label(*s.ContentType), contentPEM, contentPKCS12)
	}
	if len(blocks) == 0 || len(blocks) > maxChain {
		return nil, fmt.Errorf("the secret of this name contains %d certificates, and not between 1 and %d", len(blocks), maxChain)
	}
	certs := make([]*x509.Certificate, 0, len(blocks))
	for i, b := range blocks {
		c, err := x509.ParseCertificate(b)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the secret of this name cannot be read", i+1)
		}
		certs = append(certs, c)
	}
	return certs, nil
}

// pkcs12Certificates reads the certificates of a file without a password, as Key
// Vault makes them, with a private key or without.
func pkcs12Certificates(der []byte) (blocks [][]byte, err error) {
	_, leaf, certs, err := pkcs12.DecodeChain(der, "")
	if err == nil {
		certs = append([]*x509.Certificate{leaf}, certs...)
	} else if certs, err = pkcs12.DecodeTrustStore(der, ""); err != nil {
		return nil, errors.New("the secret of this name is PKCS#12 that cannot be read: let the certificate's policy say " + contentPEM)
	}
	for _, c := range certs {
		blocks = append(blocks, c.Raw)
	}
	return blocks, nil
}

// keyOfNoUse says why keys are listed and not used.
const keyOfNoUse = "no verifier here trusts a bare key: provide the certificate that belongs to it"

// key fetches the versions of one key.
func (v *provider) key(ctx context.Context, e Entry) ([]keys.Item, error) {
	get := func(version string) (keys.Item, error) {
		resp, err := v.keys.GetKey(ctx, e.Name, version, nil)
		if err != nil {
			return keys.Item{}, v.wrap("get key", e.Name, err)
		}
		if resp.Key == nil || resp.Key.KID == nil {
			return keys.Item{}, v.garbled("get key", e.Name)
		}
		it := keys.Item{Name: e.Name, Version: resp.Key.KID.Version(), Use: keys.Unusable, Why: keyOfNoUse}
		if a := resp.Attributes; a != nil {
			it.Created, it.Expires = value(a.Created), value(a.Expires)
			if a.Enabled != nil && !*a.Enabled {
				return disabled(e.Name, it.Version, it.Created, it.Expires), nil
			}
		}
		if it.Key, err = publicKey(resp.Key); err != nil {
			return unusable(it, err.Error()), nil
		}
		return it, nil
	}
	if e.Version != "" || e.VersionHistoryLimit <= 1 {
		it, err := get(e.Version)
		return []keys.Item{it}, err
	}
	versions, err := v.keyVersions(ctx, e.Name)
	if err != nil {
		return nil, err
	}
	return newest(e.Name, versions, e.VersionHistoryLimit, get)
}

// Limits on public keys.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// publicKey reads a JSON web key (RFC 7518, section 6).
func publicKey(k *azkeys.JSONWebKey) (crypto.PublicKey, error) {
	if k.Kty == nil {
		return nil, errors.New("the key has no type")
	}
	switch *k.Kty {
	case azkeys.KeyTypeRSA, azkeys.KeyTypeRSAHSM:
		n, e := new(big.Int).SetBytes(k.N), new(big.Int).SetBytes(k.E)
		if n.BitLen() < minRSABits || n.BitLen() > maxRSABits || !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 {
			return nil, fmt.Errorf("the RSA key has %d bits, or a bad exponent", n.BitLen())
		}
		return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
	case azkeys.KeyTypeEC, azkeys.KeyTypeECHSM:
		if k.Crv == nil {
			return nil, errors.New("the key has no curve")
		}
		curve, ok := map[azkeys.CurveName]elliptic.Curve{azkeys.CurveNameP256: elliptic.P256(), azkeys.CurveNameP384: elliptic.P384(), azkeys.CurveNameP521: elliptic.P521()}[*k.Crv]
		if !ok {
			return nil, fmt.Errorf("the curve %s is not known here", strict.Label(string(*k.Crv)))
		}
		size := (curve.Params().BitSize + 7) / 8
		if len(k.X) > size || len(k.Y) > size {
			return nil, errors.New("the key is no point of its curve")
		}
		point := make([]byte, 1+2*size)
		point[0] = 4 // uncompressed (SEC 1, section 2.3.3)
		copy(point[1+size-len(k.X):], k.X)
		copy(point[1+2*size-len(k.Y):], k.Y)
		pub, err := ecdsa.ParseUncompressedPublicKey(curve, point)
		if err != nil {
			return nil, errors.New("the key is no point of its curve")
		}
		return pub, nil
	}
	return nil, fmt.Errorf("keys of type %s have no public part", strict.Label(string(*k.Kty)))
}
