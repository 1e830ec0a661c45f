package policy_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/policy"
)

const (
	typeA = "application/vnd.cncf.notary.signature"
	typeB = "application/vnd.dev.cosign.artifact.sig.v1+json"
)

func evidence(t string, outcomes ...boltseal.Outcome) []boltseal.Evidence {
	var evs []boltseal.Evidence
	for _, o := range outcomes {
		ev := boltseal.Evidence{ArtifactType: t, Outcome: o, Verifier: "v"}
		switch o {
		case boltseal.Rejected:
			ev.Reason = boltseal.Reason{Cause: boltseal.CauseUntrustedSigner, Message: "signed by a stranger"}
		case boltseal.Undetermined:
			ev.Reason = boltseal.Reason{Cause: boltseal.CauseUnavailable, Message: "no answer"}
		}
		evs = append(evs, ev)
	}
	return evs
}

func mustNew(t testing.TB, o policy.Options) boltseal.Policy {
	t.Helper()
	p, err := policy.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDecide(t *testing.T) {
	const bad, good, open = boltseal.Rejected, boltseal.Verified, boltseal.Undetermined
	anyOf := policy.Options{Default: policy.Any}
	allOf := policy.Options{Default: policy.All}
	for _, tc := range []struct {
		name      string
		policy    policy.Options
		evidence  []boltseal.Evidence
		truncated string
		part      bool // the registry did not give all of the list
		want      boltseal.Decision
		cause     boltseal.Cause
		says      string
	}{
		{name: "nothing, any", policy: anyOf, want: boltseal.Deny, cause: boltseal.CauseNothingSigned},
		{name: "nothing, all", policy: allOf, want: boltseal.Deny, cause: boltseal.CauseNothingSigned},
		{name: "any: one good suffices", policy: anyOf, evidence: evidence(typeA, bad, good, open), want: boltseal.Allow},
		{name: "any: open keeps it open", policy: anyOf, evidence: evidence(typeA, bad, open), want: boltseal.Unknown, cause: boltseal.CauseUnavailable, says: "1 of 2"},
		{name: "any: all bad", policy: anyOf, evidence: evidence(typeA, bad, bad), want: boltseal.Deny, cause: boltseal.CauseUntrustedSigner, says: "2 signatures, none of them trusted"},
		{name: "any: cut listing does not hide a good one", policy: anyOf, truncated: "cut", evidence: evidence(typeA, good), want: boltseal.Allow},
		{name: "any: cut listing is told", policy: anyOf, truncated: "10 pages", evidence: evidence(typeA, bad), want: boltseal.Deny, cause: boltseal.CauseUntrustedSigner, says: "10 pages"},
		{name: "nothing, of a part", policy: anyOf, part: true, want: boltseal.Unknown, cause: boltseal.CauseUnusable, says: "page 2"},
		{name: "nothing, of a part, all", policy: allOf, part: true, want: boltseal.Unknown, cause: boltseal.CauseUnusable},
		{name: "nothing, cut", policy: anyOf, truncated: "only 2000", want: boltseal.Deny, cause: boltseal.CauseLimit, says: "only 2000"},
		{name: "any: one good of a part suffices", policy: anyOf, part: true, evidence: evidence(typeA, bad, good), want: boltseal.Allow},
		{name: "any: all bad of a part", policy: anyOf, part: true, evidence: evidence(typeA, bad, bad), want: boltseal.Unknown, cause: boltseal.CauseUnusable, says: "2 of 2 signatures that could be read are not trusted, and there may be others: page 2"},
		{name: "all: all good of a part", policy: allOf, part: true, evidence: evidence(typeA, good, good), want: boltseal.Unknown, cause: boltseal.CauseUnusable},
		{name: "all: one bad of a part", policy: allOf, part: true, evidence: evidence(typeA, good, bad), want: boltseal.Deny, cause: boltseal.CauseUntrustedSigner},
		{name: "required type is not in a part", policy: policy.Options{Default: policy.Any, ByType: map[string]policy.Rule{typeB: policy.Any}}, part: true, evidence: evidence(typeA, good), want: boltseal.Unknown, cause: boltseal.CauseUnusable},
		{name: "required type, cut", policy: policy.Options{Default: policy.Any, ByType: map[string]policy.Rule{typeB: policy.Any}}, truncated: "cut", evidence: evidence(typeA, good), want: boltseal.Deny, cause: boltseal.CauseLimit},
		{name: "all: all good", policy: allOf, evidence: evidence(typeA, good, good), want: boltseal.Allow},
		{name: "all: one bad", policy: allOf, evidence: evidence(typeA, good, bad), want: boltseal.Deny, cause: boltseal.CauseUntrustedSigner, says: "1 of 2 do not"},
		{name: "all: bad beats open", policy: allOf, evidence: evidence(typeA, open, bad), want: boltseal.Deny, cause: boltseal.CauseUntrustedSigner},
		{name: "all: open", policy: allOf, evidence: evidence(typeA, good, open), want: boltseal.Unknown, cause: boltseal.CauseUnavailable},
		{name: "all: cut listing", policy: allOf, truncated: "cut", evidence: evidence(typeA, good), want: boltseal.Deny, cause: boltseal.CauseLimit},
		{name: "each present type must hold", policy: anyOf, evidence: append(evidence(typeA, good), evidence(typeB, bad)...), want: boltseal.Deny, cause: boltseal.CauseUntrustedSigner},
		{name: "each present type holds", policy: anyOf, evidence: append(evidence(typeA, good, bad), evidence(typeB, good)...), want: boltseal.Allow},
		{name: "deny of one type beats open of another", policy: anyOf, evidence: append(evidence(typeA, open), evidence(typeB, bad)...), want: boltseal.Deny, cause: boltseal.CauseUntrustedSigner},
		{name: "required type is absent", policy: policy.Options{Default: policy.Any, ByType: map[string]policy.Rule{typeB: policy.Any}}, evidence: evidence(typeA, good), want: boltseal.Deny, cause: boltseal.CauseMissingSignature, says: typeB},
		{name: "required type, nothing at all", policy: policy.Options{Default: policy.All, ByType: map[string]policy.Rule{typeB: policy.Any}}, want: boltseal.Deny, cause: boltseal.CauseMissingSignature},
		{name: "mixed rules", policy: policy.Options{Default: policy.All, ByType: map[string]policy.Rule{typeA: policy.Any}}, evidence: append(evidence(typeA, bad, good), evidence(typeB, good)...), want: boltseal.Allow},
		{name: "mixed rules, all fails", policy: policy.Options{Default: policy.All, ByType: map[string]policy.Rule{typeA: policy.Any}}, evidence: append(evidence(typeA, bad, good), evidence(typeB, good, bad)...), want: boltseal.Deny, cause: boltseal.CauseUntrustedSigner},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := &boltseal.Findings{Evidence: tc.evidence, Truncated: tc.truncated}
			if tc.part {
				f.Incomplete = boltseal.Reason{Cause: boltseal.CauseUnusable, Message: "page 2 could not be read", Remedy: "ask"}
			}
			got, reason := mustNew(t, tc.policy).Decide(f)
			if got != tc.want || reason.Cause != tc.cause {
				t.Fatalf("got %v (%q: %s), want %v (%q)", got, reason.Cause, reason.Message, tc.want, tc.cause)
			}
			if !strings.Contains(reason.Message, tc.says) || reason.Message == "" {
				t.Fatalf("message %q does not say %q", reason.Message, tc.says)
			}
		})
	}
}

