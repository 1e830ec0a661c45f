package notation

import (
	"fmt"
	"slices"
	"strings"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/trust"
)

// TrustPolicyDocument is the Notary Project's trust policy document, version 1.0
// (trust-store-trust-policy.md, "Trust Policy").
type TrustPolicyDocument struct {
	// Version must be "1.0".
	Version string `json:"version"`
	// TrustPolicies are the statements: of a repository, the one that names it counts, else the one for *.
	TrustPolicies []TrustPolicyDoc `json:"trustPolicies"`
}

// TrustPolicyDoc is one statement of the document.
type TrustPolicyDoc struct {
	// Name is that of the statement.
	Name string `json:"name"`
	// RegistryScopes are whole repositories (host/path), or * alone.
	RegistryScopes []string `json:"registryScopes"`
	// SignatureVerification says which checks count.
	SignatureVerification SignatureVerification `json:"signatureVerification"`
	// TrustStores are TYPE:NAME of the trust stores that signatures must lead to.
	TrustStores []string `json:"trustStores,omitempty"`
	// TrustedIdentities are who may sign, as x509.subject: C=…, ST=…, O=…, or * for everybody of the trust stores.
	TrustedIdentities []string `json:"trustedIdentities,omitempty"`
}

// SignatureVerification says which checks a statement enforces.
type SignatureVerification struct {
	// Level is strict, permissive, audit or skip.
	Level string `json:"level"`
	// Override maps checks to enforce, log or skip.
	Override map[string]string `json:"override,omitempty"`
	// VerifyTimestamp is always or afterCertExpiry.
	VerifyTimestamp string `json:"verifyTimestamp,omitempty"`
}

// Limits on a trust policy document.
const (
	MaxTrustPolicies = 1000
	MaxScopes        = 10_000
	MaxIdentities    = 1000
)

type action uint8

const (
	enforce action = iota
	record
	skip
)

var actionNames = []string{enforce: "enforce", record: "log", skip: "skip"}

// checks of a verification, by the names that a document overrides them with.
const (
	checkIntegrity    = "integrity"
	checkAuthenticity = "authenticity"
	checkTimestamp    = "authenticTimestamp"
	checkExpiry       = "expiry"
	checkRevocation   = "revocation"
)

var checkOrder = []string{checkIntegrity, checkAuthenticity, checkExpiry, checkTimestamp, checkRevocation}

type actions struct{ authenticity, timestamp, expiry, revocation action }

var levels = map[string]actions{
	"strict":     {enforce, enforce, enforce, enforce},
	"permissive": {enforce, record, record, record},
	"audit":      {record, record, record, record},
	levelSkip:    {skip, skip, skip, skip},
}

const levelSkip = "skip"

var levelNames = []string{"strict", "permissive", "audit", levelSkip}

// statement is a trust policy that was checked.
type statement struct {
	name            string
	level           string
	actions         actions
	afterCertExpiry bool
	stores          []string // "type:name"
	identities      []identity
	anyIdentity     bool
}

// TrustPolicy is a document that was checked. It is immutable.
type TrustPolicy struct {
	scopes     map[string]*statement // by canonical repository
	wildcard   *statement
	statements []*statement
}

// NewTrustPolicy holds a document against the rules of version 1.0. Errors name
// statement, field and value, and wrap [boltseal.ErrConfiguration].
func NewTrustPolicy(doc TrustPolicyDocument) (*TrustPolicy, error) {
	switch {
	case doc.Version == "":
		return nil, policyError("it states no version; write version: \"1.0\"")
	case doc.Version != "1.0":
		return nil, policyError("version %q is not known; it must be \"1.0\"", doc.Version)
	case len(doc.TrustPolicies) == 0:
		return nil, policyError("it has no trustPolicies")
	case len(doc.TrustPolicies) > MaxTrustPolicies:
		return nil, policyError("it has %d trustPolicies, at most %d", len(doc.TrustPolicies), MaxTrustPolicies)
	}
	p := &TrustPolicy{scopes: make(map[string]*statement)}
	names := make(map[string]bool)
	for _, d := range doc.TrustPolicies {
		if d.Name == "" {
			return nil, policyError("a trust policy has no name")
		}
		if names[d.Name] {
			return nil, policyError("two trust policies are named %q", d.Name)
		}
		names[d.Name] = true
		s, err := newStatement(d)
		if err == nil {
			err = p.addScopes(d, s)
		}
		if err != nil {
			return nil, policyError("trust policy %q: %v", d.Name, err)
		}
		p.statements = append(p.statements, s)
	}
	return p, nil
}

