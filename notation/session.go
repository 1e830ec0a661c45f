package notation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/notaryproject/notation-core-go/revocation/crl"
	"github.com/notaryproject/notation-core-go/revocation/result"
	"golang.org/x/crypto/ocsp"

	"github.com/boltseal/boltseal"
)

// answerKey names an answer: what was asked where, and whose signature it bears.
type answerKey struct {
	question [sha256.Size]byte
	issuer   [sha256.Size]byte
}

// answer was verified before it was kept. Once it is no longer fresh a newer one
// is asked for, and it goes on serving where none comes.
type answer struct {
	ocsp         []byte
	crl          *crl.Bundle
	fresh, until time.Time
}

// crlEntryCost is about what an entry of a CRL occupies beyond its DER bytes.
const crlEntryCost = 320

func (a answer) cost() int64 {
	n := len(a.ocsp) + 256
	if a.crl == nil {
		return int64(n)
	}
	for _, list := range []*x509.RevocationList{a.crl.BaseCRL, a.crl.DeltaCRL} {
		if list != nil {
			n += len(list.Raw) + crlEntryCost*len(list.RevokedCertificateEntries)
		}
	}
	return int64(n)
}

// session is the check of one chain. It is the HTTP client and the CRL fetcher
// of the library that judges the answers, so that it can keep those that are
// verified, and note how long the verdict holds.
type session struct {
	r     *Revocation
	chain []*x509.Certificate

	mu     sync.Mutex
	outage error // the first answer that did not come
	used   []use
}

// use is an answer that the library was given.
type use struct {
	cert     int    // OCSP: index in the chain of the certificate that it is about
	url      string // CRL: where it is published
	question [sha256.Size]byte
	answer   answer
	kept     bool
}

func (s *session) noteUse(u use) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = append(s.used, u)
}

func (s *session) noteOutage(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outage == nil {
		s.outage = err
	}
}

// settle keeps the answers that the library relied on, and returns when the
// first of them ends. An answer that decided nothing (a status "unknown", a
// list that the library refused) is asked for again the next time.
func (s *session) settle(results []*result.CertRevocationResult, until time.Time) time.Time {
	for i, res := range results {
		if res.Result != result.ResultOK && res.Result != result.ResultRevoked {
			continue
		}
		byOCSP := res.RevocationMethod == result.RevocationMethodOCSP
		for _, u := range s.used {
			if u.answer.crl == nil && (!byOCSP || u.cert != i) ||
				u.answer.crl != nil && (byOCSP || !slices.Contains(s.chain[i].CRLDistributionPoints, u.url)) {
				continue
			}
			if u.answer.until.Before(until) {
				until = u.answer.until
			}
			if !u.kept && s.r.clock().Before(u.answer.until) {
				s.r.answers.Put(answerKey{u.question, sha256.Sum256(s.chain[i+1].Raw)}, u.answer, u.answer.cost())
			}
		}
	}
	return until
}

// remembered is a kept answer to a question, and the certificate whose issuer
// signed it.
func (s *session) remembered(question [sha256.Size]byte) (a answer, cert int, ok bool) {
	for i := range s.chain[:len(s.chain)-1] {
		a, ok := s.r.answers.Get(answerKey{question, sha256.Sum256(s.chain[i+1].Raw)})
		if ok && s.r.clock().Before(a.until) {
			return a, i, true
		}
	}
	return answer{}, 0, false
}

// newAnswer is an answer that came just now.
func (s *session) newAnswer(a answer) answer {
	a.fresh = s.r.clock().Add(maxAnswerLife)
	return a
}

// once runs do for the first of all sessions that want the same, and gives its
// result to the others too. Nobody's end cancels it for the others; each waits
// for as long as its own context allows. What did not come is not asked for
// again for a moment, so that a dead server does not hold up every request.
func (s *session) once(ctx context.Context, host string, key answerKey, do func(context.Context) (any, error)) (v any, err error) {
	if until, down := s.r.down.Get(key); down && s.r.clock().Before(until) {
		err := fmt.Errorf("%w: it did not answer just now either", boltseal.ErrUnavailable)
		s.noteOutage(err)
		return nil, err
	}
	ctx, end := boltseal.BeginStep(ctx, boltseal.Step{Stage: boltseal.StageRevocation, Host: host})
	defer func() { end(boltseal.Ending{Err: err}) }()
	done := s.r.flights.DoChan(string(key.question[:])+string(key.issuer[:]), func() (v any, err error) {
		defer func() { // a panic here would end the process
			if p := recover(); p != nil {
				v, err = nil, errors.New("its answer cannot be read")
			}
		}()
		v, err = do(context.WithoutCancel(ctx))
		if errors.Is(err, boltseal.ErrUnavailable) {
			s.r.down.Put(key, s.r.clock().Add(outageBackoff), 1)
		}
		return v, err
	})
	select {
	case res := <-done:
		v, err = res.Val, res.Err
	case <-ctx.Done():
		err = fmt.Errorf("%w: %w", boltseal.ErrUnavailable, ctx.Err())
	}
	if errors.Is(err, boltseal.ErrUnavailable) {
		s.noteOutage(err)
	}
	return v, err
}

func (s *session) ocspClient() *http.Client {
	return &http.Client{Transport: roundTripper(s.ocsp), Timeout: s.r.client.ocsp}
}

