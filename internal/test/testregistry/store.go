package testregistry

import (
	"context"
	"encoding/json"
	"iter"
	"slices"
	"sync"

	"cuelabs.dev/go/oci/ociregistry"
	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// store is an in-memory registry that finds the referrers of a subject without
// looking at every manifest, and lists them in the order of their pushes.
type store struct {
	*ocimem.Registry
	mu        sync.Mutex
	referrers map[string]map[digest.Digest][]ocispec.Descriptor // by repository and subject
}

func newStore() *store {
	return &store{Registry: ocimem.NewWithConfig(&ocimem.Config{LaxChildReferences: true}),
		referrers: map[string]map[digest.Digest][]ocispec.Descriptor{}}
}

// PushManifest implements [ociregistry.Writer].
func (s *store) PushManifest(ctx context.Context, repo, tag string, content []byte, mediaType string) (ocispec.Descriptor, error) {
	desc, err := s.Registry.PushManifest(ctx, repo, tag, content, mediaType)
	if err != nil {
		return desc, err
	}
	var m ocispec.Manifest
	if json.Unmarshal(content, &m) != nil || m.Subject == nil {
		return desc, nil // what is not a manifest refers to nothing
	}
	listed := desc
	listed.ArtifactType, listed.Annotations = m.ArtifactType, m.Annotations
	if listed.ArtifactType == "" {
		listed.ArtifactType = m.Config.MediaType
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.referrers[repo] == nil {
		s.referrers[repo] = map[digest.Digest][]ocispec.Descriptor{}
	}
	list := s.referrers[repo][m.Subject.Digest]
	if !slices.ContainsFunc(list, func(d ocispec.Descriptor) bool { return d.Digest == desc.Digest }) {
		s.referrers[repo][m.Subject.Digest] = append(slices.Clip(list), listed)
	}
	return desc, nil
}

// DeleteManifest implements [ociregistry.Deleter].
func (s *store) DeleteManifest(ctx context.Context, repo string, d digest.Digest) error {
	if err := s.Registry.DeleteManifest(ctx, repo, d); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for subject, list := range s.referrers[repo] {
		s.referrers[repo][subject] = slices.DeleteFunc(slices.Clone(list), func(r ocispec.Descriptor) bool { return r.Digest == d })
	}
	return nil
}

// Referrers implements [ociregistry.Lister].
func (s *store) Referrers(_ context.Context, repo string, subject digest.Digest, artifactType string) iter.Seq2[ocispec.Descriptor, error] {
	return ociregistry.SliceSeq(s.listReferrers(repo, subject, artifactType))
}

func (s *store) listReferrers(repo string, subject digest.Digest, artifactType string) []ocispec.Descriptor {
	s.mu.Lock()
	list := s.referrers[repo][subject]
	s.mu.Unlock()
	if artifactType == "" {
		return list
	}
	var out []ocispec.Descriptor
	for _, d := range list {
		if d.ArtifactType == artifactType {
			out = append(out, d)
		}
	}
	return out
}
