package cosign

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/boltseal/boltseal"
)

// TimeSource says what must vouch for the time of a signature.
type TimeSource string

// What may vouch for the time of a signature.
const (
	TimeAny       TimeSource = ""          // a log or a timestamp authority; with keys, nothing has to
	TimeLog       TimeSource = "log"       // a log
	TimeAuthority TimeSource = "authority" // a timestamp authority
	TimeBoth      TimeSource = "both"      // a log and a timestamp authority
)

// TrustPolicy says whose signatures are trusted for which images. A signature by any one
// of Keys or Identities suffices; one by a key is judged as such, whatever certificate
// stands beside it.
type TrustPolicy struct {
	// Name is unique within a verifier. Required.
	Name string
	// Scopes are the images that it is about: canonical names ("host/path"), the
	// beginnings of such with a "*" at the end, or "*" alone. The most specific scope of
	// all policies decides. Required.
	Scopes []string
	// Keys are trusted.
	Keys []Key
	// Identities are trusted, by certificates of the root.
	Identities []Identity
	// Root has the certificate authorities, logs and timestamp authorities. It is
	// required where there are Identities, and where a log entry is required.
	Root *TrustedRoot
	// IgnoreLog: no entry of a transparency log is required, and none is read. Zero means
	// that one is required, with keys, too.
	IgnoreLog bool
	// IgnoreSCT: a certificate needs no timestamp of a certificate transparency log. Zero
	// means that it needs one.
	IgnoreSCT bool
	// Time is what must vouch for the time. Zero means TimeAny.
	Time TimeSource
	// Annotations must be among what was signed, with these values: in a payload's
	// "optional", or with the statement's subject. Nil asks for none.
	Annotations map[string]string
	// MatchReference: the name in a simple signing payload, which is the one that the
	// image had when it was signed, must be the image's. A bundle has none, and is not
	// trusted then. Zero means that the name does not count.
	MatchReference bool
}

// Limits on trust policies.
const (
	MaxTrustPolicies = 100
	MaxScopes        = 1000
)

// scopeForm is what Ratify allows in a scope.
var scopeForm = regexp.MustCompile(`^[a-z0-9._\-:@/]*\*?$`)

// policy is a trust policy that was checked.
type policy struct {
	TrustPolicy
	keys []*trustedKey
}

func checkPolicy(p TrustPolicy) (*policy, error) {
	out := &policy{TrustPolicy: p}
	switch {
	case len(p.Scopes) == 0:
		return nil, fmt.Errorf("it has no scopes: it would be about no image")
	case len(p.Scopes) > MaxScopes:
		return nil, fmt.Errorf("it has %d scopes, at most %d", len(p.Scopes), MaxScopes)
	case len(p.Keys)+len(p.Identities) == 0:
		return nil, fmt.Errorf("it names neither keys nor identities: nobody would be trusted")
	case len(p.Keys) > MaxKeys:
		return nil, fmt.Errorf("it has %d keys, at most %d", len(p.Keys), MaxKeys)
	case len(p.Identities) > MaxIdentities:
		return nil, fmt.Errorf("it has %d identities, at most %d", len(p.Identities), MaxIdentities)
	case p.Time != TimeAny && p.Time != TimeLog && p.Time != TimeAuthority && p.Time != TimeBoth:
		return nil, fmt.Errorf("its time is %q; it must be log, authority, both or empty", p.Time)
	case len(p.Identities) > 0 && !p.Root.HasAuthorities():
		return nil, fmt.Errorf("it trusts identities, and has no trusted root with a certificate authority")
	case !p.IgnoreLog && !p.Root.HasLogs():
		return nil, fmt.Errorf("it requires an entry of a transparency log, and has no trusted root with one")
	case len(p.Identities) > 0 && !p.IgnoreSCT && !p.Root.HasCertificateLogs():
		return nil, fmt.Errorf("it requires that a certificate transparency log has seen the certificates, and its trusted root has none")
	case p.IgnoreLog && (p.Time == TimeLog || p.Time == TimeBoth):
		return nil, fmt.Errorf("it requires the time of a transparency log, and no entry of one is read")
	case (p.Time == TimeAuthority || p.Time == TimeBoth) && !p.Root.HasTimestampAuthorities():
		return nil, fmt.Errorf("it requires the time of a timestamp authority, and its trusted root has none")
	}
	for _, s := range p.Scopes {
		if !scopeForm.MatchString(s) || s == "" {
			return nil, fmt.Errorf("the scope %q is neither a name nor the beginning of one with a * at its end", s)
		}
	}
	fingerprints := make(map[string]string)
	for _, k := range p.Keys {
		key, err := checkKey(k)
		if err != nil {
			return nil, err
		}
		if other, twice := fingerprints[key.fingerprint]; twice {
			return nil, fmt.Errorf("the keys %q and %q are one and the same", other, k.Name)
		}
		fingerprints[key.fingerprint] = k.Name
		out.keys = append(out.keys, key)
	}
	for _, id := range p.Identities {
		if err := checkIdentity(id); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// scopes finds the trust policy of an image.
type scopes struct {
	exact    map[string]*policy
	prefixes map[string]*policy // by the scope without its "*"
}

func (s *scopes) add(p *policy) error {
	for _, text := range p.Scopes {
		in := s.exact
		name, prefix := strings.CutSuffix(text, "*")
		if prefix {
			in = s.prefixes
		}
		if other := in[name]; other != nil {
			return fmt.Errorf("%w: the trust policies %[2]q and %[3]q both have the scope %[1]q", boltseal.ErrConfiguration, text, other.Name, p.Name)
		}
		in[name] = p
	}
	return nil
}

// find is the policy with the most specific scope that covers the image, nil where none
// does. A scope that is a name with a tag or a digest covers no image.
func (s *scopes) find(ref boltseal.Reference) *policy {
	name := ref.Name()
	if p := s.exact[name]; p != nil {
		return p
	}
	for n := len(name); n >= 0; n-- {
		if p := s.prefixes[name[:n]]; p != nil {
			return p
		}
	}
	return nil
}
