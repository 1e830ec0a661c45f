package main

import (
	"fmt"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/notation"
)

// tags are images by tag, made when they are first asked for, with what was made for
// their signatures.
type tags struct {
	make func(tag string) []byte
	mu   sync.Mutex
	by   map[string][]byte // by digest
}

func newTags(make func(tag string) []byte) *tags {
	return &tags{make: make, by: map[string][]byte{}}
}

func (t *tags) put(b []byte) digest.Digest {
	d := digest.FromBytes(b)
	t.by[d.String()] = b
	return d
}

// content is what a digest names, or the image of a tag.
func (t *tags) content(name string) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.by[name]; b != nil || strings.Contains(name, ":") {
		return b
	}
	b := t.make(name)
	t.put(b)
	return b
}

// sign makes fifty signatures of an image with one envelope, and lists them.
func (t *tags) sign(image string, by *testca.Chain) (list []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	subject := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(image), Size: int64(len(t.by[image]))}
	env, err := by.Sign(subject, testca.SignOptions{})
	if err != nil {
		return nil
	}
	blob := descriptorJSON("", env.MediaType, t.put(env.Content), len(env.Content))
	for i := range 50 {
		m := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"artifactType":%q,"config":%s,"layers":[%s],"subject":%s,"annotations":{"i":"%d"}}`,
			ocispec.MediaTypeImageManifest, notation.ArtifactType, descriptorJSON("", ocispec.MediaTypeEmptyJSON, t.put([]byte("{}")), 2), blob,
			descriptorJSON("", subject.MediaType, subject.Digest, int(subject.Size)), i)
		list = append(list, descriptorJSON(notation.ArtifactType, ocispec.MediaTypeImageManifest, t.put(m), len(m)))
	}
	return list
}
