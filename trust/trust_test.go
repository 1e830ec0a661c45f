package trust_test

import (
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/trust"
)

func TestNewStore(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{Intermediates: []testca.Spec{{}}})
	leaf, sub, root := chain.Certs[0].Certificate, chain.Certs[1].Certificate, chain.Certs[2].Certificate
	alone := testca.Must(testca.NewSelfSigned(testca.Options{})).Leaf().Certificate
	// Named like its issuer, and not signed by itself: a cross-signed root.
	crossed := testca.Test(t, testca.Options{Intermediates: []testca.Spec{{Subject: root.Subject}}, Root: testca.Spec{Subject: root.Subject}}).Certs[1].Certificate
	// The same name as its issuer's, and no CA.
	impostor := testca.Test(t, testca.Options{Leaf: testca.Spec{Subject: root.Subject}, Root: testca.Spec{Subject: root.Subject}}).Leaf().Certificate
	for _, c := range []struct {
		name  string
		kind  trust.Type
		certs []*x509.Certificate
		says  string // "" = accepted
	}{
		{"root", trust.TypeCA, []*x509.Certificate{root}, ""},
		{"intermediate", trust.TypeCA, []*x509.Certificate{sub}, ""},
		{"self-signed signer", trust.TypeCA, []*x509.Certificate{alone}, ""},
		{"signing authority", trust.TypeSigningAuthority, []*x509.Certificate{root}, ""},
		{"timestamp authority's root", trust.TypeTSA, []*x509.Certificate{root}, ""},
		{"leaf", trust.TypeCA, []*x509.Certificate{leaf}, "neither a CA's nor self-signed: put the CA that issued it here"},
		{"leaf beside a root", trust.TypeCA, []*x509.Certificate{root, leaf}, leaf.Subject.String()},
		{"leaf of a signing authority", trust.TypeSigningAuthority, []*x509.Certificate{leaf}, "neither a CA's nor self-signed"},
		{"leaf named like its issuer", trust.TypeCA, []*x509.Certificate{impostor}, "neither a CA's nor self-signed"},
		{"intermediate of a timestamp authority", trust.TypeTSA, []*x509.Certificate{sub}, "not the root of a timestamp authority"},
		{"cross-signed root of a timestamp authority", trust.TypeTSA, []*x509.Certificate{crossed}, "not the root of a timestamp authority"},
		{"self-signed timestamper", trust.TypeTSA, []*x509.Certificate{alone}, "not the root of a timestamp authority"},
		{"nothing", trust.TypeCA, nil, "trust store ca:release has no certificate"},
		{"no type", "", []*x509.Certificate{root}, "no type of trust store"},
		{"unknown type", "CA", []*x509.Certificate{root}, `"CA" is no type of trust store; it must be one of [ca signingAuthority tsa]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, err := trust.NewStore(c.kind, "release", c.certs)
			if c.says != "" {
				if s != nil || !errors.Is(err, boltseal.ErrConfiguration) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v, want %q", err, c.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s.Type() != c.kind || s.Name() != "release" || s.String() != string(c.kind)+":release" || !slices.Equal(s.Certificates(), c.certs) {
				t.Errorf("%v of type %v with %d certificates", s, s.Type(), len(s.Certificates()))
			}
		})
	}
}

func TestContains(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{})
	root := chain.Root().Certificate
	// The same name and key in another certificate is another certificate.
	twin := testca.Test(t, testca.Options{Root: testca.Spec{Signer: chain.Root().Key, Subject: root.Subject}}).Root().Certificate
	s := testca.Must(trust.NewStore(trust.TypeCA, "release", []*x509.Certificate{root, root}))
	if n := len(s.Certificates()); n != 1 {
		t.Errorf("one certificate twice counts as %d", n)
	}
	copied := testca.Must(x509.ParseCertificate(slices.Clone(root.Raw)))
	if !s.Contains(root) || !s.Contains(copied) || s.Contains(twin) || s.Contains(chain.Leaf().Certificate) {
		t.Error("it does not tell certificates by their bytes")
	}
	if got := trust.Fingerprint(root); len(got) != len("sha256:")+64 || got != trust.Fingerprint(copied) || got == trust.Fingerprint(twin) {
		t.Errorf("fingerprint %s", got)
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	end := time.Date(2030, 6, 1, 0, 0, 0, 0, time.UTC)
	start := end.AddDate(-1, 0, 0)
	old := testca.Test(t, testca.Options{Root: testca.Spec{CommonName: "Old Root", NotBefore: start, NotAfter: end}}).Root().Certificate
	good := testca.Test(t, testca.Options{Root: testca.Spec{CommonName: "Good Root", NotBefore: start.AddDate(-1, 0, 0), NotAfter: end.AddDate(9, 0, 0)}}).Root().Certificate
	s := testca.Must(trust.NewStore(trust.TypeCA, "release", []*x509.Certificate{old, good}))
	for _, c := range []struct {
		name string
		now  time.Time
		says string // "" = none
	}{
		{"within", end.Add(-trust.ExpiryNotice), ""},
		{"at its beginning", start, ""},
		{"before its beginning", start.Add(-time.Second), "is not valid before 2029-06-01"},
		{"near its end", end.Add(time.Second - trust.ExpiryNotice), "expires on 2030-06-01; add its successor before"},
		{"at its end", end, "expires on 2030-06-01"},
		{"after its end", end.Add(time.Second), "expired on 2030-06-01"},
	} {
		got := s.Problems(c.now)
		switch {
		case c.says == "" && len(got) > 0:
			t.Errorf("%s: %q", c.name, got)
		case c.says != "" && (len(got) != 1 || !strings.Contains(got[0], c.says) || !strings.Contains(got[0], "ca:release") || !strings.Contains(got[0], "Old Root")):
			t.Errorf("%s: %q, want %q", c.name, got, c.says)
		}
	}
	if !s.Contains(old) {
		t.Error("an expired certificate was dropped")
	}
}

// TestLacking: a store says what it lacks, and is otherwise the same.
func TestLacking(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{})
	s, err := trust.NewStore(trust.TypeCA, "certs", chain.X509()[1:])
	if err != nil {
		t.Fatal(err)
	}
	l := s.Lacking("why")
	if s.Lacks() != "" || l.Lacks() != "why" || l.String() != s.String() || !l.Contains(chain.Root().Certificate) {
		t.Errorf("%+v %+v", s, l)
	}
	if e := trust.EmptyStore(trust.TypeCA, "certs").Lacking("why"); e.Lacks() != "why" || len(e.Certificates()) != 0 {
		t.Errorf("%+v", e)
	}
}
