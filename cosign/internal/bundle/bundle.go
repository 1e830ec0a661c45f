// Package bundle reads Sigstore bundles 0.1 to 0.3, strictly and with limits.
package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/cosign/internal/wire"
)

// Limits on a bundle.
const (
	MaxBytes        = 4 << 20
	MaxEntries      = 32 // of logs
	MaxTimestamps   = 32
	MaxCertificates = 10
	MaxSignatures   = 8 // of an envelope, of which one is allowed
	MaxHashes       = 64
	MaxTimestamp    = 64 << 10
	MaxCertificate  = 64 << 10
	MaxSignature    = 4 << 10
)

// MediaType is that of bundles of version 0.3 (sigstore_bundle.proto).
const MediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// MediaTypes are those of all versions that are read here.
func MediaTypes() []string {
	return []string{MediaType, older + "0.3", older + "0.2", older + "0.1"}
}

const older = "application/vnd.dev.sigstore.bundle+json;version="

// Bundle is a signature with all that its verification needs beside trust. Exactly one
// of Message and Envelope is set; of Certificates and HasKey, too.
type Bundle struct {
	Version      int      // 1 to 3: the digit behind "0."
	Certificates [][]byte // DER, the signer's own first
	HasKey       bool     // a public key that is not in the bundle made the signature
	Hint         string   // a name for that key
	Entries      []Entry
	Timestamps   [][]byte // answers of timestamp authorities (RFC 3161), DER
	Message      *MessageSignature
	Envelope     *Envelope
}

// MessageSignature is a signature over an artifact's own bytes.
type MessageSignature struct {
	Algorithm string // of Digest: "SHA2_256", …
	Digest    []byte // what the signer says that the artifact's is; a hint
	Signature []byte
}

// Envelope is a DSSE envelope (secure-systems-lab/dsse, envelope.md).
type Envelope struct {
	Payload     []byte
	PayloadType string
	Signature   []byte
}

// Entry is an entry of a transparency log (sigstore_rekor.proto).
type Entry struct {
	Index         int64
	LogID         []byte
	Kind, Version string
	Integrated    time.Time // zero where there is none
	Promise       []byte    // the signed entry timestamp, nil where there is none
	Proof         *Proof    // nil where there is none
	Body          []byte
}

// Proof says that a log has an entry (RFC 6962 section 2.1.1).
type Proof struct {
	Index, Size int64
	Root        []byte // what the bundle says that it is
	Hashes      [][]byte
	Checkpoint  string
}

type wireHash struct {
	Algorithm wire.Enum  `json:"algorithm"`
	Digest    wire.Bytes `json:"digest"`
}

type wireCertificate struct {
	RawBytes wire.Bytes `json:"rawBytes"`
}

type wireCertificates [][]byte

func (l *wireCertificates) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*l = wireCertificates{}
	return wire.ReadArray(d, MaxCertificates, "certificates", func() error {
		c, err := wire.ReadValue[wireCertificate](d)
		*l = append(*l, c.RawBytes)
		return err
	})
}

type wireTimestamps [][]byte

func (l *wireTimestamps) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*l = nil
	return wire.ReadArray(d, MaxTimestamps, "timestamps", func() error {
		v, err := wire.ReadValue[struct {
			SignedTimestamp wire.Bytes `json:"signedTimestamp"`
		}](d)
		*l = append(*l, v.SignedTimestamp)
		return err
	})
}

type wireHashes [][]byte

func (l *wireHashes) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*l = nil
	return wire.ReadArray(d, MaxHashes, "hashes of a proof", func() error {
		v, err := wire.ReadValue[wire.Bytes](d)
		*l = append(*l, v)
		return err
	})
}

type wireSignatures [][]byte

func (l *wireSignatures) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*l = nil
	return wire.ReadArray(d, MaxSignatures, "signatures", func() error {
		v, err := wire.ReadValue[struct {
			Sig   wire.Bytes `json:"sig"`
			KeyID string     `json:"keyid"`
		}](d)
		*l = append(*l, v.Sig)
		return err
	})
}

