package boltseal_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/policy"
)

// catalogue is a Store on images that a program has in memory. Content is kept by digest, so that
// what it returns matches what it was asked for.
type catalogue struct {
	tags      map[string]ocispec.Descriptor          // of host/repository:tag
	referrers map[digest.Digest][]ocispec.Descriptor // of an image's digest
	content   map[digest.Digest][]byte
}

func (c *catalogue) Resolve(_ context.Context, ref boltseal.Reference) (ocispec.Descriptor, error) {
	if ref.Digest != "" {
		return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: ref.Digest, Size: int64(len(c.content[ref.Digest]))}, nil
	}
	d, ok := c.tags[ref.String()]
	if !ok {
		return ocispec.Descriptor{}, fmt.Errorf("%w: %s", boltseal.ErrNotFound, ref)
	}
	return d, nil
}

func (c *catalogue) Referrers(_ context.Context, _ boltseal.Reference, subject digest.Digest, _ []string) (boltseal.Listing, error) {
	return boltseal.Listing{Referrers: c.referrers[subject]}, nil
}

func (c *catalogue) Manifest(_ context.Context, _ boltseal.Reference, d ocispec.Descriptor) ([]byte, error) {
	b, ok := c.content[d.Digest]
	if !ok {
		return nil, fmt.Errorf("%w: %s", boltseal.ErrNotFound, d.Digest)
	}
	return b, nil
}

func (c *catalogue) Blob(ctx context.Context, ref boltseal.Reference, d ocispec.Descriptor) ([]byte, error) {
	return c.Manifest(ctx, ref, d)
}

// put keeps content and describes it.
func (c *catalogue) put(mediaType string, b []byte) ocispec.Descriptor {
	d := digest.FromBytes(b)
	c.content[d] = b
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

const sealType = "application/vnd.example.seal"

// sealVerifier takes an HMAC over the image's digest for a signature.
type sealVerifier struct{ key []byte }

func (v sealVerifier) Name() string            { return "seal" }
func (v sealVerifier) Type() string            { return "seal" }
func (v sealVerifier) ArtifactTypes() []string { return []string{sealType} }

func (v sealVerifier) Verify(ctx context.Context, subject boltseal.Subject, c boltseal.Candidate) (boltseal.Evidence, error) {
	if len(c.Manifest.Layers) != 1 {
		return rejectedSeal(boltseal.CauseMalformed, "it has not one layer"), nil
	}
	seal, err := c.Blob(ctx, c.Manifest.Layers[0])
	if err != nil {
		return boltseal.Evidence{}, err // an outage: the question stays open
	}
	if !hmac.Equal(seal, sealOf(v.key, subject.Descriptor.Digest)) {
		return rejectedSeal(boltseal.CauseTampered, "it is not made with our key"), nil
	}
	return boltseal.Evidence{Outcome: boltseal.Verified, Signer: &boltseal.Signer{Subject: "CN=who has the key"}}, nil
}

func sealOf(key []byte, image digest.Digest) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(image))
	return mac.Sum(nil)
}

func rejectedSeal(cause boltseal.Cause, message string) boltseal.Evidence {
	return boltseal.Evidence{Reason: boltseal.Reason{Cause: cause, Message: message, Remedy: "seal the image again"}}
}

