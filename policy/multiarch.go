package policy

import (
	"fmt"
	"strings"

	"github.com/boltseal/boltseal"
)

// indexed is a policy that looks below an index.
type indexed struct {
	*policy
	multiArch boltseal.MultiArch
}

var _ boltseal.IndexPolicy = (*indexed)(nil)

// MultiArch implements [boltseal.IndexPolicy].
func (p *indexed) MultiArch() boltseal.MultiArch { return p.multiArch }

// Alone implements [boltseal.IndexPolicy].
func (p *indexed) Alone() boltseal.Policy { return p.policy }

// verdict is a decision with its reason.
type verdict struct {
	decision boltseal.Decision
	reason   boltseal.Reason
}

// Decide implements [boltseal.Policy]. Of what must all hold, Deny beats Unknown
// beats Allow; of what makes up for another, Allow beats Unknown beats Deny. An
// index of which nothing was looked at is denied.
func (p *indexed) Decide(f *boltseal.Findings) (boltseal.Decision, boltseal.Reason) {
	if !boltseal.IsIndex(f.Subject.MediaType) {
		return p.policy.Decide(f)
	}
	v := verdict{reason: boltseal.Reason{Cause: boltseal.CauseIncomplete,
		Message: fmt.Sprintf("the Policy's multiArch is %s, and it was not checked what that asks for", p.multiArch.Demand), Remedy: "try again"}}
	if f.Index == nil || f.Index.Demand != p.multiArch.Demand {
		return v.decision, v.reason
	}
	var own *boltseal.PlatformResult
	rest := f.Index.Manifests
	if len(rest) > 0 && rest[0].Platform == boltseal.ThisIndex && rest[0].Subject.Digest == f.Subject.Digest {
		own, rest = &rest[0], rest[1:]
	}
	switch p.multiArch.Demand {
	case boltseal.EachPlatform:
		v = p.every(f, rest)
	case boltseal.Either:
		v = p.either(f, own, rest)
	case boltseal.Whole:
		if own != nil {
			v = p.whole(f, *own, rest)
		}
	}
	return v.decision, v.reason
}

// one decides about one manifest from its evidence; the verdict that was recorded
// with it has no say.
func (p *policy) one(r *boltseal.PlatformResult) verdict {
	if r.Failure != (boltseal.Reason{}) {
		return failedVerdict(r.Failure)
	}
	if r.Subject.Digest == "" {
		return verdict{reason: boltseal.Reason{Cause: boltseal.CauseInternal, Message: "findings without a subject", Remedy: "this is a fault in Boltseal; please report it"}}
	}
	d, reason := p.Decide(&r.Findings)
	return verdict{d, reason}
}

func failedVerdict(r boltseal.Reason) verdict {
	if r.Cause.Undetermined() {
		return verdict{boltseal.Unknown, r}
	}
	return verdict{boltseal.Deny, r}
}

// every is what comes of manifests that must all be trusted, and of the reading of
// the index that lists them.
func (p *policy) every(f *boltseal.Findings, rest []boltseal.PlatformResult) verdict {
	v := p.all(f, rest)
	if why := f.Index.Failure; why != (boltseal.Reason{}) {
		if broken := failedVerdict(why); len(rest) == 0 || broken.decision == boltseal.Deny && v.decision != boltseal.Deny || v.decision == boltseal.Allow {
			return broken
		}
	}
	return v
}

