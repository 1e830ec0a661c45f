package testca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"
)

const (
	// maxOCSPRequest bounds the body of an OCSP request, in bytes.
	maxOCSPRequest = 64 << 10
	// oversize is the length of an oversized answer, in bytes.
	oversize = 64 << 20
)

// Fault is how a [Responder] misbehaves. The zero value is no fault.
type Fault uint8

// The faults of a responder.
const (
	NoFault       Fault = iota
	Stale               // the answer's next update has passed
	WronglySigned       // the answer is signed by a key that is not the issuer's
	Garbage             // the answer is not DER
	Oversized           // the answer goes on for 64 MiB
	Hang                // the answer does not come before the client gives up
	ServerError         // HTTP status 500
	NotFound            // HTTP status 404
	NoNextUpdate        // the answer says nothing of its next update
	OtherSerial         // OCSP: the answer is about another certificate
)

// ResponderOptions make a Responder.
type ResponderOptions struct {
	// Clock is the time of the answers. Nil means time.Now.
	Clock func() time.Time
	// Lifetime is how long an answer is good. Zero means an hour.
	Lifetime time.Duration
	// DeltaCRL lists revocations made after [Responder.FreezeBase] in a delta
	// CRL, and names it in the base CRL.
	DeltaCRL bool
}

// Revocation is why and when a certificate was revoked.
type Revocation struct {
	Reason int // RFC 5280, section 5.3.1; 6 is certificateHold
	At     time.Time
	// InvalidSince is the invalidity date of RFC 5280, section 5.3.2. Zero
	// leaves it out; only a CRL can say it.
	InvalidSince time.Time
}

// Responder answers OCSP requests at /ocsp and serves CRLs at /crl/ISSUER, for
// every chain that it was told of. It is safe for concurrent use.
type Responder struct {
	opts ResponderOptions
	base string // its own address, for the delta CRL's name

	mu       sync.Mutex
	issuers  map[string]*Cert // by keyName
	revoked  map[string]map[string]entry
	unknown  map[string]bool
	ocsp     Fault
	crl      Fault
	requests map[string]int
	number   int64
}

// entry is a revocation, in the base CRL or only in the delta.
type entry struct {
	Revocation
	serial  *big.Int
	inDelta bool
}

// NewResponder makes a responder that will be reached at base, without a
// trailing slash. It answers for the chains given to [Responder.Add].
func NewResponder(base string, o ResponderOptions) *Responder {
	if o.Lifetime <= 0 {
		o.Lifetime = time.Hour
	}
	return &Responder{opts: o, base: base, issuers: map[string]*Cert{}, revoked: map[string]map[string]entry{},
		unknown: map[string]bool{}, requests: map[string]int{}, number: 1}
}

// StartResponder serves a responder on loopback until the test ends, and
// returns its address for [Options.Revocation].
func StartResponder(tb TB, o ResponderOptions) (*Responder, string) {
	tb.Helper()
	srv := httptest.NewUnstartedServer(nil)
	base := "http://" + srv.Listener.Addr().String()
	r := NewResponder(base, o)
	srv.Config.Handler = r
	srv.Start()
	tb.Cleanup(func() {
		srv.CloseClientConnections() // a hanging answer ends with its connection
		srv.Close()
	})
	return r, base
}

// Add makes the responder answer for all CAs of the chain.
func (r *Responder) Add(c *Chain) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ca := range c.Certs[1:] {
		r.issuers[keyName(ca.Key.Public())] = ca
	}
}

// Revoke revokes a certificate of a chain that was added. A zero At means the
// clock's time an hour ago.
func (r *Responder) Revoke(c *Chain, cert *Cert, why Revocation) error {
	issuer, err := issuerOf(c, cert)
	if err != nil {
		return err
	}
	if why.At.IsZero() {
		why.At = clockNow(r.opts.Clock).Add(-time.Hour)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	name := keyName(issuer.Key.Public())
	if r.revoked[name] == nil {
		r.revoked[name] = map[string]entry{}
	}
	r.revoked[name][cert.SerialNumber.String()] = entry{Revocation: why, serial: cert.SerialNumber, inDelta: r.opts.DeltaCRL && r.number > 1}
	r.number++
	return nil
}

// Forget makes OCSP answer "unknown" for a certificate.
func (r *Responder) Forget(cert *Cert) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unknown[cert.SerialNumber.String()] = true
}

