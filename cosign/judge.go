package cosign

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/cosign/internal/sct"
	"github.com/boltseal/boltseal/cosign/internal/sigkey"
	"github.com/boltseal/boltseal/cosign/internal/tlog"
	"github.com/boltseal/boltseal/trust"
)

// Names of checks, in the order in which they are made.
const (
	checkIntegrity    = "integrity"
	checkAuthenticity = "authenticity"
	checkLog          = "transparencyLog"
	checkTime         = "authenticTimestamp"
	checkIdentityName = "identity"
)

// work is the verification of one signature.
type work struct {
	ctx          context.Context
	p            *policy
	now          time.Time
	artifact     Artifact
	anyPredicate bool
	name         string // the image's, as trust policies know it
	m            *material
	ev           boltseal.Evidence

	key     *trustedKey  // that made the signature, nil where a certificate's did
	issuers []*authority // of the certificate
	times   []time.Time  // at which somebody trusted saw the signature
	logTime bool         // a log is among those who say them
	tsaTime bool         // a timestamp authority is
}

// fail records the check that ended the verification.
func (w *work) fail(name string, r boltseal.Reason) {
	w.ev.Checks = append(w.ev.Checks, boltseal.Check{Name: name, Outcome: boltseal.CheckFailed, Detail: r.Message})
	w.ev.Reason = r
}

// run reads a signature and makes the checks in order, up to the first that fails. It
// takes its turn: it uses a processor, and waits for nothing. An error says that the
// work was cut off. What it reads came from outside: a panic is an answer, not our end.
func (w *work) run(read func() boltseal.Reason) (ev boltseal.Evidence, err error) {
	done, err := boltseal.TakeTurn(w.ctx)
	if err != nil {
		return boltseal.Evidence{}, err
	}
	defer done()
	defer func() {
		if p := recover(); p != nil {
			w.ev.Outcome = boltseal.Rejected
			w.fail(checkIntegrity, malformedReason("the signature cannot be read"))
			ev, err = w.ev, nil
		}
	}()
	if !w.artifact.consistent() {
		return boltseal.Evidence{}, fmt.Errorf("%w: the artifact is not the one of the digest %s", boltseal.ErrConfiguration, w.artifact.Digest)
	}
	for _, step := range []struct {
		name string
		do   func() (boltseal.Reason, error)
	}{
		{checkIntegrity, func() (boltseal.Reason, error) { return read(), nil }},
		{checkAuthenticity, w.authenticity},
		{checkLog, w.logged},
		{checkTime, w.timed},
		{checkIdentityName, w.identity},
	} {
		bad, err := step.do()
		if err != nil {
			return boltseal.Evidence{}, err
		}
		if bad.Cause != boltseal.CauseNone {
			w.fail(step.name, bad)
			return w.ev, nil
		}
		w.ev.Checks = append(w.ev.Checks, boltseal.Check{Name: step.name, Outcome: boltseal.CheckPassed})
	}
	w.ev.Outcome = boltseal.Verified
	return w.ev, nil
}

// verifyBy checks the signature with one key.
func (w *work) verifyBy(key crypto.PublicKey, a sigkey.Algorithm) error {
	if err := spendCheck(w.ctx); err != nil {
		return err
	}
	if w.m.artifact == nil {
		return sigkey.Verify(key, a, w.m.message, w.m.signature)
	}
	if _, is := key.(ed25519.PublicKey); is {
		a.Hash = crypto.SHA512
	}
	digest, known := w.m.artifact.sum(a.Hash)
	if !known {
		return fmt.Errorf("%w: the key signs by %v, and of the artifact %s is known", errors.ErrUnsupported, a.Hash, w.m.artifact.Digest)
	}
	return sigkey.VerifyDigest(key, a, digest, w.m.signature)
}

