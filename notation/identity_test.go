package notation

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"maps"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/weight"
	"github.com/boltseal/boltseal/notation/internal/dn"
)

func TestAttributes(t *testing.T) {
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
		{"C=US,ST=WA,O=Example,2.5.4.97=X", with("organizationIdentifier", "X")},
		{"C=US,ST=WA,O=Example,1.2.3.4=X", with("1.2.3.4", "X")},
		{"C=US,ST=WA,O=Example,commonName=a,OID.2.5.4.11=b,l=c", with("CN", "a", "OU", "b", "L", "c")},
		{"C=US,ST=WA,O=Example,E=a@b.example", with("emailAddress", "a@b.example")},
		{"C=US,ST=WA,O=Example,emailaddress=a@b.example", with("emailAddress", "a@b.example")},
		{"C=US;ST=WA;O=Example", base},
		{"C=US,ST=WA,O=Example,CN=a=#b", with("CN", "a=#b")},
		{"C=US,ST=WA,O=Example,CN=https://a.example/b?c=d", with("CN", "https://a.example/b?c=d")},
		{"C=US,ST=WA,O=Example,CN=", with("CN", "")},
	} {
		if got, err := nameAttributes(c.in); err != nil || !maps.Equal(got, c.want) {
			t.Errorf("%q: %q, %v", c.in, got, err)
		}
	}
	long := func(n int) string { return "C=US,ST=WA,O=" + strings.Repeat("a", n-len("C=US,ST=WA,O=")) }
	if _, err := nameAttributes(long(dn.MaxLength)); err != nil {
		t.Error(err)
	}
	for _, c := range []struct{ in, says string }{
		{"", "lacks C"}, {" ", ""}, {"signer", ""}, {"C", ""}, {"=", ""}, {",", ""}, {"+", ""}, {"C=US,", ""},
		{"C=US,ST=WA", "lacks O"}, {"C=US,O=Example", "lacks ST"}, {"ST=WA,O=Example", "lacks C"}, {"C=,ST=WA,O=Example", "lacks C"},
		{"Contry=US,ST=WA,O=Example", `"Contry" is no attribute that is known here`}, {"C=US,ST=WA,O=Example,emailAdress=a", `did you mean "emailAddress"`},
		{"c=US,ST=WA,O=Example", "write C in place of c"}, {"C=US,stateOrProvinceName=WA,O=Example", "write ST in place of state"},
		{"C=US,ST=WA,O=Example,2.5.4.10=Example", "write O in place of 2.5.4.10"}, {"C=US,ST=WA,O=Example,CN=a,2.5.4.3=a", "CN twice"}, {"C=US,ST=WA,O=Example,1..2=a", "no attribute"},
		{"C=US,ST=WA,O=Example+OU=Release", "several values"}, {"C=US+ST=WA+O=Example", "several values"},
		{"C=US,ST=WA,O=Example,O=Other", "O twice"}, {"C=US,ST=WA,S=WA,O=Example", "ST twice"}, {"C=US,ST=WA,O=Example,CN=,CN=a", "CN twice"},
		{"C=US,ST=WA,O=#04024869", `"=#"`}, {"C=US,ST=WA,O= #04", `"=#"`}, {"1.3.6=#0", `"=#"`}, {"=#", `"=#"`}, {"C=US,ST=WA,O=Example,2.5.4.3=#0c", `"=#"`},
		{`C=US,ST=WA,O=Example\`, ""}, {`C=US,ST=WA,O=\zz`, ""}, {`C=US,ST=WA,O="Example`, ""},
		{long(dn.MaxLength + 1), "longer than 4096"},
		{"C=US,ST=WA,O=Example" + strings.Repeat(",a=b", 1000), "more than 64"},
		{"C=US,ST=WA,O=Example" + strings.Repeat("+a=b", 1000), ""},
		{strings.Repeat(`\`, 4000), ""}, {strings.Repeat("=", 4000), ""}, {strings.Repeat(",", 4000), ""}, {strings.Repeat("+", 4000), ""},
		{"C=US,ST=WA,O=Exam\x00ple\xff", ""},
	} {
		if got, err := nameAttributes(c.in); c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%.60q: %q, %v; want %q", c.in, got, err, c.says)
		} else if err != nil && len(err.Error()) > 2*dn.MaxLength {
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
		{"another case of a type", name, []string{"x509.subject:C=US,ST=WA,O=Example,cn=signer"}, true},
		{"the beginning of a value", name, []string{"x509.subject:C=US,ST=WA,O=Exam"}, false},
		{"another organization", name, []string{"x509.subject:C=US,ST=WA,O=Other"}, false},
		{"another common name", name, []string{"x509.subject:C=US,ST=WA,O=Example,CN=other"}, false},
		{"a signer without a state", noState, []string{"x509.subject:C=US,ST=WA,O=Example"}, false},
		{"a signer with two units", twoUnits, []string{"x509.subject:C=US,ST=WA,O=Example"}, true},
		{"a signer with two units, one of which is asked for", twoUnits, []string{"x509.subject:C=US,ST=WA,O=Example,OU=Release"}, false},
		{"a signer with two units, the second of which is asked for", twoUnits, []string{"x509.subject:C=US,ST=WA,O=Example,OU=Admin"}, false},
		{"a signer with an attribute that has no name", odd, []string{"x509.subject:C=US,ST=WA,O=Example"}, true},
		{"the number of that attribute", odd, []string{"x509.subject:C=US,ST=WA,O=Example,1.2.3.4=x"}, true},
		{"another value of that attribute", odd, []string{"x509.subject:C=US,ST=WA,O=Example,1.2.3.4=y"}, false},
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
		weight.Bound{Floor: 16 << 10, Times: 64}.Check(t, len(s), func() { _, _ = nameAttributes(s) })
		attrs, err := nameAttributes(s)
		if err != nil {
			if attrs != nil {
				t.Fatal("attributes beside an error")
			}
			return
		}
		if len(s) > dn.MaxLength || len(attrs) > dn.MaxAttributes {
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
		if !isSubset(attrs, attrs) || !isSubset(attrs, more) || isSubset(more, attrs) || isSubset(attrs, other) {
			t.Fatalf("%q", attrs)
		}
	})
}

// TestSubjectsWithMoreThanIsAskedFor: what a certificate says of its owner besides
// what a trusted identity names is of no account, in whatever form it is there.
func TestSubjectsWithMoreThanIsAskedFor(t *testing.T) {
	t.Parallel()
	s := must(NewTrustPolicy(document(statementOf(identities("x509.subject: C=US, ST=Washington, O=Acme")))))(t).statements[0]
	oid := func(n ...int) asn1.ObjectIdentifier { return n }
	one := func(o asn1.ObjectIdentifier, v any) pkix.AttributeTypeAndValue {
		return pkix.AttributeTypeAndValue{Type: o, Value: v}
	}
	typed := func(tag int, text string) asn1.RawValue { return asn1.RawValue{Tag: tag, Bytes: []byte(text)} }
	country, state, org := one(oid(2, 5, 4, 6), "US"), one(oid(2, 5, 4, 8), "Washington"), one(oid(2, 5, 4, 10), "Acme")
	unit, cn, dc, email := oid(2, 5, 4, 11), oid(2, 5, 4, 3), oid(0, 9, 2342, 19200300, 100, 1, 25), oid(1, 2, 840, 113549, 1, 9, 1)
	for _, c := range []struct {
		name string
		more []pkix.RelativeDistinguishedNameSET // nil: the three alone
		all  []pkix.RelativeDistinguishedNameSET // in place of the three
		want bool
	}{
		{name: "e-mail", more: []pkix.RelativeDistinguishedNameSET{{one(email, "release@acme.example")}}, want: true},
		{name: "e-mail as IA5String", more: []pkix.RelativeDistinguishedNameSET{{one(email, typed(asn1.TagIA5String, "release@acme.example"))}}, want: true},
		{name: "two e-mails", more: []pkix.RelativeDistinguishedNameSET{{one(email, "a@acme.example")}, {one(email, "b@acme.example")}}, want: true},
		{name: "domain components", more: []pkix.RelativeDistinguishedNameSET{{one(dc, "acme")}, {one(dc, "corp")}}, want: true},
		{name: "extended validation", more: []pkix.RelativeDistinguishedNameSET{{one(oid(2, 5, 4, 15), "Private Organization")}, {one(oid(1, 3, 6, 1, 4, 1, 311, 60, 2, 1, 3), "US")}, {one(oid(2, 5, 4, 5), "HRB 1")}}, want: true},
		{name: "two units", more: []pkix.RelativeDistinguishedNameSET{{one(unit, "Release")}, {one(unit, "Build")}}, want: true},
		{name: "two values in one part", more: []pkix.RelativeDistinguishedNameSET{{one(cn, "release"), one(oid(0, 9, 2342, 19200300, 100, 1, 1), "r1")}}, want: true},
		{name: "an unknown type", more: []pkix.RelativeDistinguishedNameSET{{one(oid(1, 3, 6, 1, 4, 1, 99999, 1), "x")}}, want: true},
		{name: "an empty value", more: []pkix.RelativeDistinguishedNameSET{{one(cn, typed(asn1.TagUTF8String, ""))}}, want: true},
		{name: "text that looks like attributes", more: []pkix.RelativeDistinguishedNameSET{{one(cn, "x,O=Acme,C=US")}}, want: true},
		{name: "BMPString and T61String", all: []pkix.RelativeDistinguishedNameSET{{country}, {one(oid(2, 5, 4, 8), typed(asn1.TagT61String, "Washington"))}, {one(oid(2, 5, 4, 10), typed(asn1.TagBMPString, "\x00A\x00c\x00m\x00e"))}}, want: true},
		{name: "a second organization", more: []pkix.RelativeDistinguishedNameSET{{one(oid(2, 5, 4, 10), "Other")}}},
		{name: "a second organization before", all: []pkix.RelativeDistinguishedNameSET{{one(oid(2, 5, 4, 10), "Other")}, {country}, {state}, {org}}},
		{name: "a second organization beside it", all: []pkix.RelativeDistinguishedNameSET{{country}, {state}, {org, one(oid(2, 5, 4, 10), "Other")}}},
		{name: "the same organization twice", more: []pkix.RelativeDistinguishedNameSET{{org}}},
		{name: "the organization in the common name only", all: []pkix.RelativeDistinguishedNameSET{{country}, {state}, {one(cn, "x,O=Acme")}}},
		{name: "the organization as an e-mail", all: []pkix.RelativeDistinguishedNameSET{{country}, {state}, {one(email, "Acme")}}},
		{name: "another organization", all: []pkix.RelativeDistinguishedNameSET{{country}, {state}, {one(oid(2, 5, 4, 10), "Acme ")}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rdns := c.all
			if rdns == nil {
				rdns = append([]pkix.RelativeDistinguishedNameSET{{country}, {state}, {org}}, c.more...)
			}
			raw := must(asn1.Marshal(pkix.RDNSequence(rdns)))(t)
			leaf := testca.Test(t, testca.Options{Leaf: testca.Spec{RawSubject: raw}}).Leaf().Certificate
			err := s.trusts(leaf)
			if (err == nil) != c.want {
				t.Fatalf("%q: %v", leaf.Subject, err)
			}
			// The advice can be followed: what it says to write is accepted, and trusts the signer.
			advice := ownIdentity(leaf)
			id, ok := strings.CutPrefix(advice, "'")
			if !ok {
				return
			}
			p, err := NewTrustPolicy(document(statementOf(identities(strings.ReplaceAll(strings.TrimSuffix(id, "'"), "''", "'")))))
			if err != nil {
				t.Fatalf("%s: %v", advice, err)
			}
			if err := p.statements[0].trusts(leaf); err != nil {
				t.Errorf("%s: %v", advice, err)
			}
		})
	}
}

// TestIdentitiesAsProgramsPrintThem: a name that is refused is told with what to
// write, and that is accepted.
func TestIdentitiesAsProgramsPrintThem(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, says string }{
		{"in quotes", `x509.subject: C = US, ST = Washington, O = "Acme, Inc.", CN = release`, `'x509.subject: C=US, ST=Washington, O=Acme\, Inc., CN=release'`},
		{"a bare comma", `x509.subject: CN=release, O=Acme, Inc., ST=Washington, C=US`, `'x509.subject: CN=release, O=Acme\, Inc., ST=Washington, C=US'`},
		{"slashes", `x509.subject: /C=US/ST=Washington/O=Acme/CN=release`, `'x509.subject: C=US, ST=Washington, O=Acme, CN=release'`},
		{"slashes with a slash in a value", `x509.subject:/C=US/ST=WA/O=Acme/CN=https://a.example/b`, `CN=https://a.example/b'`},
		{"a label", `x509.subject: subject=C = US, ST = WA, O = Acme`, `'x509.subject: C=US, ST=WA, O=Acme'`},
		{"hexadecimal", `x509.subject: C=US,ST=WA,O=Acme,1.2.840.113549.1.9.1=#0c146140622e6578616d706c65`, ""},
		{"hexadecimal text", `x509.subject: C=US,ST=WA,O=Acme,1.2.840.113549.1.9.1=#0c0b6140622e6578616d706c65`, `emailAddress=a@b.example'`},
		{"several values", `x509.subject: C=US,ST=WA,O=Acme,CN=release+UID=1`, `CN=release, UID=1'`},
		{"lines", "x509.subject: countryName = US\nstateOrProvinceName = WA\norganizationName = Acme", `'x509.subject: C=US, ST=WA, O=Acme'`},
		{"lower case", `x509.subject: c=US, st=WA, o=Acme, cn=release`, `'x509.subject: C=US, ST=WA, O=Acme, CN=release'`},
		{"numbers", `x509.subject: 2.5.4.6=US, 2.5.4.8=WA, 2.5.4.10=Acme`, `'x509.subject: C=US, ST=WA, O=Acme'`},
		{"curly quotes", `x509.subject: C=US, ST=WA, O=“Acme; Sons”`, `O=Acme\; Sons'`},
		{"an apostrophe", `x509.subject: C=US, ST=WA, O="Acme's, Inc."`, `O=Acme''s\, Inc.'`},
		{"no prefix", `C=US, ST=WA, O=Acme`, `'x509.subject: C=US, ST=WA, O=Acme'`},
		{"no prefix and slashes", `/C=US/ST=WA/O=Acme`, `'x509.subject: C=US, ST=WA, O=Acme'`},
		{"an ARN", "arn:aws:signer:eu-central-1:111122223333:/signing-profiles/release", "AWS Signer's plugin"},
		{"a state is missing", `x509.subject: C=DE, O="Acme, Inc."`, `lacks`},
	} {
		_, err := NewTrustPolicy(document(statementOf(identities(c.in))))
		if err == nil {
			t.Errorf("%s: %q is accepted", c.name, c.in)
			continue
		}
		if c.says != "" && !strings.Contains(err.Error(), c.says) && c.says != "lacks" {
			t.Errorf("%s: %v; want %s", c.name, err, c.says)
		}
		if _, better, ok := strings.Cut(err.Error(), "write '"); ok {
			better, _, _ = strings.Cut(better, "' (commas")
			if _, err := NewTrustPolicy(document(statementOf(identities(strings.ReplaceAll(better, "''", "'"))))); err != nil {
				t.Errorf("%s: what is to be written is refused: %v", c.name, err)
			}
		} else if c.says != "" && strings.HasSuffix(c.says, "'") {
			t.Errorf("%s: nothing to write: %v", c.name, err)
		}
	}
}
