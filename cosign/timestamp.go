package cosign

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/notaryproject/tspclient-go"

	"github.com/boltseal/boltseal/cosign/internal/bundle"
	"github.com/boltseal/boltseal/cosign/internal/sigkey"
)

// errOtherAuthority is a timestamp of an authority that the root does not have.
var errOtherAuthority = errors.New("is not of a timestamp authority of the trusted root")

// timestamp verifies the answer of a timestamp authority (RFC 3161) about a signature,
// by the authorities of a root. An error that is cutOff's says nothing about it. What it
// reads came from outside, and its library's panics are answers, not our end.
func (r *TrustedRoot) timestamp(ctx context.Context, answer, signature []byte) (at time.Time, by *authority, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("cannot be read")
		}
	}()
	var resp tspclient.Response
	if err := resp.UnmarshalBinary(answer); err != nil {
		return at, nil, errors.New("cannot be read")
	}
	token, err := resp.SignedToken()
	if err != nil {
		return at, nil, errors.New("cannot be read, or refuses to state a time")
	}
	info, err := token.Info()
	if err != nil {
		return at, nil, errors.New("cannot be read")
	}
	stamp, err := info.Validate(signature)
	if err != nil {
		return at, nil, fmt.Errorf("is not of this signature (%.100v)", err)
	}
	if n := len(token.SignerInfos); n != 1 {
		return at, nil, fmt.Errorf("has %d signatures; a timestamp has one", n)
	}
	if n := len(token.Certificates); n > bundle.MaxCertificates {
		return at, nil, fmt.Errorf("carries %d certificates, at most %d", n, bundle.MaxCertificates)
	}
	why := errOtherAuthority
	embedded := token.Certificates
	for _, a := range r.tsas {
		token.Certificates = embedded
		err := a.stamped(ctx, token, stamp.Value)
		if err == nil {
			return stamp.Value.UTC(), a, nil
		}
		if cutOff(err) {
			return at, nil, err
		}
		if !errors.Is(err, errOtherAuthority) {
			why = err
		}
	}
	return at, nil, why
}

// stamped reports whether the authority's certificate has signed a token, at a time at
// which it and all above it were valid. The certificate is the one that the root names;
// where it names none, one of the token that the authority has issued.
func (a *authority) stamped(ctx context.Context, token *tspclient.SignedToken, at time.Time) error {
	if a.leaf != nil {
		token.Certificates = []*x509.Certificate{a.leaf}
	}
	signer, err := token.SigningCertificate(&token.SignerInfos[0])
	if err != nil || a.leaf == nil && !bytes.Equal(signer.RawIssuer, a.chain[0].RawSubject) {
		return errOtherAuthority
	}
	if a.leaf == nil {
		if err := spendCheck(ctx); err != nil {
			return err
		}
		if err := checkIssued(signer, a.chain[0]); err != nil {
			return errOtherAuthority
		}
		if err := checkConstraints(signer, a.chain, x509.ExtKeyUsageTimeStamping); err != nil {
			return fmt.Errorf("is by a certificate that %w", err)
		}
	}
	// Here and not when the root is read: an authority of bygone years whose certificate
	// breaks the rules makes no timestamp count, and must not spoil the root.
	if err := checkTimestamper(signer); err != nil {
		return fmt.Errorf("is by a certificate that %w", err)
	}
	if _, err := sigkey.Default(signer.PublicKey); err != nil {
		return fmt.Errorf("is by %w", err)
	}
	if err := a.validAt(at, signer); err != nil {
		return fmt.Errorf("does not count: %w", err)
	}
	// The chain was checked with the root; the library checks the signature and what it
	// says of its certificate.
	pool := x509.NewCertPool()
	pool.AddCert(signer)
	if err := spendCheck(ctx); err != nil {
		return err
	}
	if _, err := token.Verify(ctx, x509.VerifyOptions{CurrentTime: at, Roots: pool}); err != nil {
		return errors.New("was not made by the authority's key, or was changed")
	}
	return nil
}