// all is what comes of manifests that must all be trusted; none are not.
func (p *policy) all(f *boltseal.Findings, rest []boltseal.PlatformResult) verdict {
	out := verdict{reason: boltseal.Reason{Cause: boltseal.CauseNothingSigned, Message: "of the image's platforms none was checked", Remedy: "build the image for the platforms that nodes run"}}
	if len(rest) == 0 {
		return out
	}
	var first [3]*boltseal.PlatformResult // by decision
	var verdicts [3]verdict
	var denied []string
	for i := range rest {
		v := p.one(&rest[i])
		if first[v.decision] == nil {
			first[v.decision], verdicts[v.decision] = &rest[i], v
		}
		if v.decision == boltseal.Deny {
			denied = append(denied, rest[i].Platform)
		}
	}
	switch {
	case first[boltseal.Deny] != nil:
		r := first[boltseal.Deny]
		out = verdicts[boltseal.Deny]
		out.reason.Message = fmt.Sprintf("%s not trusted, and the Policy requires %s: %s (%s)", isOrAre(denied), eachName(platformNames(rest)), out.reason.Message, r.Subject.Digest)
		out.reason.Remedy = remedyFor(f, r, out.reason)
	case first[boltseal.Unknown] != nil:
		// What was cut off tells less than what cut it off.
		for i := range rest {
			if v := p.one(&rest[i]); v.decision == boltseal.Unknown && v.reason.Cause != boltseal.CauseIncomplete {
				first[boltseal.Unknown], verdicts[boltseal.Unknown] = &rest[i], v
				break
			}
		}
		out = verdicts[boltseal.Unknown]
		out.reason.Message = first[boltseal.Unknown].Platform + ": " + out.reason.Message
	default:
		out = verdicts[boltseal.Allow]
		out.reason.Message = firstFew(platformNames(rest)) + ": " + out.reason.Message
	}
	return out
}

func isOrAre(denied []string) string {
	if len(denied) == 1 {
		return denied[0] + " is"
	}
	return firstFew(denied) + " are"
}

// remedyFor says what to do about a manifest that is not trusted.
func remedyFor(f *boltseal.Findings, r *boltseal.PlatformResult, why boltseal.Reason) string {
	if why.Cause != boltseal.CauseNothingSigned && why.Cause != boltseal.CauseMissingSignature {
		return why.Remedy
	}
	image := f.Reference.Name() + "@" + r.Subject.Digest.String()
	if r.Platform == boltseal.ThisIndex {
		return "sign the index (notation sign " + image + "), or set the Policy's multiArch to platforms or either"
	}
	return "sign that platform (notation sign " + image + "), or set the Policy's multiArch to named or either"
}

func platformNames(rs []boltseal.PlatformResult) (out []string) {
	for i := range rs {
		out = append(out, rs[i].Platform)
	}
	return out
}

func eachName(names []string) string {
	if len(names) == 1 {
		return "it"
	}
	return "each of " + firstFew(names)
}

// firstFew names the first of many.
func firstFew(names []string) string {
	const most = 4
	switch n := len(names); {
	case n == 1:
		return names[0]
	case n > most:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n-most)
	default:
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
}

// either is the index, or else its platforms.
func (p *policy) either(f *boltseal.Findings, own *boltseal.PlatformResult, rest []boltseal.PlatformResult) verdict {
	var index verdict
	if own != nil {
		index = p.one(own)
	}
	if index.decision == boltseal.Allow {
		index.reason.Message = boltseal.ThisIndex + ": " + index.reason.Message
		return index
	}
	below := p.every(f, rest)
	switch {
	case below.decision == boltseal.Allow:
		return below
	case index.decision == boltseal.Unknown:
		index.reason.Message = boltseal.ThisIndex + ": " + index.reason.Message
		return index
	case below.decision == boltseal.Unknown:
		return below
	}
	below.reason.Message = "the index is not trusted (" + index.reason.Message + "), nor is what is below it: " + below.reason.Message
	if index.reason.Cause == boltseal.CauseNothingSigned {
		below.reason.Remedy = "sign the index (notation sign " + f.Reference.Name() + "@" + f.Subject.Digest.String() + "), or every platform"
	}
	return below
}

// whole is the index and all that is below it.
func (p *policy) whole(f *boltseal.Findings, own boltseal.PlatformResult, rest []boltseal.PlatformResult) verdict {
	index := p.one(&own)
	if len(rest) > 0 {
		return p.every(f, append([]boltseal.PlatformResult{own}, rest...))
	}
	below := p.every(f, nil)
	if index.decision == boltseal.Deny || index.decision == boltseal.Unknown && below.decision != boltseal.Deny {
		return p.all(f, []boltseal.PlatformResult{own})
	}
	return below
}
