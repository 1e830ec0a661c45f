package boltseal

import (
	"context"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Store reads images and what refers to them from one kind of place.
//
// Every method returns content that matches the digest it was asked for, or an
// error that wraps one of this package's sentinels, in a [*StoreError] where a
// remote party was involved. Implementations are safe for concurrent use.
type Store interface {
	// Resolve returns the descriptor of the image's manifest. ref.Digest wins
	// over ref.Tag; the descriptor's digest equals ref.Digest where that is set.
	Resolve(ctx context.Context, ref Reference) (ocispec.Descriptor, error)

	// Referrers lists the artifacts whose subject is the given digest in ref's
	// repository. artifactTypes are those the caller can use: a store may leave
	// others out, and need not. An image without referrers is an empty Listing. What
	// its descriptors say beside their digests is a hint. Of their annotations only
	// those that [IsHint] names are read; a store may leave them out.
	Referrers(ctx context.Context, ref Reference, subject digest.Digest, artifactTypes []string) (Listing, error)

	// Manifest returns the bytes of a manifest in ref's repository. d's digest
	// decides, and its media type is a hint. A size of 0 is one that is not known: at
	// most [MaxArtifactManifest] bytes are then read.
	Manifest(ctx context.Context, ref Reference, d ocispec.Descriptor) ([]byte, error)

	// Blob returns the bytes of a blob in ref's repository.
	Blob(ctx context.Context, ref Reference, d ocispec.Descriptor) ([]byte, error)
}

// Listing is an answer of [Store.Referrers].
type Listing struct {
	Referrers []ocispec.Descriptor
	// Others are a few artifacts of types that were not asked for, as far as the store
	// saw any: for messages. There may be more of them.
	Others []ocispec.Descriptor
	// Truncated says which bound cut the listing short, "" where none did.
	Truncated string
	// Incomplete is why the place did not give all of the listing, such as a
	// registry whose API fails while a tag lists some. What is listed counts; what
	// is not may be there. Nil where nothing says so.
	Incomplete error
}

// Verifier judges candidates of the artifact types it names.
type Verifier interface {
	// Name is the configured name, unique within an engine.
	Name() string
	// Type is the kind of verifier: "notation", "cosign".
	Type() string
	// ArtifactTypes are the media types it judges; "*" is every type.
	ArtifactTypes() []string
	// Verify judges one candidate. A signature that does not hold is Evidence
	// with Outcome Rejected and its Reason, and a nil error. An error means it
	// could not be judged (an outage: the error names host and operation, and
	// wraps a sentinel). The Evidence is to be read only where the error is nil.
	// Referrer, ArtifactType, Verifier and VerifierType are filled in by the engine.
	Verify(ctx context.Context, subject Subject, candidate Candidate) (Evidence, error)
}

// Promise is what a listing lets expect of a candidate that was not fetched yet. It
// is a hint, which anybody can copy: it decides the order in which candidates are
// judged and nothing else.
type Promise int

// Promises, the best last.
const (
	Unpromising Promise = iota // it names signers, and none that is trusted
	Unstated                   // it names no signer
	Promising                  // it names a signer that is trusted
)

// A Ranker is a Verifier that reads the hints of a listing.
type Ranker interface {
	// Promise says what the annotations of a listed artifact let expect of it.
	Promise(subject Subject, annotations map[string]string) Promise
}

const (
	// HintThumbprints is the annotation in which signers list the SHA-256 fingerprints
	// of their chain's certificates: a JSON array of hexadecimal strings
	// (notaryproject signature-specification.md, "Storage").
	HintThumbprints = "io.cncf.notary.x509chain.thumbprint#S256"
	// MaxHintBytes bounds the value of a hint; a longer one is left out of a listing.
	// It is room for the thumbprints of a chain of 15 certificates.
	MaxHintBytes = 1 << 10
)

// IsHint reports whether an annotation of a listed artifact is read by a [Ranker].
func IsHint(name string) bool { return name == HintThumbprints }

// Subject is the image that a candidate must speak of.
type Subject struct {
	// Reference is the image as it is named, and fetched by.
	Reference  Reference
	Descriptor ocispec.Descriptor
	// Identity is the image as trust policies know it. The zero value means
	// Reference.
	Identity Reference
}

// Known is the image as trust policies know it.
func (s Subject) Known() Reference {
	if s.Identity == (Reference{}) {
		return s.Reference
	}
	return s.Identity
}

// Candidate is an artifact that claims to say something about a subject. Its
// manifest's bytes match its descriptor, and its subject field names the
// subject's digest: the engine has checked both.
type Candidate struct {
	Descriptor ocispec.Descriptor
	Manifest   ArtifactManifest
	// Blob fetches one of the manifest's blobs, verified by digest and size.
	Blob func(ctx context.Context, d ocispec.Descriptor) ([]byte, error)
}

// Policy turns findings into a decision. It is a pure function: no clock, no
// network.
//
// Evidence whose Outcome is Undetermined is either out of reach or not looked
// at yet; the engine asks after every piece of evidence, and stops as soon as
// the answer is not Unknown. An implementation therefore answers Allow or Deny
// only where no outcome of the undetermined ones could change it.
type Policy interface {
	Decide(f *Findings) (Decision, Reason)
}
