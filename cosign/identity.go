package cosign

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/boltseal/boltseal/internal/base/nearest"
)

// Limits on what one trust policy names.
const (
	MaxIdentities  = 100
	MaxKeys        = 100
	maxMatchLength = 2048
)

// Match is what a text must be. The zero value matches nothing.
type Match struct {
	text       string
	expression *regexp.Regexp
}

// ExactMatch matches one text; "" matches nothing.
func ExactMatch(text string) Match { return Match{text: text} }

// ExpressionMatch matches the whole of a text by a regular expression (RE2): one that
// fits a part of it does not match. An error says what is wrong with the expression.
func ExpressionMatch(expression string) (Match, error) {
	if expression == "" || len(expression) > maxMatchLength {
		return Match{}, fmt.Errorf("an expression of %d bytes; 1 to %d are allowed", len(expression), maxMatchLength)
	}
	// By itself first: what only fits together with the brackets around it would not be
	// bound to both ends.
	if _, err := regexp.Compile(expression); err != nil {
		return Match{}, fmt.Errorf("%q is not a regular expression: %w", expression, err)
	}
	re, err := regexp.Compile(`\A(?:` + expression + `)\z`)
	if err != nil {
		return Match{}, fmt.Errorf("%q is not a regular expression: %w", expression, err)
	}
	return Match{expression: re, text: expression}, nil
}

// IsZero reports whether it matches nothing.
func (m Match) IsZero() bool { return m.text == "" }

// Matches reports whether the whole of a text is what it must be.
func (m Match) Matches(text string) bool {
	if m.expression != nil {
		return m.expression.MatchString(text)
	}
	return m.text != "" && m.text == text
}

// String is the text, or the expression between slashes.
func (m Match) String() string {
	if m.expression != nil {
		return "/" + m.text + "/"
	}
	return m.text
}

// Identity is to whom a certificate must have been issued. All of it must match.
type Identity struct {
	// Name is shown in messages. "" means the subject.
	Name string
	// Issuer is who vouches for the subject: the address of an OpenID Connect provider.
	// Required.
	Issuer Match
	// Subject is the certificate's only alternative name: an address of a workflow, an
	// e-mail address, a SPIFFE id, a user name. Required.
	Subject Match
	// Extensions are what further extensions of the certificate must be, by name: see
	// [Extensions]. A certificate without one of them does not match.
	Extensions map[string]Match
}

func (id *Identity) name() string {
	if id.Name != "" {
		return id.Name
	}
	return id.Subject.String()
}

func checkIdentity(id Identity) error {
	switch {
	case id.Issuer.IsZero():
		return fmt.Errorf("the identity %q has no issuer: whoever has an account with any provider could be it", id.name())
	case id.Subject.IsZero():
		return errors.New("an identity has no subject: it would be everybody whom its issuer knows")
	}
	for name, m := range id.Extensions {
		if extensionNumber(name) == 0 {
			return fmt.Errorf("the identity %q: %q is no extension of a certificate%s", id.name(), name, nearest.Hint(name, Extensions()))
		}
		if m.IsZero() {
			return fmt.Errorf("the identity %q: the extension %s must be something", id.name(), name)
		}
	}
	return nil
}

// extensionNames are Fulcio's extensions, by the last number of their object identifier
// below 1.3.6.1.4.1.57264.1 (fulcio, docs/oid-info.md).
var extensionNames = [...]string{
	9: "buildSignerURI", 10: "buildSignerDigest", 11: "runnerEnvironment", 12: "sourceRepositoryURI", 13: "sourceRepositoryDigest",
	14: "sourceRepositoryRef", 15: "sourceRepositoryIdentifier", 16: "sourceRepositoryOwnerURI", 17: "sourceRepositoryOwnerIdentifier",
	18: "buildConfigURI", 19: "buildConfigDigest", 20: "buildTrigger", 21: "runInvocationURI", 22: "sourceRepositoryVisibilityAtSigning",
	23: "deploymentEnvironment", 24: "tokenSubject",
}

// Extensions are the names that [Identity.Extensions] may have, in the order of their
// object identifiers.
func Extensions() []string { return slices.DeleteFunc(slices.Clone(extensionNames[:]), isEmpty) }

func isEmpty(s string) bool { return s == "" }

func extensionNumber(name string) int {
	if name == "" {
		return 0
	}
	return max(slices.Index(extensionNames[:], name), 0)
}

const (
	numberIssuerRaw = 1
	numberUserName  = 7
	numberIssuer    = 8
)

var oidFulcio = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1}

// fulcioNumber is the last number of an object identifier below Fulcio's, 0 for others.
func fulcioNumber(id asn1.ObjectIdentifier) int {
	if len(id) != len(oidFulcio)+1 || !id[:len(oidFulcio)].Equal(oidFulcio) {
		return 0
	}
	return id[len(oidFulcio)]
}

