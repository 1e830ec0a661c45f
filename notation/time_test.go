package notation

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
	"time"

	"github.com/notaryproject/tspclient-go"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/trust"
)

const day = 24 * time.Hour

// start is when the certificates of these tests begin; leaves end 30 days later.
var (
	start = time.Date(2031, 3, 1, 12, 0, 0, 0, time.UTC)
	end   = start.Add(30 * day)
)

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

func timedChain(tb testing.TB) *testca.Chain {
	tb.Helper()
	return testca.Test(tb, testca.Options{Clock: at(start.Add(day)), Leaf: testca.Spec{NotBefore: start, NotAfter: end},
		Intermediates: []testca.Spec{{NotBefore: start.Add(-day), NotAfter: end.Add(day)}},
		Root:          testca.Spec{NotBefore: start.Add(-day), NotAfter: end.Add(365 * day)}})
}

// tsa makes an authority whose clock stands at a time, with a root ca that lives.
func tsa(tb testing.TB, when time.Time, o testca.TSAOptions, leaf testca.Spec, intermediates ...testca.Spec) *testca.TSA {
	tb.Helper()
	if leaf.NotBefore.IsZero() {
		leaf.NotBefore, leaf.NotAfter = start.Add(-day), end.Add(365*day)
	}
	for i := range intermediates {
		intermediates[i].NotBefore, intermediates[i].NotAfter = start.Add(-day), end.Add(365*day)
	}
	o.Clock = at(when)
	o.Chain = testca.Test(tb, testca.Options{Clock: at(start), Timestamping: true, Leaf: leaf, Intermediates: intermediates,
		Root: testca.Spec{NotBefore: start.Add(-2 * day), NotAfter: end.Add(2 * 365 * day)}})
	return must(testca.NewTSA(o))(tb)
}

func TestTimeWithoutTimestamp(t *testing.T) {
	t.Parallel()
	chain := timedChain(t)
	stores3 := []*trust.Store{store(t, trust.TypeCA, "release", chain), store(t, trust.TypeSigningAuthority, "release", chain), store(t, trust.TypeTSA, "time", testca.Test(t, testca.Options{}))}
	for _, c := range []struct {
		name   string
		scheme string
		signed time.Time // what the envelope says
		now    time.Time
		want   boltseal.Cause
	}{
		{"within", testca.SchemeX509, start.Add(day), start.Add(2 * day), ""},
		{"at the first moment", testca.SchemeX509, start, start, ""},
		{"at the last moment", testca.SchemeX509, start.Add(day), end, ""},
		{"before", testca.SchemeX509, start.Add(day), start.Add(-time.Second), boltseal.CauseCertificateExpired},
		{"after", testca.SchemeX509, start.Add(day), end.Add(time.Second), boltseal.CauseCertificateExpired},
		{"after the intermediate too", testca.SchemeX509, start.Add(day), end.Add(2 * day), boltseal.CauseCertificateExpired},
		{"a claim of earlier is not believed", testca.SchemeX509, start.Add(day), end.Add(day), boltseal.CauseCertificateExpired},
		{"a claim of later does not matter", testca.SchemeX509, end.Add(365 * day), start.Add(2 * day), ""},

		{"authority: within", testca.SchemeSigningAuthority, start.Add(day), start.Add(2 * day), ""},
		{"authority: signed within, seen after", testca.SchemeSigningAuthority, start.Add(day), end.Add(1000 * day), ""},
		{"authority: signed at the last moment", testca.SchemeSigningAuthority, end, end.Add(1000 * day), ""},
		{"authority: signed at the first moment", testca.SchemeSigningAuthority, start, start.Add(day), ""},
		{"authority: signed after", testca.SchemeSigningAuthority, end.Add(time.Second), end.Add(2 * time.Second), boltseal.CauseCertificateExpired},
		{"authority: signed before", testca.SchemeSigningAuthority, start.Add(-time.Second), start.Add(day), boltseal.CauseCertificateExpired},
	} {
		for _, format := range []testca.Format{testca.JWS, testca.COSE} {
			env := sign(t, chain, testca.SignOptions{Scheme: c.scheme, SigningTime: c.signed, Format: format, Unchecked: true})
			names := []string{"ca:release", "signingAuthority:release"}
			if c.scheme == testca.SchemeSigningAuthority {
				names = append(names, "tsa:time") // asks nothing of this scheme
			}
			ev := verify(t, setup{statement: statementOf(stores(names...)), stores: stores3, now: c.now}.verifier(t), env)
			if ev.Reason.Cause != c.want || !ev.TimestampAt.IsZero() {
				t.Errorf("%s in %s: %+v", c.name, format, ev.Reason)
			}
			expectCause(t, ev, c.want)
			switch {
			case c.want == "" && c.scheme == testca.SchemeX509 && !ev.ValidUntil.Equal(end):
				t.Errorf("%s: valid until %v, want the leaf's end", c.name, ev.ValidUntil)
			case c.want == "" && c.scheme != testca.SchemeX509 && !ev.ValidUntil.IsZero():
				t.Errorf("%s: valid until %v although time is past", c.name, ev.ValidUntil)
			case c.name == "before" && !ev.ValidUntil.Equal(start):
				t.Errorf("%s: refused until %v, want the leaf's begin", c.name, ev.ValidUntil)
			}
		}
	}
}

