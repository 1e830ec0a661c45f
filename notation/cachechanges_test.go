package notation

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/trust"
)

// TestKnownChainsChangeNothing: whoever signs, whoever is trusted, at whatever time and
// by whatever trust policy, a verifier that shares what is known of certificates with all
// others says what one says that knows nothing.
func TestKnownChainsChangeNothing(t *testing.T) {
	t.Parallel()
	const seed = 3
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's
	short := func() *testca.Chain { return timedChain(t) }
	chains := []*testca.Chain{short(), short()}
	// The same names and the same CA's key, in other certificates; another leaf of the same CA.
	root := chains[0].Root()
	chains = append(chains,
		testca.Test(t, testca.Options{Clock: at(start.Add(day)), Leaf: testca.Spec{NotBefore: start, NotAfter: end},
			Root: testca.Spec{Signer: root.Key, Subject: root.Certificate.Subject, NotBefore: start.Add(-day), NotAfter: end.Add(365 * day)}}),
		must(chains[0].IssueLeaf(testca.Spec{CommonName: "another", NotBefore: start, NotAfter: end}))(t),
		chains[1].WithCerts(chains[1].Certs[0], chains[0].Certs[1], chains[0].Certs[2]))
	var envelopes []testca.Envelope
	for _, c := range chains {
		for _, f := range []testca.Format{testca.JWS, testca.COSE} {
			env := sign(t, c, testca.SignOptions{Format: f, SigningTime: start.Add(day), Unchecked: true})
			broken := env
			broken.Content = slices.Clone(env.Content)
			broken.Content[len(broken.Content)/2] ^= 1
			envelopes = append(envelopes, env, broken)
		}
	}
	shared, verdicts := NewChainCache(0), map[string]int{}
	for i := range 400 {
		var stores []*trust.Store
		var names []string
		for n := range 1 + r.IntN(2) {
			name := fmt.Sprint("s", n)
			stores, names = append(stores, store(t, trust.TypeCA, name, chains[r.IntN(3)])), append(names, "ca:"+name)
		}
		d := statementOf(level([]string{"strict", "permissive", "audit"}[r.IntN(3)]))
		d.TrustStores = names
		if r.IntN(3) == 0 {
			d.TrustedIdentities = []string{"x509.subject: C=US, ST=WA, O=Boltseal Test, CN=another"}
		}
		s := setup{statement: d, stores: stores, now: []time.Time{start.Add(day), start.Add(-day), end.Add(day), end.Add(400 * day)}[r.IntN(4)]}
		env := envelopes[r.IntN(len(envelopes))]
		alone := plainText(t, verify(t, s.verifier(t), env))
		s.chains = shared
		for _, again := range []string{"", "again"} {
			ev := verify(t, s.verifier(t), env)
			if got := plainText(t, ev); got != alone {
				t.Fatalf("seed %d, draw %d %s:\n%s\nand by itself\n%s", seed, i, again, got, alone)
			}
			verdicts[fmt.Sprint(ev.Outcome)]++
		}
	}
	if certs, _ := shared.certs.Usage(); certs == 0 || len(verdicts) < 2 {
		t.Errorf("%d certificates are known; %v", certs, verdicts)
	}
}

// TestKnownAnswersChangeNothing: what was heard about revocation, of whatever chain and
// for whatever time, makes no verdict on another one.
func TestKnownAnswersChangeNothing(t *testing.T) {
	t.Parallel()
	const seed = 5
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's
	responder, base := testca.StartResponder(t, testca.ResponderOptions{Lifetime: 24 * time.Hour})
	var chains []*testca.Chain
	for i := range 3 {
		c := testca.Test(t, testca.Options{Intermediates: []testca.Spec{{}}, Revocation: base, OCSP: i != 1, CRL: i != 0})
		responder.Add(c)
		chains = append(chains, c, must(c.IssueLeaf(testca.Spec{}))(t), must(c.IssueLeaf(testca.Spec{}))(t))
	}
	began := time.Now()
	for i, at := range []time.Time{began.Add(-time.Hour), began.Add(-3 * time.Hour), {}, began.Add(-time.Hour)} {
		if !at.IsZero() {
			if err := responder.Revoke(chains[2*i], chains[2*i].Leaf(), testca.Revocation{At: at}); err != nil {
				t.Fatal(err)
			}
		}
	}
	forget := func() *Revocation {
		return NewRevocation(RevocationOptions{AllowedNetworks: loopback, OCSPTimeout: time.Minute, CRLTimeout: time.Minute})
	}
	shared, verdicts := forget(), map[string]int{}
	var envelopes []testca.Envelope
	for _, c := range chains {
		for _, o := range []testca.SignOptions{{}, {Scheme: testca.SchemeSigningAuthority, SigningTime: began.Add(-2 * time.Hour)}, {Scheme: testca.SchemeSigningAuthority, SigningTime: began.Add(-time.Minute)}} {
			envelopes = append(envelopes, sign(t, c, o))
		}
	}
	for i := range 150 {
		n := r.IntN(len(envelopes))
		c := chains[n/3]
		s := setup{statement: statementOf(stores("ca:release", "signingAuthority:release")), revocation: forget(),
			stores: []*trust.Store{store(t, trust.TypeCA, "release", c), store(t, trust.TypeSigningAuthority, "release", c)}}
		told := func() string {
			ev, err := s.verifier(t).Verify(t.Context(), subject(t), candidate(envelopes[n]))
			if err != nil && !errors.Is(err, boltseal.ErrUnavailable) {
				t.Fatal(err)
			}
			return fmt.Sprint(ev.Outcome, " ", ev.Reason.Cause, " ", outcomes(ev)["revocation"], " ", err)
		}
		alone := told()
		s.revocation = shared
		if got := told(); got != alone {
			t.Fatalf("seed %d, draw %d: %s, and by itself %s", seed, i, got, alone)
		}
		verdicts[alone]++
	}
	if len(verdicts) < 2 {
		t.Errorf("all are alike: %v", verdicts)
	}
}

func plainText(t *testing.T, ev boltseal.Evidence) string {
	t.Helper()
	return string(must(json.Marshal(ev))(t))
}
