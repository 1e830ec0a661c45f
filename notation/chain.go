package notation

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/lru"
	"github.com/boltseal/boltseal/notation/internal/envelope"
)

// Limits on a certificate. Keys in bits: smaller ones can be broken, larger ones
// are unknown to the specification (signature-specification.md, "Algorithm
// Selection") and cost more to use than a chain may, as do large exponents.
const (
	minRSABits          = 2048
	maxRSABits          = 4096
	maxRSAExponent      = 1<<17 - 1
	maxCertificateBytes = 64 << 10
)

var (
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
)

// DefaultChainCacheBytes is the size of a [ChainCache] that nobody sized.
const DefaultChainCacheBytes = 16 << 20

// ChainCache remembers, for exact bytes, how a certificate parses and that one
// certificate's key signed another. It remembers nothing that time or
// configuration can change, and only chains that led to a trusted certificate:
// whoever may push a signature cannot fill it. It may be shared by any number of
// verifiers.
type ChainCache struct {
	certs *lru.Cache[[sha256.Size]byte, *x509.Certificate]
	links *lru.Cache[link, struct{}]
}

type link struct{ child, parent [sha256.Size]byte }

// NewChainCache makes a cache of at most about the given number of bytes; 0
// means DefaultChainCacheBytes.
func NewChainCache(bytes int64) *ChainCache {
	if bytes <= 0 {
		bytes = DefaultChainCacheBytes
	}
	return &ChainCache{
		certs: lru.New[[sha256.Size]byte, *x509.Certificate](bytes * 7 / 8),
		links: lru.New[link, struct{}](bytes / 8),
	}
}

// What an entry occupies besides a certificate's DER bytes, about.
const (
	parsedCost = 3 << 10
	linkCost   = 160
)

func (c *ChainCache) parse(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCertificateBytes {
		return nil, fmt.Errorf("%d bytes, at most %d", len(der), maxCertificateBytes)
	}
	if cert, ok := c.certs.Get(sha256.Sum256(der)); ok {
		return cert, nil
	}
	return x509.ParseCertificate(der)
}

func linkOf(child, parent *x509.Certificate) link {
	return link{sha256.Sum256(child.Raw), sha256.Sum256(parent.Raw)}
}

// errWrongSignature is a signature by another key than it should be by.
var errWrongSignature = errors.New("carries a signature that is not by")

// signed reports whether parent's key signed child: nil, or an error that wraps
// errWrongSignature, or one that says that it was not checked.
func (c *ChainCache) signed(ctx context.Context, child, parent *x509.Certificate) error {
	if _, ok := c.links.Get(linkOf(child, parent)); ok {
		return nil
	}
	if err := spendCheck(ctx); err != nil {
		return err
	}
	// CheckSignature, not CheckSignatureFrom: a self-signed leaf is no CA, and
	// what a CA must be is checked by the rules below.
	if err := parent.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature); err != nil {
		return fmt.Errorf("%w %q: %v", errWrongSignature, parent.Subject, err)
	}
	return nil
}

// spendCheck is to be called before each check of a signature with a public key.
// An error says that it is not to be made: nobody waits for it any more
// ([boltseal.ErrUnavailable]), or it is one too many ([boltseal.ErrLimit]).
func spendCheck(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: the verification was cut off before it ended: %w", boltseal.ErrUnavailable, err)
	}
	return boltseal.SpendBudget(ctx, boltseal.Cost{PublicKeys: 1})
}

// keep remembers a chain that checkChain found right and that is trusted.
func (c *ChainCache) keep(chain []*x509.Certificate) {
	for _, cert := range chain {
		sum := sha256.Sum256(cert.Raw)
		if _, ok := c.certs.Get(sum); !ok {
			c.certs.Put(sum, cert, int64(len(cert.Raw)+parsedCost))
		}
	}
	c.keepLinks(chain)
}

// keepLinks is keep without the certificates themselves, for those whose bytes
// are a part of something larger that must not be kept.
func (c *ChainCache) keepLinks(chain []*x509.Certificate) {
	for i, cert := range chain {
		l := linkOf(cert, chain[min(i+1, len(chain)-1)])
		if _, ok := c.links.Get(l); !ok {
			c.links.Put(l, struct{}{}, linkCost)
		}
	}
}

// checkChain is checkRules and checkSignatures.
func (c *ChainCache) checkChain(ctx context.Context, chain []*x509.Certificate, purpose x509.ExtKeyUsage) error {
	if err := checkRules(chain, purpose); err != nil {
		return err
	}
	return c.checkSignatures(ctx, chain, len(chain)-1)
}

