package testca

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ArtifactTypeNotation is the artifact type of a Notary Project signature.
const ArtifactTypeNotation = "application/vnd.cncf.notary.signature"

// annotationThumbprints lists the SHA-256 fingerprints of the signing chain.
const annotationThumbprints = "io.cncf.notary.x509chain.thumbprint#S256"

// Blob is content with its descriptor.
type Blob struct {
	Descriptor ocispec.Descriptor
	Content    []byte
}

// NewBlob describes content.
func NewBlob(mediaType string, content []byte) Blob {
	return Blob{Content: content, Descriptor: ocispec.Descriptor{
		MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}}
}

// Artifact is a manifest with the blobs that it names.
type Artifact struct {
	// Manifest's descriptor carries the artifact type, as a referrers listing does.
	Manifest Blob
	Blobs    []Blob
}

// ManifestOptions say how a signature's manifest differs from what notation
// writes. The zero value is what it writes.
type ManifestOptions struct {
	// ConfigArtifactType writes the older form: the artifact type as the media
	// type of the config, and no artifactType.
	ConfigArtifactType bool
	// ArtifactType replaces the artifact type. "-" leaves it out.
	ArtifactType string
	// LayerType replaces the layers' media type.
	LayerType string
	// NoLayers leaves the layers out of the manifest.
	NoLayers bool
	// NoSubject leaves the subject out.
	NoSubject bool
	// Annotations are the manifest's.
	Annotations map[string]string
	// Mutate changes the finished manifest before it is encoded.
	Mutate func(*ocispec.Manifest)
}

// SignatureManifest makes the artifact that attaches envelopes to a subject
// (signature-specification, "Storage"): one layer for each envelope, so one
// envelope for a right signature.
func SignatureManifest(subject ocispec.Descriptor, o ManifestOptions, envelopes ...Envelope) (Artifact, error) {
	artifactType := orElse(o.ArtifactType, ArtifactTypeNotation)
	if artifactType == "-" {
		artifactType = ""
	}
	config := NewBlob(ocispec.MediaTypeEmptyJSON, []byte("{}"))
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: artifactType, Config: config.Descriptor, Layers: []ocispec.Descriptor{}, Annotations: o.Annotations,
	}
	if o.ConfigArtifactType {
		m.ArtifactType, config.Descriptor.MediaType = "", artifactType
		m.Config = config.Descriptor
	}
	if !o.NoSubject {
		m.Subject = &ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}
	}
	a := Artifact{Blobs: []Blob{config}}
	if !o.NoLayers {
		for _, e := range envelopes {
			b := NewBlob(orElse(o.LayerType, e.MediaType), e.Content)
			a.Blobs = append(a.Blobs, b)
			m.Layers = append(m.Layers, b.Descriptor)
		}
	}
	if o.Mutate != nil {
		o.Mutate(&m)
	}
	content, err := json.Marshal(m)
	if err != nil {
		return Artifact{}, fmt.Errorf("testca: manifest: %w", err)
	}
	a.Manifest = NewBlob(m.MediaType, content)
	a.Manifest.Descriptor.ArtifactType = artifactType
	a.Manifest.Descriptor.Annotations = m.Annotations
	return a, nil
}

// Attach signs the subject and makes the artifact to push, as `notation sign`
// does: the certificates' thumbprints stand in the annotations.
func (c *Chain) Attach(subject ocispec.Descriptor, o SignOptions) (Artifact, error) {
	env, err := c.Sign(subject, o)
	if err != nil {
		return Artifact{}, err
	}
	prints := make([]string, len(c.Certs))
	for i, cert := range c.Certs {
		prints[i] = digest.FromBytes(cert.Raw).Encoded()
	}
	list, err := json.Marshal(prints)
	if err != nil {
		return Artifact{}, err
	}
	return SignatureManifest(subject, ManifestOptions{Annotations: map[string]string{annotationThumbprints: string(list)}}, env)
}
