package cosign

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/cosign/internal/sigkey"
)

// authority is a certificate authority, or a timestamp authority. What its certificates
// say of each other was checked when the root was read, and is not checked again.
type authority struct {
	window
	name  string              // its address, or the subject of its root, for messages
	leaf  *x509.Certificate   // the certificate that signs timestamps; nil where the root does not name it
	chain []*x509.Certificate // of CAs, the one that issues first, the trusted one last
}

// authority reads a chain: in order, each certificate signed by the next.
func (a *wireAuthority) authority(purpose x509.ExtKeyUsage) (*authority, error) {
	w, err := a.ValidFor.window()
	if err != nil {
		return nil, err
	}
	out := &authority{window: w, name: a.URI}
	if n := len(a.CertChain.Certificates); n == 0 || n > maxAuthorityChain {
		return nil, fmt.Errorf("has a chain of %d certificates; 1 to %d are allowed", n, maxAuthorityChain)
	}
	for i, c := range a.CertChain.Certificates {
		cert, err := x509.ParseCertificate(c.RawBytes)
		if err != nil {
			return nil, fmt.Errorf("has a certificate, number %d, that cannot be read", i+1)
		}
		if i == 0 && !cert.IsCA && purpose == x509.ExtKeyUsageTimeStamping {
			out.leaf = cert
			continue
		}
		out.chain = append(out.chain, cert)
	}
	if len(out.chain) == 0 {
		return nil, errors.New("has no certificate of a CA in its chain")
	}
	if out.name == "" {
		out.name = out.chain[len(out.chain)-1].Subject.String()
	}
	for i, c := range out.chain {
		if err := checkAuthority(c, i, purpose, i == len(out.chain)-1); err != nil {
			return nil, fmt.Errorf("has the certificate %q, which %w", c.Subject, err)
		}
		if i > 0 {
			if err := checkIssued(out.chain[i-1], c); err != nil {
				return nil, fmt.Errorf("has the certificate %q, which %w: the chain must be in order, the certificate that issues first", out.chain[i-1].Subject, err)
			}
		}
	}
	if out.leaf != nil {
		if err := checkIssued(out.leaf, out.chain[0]); err != nil {
			return nil, fmt.Errorf("has the certificate %q, which %w", out.leaf.Subject, err)
		}
	}
	return out, nil
}

// checkIssued reports a certificate that another's key has not signed.
func checkIssued(child, parent *x509.Certificate) error {
	if !bytes.Equal(child.RawIssuer, parent.RawSubject) {
		return fmt.Errorf("was not issued by %q", parent.Subject)
	}
	if _, err := sigkey.Default(parent.PublicKey); err != nil {
		return fmt.Errorf("was issued with %w", err)
	}
	if err := parent.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature); err != nil {
		return fmt.Errorf("carries a signature that is not by %q", parent.Subject)
	}
	return nil
}

// checkAuthority holds a CA with so many CAs below it against RFC 5280.
func checkAuthority(c *x509.Certificate, below int, purpose x509.ExtKeyUsage, anchor bool) error {
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return errors.New("is not a CA's")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("may not issue certificates (key usage)")
	case (c.MaxPathLen > 0 || c.MaxPathLenZero) && c.MaxPathLen < below:
		return fmt.Errorf("allows %d CAs below it, and %d are there", c.MaxPathLen, below)
	case len(c.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("has a critical extension that is not known here (%v)", c.UnhandledCriticalExtensions[0])
	case !anchor && len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 &&
		!slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) && !slices.Contains(c.ExtKeyUsage, purpose):
		return errors.New("is a CA's for other purposes (extended key usage)")
	}
	return nil
}

var (
	oidExtKeyUsage    = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// checkTimestamper holds a certificate that signs timestamps against RFC 3161 section 2.3.
func checkTimestamper(c *x509.Certificate) error {
	if c.IsCA {
		return errors.New("is a CA's, and a CA must not sign timestamps")
	}
	if len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageTimeStamping || len(c.UnknownExtKeyUsage) > 0 {
		return errors.New("must have time stamping as its only extended key usage")
	}
	for _, e := range c.Extensions {
		if e.Id.Equal(oidExtKeyUsage) && e.Critical {
			return nil
		}
	}
	return errors.New("must have its extended key usage marked critical")
}

// checkSigner holds the certificate of a signature against what Fulcio issues.
func checkSigner(c *x509.Certificate) error {
	for _, id := range c.UnhandledCriticalExtensions {
		if !id.Equal(oidSubjectAltName) { // names of other kinds are read in identity.go
			return fmt.Errorf("has a critical extension that is not known here (%v)", id)
		}
	}
	switch {
	case c.IsCA:
		return errors.New("is a CA's, and a CA must not sign images")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("may not sign (key usage)")
	case !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageCodeSigning):
		return errors.New("is not for code signing (extended key usage)")
	}
	return nil
}

