// Package dn reads distinguished names (RFC 4514) and the names of certificates, and knows what people write in their place.
package dn

import (
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"github.com/boltseal/boltseal/internal/base/nearest"
)

// Limits on a distinguished name that somebody writes.
const (
	MaxLength     = 4096
	MaxAttributes = 64
)

// Attribute is one part of a name. Type is the name by which it is known here
// (CN, emailAddress), or its number; Value is text, unescaped.
type Attribute struct{ Type, Value string }

// Errors of Parse that say more than what stands there.
var (
	errHexadecimal = errors.New(`a value in hexadecimal ("=#") is not read here`)
	errUnreadable  = errors.New("it cannot be read as a distinguished name (RFC 4514)")
)

// Parse reads a name by the rules for trusted identities
// (trust-store-trust-policy.md, "Trusted Identities Constraints"): each part has one
// value. Types but C, ST and O may be written in any case, by their longer names or by
// their numbers.
// Errors say what is wrong in one line; Instead knows what may have been meant.
func Parse(s string) (attrs []Attribute, err error) {
	defer func() { // the parser is a stranger's, and so may be the name
		if recover() != nil {
			attrs, err = nil, errUnreadable
		}
	}()
	if len(s) > MaxLength {
		return nil, fmt.Errorf("it is longer than %d bytes", MaxLength)
	}
	if isHexadecimal(s) {
		return nil, errHexadecimal
	}
	parsed, err := ldap.ParseDN(s)
	if err != nil {
		return nil, fmt.Errorf("it is no distinguished name (RFC 4514): %.200v", err)
	}
	if len(parsed.RDNs) > MaxAttributes {
		return nil, fmt.Errorf("it has more than %d attributes", MaxAttributes)
	}
	for _, rdn := range parsed.RDNs {
		if len(rdn.Attributes) != 1 {
			return nil, errors.New(`one part of it has several values ("+")`)
		}
		written := rdn.Attributes[0].Type
		name := typeOf(written)
		if name == "" {
			return nil, fmt.Errorf("%.40q is no attribute that is known here, nor a number%s", written, nearest.Hint(written, typeNames()))
		}
		// Those that every identity must have go by one name only, as the specification
		// has them: other tools that read the same document know no other.
		if (name == "C" || name == "ST" || name == "O") && written != name && written != "S" {
			return nil, fmt.Errorf("write %s in place of %s", name, written)
		}
		attrs = append(attrs, Attribute{name, rdn.Attributes[0].Value})
	}
	return attrs, nil
}

// isHexadecimal reports whether a value begins with "#", which means BER in
// hexadecimal (RFC 4514, section 2.4).
func isHexadecimal(s string) bool {
	inValue, start, escaped := false, false, false
	for i := range len(s) {
		c := s[i]
		switch {
		case escaped:
			escaped, start = false, false
		case c == '\\':
			escaped = true
		case !inValue && c == '=':
			inValue, start = true, true
		case c == ',' || c == ';' || c == '+':
			inValue, start = false, false
		case start && c == '#':
			return true
		case c != ' ':
			start = false
		}
	}
	return false
}

// Of returns the attributes of a certificate's name, in its order. A value that is no
// text is left out: nothing that is asked of it can hold.
func Of(name pkix.Name) []Attribute {
	attrs := make([]Attribute, 0, len(name.Names))
	for _, a := range name.Names {
		if v, ok := a.Value.(string); ok {
			attrs = append(attrs, Attribute{typeOf(a.Type.String()), v})
		}
	}
	return attrs
}

// Text writes a certificate's name as RFC 4514 has it, with the names of types that
// are known here, so that it can be copied into a trusted identity. Types that are
// part of pkix.Name come first, in its order.
func Text(name pkix.Name) string {
	var b strings.Builder
	rest := name
	rest.Names, rest.ExtraNames = nil, nil
	b.WriteString(rest.String())
	for i := len(name.Names) - 1; i >= 0; i-- {
		a := name.Names[i]
		number := a.Type.String()
		t := typeOf(number)
		value, ok := a.Value.(string)
		switch {
		case ownField(t):
			continue
		case !ok || t == number: // it has no other form
			value, t = pkix.RDNSequence{{a}}.String(), ""
		default:
			value = escapeValue(value)
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		if t != "" {
			b.WriteString(t + "=")
		}
		b.WriteString(value)
	}
	return b.String()
}

// ownField reports whether a type has a field in pkix.Name.
func ownField(t string) bool {
	switch t {
	case "CN", "serialNumber", "C", "L", "ST", "STREET", "O", "OU", "postalCode":
		return true
	}
	return false
}

// Write writes an attribute as Parse reads it.
func Write(a Attribute) string { return a.Type + "=" + escapeValue(a.Value) }

// escapeValue writes a value (RFC 4514, section 2.4).
func escapeValue(value string) string {
	var b strings.Builder
	for i, r := range value {
		switch {
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, "\\%02x", r)
			continue
		case strings.ContainsRune(`,+"\<>;`, r), i == 0 && r == '#', r == ' ' && (i == 0 || i == len(value)-1):
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
