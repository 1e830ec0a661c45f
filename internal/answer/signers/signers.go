// Package signers keeps whose signatures a verdict rests on, shared by all verdicts with the same.
package signers

import (
	"slices"
	"strings"
	"unique"

	"github.com/boltseal/boltseal"
)

// Signer is whoever made a signature, by the certificate.
type Signer struct {
	Fingerprint string   // as [boltseal.Signer] has it
	Subject     string   // RFC 4514
	Issuers     []string // subjects above it, the root last
}

// Set is some signers. The zero value is none; sets with the same are equal.
type Set struct{ packed unique.Handle[string] }

// Separators, which no name and no fingerprint holds: what does loses them.
const (
	endPart   = "\x00"
	endSigner = "\x01"
)

// Of returns those whose signatures hold, of an image that is trusted; of another one
// those whose signatures were looked at and do not, in the order in which they were.
func Of(r *boltseal.Result) Set {
	var all []string
	add := func(ev *boltseal.Evidence) bool {
		s := ev.Signer
		if s == nil || r.Decision == boltseal.Allow && ev.Outcome != boltseal.Verified {
			return true
		}
		parts := append([]string{s.Fingerprint, s.Subject}, s.Chain...)
		for i := range parts {
			parts[i] = cleanText(parts[i])
		}
		if one := strings.Join(parts, endPart); !slices.Contains(all, one) {
			all = append(all, one)
		}
		return true
	}
	r.AllEvidence(add)
	if len(all) == 0 {
		return Set{}
	}
	if r.Decision == boltseal.Allow {
		slices.Sort(all)
	}
	return Set{unique.Make(strings.Join(all, endSigner))}
}

// cleanText removes the separators.
func cleanText(s string) string {
	if !strings.ContainsAny(s, endPart+endSigner) {
		return s
	}
	return strings.NewReplacer(endPart, "", endSigner, "").Replace(s)
}

// Empty reports whether there are none.
func (s Set) Empty() bool { return s == Set{} }

// All returns the signers.
func (s Set) All() (out []Signer) {
	if s.Empty() {
		return nil
	}
	for one := range strings.SplitSeq(s.packed.Value(), endSigner) {
		parts := strings.Split(one, endPart)
		if len(parts) >= 2 {
			out = append(out, Signer{parts[0], parts[1], parts[2:]})
		}
	}
	return out
}

// Subjects names them for people, "" where there are none.
func (s Set) Subjects() string {
	var names []string
	for _, one := range s.All() {
		if !slices.Contains(names, one.Subject) {
			names = append(names, one.Subject)
		}
	}
	return strings.Join(names, " and ")
}
