package boltseal

import (
	"fmt"
	"reflect"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MaxIndexManifests bounds the entries that an index may have.
const MaxIndexManifests = 2000

// Docker's counterparts of OCI's image index and image manifest.
const (
	MediaTypeDockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeDockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
)

// The annotation by which BuildKit marks an entry that describes another one and
// is no image.
const (
	annotationReferenceType = "vnd.docker.reference.type"
	referenceAttestation    = "attestation-manifest"
)

// IsIndex reports whether the media type is that of an image of several platforms.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == MediaTypeDockerManifestList
}

// Index is an image of several platforms.
type Index struct {
	MediaType string
	// Manifests have a media type, a digest, a size, and a platform and annotations
	// where the index names them.
	Manifests []ocispec.Descriptor
}

type indexDocument struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	Manifests     *indexEntries   `json:"manifests"`
	Config        *jsontext.Value `json:"config"`
	Layers        *jsontext.Value `json:"layers"`
	FSLayers      *jsontext.Value `json:"fsLayers"`
}

type indexEntries []ocispec.Descriptor

// UnmarshalJSONFrom reads a list, and stops where it gets too long: an entry takes
// far more memory than text.
func (l *indexEntries) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() == 'n' {
		return fmt.Errorf("manifests is no list")
	}
	*l = indexEntries{}
	return decodeArray(d, MaxIndexManifests, "manifests", func() error {
		var entry struct {
			MediaType   string           `json:"mediaType"`
			Digest      digest.Digest    `json:"digest"`
			Size        *int64           `json:"size"`
			Platform    *boundedPlatform `json:"platform"`
			Annotations annotations      `json:"annotations"`
		}
		if err := json.UnmarshalDecode(d, &entry); err != nil {
			return err
		}
		out := ocispec.Descriptor{MediaType: entry.MediaType, Digest: entry.Digest, Size: -1, Platform: entry.Platform.platform(), Annotations: entry.Annotations}
		if entry.Size != nil {
			out.Size = *entry.Size
		}
		if err := ValidateDescriptor(out); err != nil { // now: a long list of nothing takes much memory
			return fmt.Errorf("manifest %d: %w", len(*l)+1, err)
		}
		*l = append(*l, out)
		return nil
	})
}

// ParseIndex reads the bytes of an index that was served as mediaType (OCI
// image-spec 1.1, image-index.md; Docker's manifest list has the same form). The
// bytes are to be held against their digest before. Duplicate members, a mediaType
// that contradicts, a descriptor that is none, members that make an image manifest
// of the same bytes, and one digest described in two ways are errors that wrap
// [ErrMalformed]; more than [MaxIndexManifests] entries wrap [ErrLimit].
func ParseIndex(mediaType string, b []byte) (Index, error) {
	if !IsIndex(mediaType) {
		return Index{}, fmt.Errorf("index: %w: type %.100q is not that of an index", ErrMalformed, mediaType)
	}
	var doc, folded indexDocument
	for _, read := range []func() error{
		func() error { return json.Unmarshal(b, &doc) },
		// Container runtimes read members in any case ("Digest", "DIGEST"). What can
		// be read in two ways is not read at all.
		func() error { return json.Unmarshal(b, &folded, json.MatchCaseInsensitiveNames(true)) },
	} {
		if err := read(); err != nil {
			return Index{}, fmt.Errorf("index: %w", countedError(err))
		}
	}
	malformed := func(format string, a ...any) (Index, error) {
		return Index{}, fmt.Errorf("index: %w: %s", ErrMalformed, fmt.Sprintf(format, a...))
	}
	switch {
	case !reflect.DeepEqual(doc, folded):
		return malformed("a member differs from one that an index has in upper and lower case only")
	case doc.SchemaVersion != 2:
		return malformed("schemaVersion %d where it must be 2", doc.SchemaVersion)
	case doc.MediaType != "" && doc.MediaType != mediaType, doc.MediaType == "" && mediaType != ocispec.MediaTypeImageIndex:
		return malformed("it calls itself %.100q and was served as %q", doc.MediaType, mediaType)
	case doc.Manifests == nil:
		return malformed("it has no manifests")
	case doc.Config != nil || doc.Layers != nil || doc.FSLayers != nil:
		return malformed("it can be read as an image manifest too")
	}
	ix := Index{MediaType: mediaType, Manifests: *doc.Manifests}
	seen := make(map[digest.Digest]ocispec.Descriptor, len(ix.Manifests))
	for i, d := range ix.Manifests {
		if d.MediaType == "" {
			return malformed("manifest %d has no mediaType", i+1)
		}
		if o, ok := seen[d.Digest]; ok && (o.Size != d.Size || o.MediaType != d.MediaType) {
			return malformed("%s is listed in it with two sizes or types", d.Digest)
		}
		seen[d.Digest] = d
	}
	return ix, nil
}
