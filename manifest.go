package boltseal

import (
	_ "crypto/sha256" // go-digest knows only the hashes that are linked in
	_ "crypto/sha512"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Limits on an artifact's manifest.
const (
	// MaxArtifactManifest bounds its bytes. One of a signature has some hundred.
	MaxArtifactManifest = 64 << 10
	// MaxLayers bounds the blobs that it may list.
	MaxLayers = 100
)

// MediaTypeORASArtifact is the manifest type that OCI image-spec 1.1 had as a
// release candidate; Notation wrote it before image-spec 1.1 was final.
const MediaTypeORASArtifact = "application/vnd.oci.artifact.manifest.v1+json"

// ArtifactManifest is what the manifests of an artifact have in common: an OCI
// image manifest with a subject, or the release candidate's artifact manifest.
type ArtifactManifest struct {
	MediaType    string              // of the manifest itself
	ArtifactType string              // artifactType, or the config's media type where that is empty
	Config       *ocispec.Descriptor // nil in an artifact manifest
	Layers       []ocispec.Descriptor
	Subject      *ocispec.Descriptor
	Annotations  map[string]string
}

// ParseArtifactManifest reads the bytes of a manifest of the given media type
// (OCI image-spec 1.1, manifest.md). Duplicate members, a mediaType field that
// contradicts mediaType, or descriptors with impossible sizes or digests are
// errors that wrap [ErrMalformed]; more than [MaxArtifactManifest] bytes, and too
// many layers or annotations, wrap [ErrLimit]. Of descriptors only media type,
// artifact type, digest, size and annotations are read.
func ParseArtifactManifest(mediaType string, b []byte) (ArtifactManifest, error) {
	var doc struct {
		SchemaVersion int                `json:"schemaVersion"`
		MediaType     string             `json:"mediaType"`
		ArtifactType  string             `json:"artifactType"`
		Config        *boundedDescriptor `json:"config"`
		Layers        layers             `json:"layers"`
		Blobs         layers             `json:"blobs"`
		Subject       *boundedDescriptor `json:"subject"`
		Annotations   annotations        `json:"annotations"`
	}
	if len(b) > MaxArtifactManifest {
		return ArtifactManifest{}, fmt.Errorf("manifest: %w: %d bytes, at most %d", ErrLimit, len(b), MaxArtifactManifest)
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return ArtifactManifest{}, fmt.Errorf("manifest: %w", countedError(err))
	}
	if doc.MediaType != "" && doc.MediaType != mediaType {
		return ArtifactManifest{}, fmt.Errorf("manifest: %w: it calls itself %q and was served as %q", ErrMalformed, doc.MediaType, mediaType)
	}
	m := ArtifactManifest{
		MediaType: mediaType, ArtifactType: doc.ArtifactType, Config: doc.Config.descriptor(),
		Layers: doc.Layers, Subject: doc.Subject.descriptor(), Annotations: doc.Annotations,
	}
	switch mediaType {
	case ocispec.MediaTypeImageManifest:
		if doc.Config == nil {
			return ArtifactManifest{}, fmt.Errorf("manifest: %w: it has no config", ErrMalformed)
		}
		if m.ArtifactType == "" {
			m.ArtifactType = doc.Config.MediaType
		}
	case MediaTypeORASArtifact:
		m.Layers, m.Config = doc.Blobs, nil
	default:
		return ArtifactManifest{}, fmt.Errorf("manifest: %w: type %q cannot carry a signature", ErrMalformed, mediaType)
	}
	for i := range m.Layers {
		if err := ValidateDescriptor(m.Layers[i]); err != nil {
			return ArtifactManifest{}, fmt.Errorf("manifest: layer %d: %w", i+1, err)
		}
	}
	for name, d := range map[string]*ocispec.Descriptor{"config": m.Config, "subject": m.Subject} {
		if d == nil {
			continue
		}
		if err := ValidateDescriptor(*d); err != nil {
			return ArtifactManifest{}, fmt.Errorf("manifest: %s: %w", name, err)
		}
	}
	return m, nil
}

// ManifestMediaType is the type of a manifest: what its bytes call themselves, or
// where they do not say, served, which somebody called them, or else what its form
// makes it (OCI image-spec 1.1: mediaType may be left out). It is served where the
// bytes are no manifest.
func ManifestMediaType(served string, b []byte) string {
	var doc struct {
		MediaType string          `json:"mediaType"`
		Config    *jsontext.Value `json:"config"`
		Manifests *jsontext.Value `json:"manifests"`
	}
	switch err := json.Unmarshal(b, &doc, jsontext.AllowDuplicateNames(true)); {
	case err != nil:
		return served
	case doc.MediaType != "":
		return doc.MediaType
	case IsManifest(served):
		return served
	case doc.Manifests != nil && doc.Config == nil:
		return ocispec.MediaTypeImageIndex
	case doc.Config != nil && doc.Manifests == nil:
		return ocispec.MediaTypeImageManifest
	}
	return served
}

// IsManifest reports whether a media type is that of a manifest or an index.
func IsManifest(mediaType string) bool {
	return IsIndex(mediaType) || mediaType == ocispec.MediaTypeImageManifest || mediaType == MediaTypeDockerManifest || mediaType == MediaTypeORASArtifact
}

// MaxDescriptorSize bounds the size that a descriptor may state, in bytes. It
// is far above any limit on what is fetched and keeps sums from overflowing.
const MaxDescriptorSize = 1 << 50

// ValidateDescriptor reports a size below zero or above [MaxDescriptorSize], or
// a digest that is not one. Errors wrap [ErrMalformed].
func ValidateDescriptor(d ocispec.Descriptor) error {
	if d.Size < 0 || d.Size > MaxDescriptorSize {
		return fmt.Errorf("%w: descriptor with size %d", ErrMalformed, d.Size)
	}
	return ValidateDigest(d.Digest)
}

// ValidateDigest reports a digest that is not sha256, sha384 or sha512 in lower
// case hexadecimal. Errors wrap [ErrMalformed].
func ValidateDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("%w: digest %.80q: %v", ErrMalformed, string(d), err)
	}
	return nil
}