// ocsp answers from what is kept, or asks (RFC 6960).
func (s *session) ocsp(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(io.LimitReader(req.Body, maxOCSPBytes)); err != nil {
			return nil, err
		}
	}
	key := answerKey{question: sha256.Sum256(fmt.Appendf(nil, "%s %s\n%s", req.Method, req.URL, body))}
	a, cert, known := s.remembered(key.question)
	if known && s.r.clock().Before(a.fresh) {
		s.noteUse(use{cert: cert, question: key.question, answer: a, kept: true})
		return localResponse(req, a.ocsp), nil
	}
	v, err := s.once(req.Context(), req.URL.Host, key, func(ctx context.Context) (any, error) {
		ctx, cancel := context.WithTimeout(ctx, s.r.client.ocsp)
		defer cancel()
		out := req.Clone(ctx)
		if body != nil {
			out.Body = io.NopCloser(bytes.NewReader(body))
		}
		resp, err := s.r.client.ask(out, maxOCSPBytes)
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(resp.Body)
		if bytes.Equal(b, ocsp.TryLaterErrorResponse) || bytes.Equal(b, ocsp.InternalErrorErrorResponse) {
			return nil, fmt.Errorf("%w: the responder says that it cannot answer now", boltseal.ErrUnavailable)
		}
		return b, err
	})
	switch {
	case err != nil && known:
		s.noteUse(use{cert: cert, question: key.question, answer: a, kept: true})
		return localResponse(req, a.ocsp), nil
	case err != nil:
		return nil, err
	}
	b, _ := v.([]byte)
	if err := s.vetOCSP(key.question, b); err != nil {
		return nil, err
	}
	return localResponse(req, b), nil
}

// vetOCSP notes what an answer says, and refuses one whose signer may not
// speak for the CA: the library takes any certificate of the CA for its
// responder, so that the holder of a revoked one could clear itself.
func (s *session) vetOCSP(question [sha256.Size]byte, b []byte) error {
	now := s.r.clock()
	for i, c := range s.chain[:len(s.chain)-1] {
		issuer := s.chain[i+1]
		resp, err := ocsp.ParseResponseForCert(b, c, issuer)
		if err != nil {
			continue
		}
		if d := resp.Certificate; d != nil && !bytes.Equal(d.Raw, issuer.Raw) {
			// RFC 6960 section 4.2.2.2
			if !slices.Contains(d.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
				return fmt.Errorf("signed by %q, which is no OCSP responder of the CA", d.Subject)
			}
			if now.Before(d.NotBefore) || now.After(d.NotAfter) {
				return fmt.Errorf("signed by %q, which is not valid today", d.Subject)
			}
		}
		if resp.Status != ocsp.Unknown {
			s.noteUse(use{cert: i, question: question, answer: s.newAnswer(answer{ocsp: b, until: resp.NextUpdate})})
		}
		return nil
	}
	return nil // the library says what is wrong with it
}

// Fetch implements crl.Fetcher.
func (s *session) Fetch(ctx context.Context, url string) (*crl.Bundle, error) {
	u, err := s.fetch(ctx, url)
	if err != nil {
		return nil, err
	}
	for _, c := range s.chain {
		if !slices.Contains(c.CRLDistributionPoints, url) {
			continue
		}
		if err := checkScope(u.answer.crl, c); err != nil {
			return nil, err
		}
	}
	s.noteUse(u)
	return u.answer.crl, nil
}

func (s *session) fetch(ctx context.Context, url string) (use, error) {
	question := sha256.Sum256([]byte("CRL " + url))
	a, _, known := s.remembered(question)
	u := use{url: url, question: question, answer: a, kept: true}
	if known && s.r.clock().Before(a.fresh) {
		return u, nil
	}
	// The signature is checked with the issuers of this chain, so another chain's
	// result is of no use.
	key := answerKey{question: question, issuer: chainKey(s.chain[1:], time.Time{})}
	v, err := s.once(ctx, hostOf(url), key, func(ctx context.Context) (any, error) {
		fetcher, err := crl.NewHTTPFetcher(&http.Client{Transport: roundTripper(s.list)})
		if err != nil {
			return nil, err
		}
		return fetcher.Fetch(ctx, url)
	})
	switch {
	case err != nil && known:
		return u, nil
	case err != nil:
		return use{}, err
	}
	bundle, _ := v.(*crl.Bundle)
	until := bundle.BaseCRL.NextUpdate
	if d := bundle.DeltaCRL; d != nil && d.NextUpdate.Before(until) {
		until = d.NextUpdate
	}
	return use{url: url, question: question, answer: s.newAnswer(answer{crl: bundle, until: until})}, nil
}

// hostOf is the host of a URL, "" where it is none.
func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Host
}

// list fetches one CRL. Whoever stands on the way can send any bytes: they are
// parsed, which costs many times their size, only after an issuer's signature
// was found on them.
func (s *session) list(req *http.Request) (*http.Response, error) {
	// Not by the client's own time-out, whose error no longer says what it was.
	ctx, cancel := context.WithTimeout(req.Context(), s.r.client.crl)
	defer cancel()
	resp, err := s.r.client.ask(req.WithContext(ctx), maxCRLBytes)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if !signedByOne(b, s.chain[1:]) {
		return nil, errors.New("not a CRL that an issuer in the chain has signed")
	}
	return localResponse(req, b), nil
}
