// Package tlog checks entries of transparency logs: what they are about, promises of inclusion, and proofs of it (Rekor v1 and v2).
package tlog

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/cosign/internal/sigkey"
	"github.com/boltseal/boltseal/cosign/internal/wire"
)

// maxBody bounds an entry, in bytes.
const maxBody = 256 << 10

// Signed is what an entry must be about: one signature, who made it, and over what.
type Signed struct {
	Signature   []byte
	Certificate []byte // DER, nil where a key alone made the signature
	Key         crypto.PublicKey
	Algorithm   sigkey.Algorithm
	// Digest is that of the message that the signature is over, false where it cannot
	// be told.
	Digest func(crypto.Hash) ([]byte, bool)
	// Payload is that of the envelope whose encoding is the message. Nil where the
	// message is no envelope.
	Payload []byte
}

// IsV2 reports whether entries of a kind are Rekor's second version's, which promises
// nothing and tells no time (rekor-v2-spec.md).
func IsV2(kind, version string) bool { return kind == "hashedrekord" && version == "0.0.2" }

// CheckBody reports how an entry differs from what is signed: in signature, signer or
// content. An entry about something else says nothing. Errors that it cannot be read
// wrap [boltseal.ErrMalformed], and [boltseal.ErrLimit] where it is too large.
func CheckBody(kind, version string, body []byte, s Signed) error {
	var doc struct {
		Kind       string         `json:"kind"`
		APIVersion string         `json:"apiVersion"`
		Spec       jsontext.Value `json:"spec"`
	}
	if err := wire.DecodeOpen("the log's entry", body, maxBody, &doc); err != nil {
		return err
	}
	if doc.Kind != kind || doc.APIVersion != version {
		return fmt.Errorf("%w: the log's entry is %.50q %.50q, and the signature says that it is %.50q %.50q", boltseal.ErrMalformed, doc.Kind, doc.APIVersion, kind, version)
	}
	switch envelope := s.Payload != nil; kind + " " + version {
	case "hashedrekord 0.0.1":
		if envelope {
			return fmt.Errorf("the log's entry is of the kind %s, and what is signed is an envelope", kind)
		}
		return checkHashedRekord(doc.Spec, s)
	case "hashedrekord 0.0.2":
		return checkHashedRekordV2(doc.Spec, s)
	case "dsse 0.0.1":
		if !envelope {
			return fmt.Errorf("the log's entry is of the kind %s, and what is signed is no envelope", kind)
		}
		return checkDSSE(doc.Spec, s)
	case "intoto 0.0.2":
		if !envelope {
			return fmt.Errorf("the log's entry is of the kind %s, and what is signed is no envelope", kind)
		}
		return checkInToto(doc.Spec, s)
	}
	return fmt.Errorf("%w: entries of the kind %.50q %.50q are not known here", errors.ErrUnsupported, kind, version)
}

