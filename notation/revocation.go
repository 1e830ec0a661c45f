package notation

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"time"

	"github.com/notaryproject/notation-core-go/revocation"
	"github.com/notaryproject/notation-core-go/revocation/purpose"
	"github.com/notaryproject/notation-core-go/revocation/result"
	"golang.org/x/sync/singleflight"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/lru"
)

// Defaults of RevocationOptions (trust-store-trust-policy.md, "Revocation
// Checking": the time-outs).
const (
	DefaultOCSPTimeout     = 2 * time.Second
	DefaultCRLTimeout      = 5 * time.Second
	DefaultRevocationBytes = 64 << 20
	// maxAnswerLife is when a verdict is formed anew and an answer asked for
	// again, whatever their authority states.
	maxAnswerLife = 24 * time.Hour
	// outageBackoff is how long a server is not asked again that did not answer.
	outageBackoff = 10 * time.Second
	// statusRetry is how long evidence holds that failed for want of a usable answer.
	statusRetry = time.Minute
	// maxResponders bounds the addresses that one certificate may name.
	maxResponders = 8
	maxDown       = 1000
)

// RevocationOptions make a Revocation.
type RevocationOptions struct {
	// AllowedNetworks are private networks whose responders may be asked. Nil
	// means that only public addresses are.
	AllowedNetworks []netip.Prefix
	// OCSPTimeout and CRLTimeout bound one request. 0 means the defaults.
	OCSPTimeout, CRLTimeout time.Duration
	// CacheBytes bounds the answers that are kept. 0 means DefaultRevocationBytes.
	CacheBytes int64
	// Clock tells the time for the cache. Nil means time.Now.
	Clock func() time.Time
}

// Revocation asks OCSP responders and CRL distribution points, and keeps their
// answers until they run out. It may be shared by any number of verifiers.
type Revocation struct {
	clock    func() time.Time
	client   *responderClient
	flights  singleflight.Group
	verdicts *lru.Cache[[sha256.Size]byte, verdict]
	answers  *lru.Cache[answerKey, answer]
	down     *lru.Cache[answerKey, time.Time]
}

// verdict is the status of one exact chain.
type verdict struct {
	revoked string // subject of the revoked certificate, "" = none
	until   time.Time
}

