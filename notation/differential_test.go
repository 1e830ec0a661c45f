package notation

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/trust"
)

// memoryStore is a trust store for notation-go.
type memoryStore map[string][]*x509.Certificate

func (m memoryStore) GetCertificates(_ context.Context, kind truststore.Type, name string) ([]*x509.Certificate, error) {
	certs, ok := m[string(kind)+":"+name]
	if !ok {
		return nil, fmt.Errorf("no trust store %s:%s", kind, name)
	}
	return certs, nil
}

// Why we are stricter than notation-go, besides the chains' reasons.
const (
	strictAttribute = "the specification asks that a critical attribute be processed; notation-go passes over it"
	strictBytes     = "an envelope with unknown members, or with what two readers could read differently"
	strictStamp     = "the specification sets algorithms and key usage for the whole chain of a timestamp authority"
)

// signature is an envelope, with what may be said about it.
type signature struct {
	what    string
	env     testca.Envelope
	chain   *testca.Chain
	reasons []string // for which we may refuse what notation-go takes
}

// world is what the combinations are made of, made once.
type world struct {
	now      time.Time
	chains   []badChain
	made     []*testca.Chain
	tsas     []stamper
	stranger *testca.Chain
	// authorities are stores of timestamp authorities: of all, of every other
	// one, and of none of them.
	authorities []*trust.Store
}

type stamper struct {
	name   string
	tsa    *testca.TSA
	reason string
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{now: time.Now(), stranger: testca.Test(tb, testca.Options{})}
	for _, c := range badChains(w.now) {
		if c.name != "RSA-16384 intermediate" && c.name != "a certificate of 70 kB" { // slow, and alike
			w.chains = append(w.chains, c)
		}
	}
	expired := testca.Spec{NotBefore: w.now.Add(-10 * day), NotAfter: w.now.Add(-day)}
	for range 6 { // times matter with timestamps, so these come often
		w.chains = append(w.chains, badChain{name: "expired, signed before", chain: leafOf(expired)})
	}
	for _, alg := range testca.SigningAlgorithms() {
		w.chains = append(w.chains, badChain{name: string(alg), chain: made(testca.Options{Leaf: testca.Spec{Key: alg}, Intermediates: []testca.Spec{{}}})})
	}
	for range 90 {
		w.chains = append(w.chains, badChain{name: "right", chain: made(testca.Options{Intermediates: []testca.Spec{{}}})})
	}
	for _, c := range w.chains {
		w.made = append(w.made, c.chain(tb))
	}
	w.tsas = w.stampers(tb)
	for _, skip := range []int{len(w.tsas) + 1, len(w.tsas) + 1, 2, 3, 1} {
		roots := w.stranger.X509()[1:]
		for i, stamp := range w.tsas[1:] {
			if (i+1)%skip != 0 {
				roots = append(roots, stamp.tsa.Chain.Root().Certificate)
			}
		}
		w.authorities = append(w.authorities, must(trust.NewStore(trust.TypeTSA, "time", roots))(tb))
	}
	return w
}

