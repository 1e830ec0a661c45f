package notation

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/notaryproject/notation-core-go/revocation"
	"github.com/notaryproject/notation-core-go/revocation/crl"
	"github.com/notaryproject/notation-core-go/revocation/purpose"
	"github.com/notaryproject/notation-core-go/revocation/result"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/trust"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// watch is a clock that tests move; the library's own clock goes on as it is.
type watch struct{ ahead atomic.Int64 }

func (w *watch) now() time.Time          { return time.Now().Add(time.Duration(w.ahead.Load())) }
func (w *watch) advance(d time.Duration) { w.ahead.Add(int64(d)) }

// revocable is a signer whose certificates can be revoked, and its responder.
type revocable struct {
	*testca.Responder
	base  string
	chain *testca.Chain
	clock *watch
	r     *Revocation
	// patience is how long an answer may take.
	patience time.Duration
}

func newRevocable(tb testing.TB, ocsp, crl bool, o testca.ResponderOptions) *revocable {
	tb.Helper()
	clock := &watch{}
	o.Clock = clock.now
	r, base := testca.StartResponder(tb, o)
	c := &revocable{Responder: r, base: base, clock: clock}
	c.wait(time.Minute)
	c.chain = testca.Test(tb, testca.Options{Intermediates: []testca.Spec{{}}, Revocation: base, OCSP: ocsp, CRL: crl})
	r.Add(c.chain)
	return c
}

// wait sets the patience, and forgets all answers.
func (c *revocable) wait(d time.Duration) {
	c.patience = d
	c.r = NewRevocation(RevocationOptions{AllowedNetworks: loopback, Clock: c.clock.now, OCSPTimeout: d, CRLTimeout: d})
}

func (c *revocable) verifier(tb testing.TB, change ...func(*TrustPolicyDoc)) *Verifier {
	tb.Helper()
	s := setup{statement: statementOf(change...), stores: []*trust.Store{store(tb, trust.TypeCA, "release", c.chain), store(tb, trust.TypeSigningAuthority, "release", c.chain)}, revocation: c.r}
	return s.verifier(tb)
}

func (c *revocable) requests() int {
	return c.Requests("ocsp") + c.Requests("crl") + c.Requests("delta")
}

// ask verifies and returns the cause, "outage" for an outage.
func (c *revocable) ask(tb testing.TB, change ...func(*TrustPolicyDoc)) (boltseal.Cause, boltseal.Evidence) {
	tb.Helper()
	return askFor(tb, c.verifier(tb, change...), sign(tb, c.chain, testca.SignOptions{}))
}

const outage boltseal.Cause = "outage"

func askFor(tb testing.TB, v *Verifier, env testca.Envelope) (boltseal.Cause, boltseal.Evidence) {
	tb.Helper()
	ev, err := v.Verify(tb.Context(), subject(tb), candidate(env))
	var se *boltseal.StoreError
	switch {
	case errors.Is(err, boltseal.ErrUnavailable) && errors.As(err, &se) && se.Host != "":
		if ev.Outcome != boltseal.Rejected {
			tb.Errorf("an outage with outcome %v", ev.Outcome)
		}
		return outage, ev
	case err != nil:
		tb.Fatal(err)
	}
	return ev.Reason.Cause, ev
}

