package testsigstore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"time"
)

// Identity is to whom a certificate is issued. The zero value is DefaultIdentity.
type Identity struct {
	URI, Email, UserName string // its names; one of them is right
	Issuer               string
	RawIssuer            bool              // the issuer is in the old extension only
	Extensions           map[int]string    // Fulcio's, by the last number of their identifier
	Extra                []pkix.Extension  // others
	NotBefore, NotAfter  time.Time         // zero: ten minutes around the clock
	NoSCT                bool              // no log has seen it
	CT                   *ecdsa.PrivateKey // the log's key; nil means the instance's
	Key                  crypto.Signer     // nil means one of its own, on P-256
	Mutate               func(*x509.Certificate)
}

// DefaultIdentity is a workflow of GitHub's.
func DefaultIdentity() Identity {
	return Identity{
		URI:    "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main",
		Issuer: "https://token.actions.githubusercontent.com",
		Extensions: map[int]string{9: "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main", 11: "github-hosted",
			12: "https://github.com/acme/app", 14: "refs/heads/main", 15: "4711"},
	}
}

// Signer signs: with a certificate, or with a key alone.
type Signer struct {
	Key         crypto.Signer
	Certificate *x509.Certificate // nil: the key alone
	Hash        crypto.Hash       // zero: by the key
}

var (
	oidFulcio = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1}
	oidSCT    = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}
	oidSAN    = asn1.ObjectIdentifier{2, 5, 29, 17}
)

func fulcioOID(n int) asn1.ObjectIdentifier { return append(slices.Clone(oidFulcio), n) }

// Issue makes a certificate as Fulcio does.
func (i *Instance) Issue(id Identity) (*Signer, error) {
	if id.URI == "" && id.Email == "" && id.UserName == "" && id.Mutate == nil {
		with := DefaultIdentity()
		id.URI = with.URI
		if id.Issuer == "" {
			id.Issuer = with.Issuer
		}
		if id.Extensions == nil {
			id.Extensions = with.Extensions
		}
	}
	key := id.Key
	if key == nil {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("testsigstore: %w", err)
		}
		key = k
	}
	now := i.clock()
	if id.NotBefore.IsZero() {
		id.NotBefore = now.Add(-time.Minute)
	}
	if id.NotAfter.IsZero() {
		id.NotAfter = id.NotBefore.Add(10 * time.Minute)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("testsigstore: %w", err)
	}
	t := &x509.Certificate{SerialNumber: serial, NotBefore: id.NotBefore, NotAfter: id.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, ExtraExtensions: slices.Clone(id.Extra)}
	if err := id.names(t); err != nil {
		return nil, err
	}
	if id.Mutate != nil {
		id.Mutate(t)
	}
	issuer := i.CA.Certs[1]
	cert, err := issueCertificate(t, issuer.Certificate, key.Public(), issuer.Key)
	if err != nil || id.NoSCT {
		return &Signer{Key: key, Certificate: cert}, err
	}
	ct := id.CT
	if ct == nil {
		ct = i.CT
	}
	list, err := sctList(ct, issuer.Certificate, cert.RawTBSCertificate, now)
	if err != nil {
		return nil, err
	}
	t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: oidSCT, Value: list})
	cert, err = issueCertificate(t, issuer.Certificate, key.Public(), issuer.Key)
	return &Signer{Key: key, Certificate: cert}, err
}

func issueCertificate(t, issuer *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, issuer, public, key)
	if err != nil {
		return nil, fmt.Errorf("testsigstore: %w", err)
	}
	return x509.ParseCertificate(der)
}

// names writes whom a certificate is for.
func (id *Identity) names(t *x509.Certificate) error {
	if id.URI != "" {
		u, err := url.Parse(id.URI)
		if err != nil {
			return fmt.Errorf("testsigstore: %w", err)
		}
		t.URIs = []*url.URL{u}
	}
	if id.Email != "" {
		t.EmailAddresses = []string{id.Email}
	}
	if id.UserName != "" {
		value, err := asn1.MarshalWithParams(id.UserName, "utf8")
		if err != nil {
			return fmt.Errorf("testsigstore: %w", err)
		}
		oid, err := asn1.Marshal(fulcioOID(7))
		if err != nil {
			return fmt.Errorf("testsigstore: %w", err)
		}
		explicit := asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Tag: 0, Bytes: value}
		tagged, err := asn1.Marshal(explicit)
		if err != nil {
			return fmt.Errorf("testsigstore: %w", err)
		}
		san, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, IsCompound: true, Tag: 0, Bytes: append(oid, tagged...)}})
		if err != nil {
			return fmt.Errorf("testsigstore: %w", err)
		}
		t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: oidSAN, Critical: true, Value: san})
	}
	if id.Issuer != "" {
		t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: fulcioOID(1), Value: []byte(id.Issuer)})
		if !id.RawIssuer {
			id.Extensions = cloneWith(id.Extensions, 8, id.Issuer)
		}
	}
	for n := range 30 {
		text, ok := id.Extensions[n]
		if !ok {
			continue
		}
		value, err := asn1.MarshalWithParams(text, "utf8")
		if err != nil {
			return fmt.Errorf("testsigstore: %w", err)
		}
		t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: fulcioOID(n), Value: value})
	}
	return nil
}

func cloneWith(m map[int]string, n int, text string) map[int]string {
	out := map[int]string{n: text}
	for k, v := range m {
		out[k] = v
	}
	return out
}

// sctList is the extension with one timestamp of a log (RFC 6962 section 3.3).
func sctList(key *ecdsa.PrivateKey, issuer *x509.Certificate, tbs []byte, at time.Time) ([]byte, error) {
	id := keyID(key.Public())
	issuerHash := sha256.Sum256(issuer.RawSubjectPublicKeyInfo)
	millis := binary.BigEndian.AppendUint64(nil, uint64(at.UnixMilli())) //nolint:gosec // after 1970
	extensions := []byte{0, 0}
	text := append([]byte{0, 0}, millis...)
	text = append(text, 0, 1)
	text = append(text, issuerHash[:]...)
	text = append(text, byte(len(tbs)>>16), byte(len(tbs)>>8), byte(len(tbs)))
	text = append(text, tbs...)
	text = append(text, extensions...)
	sig, err := signDigest(key, crypto.SHA256, text)
	if err != nil {
		return nil, err
	}
	one := append([]byte{0}, id...)
	one = append(one, millis...)
	one = append(one, extensions...)
	one = append(one, 4, 3, byte(len(sig)>>8), byte(len(sig)))
	one = append(one, sig...)
	list := append([]byte{byte(len(one) >> 8), byte(len(one))}, one...)
	list = append([]byte{byte(len(list) >> 8), byte(len(list))}, list...)
	der, err := asn1.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("testsigstore: %w", err)
	}
	return der, nil
}
