package notation

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/notaryproject/notation-core-go/revocation/crl"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/trust"
)

// TestAnswersAreKept until their next update, for all certificates that they are
// about, and asked for once.
func TestAnswersAreKept(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"ocsp", "crl"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			house := newRevocable(t, method == "ocsp", method == "crl", testca.ResponderOptions{Lifetime: time.Hour})
			env := sign(t, house.chain, testca.SignOptions{})
			v := house.verifier(t)
			expect := func(step string, env testca.Envelope, cause boltseal.Cause, requests int) boltseal.Evidence {
				t.Helper()
				before := house.requests()
				got, ev := askFor(t, v, env)
				if n := house.requests() - before; got != cause || n != requests {
					t.Errorf("%s: %q with %d requests, want %q with %d: %+v", step, got, n, cause, requests, ev.Reason)
				}
				return ev
			}
			ev := expect("first", env, "", 2)
			if left := time.Until(ev.ValidUntil); left < 59*time.Minute || left > time.Hour {
				t.Errorf("valid for %v, the answers for an hour", left)
			}
			expect("again", env, "", 0)
			second := must(house.chain.IssueLeaf(testca.Spec{}))(t)
			fresh := 0
			if method == "ocsp" {
				fresh = 1 // about this leaf
			}
			expect("another leaf", sign(t, second, testca.SignOptions{}), "", fresh)
			if err := house.Revoke(house.chain, house.chain.Leaf(), testca.Revocation{}); err != nil {
				t.Fatal(err)
			}
			expect("revoked meanwhile", env, "", 0)
			house.clock.advance(61 * time.Minute)
			expect("after the next update", env, boltseal.CauseRevoked, 2)
			expect("revoked, again", env, boltseal.CauseRevoked, 0)
		})
	}
}

// TestBadAnswersAreNotKept: once the responder is well again, so is the chain.
func TestBadAnswersAreNotKept(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]testca.Fault{"stale": testca.Stale, "wrongly signed": testca.WronglySigned, "garbage": testca.Garbage,
		"oversized": testca.Oversized, "not found": testca.NotFound, "without next update": testca.NoNextUpdate} {
		for _, method := range []string{"ocsp", "crl"} {
			t.Run(name+" "+method, func(t *testing.T) {
				t.Parallel()
				house := newRevocable(t, method == "ocsp", method == "crl", testca.ResponderOptions{})
				house.Fail(fault, fault)
				if got, _ := house.ask(t); got != boltseal.CauseRevocation {
					t.Fatalf("%q", got)
				}
				if n, _ := house.r.answers.Usage(); n > 0 {
					t.Errorf("%d bad answers were kept", n)
				}
				house.Fail(testca.NoFault, testca.NoFault)
				if got, ev := house.ask(t); got != "" {
					t.Errorf("%q, %+v", got, ev.Reason)
				}
			})
		}
	}
	house := newRevocable(t, true, false, testca.ResponderOptions{})
	house.Forget(house.chain.Leaf())
	house.ask(t)
	if n, _ := house.r.answers.Usage(); n != 1 {
		t.Errorf("%d answers kept, want the one about the intermediate and not the unknown one", n)
	}
}

// TestOutageIsRemembered for a moment, so that a dead server does not hold up
// every request, and no longer.
func TestOutageIsRemembered(t *testing.T) {
	t.Parallel()
	house := newRevocable(t, false, true, testca.ResponderOptions{})
	house.Fail(testca.ServerError, testca.ServerError)
	for range 3 {
		if got, _ := house.ask(t); got != outage {
			t.Fatalf("%q", got)
		}
	}
	if n := house.requests(); n != 2 {
		t.Errorf("%d requests, want one for each list", n)
	}
	house.Fail(testca.NoFault, testca.NoFault)
	house.clock.advance(outageBackoff + time.Second)
	if got, ev := house.ask(t); got != "" {
		t.Errorf("%q, %+v", got, ev.Reason)
	}
}