func (w *world) stampers(tb testing.TB) []stamper {
	tb.Helper()
	long := testca.Spec{NotBefore: w.now.Add(-100 * day), NotAfter: w.now.Add(100 * day)}
	make := func(name string, before time.Duration, o testca.TSAOptions, leaf testca.Spec, reason string) stamper {
		if leaf.NotBefore.IsZero() {
			leaf.NotBefore, leaf.NotAfter = long.NotBefore, long.NotAfter
		}
		o.Clock = at(w.now.Add(-before))
		o.Chain = testca.Test(tb, testca.Options{Timestamping: true, Leaf: leaf, Root: long})
		return stamper{name, must(testca.NewTSA(o))(tb), reason}
	}
	uncritical := make("key usage not critical", 2*day, testca.TSAOptions{}, testca.Spec{Extensions: extensionOf(false, "\x03\x02\x07\x80", 2, 5, 29, 15)}, strictStamp)
	return []stamper{
		{}, uncritical, uncritical, uncritical,
		make("now", 0, testca.TSAOptions{}, testca.Spec{}, ""),
		make("two days ago", 2*day, testca.TSAOptions{}, testca.Spec{}, ""),
		make("three days ago, coarse", 3*day, testca.TSAOptions{Accuracy: time.Hour}, testca.Spec{}, ""),
		make("a day ago, straddling", day, testca.TSAOptions{Accuracy: time.Minute}, testca.Spec{}, ""),
		make("twenty days ago", 20*day, testca.TSAOptions{}, testca.Spec{}, ""),
		make("wrong imprint", 2*day, testca.TSAOptions{WrongImprint: true}, testca.Spec{}, ""),
		make("broken signature", 2*day, testca.TSAOptions{BreakSignature: true}, testca.Spec{}, ""),
		make("no certificates", 2*day, testca.TSAOptions{NoCertificates: true}, testca.Spec{}, ""),
		make("wrong signing certificate", 2*day, testca.TSAOptions{WrongSigningCertificate: true}, testca.Spec{}, ""),
		make("expired authority", 2*day, testca.TSAOptions{}, testca.Spec{NotBefore: w.now.Add(-20 * day), NotAfter: w.now.Add(-5 * day)}, ""),
		make("authority expired since", 2*day, testca.TSAOptions{}, testca.Spec{NotBefore: w.now.Add(-20 * day), NotAfter: w.now.Add(-day)}, ""),
		make("RSA", 2*day, testca.TSAOptions{}, testca.Spec{Key: testca.RSA2048}, ""),
	}
}

// sign makes a signature of all the ways that there are.
func (w *world) sign(tb testing.TB, r *rand.Rand) signature {
	tb.Helper()
	i := r.IntN(len(w.chains))
	c, chain := w.chains[i], w.made[i]
	o := testca.SignOptions{Unchecked: true, Format: pick(r, testca.JWS, testca.COSE), Scheme: pick(r, testca.SchemeX509, testca.SchemeX509, testca.SchemeSigningAuthority),
		SigningTime: w.now.Add(-pick(r, 0, time.Hour, 2*day, 3*day, 30*day, -time.Hour))}
	s := signature{chain: chain, what: c.name + " " + o.Format.String() + " " + o.Scheme}
	if c.theirs != "" {
		s.reasons = append(s.reasons, c.theirs)
	}
	if r.IntN(3) == 0 {
		o.Expiry = o.SigningTime.Add(pick(r, time.Hour, day, 100*day))
		s.what += " expiry " + o.Expiry.Sub(w.now).String()
	}
	if stamp := pick(r, w.tsas...); stamp.tsa != nil && o.Scheme == testca.SchemeX509 && chain.Leaf().PublicKeyAlgorithm != x509.Ed25519 {
		o.TSA = stamp.tsa
		s.what += " stamped: " + stamp.name
		if stamp.reason != "" {
			s.reasons = append(s.reasons, stamp.reason)
		}
	}
	switch r.IntN(12) {
	case 0:
		o.Attributes = []testca.Attribute{{Key: "io.example.may", Value: "x"}}
	case 1:
		o.Attributes = []testca.Attribute{{Key: "io.example.must", Value: "x", Critical: true}}
		s.reasons = append(s.reasons, strictAttribute)
		s.what += " critical attribute"
	case 2:
		o.Attributes = []testca.Attribute{{Key: "io.cncf.notary.verificationPlugin", Value: "x", Critical: true}}
		s.reasons = append(s.reasons, strictAttribute)
		s.what += " plugin"
	case 3:
		o.Annotations = map[string]string{"a": "b"}
	}
	about := target
	switch r.IntN(20) {
	case 0:
		about.Digest = digest.FromString("other")
		s.what += " of another image"
	case 1:
		about.Size++
		s.what += " of another size"
	case 2:
		about.MediaType = ocispec.MediaTypeImageIndex
		s.what += " of another type"
	}
	s.env = must(chain.Sign(about, o))(tb)
	if r.IntN(8) == 0 {
		b := bytes.Clone(s.env.Content)
		n := r.IntN(len(b))
		switch r.IntN(3) {
		case 0:
			b[n] ^= 1 << r.IntN(8)
		case 1:
			b = slices.Delete(b, n, n+1)
		default:
			b = slices.Insert(b, n, b[r.IntN(len(b))])
		}
		s.env.Content = b
		s.reasons = append(s.reasons, strictBytes)
		s.what += fmt.Sprintf(" changed at %d", n)
	}
	return s
}