type wireEntry struct {
	LogIndex wire.Int `json:"logIndex"`
	LogID    struct {
		KeyID wire.Bytes `json:"keyId"`
	} `json:"logId"`
	KindVersion struct {
		Kind    string `json:"kind"`
		Version string `json:"version"`
	} `json:"kindVersion"`
	IntegratedTime   wire.Int `json:"integratedTime"`
	InclusionPromise *struct {
		SignedEntryTimestamp wire.Bytes `json:"signedEntryTimestamp"`
	} `json:"inclusionPromise"`
	InclusionProof *struct {
		LogIndex   wire.Int   `json:"logIndex"`
		RootHash   wire.Bytes `json:"rootHash"`
		TreeSize   wire.Int   `json:"treeSize"`
		Hashes     wireHashes `json:"hashes"`
		Checkpoint struct {
			Envelope string `json:"envelope"`
		} `json:"checkpoint"`
	} `json:"inclusionProof"`
	CanonicalizedBody wire.Bytes `json:"canonicalizedBody"`
}

type wireEntries []Entry

func (l *wireEntries) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*l = nil
	return wire.ReadArray(d, MaxEntries, "entries of transparency logs", func() error {
		v, err := wire.ReadValue[wireEntry](d)
		if err != nil {
			return err
		}
		e, err := v.entry()
		*l = append(*l, e)
		return err
	})
}

func (v *wireEntry) entry() (Entry, error) {
	e := Entry{Index: int64(v.LogIndex), LogID: v.LogID.KeyID, Kind: v.KindVersion.Kind, Version: v.KindVersion.Version, Body: v.CanonicalizedBody}
	switch {
	case e.Index < 0:
		return e, errors.New("an entry of a transparency log has a negative index")
	case len(e.LogID) == 0:
		return e, errors.New("an entry of a transparency log does not name the log")
	case e.Kind == "" || e.Version == "":
		return e, errors.New("an entry of a transparency log does not name its kind and version")
	case len(e.Body) == 0:
		return e, errors.New("an entry of a transparency log has no body")
	case v.IntegratedTime < 0:
		return e, errors.New("an entry of a transparency log has a negative time")
	case v.IntegratedTime > 0:
		e.Integrated = time.Unix(int64(v.IntegratedTime), 0).UTC()
	}
	if v.InclusionPromise != nil && len(v.InclusionPromise.SignedEntryTimestamp) > 0 { // an empty one is none
		if e.Promise = v.InclusionPromise.SignedEntryTimestamp; e.Integrated.IsZero() {
			return e, errors.New("an inclusion promise has no time")
		}
	}
	if p := v.InclusionProof; p != nil {
		if p.Checkpoint.Envelope == "" {
			return e, errors.New("an inclusion proof has no checkpoint")
		}
		if p.LogIndex < 0 || p.TreeSize <= p.LogIndex {
			return e, errors.New("an inclusion proof is about an index outside of its tree")
		}
		e.Proof = &Proof{Index: int64(p.LogIndex), Size: int64(p.TreeSize), Root: p.RootHash, Hashes: p.Hashes, Checkpoint: p.Checkpoint.Envelope}
	}
	return e, nil
}

type wireBundle struct {
	MediaType            string `json:"mediaType"`
	VerificationMaterial *struct {
		PublicKey *struct {
			Hint string `json:"hint"`
		} `json:"publicKey"`
		X509CertificateChain *struct {
			Certificates wireCertificates `json:"certificates"`
		} `json:"x509CertificateChain"`
		Certificate               *wireCertificate `json:"certificate"`
		TlogEntries               wireEntries      `json:"tlogEntries"`
		TimestampVerificationData struct {
			Rfc3161Timestamps wireTimestamps `json:"rfc3161Timestamps"`
		} `json:"timestampVerificationData"`
	} `json:"verificationMaterial"`
	MessageSignature *struct {
		MessageDigest wireHash   `json:"messageDigest"`
		Signature     wire.Bytes `json:"signature"`
	} `json:"messageSignature"`
	DsseEnvelope *struct {
		Payload     wire.Bytes     `json:"payload"`
		PayloadType string         `json:"payloadType"`
		Signatures  wireSignatures `json:"signatures"`
	} `json:"dsseEnvelope"`
}

// Parse reads a bundle and holds its form against the rules of its version
// (sigstore_bundle.proto, and architecture-docs client-spec.md section 4). It checks no
// signature. Errors wrap [boltseal.ErrMalformed] or [boltseal.ErrLimit].
func Parse(b []byte) (*Bundle, error) {
	var doc wireBundle
	if err := wire.Decode("the bundle", b, MaxBytes, &doc); err != nil {
		return nil, err
	}
	out, err := doc.bundle()
	if err != nil && !errors.Is(err, boltseal.ErrLimit) {
		return nil, fmt.Errorf("%w: the bundle %w", boltseal.ErrMalformed, err)
	}
	return out, err
}

