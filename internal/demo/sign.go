package demo

import (
	"encoding/json"
	"time"

	"github.com/notaryproject/notation-core-go/signature"
	_ "github.com/notaryproject/notation-core-go/signature/cose" // the formats register themselves
	_ "github.com/notaryproject/notation-core-go/signature/jws"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of envelopes.
const (
	JWS  = "application/jose+json"
	COSE = "application/cose"
)

// SignOptions describe a signature. The zero value is a JWS by notary.x509, now,
// without expiry.
type SignOptions struct {
	Format      string // JWS or COSE
	Authority   bool   // scheme notary.x509.signingAuthority
	SigningTime time.Time
	Expiry      time.Time
	Attributes  []signature.Attribute // extended signed attributes
}

// Sign returns an envelope over target by the leaf c.
func Sign(c *Cert, target ocispec.Descriptor, o SignOptions) ([]byte, error) {
	payload, err := json.Marshal(map[string]ocispec.Descriptor{
		"targetArtifact": {MediaType: target.MediaType, Digest: target.Digest, Size: target.Size}})
	if err != nil {
		return nil, err
	}
	if o.Format == "" {
		o.Format = JWS
	}
	if o.SigningTime.IsZero() {
		o.SigningTime = time.Now()
	}
	scheme := signature.SigningSchemeX509
	if o.Authority {
		scheme = signature.SigningSchemeX509SigningAuthority
	}
	signer, err := signature.NewLocalSigner(c.Certificates(), c.Key)
	if err != nil {
		return nil, err
	}
	env, err := signature.NewEnvelope(o.Format)
	if err != nil {
		return nil, err
	}
	return env.Sign(&signature.SignRequest{
		Payload: signature.Payload{ContentType: "application/vnd.cncf.notary.payload.v1+json", Content: payload},
		Signer:  signer, SigningTime: o.SigningTime, Expiry: o.Expiry, SigningScheme: scheme, SigningAgent: "boltseal-testca/1",
		ExtendedSignedAttributes: o.Attributes,
	})
}

// ArtifactType is that of Notary Project signatures.
const ArtifactType = "application/vnd.cncf.notary.signature"

// SignatureManifest returns the manifest of a signature artifact, as notation writes it.
func SignatureManifest(subject ocispec.Descriptor, format string, envelope []byte) ([]byte, error) {
	return json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ArtifactType,
		Config:  ocispec.DescriptorEmptyJSON,
		Layers:  []ocispec.Descriptor{{MediaType: format, Digest: digest.FromBytes(envelope), Size: int64(len(envelope))}},
		Subject: &ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
	})
}