// TestAnswersAreRefreshed within a day although they hold for longer, and serve
// on where no newer ones come.
func TestAnswersAreRefreshed(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"ocsp", "crl"} {
		house := newRevocable(t, method == "ocsp", method == "crl", testca.ResponderOptions{Lifetime: 100 * time.Hour})
		steps := []struct {
			advance time.Duration
			fault   testca.Fault
			want    boltseal.Cause
			asked   bool
		}{
			{0, testca.NoFault, "", true},
			{23 * time.Hour, testca.NoFault, "", false},
			{2 * time.Hour, testca.ServerError, "", true},
			{time.Hour, testca.NotFound, "", false}, // the verdict itself holds for a day
			{25 * time.Hour, testca.NotFound, "", true},
			{50 * time.Hour, testca.ServerError, outage, true},
		}
		for i, s := range steps {
			house.clock.advance(s.advance)
			house.Fail(s.fault, s.fault)
			before := house.requests()
			got, ev := house.ask(t)
			if asked := house.requests() > before; got != s.want || asked != s.asked {
				t.Errorf("%s, step %d: %q, asked %v: %+v", method, i+1, got, asked, ev.Reason)
			}
		}
	}
}

// counted is a context that tells when somebody waits for its end.
type counted struct {
	context.Context
	waits *sync.WaitGroup
	once  *sync.Once
}

func (c counted) Done() <-chan struct{} {
	c.once.Do(c.waits.Done)
	return c.Context.Done()
}

// TestOneFetchForMany: verifiers that need the same list at the same time fetch
// it once, and the one that gives up takes it from nobody.
func TestOneFetchForMany(t *testing.T) {
	t.Parallel()
	const many = 20
	var requests atomic.Int32
	release := make(chan struct{})
	house := newRevocable(t, false, true, testca.ResponderOptions{})
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		<-release
		house.ServeHTTP(w, r)
	}))
	t.Cleanup(gate.Close)
	chain := testca.Test(t, testca.Options{Revocation: gate.URL, CRL: true})
	house.Add(chain)
	url := chain.Leaf().CRLDistributionPoints[0]
	var waiting, all sync.WaitGroup
	waiting.Add(many)
	impatient, giveUp := context.WithCancel(t.Context())
	errs := make([]error, many)
	for i := range many {
		ctx := t.Context()
		if i == 0 {
			ctx = impatient
		}
		all.Go(func() {
			s := &session{r: house.r, chain: chain.X509()}
			_, errs[i] = s.Fetch(counted{ctx, &waiting, &sync.Once{}}, url)
		})
	}
	waiting.Wait()
	giveUp()
	close(release)
	all.Wait()
	for i, err := range errs {
		if i > 0 && err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// TestPanicsAreAnswers: what a stranger sends must not end the process.
func TestPanicsAreAnswers(t *testing.T) {
	t.Parallel()
	s := &session{r: NewRevocation(RevocationOptions{})}
	_, err := s.once(t.Context(), "", answerKey{}, func(context.Context) (any, error) { panic("read") })
	if err == nil || errors.Is(err, boltseal.ErrUnavailable) {
		t.Errorf("%v", err)
	}
}

// TestCacheIsBounded by bytes, and a list that is too large for it is judged all
// the same.
func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	house := newRevocable(t, false, true, testca.ResponderOptions{})
	const bound = 16 << 10
	house.r = NewRevocation(RevocationOptions{AllowedNetworks: loopback, CacheBytes: bound})
	for range 20 { // revoked in the list of the leaves' issuer
		leaf := must(house.chain.IssueLeaf(testca.Spec{}))(t)
		if err := house.Revoke(leaf, leaf.Leaf(), testca.Revocation{}); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := house.ask(t); got != "" {
		t.Fatal(got)
	}
	small, cost := house.r.answers.Usage()
	if small != 2 || cost > bound || cost < 20*crlEntryCost {
		t.Errorf("%d answers that cost %d", small, cost)
	}
	for range 50 {
		leaf := must(house.chain.IssueLeaf(testca.Spec{}))(t)
		if err := house.Revoke(leaf, leaf.Leaf(), testca.Revocation{}); err != nil {
			t.Fatal(err)
		}
	}
	house.r = NewRevocation(RevocationOptions{AllowedNetworks: loopback, CacheBytes: bound})
	if got, _ := house.ask(t); got != "" {
		t.Fatal(got)
	}
	if n, cost := house.r.answers.Usage(); n != 1 || cost > bound {
		t.Errorf("%d answers that cost %d, want the small one only", n, cost)
	}
	last := must(house.chain.IssueLeaf(testca.Spec{}))(t)
	if err := house.Revoke(last, last.Leaf(), testca.Revocation{}); err != nil {
		t.Fatal(err)
	}
	if got, _ := askFor(t, house.verifier(t), sign(t, last, testca.SignOptions{})); got != boltseal.CauseRevoked {
		t.Errorf("%q", got)
	}
}

// TestListCost: what an entry of a CRL is counted as is about what it occupies.
func TestListCost(t *testing.T) { // not parallel: it weighs the heap
	ca := testca.Test(t, testca.Options{}).Root()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for i := range 20_000 {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: new(big.Int).Lsh(big.NewInt(int64(i+1)), 100), RevocationTime: time.Now(), ReasonCode: 1})
	}
	der := must(x509.CreateRevocationList(rand.Reader, list, ca.Certificate, ca.Key))(t)
	used := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := used()
	parsed := must(x509.ParseRevocationList(der))(t)
	occupied := used() - before
	runtime.KeepAlive(parsed)
	t.Logf("%d bytes", occupied/int64(len(list.RevokedCertificateEntries)))
	if counted := (answer{crl: &crl.Bundle{BaseCRL: parsed}}).cost(); occupied > 2*counted || counted > 3*occupied {
		t.Errorf("it occupies %d bytes and is counted as %d", occupied, counted)
	}
}

