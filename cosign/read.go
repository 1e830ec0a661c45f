package cosign

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/cosign/internal/bundle"
	"github.com/boltseal/boltseal/cosign/internal/payload"
	"github.com/boltseal/boltseal/cosign/internal/wire"
)

// material is one signature with all that speaks for it, whatever form it came in.
type material struct {
	signature   []byte
	bundled     bool              // it is a bundle, not a layer
	certificate *x509.Certificate // nil where a key alone made it
	entries     []bundle.Entry
	timestamps  [][]byte

	// The message that the signature is over: text, or an artifact that is known by its
	// digest.
	message    []byte
	artifact   *Artifact
	payload    []byte // of the envelope that message is the encoding of; nil where it is none
	annotation map[string]string
	reference  string // the name that the image had when it was signed; "" where none is said
}

// digest is that of the message.
func (m *material) digest(h crypto.Hash) ([]byte, bool) {
	if m.artifact != nil {
		return m.artifact.sum(h)
	}
	s := h.New()
	s.Write(m.message)
	return s.Sum(nil), true
}

// Annotations of a layer (cosign, specs/SIGNATURE_SPEC.md).
const (
	annotationSignature   = "dev.cosignproject.cosign/signature"
	annotationCertificate = "dev.sigstore.cosign/certificate"
	annotationBundle      = "dev.sigstore.cosign/bundle"
	annotationTimestamp   = "dev.sigstore.cosign/rfc3161timestamp"
)

// Limits on annotations, in bytes.
const (
	maxAnnotation = 256 << 10
	maxSignature  = 8 << 10 // base64
)

// unreadableReason is why content is rejected that could not be read, without the sentinel's
// words before those of the error.
func unreadableReason(err error) boltseal.Reason {
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), boltseal.ErrMalformed.Error()+": "), boltseal.ErrLimit.Error()+": ")
	r := malformedReason(text)
	if errors.Is(err, boltseal.ErrLimit) {
		r.Cause = boltseal.CauseLimit
	}
	return r
}

func otherImage(message string) boltseal.Reason {
	return boltseal.Reason{Cause: boltseal.CauseOtherImage, Message: message, Remedy: "sign this image; a signature cannot be carried over from another one"}
}

// readLayer reads a layer of a manifest: its content is the payload, and its annotations
// have the signature. It checks everything that needs no key.
func (w *work) readLayer(annotations map[string]string, b []byte) boltseal.Reason {
	simple, err := payload.ParseSimple(b)
	if err != nil {
		return unreadableReason(err)
	}
	if simple.Digest != w.artifact.Digest {
		return otherImage(fmt.Sprintf("the signature is of another image, %s", simple.Digest))
	}
	m := &material{message: b, annotation: simple.Optional, reference: simple.Reference}
	if text := annotations[annotationSignature]; len(text) <= maxSignature {
		m.signature, err = wire.ParseBase64(text)
	}
	if err != nil || len(m.signature) == 0 {
		return malformedReason("the layer has no signature that can be read in its annotation " + annotationSignature)
	}
	for _, name := range []string{annotationCertificate, annotationBundle, annotationTimestamp} {
		if n := len(annotations[name]); n > maxAnnotation {
			return boltseal.Reason{Cause: boltseal.CauseLimit, Message: fmt.Sprintf("the layer's annotation %s has %d bytes, at most %d", name, n, maxAnnotation), Remedy: remedySignAgain}
		}
	}
	if text := strings.TrimSpace(annotations[annotationCertificate]); text != "" {
		block, rest := pem.Decode([]byte(text))
		if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
			return malformedReason("the layer's annotation " + annotationCertificate + " is not one certificate")
		}
		if m.certificate, err = readCertificate(block.Bytes); err != nil {
			return malformedReason("the layer's annotation " + annotationCertificate + " " + err.Error())
		}
	}
	if text := annotations[annotationBundle]; text != "" {
		e, err := readPromise(text)
		if err != nil {
			return unreadableReason(err)
		}
		m.entries = []bundle.Entry{e}
	}
	if text := annotations[annotationTimestamp]; text != "" {
		var doc struct {
			SignedRFC3161Timestamp wire.Bytes `json:"SignedRFC3161Timestamp"`
		}
		if err := wire.Decode("the annotation "+annotationTimestamp, []byte(text), maxAnnotation, &doc); err != nil {
			return unreadableReason(err)
		}
		m.timestamps = [][]byte{doc.SignedRFC3161Timestamp}
	}
	w.m = m
	return w.checkAnnotations()
}

// readPromise reads an entry of a log as layers have it.
func readPromise(text string) (e bundle.Entry, err error) {
	var doc struct {
		SignedEntryTimestamp wire.Bytes `json:"SignedEntryTimestamp"`
		Payload              struct {
			Body           wire.Bytes `json:"body"`
			IntegratedTime wire.Int   `json:"integratedTime"`
			LogIndex       wire.Int   `json:"logIndex"`
			LogID          string     `json:"logID"`
		} `json:"Payload"`
	}
	if err := wire.Decode("the annotation "+annotationBundle, []byte(text), maxAnnotation, &doc); err != nil {
		return e, err
	}
	id, err := hex.DecodeString(doc.Payload.LogID)
	if err != nil || len(id) == 0 || doc.Payload.LogIndex < 0 || doc.Payload.IntegratedTime <= 0 || len(doc.SignedEntryTimestamp) == 0 {
		return e, fmt.Errorf("%w: the annotation %s names no log, or no time", boltseal.ErrMalformed, annotationBundle)
	}
	var kind struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
	}
	if err := wire.DecodeOpen("the log's entry", doc.Payload.Body, maxAnnotation, &kind); err != nil {
		return e, err
	}
	return bundle.Entry{Index: int64(doc.Payload.LogIndex), LogID: id, Kind: kind.Kind, Version: kind.APIVersion,
		Integrated: time.Unix(int64(doc.Payload.IntegratedTime), 0).UTC(), Promise: doc.SignedEntryTimestamp, Body: doc.Payload.Body}, nil
}