func TestSignatureExpiry(t *testing.T) {
	t.Parallel()
	chain := timedChain(t)
	expiry := start.Add(2 * day)
	env := sign(t, chain, testca.SignOptions{SigningTime: start.Add(day), Expiry: expiry})
	for now, want := range map[time.Time]boltseal.Cause{expiry.Add(-time.Nanosecond): "", expiry: boltseal.CauseSignatureExpired, expiry.Add(day): boltseal.CauseSignatureExpired} {
		ev := verify(t, setup{statement: statementOf(), stores: []*trust.Store{store(t, trust.TypeCA, "release", chain)}, now: now}.verifier(t), env)
		expectCause(t, ev, want)
		if want == "" && !ev.ValidUntil.Equal(expiry) {
			t.Errorf("valid until %v", ev.ValidUntil)
		}
	}
}

func TestTimestamp(t *testing.T) {
	t.Parallel()
	signed := start.Add(10 * day)
	leafExpired, caExpired, tsaExpired := end.Add(time.Hour), end.Add(2*day), end.Add(500*day)
	plain := testca.Spec{}
	eku := func(critical bool, list ...asn1.ObjectIdentifier) testca.Spec {
		return testca.Spec{NoEKU: true, Extensions: []pkix.Extension{testca.EKUExtension(critical, list...)}}
	}
	stamping, codeSigning := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3}
	for _, c := range []struct {
		name   string
		tsa    *testca.TSA // nil = no token
		always bool
		now    time.Time
		want   boltseal.Cause
	}{
		{"good", tsa(t, signed, testca.TSAOptions{}, plain), true, signed.Add(day), ""},
		{"good, leaf expired", tsa(t, signed, testca.TSAOptions{}, plain), true, leafExpired, ""},
		{"good, leaf and CA expired", tsa(t, signed, testca.TSAOptions{}, plain), true, caExpired, ""},
		{"good, the authority itself expired since", tsa(t, signed, testca.TSAOptions{}, plain), true, tsaExpired, ""},
		{"good, with an intermediate", tsa(t, signed, testca.TSAOptions{}, plain, testca.Spec{}), true, leafExpired, ""},
		{"good, with an intermediate for time stamping", tsa(t, signed, testca.TSAOptions{}, plain, testca.Spec{EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}}), true, leafExpired, ""},
		{"good, RSA", tsa(t, signed, testca.TSAOptions{}, testca.Spec{Key: testca.RSA2048}), true, leafExpired, ""},
		{"good, asked for after expiry only", tsa(t, signed, testca.TSAOptions{}, plain), false, leafExpired, ""},
		{"none", nil, true, signed.Add(day), boltseal.CauseTimestamp},
		{"none, leaf expired", nil, true, leafExpired, boltseal.CauseTimestamp},
		{"none, asked for after expiry only", nil, false, signed.Add(day), ""},
		{"none, asked for after expiry, which has come", nil, false, leafExpired, boltseal.CauseTimestamp},
		{"bad, asked for after expiry only", tsa(t, signed, testca.TSAOptions{WrongImprint: true}, plain), false, signed.Add(day), ""},
		{"bad, asked for after expiry, which has come", tsa(t, signed, testca.TSAOptions{WrongImprint: true}, plain), false, leafExpired, boltseal.CauseTimestamp},

		{"at the leaf's last moment", tsa(t, end, testca.TSAOptions{Accuracy: time.Microsecond}, plain), true, leafExpired, boltseal.CauseCertificateExpired},
		{"after the leaf's end", tsa(t, end.Add(time.Minute), testca.TSAOptions{}, plain), true, leafExpired, boltseal.CauseCertificateExpired},
		{"before the leaf's begin", tsa(t, start.Add(-time.Minute), testca.TSAOptions{}, plain), true, leafExpired, boltseal.CauseCertificateExpired},
		{"as accurate as needed", tsa(t, end.Add(-time.Minute), testca.TSAOptions{Accuracy: time.Minute}, plain), true, leafExpired, ""},
		{"too coarse at the end", tsa(t, end.Add(-time.Minute), testca.TSAOptions{Accuracy: time.Minute + time.Millisecond}, plain), true, leafExpired, boltseal.CauseCertificateExpired},
		{"too coarse at the begin", tsa(t, start.Add(time.Minute), testca.TSAOptions{Accuracy: time.Minute + time.Millisecond}, plain), true, leafExpired, boltseal.CauseCertificateExpired},
		{"a second by policy, reached", tsa(t, end, testca.TSAOptions{}, plain), true, leafExpired, boltseal.CauseCertificateExpired},
		{"a second by policy, not reached", tsa(t, end.Add(-time.Second), testca.TSAOptions{}, plain), true, leafExpired, ""},

		{"wrong imprint", tsa(t, signed, testca.TSAOptions{WrongImprint: true}, plain), true, signed.Add(day), boltseal.CauseTimestamp},
		{"wrong digest", tsa(t, signed, testca.TSAOptions{WrongDigest: true}, plain), true, signed.Add(day), boltseal.CauseTimestamp},
		{"broken signature", tsa(t, signed, testca.TSAOptions{BreakSignature: true}, plain), true, signed.Add(day), boltseal.CauseTimestamp},
		{"no certificates", tsa(t, signed, testca.TSAOptions{NoCertificates: true}, plain), true, signed.Add(day), boltseal.CauseTimestamp},
		{"no signing-certificate-v2", tsa(t, signed, testca.TSAOptions{NoSigningCertificate: true}, plain), true, signed.Add(day), boltseal.CauseTimestamp},
		{"another signing-certificate-v2", tsa(t, signed, testca.TSAOptions{WrongSigningCertificate: true}, plain), true, signed.Add(day), boltseal.CauseTimestamp},
		{"version 2", tsa(t, signed, testca.TSAOptions{Mutate: func(i *tspclient.TSTInfo) { i.Version = 2 }}, plain), true, signed.Add(day), boltseal.CauseTimestamp},

		{"authority expired then", tsa(t, signed, testca.TSAOptions{}, testca.Spec{NotBefore: start.Add(-2 * day), NotAfter: start.Add(day)}), true, signed.Add(day), boltseal.CauseTimestamp},
		{"authority not yet valid then", tsa(t, signed, testca.TSAOptions{}, testca.Spec{NotBefore: signed.Add(time.Hour), NotAfter: end}), true, signed.Add(day), boltseal.CauseTimestamp},
		{"authority for code signing", tsa(t, signed, testca.TSAOptions{}, eku(true, codeSigning)), true, signed.Add(day), boltseal.CauseTimestamp},
		{"authority for code signing too", tsa(t, signed, testca.TSAOptions{}, eku(true, stamping, codeSigning)), true, signed.Add(day), boltseal.CauseTimestamp},
		{"authority's usage not critical", tsa(t, signed, testca.TSAOptions{}, eku(false, stamping)), true, signed.Add(day), boltseal.CauseTimestamp},
		{"authority's CA for code signing", tsa(t, signed, testca.TSAOptions{}, plain, testca.Spec{EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}), true, signed.Add(day), boltseal.CauseTimestamp},
		{"authority's key usage", tsa(t, signed, testca.TSAOptions{}, testca.Spec{KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment}), true, signed.Add(day), boltseal.CauseTimestamp},
		{"authority with P-224", tsa(t, signed, testca.TSAOptions{}, testca.Spec{Key: testca.P224}), true, signed.Add(day), boltseal.CauseTimestamp},
		{"authority with RSA-1024", tsa(t, signed, testca.TSAOptions{}, testca.Spec{Key: testca.RSA1024}), true, signed.Add(day), boltseal.CauseTimestamp},
	} {
		for _, format := range []testca.Format{testca.JWS, testca.COSE} {
			t.Run(c.name+" in "+format.String(), func(t *testing.T) {
				t.Parallel()
				chain := timedChain(t)
				roots := testca.Test(t, testca.Options{})
				if c.tsa != nil {
					roots = c.tsa.Chain
				}
				env := sign(t, chain, testca.SignOptions{Format: format, SigningTime: signed, TSA: c.tsa, Unchecked: true})
				when := "always"
				if !c.always {
					when = "afterCertExpiry"
				}
				v := setup{statement: statementOf(stores("ca:release", "tsa:time"), verifyTimestamp(when)), now: c.now,
					stores: []*trust.Store{store(t, trust.TypeCA, "release", chain), store(t, trust.TypeTSA, "time", roots)}}.verifier(t)
				ev := verify(t, v, env)
				expectCause(t, ev, c.want)
				used := c.want == "" && c.tsa != nil && (c.always || c.now.After(end))
				if ev.TimestampAt.IsZero() == used {
					t.Errorf("timestamp at %v", ev.TimestampAt)
				}
				if used && !ev.ValidUntil.IsZero() {
					t.Errorf("valid until %v although a timestamp outlives the certificate", ev.ValidUntil)
				}
				if c.want == "" && !used && !ev.ValidUntil.Equal(end) {
					t.Errorf("valid until %v without a timestamp", ev.ValidUntil)
				}
			})
		}
	}
}

