package notation

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/notaryproject/notation-core-go/revocation/result"
	"golang.org/x/crypto/ocsp"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/weight"
	"github.com/boltseal/boltseal/trust"
)

// answering is a signer whose one certificate names a server that answers as it
// is told, by the chain and the request.
func answering(tb testing.TB, ocspToo bool, answer func(*testca.Chain, *http.Request) []byte) (*testca.Chain, *Verifier) {
	tb.Helper()
	var chain *testca.Chain
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(answer(chain, r)) }))
	tb.Cleanup(srv.Close)
	leaf := testca.Spec{CRL: []string{srv.URL + "/a.crl"}}
	if ocspToo {
		leaf = testca.Spec{OCSP: []string{srv.URL}}
	}
	chain = testca.Test(tb, testca.Options{Leaf: leaf})
	v := setup{statement: statementOf(), stores: []*trust.Store{store(tb, trust.TypeCA, "release", chain)},
		revocation: NewRevocation(RevocationOptions{AllowedNetworks: loopback})}.verifier(tb)
	return chain, v
}

// TestOCSPResponders: who may answer for a CA. The library lets any certificate
// of the CA do it, and so the thief of a key could say that it is not revoked.
func TestOCSPResponders(t *testing.T) {
	t.Parallel()
	now := time.Now()
	nonce := []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}, Value: []byte{4, 2, 1, 2}}}
	critical := []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
	responder := testca.Spec{EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}}
	expired := responder
	expired.NotBefore, expired.NotAfter = now.Add(-48*time.Hour), now.Add(-time.Hour)
	early := responder
	early.NotBefore = now.Add(time.Hour)
	stranger := testca.Test(t, testca.Options{Leaf: responder})
	const delegate = "RFC 6960 section 4.2.2.2: a delegate must be marked as one; the library does not look"
	const validity = "RFC 5280 section 6.1.3: a delegate's certificate must be valid; the library does not look"
	strict := map[string]string{"the signer itself": delegate, "another signer of the CA": delegate,
		"a responder that has expired": validity, "a responder that is not valid yet": validity}
	for _, c := range []struct {
		name   string
		signer func(*testca.Chain) *testca.Cert
		embed  bool
		extra  []pkix.Extension
		want   boltseal.Cause
	}{
		{"the CA", func(c *testca.Chain) *testca.Cert { return c.Root() }, false, nil, ""},
		{"the CA, with its certificate", func(c *testca.Chain) *testca.Cert { return c.Root() }, true, nil, ""},
		{"a responder of the CA", func(c *testca.Chain) *testca.Cert { return testca.Must(c.IssueLeaf(responder)).Leaf() }, true, nil, ""},
		{"a responder of the CA, with a nonce nobody asked for", func(c *testca.Chain) *testca.Cert { return testca.Must(c.IssueLeaf(responder)).Leaf() }, true, nonce, ""},
		{"with an unknown critical extension", func(c *testca.Chain) *testca.Cert { return c.Root() }, false, critical, boltseal.CauseRevocation},
		{"the signer itself", func(c *testca.Chain) *testca.Cert { return c.Leaf() }, true, nil, boltseal.CauseRevocation},
		{"another signer of the CA", func(c *testca.Chain) *testca.Cert { return testca.Must(c.IssueLeaf(testca.Spec{})).Leaf() }, true, nil, boltseal.CauseRevocation},
		{"a responder that has expired", func(c *testca.Chain) *testca.Cert { return testca.Must(c.IssueLeaf(expired)).Leaf() }, true, nil, boltseal.CauseRevocation},
		{"a responder that is not valid yet", func(c *testca.Chain) *testca.Cert { return testca.Must(c.IssueLeaf(early)).Leaf() }, true, nil, boltseal.CauseRevocation},
		{"a responder of another CA", func(*testca.Chain) *testca.Cert { return stranger.Leaf() }, true, nil, boltseal.CauseRevocation},
		{"a responder of the CA that it does not name", func(c *testca.Chain) *testca.Cert { return testca.Must(c.IssueLeaf(responder)).Leaf() }, false, nil, boltseal.CauseRevocation},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			chain, v := answering(t, true, func(chain *testca.Chain, r *http.Request) []byte {
				q, err := ocsp.ParseRequest(testca.Must(base64.StdEncoding.DecodeString(strings.TrimPrefix(r.URL.Path, "/"))))
				if err != nil {
					panic(err)
				}
				signer := c.signer(chain)
				o := ocsp.Response{SerialNumber: q.SerialNumber, Status: ocsp.Good, ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(time.Hour), IssuerHash: crypto.SHA1, ExtraExtensions: c.extra}
				if c.embed {
					o.Certificate = signer.Certificate
				}
				return testca.Must(ocsp.CreateResponse(chain.Root().Certificate, signer.Certificate, o, signer.Key))
			})
			if got, ev := askFor(t, v, sign(t, chain, testca.SignOptions{})); got != c.want {
				t.Errorf("%q, %+v", got, ev.Reason)
			}
			compareStatus(t, chain, c.want, strict[c.name])
		})
	}
}

