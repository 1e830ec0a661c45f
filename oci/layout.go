package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
)

// Limits on a layout, beyond those of its single files.
const (
	maxLayoutManifests = 10_000    // manifests that are looked at
	maxLayoutBytes     = 512 << 20 // of all manifests together
	maxIndexDepth      = 4         // indexes in one another
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
	bytes     int64                                  // of manifests that were looked at
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

type layoutEntry struct {
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType"`
	Digest       digest.Digest     `json:"digest"`
	Size         int64             `json:"size"`
	Annotations  map[string]string `json:"annotations"`
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
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: it has no file %s, so it is no OCI layout", boltseal.ErrConfiguration, ocispec.ImageIndexFile)
	} else if err != nil {
		return err
	}
	if err := l.index(b, 0); err != nil {
		return fmt.Errorf("%w: %s: %v", boltseal.ErrMalformed, ocispec.ImageIndexFile, err)
	}
	return nil
}

// index notes the manifests of an index, and looks into each. What is malformed
// is left out; it must not hide what is not.
func (l *Layout) index(b []byte, depth int) error {
	_, err := eachManifest(b, func(raw jsontext.Value) (more bool) {
		var m layoutEntry
		if json.Unmarshal(raw, &m) != nil {
			return true
		}
		d := ocispec.Descriptor{MediaType: m.MediaType, ArtifactType: m.ArtifactType, Digest: m.Digest, Size: m.Size}
		if boltseal.ValidateDescriptor(d) != nil {
			return true
		}
		if tag := m.Annotations[ocispec.AnnotationRefName]; tag != "" && depth == 0 {
			l.tags[tag] = d
		}
		old, seen := l.images[d.Digest]
		if seen && old.Size == d.Size {
			return true
		}
		switch {
		case len(l.images) >= maxLayoutManifests:
			l.truncated = fmt.Sprintf("only the first %d manifests of the layout were checked", maxLayoutManifests)
			return false
		case d.Size <= l.limits.ManifestBytes && l.bytes+d.Size > maxLayoutBytes:
			l.truncated = fmt.Sprintf("only the first %d bytes of the layout's manifests were checked", maxLayoutBytes)
			return false
		}
		if d.Size <= l.limits.ManifestBytes { // the others are not read
			l.bytes += d.Size
		}
		b, err := l.blob(d, l.limits.ManifestBytes)
		if seen && err != nil {
			return true // of two sizes of one digest, one can be right
		}
		l.images[d.Digest] = d
		if err == nil {
			l.manifest(d, b, depth)
		}
		return true
	})
	return err
}

// manifest looks into one manifest for a subject, or for further manifests. One
// that cannot be read is reported when it is asked for, not here.
func (l *Layout) manifest(d ocispec.Descriptor, b []byte, depth int) {
	switch d.MediaType {
	case ocispec.MediaTypeImageIndex, mediaTypeDockerManifestList:
		if depth == maxIndexDepth {
			l.truncated = fmt.Sprintf("indexes were looked into %d deep", maxIndexDepth)
		} else if err := l.index(b, depth+1); err != nil {
			l.truncated = fmt.Sprintf("the index %s of the layout cannot be read: %v", d.Digest, err)
		}
	case ocispec.MediaTypeImageManifest, boltseal.MediaTypeORASArtifact:
		m, err := boltseal.ParseArtifactManifest(d.MediaType, b)
		if err == nil && m.Subject != nil {
			d.ArtifactType = m.ArtifactType
			if text := m.Annotations[boltseal.HintThumbprints]; text != "" && len(text) <= boltseal.MaxHintBytes {
				d.Annotations = map[string]string{boltseal.HintThumbprints: text}
			}
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
		} else {
			c.other(d)
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
	if known, ok := l.images[d.Digest]; ok && d.Size == 0 {
		d.Size = known.Size // the caller does not know it
	}
	if err := checkSize(d, limit); err != nil {
		return nil, err
	}
	f, err := l.open("blobs/" + string(d.Digest.Algorithm()) + "/" + d.Digest.Encoded())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := readExactly(f, d, boltseal.ErrMalformed)
	if err != nil {
		return nil, classifyError(err)
	}
	return b, nil
}

func (l *Layout) file(name string, limit int64) ([]byte, error) {
	f, err := l.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, unavailableError(err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", boltseal.ErrLimit, name, limit)
	}
	return b, nil
}

// open opens regular files only: a pipe or a device in a layout would hang us.
func (l *Layout) open(name string) (*os.File, error) {
	info, err := l.root.Stat(name)
	if err != nil {
		return nil, fileError(name, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file", boltseal.ErrMalformed, name)
	}
	// It may have become a pipe since: opening it must not wait for a writer.
	f, err := l.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fileError(name, err)
	}
	if info, err = f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%w: %s is not a regular file", boltseal.ErrMalformed, name)
	}
	return f, nil
}

func fileError(name string, err error) error {
	var number syscall.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: %w", boltseal.ErrNotFound, err)
	case !errors.As(err, &number):
		// Not the system's own error: os.Root does not go there.
		return refusedError("%s leads out of the layout", name)
	}
	return unavailableError(err)
}
