package testca

import (
	"crypto"
	"encoding/asn1"
	"fmt"
)

// Object identifiers of RFC 5280, 5652, 5816, 8017 and 5758.
var (
	oidExtKeyUsage          = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidFreshestCRL          = asn1.ObjectIdentifier{2, 5, 29, 46}
	oidDeltaCRLIndicator    = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidTimeStamping         = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}
	oidSignedData           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidContentType          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSigningCertificateV2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47}
	oidTSTInfo              = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
	oidSHA256               = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384               = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512               = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}
	oidSHA256WithRSA        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	oidSHA384WithRSA        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}
	oidSHA512WithRSA        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}
	oidECDSAWithSHA256      = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidECDSAWithSHA384      = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}
	oidECDSAWithSHA512      = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}
)

// BaselineTimestampPolicy is the best practices policy for time-stamps (ETSI EN
// 319 421), which stands for an accuracy of a second where none is given.
func BaselineTimestampPolicy() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{0, 4, 0, 2023, 1, 1}
}

// hashOIDs names a hash, and the signatures that RSA and EC keys make with it.
func hashOIDs(h crypto.Hash) (hash, rsa, ec asn1.ObjectIdentifier, err error) {
	switch h {
	case crypto.SHA256:
		return oidSHA256, oidSHA256WithRSA, oidECDSAWithSHA256, nil
	case crypto.SHA384:
		return oidSHA384, oidSHA384WithRSA, oidECDSAWithSHA384, nil
	case crypto.SHA512:
		return oidSHA512, oidSHA512WithRSA, oidECDSAWithSHA512, nil
	}
	return nil, nil, nil, fmt.Errorf("testca: no identifier for the hash %v", h)
}