// errUntrusted is a certificate that no authority of the root has issued.
var errUntrusted = errors.New("was not issued by a certificate authority of the trusted root")

// issuers are the authorities of a root that have issued a certificate: there may be
// several with one certificate and other times. An error that is cutOff's says nothing
// about the certificate.
func (r *TrustedRoot) issuers(ctx context.Context, leaf *x509.Certificate) ([]*authority, error) {
	var out []*authority
	why := errUntrusted
	for _, a := range r.authorities {
		if len(out) > 0 && out[0].chain[0].Equal(a.chain[0]) {
			out = append(out, a)
			continue
		}
		if !bytes.Equal(leaf.RawIssuer, a.chain[0].RawSubject) || len(out) > 0 {
			continue
		}
		if err := spendCheck(ctx); err != nil {
			return nil, err
		}
		if err := checkIssued(leaf, a.chain[0]); err != nil {
			why = err
			continue
		}
		if err := checkConstraints(leaf, a.chain, x509.ExtKeyUsageCodeSigning); err != nil {
			why = err
			continue
		}
		out = append(out, a)
	}
	if len(out) == 0 {
		return nil, why
	}
	return out, nil
}

// checkConstraints holds a leaf's names against the name constraints of its issuers, as
// the standard library reads them (RFC 5280 section 4.2.1.10).
func checkConstraints(leaf *x509.Certificate, chain []*x509.Certificate, purpose x509.ExtKeyUsage) error {
	if !slices.ContainsFunc(chain, nameConstrained) {
		return nil
	}
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: leaf.NotBefore,
		KeyUsages: []x509.ExtKeyUsage{purpose}}
	opts.Roots.AddCert(chain[len(chain)-1])
	for _, c := range chain[:len(chain)-1] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(opts); err != nil {
		return fmt.Errorf("does not meet the name constraints of its issuers: %.200v", err)
	}
	return nil
}

func nameConstrained(c *x509.Certificate) bool {
	return len(c.PermittedDNSDomains)+len(c.ExcludedDNSDomains)+len(c.PermittedIPRanges)+len(c.ExcludedIPRanges)+
		len(c.PermittedEmailAddresses)+len(c.ExcludedEmailAddresses)+len(c.PermittedURIDomains)+len(c.ExcludedURIDomains) > 0
}

// validAt reports whether an authority was trusted at a time, and a certificate of its
// and all above were valid (RFC 5280 section 6.1: not the leaf alone).
func (a *authority) validAt(t time.Time, leaf *x509.Certificate) error {
	if !a.contains(t) {
		return fmt.Errorf("the trusted root does not trust %s at %s", a.name, t.UTC().Format(time.RFC3339))
	}
	for _, c := range append([]*x509.Certificate{leaf}, a.chain...) {
		if t.Before(c.NotBefore) || t.After(c.NotAfter) {
			what := fmt.Sprintf("the certificate %q of %s", c.Subject, a.name)
			if c == leaf {
				what = "its signer's certificate"
			}
			return fmt.Errorf("%s was not valid at %s: it is valid from %s to %s", what,
				t.UTC().Format(time.RFC3339), c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// spendCheck is to be called before each check of a signature with a public key. An
// error says that it is not to be made: nobody waits for it any more
// ([boltseal.ErrUnavailable]), or it is one too many ([boltseal.ErrLimit]).
func spendCheck(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: the verification was cut off before it ended: %w", boltseal.ErrUnavailable, err)
	}
	if err := boltseal.SpendBudget(ctx, boltseal.Cost{PublicKeys: 1}); err != nil {
		return &overBudget{err}
	}
	return nil
}

// overBudget is work that was not done because an image may not cost more.
type overBudget struct{ err error }

func (e *overBudget) Error() string { return e.err.Error() }

func (e *overBudget) Unwrap() error { return e.err }

// cutOff tells work that was not done from a signature that is wrong.
func cutOff(err error) bool {
	var over *overBudget
	return errors.Is(err, boltseal.ErrUnavailable) || errors.As(err, &over)
}