// trusted is a trust store's content that both sides take.
func (w *world) trusted(r *rand.Rand, chain *testca.Chain) []*x509.Certificate {
	all := chain.X509()
	switch r.IntN(8) {
	case 0:
		return []*x509.Certificate{w.stranger.Root().Certificate}
	case 1:
		return []*x509.Certificate{w.stranger.Root().Certificate, all[len(all)-1]}
	case 2:
		return []*x509.Certificate{all[r.IntN(len(all))]}
	}
	return all[len(all)-1:]
}

// statement makes a trust policy's statement of all the kinds that there are.
func (w *world) statement(r *rand.Rand, chain *testca.Chain) TrustPolicyDoc {
	d := statementOf(level(pick(r, "strict", "strict", "permissive", "audit")), scopes(pick(r, anyone, repository, repository, repository, anyone, anyone, anyone, "registry.example/other")))
	if r.IntN(20) == 0 {
		d = statementOf(level(levelSkip))
		return d
	}
	d.TrustStores = pick(r, []string{"ca:release"}, []string{"ca:release"}, []string{"signingAuthority:release"}, []string{"ca:release", "signingAuthority:release"},
		[]string{"ca:release", "tsa:time"}, []string{"ca:release", "tsa:time"}, []string{"signingAuthority:release", "tsa:time"}, []string{"ca:other", "ca:release"})
	leaf := "x509.subject:" + chain.Leaf().Subject.String()
	d.TrustedIdentities = pick(r, []string{anyone}, []string{anyone}, []string{anyone}, []string{"x509.subject:C=US,ST=WA,O=Boltseal Test"}, []string{leaf}, []string{whom}, []string{whom, leaf})
	if _, err := NewTrustPolicy(document(d)); err != nil {
		d.TrustedIdentities = []string{anyone} // a leaf's name that cannot be written
	}
	if r.IntN(3) == 0 {
		d.SignatureVerification.Override = map[string]string{}
		for _, check := range []string{checkAuthenticity, checkTimestamp, checkExpiry, checkRevocation} {
			if r.IntN(3) == 0 {
				d.SignatureVerification.Override[check] = pick(r, "enforce", "log")
			}
		}
		if r.IntN(3) == 0 {
			d.SignatureVerification.Override[checkRevocation] = "skip"
		}
	}
	d.SignatureVerification.VerifyTimestamp = pick(r, "", "always", "afterCertExpiry")
	return d
}

// tally counts how the two sides agreed.
type tally struct {
	mu             sync.Mutex
	both, neither  int
	strict, passed map[string]int
}

// TestVerifierDifferential holds thousands of combinations of chain, envelope,
// time, timestamp, trust store and trust policy against notation-go's verifier:
// what we accept it accepts, and what it accepts and we refuse has a name. So it
// is with every single check that both have made.
func TestVerifierDifferential(t *testing.T) {
	t.Parallel()
	const shards, policies = 4, 8
	w := newWorld(t)
	total := &tally{strict: map[string]int{}, passed: map[string]int{}}
	t.Run("shards", func(t *testing.T) {
		for shard := range shards {
			t.Run(fmt.Sprint(shard), func(t *testing.T) {
				t.Parallel()
				r := rand.New(rand.NewPCG(7, uint64(shard)))
				for range differential(t, 6000) / shards / policies {
					s := w.sign(t, r)
					for range policies {
						w.compare(t, r, s, total)
					}
				}
			})
		}
	})
	t.Logf("accepted by both %d, by neither %d, by notation-go alone: %v; single checks passed: %v", total.both, total.neither, total.strict, total.passed)
	for _, reason := range []string{strictAttribute, strictStamp, strictEKU, strictCA, strictName, strictSize} {
		if total.strict[reason] == 0 {
			t.Errorf("nothing was refused because %s", reason)
		}
	}
	if total.both < 500 || total.neither < 500 {
		t.Errorf("accepted by both %d, by neither %d: the combinations are lopsided", total.both, total.neither)
	}
}

