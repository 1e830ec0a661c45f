package payload

import (
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/cosign/internal/wire"
)

// MaxSimpleSigning bounds a simple signing payload, in bytes.
const MaxSimpleSigning = 64 << 10

// simpleType is the type of payloads (cosign, specs/SIGNATURE_SPEC.md).
const simpleType = "cosign container image signature"

// Simple is a simple signing payload.
type Simple struct {
	Digest    digest.Digest     // of the image's manifest
	Reference string            // the image's name when it was signed
	Optional  map[string]string // those of its annotations whose values are strings
}

// ParseSimple reads a simple signing payload (containers/image,
// docs/containers-signature.5.md; cosign, specs/SIGNATURE_SPEC.md). Within critical,
// members that are not known are errors: what is critical must be understood. Errors
// wrap [boltseal.ErrMalformed] or [boltseal.ErrLimit].
func ParseSimple(b []byte) (*Simple, error) {
	var doc struct {
		Critical *struct {
			Identity *struct {
				DockerReference string `json:"docker-reference"`
			} `json:"identity"`
			Image *struct {
				Digest digest.Digest `json:"docker-manifest-digest"`
			} `json:"image"`
			Type string `json:"type"`
		} `json:"critical"`
		Optional wireAnnotations `json:"optional"`
	}
	if err := wire.Decode("the signed payload", b, MaxSimpleSigning, &doc); err != nil {
		return nil, err
	}
	switch c := doc.Critical; {
	case c == nil || c.Identity == nil || c.Image == nil:
		return nil, fmt.Errorf("%w: the signed payload has no critical identity and image", boltseal.ErrMalformed)
	case c.Type != simpleType:
		return nil, fmt.Errorf("%w: the signed payload is of type %.100q, not %q", boltseal.ErrMalformed, c.Type, simpleType)
	}
	if err := boltseal.ValidateDigest(doc.Critical.Image.Digest); err != nil {
		return nil, fmt.Errorf("the signed payload: %w", err)
	}
	return &Simple{Digest: doc.Critical.Image.Digest, Reference: doc.Critical.Identity.DockerReference, Optional: doc.Optional}, nil
}