// readCertificate reads a certificate of at most bundle.MaxCertificate bytes.
func readCertificate(der []byte) (*x509.Certificate, error) {
	if len(der) > bundle.MaxCertificate {
		return nil, fmt.Errorf("has a certificate of %d bytes, at most %d", len(der), bundle.MaxCertificate)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, errors.New("has a certificate that cannot be read")
	}
	return c, nil
}

// readBundle reads a bundle, and checks everything that needs no key.
func (w *work) readBundle(raw []byte) boltseal.Reason {
	b, err := bundle.Parse(raw)
	if err != nil {
		return unreadableReason(err)
	}
	m := &material{bundled: true, entries: b.Entries, timestamps: b.Timestamps}
	for i, der := range b.Certificates {
		c, err := readCertificate(der)
		if err != nil {
			return malformedReason("the bundle " + err.Error())
		}
		if i == 0 {
			m.certificate = c
		} else if bytes.Equal(c.RawSubject, c.RawIssuer) {
			// Whom to trust is never said by what is to be verified.
			return malformedReason("the bundle brings a root certificate along")
		}
	}
	w.m = m
	if b.Message != nil {
		return w.readMessage(b.Message)
	}
	return w.readEnvelope(b.Envelope)
}

// readMessage: a signature over the artifact itself.
func (w *work) readMessage(s *bundle.MessageSignature) boltseal.Reason {
	algorithm, ok := map[string]crypto.Hash{"SHA2_256": crypto.SHA256, "SHA2_384": crypto.SHA384, "SHA2_512": crypto.SHA512}[s.Algorithm]
	if !ok {
		return boltseal.Reason{Cause: boltseal.CauseUnsupported, Message: fmt.Sprintf("the bundle's digest is by %s; SHA2_256, SHA2_384 and SHA2_512 are known here", quotedText(s.Algorithm)), Remedy: remedySignAgain}
	}
	want, known := w.artifact.sum(algorithm)
	if !known {
		return boltseal.Reason{Cause: boltseal.CauseUnsupported, Message: fmt.Sprintf("the bundle's digest is by %s, which cannot be compared with %s", s.Algorithm, w.artifact.Digest), Remedy: "sign with a key that uses SHA-256"}
	}
	if !bytes.Equal(want, s.Digest) {
		return otherImage(fmt.Sprintf("the signature is of something else, %s:%x", hashNames[algorithm], s.Digest[:min(len(s.Digest), 64)]))
	}
	w.m.signature, w.m.artifact = s.Signature, &w.artifact
	return w.checkAnnotations()
}

// readEnvelope: a signature over a statement about the artifact.
func (w *work) readEnvelope(e *bundle.Envelope) boltseal.Reason {
	st, err := payload.ParseStatement(e.PayloadType, e.Payload)
	if err != nil {
		return unreadableReason(err)
	}
	if st.PredicateType != payload.SignPredicate {
		w.ev.Kind = st.PredicateType
		if len(w.ev.Kind) > maxKind {
			return malformedReason(fmt.Sprintf("the statement's predicate type has %d bytes, at most %d", len(st.PredicateType), maxKind))
		}
		if !w.anyPredicate {
			return boltseal.Reason{Cause: boltseal.CauseUnsupported, Message: "it is an attestation (predicate type " + quotedText(st.PredicateType) + "), and an attestation is not a signature",
				Remedy: "sign the image (cosign sign); what is said about an image does not make it trusted"}
		}
	}
	var about *payload.Subject
	for _, d := range w.artifact.digests() {
		if about = st.About(d); about != nil {
			break
		}
	}
	if about == nil {
		return otherImage(fmt.Sprintf("the signed statement is about something else: none of its %d subjects has the digest %s", len(st.Subjects), w.artifact.digests()[0]))
	}
	w.m.signature, w.m.payload, w.m.annotation = e.Signature, e.Payload, about.Annotations
	if w.m.payload == nil {
		w.m.payload = []byte{}
	}
	w.m.message = payload.PAE(e.PayloadType, e.Payload)
	return w.checkAnnotations()
}

const maxKind = 500

// checkAnnotations holds what was signed beside the digest against the trust policy.
func (w *work) checkAnnotations() boltseal.Reason {
	for name, want := range w.p.Annotations {
		if got, ok := w.m.annotation[name]; !ok || got != want {
			what := "it has none"
			if ok {
				what = "it is " + quotedText(got)
			}
			return boltseal.Reason{Cause: boltseal.CauseIdentity, Message: fmt.Sprintf("the trust policy requires the signed annotation %q to be %q, and %s", name, want, what),
				Remedy: fmt.Sprintf("sign the image again with -a %s=%s, or change the trust policy", name, want)}
		}
	}
	if w.p.MatchReference && referenceName(w.m.reference) != w.name {
		return otherImage(fmt.Sprintf("the trust policy requires that the image was signed by its name %s, and it was signed as %s", w.name, quotedText(w.m.reference)))
	}
	return boltseal.Reason{}
}

// referenceName is the canonical name of an image without its tag and digest, "" where
// the text is none.
func referenceName(text string) string {
	ref, err := boltseal.ParseReference(text)
	if err != nil {
		return ""
	}
	return ref.Name()
}
