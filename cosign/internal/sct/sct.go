// Package sct verifies the timestamps of certificate transparency logs that are embedded in certificates (RFC 6962).
package sct

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// maxSCTs bounds the timestamps of one certificate.
const maxSCTs = 8

var (
	oidList   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}
	oidPoison = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3}
)

// Log is a log that is trusted, and when.
type Log struct {
	Key crypto.PublicKey
	// Valid reports whether the log was trusted at a time.
	Valid func(time.Time) bool
}

// SCT is a signed certificate timestamp (RFC 6962 section 3.2).
type SCT struct {
	LogID      [sha256.Size]byte
	Time       time.Time
	millis     uint64
	extensions []byte
	hash, algo uint8
	signature  []byte
}

// ErrNone is a certificate without timestamps.
var ErrNone = errors.New("the certificate has no timestamp of a certificate transparency log")

// Parse returns the timestamps that are embedded in a certificate.
func Parse(c *x509.Certificate) ([]SCT, error) {
	var value []byte
	for _, e := range c.Extensions {
		if e.Id.Equal(oidList) {
			value = e.Value // a second one makes the certificate unreadable
		}
		if e.Id.Equal(oidPoison) {
			return nil, errors.New("it is a precertificate, which is no certificate")
		}
	}
	if value == nil {
		return nil, ErrNone
	}
	bad := errors.New("the certificate's timestamps cannot be read")
	outer, list := cryptobyte.String(value), cryptobyte.String{}
	var all cryptobyte.String
	if !outer.ReadASN1(&list, cryptobyte_asn1.OCTET_STRING) || !outer.Empty() || !list.ReadUint16LengthPrefixed(&all) || !list.Empty() {
		return nil, bad
	}
	var out []SCT
	for !all.Empty() {
		var one cryptobyte.String
		if !all.ReadUint16LengthPrefixed(&one) {
			return nil, bad
		}
		if len(out) == maxSCTs {
			return nil, fmt.Errorf("the certificate has more than %d timestamps", maxSCTs)
		}
		s, ok := parseOne(one)
		if !ok {
			return nil, bad
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		return nil, ErrNone
	}
	return out, nil
}

func parseOne(b cryptobyte.String) (s SCT, ok bool) {
	var version uint8
	var id []byte
	var extensions, signature cryptobyte.String
	ok = b.ReadUint8(&version) && version == 0 && b.ReadBytes(&id, sha256.Size) && b.ReadUint64(&s.millis) &&
		b.ReadUint16LengthPrefixed(&extensions) && b.ReadUint8(&s.hash) && b.ReadUint8(&s.algo) &&
		b.ReadUint16LengthPrefixed(&signature) && b.Empty()
	if !ok || s.millis > 1<<53 {
		return s, false
	}
	s.LogID, s.Time = [sha256.Size]byte(id), time.UnixMilli(int64(s.millis)).UTC() //nolint:gosec // bounded above
	s.extensions, s.signature = extensions, signature
	return s, true
}

// Verify reports whether a log of the given ones has seen the certificate that issuer
// has issued: one timestamp that is right suffices. spend is called before each check of
// a signature, and its error ends the work. An error of spend is returned as it is.
func Verify(c, issuer *x509.Certificate, logs map[[sha256.Size]byte]Log, spend func() error) error {
	all, err := Parse(c)
	if err != nil {
		return err
	}
	tbs, err := precertificateOf(c.RawTBSCertificate)
	if err != nil {
		return err
	}
	why := errors.New("none of the certificate's timestamps is of a certificate transparency log that is trusted")
	for _, s := range all {
		log, ok := logs[s.LogID]
		if !ok {
			continue
		}
		if !log.Valid(s.Time) {
			why = fmt.Errorf("the certificate's timestamp of %s is of a time at which that log is not trusted", s.Time.Format(time.RFC3339))
			continue
		}
		if err := spend(); err != nil {
			return err
		}
		if s.verify(log.Key, issuer, tbs) {
			return nil
		}
		why = errors.New("the certificate's timestamp was not made by the log's key, or is of another certificate")
	}
	return why
}

// verify checks one timestamp (RFC 6962 section 3.2, a precert_entry).
func (s SCT) verify(key crypto.PublicKey, issuer *x509.Certificate, tbs []byte) bool {
	const sha256TLS, rsaTLS, ecdsaTLS = 4, 1, 3 // RFC 5246 section 7.4.1.4.1
	if s.hash != sha256TLS {
		return false
	}
	keyHash := sha256.Sum256(issuer.RawSubjectPublicKeyInfo)
	b := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)+len(s.extensions)+64))
	b.AddUint8(0) // v1
	b.AddUint8(0) // certificate_timestamp
	b.AddUint64(s.millis)
	b.AddUint16(1) // precert_entry
	b.AddBytes(keyHash[:])
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(tbs) })
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(s.extensions) })
	text, err := b.Bytes()
	if err != nil {
		return false
	}
	sum := sha256.Sum256(text)
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return s.algo == ecdsaTLS && ecdsa.VerifyASN1(k, sum[:], s.signature)
	case *rsa.PublicKey:
		return s.algo == rsaTLS && rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], s.signature) == nil
	}
	return false
}

// precertificateOf is a TBSCertificate without the extension that holds the timestamps:
// what they were made for.
func precertificateOf(tbs []byte) ([]byte, error) {
	bad := errors.New("the certificate cannot be read")
	input, body := cryptobyte.String(tbs), cryptobyte.String{}
	if !input.ReadASN1(&body, cryptobyte_asn1.SEQUENCE) || !input.Empty() {
		return nil, bad
	}
	extensions := cryptobyte_asn1.Tag(3).Constructed().ContextSpecific()
	out := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)))
	failed := false
	out.AddASN1(cryptobyte_asn1.SEQUENCE, func(out *cryptobyte.Builder) {
		for !body.Empty() {
			var element cryptobyte.String
			var tag cryptobyte_asn1.Tag
			if !body.ReadAnyASN1Element(&element, &tag) {
				failed = true
				return
			}
			if tag != extensions {
				out.AddBytes(element)
				continue
			}
			var explicit, list cryptobyte.String
			if !element.ReadASN1(&explicit, extensions) || !explicit.ReadASN1(&list, cryptobyte_asn1.SEQUENCE) {
				failed = true
				return
			}
			out.AddASN1(extensions, func(out *cryptobyte.Builder) {
				out.AddASN1(cryptobyte_asn1.SEQUENCE, func(out *cryptobyte.Builder) { failed = !copyExtensions(out, list) || failed })
			})
		}
	})
	b, err := out.Bytes()
	if failed || err != nil {
		return nil, bad
	}
	return b, nil
}

// copyExtensions copies all extensions but the list of timestamps.
func copyExtensions(out *cryptobyte.Builder, list cryptobyte.String) bool {
	for !list.Empty() {
		var one cryptobyte.String
		if !list.ReadASN1Element(&one, cryptobyte_asn1.SEQUENCE) {
			return false
		}
		inner, content := one, cryptobyte.String{}
		var id asn1.ObjectIdentifier
		if !inner.ReadASN1(&content, cryptobyte_asn1.SEQUENCE) || !content.ReadASN1ObjectIdentifier(&id) {
			return false
		}
		if !id.Equal(oidList) {
			out.AddBytes(one)
		}
	}
	return true
}
