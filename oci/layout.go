package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
)

// maxLayoutManifests bounds the manifests of a layout that are looked at, and
// maxIndexDepth how deep one index may stand in another.
const (
	maxLayoutManifests = 10_000
	maxIndexDepth      = 4
)

// Layout is a [boltseal.Store] on an OCI image layout (image-spec 1.1,
// image-layout.md). Of a reference it uses tag and digest only.
type Layout struct {
	dir       string
	root      *os.Root
	limits    Limits
	tags      map[string]ocispec.Descriptor
	images    map[digest.Digest]ocispec.Descriptor   // every manifest and index
	referrers map[digest.Digest][]ocispec.Descriptor // by subject
	truncated string
}

var _ boltseal.Store = (*Layout)(nil)

// OpenLayout reads the index of the layout in dir, and the manifests it lists.
// The zero Limits mean the defaults. Errors wrap [boltseal.ErrConfiguration]
// where dir is no layout, and the other sentinels for what is wrong inside.
func OpenLayout(dir string, limits Limits) (*Layout, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", boltseal.ErrConfiguration, err)
	}
	l := &Layout{dir: dir, root: root, limits: limits.withDefaults(), tags: map[string]ocispec.Descriptor{},
		images: map[digest.Digest]ocispec.Descriptor{}, referrers: map[digest.Digest][]ocispec.Descriptor{}}
	if err := l.load(); err != nil {
		root.Close()
		return nil, &boltseal.StoreError{Op: "open layout", Host: dir, Err: err}
	}
	return l, nil
}

// Close releases the directory.
func (l *Layout) Close() error { return l.root.Close() }

type layoutIndex struct {
	Manifests []struct {
		MediaType    string            `json:"mediaType"`
		ArtifactType string            `json:"artifactType"`
		Digest       digest.Digest     `json:"digest"`
		Size         int64             `json:"size"`
		Annotations  map[string]string `json:"annotations"`
	} `json:"manifests"`
}

func (l *Layout) load() error {
	b, err := l.file(ocispec.ImageLayoutFile, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: it has no file %s, so it is no OCI layout", boltseal.ErrConfiguration, ocispec.ImageLayoutFile)
	} else if err != nil {
		return err
	}
	var header ocispec.ImageLayout
	if err := json.Unmarshal(b, &header); err != nil || header.Version != ocispec.ImageLayoutVersion {
		return fmt.Errorf("%w: %s does not state version %s", boltseal.ErrMalformed, ocispec.ImageLayoutFile, ocispec.ImageLayoutVersion)
	}
	b, err = l.file(ocispec.ImageIndexFile, l.limits.IndexBytes)
	if err != nil {
		return err
	}
	return l.index(b, 0)
}

func (l *Layout) index(b []byte, depth int) error {
	var idx layoutIndex
	if err := json.Unmarshal(b, &idx, jsontext.AllowInvalidUTF8(false)); err != nil {
		return fmt.Errorf("%w: %v", boltseal.ErrMalformed, err)
	}
	for _, m := range idx.Manifests {
		d := ocispec.Descriptor{MediaType: m.MediaType, ArtifactType: m.ArtifactType, Digest: m.Digest, Size: m.Size}
		if boltseal.ValidateDescriptor(d) != nil {
			continue
		}
		if tag := m.Annotations[ocispec.AnnotationRefName]; tag != "" && depth == 0 {
			l.tags[tag] = d
		}
		if _, seen := l.images[d.Digest]; seen {
			continue
		}
		if len(l.images) >= maxLayoutManifests {
			l.truncated = fmt.Sprintf("only the first %d manifests of the layout were looked at", maxLayoutManifests)
			return nil
		}
		l.images[d.Digest] = d
		l.manifest(d, depth)
	}
	return nil
}

// manifest looks into one manifest for a subject, or for further manifests. One
// that cannot be read is reported when it is asked for, not here.
func (l *Layout) manifest(d ocispec.Descriptor, depth int) {
	b, err := l.blob(d, l.limits.ManifestBytes)
	if err != nil {
		return
	}
	switch d.MediaType {
	case ocispec.MediaTypeImageIndex, mediaTypeDockerManifestList:
		if depth < maxIndexDepth {
			_ = l.index(b, depth+1)
		}
	case ocispec.MediaTypeImageManifest, boltseal.MediaTypeORASArtifact:
		m, err := boltseal.ParseArtifactManifest(d.MediaType, b)
		if err == nil && m.Subject != nil {
			d.ArtifactType = m.ArtifactType
			l.referrers[m.Subject.Digest] = append(l.referrers[m.Subject.Digest], d)
		}
	}
}

// Resolve implements [boltseal.Store].
func (l *Layout) Resolve(_ context.Context, ref boltseal.Reference) (ocispec.Descriptor, error) {
	d, ok := l.tags[ref.Tag]
	if ref.Digest != "" {
		d, ok = l.images[ref.Digest]
	}
	if !ok {
		return ocispec.Descriptor{}, l.fail("resolve", ref, boltseal.ErrNotFound)
	}
	if err := checkImageType(d.MediaType); err != nil {
		return ocispec.Descriptor{}, l.fail("resolve", ref, err)
	}
	if _, err := l.blob(d, l.limits.ManifestBytes); err != nil {
		return ocispec.Descriptor{}, l.fail("resolve", ref, err)
	}
	d.ArtifactType = ""
	return d, nil
}

// Referrers implements [boltseal.Store].
func (l *Layout) Referrers(_ context.Context, _ boltseal.Reference, subject digest.Digest, artifactTypes []string) (boltseal.Listing, error) {
	c := collector{types: artifactTypes, listing: boltseal.Listing{Truncated: l.truncated}}
	for _, d := range l.referrers[subject] {
		if c.wanted(d.ArtifactType) {
			c.listing.Referrers = append(c.listing.Referrers, d)
		}
	}
	return c.listing, nil
}

// Manifest implements [boltseal.Store].
func (l *Layout) Manifest(_ context.Context, ref boltseal.Reference, d ocispec.Descriptor) ([]byte, error) {
	b, err := l.blob(d, l.limits.ManifestBytes)
	if err != nil {
		return nil, l.fail("fetch manifest", ref, err)
	}
	return b, nil
}

// Blob implements [boltseal.Store].
func (l *Layout) Blob(_ context.Context, ref boltseal.Reference, d ocispec.Descriptor) ([]byte, error) {
	b, err := l.blob(d, l.limits.BlobBytes)
	if err != nil {
		return nil, l.fail("fetch blob", ref, err)
	}
	return b, nil
}

func (l *Layout) fail(op string, ref boltseal.Reference, err error) error {
	target := ref.Tag
	if ref.Digest != "" {
		target = string(ref.Digest)
	}
	return &boltseal.StoreError{Op: op, Host: l.dir, Target: target, Err: err}
}

func (l *Layout) blob(d ocispec.Descriptor, limit int64) ([]byte, error) {
	if err := checkSize(d, limit); err != nil {
		return nil, err
	}
	f, err := l.open("blobs/" + string(d.Digest.Algorithm()) + "/" + d.Digest.Encoded())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readExactly(f, d)
}

func (l *Layout) file(name string, limit int64) ([]byte, error) {
	f, err := l.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", boltseal.ErrLimit, name, limit)
	}
	return b, nil
}

// open opens regular files only: a pipe or a device in a layout would hang us.
func (l *Layout) open(name string) (*os.File, error) {
	info, err := l.root.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %w", boltseal.ErrNotFound, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", boltseal.ErrUnavailable, err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s is not a regular file", boltseal.ErrMalformed, name)
	}
	return l.root.Open(name)
}