// TestForeignTokens are tokens that are no answer to this signature.
func TestForeignTokens(t *testing.T) {
	t.Parallel()
	chain, signed := timedChain(t), start.Add(10*day)
	authority, stranger := tsa(t, signed, testca.TSAOptions{}, testca.Spec{}), tsa(t, signed, testca.TSAOptions{}, testca.Spec{})
	other := must(authority.Token([]byte("another signature"), 5))(t)
	s := setup{statement: statementOf(stores("ca:release", "tsa:time")), now: end.Add(time.Hour),
		stores: []*trust.Store{store(t, trust.TypeCA, "release", chain), store(t, trust.TypeTSA, "time", authority.Chain)}}
	for name, o := range map[string]testca.SignOptions{
		"of a stranger":          {TSA: stranger},
		"of another signature":   {Timestamp: other},
		"garbage":                {Timestamp: []byte("garbage")},
		"cut off":                {Timestamp: other[:len(other)/2]},
		"with something after":   {Timestamp: append(bytes.Clone(other), 0)},
		"long garbage":           {Timestamp: bytes.Repeat([]byte{0x30, 0x80}, 100_000)},
		"a sequence of the size": {Timestamp: []byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff}},
	} {
		o.SigningTime, o.Unchecked = signed, true
		expectCause(t, verify(t, s.verifier(t), sign(t, chain, o)), boltseal.CauseTimestamp)
		t.Log(name)
	}
	// The root of the signer in a tsa store makes it no authority.
	s.stores[1] = store(t, trust.TypeTSA, "time", chain)
	expectCause(t, verify(t, s.verifier(t), sign(t, chain, testca.SignOptions{TSA: authority, SigningTime: signed, Unchecked: true})), boltseal.CauseTimestamp)
}
