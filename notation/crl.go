package notation

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"

	"github.com/notaryproject/notation-core-go/revocation/crl"
)

// certificateList is a CRL with its content unread (RFC 5280 section 5.1).
type certificateList struct {
	TBS       asn1.RawValue
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
}

// Signature algorithms (RFC 4055, RFC 5758), those of checkCommon.
var (
	oidPSS      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	fixedHashes = []struct {
		oid       asn1.ObjectIdentifier
		algorithm x509.SignatureAlgorithm
	}{
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, x509.SHA256WithRSA},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, x509.SHA384WithRSA},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, x509.SHA512WithRSA},
		{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, x509.ECDSAWithSHA256},
		{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, x509.ECDSAWithSHA384},
		{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}, x509.ECDSAWithSHA512},
	}
	pssHashes = []struct {
		oid       asn1.ObjectIdentifier
		algorithm x509.SignatureAlgorithm
	}{
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, x509.SHA256WithRSAPSS},
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, x509.SHA384WithRSAPSS},
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, x509.SHA512WithRSAPSS},
	}
)

// signedByOne tells whether DER bytes are a CRL that one of the issuers signed,
// without reading what is in it.
func signedByOne(der []byte, issuers []*x509.Certificate) bool {
	var list certificateList
	if rest, err := asn1.Unmarshal(der, &list); err != nil || len(rest) > 0 {
		return false
	}
	algorithm := algorithmNamed(list.Algorithm)
	return algorithm != x509.UnknownSignatureAlgorithm && slices.ContainsFunc(issuers, func(c *x509.Certificate) bool {
		return c.CheckSignature(algorithm, list.TBS.FullBytes, list.Signature.RightAlign()) == nil
	})
}

func algorithmNamed(id pkix.AlgorithmIdentifier) x509.SignatureAlgorithm {
	oid, table := id.Algorithm, fixedHashes
	if oid.Equal(oidPSS) {
		// Of RSASSA-PSS-params the hash is enough: the signature does not hold
		// if the rest is not what goes with it.
		var hash pkix.AlgorithmIdentifier
		var fields []asn1.RawValue
		if _, err := asn1.Unmarshal(id.Parameters.FullBytes, &fields); err != nil || len(fields) == 0 {
			return x509.UnknownSignatureAlgorithm
		}
		if _, err := asn1.UnmarshalWithParams(fields[0].FullBytes, &hash, "explicit,tag:0"); err != nil {
			return x509.UnknownSignatureAlgorithm
		}
		oid, table = hash.Algorithm, pssHashes
	}
	for _, row := range table {
		if row.oid.Equal(oid) {
			return row.algorithm
		}
	}
	return x509.UnknownSignatureAlgorithm
}

// issuingDistributionPoint says what a CRL covers (RFC 5280 section 5.2.5).
type issuingDistributionPoint struct {
	Point struct {
		FullName []asn1.RawValue `asn1:"optional,tag:0"`
		Relative asn1.RawValue   `asn1:"optional,tag:1"`
	} `asn1:"optional,tag:0"`
	UserCerts      bool           `asn1:"optional,tag:1"`
	CACerts        bool           `asn1:"optional,tag:2"`
	SomeReasons    asn1.BitString `asn1:"optional,tag:3"`
	Indirect       bool           `asn1:"optional,tag:4"`
	AttributeCerts bool           `asn1:"optional,tag:5"`
}

var oidIssuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}

const tagURI = 6 // of GeneralName, RFC 5280 section 4.2.1.6

// checkScope refuses lists that do not cover a certificate, which the library
// does not look at: a CA that splits its CRL signs lists in which the
// certificate cannot be, and any of them could be served in place of the right one.
func checkScope(b *crl.Bundle, c *x509.Certificate) error {
	for _, list := range []*x509.RevocationList{b.BaseCRL, b.DeltaCRL} {
		if list == nil {
			continue
		}
		for _, ext := range list.Extensions {
			if !ext.Id.Equal(oidIssuingDistributionPoint) {
				continue
			}
			var p issuingDistributionPoint
			if rest, err := asn1.Unmarshal(ext.Value, &p); err != nil || len(rest) > 0 {
				return fmt.Errorf("a CRL whose scope cannot be read")
			}
			if !p.covers(c) {
				return fmt.Errorf("a CRL that does not cover %q", c.Subject)
			}
		}
	}
	return nil
}

func (p *issuingDistributionPoint) covers(c *x509.Certificate) bool {
	ca := c.BasicConstraintsValid && c.IsCA
	if p.UserCerts && ca || p.CACerts && !ca || p.Indirect || p.AttributeCerts || p.SomeReasons.BitLength > 0 ||
		len(p.Point.Relative.FullBytes) > 0 {
		return false
	}
	return len(p.Point.FullName) == 0 || slices.ContainsFunc(p.Point.FullName, func(n asn1.RawValue) bool {
		return n.Class == asn1.ClassContextSpecific && n.Tag == tagURI && slices.Contains(c.CRLDistributionPoints, string(n.Bytes))
	})
}