// TestTimestampRevocation: the authority's certificates can be revoked too.
func TestTimestampRevocation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fault testca.Fault
		gone  bool
		want  boltseal.Cause
	}{
		{"good", testca.NoFault, false, ""}, {"revoked", testca.NoFault, true, boltseal.CauseRevoked},
		{"stale", testca.Stale, false, boltseal.CauseRevocation}, {"outage", testca.ServerError, false, outage},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			house := newRevocable(t, false, true, testca.ResponderOptions{})
			signer := testca.Test(t, testca.Options{})
			authority := must(testca.NewTSA(testca.TSAOptions{Chain: testca.Test(t, testca.Options{Timestamping: true, Revocation: house.base, CRL: true})}))(t)
			house.Add(authority.Chain)
			house.Fail(c.fault, c.fault)
			if c.gone {
				if err := house.Revoke(authority.Chain, authority.Chain.Leaf(), testca.Revocation{}); err != nil {
					t.Fatal(err)
				}
			}
			env := sign(t, signer, testca.SignOptions{TSA: authority})
			s := setup{statement: statementOf(stores("ca:release", "tsa:time")), revocation: house.r,
				stores: []*trust.Store{store(t, trust.TypeCA, "release", signer), store(t, trust.TypeTSA, "time", authority.Chain)}}
			got, ev := askFor(t, s.verifier(t), env)
			if got != c.want || c.want != outage && ev.TimestampAt.IsZero() == (c.want == "") {
				t.Errorf("%q at %v, %+v", got, ev.TimestampAt, ev.Reason)
			}
			if left := time.Until(ev.ValidUntil); c.want == "" && (left < 50*time.Minute || left > time.Hour) {
				t.Errorf("valid for %v", left)
			}
			s.statement = statementOf(stores("ca:release", "tsa:time"), level("permissive"))
			got, ev = askFor(t, s.verifier(t), env)
			if want := map[bool]boltseal.CheckOutcome{true: boltseal.CheckPassed, false: boltseal.CheckLogged}[c.want == ""]; got != "" || outcomes(ev)["authenticTimestamp"] != want {
				t.Errorf("permissive: %q, %+v", got, ev.Checks)
			}
		})
	}
}

func TestChainKey(t *testing.T) {
	t.Parallel()
	a, b := testca.Test(t, testca.Options{}).X509(), testca.Test(t, testca.Options{}).X509()
	now := time.Now()
	seen := map[[sha256.Size]byte]string{}
	for name, k := range map[string][sha256.Size]byte{
		"a": chainKey(a, time.Time{}), "b": chainKey(b, time.Time{}), "a cut": chainKey(a[:1], time.Time{}),
		"a mixed": chainKey([]*x509.Certificate{a[0], b[1]}, time.Time{}), "a now": chainKey(a, now), "a later": chainKey(a, now.Add(1)),
	} {
		if other, taken := seen[k]; taken {
			t.Errorf("%s and %s are one", name, other)
		}
		seen[k] = name
	}
}
