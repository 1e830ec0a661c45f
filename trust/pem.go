package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/boltseal/boltseal"
)

// Limits on the certificates that a user provides in one place.
const (
	MaxPEMBytes     = 1 << 20
	MaxCertificates = 1000
)

// Sentinels of [ParseCertificates], to branch on with [errors.Is].
var (
	ErrNoCertificate  = errors.New("no certificate")
	ErrBadCertificate = errors.New("not a certificate")
	ErrPrivateKey     = errors.New("a private key")
)

// maxDetail bounds what another library says about a certificate, in bytes.
const maxDetail = 200

// ParseCertificates reads one or more certificates in PEM (RFC 7468), or one in
// DER. Text around the blocks, as openssl prints it, is passed over; a block that
// is broken is not. Errors wrap [boltseal.ErrConfiguration] and, where one fits,
// a sentinel of this package; none holds what is in a private key.
func ParseCertificates(b []byte) ([]*x509.Certificate, error) {
	if len(b) > MaxPEMBytes {
		return nil, fmt.Errorf("%w: %d bytes of certificates, at most %d", boltseal.ErrConfiguration, len(b), MaxPEMBytes)
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, fmt.Errorf("%w: %w: it is empty", boltseal.ErrConfiguration, ErrNoCertificate)
	}
	if b[0] == 0x30 { // a DER sequence; no PEM text starts with "0"
		if c, err := x509.ParseCertificate(b); err == nil {
			return []*x509.Certificate{c}, nil
		}
	}
	var certs []*x509.Certificate
	for n := 1; ; n++ {
		block, rest := pem.Decode(b)
		if block == nil {
			return certs, finishParsing(b, n, certs)
		}
		// The decoder passes over blocks that it cannot read, and a trust store
		// must not silently lack one of its certificates.
		if bytes.Count(b[:len(b)-len(rest)], begin) > 1 {
			return nil, brokenBlock(b[:len(b)-len(rest)], n)
		}
		b = rest
		if block.Type != "CERTIFICATE" {
			return nil, wrongBlock(block.Type, n)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			if other := checkWithin(block.Bytes, n); other != nil {
				return nil, other
			}
			return nil, fmt.Errorf("%w: block %d is %w: it says CERTIFICATE, but its content is not one (%.*s)", boltseal.ErrConfiguration, n, ErrBadCertificate, maxDetail, err)
		}
		if certs = append(certs, c); len(certs) > MaxCertificates {
			return nil, fmt.Errorf("%w: more than %d certificates", boltseal.ErrConfiguration, MaxCertificates)
		}
	}
}

// maxKind is longer than the names of blocks are (RFC 7468).
const maxKind = 40

var begin = []byte("-----BEGIN")

// brokenBlock is why the first block in b cannot be read.
func brokenBlock(b []byte, n int) error {
	if first := bytes.Index(b, begin); first >= 0 {
		if next := bytes.Index(b[first+len(begin):], begin); next >= 0 {
			b = b[:first+len(begin)+next]
		}
	}
	if err := describeDamage(b, n); err != nil {
		return err
	}
	return fmt.Errorf("%w: block %d is %w: it is cut off or its base64 is broken", boltseal.ErrConfiguration, n, ErrBadCertificate)
}

func wrongBlock(kind string, n int) error {
	switch {
	case strings.Contains(kind, "PRIVATE KEY"):
		return fmt.Errorf("%w: block %d is %w: remove it, replace the key since it has been seen, and put the certificate here", boltseal.ErrConfiguration, n, ErrPrivateKey)
	case strings.Contains(kind, "PUBLIC KEY"):
		return fmt.Errorf("%w: block %d is %w but a public key; a certificate is needed", boltseal.ErrConfiguration, n, ErrBadCertificate)
	case strings.Contains(kind, "CERTIFICATE REQUEST"):
		return fmt.Errorf("%w: block %d is %w but a request for one; put what the CA answered here", boltseal.ErrConfiguration, n, ErrBadCertificate)
	}
	if len(kind) > maxKind || strings.ContainsFunc(kind, func(r rune) bool { return r != ' ' && (r < 'A' || r > 'Z') && (r < '0' || r > '9') }) {
		kind = "something else" // it may be a piece of a key, and is not repeated
	}
	if do := otherBlock(kind); do != "" {
		return fmt.Errorf("%w: block %d is %w but %q: %s", boltseal.ErrConfiguration, n, ErrBadCertificate, kind, do)
	}
	return fmt.Errorf("%w: block %d is %w but %q", boltseal.ErrConfiguration, n, ErrBadCertificate, kind)
}

// finishParsing judges what is left when no further block is found: a block that was
// cut off must not be passed over as text.
func finishParsing(rest []byte, n int, certs []*x509.Certificate) error {
	if bytes.Contains(rest, begin) {
		return brokenBlock(rest, n)
	}
	if len(certs) == 0 {
		if err := describeDamage(rest, n); err != nil {
			return err
		}
		return fmt.Errorf("%w: %w: it has no \"-----BEGIN CERTIFICATE-----\"", boltseal.ErrConfiguration, ErrNoCertificate)
	}
	return nil
}