// authenticity finds who made the signature: one of the trusted keys, or the key of a
// certificate that the root's authority has issued. A key decides alone, whatever
// certificate is beside it; a rule about certificates never accepts a key.
func (w *work) authenticity() (boltseal.Reason, error) {
	keys := w.p.keys
	if w.m.bundled && w.m.certificate != nil {
		keys = nil // a bundle says which of the two has signed, and a layer does not
	}
	for _, k := range keys {
		err := w.verifyBy(k.Public, k.algorithm)
		if cutOff(err) {
			return boltseal.Reason{}, err
		}
		if err == nil {
			w.key, w.m.certificate = k, nil
			w.ev.Signer, w.ev.Scheme = k.signer, "key"
			return boltseal.Reason{}, nil
		}
	}
	untrusted := boltseal.Reason{Cause: boltseal.CauseUntrustedSigner, Remedy: "sign with a trusted key, or add this signer's key to the trust policy"}
	if w.m.certificate == nil {
		untrusted.Message = "signed with a key, and the trust policy trusts certificates only"
		if n := len(w.p.keys); n > 0 {
			untrusted.Message = "the signature was not made by any of the trusted keys (" + firstKeys(w.p.keys) + "), or it is of something else"
		}
		return untrusted, nil
	}
	if len(w.p.Identities) == 0 {
		untrusted.Message = "signed with a certificate, and by none of the trusted keys (" + firstKeys(w.p.keys) + "): the trust policy trusts no certificates"
		return untrusted, nil
	}
	return w.certified()
}

func firstKeys(keys []*trustedKey) string {
	const most = 4
	var names []string
	for i, k := range keys {
		if i == most {
			names = append(names, fmt.Sprintf("%d more", len(keys)-most))
			break
		}
		names = append(names, k.Name)
	}
	return strings.Join(names, ", ")
}

// certified checks the certificate up to the root, and the signature with its key.
func (w *work) certified() (boltseal.Reason, error) {
	c := w.m.certificate
	bad := func(err error) (boltseal.Reason, error) {
		return boltseal.Reason{Cause: boltseal.CauseBadCertificate, Message: "the signer's certificate " + err.Error(), Remedy: "sign again with a certificate as Fulcio issues them"}, nil
	}
	algorithm, err := sigkey.Default(c.PublicKey)
	if err != nil {
		return bad(fmt.Errorf("has %w", err))
	}
	if err := checkSigner(c); err != nil {
		return bad(err)
	}
	if w.issuers, err = w.p.Root.issuers(w.ctx, c); cutOff(err) {
		return boltseal.Reason{}, err
	} else if err != nil {
		return boltseal.Reason{Cause: boltseal.CauseUntrustedSigner, Message: fmt.Sprintf("the signer's certificate, issued by %s, %v", quotedText(c.Issuer.String()), err),
			Remedy: "see which instance of Sigstore has signed, and give the trust policy its trusted root"}, nil
	}
	id, err := readCertified(c)
	if err != nil {
		return bad(fmt.Errorf("is unclear about whom it was issued to: %w", err))
	}
	chain := w.issuers[0].chain
	w.ev.Scheme = "certificate"
	w.ev.Signer = &boltseal.Signer{Subject: id.subject, Issuer: id.issuer, Serial: hex.EncodeToString(c.SerialNumber.Bytes()), Fingerprint: trust.Fingerprint(c),
		NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC()}
	for _, ca := range chain {
		w.ev.Signer.Chain = append(w.ev.Signer.Chain, ca.Subject.String())
	}
	if !w.p.IgnoreSCT {
		err := sct.Verify(c, chain[0], w.p.Root.ctLogs, func() error { return spendCheck(w.ctx) })
		if cutOff(err) {
			return boltseal.Reason{}, err
		} else if err != nil {
			return boltseal.Reason{Cause: boltseal.CauseBadCertificate, Message: "nothing proves that the signer's certificate is public: " + err.Error(),
				Remedy: "sign with a certificate that a trusted certificate transparency log has seen, or set ctLogVerify: false for a certificate authority without one"}, nil
		}
	}
	err = w.verifyBy(c.PublicKey, algorithm)
	switch {
	case cutOff(err):
		return boltseal.Reason{}, err
	case errors.Is(err, errors.ErrUnsupported):
		return boltseal.Reason{Cause: boltseal.CauseUnsupported, Message: err.Error(), Remedy: "sign with a key on P-256"}, nil
	case err != nil:
		return boltseal.Reason{Cause: boltseal.CauseTampered, Message: "the signature is not valid: it was changed, or what it signs was",
			Remedy: "do not run this image before its origin is clear; sign it again if it is right"}, nil
	}
	return boltseal.Reason{}, nil
}