// TestRevocation is every status and fault of OCSP and of CRLs, at the levels,
// beside what notation-core-go says of the same chain.
func TestRevocation(t *testing.T) {
	t.Parallel()
	type with struct{ ocsp, crl bool }
	o, l, both := with{ocsp: true}, with{crl: true}, with{true, true}
	nothing := func(*testing.T, *revocable) {}
	revoke := func(i int) func(*testing.T, *revocable) {
		return func(t *testing.T, c *revocable) {
			if err := c.Revoke(c.chain, c.chain.Certs[i], testca.Revocation{Reason: 1}); err != nil {
				t.Fatal(err)
			}
		}
	}
	fail := func(ocsp, crl testca.Fault) func(*testing.T, *revocable) {
		return func(_ *testing.T, c *revocable) {
			c.Fail(ocsp, crl)
			if ocsp == testca.Hang || crl == testca.Hang {
				c.wait(200 * time.Millisecond)
			}
		}
	}
	none := testca.NoFault
	const proofless = boltseal.CauseRevocation
	for _, c := range []struct {
		name string
		with with
		do   func(*testing.T, *revocable)
		want boltseal.Cause
	}{
		{"good by OCSP", o, nothing, ""},
		{"good by CRL", l, nothing, ""},
		{"good by either", both, nothing, ""},
		{"leaf revoked by OCSP", o, revoke(0), boltseal.CauseRevoked},
		{"leaf revoked by CRL", l, revoke(0), boltseal.CauseRevoked},
		{"intermediate revoked by OCSP", o, revoke(1), boltseal.CauseRevoked},
		{"intermediate revoked by CRL", l, revoke(1), boltseal.CauseRevoked},
		{"unknown to OCSP", o, func(_ *testing.T, c *revocable) { c.Forget(c.chain.Leaf()) }, proofless},
		{"unknown to OCSP, good by CRL", both, func(_ *testing.T, c *revocable) { c.Forget(c.chain.Leaf()) }, ""},
		{"on hold by CRL", l, func(t *testing.T, c *revocable) {
			if err := c.Revoke(c.chain, c.chain.Leaf(), testca.Revocation{Reason: 6}); err != nil {
				t.Fatal(err)
			}
		}, boltseal.CauseRevoked},

		{"OCSP stale", o, fail(testca.Stale, none), proofless},
		{"OCSP stale, good by CRL", both, fail(testca.Stale, none), ""},
		{"OCSP wrongly signed", o, fail(testca.WronglySigned, none), proofless},
		{"OCSP wrongly signed, revoked by CRL", both, func(t *testing.T, c *revocable) {
			c.Fail(testca.WronglySigned, none)
			revoke(0)(t, c)
		}, boltseal.CauseRevoked},
		{"OCSP garbage", o, fail(testca.Garbage, none), proofless},
		{"OCSP oversized", o, fail(testca.Oversized, none), proofless},
		{"OCSP of another certificate", o, fail(testca.OtherSerial, none), proofless},
		{"OCSP without next update", o, fail(testca.NoNextUpdate, none), proofless},
		{"OCSP not found", o, fail(testca.NotFound, none), proofless},
		{"OCSP error", o, fail(testca.ServerError, none), outage},
		{"OCSP hangs", o, fail(testca.Hang, none), outage},
		{"OCSP error, good by CRL", both, fail(testca.ServerError, none), ""},
		{"OCSP error, CRL error", both, fail(testca.ServerError, testca.ServerError), outage},

		{"CRL stale", l, fail(none, testca.Stale), proofless},
		{"CRL wrongly signed", l, fail(none, testca.WronglySigned), proofless},
		{"CRL garbage", l, fail(none, testca.Garbage), proofless},
		{"CRL oversized", l, fail(none, testca.Oversized), proofless},
		{"CRL without next update", l, fail(none, testca.NoNextUpdate), proofless},
		{"CRL not found", l, fail(none, testca.NotFound), proofless},
		{"CRL error", l, fail(none, testca.ServerError), outage},
		{"CRL hangs", l, fail(none, testca.Hang), outage},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			house := newRevocable(t, c.with.ocsp, c.with.crl, testca.ResponderOptions{})
			c.do(t, house)
			got, ev := house.ask(t)
			if got != c.want {
				t.Errorf("strict: %q, %+v, want %q", got, ev.Reason, c.want)
			}
			if got != outage {
				expectCause(t, ev, c.want)
			}
			if c.want == boltseal.CauseRevocation && (ev.ValidUntil.IsZero() || ev.ValidUntil.After(time.Now().Add(statusRetry))) {
				t.Errorf("what could be well in a minute stays refused until %v", ev.ValidUntil)
			}
			got, ev = house.ask(t, level("permissive"))
			want := boltseal.CheckLogged
			if c.want == "" {
				want = boltseal.CheckPassed
			}
			if got != "" || outcomes(ev)["revocation"] != want {
				t.Errorf("permissive: %q, %+v", got, ev)
			}
			before := house.requests()
			got, ev = house.ask(t, override("revocation", "skip"))
			if got != "" || outcomes(ev)["revocation"] != boltseal.CheckSkipped || house.requests() != before {
				t.Errorf("skip: %q, %+v, %d requests", got, ev, house.requests()-before)
			}
			theirs := house.core(t, time.Time{})
			if same := map[boltseal.Cause]result.Result{"": result.ResultOK, boltseal.CauseRevoked: result.ResultRevoked, proofless: result.ResultUnknown, outage: result.ResultUnknown}[c.want]; theirs != same {
				t.Errorf("notation-core-go says %v, we say %q", theirs, c.want)
			}
		})
	}
}

// core is what notation-core-go says of a chain, by notation-go's rule:
// revoked before unknown before OK.
func (c *revocable) core(tb testing.TB, at time.Time) result.Result {
	tb.Helper()
	return coreResult(tb, c.chain, at, c.patience)
}

