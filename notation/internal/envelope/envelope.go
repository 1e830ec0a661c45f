// Package envelope reads Notary Project signature envelopes, JWS and COSE, and checks their signature.
package envelope

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
)

// Media types of envelopes and of their payload (signature-specification.md).
const (
	MediaTypeJWS     = "application/jose+json"
	MediaTypeCOSE    = "application/cose"
	MediaTypePayload = "application/vnd.cncf.notary.payload.v1+json"
)

// Signing schemes.
const (
	SchemeX509             = "notary.x509"
	SchemeSigningAuthority = "notary.x509.signingAuthority"
)

// Header names that both formats share.
const (
	keyScheme        = "io.cncf.notary.signingScheme"
	keySigningTime   = "io.cncf.notary.signingTime"
	keyAuthentic     = "io.cncf.notary.authenticSigningTime"
	keyExpiry        = "io.cncf.notary.expiry"
	keyTimestamp     = "io.cncf.notary.timestampSignature"
	keySigningAgent  = "io.cncf.notary.signingAgent"
	keyPlugin        = "io.cncf.notary.verificationPlugin"
	maxTimeInSeconds = 253402300799 // 9999-12-31T23:59:59Z
)

// Limits on an envelope; its size in bytes is bounded by who fetched it.
const (
	MaxCertificates = 10
	MaxAttributes   = 64
	maxDepth        = 16
)

// Envelope is what an envelope says. Nothing of it is proven before
// VerifySignature, and then only that the leaf's key signed it.
type Envelope struct {
	MediaType    string
	Algorithm    Algorithm
	Chain        []*x509.Certificate // leaf first
	Target       ocispec.Descriptor  // what was signed
	Scheme       string
	SigningTime  time.Time // the signer's claim; in scheme signingAuthority, the authority's
	Expiry       time.Time // zero = none
	Attributes   []Attribute
	Timestamp    []byte // RFC 3161 token, DER; nil = none
	SigningAgent string
	// Plugin is the verification plugin that the signer asks for; "" = none, or its
	// name is no text (signature-specification.md, "Extended Protected Headers for
	// Notation Plugins").
	Plugin    string
	Signature []byte

	signed []byte // the bytes that Signature covers
}

// Attribute is a signed attribute that nobody here processes.
type Attribute struct {
	Key      string
	Critical bool
}

// Critical returns the attributes whose unknown meaning must fail verification.
func (e *Envelope) Critical() []string {
	var keys []string
	for _, a := range e.Attributes {
		if a.Critical {
			keys = append(keys, a.Key)
		}
	}
	return keys
}

// Error says why an envelope cannot be accepted.
type Error struct {
	Cause  boltseal.Cause // CauseMalformed, CauseUnsupported, CauseTampered, CauseLimit
	Detail string
}

func (e *Error) Error() string { return e.Detail }

func malformedError(format string, a ...any) error {
	return &Error{boltseal.CauseMalformed, fmt.Sprintf(format, a...)}
}

func tooManyCertificates(n int) error {
	return &Error{boltseal.CauseLimit, fmt.Sprintf("its chain has %d certificates, at most %d", n, MaxCertificates)}
}

func unsupportedError(format string, a ...any) error {
	return &Error{boltseal.CauseUnsupported, fmt.Sprintf(format, a...)}
}

// Parser reads envelopes.
type Parser struct {
	// Certificate parses one certificate of a chain, so that a caller can keep
	// those it has seen. Nil means x509.ParseCertificate.
	Certificate func(der []byte) (*x509.Certificate, error)
}