type hashValue struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"value"`
}

// is reports a hash that is not the one that is expected of the content.
func (h hashValue) is(digest func(crypto.Hash) ([]byte, bool)) error {
	algorithm, ok := map[string]crypto.Hash{"sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512}[h.Algorithm]
	if !ok {
		return fmt.Errorf("%w: the log's entry has a hash by %.20q", errors.ErrUnsupported, h.Algorithm)
	}
	want, known := digest(algorithm)
	if !known {
		return fmt.Errorf("%w: the log's entry has a hash by %s, which cannot be compared here", errors.ErrUnsupported, h.Algorithm)
	}
	if got, err := hex.DecodeString(h.Value); err != nil || !bytes.Equal(got, want) {
		return errors.New("the log's entry is of another content")
	}
	return nil
}

// by reports a signature or signer that is not the one which is expected. verifier is
// PEM, of the certificate or of the key.
func (s Signed) by(signature, verifier []byte) error {
	if !bytes.Equal(signature, s.Signature) {
		return errors.New("the log's entry is of another signature")
	}
	block, rest := pem.Decode(verifier)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return fmt.Errorf("%w: the log's entry has no certificate or key that can be read", boltseal.ErrMalformed)
	}
	return s.signer(block.Type == "CERTIFICATE", block.Bytes)
}

// signer compares with a certificate's or a key's DER.
func (s Signed) signer(isCertificate bool, der []byte) error {
	want := s.Certificate
	if s.Certificate == nil {
		var err error
		if want, err = sigkey.SPKI(s.Key); err != nil {
			return err
		}
	}
	if isCertificate != (s.Certificate != nil) || !bytes.Equal(der, want) {
		return errors.New("the log's entry is of another signer")
	}
	return nil
}

func checkHashedRekord(spec []byte, s Signed) error {
	var doc struct {
		Data struct {
			Hash hashValue `json:"hash"`
		} `json:"data"`
		Signature struct {
			Content   wire.Bytes `json:"content"`
			PublicKey struct {
				Content wire.Bytes `json:"content"`
			} `json:"publicKey"`
		} `json:"signature"`
	}
	if err := wire.DecodeOpen("the log's entry", spec, maxBody, &doc); err != nil {
		return err
	}
	if err := s.by(doc.Signature.Content, doc.Signature.PublicKey.Content); err != nil {
		return err
	}
	return doc.Data.Hash.is(s.Digest)
}

// payloadDigest is the digest of an envelope's payload.
func (s Signed) payloadDigest(h crypto.Hash) ([]byte, bool) {
	sum := h.New()
	sum.Write(s.Payload)
	return sum.Sum(nil), true
}

// oneSignature is an entry's only signature.
type oneSignature[T any] struct{ value T }

func (o *oneSignature[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	n := 0
	err := wire.ReadArray(d, 1, "signatures", func() (err error) {
		n++
		o.value, err = wire.ReadValue[T](d)
		return err
	})
	if err == nil && n != 1 {
		err = errors.New("it has no signature")
	}
	return err
}

func checkDSSE(spec []byte, s Signed) error {
	var doc struct {
		PayloadHash hashValue `json:"payloadHash"`
		Signatures  oneSignature[struct {
			Signature wire.Bytes `json:"signature"`
			Verifier  wire.Bytes `json:"verifier"`
		}] `json:"signatures"`
	}
	if err := wire.DecodeOpen("the log's entry", spec, maxBody, &doc); err != nil {
		return err
	}
	if err := s.by(doc.Signatures.value.Signature, doc.Signatures.value.Verifier); err != nil {
		return err
	}
	return doc.PayloadHash.is(s.payloadDigest)
}

func checkInToto(spec []byte, s Signed) error {
	var doc struct {
		Content struct {
			Envelope struct {
				Signatures oneSignature[struct {
					Sig       wire.Bytes `json:"sig"` // base64 of base64
					PublicKey wire.Bytes `json:"publicKey"`
				}] `json:"signatures"`
			} `json:"envelope"`
			PayloadHash hashValue `json:"payloadHash"`
		} `json:"content"`
	}
	if err := wire.DecodeOpen("the log's entry", spec, maxBody, &doc); err != nil {
		return err
	}
	one := doc.Content.Envelope.Signatures.value
	signature, err := wire.ParseBase64(string(one.Sig))
	if err != nil {
		return fmt.Errorf("%w: the log's entry has a signature that is %w", boltseal.ErrMalformed, err)
	}
	if err := s.by(signature, one.PublicKey); err != nil {
		return err
	}
	return doc.Content.PayloadHash.is(s.payloadDigest)
}

func checkHashedRekordV2(spec []byte, s Signed) error {
	type raw struct {
		RawBytes wire.Bytes `json:"rawBytes"`
	}
	var doc struct {
		HashedRekordV002 struct {
			Data struct {
				Algorithm wire.Enum  `json:"algorithm"`
				Digest    wire.Bytes `json:"digest"`
			} `json:"data"`
			Signature struct {
				Content  wire.Bytes `json:"content"`
				Verifier struct {
					KeyDetails      wire.Enum `json:"keyDetails"`
					X509Certificate *raw      `json:"x509Certificate"`
					PublicKey       *raw      `json:"publicKey"`
				} `json:"verifier"`
			} `json:"signature"`
		} `json:"hashedRekordV002"`
	}
	if err := wire.DecodeOpen("the log's entry", spec, maxBody, &doc); err != nil {
		return err
	}
	e := doc.HashedRekordV002
	v := e.Signature.Verifier
	if !bytes.Equal(e.Signature.Content, s.Signature) {
		return errors.New("the log's entry is of another signature")
	}
	if (v.X509Certificate == nil) == (v.PublicKey == nil) {
		return fmt.Errorf("%w: the log's entry must name a certificate or a key, and not both", boltseal.ErrMalformed)
	}
	signer := v.X509Certificate
	if signer == nil {
		signer = v.PublicKey
	}
	if err := s.signer(v.X509Certificate != nil, signer.RawBytes); err != nil {
		return err
	}
	hash := s.Algorithm.Hash
	if hash == 0 { // Ed25519ph
		hash = crypto.SHA512
	}
	if want := keyDetails(s.Key, s.Algorithm); string(v.KeyDetails) != want {
		return fmt.Errorf("the log's entry is by the algorithm %.50q, not %s", v.KeyDetails, want)
	}
	if want := map[crypto.Hash]string{crypto.SHA256: "SHA2_256", crypto.SHA384: "SHA2_384", crypto.SHA512: "SHA2_512"}[hash]; string(e.Data.Algorithm) != want {
		return fmt.Errorf("the log's entry has a hash by %.20q, not %s", e.Data.Algorithm, want)
	}
	want, known := s.Digest(hash)
	if !known {
		return fmt.Errorf("%w: the log's entry has a hash by %s, which cannot be compared here", errors.ErrUnsupported, e.Data.Algorithm)
	}
	if !bytes.Equal(e.Data.Digest, want) {
		return errors.New("the log's entry is of another content")
	}
	return nil
}

// keyDetails is the name of a key's algorithm (sigstore_common.proto, PublicKeyDetails).
func keyDetails(key crypto.PublicKey, a sigkey.Algorithm) string {
	bits := map[crypto.Hash]int{crypto.SHA256: 256, crypto.SHA384: 384, crypto.SHA512: 512}[a.Hash]
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return fmt.Sprintf("PKIX_ECDSA_P%d_SHA_%d", k.Curve.Params().BitSize, bits)
	case *rsa.PublicKey:
		scheme := "PKCS1V15"
		if a.PSS {
			scheme = "PSS"
		}
		return fmt.Sprintf("PKIX_RSA_%s_%d_SHA%d", scheme, k.N.BitLen(), bits)
	case ed25519.PublicKey:
		return "PKIX_ED25519_PH"
	}
	return ""
}

// VerifyPromise checks a signed entry timestamp: the log's signature over the canonical
// JSON (RFC 8785) of entry, time, index and log.
func VerifyPromise(key crypto.PublicKey, promise, body []byte, logID []byte, index, integrated int64) error {
	k, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return errors.New("promises of inclusion are made with ECDSA, and the log's key is another")
	}
	text := fmt.Appendf(nil, `{"body":"%s","integratedTime":%d,"logID":"%x","logIndex":%d}`, base64.StdEncoding.EncodeToString(body), integrated, logID, index)
	sum := sha256.Sum256(text)
	if !ecdsa.VerifyASN1(k, sum[:], promise) {
		return errors.New("the promise of inclusion was not made by the log's key")
	}
	return nil
}
