package testsigstore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/notaryproject/tspclient-go"
	"github.com/notaryproject/tspclient-go/pki"
	"github.com/opencontainers/go-digest"
)

// InToto is the payload type of statements.
const InToto = "application/vnd.in-toto+json"

// Content is what is signed: one of the three.
type Content struct {
	Payload   []byte // simple signing
	Statement []byte // in an envelope
	Message   []byte // itself
	Type      string // of an envelope's payload; "" means InToto
}

// Simple is a simple signing payload about an image.
func Simple(reference string, d digest.Digest, optional map[string]any) []byte {
	return mustJSON(map[string]any{"critical": map[string]any{"identity": map[string]any{"docker-reference": reference},
		"image": map[string]any{"docker-manifest-digest": d}, "type": "cosign container image signature"}, "optional": optional})
}

// Statement is an in-toto statement about an image; an empty predicate type is that of
// image signatures.
func Statement(predicateType string, d digest.Digest, annotations map[string]any) []byte {
	if predicateType == "" {
		predicateType = "https://sigstore.dev/cosign/sign/v1"
	}
	subject := map[string]any{"digest": map[string]any{d.Algorithm().String(): d.Encoded()}}
	if annotations != nil {
		subject["annotations"] = annotations
	}
	return mustJSON(map[string]any{"_type": "https://in-toto.io/Statement/v1", "subject": []any{subject}, "predicateType": predicateType, "predicate": map[string]any{}})
}

// SignOptions say what a signature gets beside itself. The zero value is an entry in the
// first version of Rekor, with promise and proof.
type SignOptions struct {
	NoLog     bool // no entry
	V2        bool // an entry in the second version of Rekor instead
	Timestamp bool // a timestamp, too
	InToto    bool // an envelope's entry is of the older kind
	PSS       bool // RSA keys sign with PSS
}

// Signed is a signature. Its fields may be exchanged for another's before it is encoded.
type Signed struct {
	Signer     *Signer
	Content    Content
	Signature  []byte
	Entries    []*Entry
	Timestamps [][]byte
}

func (s *Signer) hash() crypto.Hash {
	if s.Hash != 0 {
		return s.Hash
	}
	switch k := s.Key.Public().(type) {
	case *ecdsa.PublicKey:
		return map[int]crypto.Hash{256: crypto.SHA256, 384: crypto.SHA384, 521: crypto.SHA512}[k.Curve.Params().BitSize]
	case ed25519.PublicKey:
		return crypto.SHA512
	}
	return crypto.SHA256
}

func preAuthEncoding(payloadType string, payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

func (c Content) payloadType() string {
	if c.Type != "" {
		return c.Type
	}
	return InToto
}

// message is what the signature is over.
func (c Content) message() []byte {
	switch {
	case c.Payload != nil:
		return c.Payload
	case c.Statement != nil:
		return preAuthEncoding(c.payloadType(), c.Statement)
	}
	return c.Message
}

// Sign signs.
func (i *Instance) Sign(s *Signer, c Content, o SignOptions) (*Signed, error) {
	out := &Signed{Signer: s, Content: c}
	message := c.message()
	var err error
	switch k := s.Key.(type) {
	case *rsa.PrivateKey:
		digest := hashSum(s.hash(), message)
		if o.PSS {
			out.Signature, err = rsa.SignPSS(rand.Reader, k, s.hash(), digest, nil)
		} else {
			out.Signature, err = rsa.SignPKCS1v15(rand.Reader, k, s.hash(), digest)
		}
	case ed25519.PrivateKey:
		if c.Message != nil {
			out.Signature, err = k.Sign(rand.Reader, hashSum(crypto.SHA512, message), &ed25519.Options{Hash: crypto.SHA512})
		} else {
			out.Signature = ed25519.Sign(k, message)
		}
	default:
		out.Signature, err = signDigest(s.Key, s.hash(), message)
	}
	if err != nil {
		return nil, fmt.Errorf("testsigstore: %w", err)
	}
	if !o.NoLog {
		e, err := i.log(out, o)
		if err != nil {
			return nil, err
		}
		out.Entries = []*Entry{e}
	}
	if o.Timestamp {
		t, err := i.Timestamp(out.Signature)
		if err != nil {
			return nil, err
		}
		out.Timestamps = [][]byte{t}
	}
	return out, nil
}

func hashSum(h crypto.Hash, message []byte) []byte {
	s := h.New()
	s.Write(message)
	return s.Sum(nil)
}

// Timestamp is the answer of the timestamp authority about a signature.
func (i *Instance) Timestamp(signature []byte) ([]byte, error) {
	token, err := i.TSA.Token(signature, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	return (&tspclient.Response{Status: pki.StatusInfo{Status: pki.StatusGranted}, TimestampToken: asn1.RawValue{FullBytes: token}}).MarshalBinary()
}

// verifierPEM is who signed, as the first version of Rekor has it.
func (s *Signer) verifierPEM() []byte {
	if s.Certificate != nil {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate.Raw})
	}
	return s.PublicPEM()
}

