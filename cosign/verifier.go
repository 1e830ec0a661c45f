// Package cosign verifies Sigstore's signatures: simple signing payloads and bundles, by keys or by certificates, logs and timestamps.
package cosign

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/cosign/internal/bundle"
	"github.com/boltseal/boltseal/cosign/internal/payload"
)

// Media types of artifacts and of their layers.
const (
	// ArtifactType is that of cosign's signatures with a subject (OCI 1.1); it stands for
	// signatures under a ".sig" tag as well, which have none of their own.
	ArtifactType = "application/vnd.dev.cosign.artifact.sig.v1+json"
	// BundleType is that of Sigstore bundles, version 0.3.
	BundleType = bundle.MediaType
	// LayerType is that of a layer with a simple signing payload.
	LayerType = "application/vnd.dev.cosign.simplesigning.v1+json"
)

// ArtifactTypes are all that a Verifier judges: signatures with a subject, and bundles
// of all versions.
func ArtifactTypes() []string { return append([]string{ArtifactType}, bundle.MediaTypes()...) }

// Limits on what is fetched.
const (
	MaxBundleBytes  = bundle.MaxBytes
	MaxPayloadBytes = payload.MaxSimpleSigning
	// MaxSignatures bounds the layers of one manifest, of which each is a signature.
	MaxSignatures = 50
)

// VerifierType is what [Verifier.Type] returns.
const VerifierType = "cosign"

// KindSignature is the [boltseal.Evidence.Kind] of image signatures. That of an
// attestation is its predicate type.
const KindSignature = "signature"

// Options make a Verifier.
type Options struct {
	// Name is the configured name. Required.
	Name string
	// ArtifactTypes are judged. Nil means those of [ArtifactTypes].
	ArtifactTypes []string
	// TrustPolicies say whom to trust for what. Required.
	TrustPolicies []TrustPolicy
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
}

// Verifier is a [boltseal.Verifier] for Sigstore's signatures. It asks nobody anything:
// trusted roots come with its options. It is immutable and safe for concurrent use.
type Verifier struct {
	name   string
	types  []string
	scopes scopes
	clock  func() time.Time
}

var _ boltseal.Verifier = (*Verifier)(nil)

