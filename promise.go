package boltseal

import (
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// rankCandidates puts what a listing lets expect to be verified before what names no
// signer, and that before what names strangers; candidates of one rank keep their order.
// It reports whether the first is promising. Whoever may push to a repository can attach
// signatures of strangers, which must neither use up the limit on signatures nor the
// time before the right one is reached.
//
// It looks no further than until as many are found as are judged: an image with
// thousands of good signatures costs no more than one with few.
func (e *Engine) rankCandidates(subject Subject, listed []ocispec.Descriptor) (promising bool) {
	var broken error // candidates then keep their order
	defer e.caught("ranking signatures", &broken)
	if len(listed) < 2 {
		return false
	}
	var ranked [Promising + 1][]ocispec.Descriptor
	rest := listed
	for len(rest) > 0 && len(ranked[Promising]) < e.limits.MaxSignatures {
		p := e.promise(subject, rest[0])
		ranked[p] = append(ranked[p], rest[0])
		rest = rest[1:]
	}
	copy(listed, slices.Concat(ranked[Promising], ranked[Unstated], ranked[Unpromising], rest))
	return len(ranked[Promising]) > 0
}

// promise is the best that any verifier expects of a candidate.
func (e *Engine) promise(subject Subject, d ocispec.Descriptor) (best Promise) {
	for _, v := range e.verifiers {
		if !verifierHandles(v, d.ArtifactType) {
			continue
		}
		expected := Unstated
		if r, ok := v.(Ranker); ok {
			expected = min(max(r.Promise(subject, d.Annotations), Unpromising), Promising)
		}
		best = max(best, expected)
	}
	return best
}

// sufficient reports whether the policy could answer if a candidate were verified and
// nothing were known of the others. Where it could not, as where all signatures must be
// verified, judging one alone first would only take longer.
func (e *Engine) sufficient(f *Findings, j job) bool {
	var broken error // what the policy does with evidence shows soon enough
	defer e.caught("the policy", &broken)
	supposed := *f
	supposed.Evidence = slices.Clone(f.Evidence)
	for i := range j.likely {
		supposed.Evidence[j.first+i].Outcome = Verified
		supposed.Evidence[j.first+i].Reason = Reason{}
	}
	d, _ := e.alone.Decide(&supposed)
	return d != Unknown
}
