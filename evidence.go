package boltseal

import (
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Evidence is what one verifier found about one candidate.
type Evidence struct {
	Referrer     digest.Digest `json:"referrer"`     // digest of the candidate's manifest
	ArtifactType string        `json:"artifactType"` // media type that chose the verifier
	Verifier     string        `json:"verifier"`     // the verifier's configured name
	VerifierType string        `json:"verifierType"` // "notation", …

	Outcome Outcome `json:"outcome"`
	Reason  Reason  `json:"reason,omitzero"` // why it is not Verified; zero where it is

	// Kind is what the candidate is, where its artifact type does not say it: a
	// "signature", or an attestation's predicate type.
	Kind string `json:"kind,omitempty"`

	Format      string    `json:"format,omitempty"` // envelope media type
	Scheme      string    `json:"scheme,omitempty"` // signing scheme, "notary.x509", …
	Signer      *Signer   `json:"signer,omitempty"` // nil where no certificate could be read
	SignedAt    time.Time `json:"signedAt,omitzero"`
	TimestampAt time.Time `json:"timestampAt,omitzero"` // time that a trusted authority vouches for
	Expiry      time.Time `json:"expiry,omitzero"`      // set by the signer; zero = none
	TrustPolicy string    `json:"trustPolicy,omitempty"`
	Level       string    `json:"level,omitempty"` // verification level in force
	Checks      []Check   `json:"checks,omitempty"`

	// ValidUntil is when this evidence must be gathered anew at the latest: the
	// earliest of certificate expiry, signature expiry and revocation answer's
	// next update. Zero = nothing in it expires.
	ValidUntil time.Time `json:"validUntil,omitzero"`
}

// Signer describes the leaf certificate of a signature, or the key that made it.
type Signer struct {
	Subject     string    `json:"subject"`     // RFC 4514; of Sigstore's certificates whom they were issued to; of a key "key NAME"
	Issuer      string    `json:"issuer"`      // RFC 4514; of Sigstore's certificates who vouches for the subject; "" of a key
	Serial      string    `json:"serial"`      // hexadecimal
	Fingerprint string    `json:"fingerprint"` // "sha256:" and the hex digest of the DER bytes
	NotBefore   time.Time `json:"notBefore"`
	NotAfter    time.Time `json:"notAfter"`
	Chain       []string  `json:"chain,omitempty"` // subjects above the leaf, root last
}

// Check is one step of a verification and how it ended.
type Check struct {
	Name    string       `json:"name"` // "integrity", "authenticity", "identity", "expiry", "authenticTimestamp", "revocation"
	Outcome CheckOutcome `json:"outcome"`
	Detail  string       `json:"detail,omitempty"`
}

// Reason says what was found and what to do about it.
type Reason struct {
	Cause   Cause  `json:"cause"`
	Message string `json:"message"`          // what was found, one line
	Remedy  string `json:"remedy,omitempty"` // what to do next, one line
}

// PassedOver is a referrer nobody judged, and why.
type PassedOver struct {
	Referrer     digest.Digest `json:"referrer"`
	ArtifactType string        `json:"artifactType"`
	Why          string        `json:"why"`
}

// Findings is everything gathered about one image: the input of a [Policy].
type Findings struct {
	Image     string    `json:"image"` // as it was asked for
	Reference Reference `json:"reference"`
	// Identity is the name by which verifiers know the image, where a store says
	// that it is another one than its own: see [Identity].
	Identity   string             `json:"identity,omitempty"`
	Subject    ocispec.Descriptor `json:"subject"` // the image's manifest; zero where it could not be resolved
	Store      string             `json:"store,omitempty"`
	Evidence   []Evidence         `json:"evidence,omitempty"`
	PassedOver []PassedOver       `json:"passedOver,omitempty"`
	// Truncated says which bound cut the listing short, "" where it is whole.
	Truncated string `json:"truncated,omitempty"`
	// Incomplete is why the registry did not give all of the listing, zero where
	// nothing says so.
	Incomplete Reason `json:"incomplete,omitzero"`
	// Index is what was looked at of an image of several platforms, where the policy
	// asks for more than the digest that the image names; Evidence is then empty.
	Index *IndexFindings `json:"index,omitempty"`
	// Clues are for messages only.
	Clues Clues `json:"clues,omitzero"`
	// Failure is set where the image could not be resolved or its referrers
	// could not be listed; Evidence is then empty.
	Failure     Reason    `json:"failure,omitzero"`
	CollectedAt time.Time `json:"collectedAt"`
}

// ValidUntil is the earliest ValidUntil of all evidence, zero where nothing expires.
func (f *Findings) ValidUntil() time.Time {
	var t time.Time
	for ev := range f.AllEvidence {
		if u := ev.ValidUntil; !u.IsZero() && (t.IsZero() || u.Before(t)) {
			t = u
		}
	}
	return t
}

// Result is a decision with what led to it.
type Result struct {
	Decision Decision `json:"decision"`
	// Reason is why the decision is not Allow; where it is, Message names the signer.
	Reason Reason `json:"reason"`
	Findings
}
