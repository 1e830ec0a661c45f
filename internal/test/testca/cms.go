package testca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
)

// The structures of CMS SignedData that a timestamp token needs (RFC 5652,
// section 5). The names in comments are those of the ASN.1 module.
type (
	contentInfo struct {
		ContentType asn1.ObjectIdentifier
		Content     asn1.RawValue `asn1:"explicit,tag:0"`
	}
	signedData struct {
		Version          int
		DigestAlgorithms []pkix.AlgorithmIdentifier `asn1:"set"`
		EncapContentInfo encapContentInfo
		Certificates     asn1.RawValue `asn1:"optional"` // [0] IMPLICIT CertificateSet
		SignerInfos      []signerInfo  `asn1:"set"`
	}
	encapContentInfo struct {
		ContentType asn1.ObjectIdentifier
		Content     []byte `asn1:"explicit,tag:0"`
	}
	signerInfo struct {
		Version            int
		SID                issuerAndSerial
		DigestAlgorithm    pkix.AlgorithmIdentifier
		SignedAttrs        asn1.RawValue // [0] IMPLICIT SET OF Attribute
		SignatureAlgorithm pkix.AlgorithmIdentifier
		Signature          []byte
	}
	issuerAndSerial struct {
		Issuer asn1.RawValue
		Serial *big.Int
	}
	cmsAttribute struct {
		Type   asn1.ObjectIdentifier
		Values []asn1.RawValue `asn1:"set"`
	}
	// signingCertificateV2 is of RFC 5035, section 3, with SHA-256 by default.
	signingCertificateV2 struct{ Certs []essCertIDv2 }
	essCertIDv2          struct {
		HashAlgorithm pkix.AlgorithmIdentifier `asn1:"optional"`
		CertHash      []byte
		IssuerSerial  issuerSerial
	}
	issuerSerial struct {
		Issuer asn1.RawValue // GeneralNames
		Serial *big.Int
	}
)

// cmsOptions say what is wrong with a SignedData.
type cmsOptions struct {
	noCertificates     bool
	noSigningCert      bool
	wrongSigningCert   bool
	wrongMessageDigest bool
	breakSignature     bool
}

// signCMS wraps content of a type into SignedData, signed by the chain's leaf.
func signCMS(c *Chain, contentType asn1.ObjectIdentifier, content []byte, o cmsOptions) ([]byte, error) {
	leaf := c.Leaf()
	h := c.hash()
	hashOID, rsaOID, ecOID, err := hashOIDs(h)
	if err != nil {
		return nil, err
	}
	sigAlg := pkix.AlgorithmIdentifier{Algorithm: ecOID}
	if _, ok := leaf.Key.Public().(*rsa.PublicKey); ok {
		sigAlg = pkix.AlgorithmIdentifier{Algorithm: rsaOID, Parameters: asn1.NullRawValue}
	}
	digest := hashSum(h, content)
	if o.wrongMessageDigest {
		digest[0] ^= 1
	}
	attrs, err := signedAttributes(leaf, contentType, digest, o)
	if err != nil {
		return nil, err
	}
	// The signature is over the SET OF; in the message it is tagged [0].
	set, err := asn1.MarshalWithParams(attrs, "set")
	if err != nil {
		return nil, err
	}
	sig, err := leaf.Key.Sign(rand.Reader, hashSum(h, set), h)
	if err != nil {
		return nil, err
	}
	if o.breakSignature {
		sig[len(sig)-1] ^= 1
	}
	tagged := bytes.Clone(set)
	tagged[0] = 0xa0
	sd := signedData{
		Version:          3, // the content is not id-data
		DigestAlgorithms: []pkix.AlgorithmIdentifier{{Algorithm: hashOID}},
		EncapContentInfo: encapContentInfo{ContentType: contentType, Content: content},
		SignerInfos: []signerInfo{{
			Version:         1,
			SID:             issuerAndSerial{Issuer: asn1.RawValue{FullBytes: leaf.RawIssuer}, Serial: leaf.SerialNumber},
			DigestAlgorithm: pkix.AlgorithmIdentifier{Algorithm: hashOID},
			SignedAttrs:     asn1.RawValue{FullBytes: tagged}, SignatureAlgorithm: sigAlg, Signature: sig,
		}},
	}
	if !o.noCertificates {
		certs := slices.Clone(c.Raw())
		slices.SortFunc(certs, bytes.Compare) // DER orders a SET OF
		sd.Certificates = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: bytes.Join(certs, nil)}
	}
	inner, err := asn1.Marshal(sd)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(contentInfo{ContentType: oidSignedData, Content: asn1.RawValue{FullBytes: explicitTag(inner)}})
}

// explicitTag wraps DER in an explicit tag [0].
func explicitTag(der []byte) []byte {
	out, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: der})
	if err != nil {
		panic(err) // a raw value always encodes
	}
	return out
}

func signedAttributes(leaf *Cert, contentType asn1.ObjectIdentifier, digest []byte, o cmsOptions) ([]cmsAttribute, error) {
	values := []struct {
		oid   asn1.ObjectIdentifier
		value any
	}{{oidContentType, contentType}, {oidMessageDigest, digest}}
	if !o.noSigningCert {
		certHash := hashSum(crypto.SHA256, leaf.Raw)
		if o.wrongSigningCert {
			certHash[0] ^= 1
		}
		directoryName := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: leaf.RawIssuer}
		generalNames, err := asn1.Marshal([]asn1.RawValue{directoryName})
		if err != nil {
			return nil, err
		}
		values = append(values, struct {
			oid   asn1.ObjectIdentifier
			value any
		}{oidSigningCertificateV2, signingCertificateV2{Certs: []essCertIDv2{{
			CertHash: certHash, IssuerSerial: issuerSerial{Issuer: asn1.RawValue{FullBytes: generalNames}, Serial: leaf.SerialNumber},
		}}}})
	}
	attrs := make([]cmsAttribute, len(values))
	for i, v := range values {
		der, err := asn1.Marshal(v.value)
		if err != nil {
			return nil, err
		}
		attrs[i] = cmsAttribute{Type: v.oid, Values: []asn1.RawValue{{FullBytes: der}}}
	}
	return attrs, nil
}

func hashSum(h crypto.Hash, b []byte) []byte {
	w := h.New()
	w.Write(b)
	return w.Sum(nil)
}
