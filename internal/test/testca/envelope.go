package testca

import (
	"crypto"
	"encoding/json"
	"fmt"
	"time"

	"github.com/notaryproject/notation-core-go/signature"
	"github.com/notaryproject/notation-core-go/signature/cose"
	"github.com/notaryproject/notation-core-go/signature/jws"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Format is the kind of an envelope. The zero value is JWS.
type Format uint8

// The envelope formats of the Notary Project.
const (
	JWS Format = iota
	COSE
)

// MediaType is the media type of the format's envelopes.
func (f Format) MediaType() string {
	if f == COSE {
		return cose.MediaTypeEnvelope
	}
	return jws.MediaTypeEnvelope
}

// String returns "JWS" or "COSE".
func (f Format) String() string {
	if f == COSE {
		return "COSE"
	}
	return "JWS"
}

// The signing schemes of the Notary Project.
const (
	SchemeX509             = string(signature.SigningSchemeX509)
	SchemeSigningAuthority = string(signature.SigningSchemeX509SigningAuthority)
)

// PayloadType is the content type of a Notary Project payload.
const PayloadType = "application/vnd.cncf.notary.payload.v1+json"

// DefaultAgent is the signing agent that envelopes name.
const DefaultAgent = "boltseal-testca/1.0"

// Attribute is an extended signed attribute. In a JWS envelope its key is a string.
type Attribute struct {
	Key      any
	Critical bool
	Value    any
}

// SignOptions say how to sign. The zero value is what `notation sign` does.
type SignOptions struct {
	// Format is the envelope's.
	Format Format
	// Scheme is the signing scheme. "" means SchemeX509.
	Scheme string
	// SigningTime is when the signature claims to be made, to the second. Zero
	// means the chain's clock.
	SigningTime time.Time
	// Expiry is when it claims to expire, to the second. Zero means never.
	Expiry time.Time
	// Attributes are extended signed attributes.
	Attributes []Attribute
	// Annotations are user metadata: they stand in the payload's descriptor.
	Annotations map[string]string
	// Payload replaces the payload, and PayloadType its content type.
	Payload     []byte
	PayloadType string
	// Agent replaces the signing agent.
	Agent string
	// TSA timestamps the signature; Timestamp is a token to embed as it is.
	TSA       *TSA
	Timestamp []byte
	// Unchecked signs although the chain or the times are bad: the envelope is
	// then built here, of the same form. Otherwise notation-core-go builds it,
	// and refuses what a signer must not sign.
	Unchecked bool
	// Chain replaces the DER certificates in the envelope (Unchecked only).
	Chain [][]byte
}

// Envelope is a signature envelope.
type Envelope struct {
	MediaType string
	Content   []byte
}

// Sign signs a target with the leaf's key.
func (c *Chain) Sign(target ocispec.Descriptor, o SignOptions) (Envelope, error) {
	o, err := c.complete(target, o)
	if err != nil {
		return Envelope{}, err
	}
	var content []byte
	switch {
	case !o.Unchecked:
		content, err = c.signChecked(o)
	case o.Format == COSE:
		content, err = c.signUncheckedCOSE(o)
	default:
		content, err = c.signUncheckedJWS(o)
	}
	if err != nil {
		return Envelope{}, fmt.Errorf("testca: signing %s: %w", target.Digest, err)
	}
	return Envelope{MediaType: o.Format.MediaType(), Content: content}, nil
}

// complete fills in what the options leave open.
func (c *Chain) complete(target ocispec.Descriptor, o SignOptions) (SignOptions, error) {
	if o.Scheme == "" {
		o.Scheme = SchemeX509
	}
	if o.SigningTime.IsZero() {
		o.SigningTime = clockNow(c.opts.Clock)
	}
	o.SigningTime = o.SigningTime.UTC().Truncate(time.Second)
	if !o.Expiry.IsZero() {
		o.Expiry = o.Expiry.UTC().Truncate(time.Second)
	}
	if o.Payload == nil {
		var err error
		if o.Payload, err = Payload(target, o.Annotations); err != nil {
			return o, err
		}
	}
	o.PayloadType = orElse(o.PayloadType, PayloadType)
	o.Agent = orElse(o.Agent, DefaultAgent)
	if o.Chain == nil {
		o.Chain = c.Raw()
	}
	return o, nil
}

// Payload is a Notary Project payload for a target (signature-specification,
// "Payload"): its media type, digest and size, and the annotations.
func Payload(target ocispec.Descriptor, annotations map[string]string) ([]byte, error) {
	var p struct {
		TargetArtifact ocispec.Descriptor `json:"targetArtifact"`
	}
	p.TargetArtifact = ocispec.Descriptor{MediaType: target.MediaType, Digest: target.Digest, Size: target.Size, Annotations: annotations}
	return json.Marshal(p)
}

func (c *Chain) signChecked(o SignOptions) ([]byte, error) {
	signer, err := signature.NewLocalSigner(c.X509(), c.Leaf().Key)
	if err != nil {
		return nil, err
	}
	env, err := signature.NewEnvelope(o.Format.MediaType())
	if err != nil {
		return nil, err
	}
	req := &signature.SignRequest{
		Payload: signature.Payload{ContentType: o.PayloadType, Content: o.Payload},
		Signer:  signer, SigningTime: o.SigningTime, Expiry: o.Expiry, SigningAgent: o.Agent,
		SigningScheme: signature.SigningScheme(o.Scheme),
	}
	for _, a := range o.Attributes {
		req.ExtendedSignedAttributes = append(req.ExtendedSignedAttributes, signature.Attribute(a))
	}
	if o.TSA != nil {
		req.Timestamper, req.TSARootCAs = o.TSA, o.TSA.Roots()
	}
	return env.Sign(req)
}

// timestamp returns the token to embed for a signature.
func (c *Chain) timestamp(o SignOptions, sig []byte) ([]byte, error) {
	if o.TSA == nil || o.Timestamp != nil {
		return o.Timestamp, nil
	}
	return o.TSA.Token(sig, c.hash())
}

// hash is the digest that goes with the leaf's key (signature-specification,
// "Signature Algorithm Requirements").
func (c *Chain) hash() crypto.Hash {
	alg, err := naturalAlgorithm(c.Leaf().Key.Public())
	if err != nil {
		return crypto.SHA256
	}
	return alg.hash
}