// TestDecideIsMonotone holds the policy to what the engine relies on when it
// stops early: an answer given while some evidence is open is the answer
// whatever that evidence turns out to be. All combinations of up to four pieces
// of evidence of two types are tried against every rule.
func TestDecideIsMonotone(t *testing.T) {
	var policies []boltseal.Policy
	for _, d := range []policy.Rule{policy.Any, policy.All} {
		policies = append(policies, mustNew(t, policy.Options{Default: d}))
		for _, r := range []policy.Rule{policy.Any, policy.All} {
			policies = append(policies, mustNew(t, policy.Options{Default: d, ByType: map[string]policy.Rule{typeA: r}}))
		}
	}
	types := []string{typeA, typeB}
	var walk func(evs []boltseal.Evidence)
	closed := func(p boltseal.Policy, evs []boltseal.Evidence, want boltseal.Decision) {
		var rec func(i int, evs []boltseal.Evidence)
		rec = func(i int, evs []boltseal.Evidence) {
			for ; i < len(evs); i++ {
				if evs[i].Outcome == boltseal.Undetermined {
					for _, o := range []boltseal.Outcome{boltseal.Rejected, boltseal.Verified} {
						c := append([]boltseal.Evidence(nil), evs...)
						c[i].Outcome = o
						rec(i+1, c)
					}
					return
				}
			}
			if got, _ := p.Decide(&boltseal.Findings{Evidence: evs}); got != want {
				t.Fatalf("decided %v early, but %v for %s", want, got, describe(evs))
			}
		}
		rec(0, evs)
	}
	walk = func(evs []boltseal.Evidence) {
		for _, p := range policies {
			if d, _ := p.Decide(&boltseal.Findings{Evidence: evs}); d != boltseal.Unknown {
				closed(p, evs, d)
			}
		}
		if len(evs) == 4 {
			return
		}
		for _, typ := range types {
			for _, o := range []boltseal.Outcome{boltseal.Rejected, boltseal.Verified, boltseal.Undetermined} {
				walk(append(append([]boltseal.Evidence(nil), evs...), evidence(typ, o)...))
			}
		}
	}
	walk(nil)
}

func describe(evs []boltseal.Evidence) string {
	var s []string
	for _, ev := range evs {
		s = append(s, fmt.Sprintf("%s=%v", ev.ArtifactType, ev.Outcome))
	}
	return strings.Join(s, " ")
}

func TestNewRefusesUnstatedRules(t *testing.T) {
	for _, o := range []policy.Options{
		{}, {Default: "most"}, {Default: policy.Any, ByType: map[string]policy.Rule{typeA: ""}}, {Default: policy.Any, ByType: map[string]policy.Rule{"": policy.Any}},
	} {
		if _, err := policy.New(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

func TestOptionsOf(t *testing.T) {
	for _, o := range []policy.Options{{Default: policy.Any}, {Default: policy.All, ByType: map[string]policy.Rule{"a": policy.Any, "b": policy.All}}} {
		p, err := policy.New(o)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := policy.OptionsOf(p)
		if !ok || got.Default != o.Default || !maps.Equal(got.ByType, o.ByType) {
			t.Errorf("%+v came back as %+v", o, got)
		}
	}
	if _, ok := policy.OptionsOf(nil); ok {
		t.Error("options of no policy")
	}
}