func (w *world) compare(t *testing.T, r *rand.Rand, s signature, total *tally) {
	t.Helper()
	d := w.statement(r, s.chain)
	content := w.trusted(r, s.chain)
	if _, err := trust.NewStore(trust.TypeCA, "release", content); err != nil || truststore.ValidateCertificates(content) != nil {
		content = w.stranger.X509()[1:]
	}
	authorities := pick(r, w.authorities...)
	theirStores := memoryStore{"ca:release": content, "signingAuthority:release": content, "ca:other": w.stranger.X509()[1:], "tsa:time": authorities.Certificates()}
	var ourStores []*trust.Store
	for name, certs := range map[string][]*x509.Certificate{"release": content, "other": w.stranger.X509()[1:]} {
		ourStores = append(ourStores, must(trust.NewStore(trust.TypeCA, name, certs))(t), must(trust.NewStore(trust.TypeSigningAuthority, name, certs))(t))
	}
	ourStores = append(ourStores, authorities)
	ev := verify(t, setup{statement: d, stores: ourStores}.verifier(t), s.env)
	v := must(verifier.New(theirs(t, document(d)), theirStores, nil))(t)
	outcome, err := v.Verify(t.Context(), target, s.env.Content,
		notation.VerifierVerifyOptions{ArtifactReference: repository + "@" + target.Digest.String(), SignatureMediaType: s.env.MediaType})

	situation := func() string {
		return fmt.Sprintf("%s\nunder %+v\nours: %v %+v\n%stheirs: %v", s.what, d, ev.Outcome, ev.Reason, describeChecks(ev), err)
	}
	total.mu.Lock()
	defer total.mu.Unlock()
	ours := ev.Outcome == boltseal.Verified
	switch {
	case ours && err != nil:
		t.Fatalf("we accept what notation-go refuses: %s", situation())
	case ours:
		total.both++
	case err != nil:
		total.neither++
	case len(s.reasons) == 0:
		t.Fatalf("we refuse what notation-go accepts, for no reason with a name: %s", situation())
	default:
		total.strict[s.reasons[0]]++
	}
	if outcome == nil {
		return
	}
	for name, theirs := range theirChecks(outcome) {
		mine, made := ourChecks(ev)[name]
		switch {
		case !made:
		case mine && !theirs:
			t.Fatalf("our check %s passes and theirs does not: %s", name, situation())
		case theirs && !mine && len(s.reasons) == 0 && !(name == checkIntegrity && ev.Reason.Cause == boltseal.CauseOtherImage):
			t.Fatalf("our check %s does not pass, and theirs does, for no reason with a name: %s", name, situation())
		case mine:
			total.passed[name]++
		}
	}
}

// theirChecks tells which of notation-go's checks passed.
func theirChecks(o *notation.VerificationOutcome) map[string]bool {
	m := map[string]bool{}
	for _, r := range o.VerificationResults {
		m[string(r.Type)] = r.Error == nil
	}
	// Their identities belong to authenticity, and are not reached when that
	// fails and is enforced: it has failed then.
	return m
}

// ourChecks tells which of ours passed, with the identity as a part of
// authenticity. Skipped ones are left out.
func ourChecks(ev boltseal.Evidence) map[string]bool {
	m := map[string]bool{}
	for _, c := range ev.Checks {
		if c.Outcome != boltseal.CheckSkipped {
			m[c.Name] = c.Outcome == boltseal.CheckPassed
		}
	}
	if identity, made := m["identity"]; made {
		m[checkAuthenticity] = m[checkAuthenticity] && identity
	}
	delete(m, "identity")
	return m
}

// TestLevelsOfNotation: the names of checks and actions are theirs.
func TestLevelsOfNotation(t *testing.T) {
	t.Parallel()
	var types []string
	for _, k := range trustpolicy.ValidationTypes {
		types = append(types, string(k))
	}
	ours := slices.Clone(checkOrder)
	slices.Sort(types)
	slices.Sort(ours)
	if !slices.Equal(types, ours) {
		t.Errorf("%q, notation-go's %q", ours, types)
	}
	var names []string
	for _, l := range trustpolicy.VerificationLevels {
		names = append(names, l.Name)
	}
	slices.Sort(names)
	if got := slices.Sorted(maps.Keys(levels)); !slices.Equal(got, names) {
		t.Errorf("%q, notation-go's %q", got, names)
	}
}