// checkRules holds a chain against the certificate requirements
// (signature-specification.md, "Certificate Requirements"): ordered from the
// leaf to its root, each named as the issuer of the one before. It checks no
// signature. Validity in time and trust are not asked here. purpose is the leaf's,
// code signing or time stamping.
func checkRules(chain []*x509.Certificate, purpose x509.ExtKeyUsage) error {
	last := len(chain) - 1
	leafRules := checkSigner
	if purpose == x509.ExtKeyUsageTimeStamping {
		leafRules = checkTimestamper
	}
	for i, cert := range chain {
		if err := checkCommon(cert); err != nil {
			return namedError(cert, err)
		}
		var err error
		if i == 0 {
			err = leafRules(cert)
		} else {
			err = checkCA(cert, i-1, i == last, purpose)
		}
		if err != nil {
			return namedError(cert, err)
		}
	}
	for i, cert := range chain {
		parent := chain[min(i+1, last)]
		if bytes.Equal(cert.RawIssuer, parent.RawSubject) {
			continue
		}
		if i == last {
			return namedError(cert, fmt.Errorf("ends the chain and is not self-signed; the chain must reach its root"))
		}
		return namedError(cert, fmt.Errorf("was not issued by the next certificate, %q", parent.Subject))
	}
	return nil
}

// checkSignatures checks that each certificate of a chain that checkRules passed
// was signed by the next, and the last by itself. It begins below the certificate
// at the index anchor, which somebody trusts or which is the last, and goes down
// to the leaf: certificates that are trusted are public, and whoever only adds one
// to a chain of his own is found out by the first signature. An error that is
// cutOff's says nothing about the chain.
func (c *ChainCache) checkSignatures(ctx context.Context, chain []*x509.Certificate, anchor int) error {
	last := len(chain) - 1
	check := func(i int) error {
		cert, parent := chain[i], chain[min(i+1, last)]
		if i < last && bytes.Equal(cert.RawIssuer, cert.RawSubject) {
			if err := c.signed(ctx, cert, cert); err == nil {
				return namedError(cert, fmt.Errorf("is self-signed and not the last of the chain"))
			} else if !errors.Is(err, errWrongSignature) {
				return err
			}
		}
		if err := c.signed(ctx, cert, parent); errors.Is(err, errWrongSignature) {
			return namedError(cert, err)
		} else if err != nil {
			return err
		}
		return nil
	}
	for i := anchor - 1; i >= 0; i-- {
		if err := check(i); err != nil {
			return err
		}
	}
	for i := anchor; i <= last; i++ {
		if err := check(i); err != nil {
			return err
		}
	}
	return checkNames(chain)
}

// checkNames holds the leaf's alternative names against the name constraints of
// its issuers (RFC 5280 section 4.2.1.10), as the standard library reads them.
func checkNames(chain []*x509.Certificate) error {
	leaf := chain[0]
	if !slices.ContainsFunc(chain[1:], nameConstrained) ||
		len(leaf.DNSNames)+len(leaf.EmailAddresses)+len(leaf.IPAddresses)+len(leaf.URIs) == 0 {
		return nil
	}
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, c := range chain { // a time at which all are valid: time is judged elsewhere
		if c.NotBefore.After(opts.CurrentTime) {
			opts.CurrentTime = c.NotBefore
		}
	}
	opts.Roots.AddCert(chain[len(chain)-1])
	for _, c := range chain[1 : len(chain)-1] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(opts); err != nil {
		return namedError(leaf, fmt.Errorf("does not meet the name constraints of its issuers: %v", err))
	}
	return nil
}

func nameConstrained(c *x509.Certificate) bool {
	return len(c.PermittedDNSDomains)+len(c.ExcludedDNSDomains)+len(c.PermittedIPRanges)+len(c.ExcludedIPRanges)+
		len(c.PermittedEmailAddresses)+len(c.ExcludedEmailAddresses)+len(c.PermittedURIDomains)+len(c.ExcludedURIDomains) > 0
}

func namedError(c *x509.Certificate, err error) error {
	return fmt.Errorf("the certificate %q %w", c.Subject, err)
}

