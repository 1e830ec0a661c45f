package envelope

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/notaryproject/notation-core-go/signature"
	_ "github.com/notaryproject/notation-core-go/signature/cose" // registers the format
	_ "github.com/notaryproject/notation-core-go/signature/jws"  // registers the format
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal/internal/test/testca"
)

var target = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("image"), Size: 1234}

func need[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// accept parses and checks the signature.
func accept(mediaType string, b []byte) (*Envelope, error) {
	e, err := Parser{}.Parse(mediaType, b)
	if err != nil {
		return nil, err
	}
	return e, e.VerifySignature()
}

// theirs is what notation-core-go makes of the same bytes.
func theirs(mediaType string, b []byte) (content *signature.EnvelopeContent, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("panic")
		}
	}()
	env, err := signature.ParseEnvelope(mediaType, b)
	if err != nil {
		return nil, err
	}
	return env.Verify()
}

// Reasons for which we refuse what notation-core-go accepts, each by a part of
// our message. Whatever is not here must not differ.
var stricter = map[string]string{
	"unknown object member name":            "a second reader could see another member; the format names all of them",
	"duplicate object member name":          "two readers could take different ones (RFC 7515 section 4)",
	"differs from a known one in upper":     "a reader that does not mind case would take it for the known one",
	"invalid UTF-8":                         "two readers could replace it differently (RFC 8259 section 8.1)",
	"signingAgent is not a text":            "what is there has the type of its name",
	"timestampSignature is not a text":      "what is there has the type of its name",
	"timestampSignature: not a byte string": "what is there has the type of its name",
	"content type":                          "a Notary Project payload, by its media type",
	"is not a time":                         "COSE: whole seconds of this era, as signature-envelope-cose.md has it",
	"has no place in the scheme":            "one signing time, that of the scheme",
	"b64 (RFC 7797)":                        "not part of the format",
	"more than 64":                          "bounded",
	"illegal base64":                        "bits that are left over are zero (RFC 4648 section 3.5)",
	"is both protected and not":             "a label stands in one of the two headers (RFC 9052 section 3)",
}

// compare fails where we accept what notation-core-go refuses, read it
// differently, or refuse it for a reason that has no name. It reports whether
// both accept.
func compare(t testing.TB, mediaType string, b []byte) bool {
	t.Helper()
	ours, err := accept(mediaType, b)
	content, theirErr := theirs(mediaType, b)
	switch {
	case err == nil && theirErr != nil:
		// The chain's rules are notation.ChainCache's part, and tested there.
		if text := strings.ToLower(theirErr.Error()); strings.Contains(text, "certificate") {
			return false
		}
		t.Fatalf("we accept what notation-core-go refuses: %v\n%q", theirErr, b)
	case err != nil && theirErr == nil:
		for says := range stricter {
			if strings.Contains(err.Error(), says) {
				return false
			}
		}
		t.Errorf("we refuse what notation-core-go accepts, for a reason without a name: %v\n%q", err, b)
		return false
	case err != nil:
		return false
	}
	sameReading(t, ours, content)
	return true
}

func sameReading(t testing.TB, e *Envelope, c *signature.EnvelopeContent) {
	t.Helper()
	s := &c.SignerInfo
	attrs := map[string]bool{}
	for _, a := range s.SignedAttributes.ExtendedAttributes {
		if k, ok := a.Key.(string); ok {
			attrs[k] = a.Critical
		}
	}
	named := 0
	for _, a := range e.Attributes {
		if strings.HasPrefix(a.Key, "#") {
			continue // a number, in COSE
		}
		named++
		if critical, ok := attrs[a.Key]; !ok || critical != a.Critical {
			t.Errorf("attribute %q critical: %v; notation-core-go: %v, there: %v", a.Key, a.Critical, critical, ok)
		}
	}
	if named != len(attrs) {
		t.Errorf("%d attributes, notation-core-go has %d", named, len(attrs))
	}
	if string(s.SignedAttributes.SigningScheme) != e.Scheme || !s.SignedAttributes.SigningTime.Equal(e.SigningTime) || !s.SignedAttributes.Expiry.Equal(e.Expiry) {
		t.Errorf("scheme %s, signed %s, expires %s; notation-core-go: %+v", e.Scheme, e.SigningTime, e.Expiry, s.SignedAttributes)
	}
	if !bytes.Equal(s.Signature, e.Signature) || !bytes.Equal(s.UnsignedAttributes.TimestampSignature, e.Timestamp) || s.UnsignedAttributes.SigningAgent != e.SigningAgent {
		t.Error("signature, timestamp or agent differ")
	}
	if len(s.CertificateChain) != len(e.Chain) {
		t.Fatalf("%d certificates, notation-core-go has %d", len(e.Chain), len(s.CertificateChain))
	}
	for i, cert := range e.Chain {
		if !cert.Equal(s.CertificateChain[i]) {
			t.Errorf("certificate %d differs", i)
		}
	}
	if c.Payload.ContentType != MediaTypePayload || !bytes.Contains(c.Payload.Content, []byte(e.Target.Digest)) {
		t.Errorf("payload %s %s, target %s", c.Payload.ContentType, c.Payload.Content, e.Target.Digest)
	}
}

// options is one way to sign out of many.
func options(i int) testca.SignOptions {
	o := testca.SignOptions{Format: testca.Format(i % 2)}
	if i/2%2 == 1 {
		o.Scheme = testca.SchemeSigningAuthority
	}
	if i/4%2 == 1 {
		o.Expiry = time.Now().Add(time.Hour)
	}
	switch i / 8 % 3 {
	case 1:
		o.Attributes = []testca.Attribute{{Key: "example.note", Value: "x"}, {Key: "example.must", Critical: true, Value: "y"}}
	case 2:
		o.Annotations = map[string]string{"build": "7"}
	}
	return o
}

func chains(t testing.TB) []*testca.Chain {
	t.Helper()
	var out []*testca.Chain
	for _, a := range testca.SigningAlgorithms() {
		out = append(out, testca.Test(t, testca.Options{Leaf: testca.Spec{Key: a}, Intermediates: []testca.Spec{{}}}))
	}
	return out
}