// signed is what an entry of a log must be about.
func (w *work) signed() tlog.Signed {
	s := tlog.Signed{Signature: w.m.signature, Digest: w.m.digest, Payload: w.m.payload}
	if w.key != nil {
		s.Key, s.Algorithm = w.key.Public, w.key.algorithm
		return s
	}
	s.Certificate, s.Key = w.m.certificate.Raw, w.m.certificate.PublicKey
	s.Algorithm, _ = sigkey.Default(s.Key) // it was checked above
	return s
}

func notLogged(format string, a ...any) boltseal.Reason {
	return boltseal.Reason{Cause: boltseal.CauseNotLogged, Message: fmt.Sprintf(format, a...),
		Remedy: "sign the image again with an upload to a transparency log that is trusted, or set tLogVerify: false for a key whose signatures are not logged"}
}

// logged checks the entries of transparency logs. Entries of logs that nobody here knows
// say nothing; each of one that is trusted must be right, and one must be there.
func (w *work) logged() (boltseal.Reason, error) {
	if w.p.IgnoreLog {
		return boltseal.Reason{}, nil
	}
	found := 0
	for _, e := range w.m.entries {
		log := w.p.Root.logs[string(e.LogID)]
		if log == nil {
			continue
		}
		v2 := tlog.IsV2(e.Kind, e.Version)
		if err := tlog.CheckBody(e.Kind, e.Version, e.Body, w.signed()); err != nil {
			return notLogged("the entry of %s does not speak for this signature: %v", log.name, err), nil
		}
		if e.Promise == nil && e.Proof == nil || v2 && e.Proof == nil {
			return notLogged("nothing proves that %s has the entry", log.name), nil
		}
		if v2 && e.Index != e.Proof.Index {
			return notLogged("the entry of %s has the index %d, and its proof is about the index %d", log.name, e.Index, e.Proof.Index), nil
		}
		if e.Promise != nil && !v2 {
			if !log.contains(e.Integrated) {
				return notLogged("the trusted root does not trust %s at %s, when the entry was made", log.name, e.Integrated.Format(time.RFC3339)), nil
			}
			if err := spendCheck(w.ctx); err != nil {
				return boltseal.Reason{}, err
			}
			if err := tlog.VerifyPromise(log.key, e.Promise, e.Body, e.LogID, e.Index, e.Integrated.Unix()); err != nil {
				return notLogged("the entry of %s: %v", log.name, err), nil
			}
			w.times, w.logTime = append(w.times, e.Integrated), true
		}
		if e.Proof != nil {
			if err := spendCheck(w.ctx); err != nil {
				return boltseal.Reason{}, err
			}
			if err := tlog.VerifyProof(tlog.Log{Key: log.key, Host: log.host}, v2, e.Proof, e.Body); err != nil {
				return notLogged("the entry of %s: %v", log.name, err), nil
			}
		}
		found++
	}
	switch {
	case found > 0:
		return boltseal.Reason{}, nil
	case len(w.m.entries) > 0:
		return notLogged("the signature is logged, but not in a transparency log of the trusted root"), nil
	}
	return notLogged("the signature has no entry of a transparency log, and the trust policy requires one"), nil
}