// Parse reads an envelope and holds it against the format's rules
// (signature-specification.md, signature-envelope-jws.md, -cose.md). It checks
// no signature. Errors are *Error.
func (p Parser) Parse(mediaType string, b []byte) (*Envelope, error) {
	var (
		raw rawEnvelope
		err error
	)
	switch mediaType {
	case MediaTypeJWS:
		raw, err = parseJWS(b)
	case MediaTypeCOSE:
		raw, err = parseCOSE(b)
	default:
		return nil, unsupportedError("the envelope's media type %.100q is neither %s nor %s", mediaType, MediaTypeJWS, MediaTypeCOSE)
	}
	if err != nil {
		return nil, err
	}
	e := &raw.Envelope
	e.MediaType = mediaType
	if err := raw.checkHeaders(); err != nil {
		return nil, err
	}
	if e.Target, err = parsePayload(raw.contentType, raw.payload); err != nil {
		return nil, err
	}
	if err := p.chain(e, raw.certificates); err != nil {
		return nil, err
	}
	return e, e.checkKey()
}

// rawEnvelope is what both formats are reduced to.
type rawEnvelope struct {
	Envelope
	contentType   string
	payload       []byte
	certificates  [][]byte
	critical      []string
	present       map[string]bool // protected headers that are there
	signingTime   time.Time
	authenticTime time.Time
}

// checkHeaders holds the protected headers against the signing scheme.
func (r *rawEnvelope) checkHeaders() error {
	if len(r.Signature) == 0 {
		return malformedError("the signature is empty")
	}
	must := map[string]bool{keyScheme: true}
	switch r.Scheme {
	case SchemeX509:
		if r.present[keyAuthentic] {
			return malformedError("%s has no place in the scheme %s", keyAuthentic, r.Scheme)
		}
		r.SigningTime = r.signingTime
	case SchemeSigningAuthority:
		if r.present[keySigningTime] {
			return malformedError("%s has no place in the scheme %s", keySigningTime, r.Scheme)
		}
		must[keyAuthentic] = true
		r.SigningTime = r.authenticTime
	default:
		return unsupportedError("the signing scheme %.100q is neither %s nor %s", r.Scheme, SchemeX509, SchemeSigningAuthority)
	}
	if r.SigningTime.IsZero() {
		return malformedError("the signing time is missing")
	}
	if r.present[keyExpiry] {
		must[keyExpiry] = true
		if !r.Expiry.After(r.SigningTime) {
			return malformedError("the expiry %s is not after the signing time %s", r.Expiry.UTC().Format(time.RFC3339), r.SigningTime.UTC().Format(time.RFC3339))
		}
	}
	return r.checkCritical(must)
}

func (r *rawEnvelope) checkCritical(must map[string]bool) error {
	if len(r.critical) == 0 {
		return malformedError("no header is marked as critical")
	}
	seen := make(map[string]bool, len(r.critical))
	for _, key := range r.critical {
		if seen[key] {
			return malformedError("the header %.100q is marked as critical twice", key)
		}
		seen[key] = true
		if must[key] {
			delete(must, key)
			continue
		}
		i := r.attribute(key)
		if i < 0 {
			return malformedError("the header %.100q is marked as critical, and is not there or may not be", key)
		}
		r.Attributes[i].Critical = true
	}
	for key := range must {
		return malformedError("the header %s is not marked as critical", key)
	}
	return nil
}

func (r *rawEnvelope) attribute(key string) int {
	for i := range r.Attributes {
		if r.Attributes[i].Key == key {
			return i
		}
	}
	return -1
}

// payload is the signed document (signature-specification.md, "Payload"). Names
// are matched exactly and others are refused, so that two readers cannot see
// two targets in one document.
type payload struct {
	Target *ocispec.Descriptor `json:"targetArtifact"`
}