func checkCommon(c *x509.Certificate) error {
	switch c.SignatureAlgorithm {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS,
		x509.SHA512WithRSAPSS, x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
	default:
		return fmt.Errorf("is signed with %v; SHA-256, -384 or -512 with RSA or ECDSA is allowed", c.SignatureAlgorithm)
	}
	if err := checkKey(c); err != nil {
		return err
	}
	if len(c.UnhandledCriticalExtensions) > 0 {
		return fmt.Errorf("has a critical extension that is not known here (%v)", c.UnhandledCriticalExtensions[0])
	}
	if critical, ok := findExtension(c, oidKeyUsage); !ok || !critical {
		return fmt.Errorf("lacks a key usage that is marked critical")
	}
	return nil
}

// checkKey holds a certificate's key against what the specification allows
// (signature-specification.md, "Algorithm Selection").
func checkKey(c *x509.Certificate) error {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSABits || n > maxRSABits {
			return fmt.Errorf("has an RSA key of %d bits; %d to %d are allowed", n, minRSABits, maxRSABits)
		}
		if k.E < 3 || k.E > maxRSAExponent || k.E%2 == 0 {
			return fmt.Errorf("has an RSA key with the public exponent %d; odd ones from 3 to %d are allowed, and 65537 is usual", k.E, maxRSAExponent)
		}
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() && k.Curve != elliptic.P521() {
			return fmt.Errorf("has a key on the curve %s; P-256, P-384 and P-521 are allowed", k.Curve.Params().Name)
		}
	default:
		return fmt.Errorf("has a key of type %s; RSA and ECDSA are allowed", envelope.DescribeKey(k))
	}
	return nil
}

func findExtension(c *x509.Certificate, id asn1.ObjectIdentifier) (critical, ok bool) {
	for i := range c.Extensions {
		if c.Extensions[i].Id.Equal(id) {
			return c.Extensions[i].Critical, true
		}
	}
	return false, false
}

// checkCA checks an issuer with below further issuers between it and the leaf.
func checkCA(c *x509.Certificate, below int, root bool, purpose x509.ExtKeyUsage) error {
	critical, _ := findExtension(c, oidBasicConstraints)
	switch {
	case !c.BasicConstraintsValid || !c.IsCA || !critical:
		return fmt.Errorf("issues another and is no CA (basic constraints must be critical and say so)")
	case c.KeyUsage&x509.KeyUsageCertSign == 0:
		return fmt.Errorf("issues another and its key usage does not allow that")
	case (c.MaxPathLen > 0 || c.MaxPathLenZero) && c.MaxPathLen < below:
		return fmt.Errorf("allows %d CAs below it, and %d are there", c.MaxPathLen, below)
	}
	if !root && (len(c.ExtKeyUsage) > 0 || len(c.UnknownExtKeyUsage) > 0) &&
		!slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) && !slices.Contains(c.ExtKeyUsage, purpose) {
		return fmt.Errorf("is a CA for other purposes (extended key usage)")
	}
	return nil
}

func checkLeaf(c *x509.Certificate) error {
	switch {
	case c.BasicConstraintsValid && c.IsCA:
		return fmt.Errorf("is a CA's, and a CA must not sign images")
	case c.KeyUsage != x509.KeyUsageDigitalSignature && c.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment:
		return fmt.Errorf("must have the key usage \"digital signature\" and no other")
	}
	return nil
}

// checkSigner holds the leaf of a signature against its rules.
func checkSigner(c *x509.Certificate) error {
	if err := checkLeaf(c); err != nil {
		return err
	}
	if len(c.ExtKeyUsage) == 0 && len(c.UnknownExtKeyUsage) == 0 {
		return nil
	}
	if !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) {
		return fmt.Errorf("is not for code signing (extended key usage)")
	}
	for _, eku := range c.ExtKeyUsage {
		switch eku {
		case x509.ExtKeyUsageAny, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageEmailProtection,
			x509.ExtKeyUsageTimeStamping, x509.ExtKeyUsageOCSPSigning:
			return fmt.Errorf("is for other purposes besides code signing (extended key usage)")
		}
	}
	return nil
}

// checkTimestamper holds the leaf of a timestamp against its rules (RFC 3161
// section 2.3).
func checkTimestamper(c *x509.Certificate) error {
	if err := checkLeaf(c); err != nil {
		return err
	}
	critical, _ := findExtension(c, oidExtKeyUsage)
	if !critical || len(c.UnknownExtKeyUsage) > 0 || len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageTimeStamping {
		return fmt.Errorf("must have time stamping as its only extended key usage, marked critical")
	}
	return nil
}
