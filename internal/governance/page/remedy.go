package page

import (
	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/governance/compliance"
)

// remedyOf says what to do about a reason that a cluster reports; "" where its message
// says so itself, or the reason is not known here.
func remedyOf(reason string) string {
	switch boltseal.Cause(reason) {
	case boltseal.CauseNothingSigned, boltseal.CauseMissingSignature:
		return "Sign the image, and push the signature to the same repository."
	case boltseal.CauseUntrustedSigner:
		return "Sign it with a certificate of a trusted root, or add this signer's root to a trust store."
	case boltseal.CauseIdentity:
		return "Sign it as one of the trusted identities, or add this signer to the trust policy."
	case boltseal.CauseTampered, boltseal.CauseRevoked:
		return "Do not run this image before you know where it came from. If it is right, sign it again with a valid certificate."
	case boltseal.CauseSignatureExpired, boltseal.CauseCertificateExpired, boltseal.CauseBadCertificate, boltseal.CauseTimestamp:
		return "Sign the image again with a valid certificate and a timestamp, or use a newer image."
	case boltseal.CauseNotLogged:
		return "Sign the image again with an upload to a transparency log, or change the trust policy."
	case boltseal.CauseOtherImage, boltseal.CauseMalformed, boltseal.CauseUnsupported:
		return "Sign this image again."
	case boltseal.CauseNoTrustPolicy:
		return "Add the repository to the registryScopes of a trust policy."
	case boltseal.CauseImageNotFound:
		return "The registry no longer has the image: push it again, or run another one."
	case boltseal.CauseUnauthorized:
		return "Give the Store credentials that may pull from this registry."
	case boltseal.CauseUnavailable, boltseal.CauseUnusable, boltseal.CauseIncomplete, boltseal.CauseRevocation:
		return "See whether the registry and the CA's servers can be reached from the cluster. It is tried again by itself."
	case boltseal.CauseNoStore:
		return "Add a Store whose scopes cover this registry."
	case boltseal.CauseNoVerifier:
		return "Add a Verifier to the cluster: until then nothing can be trusted."
	case boltseal.CauseUnpinned:
		return "Name the image by its digest."
	case boltseal.CauseLocalImage:
		return "Push the image to a registry, and run it from there."
	case boltseal.CauseConfiguration:
		return "Correct the configuration of the cluster; the status of its resources says what is wrong."
	}
	switch reason {
	case compliance.ReasonPodsViolate:
		return "Open the namespaces of the cluster to see which images are not trusted."
	case compliance.ReasonBundlePending:
		return "Wait a minute. If it stays so, read the log of the cluster's agent."
	}
	return ""
}