// certified is to whom a certificate was issued.
type certified struct {
	issuer, subject string
	extensions      map[string]string
}

// readCertified reads the identity in a certificate of Fulcio's.
func readCertified(c *x509.Certificate) (*certified, error) {
	out := &certified{extensions: make(map[string]string)}
	var raw string
	for _, e := range c.Extensions {
		n := fulcioNumber(e.Id)
		switch {
		case n == numberIssuerRaw:
			raw = string(e.Value)
		case n == numberIssuer || n > 0 && n < len(extensionNames) && extensionNames[n] != "":
			text, ok := utf8String(e.Value)
			if !ok {
				return nil, fmt.Errorf("its extension %v is not a text", e.Id)
			}
			if n == numberIssuer {
				out.issuer = text
			} else {
				out.extensions[extensionNames[n]] = text
			}
		}
	}
	if out.issuer == "" {
		out.issuer = raw
	}
	if out.issuer == "" || !utf8.ValidString(out.issuer) {
		return nil, errors.New("it does not say which OpenID Connect provider vouches for its subject")
	}
	var err error
	out.subject, err = onlyName(c)
	return out, err
}

func utf8String(der []byte) (string, bool) {
	in, text := cryptobyte.String(der), cryptobyte.String{}
	ok := in.ReadASN1(&text, cryptobyte_asn1.UTF8String) && in.Empty() && utf8.Valid(text)
	return string(text), ok
}

// onlyName is the alternative name of a certificate, which must have one and no other:
// of two, a rule could see one and a person the other.
func onlyName(c *x509.Certificate) (string, error) {
	names := slices.Clone(c.EmailAddresses)
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	count := 0
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidSubjectAltName) {
			continue
		}
		in, list := cryptobyte.String(e.Value), cryptobyte.String{}
		if !in.ReadASN1(&list, cryptobyte_asn1.SEQUENCE) || !in.Empty() {
			return "", errors.New("its names cannot be read")
		}
		for !list.Empty() {
			var one cryptobyte.String
			var tag cryptobyte_asn1.Tag
			if !list.ReadAnyASN1(&one, &tag) {
				return "", errors.New("its names cannot be read")
			}
			count++
			if name, ok := userName(one, tag); ok {
				names = append(names, name)
			}
		}
	}
	if count != 1 || len(names) != 1 || names[0] == "" {
		return "", fmt.Errorf("it has %d names, of which %d are of a kind that is known here; it must have one", count, len(names))
	}
	return names[0], nil
}

// userName reads a name of Fulcio's own kind (RFC 5280 section 4.2.1.6, otherName).
func userName(name cryptobyte.String, tag cryptobyte_asn1.Tag) (string, bool) {
	explicit := cryptobyte_asn1.Tag(0).Constructed().ContextSpecific()
	var id asn1.ObjectIdentifier
	var value cryptobyte.String
	if tag != explicit || !name.ReadASN1ObjectIdentifier(&id) || fulcioNumber(id) != numberUserName || !name.ReadASN1(&value, explicit) || !name.Empty() {
		return "", false
	}
	return utf8String(value)
}

// matchIdentity is the first identity that a certificate's is, or why it is none.
func matchIdentity(identities []Identity, c *certified) (*Identity, error) {
	best, why := -1, ""
	for i := range identities {
		id := &identities[i]
		fits, missing := 0, ""
		if id.Subject.Matches(c.subject) {
			fits++
		} else {
			missing = fmt.Sprintf("the subject must be %q", id.Subject)
		}
		if id.Issuer.Matches(c.issuer) {
			fits++
		} else if missing == "" {
			missing = fmt.Sprintf("the issuer must be %q", id.Issuer)
		}
		for _, name := range slices.Sorted(maps.Keys(id.Extensions)) {
			switch got, ok := c.extensions[name]; {
			case id.Extensions[name].Matches(got):
				fits++
			case missing == "" && !ok:
				missing = fmt.Sprintf("the certificate has no %s, and it must be %q", name, id.Extensions[name])
			case missing == "":
				missing = fmt.Sprintf("%s is %s and must be %q", name, quotedText(got), id.Extensions[name])
			}
		}
		if missing == "" {
			return id, nil
		}
		if fits > best {
			best, why = fits, missing
		}
	}
	return nil, fmt.Errorf("signed by %s, for whom %s vouches, and that is none of the trusted identities: %s", quotedText(c.subject), quotedText(c.issuer), why)
}

// quotedText is a text from outside, for messages: escaped and cut.
func quotedText(s string) string {
	const most = 300
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return fmt.Sprintf("%q", s)
}