// compareStatus holds a status against notation-core-go's. strict says why we
// refuse what it takes, "" where it does not take it either.
func compareStatus(tb testing.TB, chain *testca.Chain, ours boltseal.Cause, strict string) {
	tb.Helper()
	theirs := coreResult(tb, chain, time.Time{}, time.Minute) == result.ResultOK
	switch {
	case ours == "" && !theirs:
		tb.Error("we take what notation-core-go does not")
	case (ours != "" && theirs) != (strict != ""):
		tb.Errorf("notation-core-go takes it: %v; our reason: %q", theirs, strict)
	}
}

// TestOCSPStatusOfTheResponder: answers that are none.
func TestOCSPStatusOfTheResponder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		answer []byte
		want   boltseal.Cause
	}{
		{"try later", ocsp.TryLaterErrorResponse, outage}, {"internal error", ocsp.InternalErrorErrorResponse, outage},
		{"unauthorized", ocsp.UnauthorizedErrorResponse, boltseal.CauseRevocation}, {"malformed", ocsp.MalformedRequestErrorResponse, boltseal.CauseRevocation},
		{"empty", nil, boltseal.CauseRevocation},
	} {
		chain, v := answering(t, true, func(*testca.Chain, *http.Request) []byte { return c.answer })
		if got, ev := askFor(t, v, sign(t, chain, testca.SignOptions{})); got != c.want {
			t.Errorf("%s: %q, %+v", c.name, got, ev.Reason)
		}
	}
}

// TestCRLScope: a list counts for the certificates that it covers only.
func TestCRLScope(t *testing.T) {
	t.Parallel()
	uri := func(s string) []byte { return append([]byte{0x86, byte(len(s))}, s...) }
	wrap := func(tag byte, b []byte) []byte { return append([]byte{tag, byte(len(b))}, b...) }
	point := func(s string) []byte { return wrap(0xa0, wrap(0xa0, uri(s))) }
	for _, c := range []struct {
		name  string
		scope func(url string) []byte // the extension's value; nil = no extension
		want  boltseal.Cause
	}{
		{"none stated", nil, ""},
		{"published here", func(u string) []byte { return wrap(0x30, point(u)) }, ""},
		{"empty", func(string) []byte { return wrap(0x30, nil) }, ""},
		{"users' certificates", func(string) []byte { return wrap(0x30, []byte{0x81, 1, 0xff}) }, ""},
		{"published elsewhere", func(u string) []byte { return wrap(0x30, point(u+"x")) }, boltseal.CauseRevocation},
		{"CAs' certificates", func(string) []byte { return wrap(0x30, []byte{0x82, 1, 0xff}) }, boltseal.CauseRevocation},
		{"some reasons", func(string) []byte { return wrap(0x30, []byte{0x83, 2, 1, 0x02}) }, boltseal.CauseRevocation},
		{"indirect", func(string) []byte { return wrap(0x30, []byte{0x84, 1, 0xff}) }, boltseal.CauseRevocation},
		{"attribute certificates", func(string) []byte { return wrap(0x30, []byte{0x85, 1, 0xff}) }, boltseal.CauseRevocation},
		{"unreadable", func(string) []byte { return []byte("scope") }, boltseal.CauseRevocation},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			chain, v := answering(t, false, func(chain *testca.Chain, _ *http.Request) []byte {
				list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
				if c.scope != nil {
					list.ExtraExtensions = []pkix.Extension{{Id: oidIssuingDistributionPoint, Critical: true, Value: c.scope(chain.Leaf().CRLDistributionPoints[0])}}
				}
				return testca.Must(x509.CreateRevocationList(rand.Reader, list, chain.Root().Certificate, chain.Root().Key))
			})
			for range 2 {
				if got, ev := askFor(t, v, sign(t, chain, testca.SignOptions{})); got != c.want {
					t.Errorf("%q, %+v", got, ev.Reason)
				}
			}
			strict := ""
			if c.want != "" {
				strict = "RFC 5280 section 6.3.3: a list must cover the certificate; the library does not look"
			}
			compareStatus(t, chain, c.want, strict)
		})
	}
}

