package testca

import (
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"time"

	"github.com/notaryproject/tspclient-go"
	"github.com/notaryproject/tspclient-go/pki"
)

// maxTimestampQuery bounds the body of a timestamp query, in bytes.
const maxTimestampQuery = 64 << 10

// TSAOptions make a timestamp authority. The zero value is a right one, with
// keys of its own and the policy and accuracy of ETSI's best practices.
type TSAOptions struct {
	// Clock is the time that is stamped, and that the default chain is valid
	// around. Nil means time.Now.
	Clock func() time.Time
	// Rand makes the chain and the serial numbers reproducible. Nil means the
	// system's randomness.
	Rand io.Reader
	// Chain is the authority's chain, made with Options.Timestamping: an
	// expired or wrongly used certificate is asked for there. Nil means a new one.
	Chain *Chain
	// Accuracy is the accuracy stated in tokens, to the microsecond. Zero states none.
	Accuracy time.Duration
	// Policy replaces the policy.
	Policy asn1.ObjectIdentifier
	// WrongImprint stamps another message than was sent.
	WrongImprint bool
	// WrongNonce answers with another nonce.
	WrongNonce bool
	// NoCertificates leaves the certificates out of tokens.
	NoCertificates bool
	// NoSigningCertificate leaves out the attribute signing-certificate-v2, and
	// WrongSigningCertificate puts another hash into it.
	NoSigningCertificate, WrongSigningCertificate bool
	// WrongDigest puts another message digest into the signed attributes.
	WrongDigest bool
	// BreakSignature makes tokens whose signature does not hold.
	BreakSignature bool
	// Reject answers every query with a refusal.
	Reject bool
	// Mutate changes what is stamped, for everything else.
	Mutate func(*tspclient.TSTInfo)
}

// TSA is a timestamp authority (RFC 3161). It is a [tspclient.Timestamper] and
// an [http.Handler], and safe for concurrent use where its options are.
type TSA struct {
	Chain *Chain
	opts  TSAOptions
}

// NewTSA makes a timestamp authority.
func NewTSA(o TSAOptions) (*TSA, error) {
	if o.Chain == nil {
		var err error
		o.Chain, err = New(Options{Clock: o.Clock, Rand: o.Rand, Timestamping: true,
			Root: Spec{CommonName: "Boltseal Test TSA Root CA"}, Leaf: Spec{CommonName: "Boltseal Test TSA"}})
		if err != nil {
			return nil, err
		}
	}
	if o.Policy == nil {
		o.Policy = BaselineTimestampPolicy()
	}
	return &TSA{Chain: o.Chain, opts: o}, nil
}

// Roots is a pool of the authority's root.
func (t *TSA) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(t.Chain.Root().Certificate)
	return pool
}

// Token stamps a message and returns the token's DER, as it stands in the
// unprotected header of an envelope.
func (t *TSA) Token(message []byte, h crypto.Hash) ([]byte, error) {
	hashOID, _, _, err := hashOIDs(h)
	if err != nil {
		return nil, err
	}
	return t.token(tspclient.MessageImprint{
		HashAlgorithm: pkix.AlgorithmIdentifier{Algorithm: hashOID, Parameters: asn1.NullRawValue},
		HashedMessage: hashSum(h, message),
	}, nil)
}

// Timestamp answers a query, implementing [tspclient.Timestamper].
func (t *TSA) Timestamp(_ context.Context, req *tspclient.Request) (*tspclient.Response, error) {
	if err := req.Validate(); err != nil {
		return nil, err
	}
	if t.opts.Reject {
		return &tspclient.Response{Status: pki.StatusInfo{Status: pki.StatusRejection, StatusString: []string{"refused by the test"}}}, nil
	}
	token, err := t.token(req.MessageImprint, req.Nonce)
	if err != nil {
		return nil, err
	}
	return &tspclient.Response{TimestampToken: asn1.RawValue{FullBytes: token}}, nil
}

func (t *TSA) token(imprint tspclient.MessageImprint, nonce *big.Int) ([]byte, error) {
	serial := make([]byte, 16)
	if _, err := io.ReadFull(orSystem(t.opts.Rand), serial); err != nil {
		return nil, err
	}
	serial[0] &= 0x7f
	if t.opts.WrongImprint {
		imprint.HashedMessage = append([]byte{}, imprint.HashedMessage...)
		imprint.HashedMessage[0] ^= 1
	}
	if t.opts.WrongNonce {
		nonce = big.NewInt(1)
	}
	info := tspclient.TSTInfo{
		Version: 1, Policy: t.opts.Policy, MessageImprint: imprint, SerialNumber: new(big.Int).SetBytes(serial),
		GenTime: clockNow(t.opts.Clock).UTC().Truncate(time.Second), Nonce: nonce,
		Accuracy: tspclient.Accuracy{
			Seconds:      int(t.opts.Accuracy / time.Second),
			Milliseconds: int(t.opts.Accuracy % time.Second / time.Millisecond),
			Microseconds: int(t.opts.Accuracy % time.Millisecond / time.Microsecond),
		},
	}
	if t.opts.Mutate != nil {
		t.opts.Mutate(&info)
	}
	content, err := asn1.Marshal(info)
	if err != nil {
		return nil, fmt.Errorf("testca: TSTInfo: %w", err)
	}
	return signCMS(t.Chain, oidTSTInfo, content, cmsOptions{
		noCertificates: t.opts.NoCertificates, noSigningCert: t.opts.NoSigningCertificate,
		wrongSigningCert: t.opts.WrongSigningCertificate, wrongMessageDigest: t.opts.WrongDigest,
		breakSignature: t.opts.BreakSignature,
	})
}

// ServeHTTP answers queries over HTTP (RFC 3161, section 3.4).
func (t *TSA) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxTimestampQuery))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var req tspclient.Request
	if err := req.UnmarshalBinary(body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	resp, err := t.Timestamp(r.Context(), &req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out, err := resp.MarshalBinary()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", tspclient.MediaTypeTimestampReply)
	_, _ = w.Write(out) // an error means that the client has gone
}