func policyError(format string, a ...any) error {
	return fmt.Errorf("%w: trustPolicyDoc: %s", boltseal.ErrConfiguration, fmt.Sprintf(format, a...))
}

func newStatement(d TrustPolicyDoc) (*statement, error) {
	v := d.SignatureVerification
	acts, ok := levels[v.Level]
	switch {
	case v.Level == "":
		return nil, fmt.Errorf("signatureVerification.level is missing; it must be one of %s", strings.Join(levelNames, ", "))
	case !ok:
		return nil, fmt.Errorf("signatureVerification.level %q is not one of %s%s", v.Level, strings.Join(levelNames, ", "), nearest.Hint(v.Level, levelNames))
	}
	s := &statement{name: d.Name, level: v.Level, actions: acts}
	if err := s.override(v); err != nil {
		return nil, err
	}
	switch v.VerifyTimestamp {
	case "", "always":
	case "afterCertExpiry":
		s.afterCertExpiry = true
	default:
		return nil, fmt.Errorf("signatureVerification.verifyTimestamp %q is not always or afterCertExpiry%s", v.VerifyTimestamp, nearest.Hint(v.VerifyTimestamp, []string{"always", "afterCertExpiry"}))
	}
	if v.Level == levelSkip {
		if len(d.TrustStores) > 0 || len(d.TrustedIdentities) > 0 {
			return nil, fmt.Errorf("level skip checks nothing: remove trustStores and trustedIdentities, or choose another level")
		}
		return s, nil
	}
	if err := s.addStores(d.TrustStores); err != nil {
		return nil, err
	}
	return s, s.addIdentities(d.TrustedIdentities)
}

func (s *statement) override(v SignatureVerification) error {
	if len(v.Override) > 0 && v.Level == levelSkip {
		return fmt.Errorf("level skip has nothing to override")
	}
	fields := map[string]*action{checkAuthenticity: &s.actions.authenticity, checkTimestamp: &s.actions.timestamp,
		checkExpiry: &s.actions.expiry, checkRevocation: &s.actions.revocation}
	for key, value := range v.Override {
		target := fields[key]
		act := slices.Index(actionNames, value)
		switch {
		case key == checkIntegrity:
			return fmt.Errorf("signatureVerification.override: integrity cannot be overridden")
		case target == nil:
			return fmt.Errorf("signatureVerification.override: %q is no check%s", key, nearest.Hint(key, checkOrder))
		case act < 0:
			return fmt.Errorf("signatureVerification.override.%s: %q is not enforce, log or skip%s", key, value, nearest.Hint(value, actionNames))
		case action(act) == skip && key != checkRevocation:
			return fmt.Errorf("signatureVerification.override.%s: only revocation can be skipped", key)
		}
		*target = action(act)
	}
	return nil
}

func (s *statement) addStores(names []string) error {
	if len(names) == 0 {
		return fmt.Errorf("trustStores is empty: nobody would be trusted")
	}
	signers := false
	for _, n := range names {
		kind, name, ok := strings.Cut(n, ":")
		if !ok {
			return fmt.Errorf("trustStores: %q must be TYPE:NAME, such as ca:%s", n, n)
		}
		if !slices.Contains(trust.Types(), kind) {
			return fmt.Errorf("trustStores: %q: the type must be one of %s%s", n, strings.Join(trust.Types(), ", "), nearest.Hint(kind, trust.Types()))
		}
		if name == "" || strings.IndexFunc(name, notInName) >= 0 {
			return fmt.Errorf("trustStores: %q: the name may contain letters, digits, and ._- only", n)
		}
		signers = signers || kind != string(trust.TypeTSA)
		s.stores = append(s.stores, n)
	}
	if !signers {
		return fmt.Errorf("trustStores names timestamp authorities only: no signer would be trusted")
	}
	return nil
}