// TestSignedByOne: a list's signature is found without reading the list, for
// every algorithm that a CA may use.
func TestSignedByOne(t *testing.T) {
	t.Parallel()
	stranger := testca.Test(t, testca.Options{}).Root().Certificate
	for _, alg := range []testca.Algorithm{testca.P256, testca.P384, testca.P521, testca.RSA2048} {
		ca := testca.Test(t, testca.Options{Root: testca.Spec{Key: alg}}).Root()
		kinds := []x509.SignatureAlgorithm{x509.UnknownSignatureAlgorithm}
		if alg == testca.RSA2048 {
			kinds = []x509.SignatureAlgorithm{x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS}
		}
		for _, kind := range kinds {
			list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour), SignatureAlgorithm: kind}
			der := must(x509.CreateRevocationList(rand.Reader, list, ca.Certificate, ca.Key))(t)
			changed := append([]byte{}, der...)
			changed[30] ^= 1 // in what is signed
			if !signedByOne(der, []*x509.Certificate{stranger, ca.Certificate}) {
				t.Errorf("%s %v: not found", alg, kind)
			}
			for name, b := range map[string][]byte{"changed": changed, "cut": der[:len(der)-1], "longer": append(append([]byte{}, der...), 0), "empty": nil} {
				if signedByOne(b, []*x509.Certificate{ca.Certificate}) {
					t.Errorf("%s %v: %s", alg, kind, name)
				}
			}
			if signedByOne(der, []*x509.Certificate{stranger}) {
				t.Errorf("%s %v: a stranger's", alg, kind)
			}
		}
	}
}

// FuzzSignedByOne: no bytes but those that a CA signed are its list.
func FuzzSignedByOne(f *testing.F) {
	ca := testca.Must(testca.New(testca.Options{Root: testca.Spec{Key: testca.RSA2048}})).Root()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	signed := map[string]bool{}
	for _, kind := range []x509.SignatureAlgorithm{x509.SHA256WithRSA, x509.SHA256WithRSAPSS} {
		list.SignatureAlgorithm = kind
		der := testca.Must(x509.CreateRevocationList(rand.Reader, list, ca.Certificate, ca.Key))
		var parts certificateList
		if _, err := asn1.Unmarshal(der, &parts); err != nil {
			f.Fatal(err)
		}
		signed[string(parts.TBS.FullBytes)] = true
		f.Add(der)
		f.Add(der[:40])
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		weight.Bound{Floor: 64 << 10, Times: 32}.Check(t, len(der), func() { signedByOne(der, []*x509.Certificate{ca.Certificate}) })
		if !signedByOne(der, []*x509.Certificate{ca.Certificate}) {
			return
		}
		var parts certificateList
		if _, err := asn1.Unmarshal(der, &parts); err != nil || !signed[string(parts.TBS.FullBytes)] {
			t.Fatal("taken for the CA's list")
		}
	})
}

// FuzzScope: whatever a scope says, it is read or refused, and an empty one
// covers all.
func FuzzScope(f *testing.F) {
	for _, b := range []string{"\x30\x00", "\x30\x03\x81\x01\xff", "\x30\x0d\xa0\x0b\xa0\x09\x86\x07http://", "\x30\x80", "\xff"} {
		f.Add([]byte(b))
	}
	leaf := &x509.Certificate{CRLDistributionPoints: []string{"http://"}}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p issuingDistributionPoint
		if rest, err := asn1.Unmarshal(b, &p); err != nil || len(rest) > 0 {
			return
		}
		if p.covers(leaf) && (p.CACerts || p.Indirect || p.AttributeCerts || p.SomeReasons.BitLength > 0) {
			t.Fatalf("%+v covers a leaf", p)
		}
		if len(b) == 2 && !p.covers(leaf) {
			t.Fatalf("%+v covers nothing", p)
		}
	})
}