func coreResult(tb testing.TB, chain *testca.Chain, at time.Time, patience time.Duration) result.Result {
	tb.Helper()
	v := must(revocation.NewWithOptions(revocation.Options{OCSPHTTPClient: &http.Client{Timeout: patience}, CertChainPurpose: purpose.CodeSigning,
		CRLFetcher: must(crl.NewHTTPFetcher(&http.Client{Timeout: patience}))(tb)}))(tb)
	results := must(v.ValidateContext(tb.Context(), revocation.ValidateContextOptions{CertChain: chain.X509(), AuthenticSigningTime: at}))(tb)
	all := result.ResultOK
	for _, r := range results {
		switch {
		case r.Result == result.ResultRevoked:
			return result.ResultRevoked
		case r.Result == result.ResultUnknown:
			all = result.ResultUnknown
		}
	}
	return all
}

// TestInvalidityDate: with a signing authority's time, a revocation counts from
// the date that the CRL states.
func TestInvalidityDate(t *testing.T) {
	t.Parallel()
	now := time.Now().Truncate(time.Second)
	for _, c := range []struct {
		name   string
		scheme string
		signed time.Time
		want   boltseal.Cause
	}{
		{"signed before", testca.SchemeSigningAuthority, now.Add(-3 * time.Hour), ""},
		{"signed after", testca.SchemeSigningAuthority, now.Add(-time.Hour), boltseal.CauseRevoked},
		{"a claim of before", testca.SchemeX509, now.Add(-3 * time.Hour), boltseal.CauseRevoked},
	} {
		house := newRevocable(t, false, true, testca.ResponderOptions{})
		if err := house.Revoke(house.chain, house.chain.Leaf(), testca.Revocation{Reason: 1, InvalidSince: now.Add(-2 * time.Hour)}); err != nil {
			t.Fatal(err)
		}
		env := sign(t, house.chain, testca.SignOptions{Scheme: c.scheme, SigningTime: c.signed})
		v := house.verifier(t, stores("ca:release", "signingAuthority:release"))
		for range 2 {
			if got, ev := askFor(t, v, env); got != c.want {
				t.Errorf("%s: %q, %+v", c.name, got, ev.Reason)
			}
		}
		at := c.signed
		if c.scheme == testca.SchemeX509 {
			at = time.Time{}
		}
		if theirs := house.core(t, at); (theirs == result.ResultOK) != (c.want == "") {
			t.Errorf("%s: notation-core-go says %v", c.name, theirs)
		}
	}
}

func TestDeltaCRL(t *testing.T) {
	t.Parallel()
	house := newRevocable(t, false, true, testca.ResponderOptions{DeltaCRL: true})
	if got, ev := house.ask(t); got != "" {
		t.Fatalf("%q, %+v", got, ev.Reason)
	}
	house.FreezeBase()
	if err := house.Revoke(house.chain, house.chain.Leaf(), testca.Revocation{Reason: 1}); err != nil {
		t.Fatal(err)
	}
	if got, ev := house.ask(t); got != "" {
		t.Errorf("the answer was good until its next update: %q, %+v", got, ev.Reason)
	}
	house.clock.advance(2 * time.Hour)
	if got, ev := house.ask(t); got != boltseal.CauseRevoked {
		t.Errorf("%q, %+v", got, ev.Reason)
	}
	if house.Requests("delta") == 0 || house.core(t, time.Time{}) != result.ResultRevoked {
		t.Error("no delta CRL")
	}
}

// TestStrangersNameNoServers: an untrusted chain must not make us call its
// servers, at any level.
func TestStrangersNameNoServers(t *testing.T) {
	t.Parallel()
	house := newRevocable(t, true, true, testca.ResponderOptions{})
	other := store(t, trust.TypeCA, "release", testca.Test(t, testca.Options{}))
	env := sign(t, house.chain, testca.SignOptions{})
	for _, l := range []string{"strict", "permissive", "audit"} {
		v := setup{statement: statementOf(level(l), override("revocation", "enforce")), stores: []*trust.Store{other}, revocation: house.r}.verifier(t)
		ev := verify(t, v, env)
		if l == "audit" && (ev.Outcome != boltseal.Verified || outcomes(ev)["revocation"] != boltseal.CheckSkipped) {
			t.Errorf("%+v", ev)
		}
	}
	if n := house.requests(); n > 0 {
		t.Errorf("%d requests", n)
	}
}

// TestPrivateResponders: addresses that a certificate names are judged when they
// are dialled, whatever name they go by.
func TestPrivateResponders(t *testing.T) {
	t.Parallel()
	for _, base := range []func(string) string{
		func(s string) string { return s },
		func(s string) string { return strings.Replace(s, "127.0.0.1", "localhost", 1) },
		func(s string) string { return strings.Replace(s, "127.0.0.1", "127.1.2.3", 1) },
		func(s string) string { return strings.Replace(s, "127.0.0.1", "[::ffff:127.0.0.1]", 1) },
		func(s string) string { return strings.Replace(s, "127.0.0.1", "0.0.0.0", 1) },
	} {
		r, address := testca.StartResponder(t, testca.ResponderOptions{})
		chain := testca.Test(t, testca.Options{Revocation: base(address), OCSP: true, CRL: true})
		r.Add(chain)
		got, ev := askFor(t, trusting(t, chain), sign(t, chain, testca.SignOptions{}))
		if n := r.Requests("ocsp") + r.Requests("crl"); got != boltseal.CauseRevocation || n > 0 || !strings.Contains(ev.Reason.Message, "a private address") {
			t.Errorf("%s: %q, %d requests, %+v", base(address), got, n, ev.Reason)
		}
	}
	if newResponderClient(RevocationOptions{}).transport.Proxy != nil {
		t.Error("a proxy would dial what is refused here")
	}
}

