package notation

import (
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"github.com/boltseal/boltseal/internal/nearest"
)

// Limits on a distinguished name.
const (
	maxDNLength     = 4096
	maxDNAttributes = 64
)

const subjectPrefix = "x509.subject"

// identity is a set of attributes that a leaf's subject must have.
type identity struct {
	text  string
	attrs map[string]string
}

func (s *statement) addIdentities(texts []string) error {
	if len(texts) == 0 {
		return fmt.Errorf("trustedIdentities is empty: nobody would be trusted")
	}
	if len(texts) > MaxIdentities {
		return fmt.Errorf("more than %d trustedIdentities", MaxIdentities)
	}
	for _, t := range texts {
		if t == "*" {
			if len(texts) > 1 {
				return fmt.Errorf("trustedIdentities: \"*\" must stand alone")
			}
			s.anyIdentity = true
			continue
		}
		prefix, value, ok := strings.Cut(t, ":")
		if !ok || prefix != subjectPrefix {
			return fmt.Errorf("trustedIdentities: %q must be \"*\" or start with \"%s:\"%s", t, subjectPrefix, nearest.Hint(prefix, []string{subjectPrefix}))
		}
		attrs, err := parseDN(value)
		if err != nil {
			return fmt.Errorf("trustedIdentities: %q: %v", t, err)
		}
		for _, other := range s.identities {
			if subset(attrs, other.attrs) || subset(other.attrs, attrs) {
				return fmt.Errorf("trustedIdentities: %q and %q overlap; keep the one that is meant", other.text, t)
			}
		}
		s.identities = append(s.identities, identity{text: strings.TrimSpace(value), attrs: attrs})
	}
	return nil
}

// parseDN reads a distinguished name (RFC 4514) by the rules for trusted
// identities: single-valued, each attribute once, with C, ST and O.
func parseDN(s string) (attrs map[string]string, err error) {
	defer func() { // the parser is a stranger's, and so may be the name
		if recover() != nil {
			attrs, err = nil, fmt.Errorf("it cannot be read as a distinguished name (RFC 4514)")
		}
	}()
	switch {
	case len(s) > maxDNLength:
		return nil, fmt.Errorf("it is longer than %d bytes", maxDNLength)
	case strings.Contains(s, "=#"):
		return nil, fmt.Errorf("\"=#\" (a value in hexadecimal) is not supported")
	}
	dn, err := ldap.ParseDN(s)
	if err != nil {
		return nil, fmt.Errorf("it is no distinguished name (RFC 4514): %v", err)
	}
	if len(dn.RDNs) > maxDNAttributes {
		return nil, fmt.Errorf("it has more than %d attributes", maxDNAttributes)
	}
	attrs = make(map[string]string, len(dn.RDNs))
	for _, rdn := range dn.RDNs {
		if len(rdn.Attributes) != 1 {
			return nil, fmt.Errorf("one part of it has several values (\"+\")")
		}
		key, value := rdn.Attributes[0].Type, rdn.Attributes[0].Value
		if key == "S" {
			key = "ST"
		}
		if _, twice := attrs[key]; twice {
			return nil, fmt.Errorf("it has %s twice", key)
		}
		attrs[key] = value
	}
	for _, must := range []string{"C", "ST", "O"} {
		if attrs[must] == "" {
			return nil, fmt.Errorf("it lacks %s; C, ST (or S) and O must be there", must)
		}
	}
	return attrs, nil
}

func subset(a, b map[string]string) bool {
	for k, v := range a {
		if got, ok := b[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// trusts tells whether the leaf is one of the trusted identities.
func (s *statement) trusts(leaf *x509.Certificate) error {
	if s.anyIdentity {
		return nil
	}
	attrs, err := parseDN(leaf.Subject.String())
	if err != nil {
		return fmt.Errorf("the signer %q cannot be held against the trusted identities: %v", leaf.Subject, err)
	}
	var want []string
	for _, id := range s.identities {
		if subset(id.attrs, attrs) {
			return nil
		}
		want = append(want, fmt.Sprintf("%q", id.text))
	}
	return fmt.Errorf("signed by %q, which is not a trusted identity (%s)", leaf.Subject, strings.Join(want, ", "))
}