// NewRevocation makes a Revocation.
func NewRevocation(o RevocationOptions) *Revocation {
	if o.OCSPTimeout <= 0 {
		o.OCSPTimeout = DefaultOCSPTimeout
	}
	if o.CRLTimeout <= 0 {
		o.CRLTimeout = DefaultCRLTimeout
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = DefaultRevocationBytes
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return &Revocation{
		clock: o.Clock, client: newResponderClient(o),
		verdicts: lru.New[[sha256.Size]byte, verdict](o.CacheBytes / 16),
		answers:  lru.NewWhole[answerKey, answer](o.CacheBytes * 15 / 16),
		down:     lru.NewWhole[answerKey, time.Time](maxDown),
	}
}

// errUntrustedStatus is an answer that came and proves nothing.
var errUntrustedStatus = errors.New("its revocation status cannot be established")

// check returns the verdict on a chain whose signatures were verified. at is the
// authentic signing time, zero for none. Errors wrap [boltseal.ErrUnavailable]
// where no answer came, and errUntrustedStatus where none was usable.
func (r *Revocation) check(ctx context.Context, chain []*x509.Certificate, at time.Time, timestamping bool) (v verdict, err error) {
	most := 0
	for _, c := range chain[:len(chain)-1] {
		most = max(most, len(c.OCSPServer)+len(c.CRLDistributionPoints))
	}
	switch {
	case most == 0:
		return verdict{}, nil
	case most > maxResponders:
		return verdict{}, fmt.Errorf("%w: one of its certificates names %d servers, at most %d", errUntrustedStatus, most, maxResponders)
	}
	key := chainKey(chain, at)
	if v, ok := r.verdicts.Get(key); ok && r.clock().Before(v.until) {
		return v, nil
	}
	defer func() { // CRLs and OCSP answers are parsed from what a server sent
		if p := recover(); p != nil {
			v, err = verdict{}, fmt.Errorf("%w: its answer cannot be read", errUntrustedStatus)
		}
	}()
	s := &session{r: r, chain: chain}
	kind := purpose.CodeSigning
	if timestamping {
		kind = purpose.Timestamping
	}
	validator, err := revocation.NewWithOptions(revocation.Options{OCSPHTTPClient: s.ocspClient(), CRLFetcher: s, CertChainPurpose: kind})
	if err != nil {
		return verdict{}, err
	}
	results, err := validator.ValidateContext(ctx, revocation.ValidateContextOptions{CertChain: chain, AuthenticSigningTime: at})
	if err != nil {
		return verdict{}, fmt.Errorf("%w: %v", errUntrustedStatus, err)
	}
	v, err = s.conclude(ctx, results)
	if err == nil && v.until.After(r.clock()) {
		r.verdicts.Put(key, v, 256+int64(len(v.revoked)))
	}
	return v, err
}

func (s *session) conclude(ctx context.Context, results []*result.CertRevocationResult) (verdict, error) {
	v := verdict{until: s.settle(results, s.r.clock().Add(maxAnswerLife))}
	var unknown error
	var server string
	for i, res := range results {
		switch res.Result {
		case result.ResultOK, result.ResultNonRevokable:
		case result.ResultRevoked:
			v.revoked = s.chain[i].Subject.String()
			return v, nil
		default:
			why := errors.New("no answer")
			for _, sr := range res.ServerResults {
				if sr.Error != nil {
					why, server = sr.Error, sr.Server
				}
			}
			unknown = fmt.Errorf("the revocation status of %q is not known: %s: %w", s.chain[i].Subject, server, why)
		}
	}
	switch {
	case unknown == nil:
		return v, nil
	case s.outage != nil || ctx.Err() != nil:
		host := server
		if u, err := url.Parse(server); err == nil {
			host = u.Host
		}
		return verdict{}, &boltseal.StoreError{Op: "revocation check", Host: host, Err: fmt.Errorf("%w: %w", boltseal.ErrUnavailable, unknown)}
	}
	return verdict{}, fmt.Errorf("%w: %v", errUntrustedStatus, unknown)
}

// chainKey names the exact certificates, and the time at which they were used.
func chainKey(chain []*x509.Certificate, at time.Time) (key [sha256.Size]byte) {
	h := sha256.New()
	for _, c := range chain {
		sum := sha256.Sum256(c.Raw)
		h.Write(sum[:])
	}
	if !at.IsZero() {
		h.Write([]byte(at.UTC().Format(time.RFC3339Nano)))
	}
	h.Sum(key[:0])
	return key
}

// revoked turns the status of a chain into a reason. An error is an outage.
func (w *work) revoked(chain []*x509.Certificate, at time.Time, timestamping bool) (boltseal.Reason, error) {
	v, err := w.v.revocation.check(w.ctx, chain, at, timestamping)
	act := w.s.actions.revocation
	if timestamping {
		act = w.s.actions.timestamp
	}
	switch {
	case errors.Is(err, errUntrustedStatus):
		if act == enforce {
			w.until(w.now.Add(statusRetry))
		}
		return boltseal.Reason{Cause: boltseal.CauseRevocation, Message: err.Error(),
			Remedy: "see to the CA's OCSP responder or CRL; a private one must be allowed in the configuration"}, nil
	case err != nil:
		return boltseal.Reason{}, err
	case v.revoked != "":
		return boltseal.Reason{Cause: boltseal.CauseRevoked, Message: fmt.Sprintf("the certificate %q is revoked", v.revoked),
			Remedy: "do not run this image before its origin is clear; sign it again with a valid certificate if it is right"}, nil
	}
	w.until(v.until)
	return boltseal.Reason{}, nil
}
