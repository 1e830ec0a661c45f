package testregistry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal/internal/test/testca"
)

// DefaultImageSize is the size of an image's layer, in bytes.
const DefaultImageSize = 256

// The push helpers write into the registry's memory directly: no request, no
// credentials, no fault. They fail on names and tags that are not valid only:
// that ends the test of [New], and panics otherwise.

// PushImage pushes an image with one layer of size bytes (0 means
// DefaultImageSize) and tags it; tag may be "". Every image differs from the
// others of its registry, and equals that of another registry at the same turn.
func (r *Registry) PushImage(repo, tag string, size int) ocispec.Descriptor {
	if size <= 0 {
		size = DefaultImageSize
	}
	n := r.seq.Add(1)
	layer := make([]byte, size)
	fillFrom(layer, n)
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: r.PushBlob(repo, ocispec.MediaTypeImageConfig,
			fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","config":{"Labels":{"turn":"%d"}},"rootfs":{"type":"layers","diff_ids":[%q]}}`, n, digest.FromBytes(layer))),
		Layers: []ocispec.Descriptor{r.PushBlob(repo, ocispec.MediaTypeImageLayer, layer)},
	}
	return r.pushJSON(repo, tag, m.MediaType, m)
}

func fillFrom(b []byte, seed uint64) {
	src := rand.New(rand.NewPCG(seed, 0x626f6c74))
	for i := range b {
		b[i] = byte(src.Uint32())
	}
}

// PushIndex pushes an index of manifests (an image of several platforms) and tags it.
func (r *Registry) PushIndex(repo, tag string, manifests ...ocispec.Descriptor) ocispec.Descriptor {
	for i := range manifests {
		if manifests[i].Platform == nil {
			manifests[i].Platform = &ocispec.Platform{OS: "linux", Architecture: []string{"amd64", "arm64", "s390x", "ppc64le"}[i%4]}
		}
	}
	return r.pushJSON(repo, tag, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests})
}

func (r *Registry) pushJSON(repo, tag, mediaType string, v any) ocispec.Descriptor {
	content, err := json.Marshal(v)
	if err != nil {
		r.fail(fmt.Errorf("testregistry: %w", err))
	}
	return r.PushManifest(repo, tag, mediaType, content)
}

// PushBlob pushes a blob.
func (r *Registry) PushBlob(repo, mediaType string, content []byte) ocispec.Descriptor {
	d := testca.NewBlob(mediaType, content).Descriptor
	if _, err := r.store.PushBlob(context.Background(), repo, d, bytes.NewReader(content)); err != nil {
		r.fail(fmt.Errorf("testregistry: pushing a blob to %s: %w", repo, err))
	}
	return d
}

// PushManifest pushes any manifest, well-formed JSON or of a type that is not
// OCI's, and tags it; tag may be "".
func (r *Registry) PushManifest(repo, tag, mediaType string, content []byte) ocispec.Descriptor {
	d, err := r.store.PushManifest(context.Background(), repo, tag, content, mediaType)
	if err != nil {
		r.fail(fmt.Errorf("testregistry: pushing a manifest to %s: %w", repo, err))
	}
	if r.opts.NoReferrersAPI {
		r.updateTagSchema(repo, content)
	}
	return d
}

// PushArtifact pushes an artifact, with its blobs.
func (r *Registry) PushArtifact(repo string, a testca.Artifact) ocispec.Descriptor {
	for _, b := range a.Blobs {
		r.PushBlob(repo, b.Descriptor.MediaType, b.Content)
	}
	r.PushManifest(repo, "", a.Manifest.Descriptor.MediaType, a.Manifest.Content)
	return a.Manifest.Descriptor
}

// Sign signs an image with the chain and pushes the signature.
func (r *Registry) Sign(repo string, image ocispec.Descriptor, c *testca.Chain, o testca.SignOptions) ocispec.Descriptor {
	a, err := c.Attach(image, o)
	if err != nil {
		r.fail(err)
	}
	return r.PushArtifact(repo, a)
}

// PushReferrer pushes an artifact of any type with one layer that refers to a subject.
func (r *Registry) PushReferrer(repo string, subject ocispec.Descriptor, artifactType string, content []byte) ocispec.Descriptor {
	a, err := testca.SignatureManifest(subject, testca.ManifestOptions{ArtifactType: artifactType},
		testca.Envelope{MediaType: "application/octet-stream", Content: content})
	if err != nil {
		r.fail(err)
	}
	return r.PushArtifact(repo, a)
}

// Tag points a tag at a manifest of the repository, wherever it pointed before.
func (r *Registry) Tag(repo, tag string, d digest.Digest) {
	content, desc, err := r.manifest(repo, d)
	if err == nil {
		_, err = r.store.PushManifest(context.Background(), repo, tag, content, desc.MediaType)
	}
	if err != nil {
		r.fail(fmt.Errorf("testregistry: tagging %s in %s: %w", d, repo, err))
	}
}

// Delete removes a manifest, and from the referrers tag schema too.
func (r *Registry) Delete(repo string, d digest.Digest) {
	content, _, err := r.manifest(repo, d)
	if err == nil {
		err = r.store.DeleteManifest(context.Background(), repo, d)
	}
	if err != nil {
		r.fail(fmt.Errorf("testregistry: deleting %s from %s: %w", d, repo, err))
	}
	if r.opts.NoReferrersAPI {
		r.updateTagSchema(repo, content)
	}
}

// DeleteBlob removes a blob.
func (r *Registry) DeleteBlob(repo string, d digest.Digest) {
	if err := r.store.DeleteBlob(context.Background(), repo, d); err != nil {
		r.fail(fmt.Errorf("testregistry: deleting the blob %s from %s: %w", d, repo, err))
	}
}

func (r *Registry) manifest(repo string, d digest.Digest) ([]byte, ocispec.Descriptor, error) {
	rd, err := r.store.GetManifest(context.Background(), repo, d)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	defer rd.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(rd)
	return b.Bytes(), rd.Descriptor(), err
}

// ReferrersTag is the tag under which the referrers of a digest stand where
// there is no referrers API (OCI distribution-spec 1.1, "Referrers Tag Schema").
func ReferrersTag(d digest.Digest) string {
	return strings.Replace(d.String(), ":", "-", 1)
}

// updateTagSchema writes the index of the referrers of content's subject anew.
func (r *Registry) updateTagSchema(repo string, content []byte) {
	var m struct {
		Subject *ocispec.Descriptor `json:"subject"`
	}
	if json.Unmarshal(content, &m) != nil || m.Subject == nil {
		return
	}
	index, err := encodeIndex(r.store.listReferrers(repo, m.Subject.Digest, ""))
	if err == nil {
		_, err = r.store.PushManifest(context.Background(), repo, ReferrersTag(m.Subject.Digest), index, ocispec.MediaTypeImageIndex)
	}
	if err != nil {
		r.fail(fmt.Errorf("testregistry: referrers tag of %s in %s: %w", m.Subject.Digest, repo, err))
	}
}