func parsePayload(contentType string, b []byte) (ocispec.Descriptor, error) {
	if contentType != MediaTypePayload {
		return ocispec.Descriptor{}, unsupportedError("the payload's content type %.100q is not %s", contentType, MediaTypePayload)
	}
	var doc payload
	if err := json.Unmarshal(b, &doc, json.RejectUnknownMembers(true)); err != nil {
		return ocispec.Descriptor{}, malformedError("payload: %v", err)
	}
	if doc.Target == nil {
		return ocispec.Descriptor{}, malformedError("payload: it names no targetArtifact")
	}
	if doc.Target.MediaType == "" {
		return ocispec.Descriptor{}, malformedError("payload: its targetArtifact has no mediaType")
	}
	if err := boltseal.ValidateDescriptor(*doc.Target); err != nil {
		return ocispec.Descriptor{}, malformedError("payload: %v", err)
	}
	return *doc.Target, nil
}

func (p Parser) chain(e *Envelope, ders [][]byte) error {
	parse := p.Certificate
	if parse == nil {
		parse = x509.ParseCertificate
	}
	switch {
	case len(ders) == 0:
		return malformedError("it carries no certificate")
	case len(ders) > MaxCertificates:
		return tooManyCertificates(len(ders))
	}
	e.Chain = make([]*x509.Certificate, len(ders))
	for i, der := range ders {
		c, err := parse(der)
		if err != nil {
			return malformedError("certificate %d of its chain: %v", i+1, err)
		}
		e.Chain[i] = c
	}
	return nil
}

// Algorithm is a signature algorithm that the specification allows.
type Algorithm string

// The algorithms, each of which belongs to one size of key.
const (
	PS256 Algorithm = "PS256"
	PS384 Algorithm = "PS384"
	PS512 Algorithm = "PS512"
	ES256 Algorithm = "ES256"
	ES384 Algorithm = "ES384"
	ES512 Algorithm = "ES512"
)

func (a Algorithm) hash() crypto.Hash {
	switch a {
	case PS256, ES256:
		return crypto.SHA256
	case PS384, ES384:
		return crypto.SHA384
	}
	return crypto.SHA512
}

// algorithmOf is the one algorithm of a key, "" where the key is not allowed.
func algorithmOf(key any) Algorithm {
	switch k := key.(type) {
	case *rsa.PublicKey:
		switch k.N.BitLen() {
		case 2048:
			return PS256
		case 3072:
			return PS384
		case 4096:
			return PS512
		}
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return ES256
		case elliptic.P384():
			return ES384
		case elliptic.P521():
			return ES512
		}
	}
	return ""
}

// DescribeKey names the kind and size of a public key, for messages.
func DescribeKey(key any) string {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return k.Curve.Params().Name
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", key), "*")
}

func (e *Envelope) checkKey() error {
	switch want := algorithmOf(e.Chain[0].PublicKey); {
	case want == "":
		return unsupportedError("the signer's key is %s; RSA-2048, -3072, -4096, P-256, P-384 and P-521 are allowed", DescribeKey(e.Chain[0].PublicKey))
	case want != e.Algorithm:
		return malformedError("it states the algorithm %s, and the signer's key requires %s", e.Algorithm, want)
	}
	return nil
}

// VerifySignature checks the signature with the leaf's key. The error is an
// *Error with CauseTampered.
func (e *Envelope) VerifySignature() error {
	h := e.Algorithm.hash()
	w := h.New()
	w.Write(e.signed)
	sum := w.Sum(nil)
	ok := false
	switch key := e.Chain[0].PublicKey.(type) {
	case *rsa.PublicKey:
		// RFC 7518 section 3.5 and RFC 8230 section 2: the salt is as long as the hash.
		ok = rsa.VerifyPSS(key, h, sum, e.Signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}) == nil
	case *ecdsa.PublicKey:
		// RFC 7518 section 3.4 and RFC 9053 section 2.1: r and s, each as long as the field.
		n := (key.Params().BitSize + 7) / 8
		ok = len(e.Signature) == 2*n &&
			ecdsa.Verify(key, sum, new(big.Int).SetBytes(e.Signature[:n]), new(big.Int).SetBytes(e.Signature[n:]))
	}
	if !ok {
		return &Error{boltseal.CauseTampered, "the signature does not match what it is said to sign"}
	}
	return nil
}
