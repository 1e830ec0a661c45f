package notation

import (
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/notation/internal/dn"
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
				return fmt.Errorf("trustedIdentities: \"*\" must be the only entry")
			}
			s.anyIdentity = true
			continue
		}
		prefix, value, ok := strings.Cut(t, ":")
		if !ok || prefix != subjectPrefix {
			return notSubject(t, prefix)
		}
		attrs, err := nameAttributes(value)
		if err != nil {
			return fmt.Errorf("trustedIdentities: %q: %v%s", t, err, suggestName(value))
		}
		for _, other := range s.identities {
			if isSubset(attrs, other.attrs) || isSubset(other.attrs, attrs) {
				return fmt.Errorf("trustedIdentities: %q and %q overlap; keep the one that is meant", other.text, t)
			}
		}
		s.identities = append(s.identities, identity{text: strings.TrimSpace(value), attrs: attrs})
	}
	return nil
}

// nameAttributes reads a distinguished name by the rules for trusted identities:
// each attribute once, with C, ST and O. Types are known by one name each.
func nameAttributes(text string) (map[string]string, error) {
	list, err := dn.Parse(text)
	if err != nil {
		return nil, err
	}
	attrs := make(map[string]string, len(list))
	for _, a := range list {
		if _, twice := attrs[a.Type]; twice {
			return nil, fmt.Errorf("it has %s twice", a.Type)
		}
		attrs[a.Type] = a.Value
	}
	for _, must := range []string{"C", "ST", "O"} {
		if attrs[must] == "" {
			return nil, fmt.Errorf("it lacks %s; C, ST (or S) and O must be there", must)
		}
	}
	return attrs, nil
}

// suggestName says what to write in place of a name that is refused; "" where that is
// not known.
func suggestName(text string) string {
	better := dn.Instead(text)
	if better == "" {
		return ""
	}
	if _, err := nameAttributes(better); err != nil {
		return ""
	}
	return "; write '" + strings.ReplaceAll(subjectPrefix+": "+better, "'", "''") + "' (commas between the attributes, no slashes and no quotes around values, a \\ before a comma that is part of a value)"
}

// notSubject says what an identity is that does not name a subject.
func notSubject(text, prefix string) error {
	what := fmt.Errorf("trustedIdentities: %q must be \"*\" or start with \"%s:\"%s", text, subjectPrefix, nearest.Hint(prefix, []string{subjectPrefix}))
	if strings.HasPrefix(text, "arn:") {
		return fmt.Errorf("trustedIdentities: %q is an ARN, by which AWS Signer's plugin for Notation knows signing profiles: Boltseal runs no plugin and trusts no signature by it. "+
			"Name the subject of a certificate of your own (\"%s:\"), or keep what AWS Signer signed with what verifies it now", text, subjectPrefix)
	}
	if better := suggestName(text); better != "" {
		return fmt.Errorf("%v%s", what, better)
	}
	return what
}

func isSubset(a, b map[string]string) bool {
	for k, v := range a {
		if got, ok := b[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// trusts tells whether the leaf is one of the trusted identities. An attribute that
// no identity asks about is of no account, however often the subject has it; one that
// an identity asks about must be there once.
func (s *statement) trusts(leaf *x509.Certificate) error {
	if s.anyIdentity {
		return nil
	}
	have := map[string]string{}
	twice := map[string]bool{}
	for _, a := range dn.Of(leaf.Subject) {
		if _, again := have[a.Type]; again {
			twice[a.Type] = true
		}
		have[a.Type] = a.Value
	}
	for t := range twice {
		delete(have, t) // which of them is meant cannot be said
	}
	var want []string
	unclear := ""
	for _, id := range s.identities {
		if isSubset(id.attrs, have) {
			return nil
		}
		want = append(want, fmt.Sprintf("%q", id.text))
		for t := range id.attrs {
			if twice[t] && (unclear == "" || t < unclear) {
				unclear = t
			}
		}
	}
	if unclear != "" {
		unclear = "; the subject has " + unclear + " more than once, and an attribute that a trusted identity names must be there once"
	}
	return fmt.Errorf("signed by %q, which is not a trusted identity (%s)%s", dn.Text(leaf.Subject), strings.Join(want, ", "), unclear)
}

// ownIdentity says by which trusted identity a signer would be trusted, or that there
// is none.
func ownIdentity(leaf *x509.Certificate) string {
	count := map[string]int{}
	for _, a := range dn.Of(leaf.Subject) {
		count[a.Type]++
	}
	text := ""
	for _, a := range dn.Of(leaf.Subject) {
		switch a.Type {
		case "C", "ST", "L", "O", "OU", "CN":
			if count[a.Type] == 1 { // else none can name it
				text += ", " + dn.Write(a)
			}
		}
	}
	text = strings.TrimPrefix(text, ", ")
	if _, err := nameAttributes(text); err != nil {
		return remedyAnyIdentity
	}
	return "'" + strings.ReplaceAll(subjectPrefix+": "+text, "'", "''") + "'"
}

// remedyAnyIdentity is for signers whose subject no trusted identity can name: C, ST
// or O is missing in it, or there twice.
const remedyAnyIdentity = "\"*\", with a trust store of its own that contains no other CA than this signer's, since no trusted identity can name its subject,"
