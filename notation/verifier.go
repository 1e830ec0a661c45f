// Package notation verifies Notary Project signatures: envelope, trust policy, chain, time and revocation.
package notation

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/notation/internal/dn"
	"github.com/boltseal/boltseal/notation/internal/envelope"
	"github.com/boltseal/boltseal/trust"
)

// ArtifactType is the artifact type of Notary Project signatures
// (signature-specification.md, "Storage").
const ArtifactType = "application/vnd.cncf.notary.signature"

// VerifierType is what [Verifier.Type] returns.
const VerifierType = "notation"

// Options make a Verifier.
type Options struct {
	// Name is the configured name. Required.
	Name string
	// ArtifactTypes are judged. Nil means ArtifactType.
	ArtifactTypes []string
	// TrustPolicy says whom to trust for what. Required.
	TrustPolicy *TrustPolicy
	// TrustStores are those that the trust policy names. One that it names and
	// that is missing here is an error.
	TrustStores []*trust.Store
	// Revocation answers whether certificates are revoked. Nil means a new one
	// with its defaults.
	Revocation *Revocation
	// Chains remembers certificates. Nil means a new one.
	Chains *ChainCache
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
}

// Verifier is a [boltseal.Verifier] for Notary Project signatures. It is
// immutable and safe for concurrent use.
type Verifier struct {
	name       string
	types      []string
	policy     *TrustPolicy
	stores     map[string]*trust.Store // by "type:name"
	revocation *Revocation
	chains     *ChainCache
	clock      func() time.Time
	parser     envelope.Parser
}

var _ boltseal.Verifier = (*Verifier)(nil)