// pushSealed puts an image with a seal into the catalogue and returns its name.
func (c *catalogue) pushSealed(name string, key []byte) string {
	config := c.put(ocispec.MediaTypeEmptyJSON, []byte("{}"))
	image := c.put(ocispec.MediaTypeImageManifest, fmt.Appendf(nil,
		`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[],"annotations":{"name":%q}}`,
		ocispec.MediaTypeImageManifest, config.MediaType, config.Digest, name))
	layer := c.put("application/octet-stream", sealOf(key, image.Digest))
	seal := c.put(ocispec.MediaTypeImageManifest, fmt.Appendf(nil,
		`{"schemaVersion":2,"mediaType":%q,"artifactType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},`+
			`"layers":[{"mediaType":%q,"digest":%q,"size":%d}],"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
		ocispec.MediaTypeImageManifest, sealType, config.MediaType, config.Digest,
		layer.MediaType, layer.Digest, layer.Size, image.MediaType, image.Digest, image.Size))
	seal.ArtifactType = sealType
	c.tags[name], c.referrers[image.Digest] = image, []ocispec.Descriptor{seal}
	return name
}

func newCatalogue() *catalogue {
	return &catalogue{map[string]ocispec.Descriptor{}, map[digest.Digest][]ocispec.Descriptor{}, map[digest.Digest][]byte{}}
}

// A Store of one's own: images that are not in a registry. It returns content that matches its
// digest, or an error that wraps a sentinel.
func ExampleStore() {
	store, key := newCatalogue(), []byte("a key for examples")
	image := store.pushSealed("images.example.com/app:v1", key)
	anySignature, err := policy.New(policy.Options{Default: policy.Any})
	must(err)
	engine, err := boltseal.New(boltseal.Options{
		Stores:    []boltseal.ScopedStore{{Name: "memory", Scopes: []string{"images.example.com"}, Store: store}},
		Verifiers: []boltseal.Verifier{sealVerifier{key}},
		Policy:    anySignature,
	})
	must(err)
	for _, name := range []string{image, "images.example.com/app:v2", "elsewhere.example.com/app:v1"} {
		result, err := engine.Verify(context.Background(), name)
		must(err)
		fmt.Printf("%s %q\n", result.Decision, result.Reason.Cause)
	}
	// Output:
	// trusted ""
	// not trusted "image-not-found"
	// not trusted "no-store"
}

// A Verifier of one's own: a signature that does not hold is evidence that says why, and no error;
// an error means that it could not be judged.
func ExampleVerifier() {
	store := newCatalogue()
	good := store.pushSealed("images.example.com/app:good", []byte("our key"))
	bad := store.pushSealed("images.example.com/other:bad", []byte("the key of somebody else"))
	anySignature, err := policy.New(policy.Options{Default: policy.Any})
	must(err)
	engine, err := boltseal.New(boltseal.Options{
		Stores:    []boltseal.ScopedStore{{Name: "memory", Store: store}},
		Verifiers: []boltseal.Verifier{sealVerifier{[]byte("our key")}},
		Policy:    anySignature,
	})
	must(err)
	for _, name := range []string{good, bad} {
		result, err := engine.Verify(context.Background(), name)
		must(err)
		fmt.Printf("%s: %s %q\n", result.Decision, result.Evidence[0].Outcome, result.Evidence[0].Reason.Cause)
	}
	// Output:
	// trusted: verified ""
	// not trusted: rejected "tampered"
}

// freshSignature demands a signature that is not older than a day.
type freshSignature struct{ now time.Time }

func (p freshSignature) Decide(f *boltseal.Findings) (boltseal.Decision, boltseal.Reason) {
	open := f.Failure.Cause.Undetermined()
	for ev := range f.AllEvidence {
		switch {
		case ev.Outcome == boltseal.Undetermined:
			open = true
		case ev.Outcome == boltseal.Verified && p.now.Sub(ev.SignedAt) <= 24*time.Hour:
			return boltseal.Allow, boltseal.Reason{Message: "signed at " + ev.SignedAt.Format(time.DateOnly)}
		}
	}
	if open { // what is not known yet may still be what is asked for
		return boltseal.Unknown, boltseal.Reason{Cause: boltseal.CauseIncomplete, Message: "not all signatures are known"}
	}
	return boltseal.Deny, boltseal.Reason{Cause: boltseal.CauseMissingSignature, Message: "no signature of the last day", Remedy: "build and sign it again"}
}

// A Policy of one's own: a pure function of what was found. It answers Unknown as long as evidence
// that is open could change the answer.
func ExamplePolicy() {
	day := time.Date(2030, 1, 2, 0, 0, 0, 0, time.UTC)
	found := func(ago time.Duration) *boltseal.Findings {
		return &boltseal.Findings{Evidence: []boltseal.Evidence{{Outcome: boltseal.Verified, SignedAt: day.Add(-ago)}}}
	}
	var p boltseal.Policy = freshSignature{now: day}
	for _, f := range []*boltseal.Findings{found(time.Hour), found(72 * time.Hour), {Evidence: []boltseal.Evidence{{Outcome: boltseal.Undetermined}}}} {
		decision, reason := p.Decide(f)
		fmt.Printf("%s: %s\n", decision, reason.Message)
	}
	// Output:
	// trusted: signed at 2030-01-01
	// not trusted: no signature of the last day
	// unknown: not all signatures are known
}