func (doc *wireBundle) bundle() (*Bundle, error) {
	b := &Bundle{}
	for i, t := range []string{older + "0.1", older + "0.2", older + "0.3", MediaType} {
		if doc.MediaType == t {
			b.Version = min(i+1, 3)
		}
	}
	m := doc.VerificationMaterial
	switch {
	case b.Version == 0:
		return nil, fmt.Errorf("is of the type %.100q, and versions 0.1 to 0.3 are known here", doc.MediaType)
	case m == nil:
		return nil, errors.New("has no verification material")
	case (doc.MessageSignature == nil) == (doc.DsseEnvelope == nil):
		return nil, errors.New("must have a message signature or an envelope, and not both")
	}
	if err := doc.material(b); err != nil {
		return nil, err
	}
	b.Entries, b.Timestamps = m.TlogEntries, m.TimestampVerificationData.Rfc3161Timestamps
	for _, t := range b.Timestamps {
		if len(t) == 0 || len(t) > MaxTimestamp {
			return nil, fmt.Errorf("has a timestamp of %d bytes", len(t))
		}
	}
	if err := b.checkEntries(); err != nil {
		return nil, err
	}
	return b, doc.content(b)
}

// material reads who signed.
func (doc *wireBundle) material(b *Bundle) error {
	m := doc.VerificationMaterial
	given := 0
	if m.PublicKey != nil {
		given++
		b.HasKey, b.Hint = true, m.PublicKey.Hint
	}
	if m.Certificate != nil {
		given++
		b.Certificates = [][]byte{m.Certificate.RawBytes}
	}
	if m.X509CertificateChain != nil {
		given++
		if b.Certificates = m.X509CertificateChain.Certificates; b.Version >= 3 {
			return errors.New("has a chain of certificates; since version 0.3 it is the signer's own alone")
		}
		if len(b.Certificates) == 0 {
			return errors.New("has an empty chain of certificates")
		}
	}
	if given != 1 {
		return errors.New("must name its signer by a certificate, a chain or a key, and only one of them")
	}
	for _, c := range b.Certificates {
		if len(c) == 0 || len(c) > MaxCertificate {
			return fmt.Errorf("has a certificate of %d bytes", len(c))
		}
	}
	return nil
}

// checkEntries holds entries against the rules of the bundle's version. An entry that
// is there twice could count as two.
func (b *Bundle) checkEntries() error {
	for i, e := range b.Entries {
		switch {
		case b.Version == 1 && e.Promise == nil:
			return errors.New("of version 0.1 has an entry of a transparency log without an inclusion promise")
		case b.Version > 1 && e.Proof == nil:
			return errors.New("has an entry of a transparency log without an inclusion proof")
		}
		for _, other := range b.Entries[:i] {
			if other.Index == e.Index && bytes.Equal(other.LogID, e.LogID) {
				return errors.New("has one entry of a transparency log twice")
			}
		}
	}
	return nil
}

// content reads what was signed.
func (doc *wireBundle) content(b *Bundle) error {
	if m := doc.MessageSignature; m != nil {
		b.Message = &MessageSignature{Algorithm: HashName(m.MessageDigest.Algorithm), Digest: m.MessageDigest.Digest, Signature: m.Signature}
		if len(m.MessageDigest.Digest) == 0 {
			return errors.New("has a message signature without a digest")
		}
		return checkSignature(m.Signature)
	}
	e := doc.DsseEnvelope
	if n := len(e.Signatures); n != 1 {
		return fmt.Errorf("has an envelope with %d signatures; it must have one", n)
	}
	b.Envelope = &Envelope{Payload: e.Payload, PayloadType: e.PayloadType, Signature: e.Signatures[0]}
	return checkSignature(b.Envelope.Signature)
}

func checkSignature(s []byte) error {
	if len(s) == 0 || len(s) > MaxSignature {
		return fmt.Errorf("has a signature of %d bytes", len(s))
	}
	return nil
}

// HashName is the name of a hash algorithm (sigstore_common.proto, HashAlgorithm), which
// may be written as its number.
func HashName(e wire.Enum) string {
	switch e {
	case "1":
		return "SHA2_256"
	case "2":
		return "SHA2_384"
	case "3":
		return "SHA2_512"
	}
	return string(e)
}
