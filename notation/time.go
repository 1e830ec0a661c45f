package notation

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/notaryproject/tspclient-go"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/notation/internal/envelope"
	"github.com/boltseal/boltseal/trust"
)

func joinNames(names []string) string { return strings.Join(names, ", ") }

// authenticTime is the time that a signing authority vouches for, zero in the
// other scheme.
func (w *work) authenticTime() time.Time {
	if w.env.Scheme == envelope.SchemeSigningAuthority {
		return w.env.SigningTime
	}
	return time.Time{}
}

// timestamp checks that the chain was valid when it counts
// (trust-store-trust-policy.md, "Authentic Timestamp"). An error is an outage.
func (w *work) timestamp() (boltseal.Reason, error) {
	if w.env.Scheme == envelope.SchemeSigningAuthority {
		for _, c := range w.env.Chain {
			if at := w.env.SigningTime; at.Before(c.NotBefore) || at.After(c.NotAfter) {
				return boltseal.Reason{Cause: boltseal.CauseCertificateExpired,
					Message: fmt.Sprintf("the certificate %q was not valid when it signed, on %s", c.Subject, at.UTC().Format(time.RFC3339)),
					Remedy:  "sign the image again with a valid certificate"}, nil
			}
		}
		return boltseal.Reason{}, nil
	}
	roots := w.tsaRoots()
	if len(roots) == 0 || w.s.afterCertExpiry && !w.chainExpired() {
		return w.validNow(), nil
	}
	return w.token(roots)
}

func (w *work) tsaRoots() []*trust.Store {
	var stores []*trust.Store
	for _, name := range w.s.stores {
		if st := w.v.stores[name]; st.Type() == trust.TypeTSA {
			stores = append(stores, st)
		}
	}
	return stores
}

func (w *work) chainExpired() bool {
	for _, c := range w.env.Chain {
		if w.now.After(c.NotAfter) {
			return true
		}
	}
	return false
}

// validNow is the rule without a timestamp: every certificate is valid today.
func (w *work) validNow() boltseal.Reason {
	for _, c := range w.env.Chain {
		if w.now.Before(c.NotBefore) {
			w.until(c.NotBefore)
			return boltseal.Reason{Cause: boltseal.CauseCertificateExpired,
				Message: fmt.Sprintf("the certificate %q is not valid before %s", c.Subject, c.NotBefore.UTC().Format(time.RFC3339)),
				Remedy:  "see whether the clocks of the signer and of this machine are right"}
		}
		if w.now.After(c.NotAfter) {
			return boltseal.Reason{Cause: boltseal.CauseCertificateExpired,
				Message: fmt.Sprintf("the certificate %q expired on %s, and no trusted timestamp says that it signed before", c.Subject, c.NotAfter.UTC().Format(time.RFC3339)),
				Remedy:  "sign the image again with a valid certificate, and with a timestamp so that the signature outlives it"}
		}
	}
	for _, c := range w.env.Chain {
		w.until(c.NotAfter)
	}
	return boltseal.Reason{}
}

func badTimestamp(format string, a ...any) boltseal.Reason {
	return boltseal.Reason{Cause: boltseal.CauseTimestamp, Message: fmt.Sprintf(format, a...),
		Remedy: "sign the image again with a timestamp of a trusted authority"}
}

// token checks the signature's RFC 3161 timestamp.
func (w *work) token(stores []*trust.Store) (boltseal.Reason, error) {
	if len(w.env.Timestamp) == 0 {
		return badTimestamp("the trust policy requires a timestamp, and the signature has none"), nil
	}
	at, chain, err := w.readToken(stores)
	if cutOff(err) {
		return boltseal.Reason{}, err
	} else if err != nil {
		return badTimestamp("its timestamp: %v", err), nil
	}
	if err := w.v.chains.checkChain(w.ctx, chain, x509.ExtKeyUsageTimeStamping); cutOff(err) {
		return boltseal.Reason{}, err
	} else if err != nil {
		return badTimestamp("its timestamp's authority: %v", err), nil
	}
	for _, c := range w.env.Chain {
		if !at.BoundedAfter(c.NotBefore) || !at.BoundedBefore(c.NotAfter) {
			return boltseal.Reason{Cause: boltseal.CauseCertificateExpired,
				Message: fmt.Sprintf("the certificate %q was not valid when it signed, by its timestamp of %s", c.Subject, at.Format(time.RFC3339)),
				Remedy:  "sign the image again with a valid certificate"}, nil
		}
	}
	bad, err := w.revoked(chain, time.Time{}, true)
	if err == nil && bad.Cause == boltseal.CauseNone {
		w.ev.TimestampAt = at.Value.UTC()
		w.v.chains.keepLinks(chain)
	}
	return bad, err
}

// readToken verifies a token down to a trusted root. What it reads came from
// outside, and its libraries' panics are answers, not our end.
func (w *work) readToken(stores []*trust.Store) (at *tspclient.Timestamp, chain []*x509.Certificate, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it cannot be read")
		}
	}()
	done, err := boltseal.TakeTurn(w.ctx)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	token, err := tspclient.ParseSignedToken(w.env.Timestamp)
	if err != nil {
		return nil, nil, err
	}
	info, err := token.Info()
	if err != nil {
		return nil, nil, err
	}
	if at, err = info.Validate(w.env.Signature); err != nil {
		return nil, nil, err
	}
	if err := checkAffordable(token, stores); err != nil {
		return nil, nil, err
	}
	// The library looks for a chain among the certificates: about one check for each.
	for range len(token.Certificates) + 1 {
		if err := spendCheck(w.ctx); err != nil {
			return nil, nil, err
		}
	}
	pool := x509.NewCertPool()
	for _, s := range stores {
		for _, c := range s.Certificates() {
			pool.AddCert(c)
		}
	}
	chain, err = token.Verify(w.ctx, x509.VerifyOptions{CurrentTime: at.Value, Roots: pool})
	if len(chain) > envelope.MaxCertificates {
		return nil, nil, fmt.Errorf("its chain has %d certificates, at most %d", len(chain), envelope.MaxCertificates)
	}
	return at, chain, err
}

// checkAffordable refuses a token whose verification costs more than a token may, and
// one that cannot lead to any of the stores, before a signature of it is checked:
// a signature's timestamp is not a part of what was signed.
func checkAffordable(token *tspclient.SignedToken, stores []*trust.Store) error {
	// RFC 3161 section 2.4.2: there is no other signature than the authority's.
	if n := len(token.SignerInfos); n != 1 {
		return fmt.Errorf("it has %d signatures; a token has one", n)
	}
	if n := len(token.Certificates); n > envelope.MaxCertificates {
		return fmt.Errorf("it carries %d certificates, at most %d", n, envelope.MaxCertificates)
	}
	known := false
	for _, c := range token.Certificates {
		if err := checkKey(c); err != nil {
			return namedError(c, err)
		}
		for _, s := range stores {
			known = known || slices.ContainsFunc(s.Certificates(), func(root *x509.Certificate) bool { return bytes.Equal(root.RawSubject, c.RawIssuer) })
		}
	}
	if !known {
		return fmt.Errorf("none of its certificates was issued by an authority in %s", joinStores(stores))
	}
	return nil
}

func joinStores(stores []*trust.Store) string {
	names := make([]string, len(stores))
	for i, s := range stores {
		names[i] = s.String()
	}
	return joinNames(names)
}