// PublicPEM is the signer's public key.
func (s *Signer) PublicPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicKeyInfo(s.Key.Public())})
}

func hashedData(b []byte) map[string]any {
	s := sha256.Sum256(b)
	return map[string]any{"algorithm": "sha256", "value": hex.EncodeToString(s[:])}
}

// log makes the entry of a signature.
func (i *Instance) log(s *Signed, o SignOptions) (*Entry, error) {
	add := func(l *Log, kind, version string, spec map[string]any) (*Entry, error) {
		return l.Add(kind, version, mustJSON(map[string]any{"kind": kind, "apiVersion": version, "spec": spec}), i.clock())
	}
	envelope := s.Content.Statement
	switch {
	case o.V2:
		verifier := map[string]any{"keyDetails": s.Signer.keyDetails(o.PSS)}
		if s.Signer.Certificate != nil {
			verifier["x509Certificate"] = map[string]any{"rawBytes": encodeBase64(s.Signer.Certificate.Raw)}
		} else {
			verifier["publicKey"] = map[string]any{"rawBytes": encodeBase64(publicKeyInfo(s.Signer.Key.Public()))}
		}
		h := s.Signer.hash()
		return add(i.Rekor2, "hashedrekord", "0.0.2", map[string]any{"hashedRekordV002": map[string]any{
			"data":      map[string]any{"algorithm": hashName(h), "digest": encodeBase64(hashSum(h, s.Content.message()))},
			"signature": map[string]any{"content": encodeBase64(s.Signature), "verifier": verifier}}})
	case envelope == nil:
		h := hashedData(s.Content.message())
		if _, is := s.Signer.Key.(ed25519.PrivateKey); is {
			h = map[string]any{"algorithm": "sha512", "value": hex.EncodeToString(hashSum(crypto.SHA512, s.Content.message()))}
		}
		return add(i.Rekor, "hashedrekord", "0.0.1", map[string]any{"data": map[string]any{"hash": h},
			"signature": map[string]any{"content": encodeBase64(s.Signature), "publicKey": map[string]any{"content": encodeBase64(s.Signer.verifierPEM())}}})
	case o.InToto:
		return add(i.Rekor, "intoto", "0.0.2", map[string]any{"content": map[string]any{"hash": hashedData(envelope), "payloadHash": hashedData(envelope),
			"envelope": map[string]any{"payloadType": s.Content.payloadType(), "signatures": []any{map[string]any{
				"sig": encodeBase64([]byte(encodeBase64(s.Signature))), "publicKey": encodeBase64(s.Signer.verifierPEM())}}}}})
	}
	return add(i.Rekor, "dsse", "0.0.1", map[string]any{"envelopeHash": hashedData(envelope), "payloadHash": hashedData(envelope),
		"signatures": []any{map[string]any{"signature": encodeBase64(s.Signature), "verifier": encodeBase64(s.Signer.verifierPEM())}}})
}

func hashName(h crypto.Hash) string { return fmt.Sprintf("SHA2_%d", h.Size()*8) }

