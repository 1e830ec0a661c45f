package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/boltseal/boltseal"
)

// nearness orders causes by how near the candidate came to being trusted, so
// that a message speaks of the signature its reader most likely means.
var nearness = []boltseal.Cause{
	boltseal.CauseIncomplete, boltseal.CauseInternal, boltseal.CauseMalformed, boltseal.CauseUnsupported, boltseal.CauseLimit, boltseal.CauseOtherImage,
	boltseal.CauseTampered, boltseal.CauseBadCertificate, boltseal.CauseNoTrustPolicy, boltseal.CauseConfiguration,
	boltseal.CauseUntrustedSigner, boltseal.CauseNotLogged, boltseal.CauseIdentity, boltseal.CauseTimestamp,
	boltseal.CauseCertificateExpired, boltseal.CauseSignatureExpired, boltseal.CauseRevocation, boltseal.CauseRevoked,
	boltseal.CauseUnauthorized, boltseal.CauseRefused, boltseal.CauseUnusable, boltseal.CauseUnavailable,
}

// nearest returns the group's evidence with the given outcome that came nearest
// to being trusted, nil where there is none.
func (g *group) nearest(f *boltseal.Findings, o boltseal.Outcome) *boltseal.Evidence {
	var best *boltseal.Evidence
	for i := range f.Evidence {
		ev := &f.Evidence[i]
		if ev.ArtifactType == g.artifactType && ev.Outcome == o && (best == nil ||
			slices.Index(nearness, ev.Reason.Cause) > slices.Index(nearness, best.Reason.Cause)) {
			best = ev
		}
	}
	return best
}

// isIncomplete reports whether the registry may have more than it listed.
func isIncomplete(f *boltseal.Findings) bool { return f.Incomplete != (boltseal.Reason{}) }

func nothingSigned(f *boltseal.Findings) boltseal.Reason {
	if f.Truncated != "" {
		return boltseal.Reason{Cause: boltseal.CauseLimit, Message: "no signature was found, and not all that refers to this image was checked: " + f.Truncated, Remedy: remedyFewer}
	}
	r := boltseal.Reason{Cause: boltseal.CauseNothingSigned, Message: "nothing signed: no signature refers to this image",
		Remedy: "sign the image and push the signature to the same repository"}
	types := otherTypes(f)
	switch {
	case len(f.Clues.SignedPlatforms) > 0:
		r.Message = "nothing signed: no signature refers to this index, while signatures refer to what is in it (" + firstFew(f.Clues.SignedPlatforms) + ")"
		r.Remedy = "sign the index (notation sign " + f.Reference.Name() + "@" + f.Subject.Digest.String() + "), or set the Policy's multiArch to platforms or either, which asks for the signatures of platforms"
	case slices.Contains(types, notationType):
		r.Message = "no signature was checked: a Notation signature refers to this image, and no Verifier's artifactTypes name its type, " + notationType
		r.Remedy = "add " + notationType + " to the artifactTypes of the Verifier that is to check it"
	case f.Clues.Cosign || slices.ContainsFunc(types, ofCosign):
		r.Message = "no signature was checked: this image is signed with cosign, and no Verifier here checks cosign's signatures"
		r.Remedy = "sign the image with Notation too, and push the signature to the same repository"
	case len(types) > 0:
		r.Message = "nothing signed: what refers to this image is not a signature that a Verifier here handles (" + strings.Join(types, ", ") + ")"
		r.Remedy = "sign the image, or add a Verifier for that type"
	}
	return r
}

// Types of signatures, for messages: signature-specification.md of the Notary Project,
// "Storage", and what cosign attaches.
const (
	notationType = "application/vnd.cncf.notary.signature"
	cosignType   = "application/vnd.dev.cosign."
	sigstoreType = "application/vnd.dev.sigstore.bundle."
)

func ofCosign(artifactType string) bool {
	return strings.HasPrefix(artifactType, cosignType) || strings.HasPrefix(artifactType, sigstoreType)
}

