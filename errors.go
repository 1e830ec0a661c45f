package boltseal

import (
	"errors"
	"strconv"
	"strings"
)

// Sentinels to branch on with [errors.Is]. Whatever wraps none of them is a
// fault of the program and counts as [CauseInternal].
var (
	// ErrInvalidReference: the text is not an image reference.
	ErrInvalidReference = errors.New("not an image reference")
	// ErrNotFound: the registry answered, and does not have what was asked for.
	ErrNotFound = errors.New("not found")
	// ErrUnauthorized: the registry answered, and does not let us read (401, 403).
	ErrUnauthorized = errors.New("not authorized")
	// ErrUnavailable: no usable answer came: connection, TLS, timeout, 429, 5xx.
	ErrUnavailable = errors.New("no answer")
	// ErrUnusable: an answer came that is neither what was asked for nor "it is not
	// there": a status that the protocol does not have here, a sign-in page, JSON that
	// cannot be read, bytes that are not those of the digest. It tells something of a
	// registry, a token server or a proxy, and nothing of the image, so
	// [errors.Is] takes it for [ErrUnavailable] as well.
	ErrUnusable error = unusable{}
	// ErrMalformed: a document whose bytes are those of its digest breaks its own
	// format.
	ErrMalformed = errors.New("malformed")
	// ErrLimit: an answer is larger, longer or deeper than a named limit allows.
	ErrLimit = errors.New("over a limit")
	// ErrRefused: following an answer would have broken a safety rule (a
	// redirect to an internal address, an auth realm elsewhere).
	ErrRefused = errors.New("refused")
	// ErrConfiguration: the configuration does not say what is needed.
	ErrConfiguration = errors.New("configuration")
)

type unusable struct{}

func (unusable) Error() string { return "no usable answer" }

func (unusable) Is(target error) bool { return target == ErrUnavailable }

// Advised is an error that knows what to do next better than its sentinel does.
type Advised struct {
	Err error
	// Remedy is one line, as in [Reason].
	Remedy string
}

// Error returns the text of Err.
func (a *Advised) Error() string { return a.Err.Error() }

// Unwrap returns Err.
func (a *Advised) Unwrap() error { return a.Err }

// StoreError is the context of a failed conversation with a store. It wraps
// one of this package's sentinels, which [errors.Is] finds through Err.
type StoreError struct {
	Op     string // what was attempted: "resolve", "list referrers", "fetch manifest", "fetch blob", "token"
	Host   string // registry host or layout directory that was asked
	Target string // repository with tag or digest
	Status int    // HTTP status, 0 where none was received
	Err    error
}

// Error returns one line with operation, target, host, status and cause.
func (e *StoreError) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Target != "" {
		b.WriteString(" " + e.Target)
	}
	if e.Host != "" {
		b.WriteString(" at " + e.Host)
	}
	if e.Status != 0 {
		b.WriteString(": HTTP " + strconv.Itoa(e.Status))
	}
	b.WriteString(": " + e.Err.Error())
	return b.String()
}

// Unwrap returns the cause.
func (e *StoreError) Unwrap() error { return e.Err }

// Cause is a stable, machine-readable code for why an image or a candidate is
// not trusted. The set is closed, so a cause can be a metric label.
type Cause string

// Causes about the image.
const (
	CauseNone             Cause = ""
	CauseNothingSigned    Cause = "nothing-signed"    // no candidate that any verifier handles
	CauseMissingSignature Cause = "missing-signature" // a type that the policy demands is absent
	CauseImageNotFound    Cause = "image-not-found"
	CauseUnauthorized     Cause = "unauthorized"
	CauseUnavailable      Cause = "unavailable"
	CauseUnusable         Cause = "unusable-answer" // of a registry, a token server or a proxy
	CauseInvalidReference Cause = "invalid-reference"
	CauseRefused          Cause = "refused"
	CauseNoStore          Cause = "no-store"    // no store's scope covers the image
	CauseNoVerifier       Cause = "no-verifier" // no verifier is configured
	CauseIncomplete       Cause = "incomplete"  // the work ended before the policy could decide
	CauseUnpinned         Cause = "unpinned"    // trusted, but a Pod names it by a tag where the digest is demanded
	CauseLocalImage       Cause = "local-image" // what a node runs has no digest in a registry
	CauseInternal         Cause = "internal"
)

// Causes about one candidate.
const (
	CauseMalformed          Cause = "malformed"
	CauseLimit              Cause = "limit"
	CauseUnsupported        Cause = "unsupported" // a format, algorithm or critical attribute nobody here processes
	CauseOtherImage         Cause = "other-image" // a signature, but of another image
	CauseTampered           Cause = "tampered"    // the cryptographic signature does not hold
	CauseNoTrustPolicy      Cause = "no-trust-policy"
	CauseUntrustedSigner    Cause = "untrusted-signer"  // the chain leads to no trusted root
	CauseIdentity           Cause = "identity"          // a trusted root, but not a trusted identity
	CauseBadCertificate     Cause = "bad-certificate"   // a chain that breaks the certificate rules
	CauseSignatureExpired   Cause = "signature-expired" // the signer's own expiry has passed
	CauseCertificateExpired Cause = "certificate-expired"
	CauseTimestamp          Cause = "timestamp"  // missing, bad or untrusted timestamp where one is needed
	CauseNotLogged          Cause = "not-logged" // no entry of a trusted transparency log where one is needed
	CauseRevoked            Cause = "revoked"
	CauseRevocation         Cause = "revocation" // answers came, and none of them can be relied on
	CauseConfiguration      Cause = "configuration"
)