// New checks the options. Errors wrap [boltseal.ErrConfiguration].
func New(o Options) (*Verifier, error) {
	switch {
	case o.Name == "":
		return nil, fmt.Errorf("%w: a verifier without a name", boltseal.ErrConfiguration)
	case o.TrustPolicy == nil:
		return nil, fmt.Errorf("%w: verifier %q has no trust policy", boltseal.ErrConfiguration, o.Name)
	}
	v := &Verifier{name: o.Name, types: o.ArtifactTypes, policy: o.TrustPolicy, revocation: o.Revocation, chains: o.Chains,
		clock: o.Clock, stores: make(map[string]*trust.Store)}
	if len(v.types) == 0 {
		v.types = []string{ArtifactType}
	}
	if v.clock == nil {
		v.clock = time.Now
	}
	if v.chains == nil {
		v.chains = NewChainCache(0)
	}
	if v.revocation == nil {
		v.revocation = NewRevocation(RevocationOptions{Clock: v.clock})
	}
	v.parser.Certificate = v.chains.parse
	var have []string
	for _, s := range o.TrustStores {
		if v.stores[s.String()] != nil {
			return nil, fmt.Errorf("%w: two trust stores are named %s", boltseal.ErrConfiguration, s)
		}
		v.stores[s.String()] = s
		have = append(have, s.String())
	}
	for _, name := range o.TrustPolicy.TrustStores() {
		if v.stores[name] == nil {
			return nil, fmt.Errorf("%w: the trust policy names the trust store %s, which is not there%s", boltseal.ErrConfiguration, name, nearest.Hint(name, have))
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

// Verify implements [boltseal.Verifier] by the steps of
// trust-store-trust-policy.md, "Signature Verification Details". An error means
// that a blob or a revocation answer that is needed could not be had.
func (v *Verifier) Verify(ctx context.Context, subject boltseal.Subject, c boltseal.Candidate) (boltseal.Evidence, error) {
	s := v.policy.match(subject.Known())
	if s == nil {
		return boltseal.Evidence{Reason: v.uncovered(subject.Known())}, nil
	}
	ev := boltseal.Evidence{TrustPolicy: s.name, Level: s.level}
	layer, err := checkManifest(c.Manifest)
	if sub := c.Manifest.Subject; err == nil && (sub == nil || sub.Digest != subject.Descriptor.Digest) {
		ev.Reason = boltseal.Reason{Cause: boltseal.CauseOtherImage, Message: "the signature's manifest does not name this image as its subject", Remedy: remedySignAgain}
		return ev, nil
	}
	if err != nil {
		ev.Reason = boltseal.Reason{Cause: boltseal.CauseMalformed, Message: "the signature's manifest " + err.Error(), Remedy: remedySignAgain}
		return ev, nil
	}
	if s.level == levelSkip {
		ev.Outcome = boltseal.Verified
		for _, name := range checkOrder {
			ev.Checks = append(ev.Checks, boltseal.Check{Name: name, Outcome: boltseal.CheckSkipped})
		}
		return ev, nil
	}
	b, err := c.Blob(ctx, layer)
	if errors.Is(err, boltseal.ErrNotFound) {
		err = fmt.Errorf("%w: the signature's envelope is not in the registry", boltseal.ErrMalformed)
	}
	if err != nil {
		return boltseal.Evidence{}, err
	}
	w := &work{v: v, ctx: ctx, s: s, ev: ev, now: v.clock(), subject: subject.Descriptor}
	w.ev.Checks = make([]boltseal.Check, 0, 6)
	if err := w.run(layer.MediaType, b); err != nil {
		return boltseal.Evidence{}, err
	}
	return w.ev, nil
}

// uncovered is why an image is rejected that no trust policy is about.
func (v *Verifier) uncovered(ref boltseal.Reference) boltseal.Reason {
	r := boltseal.Reason{Cause: boltseal.CauseNoTrustPolicy, Message: fmt.Sprintf("no trust policy of %s covers %s", v.name, ref.Name()),
		Remedy: "add the repository to the registryScopes of a trust policy"}
	if above := v.policy.above(ref); above != "" {
		r.Message += fmt.Sprintf(": the scope %s is that one repository, and does not cover what is below it", above)
		r.Remedy = "add " + ref.Name() + " to the registryScopes: a scope is the name of a whole repository, and each repository is listed, or it is *"
	}
	return r
}

const remedySignAgain = "sign the image again with a current tool"

// checkManifest returns the layer with the envelope (signature-specification.md,
// "Storage": one layer, of an envelope's type, and the artifact type in one of
// its two places).
func checkManifest(m boltseal.ArtifactManifest) (ocispec.Descriptor, error) {
	if m.Config != nil && m.Config.MediaType != ArtifactType && m.Config.MediaType != ocispec.MediaTypeEmptyJSON {
		return ocispec.Descriptor{}, fmt.Errorf("has a config of type %.100q", m.Config.MediaType)
	}
	if m.ArtifactType != ArtifactType {
		return ocispec.Descriptor{}, fmt.Errorf("is of type %.100q, not %s", m.ArtifactType, ArtifactType)
	}
	if len(m.Layers) != 1 {
		return ocispec.Descriptor{}, fmt.Errorf("has %d layers; a signature has one", len(m.Layers))
	}
	if t := m.Layers[0].MediaType; t != envelope.MediaTypeJWS && t != envelope.MediaTypeCOSE {
		return ocispec.Descriptor{}, fmt.Errorf("has a layer of type %.100q, which is no signature envelope", t)
	}
	return m.Layers[0], nil
}

// work is one verification.
type work struct {
	v       *Verifier
	ctx     context.Context
	s       *statement
	now     time.Time
	subject ocispec.Descriptor
	env     *envelope.Envelope
	ev      boltseal.Evidence
}

// run makes the checks in order, and stops at the first that is enforced and
// does not hold. An error is an outage.
func (w *work) run(mediaType string, b []byte) error {
	anchor, goOn, err := w.signature(mediaType, b)
	if err != nil || !goOn {
		return err
	}
	if !w.check("identity", w.s.actions.authenticity, w.identity()) {
		return nil
	}
	if !w.check(checkExpiry, w.s.actions.expiry, w.expiry()) {
		return nil
	}
	bad, err := w.timestamp()
	if err != nil && w.s.actions.timestamp == enforce {
		return err
	} else if err != nil {
		bad = boltseal.ReasonOf(err)
	}
	if !w.check(checkTimestamp, w.s.actions.timestamp, bad) {
		return nil
	}
	if w.s.actions.revocation == skip || anchor.Cause != boltseal.CauseNone {
		// Whoever is not trusted does not get to name the servers we ask.
		w.ev.Checks = append(w.ev.Checks, boltseal.Check{Name: checkRevocation, Outcome: boltseal.CheckSkipped})
		w.ev.Outcome = boltseal.Verified
		return nil
	}
	bad, err = w.revoked(w.env.Chain, w.authenticTime(), false)
	if err != nil && w.s.actions.revocation == enforce {
		return err
	} else if err != nil {
		bad = boltseal.ReasonOf(err)
	}
	if w.check(checkRevocation, w.s.actions.revocation, bad) {
		w.ev.Outcome = boltseal.Verified
	}
	return nil
}

// signature makes the checks of integrity and authenticity, in its turn: it uses a
// processor, and waits for nothing. anchor is how authenticity ended.
func (w *work) signature(mediaType string, b []byte) (anchor boltseal.Reason, goOn bool, err error) {
	done, err := boltseal.TakeTurn(w.ctx)
	if err != nil {
		return anchor, false, err
	}
	defer done()
	w.ev.Format = mediaType
	if bad := w.read(mediaType, b); bad.Cause != boltseal.CauseNone {
		w.check(checkIntegrity, enforce, bad)
		return bad, false, nil
	}
	// Looking a certificate up costs a hash; a signature's check costs up to a
	// millisecond. Who is not trusted, and must be, gets no signature checked.
	at, anchor := w.authenticity()
	if anchor.Cause != boltseal.CauseNone && w.s.actions.authenticity == enforce {
		w.ev.Checks = append(w.ev.Checks, boltseal.Check{Name: checkIntegrity, Outcome: boltseal.CheckSkipped, Detail: "not checked: the signer is not trusted"})
		w.check(checkAuthenticity, enforce, anchor)
		return anchor, false, nil
	}
	bad, err := w.integrity(at)
	if err != nil {
		return anchor, false, err
	}
	if !w.check(checkIntegrity, enforce, bad) {
		return anchor, false, nil
	}
	if anchor.Cause == boltseal.CauseNone {
		w.v.chains.keep(w.env.Chain)
	}
	if !w.check(checkAuthenticity, w.s.actions.authenticity, anchor) {
		return anchor, false, nil
	}
	return anchor, true, nil
}

// check records how a check ended; the zero Reason means that it held. It
// returns whether to go on.
func (w *work) check(name string, act action, bad boltseal.Reason) bool {
	c := boltseal.Check{Name: name, Outcome: boltseal.CheckPassed, Detail: bad.Message}
	switch {
	case bad.Cause == boltseal.CauseNone:
	case act == enforce:
		c.Outcome = boltseal.CheckFailed
		w.ev.Reason = bad
	default:
		c.Outcome = boltseal.CheckLogged
	}
	w.ev.Checks = append(w.ev.Checks, c)
	return c.Outcome != boltseal.CheckFailed
}

// until notes a time at which this evidence stops being true.
func (w *work) until(t time.Time) {
	if !t.IsZero() && (w.ev.ValidUntil.IsZero() || t.Before(w.ev.ValidUntil)) {
		w.ev.ValidUntil = t.UTC()
	}
}

// read does all of the integrity check that needs no public key: the envelope's
// form, the image that it speaks of, and the rules for its certificates.
func (w *work) read(mediaType string, b []byte) boltseal.Reason {
	env, err := w.v.parser.Parse(mediaType, b)
	if err != nil {
		return envelopeReason(err)
	}
	w.env = env
	w.ev.Scheme, w.ev.SignedAt, w.ev.Expiry = env.Scheme, env.SigningTime.UTC(), env.Expiry
	w.ev.Signer = describeSigner(env.Chain)
	t := env.Target
	if t.Digest != w.subject.Digest {
		return boltseal.Reason{Cause: boltseal.CauseOtherImage, Message: fmt.Sprintf("the signature is of another image, %s", t.Digest),
			Remedy: "sign this image; a signature cannot be carried over from another one"}
	}
	if t.Size != w.subject.Size || t.MediaType != w.subject.MediaType {
		return boltseal.Reason{Cause: boltseal.CauseOtherImage,
			Message: fmt.Sprintf("the signature is of %d bytes of type %.100s, and the image is %d bytes of type %.100s", t.Size, t.MediaType, w.subject.Size, w.subject.MediaType),
			Remedy:  remedySignAgain}
	}
	if keys := env.Critical(); len(keys) > 0 {
		return notUnderstood(env, keys)
	}
	return chainReason(checkRules(env.Chain, x509.ExtKeyUsageCodeSigning))
}

// integrity checks the signatures of the chain, from the certificate at the index
// anchor on, and that of the envelope. An error means that the work was cut off.
func (w *work) integrity(anchor int) (boltseal.Reason, error) {
	if err := w.v.chains.checkSignatures(w.ctx, w.env.Chain, anchor); cutOff(err) {
		return boltseal.Reason{}, err
	} else if err != nil {
		return chainReason(err), nil
	}
	if err := spendCheck(w.ctx); err != nil {
		return boltseal.Reason{}, err
	}
	if err := w.env.VerifySignature(); err != nil {
		return envelopeReason(err), nil
	}
	return boltseal.Reason{}, nil
}

// cutOff tells work that was not done from a signature that is wrong.
func cutOff(err error) bool {
	return errors.Is(err, boltseal.ErrUnavailable) || errors.Is(err, boltseal.ErrLimit)
}

func chainReason(err error) boltseal.Reason {
	if err == nil {
		return boltseal.Reason{}
	}
	return boltseal.Reason{Cause: boltseal.CauseBadCertificate, Message: err.Error(), Remedy: "sign with a certificate that meets the Notary Project's requirements"}
}

// notUnderstood is why a signature is rejected that asks for more than is known here
// (signature-specification.md, "Extended Protected Headers for Notation Plugins").
func notUnderstood(env *envelope.Envelope, critical []string) boltseal.Reason {
	r := boltseal.Reason{Cause: boltseal.CauseUnsupported, Message: fmt.Sprintf("the signer requires that %.100q is understood, and it is not", critical[0]),
		Remedy: "sign without that attribute, with a certificate of your own"}
	if env.Plugin != "" {
		r.Message = fmt.Sprintf("the signature asks to be verified by the Notation plugin %.100q, and Boltseal runs no plugins", env.Plugin)
		r.Remedy = "sign with a key and a certificate of your own, without that plugin, and trust the CA of that certificate"
	}
	return r
}

func envelopeReason(err error) boltseal.Reason {
	r := boltseal.Reason{Cause: boltseal.CauseMalformed, Message: "the signature's envelope: " + err.Error(), Remedy: remedySignAgain}
	var ee *envelope.Error
	if errors.As(err, &ee) {
		r.Cause = ee.Cause
	}
	if r.Cause == boltseal.CauseTampered {
		r.Message = "the signature is not valid: it was changed, or what it signs was"
		r.Remedy = "do not run this image before its origin is clear; sign it again if it is right"
	}
	return r
}

// authenticity looks for a certificate of the chain in the trust stores that
// the scheme may use, and returns its index; the last one's where there is none.
func (w *work) authenticity() (anchor int, bad boltseal.Reason) {
	kind := trust.TypeCA
	if w.env.Scheme == envelope.SchemeSigningAuthority {
		kind = trust.TypeSigningAuthority
	}
	var asked, lacks []string
	for _, name := range w.s.stores {
		st := w.v.stores[name]
		if st.Type() != kind {
			continue
		}
		asked = append(asked, name)
		if st.Lacks() != "" {
			lacks = append(lacks, st.Lacks())
		}
		if i := slices.IndexFunc(w.env.Chain, st.Contains); i >= 0 {
			return i, boltseal.Reason{}
		}
	}
	r := boltseal.Reason{Cause: boltseal.CauseUntrustedSigner, Remedy: "sign with a certificate that leads to a trusted root, or add this signer's root to a trust store"}
	root := w.env.Chain[len(w.env.Chain)-1]
	r.Message = fmt.Sprintf("signed by %q, who is not trusted: its root %q is not in %s", dn.Text(w.env.Chain[0].Subject), dn.Text(root.Subject), joinNames(asked))
	if len(lacks) > 0 {
		// Whether the signer is to be trusted cannot be said, and so it is not.
		r.Cause, r.Remedy = boltseal.CauseConfiguration, "fix where the certificates come from; the provider's status says more"
		r.Message = fmt.Sprintf("signed by %q, whose root %q is not known here: %s", dn.Text(w.env.Chain[0].Subject), dn.Text(root.Subject), strings.Join(lacks, "; "))
	}
	if len(asked) == 0 {
		r.Message = fmt.Sprintf("signed by %q under the scheme %s, and the trust policy names no trust store of type %s", dn.Text(w.env.Chain[0].Subject), w.env.Scheme, kind)
	}
	return len(w.env.Chain) - 1, r
}

func (w *work) identity() boltseal.Reason {
	if err := w.s.trusts(w.env.Chain[0]); err != nil {
		return boltseal.Reason{Cause: boltseal.CauseIdentity, Message: err.Error(),
			Remedy: "sign as one of the trustedIdentities, or add " + ownIdentity(w.env.Chain[0]) + " to the trust policy"}
	}
	return boltseal.Reason{}
}

func (w *work) expiry() boltseal.Reason {
	if w.env.Expiry.IsZero() {
		return boltseal.Reason{}
	}
	if !w.now.Before(w.env.Expiry) {
		return boltseal.Reason{Cause: boltseal.CauseSignatureExpired,
			Message: fmt.Sprintf("the signature expired on %s", w.env.Expiry.UTC().Format(time.RFC3339)), Remedy: "sign the image again, or use a newer one"}
	}
	w.until(w.env.Expiry)
	return boltseal.Reason{}
}

func describeSigner(chain []*x509.Certificate) *boltseal.Signer {
	leaf := chain[0]
	s := &boltseal.Signer{Subject: dn.Text(leaf.Subject), Issuer: dn.Text(leaf.Issuer), Serial: leaf.SerialNumber.Text(16),
		Fingerprint: trust.Fingerprint(leaf), NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC()}
	for _, c := range chain[1:] {
		s.Chain = append(s.Chain, dn.Text(c.Subject))
	}
	return s
}
