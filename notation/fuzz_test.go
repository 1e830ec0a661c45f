package notation

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/weight"
	"github.com/boltseal/boltseal/notation/internal/envelope"
	"github.com/boltseal/boltseal/trust"
)

// FuzzTimestampToken: a token (RFC 3161) that nobody we trust has made says nothing, and
// reading it costs no more than its size.
func FuzzTimestampToken(f *testing.F) {
	message := []byte("a signature")
	chain := testca.Must(testca.New(testca.Options{Timestamping: true}))
	ours := must(testca.NewTSA(testca.TSAOptions{Chain: chain}))(f)
	other := must(testca.NewTSA(testca.TSAOptions{Chain: testca.Must(testca.New(testca.Options{Timestamping: true}))}))(f)
	for _, t := range []*testca.TSA{ours, other} {
		f.Add(must(t.Token(message, crypto.SHA256))(f))
		f.Add(must(t.Token([]byte("another"), crypto.SHA384))(f))
	}
	f.Add([]byte("\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0\x80"))
	anchors := []*trust.Store{store(f, trust.TypeTSA, "ours", chain)}
	f.Fuzz(func(t *testing.T, token []byte) {
		w := &work{ctx: t.Context(), env: &envelope.Envelope{Signature: message, Timestamp: token}}
		weight.Bound{Floor: 256 << 10, Times: 64}.Check(t, len(token), func() { _, _, _ = w.readToken(anchors) })
		at, by, err := w.readToken(anchors)
		if err == nil && (at == nil || len(by) < 2 || !by[len(by)-1].Equal(chain.Root().Certificate)) {
			t.Fatalf("%v by %d certificates", at, len(by))
		}
	})
}

// FuzzOCSPAnswer: an answer (RFC 6960) that its CA has not signed says nothing, and
// reading it costs no more than its size.
func FuzzOCSPAnswer(f *testing.F) {
	ca := testca.Must(testca.New(testca.Options{Leaf: testca.Spec{Key: testca.P256}}))
	leaf, root := ca.Leaf().Certificate, ca.Root()
	signed := map[[sha256.Size]byte]bool{}
	for _, status := range []int{ocsp.Good, ocsp.Revoked} {
		r := ocsp.Response{Status: status, SerialNumber: leaf.SerialNumber, ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour), RevokedAt: time.Now()}
		for _, c := range []*x509.Certificate{nil, leaf} {
			r.Certificate = c
			b := must(ocsp.CreateResponse(root.Certificate, root.Certificate, r, root.Key))(f)
			if c != nil {
				b = must(ocsp.CreateResponse(root.Certificate, c, r, ca.Leaf().Key))(f)
			}
			parsed, err := ocsp.ParseResponseForCert(b, leaf, root.Certificate)
			if err == nil {
				signed[sha256.Sum256(parsed.TBSResponseData)] = true
			}
			f.Add(b)
			f.Add(b[:len(b)/2])
		}
	}
	f.Add(ocsp.TryLaterErrorResponse)
	r := NewRevocation(RevocationOptions{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > maxOCSPBytes {
			return
		}
		weight.Bound{Floor: 128 << 10, Times: 64}.Check(t, len(b), func() {
			_ = (&session{r: r, chain: ca.X509()}).vetOCSP([sha256.Size]byte{}, b)
		})
		s := &session{r: r, chain: ca.X509()}
		err := s.vetOCSP([sha256.Size]byte{}, b)
		if len(s.used) == 0 {
			return
		}
		resp, parseErr := ocsp.ParseResponseForCert(b, leaf, root.Certificate)
		if err != nil || parseErr != nil || !signed[sha256.Sum256(resp.TBSResponseData)] || resp.Certificate != nil && resp.Certificate.Equal(leaf) {
			t.Fatalf("taken for the CA's: %v, %v", err, parseErr)
		}
	})
}
