package boltseal

import (
	"context"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxCluePlatforms bounds how many manifests of an index are asked about for a clue.
const maxCluePlatforms = 4

// Clues are what was seen of an image that nobody here judges a signature of. They say
// what may have been meant, for messages; no policy may decide by them.
type Clues struct {
	// Cosign says that the tag is there under which cosign keeps signatures.
	Cosign bool `json:"cosign,omitempty"`
	// SignedPlatforms are platforms of an index whose manifests have something that a
	// verifier judges, while the index has not. A few are looked at, not all.
	SignedPlatforms []string `json:"signedPlatforms,omitempty"`
}

// clues looks for what may have been meant by an image that is denied since nothing
// is signed. It costs such an image one request, and an index a few more; at most half
// of the time that is left is spent, and what fails is no clue.
func (e *Engine) clues(ctx context.Context, store Store, f *Findings) {
	if e.index != nil || len(f.Evidence) > 0 || f.Failure != (Reason{}) || f.Truncated != "" || f.Incomplete != (Reason{}) {
		return
	}
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	if IsIndex(f.Subject.MediaType) {
		f.Clues.SignedPlatforms = e.signedPlatforms(ctx, store, f)
	}
	if len(f.Clues.SignedPlatforms) > 0 {
		return
	}
	tag := f.Reference
	tag.Digest, tag.Tag = "", string(f.Subject.Digest.Algorithm())+"-"+f.Subject.Digest.Encoded()+".sig"
	if _, err := e.resolve(ctx, store, tag); err == nil {
		f.Clues.Cosign = true
	}
}

// signedPlatforms are those of the first platforms of an index that have something
// attached that a verifier judges.
func (e *Engine) signedPlatforms(ctx context.Context, store Store, f *Findings) (names []string) {
	b, err := e.manifest(ctx, store, f.Reference, f.Subject)
	if err != nil {
		return nil
	}
	ix, err := ParseIndex(f.Subject.MediaType, b)
	if err != nil {
		return nil
	}
	asked := 0
	for _, d := range ix.Manifests {
		if d.Platform == nil || d.Platform.OS == "unknown" || IsIndex(d.MediaType) {
			continue
		}
		if asked++; asked > maxCluePlatforms {
			return names
		}
		l, err := e.list(ctx, store, f.Reference.WithDigest(d.Digest))
		if err != nil {
			return names
		}
		if slices.ContainsFunc(l.Referrers, func(d ocispec.Descriptor) bool { return len(e.handlers(d.ArtifactType)) > 0 }) {
			names = append(names, platformName(d.Platform))
		}
	}
	return names
}

func (e *Engine) manifest(ctx context.Context, store Store, ref Reference, d ocispec.Descriptor) (b []byte, err error) {
	defer e.caught("reading "+d.Digest.String(), &err)
	return store.Manifest(ctx, ref.WithDigest(d.Digest), d)
}
