package servingcert

import (
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

var begin = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

const (
	hour = time.Hour
	day  = 24 * hour
)

var svcNames = ServiceNames("boltseal-system", "boltseal")

func lifetimes(t *testing.T, l Lifetimes) Lifetimes {
	t.Helper()
	l, err := l.complete()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func never(*x509.Certificate) (time.Time, bool) { return time.Time{}, false }

func always(since time.Time) func(*x509.Certificate) (time.Time, bool) {
	return func(*x509.Certificate) (time.Time, bool) { return since, true }
}

func (f facts) must(t *testing.T, s state) (state, time.Time) {
	t.Helper()
	s, _, look, err := f.plan(s)
	if err != nil {
		t.Fatal(err)
	}
	if !look.After(f.now) {
		t.Errorf("look again at %s, which is not after %s", look, f.now)
	}
	data, err := s.encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := decodeState(data, f.now, f.names)
	if err != nil {
		t.Errorf("what is planned is not as it should be: %v", err)
	}
	if b, err := again.encode(); err != nil || !sameData(b, data) {
		t.Errorf("it is read back as something else: %v", err)
	}
	return s, look
}

func TestLifetimes(t *testing.T) {
	t.Parallel()
	if l := lifetimes(t, Lifetimes{}); l != (Lifetimes{DefaultAuthority, DefaultCertificate, DefaultAnnounce}) {
		t.Errorf("defaults: %+v", l)
	}
	for _, l := range []Lifetimes{
		{Certificate: time.Second}, {Authority: 20 * 366 * day}, {Authority: 100 * day, Certificate: 50 * day},
		{Certificate: hour, Announce: 20 * time.Minute}, {Announce: -1}, {Certificate: -hour}, {Authority: -hour},
	} {
		if _, err := l.complete(); !errors.Is(err, ErrLifetimes) {
			t.Errorf("%+v: %v", l, err)
		}
	}
}

// TestLife goes through the years of an installation, and looks when it is told to.
func TestLife(t *testing.T) {
	t.Parallel()
	f := facts{now: begin, names: svcNames, life: lifetimes(t, Lifetimes{}), announced: always(begin)}
	s, look := f.must(t, state{})
	first := s.current
	if s.next != nil || len(s.retired) != 0 || len(missingNames(s.leaf.cert, svcNames)) != 0 {
		t.Fatalf("the first state: %+v", s)
	}
	if want := begin.Add(40*day - hour); look.Before(want) || look.After(want.Add(2*hour)) {
		t.Errorf("renewal at %s", look)
	}
	steps, leafs, issuers, retired := 0, map[string]bool{}, map[string]bool{}, 0
	var since time.Time
	f.announced = func(*x509.Certificate) (time.Time, bool) { return since, true }
	for f.now = look; f.now.Before(begin.Add(5 * 365 * day)); f.now = look {
		was := s
		if s.next == nil {
			since = f.now.Add(3 * time.Second)
		}
		s, look = f.must(t, s)
		if steps++; steps > 500 {
			t.Fatal("it looks too often")
		}
		if !f.now.Before(s.leaf.cert.NotAfter.Add(-10 * day)) {
			t.Fatalf("%s: the certificate expires at %s", f.now, s.leaf.cert.NotAfter)
		}
		if !s.current.cert.Equal(was.current.cert) && (was.next == nil || !s.current.cert.Equal(was.next.cert)) {
			t.Fatalf("%s: a CA is in use that was not announced", f.now)
		}
		if !s.current.cert.Equal(was.current.cert) && !trustsCA(s, was.current.cert) {
			t.Fatalf("%s: the CA before is not trusted any more", f.now)
		}
		leafs[string(s.leaf.cert.Raw)], issuers[s.leaf.cert.Issuer.CommonName] = true, true
		retired = max(retired, len(s.retired))
	}
	if len(leafs) < 40 || len(issuers) < 4 || retired != 1 || trustsCA(s, first.cert) {
		t.Errorf("%d certificates of %d CAs, %d retired at a time", len(leafs), len(issuers), retired)
	}
}

func TestNewAuthorityWaitsToBeAnnounced(t *testing.T) {
	t.Parallel()
	f := facts{now: begin, names: svcNames, life: lifetimes(t, Lifetimes{}), announced: never}
	s, _ := f.must(t, state{})
	f.renew = RenewAuthority
	announced, _ := f.must(t, s)
	f.renew = ""
	if announced.next == nil || !announced.current.cert.Equal(s.current.cert) || !announced.leaf.cert.Equal(s.leaf.cert) {
		t.Fatal("it is not announced only")
	}
	if len(readBundle(t, announced.bundle())) != 2 {
		t.Error("the bundle does not hold both")
	}
	f.now = begin.Add(hour)
	if still, _ := f.must(t, announced); !still.current.cert.Equal(s.current.cert) {
		t.Error("it is used although nobody knows it")
	}
	f.announced = always(f.now.Add(-DefaultAnnounce + time.Second))
	still, look := f.must(t, announced)
	if !still.current.cert.Equal(s.current.cert) || !look.Equal(f.now.Add(time.Second)) {
		t.Errorf("it is used too soon, or looked for at %s", look)
	}
	f.now = look
	used, _ := f.must(t, announced)
	if !used.current.cert.Equal(announced.next.cert) || used.next != nil || len(used.retired) != 1 || !trustsCA(used, s.current.cert) || used.retired[0].key != nil {
		t.Fatal("it is not used, or the old one is forgotten")
	}
	if data, err := used.encode(); err != nil || strings.Count(string(data[KeyAuthorities]), "PRIVATE KEY") != 2 {
		t.Error("the old CA's key is still there")
	}
	f.now = s.leaf.cert.NotAfter.Add(-time.Second)
	if before, _ := f.must(t, used); !trustsCA(before, s.current.cert) {
		t.Error("the old CA is forgotten while a certificate of it is valid")
	}
	f.now = s.leaf.cert.NotAfter
	if after, _ := f.must(t, used); trustsCA(after, s.current.cert) {
		t.Error("the old CA is trusted for longer than its last certificate")
	}
}

// TestCannotBeAnnounced: callers that could not be told are lost in any case.
func TestCannotBeAnnounced(t *testing.T) {
	t.Parallel()
	f := facts{now: begin, names: svcNames, life: lifetimes(t, Lifetimes{}), announced: never}
	s, look := f.must(t, state{})
	first := s.current.cert
	for steps := 0; s.current.cert.Equal(first); steps++ {
		if steps > 1000 || !look.Before(first.NotAfter) {
			t.Fatalf("after %d steps, at %s, the CA that expires at %s is still in use", steps, look, first.NotAfter)
		}
		f.now = look
		s, look = f.must(t, s)
		if !f.now.Before(s.leaf.cert.NotAfter) {
			t.Fatal("the certificate has expired")
		}
	}
	if left := first.NotAfter.Sub(f.now); left > DefaultCertificate/3 {
		t.Errorf("it is given up %s before its time", left)
	}
}

func TestRetiredAreBounded(t *testing.T) {
	t.Parallel()
	f := facts{now: begin, names: svcNames, life: lifetimes(t, Lifetimes{}), announced: always(begin.Add(-hour)), renew: RenewAuthority}
	s, _ := f.must(t, state{})
	for range 3 * maxRetired {
		f.now = f.now.Add(time.Minute)
		s, _ = f.must(t, s)
	}
	if len(s.retired) != maxRetired {
		t.Errorf("%d retired CAs", len(s.retired))
	}
}

func TestWhatIsBrokenIsMended(t *testing.T) {
	t.Parallel()
	f := facts{now: begin, names: svcNames, life: lifetimes(t, Lifetimes{}), announced: always(begin.Add(-hour))}
	good, _ := f.must(t, state{})
	other, _ := f.must(t, state{})
	encode := func(s state) map[string][]byte {
		data, err := s.encode()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	broken := map[string]func(d map[string][]byte){
		"empty":               func(d map[string][]byte) { clear(d) },
		"no authorities":      func(d map[string][]byte) { delete(d, KeyAuthorities) },
		"null":                func(d map[string][]byte) { d[KeyAuthorities] = []byte("null") },
		"not JSON":            func(d map[string][]byte) { d[KeyAuthorities] = []byte("{") },
		"huge":                func(d map[string][]byte) { d[KeyAuthorities] = make([]byte, maxState+1) },
		"another's CAs":       func(d map[string][]byte) { d[KeyBundle] = encode(other)[KeyBundle] },
		"another's key":       func(d map[string][]byte) { d[KeyKey] = encode(other)[KeyKey] },
		"another's leaf":      func(d map[string][]byte) { d[KeyCertificate] = encode(other)[KeyCertificate] },
		"a CA as certificate": func(d map[string][]byte) { d[KeyCertificate] = d[KeyBundle] },
		"two certificates": func(d map[string][]byte) {
			d[KeyCertificate] = append(slices.Clone(d[KeyCertificate]), encode(other)[KeyCertificate]...)
		},
		"a key as certificate": func(d map[string][]byte) { d[KeyCertificate] = d[KeyKey] },
		"half a certificate":   func(d map[string][]byte) { d[KeyCertificate] = d[KeyCertificate][:200] },
		"a CA without key": func(d map[string][]byte) {
			s := good
			current := *s.current
			current.key = nil
			s.current = &current
			d[KeyAuthorities] = encode(s)[KeyAuthorities]
		},
	}
	for name, breakIt := range broken {
		data := encode(good)
		breakIt(data)
		read, problems := decodeState(data, begin, svcNames)
		if problems == nil || strings.Contains(problems.Error(), "BEGIN") {
			t.Errorf("%s: problems %v", name, problems)
		}
		// With a memory of what was good, nothing changes at all.
		if s, _ := f.must(t, read.mend(good, begin, svcNames)); !sameData(encode(s), encode(good)) {
			t.Errorf("%s: it is mended to something else", name)
		}
		// Without, something that works comes of it.
		s, _ := f.must(t, read)
		if !s.usable() {
			t.Errorf("%s: nothing can be served", name)
		}
		if read.current != nil && !trustsCA(s, good.current.cert) {
			t.Errorf("%s: the CA that callers know is forgotten", name)
		}
	}
	// A CA whose key is lost is replaced in order, while its certificate is served.
	data := encode(good)
	broken["a CA without key"](data)
	read, _ := decodeState(data, begin, svcNames)
	f.announced = never
	s, _, _, err := f.plan(read)
	if err != nil || s.next == nil || !s.leaf.cert.Equal(good.leaf.cert) {
		t.Error("a lost key costs an outage")
	}
	// Expired, all of it.
	f.now = begin.Add(3 * 365 * day)
	read, _ = decodeState(encode(good), f.now, svcNames)
	if s, _ := f.must(t, read.mend(good, f.now, svcNames)); !f.now.Before(s.leaf.cert.NotAfter) || trustsCA(s, good.current.cert) {
		t.Error("what has expired is not replaced")
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	f := facts{now: begin, names: svcNames, life: lifetimes(t, Lifetimes{}), announced: never}
	s, _ := f.must(t, state{})
	data, err := s.encode()
	if err != nil {
		t.Fatal(err)
	}
	f.names = []string{"other.example", "10.0.0.1"}
	read, problems := decodeState(data, begin, f.names)
	if problems == nil || !strings.Contains(problems.Error(), "it lacks the names other.example, 10.0.0.1") {
		t.Errorf("problems %v", problems)
	}
	s, _ = f.must(t, read)
	if lacks := missingNames(s.leaf.cert, append(slices.Clone(svcNames), f.names...)); len(lacks) > 0 {
		t.Errorf("two replicas with other names would renew for ever: %v are lacking", lacks)
	}
}

func readBundle(t testing.TB, b []byte) []*x509.Certificate {
	t.Helper()
	var out []*x509.Certificate
	for _, text := range strings.SplitAfter(string(b), "-----END CERTIFICATE-----\n") {
		if text == "" {
			continue
		}
		c, err := readCert([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}