// FreezeBase makes later revocations appear in the delta CRL only, where the
// options ask for one.
func (r *Responder) FreezeBase() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.number++
}

// Fail sets the faults of OCSP and of CRLs from now on.
func (r *Responder) Fail(ocsp, crl Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ocsp, r.crl = ocsp, crl
}

// Requests counts the requests so far: by "ocsp", "crl" and "delta".
func (r *Responder) Requests(kind string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests[kind]
}

func issuerOf(c *Chain, cert *Cert) (*Cert, error) {
	for i, other := range c.Certs[:len(c.Certs)-1] {
		if other == cert {
			return c.Certs[i+1], nil
		}
	}
	return nil, errors.New("testca: the certificate has no issuer in this chain")
}

// keyName names a key in an address.
func keyName(pub crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		panic(err) // the key has been in a certificate already
	}
	h := sha256.Sum256(der)
	return hex.EncodeToString(h[:8])
}

// ServeHTTP answers OCSP requests (RFC 6960, appendix A) and serves CRLs.
func (r *Responder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	switch path := req.URL.Path; {
	case path == "/ocsp" || strings.HasPrefix(path, "/ocsp/"):
		r.count("ocsp")
		r.serve(w, req, r.fault(true), "application/ocsp-response", func(f Fault) ([]byte, error) { return r.ocspResponse(req, f) })
	case strings.HasPrefix(path, "/crl/"):
		r.count("crl")
		r.serve(w, req, r.fault(false), "application/pkix-crl", func(f Fault) ([]byte, error) { return r.list(path[len("/crl/"):], false, f) })
	case strings.HasPrefix(path, "/delta/"):
		r.count("delta")
		r.serve(w, req, r.fault(false), "application/pkix-crl", func(f Fault) ([]byte, error) { return r.list(path[len("/delta/"):], true, f) })
	default:
		http.NotFound(w, req)
	}
}

func (r *Responder) count(kind string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests[kind]++
}

func (r *Responder) fault(ocsp bool) Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ocsp {
		return r.ocsp
	}
	return r.crl
}