const remedyFewer = "remove what refers to this image and is no longer needed (such as oras manifest delete); no setting raises this limit"

// maxNamedTypes bounds how many artifact types a message names.
const maxNamedTypes = 3

// otherTypes are the first types of what nobody judged; those of signatures in any
// case.
func otherTypes(f *boltseal.Findings) (types []string) {
	for _, p := range f.PassedOver {
		if !slices.Contains(types, p.ArtifactType) && (len(types) < maxNamedTypes || p.ArtifactType == notationType || ofCosign(p.ArtifactType) && len(types) < 2*maxNamedTypes) {
			types = append(types, p.ArtifactType)
		}
	}
	return types
}

// signatures counts the artifacts of the group: one that several verifiers judge is
// one. Of these, it is rejected or open where the group's rule goes by that: under any,
// what one verifier holds for good is good; under all, what one rejects is rejected.
func (g *group) signatures(f *boltseal.Findings) (n, rejected, open int) {
	type state struct{ verified, rejected, open bool }
	by := map[digest.Digest]*state{}
	var all []*state
	for i := range f.Evidence {
		ev := &f.Evidence[i]
		if ev.ArtifactType != g.artifactType {
			continue
		}
		s := by[ev.Referrer]
		if s == nil || ev.Referrer == "" { // of what has no digest, each is another one
			s = &state{}
			all = append(all, s)
			by[ev.Referrer] = s
		}
		switch ev.Outcome {
		case boltseal.Verified:
			s.verified = true
		case boltseal.Undetermined:
			s.open = true
		default:
			s.rejected = true
		}
	}
	for _, s := range all {
		switch {
		case g.rule == All && s.rejected, !s.verified && !s.open:
			rejected++
		case s.open && (g.rule == All || !s.verified):
			open++
		}
	}
	return len(all), rejected, open
}

// explain says why the group decides as it does.
func (g *group) explain(f *boltseal.Findings, d boltseal.Decision) boltseal.Reason {
	n, rejected, open := g.signatures(f)
	switch {
	case d == boltseal.Unknown && g.open == 0:
		r := f.Incomplete
		if g.rejected > 0 {
			r.Message = fmt.Sprintf("%d of %d signatures that could be read are not trusted, and there may be others: %s", rejected, n, r.Message)
		}
		return r
	case n == 0 && f.Truncated != "":
		return nothingSigned(f)
	case n == 0:
		return boltseal.Reason{Cause: boltseal.CauseMissingSignature,
			Message: fmt.Sprintf("no artifact of type %s refers to this image, and the Policy requires one", g.artifactType),
			Remedy:  "attach one, or take the type out of the Policy"}
	case d == boltseal.Allow:
		return boltseal.Reason{Message: signedBy(g.nearest(f, boltseal.Verified))}
	case d == boltseal.Unknown:
		r := g.nearest(f, boltseal.Undetermined).Reason
		if n > 1 {
			r.Message = fmt.Sprintf("%d of %d signatures could not be checked: %s", open, n, r.Message)
		}
		return r
	case g.rejected == 0:
		return boltseal.Reason{Cause: boltseal.CauseLimit,
			Message: "the Policy requires that all signatures are valid, and not all could be checked: " + f.Truncated,
			Remedy:  remedyFewer}
	}
	r := g.nearest(f, boltseal.Rejected).Reason
	switch {
	case g.rule == All:
		r.Message = fmt.Sprintf("the Policy requires that all signatures are valid, and %d of %d do not: %s", rejected, n, r.Message)
	case n > 1:
		r.Message = fmt.Sprintf("%d signatures, none of them trusted; the nearest: %s", n, r.Message)
	}
	if f.Truncated != "" {
		r.Message += "; " + f.Truncated
	}
	return r
}

func signedBy(ev *boltseal.Evidence) string {
	if ev.Signer == nil {
		return "verified by " + ev.Verifier
	}
	return fmt.Sprintf("signed by %q", ev.Signer.Subject)
}