func notInName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
}

func (p *TrustPolicy) addScopes(d TrustPolicyDoc, s *statement) error {
	if len(d.RegistryScopes) == 0 {
		return fmt.Errorf("registryScopes is empty: the policy would never apply")
	}
	if len(p.scopes)+len(d.RegistryScopes) > MaxScopes {
		return fmt.Errorf("more than %d registryScopes", MaxScopes)
	}
	for _, scope := range d.RegistryScopes {
		if scope == "*" {
			switch {
			case len(d.RegistryScopes) > 1:
				return fmt.Errorf("registryScopes: \"*\" must be the only entry")
			case s.level == levelSkip:
				return fmt.Errorf("level skip with scope \"*\" would trust every signed image; name the repositories")
			case p.wildcard != nil:
				return fmt.Errorf("registryScopes: \"*\" belongs to trust policy %q already", p.wildcard.name)
			}
			p.wildcard = s
			continue
		}
		name, err := canonicalScope(scope)
		if err != nil {
			return err
		}
		if other := p.scopes[name]; other != nil {
			return fmt.Errorf("registryScopes: %q belongs to trust policy %q already", scope, other.name)
		}
		p.scopes[name] = s
	}
	return nil
}

// canonicalScope reads a scope as an image's name is read, so that both are
// written alike.
func canonicalScope(scope string) (string, error) {
	if strings.Contains(scope, "*") {
		return "", fmt.Errorf("registryScopes: %q: a wildcard must be the only entry; list each repository", scope)
	}
	if scheme, rest, ok := strings.Cut(scope, "://"); ok {
		return "", fmt.Errorf("registryScopes: %q: leave %s:// out, and write %s as it is written in an image's name", scope, scheme, strings.TrimRight(rest, "/"))
	}
	if !strings.Contains(scope, "/") {
		return "", fmt.Errorf("registryScopes: %q must be HOST/REPOSITORY", scope)
	}
	ref, err := boltseal.ParseReference(scope)
	if err != nil {
		return "", fmt.Errorf("registryScopes: %v", err)
	}
	if ref.Registry == "" { // a host with an underscore is none, and the grammar then takes it for a path
		return "", fmt.Errorf("registryScopes: %q must be HOST/REPOSITORY, and %q is not a host", scope, scope[:strings.Index(scope, "/")])
	}
	if ref.Digest != "" || !strings.HasSuffix(ref.String(), ":latest") || strings.HasSuffix(scope, ":latest") {
		return "", fmt.Errorf("registryScopes: %q must be a repository, without tag and digest", scope)
	}
	return ref.Name(), nil
}

// match returns the statement for an image: its repository's own before "*".
func (p *TrustPolicy) match(ref boltseal.Reference) *statement {
	if s := p.scopes[ref.Name()]; s != nil {
		return s
	}
	return p.wildcard
}

// above returns a scope that is the beginning of an image's repository, and so does
// not cover it; "" where there is none.
func (p *TrustPolicy) above(ref boltseal.Reference) string {
	name := ref.Name()
	for {
		slash := strings.LastIndexByte(name, '/')
		if slash < 0 {
			return ""
		}
		if name = name[:slash]; p.scopes[name] != nil {
			return name
		}
	}
}

// TrustStores returns the trust stores that the document names, "type:name".
func (p *TrustPolicy) TrustStores() []string {
	var names []string
	for _, s := range p.statements {
		for _, n := range s.stores {
			if !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	return names
}