func TestRedirectsAndSchemes(t *testing.T) {
	t.Parallel()
	var reached atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(elsewhere.Close)
	here := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusFound))
	t.Cleanup(here.Close)
	for _, spec := range []testca.Spec{
		{OCSP: []string{here.URL}}, {CRL: []string{here.URL}}, {OCSP: []string{"https://ocsp.example"}}, {CRL: []string{"https://crl.example/a.crl"}},
		{CRL: []string{"ldap:///CN=a?certificateRevocationList"}}, {CRL: []string{"file:///etc/passwd"}}, {OCSP: []string{"http://"}}, {CRL: []string{"http://a b/"}},
		{OCSP: slices.Repeat([]string{here.URL}, maxResponders+1)},
	} {
		chain := testca.Test(t, testca.Options{Leaf: spec})
		v := setup{statement: statementOf(), stores: []*trust.Store{store(t, trust.TypeCA, "release", chain)},
			revocation: NewRevocation(RevocationOptions{AllowedNetworks: loopback})}.verifier(t)
		ev, err := v.Verify(t.Context(), subject(t), candidate(sign(t, chain, testca.SignOptions{})))
		if err == nil && ev.Reason.Cause != boltseal.CauseRevocation || err != nil && !errors.Is(err, boltseal.ErrUnavailable) {
			t.Errorf("%v %v: %+v, %v", spec.OCSP, spec.CRL, ev.Reason, err)
		}
	}
	if reached.Load() > 0 {
		t.Error("a redirect was followed")
	}
}

func TestUnreachableResponder(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(nil)
	gone.Close()
	chain := testca.Test(t, testca.Options{Leaf: testca.Spec{OCSP: []string{gone.URL}}})
	s := setup{statement: statementOf(), stores: []*trust.Store{store(t, trust.TypeCA, "release", chain)}, revocation: NewRevocation(RevocationOptions{AllowedNetworks: loopback})}
	env := sign(t, chain, testca.SignOptions{})
	_, err := s.verifier(t).Verify(t.Context(), subject(t), candidate(env))
	r := boltseal.ReasonOf(err)
	if host := strings.TrimPrefix(gone.URL, "http://"); r.Cause != boltseal.CauseUnavailable || !strings.Contains(r.Message, host) || !strings.Contains(r.Remedy, host) {
		t.Errorf("%+v", r)
	}
	s.statement = statementOf(level("permissive"))
	expectCause(t, verify(t, s.verifier(t), env), "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.statement = statementOf()
	if _, err := s.verifier(t).Verify(ctx, subject(t), candidate(env)); !errors.Is(err, boltseal.ErrUnavailable) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestAllowedAddresses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1111": true, "100.128.0.1": true, "192.0.1.1": true, "64:ff9b::808:808": true,
		"127.0.0.1": false, "10.0.0.1": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false, "100.100.100.200": false,
		"168.63.129.16": false, "192.0.0.192": false, "0.0.0.0": false, "0.1.2.3": false, "224.0.0.1": false, "255.255.255.255": false, "240.0.0.1": false, "198.18.0.1": false,
		"::": false, "::1": false, "fe80::1": false, "fe80::1%eth0": false, "fd00:ec2::254": false, "fc00::1": false, "ff02::1": false, "::ffff:10.0.0.1": false, "::ffff:169.254.169.254": false,
		"64:ff9b::a9fe:a9fe": false, "64:ff9b::7f00:1": false, "64:ff9b:1::a00:1": false, "2002:7f00:1::": false, "2002:a9fe:a9fe::": false, "2001:0:a00:1::": false, "fec0::1": false,
	} {
		if got := allowedAddress(netip.MustParseAddr(text).Unmap(), nil); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	networks := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00:1::/32")}
	for text, want := range map[string]bool{"10.1.2.3": true, "10.2.0.1": false, "fd00:1::5": true, "fd00:2::5": false, "64:ff9b::a01:203": true, "169.254.169.254": false, "8.8.8.8": true} {
		if got := allowedAddress(netip.MustParseAddr(text), networks); got != want {
			t.Errorf("%s with allowed networks: %v", text, got)
		}
	}
}