// New checks the options. Errors wrap [boltseal.ErrConfiguration].
func New(o Options) (*Verifier, error) {
	switch {
	case o.Name == "":
		return nil, fmt.Errorf("%w: a verifier without a name", boltseal.ErrConfiguration)
	case len(o.TrustPolicies) == 0:
		return nil, fmt.Errorf("%w: verifier %q has no trust policy", boltseal.ErrConfiguration, o.Name)
	case len(o.TrustPolicies) > MaxTrustPolicies:
		return nil, fmt.Errorf("%w: verifier %q has %d trust policies, at most %d", boltseal.ErrConfiguration, o.Name, len(o.TrustPolicies), MaxTrustPolicies)
	}
	v := &Verifier{name: o.Name, types: o.ArtifactTypes, clock: o.Clock, scopes: scopes{exact: make(map[string]*policy), prefixes: make(map[string]*policy)}}
	if len(v.types) == 0 {
		v.types = ArtifactTypes()
	}
	if v.clock == nil {
		v.clock = time.Now
	}
	var names []string
	for _, p := range o.TrustPolicies {
		if p.Name == "" || slices.Contains(names, p.Name) {
			return nil, fmt.Errorf("%w: verifier %q: each trust policy needs a name of its own (%q)", boltseal.ErrConfiguration, o.Name, p.Name)
		}
		names = append(names, p.Name)
		checked, err := checkPolicy(p)
		if err != nil {
			return nil, fmt.Errorf("%w: trust policy %q: %w", boltseal.ErrConfiguration, p.Name, err)
		}
		if err := v.scopes.add(checked); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// Name implements [boltseal.Verifier].
func (v *Verifier) Name() string { return v.name }

// Type implements [boltseal.Verifier].
func (v *Verifier) Type() string { return VerifierType }

// ArtifactTypes implements [boltseal.Verifier].
func (v *Verifier) ArtifactTypes() []string { return v.types }

// Verify implements [boltseal.Verifier]. Of a manifest with several signatures it is
// verified where one of them is, in any order; [Verifier.VerifyEach] tells of each.
func (v *Verifier) Verify(ctx context.Context, subject boltseal.Subject, c boltseal.Candidate) (boltseal.Evidence, error) {
	all, err := v.VerifyEach(ctx, subject, c)
	if err != nil {
		return boltseal.Evidence{}, err
	}
	best := all[0]
	for _, ev := range all[1:] {
		if betterEvidence(ev, best) {
			best = ev
		}
	}
	return best, nil
}

// betterEvidence reports whether one piece of evidence tells more than another: a signature that
// is verified, else the one that came furthest.
func betterEvidence(a, b boltseal.Evidence) bool {
	if (a.Outcome == boltseal.Verified) != (b.Outcome == boltseal.Verified) {
		return a.Outcome == boltseal.Verified
	}
	return b.Outcome != boltseal.Verified && len(a.Checks) > len(b.Checks)
}

// VerifyEach judges each signature of a candidate by itself: one that cannot be read does
// not hide another. There is at least one piece of evidence where the error is nil. An
// error means that content could not be had, or that the work was cut off, and none of
// the signatures that were judged is verified.
func (v *Verifier) VerifyEach(ctx context.Context, subject boltseal.Subject, c boltseal.Candidate) ([]boltseal.Evidence, error) {
	p := v.scopes.find(subject.Known())
	if p == nil {
		return []boltseal.Evidence{{Kind: KindSignature, Reason: v.uncovered(subject.Known())}}, nil
	}
	rejected := func(r boltseal.Reason) ([]boltseal.Evidence, error) {
		return []boltseal.Evidence{{Kind: KindSignature, TrustPolicy: p.Name, Reason: r}}, nil
	}
	if s := c.Manifest.Subject; s != nil && s.Digest != subject.Descriptor.Digest {
		return rejected(boltseal.Reason{Cause: boltseal.CauseOtherImage, Message: "the signature's manifest does not name this image as its subject", Remedy: remedySignAgain})
	}
	layers := c.Manifest.Layers
	switch {
	case len(layers) == 0:
		return rejected(malformedReason("the signature's manifest has no layer"))
	case len(layers) > MaxSignatures:
		return rejected(boltseal.Reason{Cause: boltseal.CauseLimit, Message: fmt.Sprintf("the signature's manifest has %d layers, at most %d", len(layers), MaxSignatures),
			Remedy: "sign the image again with its old signatures replaced (cosign clean removes them)"})
	case layers[0].MediaType != LayerType && len(layers) > 1:
		return rejected(malformedReason(fmt.Sprintf("the signature's manifest has %d layers; a bundle has one", len(layers))))
	}
	var out []boltseal.Evidence
	var outage error
	verified := false
	for _, l := range layers {
		ev, err := v.layer(ctx, p, subject, c, l)
		if err != nil {
			outage = err
			continue
		}
		verified = verified || ev.Outcome == boltseal.Verified
		out = append(out, ev)
	}
	if outage != nil && !verified {
		return nil, outage
	}
	return out, nil
}

// layer judges one layer. An error is an outage.
func (v *Verifier) layer(ctx context.Context, p *policy, subject boltseal.Subject, c boltseal.Candidate, l ocispec.Descriptor) (boltseal.Evidence, error) {
	w := &work{ctx: ctx, p: p, now: v.clock(), artifact: Artifact{Digest: subject.Descriptor.Digest}, name: subject.Known().Name()}
	w.ev = boltseal.Evidence{Kind: KindSignature, TrustPolicy: p.Name, Format: l.MediaType, Checks: make([]boltseal.Check, 0, 6)}
	most, read := int64(MaxBundleBytes), w.readBundle
	switch {
	case l.MediaType == LayerType:
		most, read = MaxPayloadBytes, func(b []byte) boltseal.Reason { return w.readLayer(l.Annotations, b) }
	case !slices.Contains(bundle.MediaTypes(), l.MediaType):
		w.fail(checkIntegrity, malformedReason(fmt.Sprintf("the signature's manifest has a layer of type %s, which is neither a payload nor a bundle", quotedText(l.MediaType))))
		return w.ev, nil
	}
	if l.Size > most {
		w.fail(checkIntegrity, boltseal.Reason{Cause: boltseal.CauseLimit, Message: fmt.Sprintf("the signature has %d bytes, at most %d", l.Size, most), Remedy: remedySignAgain})
		return w.ev, nil
	}
	b, err := c.Blob(ctx, l)
	if errors.Is(err, boltseal.ErrNotFound) {
		w.fail(checkIntegrity, malformedReason("the signature's content is not in the registry"))
		return w.ev, nil
	}
	if err != nil {
		return boltseal.Evidence{}, err
	}
	return w.run(func() boltseal.Reason { return read(b) })
}

// VerifyBundle judges a bundle about an artifact that is no image, by the trust policy
// whose scope is "*". An error means that the work was cut off.
func (v *Verifier) VerifyBundle(ctx context.Context, b []byte, about Artifact) (boltseal.Evidence, error) {
	p := v.scopes.prefixes[""]
	if p == nil {
		return boltseal.Evidence{}, fmt.Errorf("%w: verifier %q has no trust policy with the scope *", boltseal.ErrConfiguration, v.name)
	}
	w := &work{ctx: ctx, p: p, now: v.clock(), artifact: about, anyPredicate: about.AnyPredicate}
	w.ev = boltseal.Evidence{Kind: KindSignature, TrustPolicy: p.Name, VerifierType: VerifierType, Verifier: v.name, Format: BundleType}
	return w.run(func() boltseal.Reason { return w.readBundle(b) })
}

// uncovered is why an image is rejected that no trust policy is about.
func (v *Verifier) uncovered(ref boltseal.Reference) boltseal.Reason {
	return boltseal.Reason{Cause: boltseal.CauseNoTrustPolicy, Message: fmt.Sprintf("no trust policy of %s covers %s", v.name, ref.Name()),
		Remedy: "add the repository to the scopes of a trust policy"}
}

const remedySignAgain = "sign the image again with a current tool"

func malformedReason(message string) boltseal.Reason {
	return boltseal.Reason{Cause: boltseal.CauseMalformed, Message: message, Remedy: remedySignAgain}
}
