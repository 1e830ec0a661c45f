// Package trust holds trust stores: immutable, named sets of certificates that signatures may lead to.
package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/boltseal/boltseal"
)

// Type says what the certificates of a store vouch for (trust-store-trust-policy.md,
// "Trust Store").
type Type string

// The types of trust stores.
const (
	TypeCA               Type = "ca"               // signers, scheme notary.x509
	TypeSigningAuthority Type = "signingAuthority" // scheme notary.x509.signingAuthority
	TypeTSA              Type = "tsa"              // timestamp authorities
)

// Types lists the types of trust stores.
func Types() []string {
	return []string{string(TypeCA), string(TypeSigningAuthority), string(TypeTSA)}
}

// Store is an immutable, named set of certificates of one type.
type Store struct {
	kind  Type
	name  string
	certs []*x509.Certificate
	sums  map[[sha256.Size]byte]bool
	lacks string
}

// NewStore checks that each certificate may stand in a store of the given type:
// a CA or self-signed in "ca" and "signingAuthority", a self-signed CA in "tsa".
// The same certificate twice counts once. Errors wrap [boltseal.ErrConfiguration].
func NewStore(kind Type, name string, certs []*x509.Certificate) (*Store, error) {
	if !slices.Contains(Types(), string(kind)) {
		return nil, fmt.Errorf("%w: %q is no type of trust store; it must be one of %v", boltseal.ErrConfiguration, kind, Types())
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%w: trust store %s:%s has no certificate", boltseal.ErrConfiguration, kind, name)
	}
	s := &Store{kind: kind, name: name, sums: make(map[[sha256.Size]byte]bool, len(certs))}
	for _, c := range certs {
		if err := Admit(kind, c); err != nil {
			return nil, fmt.Errorf("%w: trust store %s:%s: the certificate %q %v", boltseal.ErrConfiguration, kind, name, c.Subject, err)
		}
		sum := sha256.Sum256(c.Raw)
		if !s.sums[sum] {
			s.sums[sum] = true
			s.certs = append(s.certs, c)
		}
	}
	return s, nil
}

// EmptyStore has no certificates: no signature can be trusted by it. It stands
// in for a store whose certificates could not be had.
func EmptyStore(kind Type, name string) *Store { return &Store{kind: kind, name: name} }

// Admit says why a certificate may not stand in a store of the given type, nil
// where it may; see [NewStore].
func Admit(kind Type, c *x509.Certificate) error {
	ca := c.IsCA && c.BasicConstraintsValid
	selfSigned := func() bool {
		return bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
	}
	if kind == TypeTSA {
		if !ca || !selfSigned() {
			return fmt.Errorf("is not the root of a timestamp authority (a self-signed CA)")
		}
		return nil
	}
	if ca || selfSigned() {
		return nil
	}
	return fmt.Errorf("is neither a CA's nor self-signed: put the CA that issued it here")
}

// Anchors are the certificates that may stand in a store of the given type: of a
// chain, its CAs, and not the signer's own certificate.
func Anchors(kind Type, certs []*x509.Certificate) []*x509.Certificate {
	return slices.DeleteFunc(slices.Clone(certs), func(c *x509.Certificate) bool { return Admit(kind, c) != nil })
}

// Lacking returns a store with the same certificates that says, when it is asked,
// which others could not be had, and why: a sentence for a person.
func (s *Store) Lacking(why string) *Store {
	lacking := *s
	lacking.lacks = why
	return &lacking
}

// Lacks says which certificates could not be had, and why; "" where none is missing.
func (s *Store) Lacks() string { return s.lacks }

// Type returns the store's type.
func (s *Store) Type() Type { return s.kind }

// Name returns the store's name, without its type.
func (s *Store) Name() string { return s.name }

// String returns "type:name", as a trust policy names the store.
func (s *Store) String() string { return string(s.kind) + ":" + s.name }

// Certificates returns the certificates. The slice must not be changed.
func (s *Store) Certificates() []*x509.Certificate { return s.certs }

// Contains reports whether exactly this certificate, byte for byte, is in the store.
func (s *Store) Contains(c *x509.Certificate) bool { return s.sums[sha256.Sum256(c.Raw)] }

// ContainsSum is Contains by the SHA-256 of the certificate's DER bytes.
func (s *Store) ContainsSum(sum [sha256.Size]byte) bool { return s.sums[sum] }

// ExpiryNotice is how long before its end a certificate's expiry is announced.
const ExpiryNotice = 30 * 24 * time.Hour

// Problems names the certificates that are outside their validity at now, or
// leave it within ExpiryNotice. They stay in the store; nothing that those
// outside vouch for passes.
func (s *Store) Problems(now time.Time) []string {
	var out []string
	for _, c := range s.certs {
		if text := Expiring(c, now); text != "" {
			out = append(out, fmt.Sprintf("trust store %s: %s", s, text))
		}
	}
	return out
}

// Expiring says that a certificate is outside its validity at now, or leaves it
// within ExpiryNotice; "" where neither is so.
func Expiring(c *x509.Certificate, now time.Time) string {
	switch {
	case now.After(c.NotAfter):
		return fmt.Sprintf("the certificate %q expired on %s", c.Subject, c.NotAfter.UTC().Format(time.DateOnly))
	case now.Before(c.NotBefore):
		return fmt.Sprintf("the certificate %q is not valid before %s", c.Subject, c.NotBefore.UTC().Format(time.DateOnly))
	case now.Add(ExpiryNotice).After(c.NotAfter):
		return fmt.Sprintf("the certificate %q expires on %s; add its successor before", c.Subject, c.NotAfter.UTC().Format(time.DateOnly))
	}
	return ""
}

// Fingerprint is "sha256:" and the hexadecimal digest of the DER bytes.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}