func (s *Signer) keyDetails(pss bool) string {
	switch k := s.Key.Public().(type) {
	case *ecdsa.PublicKey:
		return fmt.Sprintf("PKIX_ECDSA_P%d_SHA_%d", k.Curve.Params().BitSize, s.hash().Size()*8)
	case *rsa.PublicKey:
		scheme := "PKCS1V15"
		if pss {
			scheme = "PSS"
		}
		return fmt.Sprintf("PKIX_RSA_%s_%d_SHA%d", scheme, k.N.BitLen(), s.hash().Size()*8)
	}
	return "PKIX_ED25519_PH"
}

// Bundle is the signature as a bundle of a version: 1 to 3, the digit behind "0.".
func (s *Signed) Bundle(version int) []byte { return mustJSON(s.Document(version)) }

// Document is [Signed.Bundle] before it is encoded.
func (s *Signed) Document(version int) map[string]any {
	mediaType := "application/vnd.dev.sigstore.bundle.v0.3+json"
	if version < 3 {
		mediaType = fmt.Sprintf("application/vnd.dev.sigstore.bundle+json;version=0.%d", version)
	}
	material := map[string]any{}
	switch c := s.Signer.Certificate; {
	case c == nil:
		material["publicKey"] = map[string]any{"hint": encodeBase64(keyID(s.Signer.Key.Public()))}
	case version < 3:
		material["x509CertificateChain"] = map[string]any{"certificates": []any{map[string]any{"rawBytes": encodeBase64(c.Raw)}}}
	default:
		material["certificate"] = map[string]any{"rawBytes": encodeBase64(c.Raw)}
	}
	var entries []any
	for _, e := range s.Entries {
		entries = append(entries, e.bundled(true, version > 1 || e.Log.V2))
	}
	if entries != nil {
		material["tlogEntries"] = entries
	}
	var stamps []any
	for _, t := range s.Timestamps {
		stamps = append(stamps, map[string]any{"signedTimestamp": encodeBase64(t)})
	}
	if stamps != nil {
		material["timestampVerificationData"] = map[string]any{"rfc3161Timestamps": stamps}
	}
	doc := map[string]any{"mediaType": mediaType, "verificationMaterial": material}
	if s.Content.Statement != nil {
		doc["dsseEnvelope"] = map[string]any{"payload": encodeBase64(s.Content.Statement), "payloadType": s.Content.payloadType(),
			"signatures": []any{map[string]any{"sig": encodeBase64(s.Signature), "keyid": ""}}}
		return doc
	}
	h := s.Signer.hash()
	doc["messageSignature"] = map[string]any{"messageDigest": map[string]any{"algorithm": hashName(h), "digest": encodeBase64(hashSum(h, s.Content.message()))}, "signature": encodeBase64(s.Signature)}
	return doc
}

// Annotations are those of the layer whose content is the payload.
func (s *Signed) Annotations() (map[string]string, error) {
	if s.Content.Payload == nil {
		return nil, errors.New("testsigstore: not a simple signing payload")
	}
	out := map[string]string{"dev.cosignproject.cosign/signature": encodeBase64(s.Signature)}
	if c := s.Signer.Certificate; c != nil {
		out["dev.sigstore.cosign/certificate"] = string(s.Signer.verifierPEM())
	}
	for _, e := range s.Entries {
		out["dev.sigstore.cosign/bundle"] = string(mustJSON(map[string]any{"SignedEntryTimestamp": encodeBase64(e.Promise),
			"Payload": map[string]any{"body": encodeBase64(e.Body), "integratedTime": e.Integrated.Unix(), "logIndex": e.GlobalIndex, "logID": hex.EncodeToString(e.Log.ID)}}))
	}
	for _, t := range s.Timestamps {
		out["dev.sigstore.cosign/rfc3161timestamp"] = string(mustJSON(map[string]any{"SignedRFC3161Timestamp": encodeBase64(t)}))
	}
	return out, nil
}

// At is the time that the instance's services take it to be.
func (i *Instance) At() time.Time { return i.clock() }