func (r *Responder) serve(w http.ResponseWriter, req *http.Request, f Fault, contentType string, answer func(Fault) ([]byte, error)) {
	switch f {
	case Hang:
		_, _ = io.Copy(io.Discard, req.Body) // the server notices a gone client only after the body
		<-req.Context().Done()
		return
	case ServerError:
		http.Error(w, "out of order", http.StatusInternalServerError)
		return
	case NotFound:
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Content-Type", contentType)
	switch f {
	case Garbage:
		_, _ = w.Write([]byte("\x30\x82\xff\xffnot DER"))
		return
	case Oversized:
		_, _ = io.CopyN(w, zeros{}, oversize)
		return
	}
	der, err := answer(f)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, _ = w.Write(der)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// times are those of an answer under a fault.
func (r *Responder) times(f Fault) (this, next time.Time) {
	t := clockNow(r.opts.Clock).UTC().Truncate(time.Second)
	switch f {
	case Stale:
		return t.Add(-3 * r.opts.Lifetime), t.Add(-r.opts.Lifetime)
	case NoNextUpdate:
		return t.Add(-time.Minute), time.Time{}
	}
	return t.Add(-time.Minute), t.Add(r.opts.Lifetime)
}

func (r *Responder) ocspResponse(req *http.Request, f Fault) ([]byte, error) {
	var der []byte
	var err error
	if req.Method == http.MethodPost {
		der, err = io.ReadAll(io.LimitReader(req.Body, maxOCSPRequest))
	} else {
		der, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(req.URL.Path, "/ocsp/"))
	}
	if err != nil {
		return nil, err
	}
	q, err := ocsp.ParseRequest(der)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	issuer, err := r.byHash(q)
	if err != nil {
		return ocsp.UnauthorizedErrorResponse, nil //nolint:nilerr // RFC 6960: not authoritative
	}
	this, next := r.times(f)
	tmpl := ocsp.Response{SerialNumber: q.SerialNumber, Status: ocsp.Good, ThisUpdate: this, NextUpdate: next, IssuerHash: q.HashAlgorithm}
	if f == OtherSerial {
		tmpl.SerialNumber = new(big.Int).Add(q.SerialNumber, big.NewInt(1))
	}
	if e, ok := r.revoked[keyName(issuer.Key.Public())][q.SerialNumber.String()]; ok {
		tmpl.Status, tmpl.RevokedAt, tmpl.RevocationReason = ocsp.Revoked, e.At, e.Reason
	}
	if r.unknown[q.SerialNumber.String()] {
		tmpl.Status = ocsp.Unknown
	}
	signer, err := r.signer(issuer, f)
	if err != nil {
		return nil, err
	}
	return ocsp.CreateResponse(issuer.Certificate, issuer.Certificate, tmpl, signer)
}

func (r *Responder) byHash(q *ocsp.Request) (*Cert, error) {
	for _, ca := range r.issuers {
		name := hashSum(q.HashAlgorithm, ca.RawSubject)
		var spki struct {
			Algorithm pkix.AlgorithmIdentifier
			Key       asn1.BitString
		}
		if _, err := asn1.Unmarshal(ca.RawSubjectPublicKeyInfo, &spki); err != nil {
			return nil, err
		}
		if bytes.Equal(name, q.IssuerNameHash) && bytes.Equal(hashSum(q.HashAlgorithm, spki.Key.RightAlign()), q.IssuerKeyHash) {
			return ca, nil
		}
	}
	return nil, errors.New("testca: not the responder of this issuer")
}

func (r *Responder) signer(issuer *Cert, f Fault) (crypto.Signer, error) {
	if f == WronglySigned {
		return GenerateKey(P256, nil)
	}
	return issuer.Key, nil
}

func (r *Responder) list(name string, delta bool, f Fault) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	issuer := r.issuers[name]
	if issuer == nil {
		return nil, fmt.Errorf("testca: no issuer %q", name)
	}
	this, next := r.times(f)
	tmpl := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: this, NextUpdate: next}
	for _, e := range r.revoked[name] {
		if e.inDelta != delta {
			continue
		}
		item := x509.RevocationListEntry{SerialNumber: e.serial, RevocationTime: e.At, ReasonCode: e.Reason}
		if !e.InvalidSince.IsZero() {
			der, err := asn1.MarshalWithParams(e.InvalidSince.UTC(), "generalized")
			if err != nil {
				return nil, err
			}
			item.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 24}, Value: der}}
		}
		tmpl.RevokedCertificateEntries = append(tmpl.RevokedCertificateEntries, item)
	}
	if delta {
		tmpl.Number = big.NewInt(r.number + 1)
		tmpl.ExtraExtensions = []pkix.Extension{{Id: oidDeltaCRLIndicator, Critical: true, Value: []byte{2, 1, 1}}}
	} else if r.opts.DeltaCRL {
		tmpl.ExtraExtensions = []pkix.Extension{FreshestCRL(r.base + "/delta/" + name)}
	}
	signer, err := r.signer(issuer, f)
	if err != nil {
		return nil, err
	}
	by := issuer.Certificate
	if f == WronglySigned {
		other := *by // same name, another key
		other.PublicKey = signer.Public()
		by = &other
	}
	return x509.CreateRevocationList(rand.Reader, tmpl, by, signer)
}

// FreshestCRL is the extension that names a delta CRL (RFC 5280, section 5.2.6).
func FreshestCRL(url string) pkix.Extension {
	tagged := func(tag int, compound bool, b []byte) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: compound, Bytes: b}
	}
	der := func(v any) []byte {
		b, err := asn1.Marshal(v)
		if err != nil {
			panic(err) // raw values always encode
		}
		return b
	}
	fullName := der(tagged(0, true, der(tagged(6, false, []byte(url)))))
	point := tagged(0, true, fullName)
	return pkix.Extension{Id: oidFreshestCRL, Value: der([][]asn1.RawValue{{point}})}
}
