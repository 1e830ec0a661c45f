package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/boltseal/boltseal"
)

// nearness orders causes by how near the candidate came to being trusted, so
// that a message speaks of the signature its reader most likely means.
var nearness = []boltseal.Cause{
	boltseal.CauseUndecided, boltseal.CauseInternal, boltseal.CauseMalformed, boltseal.CauseUnsupported, boltseal.CauseLimit, boltseal.CauseOtherImage,
	boltseal.CauseTampered, boltseal.CauseBadCertificate, boltseal.CauseNoTrustPolicy, boltseal.CauseConfiguration,
	boltseal.CauseUntrustedSigner, boltseal.CauseIdentity, boltseal.CauseTimestamp,
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

// incomplete reports whether the registry may have more than it listed.
func incomplete(f *boltseal.Findings) bool { return f.Incomplete != (boltseal.Reason{}) }

func nothingSigned(f *boltseal.Findings) boltseal.Reason {
	if f.Truncated != "" {
		return boltseal.Reason{Cause: boltseal.CauseLimit, Message: "no signature was found, and not all that refers to this image was looked at: " + f.Truncated, Remedy: remedyFewer}
	}
	r := boltseal.Reason{Cause: boltseal.CauseNothingSigned, Message: "nothing signed: no signature refers to this image",
		Remedy: "sign the image and push the signature to the same repository"}
	if types := otherTypes(f); types != "" {
		r.Message = "nothing signed: what refers to this image is no signature that a verifier here handles (" + types + ")"
		r.Remedy = "sign the image, or add a Verifier for that type"
	}
	return r
}

const remedyFewer = "remove what refers to this image and is no longer needed (such as oras manifest delete); no setting raises this limit"

// maxNamedTypes bounds how many artifact types a message names.
const maxNamedTypes = 3

func otherTypes(f *boltseal.Findings) string {
	var types []string
	for _, p := range f.PassedOver {
		if !slices.Contains(types, p.ArtifactType) && len(types) < maxNamedTypes {
			types = append(types, p.ArtifactType)
		}
	}
	return strings.Join(types, ", ")
}

// explain says why the group decides as it does.
func (g *group) explain(f *boltseal.Findings, d boltseal.Decision) boltseal.Reason {
	n := g.verified + g.rejected + g.open
	switch {
	case d == boltseal.Unknown && g.open == 0:
		r := f.Incomplete
		if g.rejected > 0 {
			r.Message = fmt.Sprintf("%d of %d signatures that could be read are not trusted, and there may be others: %s", g.rejected, n, r.Message)
		}
		return r
	case n == 0 && f.Truncated != "":
		return nothingSigned(f)
	case n == 0:
		return boltseal.Reason{Cause: boltseal.CauseMissingSignature,
			Message: fmt.Sprintf("no artifact of type %s refers to this image, and the Policy demands one", g.artifactType),
			Remedy:  "attach one, or take the type out of the Policy"}
	case d == boltseal.Allow:
		return boltseal.Reason{Message: signedBy(g.nearest(f, boltseal.Verified))}
	case d == boltseal.Unknown:
		r := g.nearest(f, boltseal.Undetermined).Reason
		if n > 1 {
			r.Message = fmt.Sprintf("%d of %d signatures could not be judged: %s", g.open, n, r.Message)
		}
		return r
	case g.rejected == 0:
		return boltseal.Reason{Cause: boltseal.CauseLimit,
			Message: "the Policy demands that all signatures hold, and not all could be looked at: " + f.Truncated,
			Remedy:  remedyFewer}
	}
	r := g.nearest(f, boltseal.Rejected).Reason
	switch {
	case g.rule == All:
		r.Message = fmt.Sprintf("the Policy demands that all signatures hold, and %d of %d do not: %s", g.rejected, n, r.Message)
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
