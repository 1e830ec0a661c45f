package notation

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"maps"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/testca"
)

func TestParseDN(t *testing.T) {
	t.Parallel()
	base := map[string]string{"C": "US", "ST": "WA", "O": "Example"}
	with := func(pairs ...string) map[string]string {
		m := maps.Clone(base)
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	for _, c := range []struct {
		in   string
		want map[string]string
	}{
		{"C=US,ST=WA,O=Example", base},
		{"O=Example, ST=WA , C=US", base},
		{"C=US,S=WA,O=Example", base},
		{"C=US,ST=WA,L=Seattle,O=Example,OU=Release,CN=signer", with("L", "Seattle", "OU", "Release", "CN", "signer")},
		{`C=US,ST=WA,O=Example\, Inc.`, with("O", "Example, Inc.")},
		{`C=US,ST=WA,O=Example\2c Inc.`, with("O", "Example, Inc.")},
		{`C=US,ST=WA,O=\#1`, with("O", "#1")},
		{`C=US,ST=WA,O=a\=b`, with("O", "a=b")},
		{`C=US,ST=WA,O=\ a\ `, with("O", " a ")},
		{`C=US,ST=WA,O=Müller`, with("O", "Müller")},
		{`C=US,ST=WA,O=M\c3\bcller`, with("O", "Müller")},
		{"C=US,ST=WA,O=Example,2.5.4.97=X", with("2.5.4.97", "X")},
		{"C=US,ST=WA,O=Example,CN=", with("CN", "")},
	} {
		if got, err := parseDN(c.in); err != nil || !maps.Equal(got, c.want) {
			t.Errorf("%q: %q, %v", c.in, got, err)
		}
	}
	long := func(n int) string { return "C=US,ST=WA,O=" + strings.Repeat("a", n-len("C=US,ST=WA,O=")) }
	if _, err := parseDN(long(maxDNLength)); err != nil {
		t.Error(err)
	}
	for _, c := range []struct{ in, says string }{
		{"", "lacks C"}, {" ", ""}, {"signer", ""}, {"C", ""}, {"=", ""}, {",", ""}, {"+", ""}, {"C=US,", ""},
		{"C=US,ST=WA", "lacks O"}, {"C=US,O=Example", "lacks ST"}, {"ST=WA,O=Example", "lacks C"}, {"C=,ST=WA,O=Example", "lacks C"},
		{"c=US,ST=WA,O=Example", "lacks C"}, {"Country=US,ST=WA,O=Example", "lacks C"},
		{"C=US,ST=WA,O=Example+OU=Release", "several values"}, {"C=US+ST=WA+O=Example", "several values"},
		{"C=US,ST=WA,O=Example,O=Other", "O twice"}, {"C=US,ST=WA,S=WA,O=Example", "ST twice"}, {"C=US,ST=WA,O=Example,CN=,CN=a", "CN twice"},
		{"C=US,ST=WA,O=#04024869", `"=#"`}, {"C=US,ST=WA,O=Example,CN=a=#b", `"=#"`}, {"1.3.6=#0", `"=#"`}, {"=#", `"=#"`}, {"C=US,ST=WA,O=Example,2.5.4.3=#0c", `"=#"`},
		{`C=US,ST=WA,O=Example\`, ""}, {`C=US,ST=WA,O=\zz`, ""}, {`C=US,ST=WA,O="Example`, ""},
		{long(maxDNLength + 1), "longer than 4096"},
		{"C=US,ST=WA,O=Example" + strings.Repeat(",a=b", 1000), "more than 64"},
		{"C=US,ST=WA,O=Example" + strings.Repeat("+a=b", 1000), ""},
		{strings.Repeat(`\`, 4000), ""}, {strings.Repeat("=", 4000), ""}, {strings.Repeat(",", 4000), ""}, {strings.Repeat("+", 4000), ""},
		{"C=US;ST=WA;O=Example", ""},
		{"C=US,ST=WA,O=Exam\x00ple\xff", ""},
	} {
		if got, err := parseDN(c.in); c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%.60q: %q, %v; want %q", c.in, got, err, c.says)
		} else if err != nil && len(err.Error()) > 2*maxDNLength {
			t.Errorf("%.60q: an error of %d bytes", c.in, len(err.Error()))
		}
	}
}

func TestIdentities(t *testing.T) {
	t.Parallel()
	name := pkix.Name{Country: []string{"US"}, Province: []string{"WA"}, Locality: []string{"Seattle"}, Organization: []string{"Example"},
		OrganizationalUnit: []string{"Release"}, CommonName: "signer"}
	twoUnits := name
	twoUnits.OrganizationalUnit = []string{"Release", "Admin"}
	noState := name
	noState.Province = nil
	odd := name
	odd.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: "x"}}
	comma := name
	comma.Organization = []string{"Example, C=DE"}
	hash := name
	hash.Organization = []string{"#Example"}
	for _, c := range []struct {
		name    string
		subject pkix.Name
		ids     []string
		want    bool
	}{
		{"anyone", noState, []string{"*"}, true},
		{"exactly", name, []string{"x509.subject:C=US,ST=WA,L=Seattle,O=Example,OU=Release,CN=signer"}, true},
		{"part of it", name, []string{"x509.subject:C=US,ST=WA,O=Example"}, true},
		{"in another order", name, []string{"x509.subject:CN=signer,O=Example,S=WA,C=US"}, true},
		{"with spaces", name, []string{"x509.subject: C=US, ST=WA, O=Example"}, true},
		{"the second one", name, []string{"x509.subject:C=DE,ST=BY,O=Other", "x509.subject:C=US,ST=WA,O=Example"}, true},
		{"more than there is", name, []string{"x509.subject:C=US,ST=WA,O=Example,STREET=1 Main"}, false},
		{"an empty attribute that is not there", name, []string{"x509.subject:C=US,ST=WA,O=Example,STREET="}, false},
		{"another case of a value", name, []string{"x509.subject:C=US,ST=WA,O=example"}, false},
		{"another case of a name", name, []string{"x509.subject:C=US,ST=WA,O=Example,cn=signer"}, false},
		{"the beginning of a value", name, []string{"x509.subject:C=US,ST=WA,O=Exam"}, false},
		{"another organization", name, []string{"x509.subject:C=US,ST=WA,O=Other"}, false},
		{"another common name", name, []string{"x509.subject:C=US,ST=WA,O=Example,CN=other"}, false},
		{"a signer without a state", noState, []string{"x509.subject:C=US,ST=WA,O=Example"}, false},
		{"a signer with two units", twoUnits, []string{"x509.subject:C=US,ST=WA,O=Example"}, false},
		{"a signer with an attribute that has no name", odd, []string{"x509.subject:C=US,ST=WA,O=Example"}, false},
		{"a value that looks like an attribute", comma, []string{"x509.subject:C=DE,ST=WA,O=Example"}, false},
		{"a value with a comma", comma, []string{`x509.subject:C=US,ST=WA,O=Example\, C\=DE`}, true},
		{"a value that begins with a hash", hash, []string{`x509.subject:C=US,ST=WA,O=\#Example`}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			policy := must(NewTrustPolicy(document(statementOf(identities(c.ids...)))))(t)
			leaf := testca.Test(t, testca.Options{Leaf: testca.Spec{Subject: c.subject}}).Leaf().Certificate
			err := policy.statements[0].trusts(leaf)
			if (err == nil) != c.want {
				t.Errorf("%q: %v", leaf.Subject, err)
			}
		})
	}
}

// TestPathologicalSubjects: names of signers that no parser should be given.
func TestPathologicalSubjects(t *testing.T) {
	t.Parallel()
	s := must(NewTrustPolicy(document(statementOf(identities(whom)))))(t).statements[0]
	attr := func(oid asn1.ObjectIdentifier, v any) []pkix.AttributeTypeAndValue {
		return []pkix.AttributeTypeAndValue{{Type: oid, Value: v}}
	}
	cn, o := asn1.ObjectIdentifier{2, 5, 4, 3}, asn1.ObjectIdentifier{2, 5, 4, 10}
	var wide, deep pkix.RDNSequence
	for range 500 {
		wide = append(wide, attr(o, "Example"))
	}
	deep = append(deep, attr(cn, strings.Repeat(`\`, 2000)), attr(o, strings.Repeat(",O=Example", 500)))
	for name, rdns := range map[string]pkix.RDNSequence{
		"empty":       nil,
		"wide":        wide,
		"escapes":     deep,
		"hexadecimal": {attr(asn1.ObjectIdentifier{1, 2, 3}, "x")},
		"equals hash": {attr(cn, "=#"), attr(o, "#=#")},
		"numbers":     {attr(cn, "\x00\x01"), attr(o, "\n\r,+\"<>;")},
	} {
		raw, err := asn1.Marshal(rdns)
		if err != nil {
			t.Fatal(err)
		}
		leaf := testca.Test(t, testca.Options{Leaf: testca.Spec{RawSubject: raw}}).Leaf().Certificate
		if err := s.trusts(leaf); err == nil {
			t.Errorf("%s: trusted", name)
		}
	}
}

// FuzzParseDN: what is accepted has the attributes that a trusted identity must
// have, is within the limits, and is a subset of itself only where it should be.
func FuzzParseDN(f *testing.F) {
	for _, s := range []string{"C=US,ST=WA,O=Example", "C=US,S=WA,O=Example\\, Inc.,CN=a", "=#", "C=US+ST=WA,O=x", `C=\`, "C=US,ST=WA,O=#0401", ",,,===+++", "C=US,ST=WA,O=\\zz", "C=US;ST=a", " C = US , ST = \\20 , O = \"x\" "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		attrs, err := parseDN(s)
		if err != nil {
			if attrs != nil {
				t.Fatal("attributes beside an error")
			}
			return
		}
		if len(s) > maxDNLength || len(attrs) > maxDNAttributes || strings.Contains(s, "=#") {
			t.Fatalf("accepted %q", s)
		}
		for _, must := range []string{"C", "ST", "O"} {
			if attrs[must] == "" {
				t.Fatalf("%q has no %s", s, must)
			}
		}
		if _, ok := attrs["S"]; ok {
			t.Fatal("S beside ST")
		}
		more := maps.Clone(attrs)
		more["9.9.9.9"] = "x"
		other := maps.Clone(attrs)
		other["O"] += "x"
		if !subset(attrs, attrs) || !subset(attrs, more) || subset(more, attrs) || subset(attrs, other) {
			t.Fatalf("%q", attrs)
		}
	})
}
