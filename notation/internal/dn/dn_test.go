package dn

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"strings"
	"testing"
)

func TestInstead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, want string }{
		{"openssl, one line", `C = US, ST = WA, O = "Acme, Inc.", CN = release`, `C=US, ST=WA, O=Acme\, Inc., CN=release`},
		{"openssl before 1.1", `/C=US/ST=WA/O=Acme, Inc./CN=release/emailAddress=a@b.example`, `C=US, ST=WA, O=Acme\, Inc., CN=release, emailAddress=a@b.example`},
		{"openssl, RFC 2253", `CN=release,O=Acme\, Inc.,ST=WA,C=US`, `CN=release, O=Acme\, Inc., ST=WA, C=US`},
		{"openssl, several lines", "subject=\n    countryName               = US\n    stateOrProvinceName       = WA\n    organizationName          = Acme\n", `C=US, ST=WA, O=Acme`},
		{"openssl's escapes", `/C=DE/ST=BY/O=M\xC3\xBCller`, `C=DE, ST=BY, O=Müller`},
		{"escapes of RFC 2253", `C=DE, ST=BY, O=M\C3\BCller`, `C=DE, ST=BY, O=Müller`},
		{"Windows", `E=a@b.example, CN=release, O="Acme ""One""", S=WA, C=US`, `emailAddress=a@b.example, CN=release, O=Acme \"\"One\"\", ST=WA, C=US`},
		{"Java", `EMAILADDRESS=a@b.example, CN=release, O="Acme, Inc.", ST=WA, C=US`, `emailAddress=a@b.example, CN=release, O=Acme\, Inc., ST=WA, C=US`},
		{"numbers", `2.5.4.6=US;OID.2.5.4.8=WA;2.5.4.10=Acme`, `C=US, ST=WA, O=Acme`},
		{"T61String in hexadecimal", `C=US, O=#14044163 6d65`, ""},
		{"BMPString in hexadecimal", `C=US, O=#1e08004100630 06d0065`, ""},
		{"BMPString", `C=US, O=#1e080041006300 6d0065`, ""},
		{"a hash that is no hexadecimal", `C=US, O=#1`, ""},
		{"domain components", `DC=corp, DC=acme, O=Acme; C=US`, `DC=corp, DC=acme, O=Acme, C=US`},
		{"a hash at the start of a value", `/C=US/O=\#1 Acme`, `C=US, O=\#1 Acme`},
		{"spaces at its ends", `C=US, O=" Acme "`, `C=US, O=\ Acme\ `},
		{"web page", "C\u00a0=\u00a0US,\u00a0O\u00a0=\u00a0\u201cAcme, Inc.\u201d", `C=US, O=Acme\, Inc.`},
		{"a label with a colon", `Subject: C = US, O = Acme`, `C=US, O=Acme`},
		{"an open quote", `C=US, O="Acme`, ""},
		{"no name at all", `release`, ""},
		{"nothing", ``, ""},
		{"a stranger's type", `FOO=bar, C=US`, ""},
		{"a control character", "C=US, O=A\x07cme", ""},
		{"too long", strings.Repeat("C=US, ", MaxLength), ""},
	} {
		got := Instead(c.in)
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if _, err := Parse(got); got != "" && err != nil {
			t.Errorf("%s: %q is refused: %v", c.name, got, err)
		}
	}
	for in, want := range map[string]string{"C=US, O=#1e0800410063006d0065": "Acme", "C=US, O=#140441636d65": "Acme", "C=US, O=#130441636d65": "Acme", "C=US, O=#0c0441636d65": "Acme", "C=US, O=#160441636d65": "Acme"} {
		if got := Instead(in); got != "C=US, O="+want {
			t.Errorf("%s: %q", in, got)
		}
	}
}

// TestTextCanBeCopied: what is shown of a certificate's name is read back as it is.
func TestTextCanBeCopied(t *testing.T) {
	t.Parallel()
	attr := func(v string, oid ...int) pkix.AttributeTypeAndValue {
		return pkix.AttributeTypeAndValue{Type: oid, Value: v}
	}
	raw, err := asn1.Marshal(pkix.RDNSequence{
		{attr("corp", 0, 9, 2342, 19200300, 100, 1, 25)}, {attr("US", 2, 5, 4, 6)}, {attr("WA", 2, 5, 4, 8)}, {attr(`Acme, "Inc." `, 2, 5, 4, 10)}, {attr("#1", 2, 5, 4, 3)},
		{attr("a@b.example", 1, 2, 840, 113549, 1, 9, 1)},
	})
	if err != nil {
		t.Fatal(err)
	}
	var rdns pkix.RDNSequence
	if _, err := asn1.Unmarshal(raw, &rdns); err != nil {
		t.Fatal(err)
	}
	var name pkix.Name
	name.FillFromRDNSequence(&rdns)
	text := Text(name)
	if want := `CN=\#1,O=Acme\, \"Inc.\"\ ,ST=WA,C=US,emailAddress=a@b.example,DC=corp`; text != want {
		t.Errorf("%s\nwant %s", text, want)
	}
	attrs, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range Of(name) {
		if !slices.Contains(attrs, a) {
			t.Errorf("%v is not in %v", a, attrs)
		}
	}
	odd := pkix.Name{Country: []string{"US"}, Names: []pkix.AttributeTypeAndValue{attr("US", 2, 5, 4, 6), attr("x", 1, 2, 3)}}
	if got := Text(odd); got != "C=US,1.2.3=#130178" {
		t.Error(got)
	}
}

// FuzzInstead: whatever somebody writes, what is put in its place is read, says no
// more than was written, and both end.
func FuzzInstead(f *testing.F) {
	for _, s := range []string{`C = US, ST = WA, O = "Acme, Inc."`, "/C=US/O=a/b", "C=#0c0161", `C=\xC3\xBC`, "a+b=c", "subject: C=US;O=#", `O="`, `\`, "C=US\nO=\\", "//=/=", strings.Repeat("C=", 100)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		better := Instead(s)
		if better == "" {
			return
		}
		attrs, err := Parse(better)
		if err != nil {
			t.Fatalf("%q for %q: %v", better, s, err)
		}
		if len(attrs) > strings.Count(straightenQuotes(s), "=") {
			t.Fatalf("%q has more parts than %q", better, s)
		}
		if again := Instead(better); again != better {
			t.Fatalf("%q becomes %q", better, again)
		}
	})
}

// BenchmarkInstead is of the names that cost most.
func BenchmarkInstead(b *testing.B) {
	for _, s := range []string{strings.Repeat(",", MaxLength), strings.Repeat("C=,", MaxLength/3), strings.Repeat(`\`, MaxLength), strings.Repeat(",a.b=", MaxLength/5), "/" + strings.Repeat("/1.1.1.1.1=", MaxLength/12)} {
		b.Run(s[:3], func(b *testing.B) {
			for b.Loop() {
				Instead(s)
			}
		})
	}
}
