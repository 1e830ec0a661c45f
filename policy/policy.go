// Package policy turns evidence into a decision: any or all signatures of each artifact type.
package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/boltseal/boltseal"
)

// Rule is how many signatures of one artifact type must hold.
type Rule string

const (
	// Any is satisfied by one verified signature.
	Any Rule = "any"
	// All is satisfied when there is a signature, and every one is verified.
	All Rule = "all"
)

// Options make a policy in the manner of Ratify's config-policy.
type Options struct {
	// Default is the rule for artifact types that ByType does not name. It must
	// be stated: the zero value is refused.
	Default Rule `json:"default"`
	// ByType maps an artifact type to its rule. A type named here must be
	// present on the image. Nil means that Default covers all types.
	ByType map[string]Rule `json:"byType,omitempty"`
	// MultiArch says which manifests of an image of several platforms the rules are
	// about; "" means boltseal.Named.
	MultiArch boltseal.Demand `json:"multiArch,omitempty"`
	// Platforms are boltseal.MultiArch's.
	Platforms []boltseal.Platform `json:"platforms,omitempty"`
	// Unread is boltseal.MultiArch's.
	Unread string `json:"unread,omitempty"`
}

type policy struct {
	fallback Rule
	required []requirement // sorted by artifact type, so that messages are stable
}

type requirement struct {
	artifactType string
	rule         Rule
}

// New checks the options. Errors wrap [boltseal.ErrConfiguration].
func New(o Options) (boltseal.Policy, error) {
	p := &policy{fallback: o.Default}
	if err := checkRule("default", o.Default); err != nil {
		return nil, err
	}
	for t, r := range o.ByType {
		if t == "" {
			return nil, fmt.Errorf("%w: a rule without an artifact type", boltseal.ErrConfiguration)
		}
		if err := checkRule(t, r); err != nil {
			return nil, err
		}
		p.required = append(p.required, requirement{t, r})
	}
	m := boltseal.MultiArch{Demand: o.MultiArch, Platforms: slices.Clone(o.Platforms), Unread: o.Unread}
	if err := m.Validate(); err != nil {
		return nil, err
	}
	slices.SortFunc(p.required, func(a, b requirement) int { return strings.Compare(a.artifactType, b.artifactType) })
	if m.Demand != "" && m.Demand != boltseal.Named {
		return &indexed{p, m}, nil
	}
	return p, nil
}

func checkRule(what string, r Rule) error {
	if r != Any && r != All {
		return fmt.Errorf("%w: the rule for %q is %q; it must be %q or %q", boltseal.ErrConfiguration, what, r, Any, All)
	}
	return nil
}

// OptionsOf returns what a policy was made with, false where it is not one of
// this package's.
func OptionsOf(p boltseal.Policy) (Options, bool) {
	var o Options
	own, ok := p.(*policy)
	if !ok {
		below, ok := p.(*indexed)
		if !ok {
			return Options{}, false
		}
		own, o.MultiArch, o.Platforms, o.Unread = below.policy, below.multiArch.Demand, slices.Clone(below.multiArch.Platforms), below.multiArch.Unread
	}
	o.Default = own.fallback
	for _, r := range own.required {
		if o.ByType == nil {
			o.ByType = make(map[string]Rule, len(own.required))
		}
		o.ByType[r.artifactType] = r.rule
	}
	return o, true
}

// group counts the evidence of one artifact type.
type group struct {
	artifactType             string
	rule                     Rule
	verified, rejected, open int
}

// Decide implements [boltseal.Policy]. Every artifact type among the evidence,
// and every type that the policy names, must satisfy its rule; without any
// evidence the answer is Deny.
func (p *policy) Decide(f *boltseal.Findings) (boltseal.Decision, boltseal.Reason) {
	var buf [4]group
	groups := p.group(buf[:0], f)
	if len(f.Evidence) == 0 && len(p.required) == 0 {
		if isIncomplete(f) {
			return boltseal.Unknown, f.Incomplete
		}
		return boltseal.Deny, nothingSigned(f)
	}
	decision, reason := boltseal.Allow, boltseal.Reason{}
	for i := range groups {
		d := groups[i].decide(f.Truncated != "", isIncomplete(f))
		switch {
		case d == boltseal.Deny:
			return d, groups[i].explain(f, d)
		case d == boltseal.Unknown:
			if decision != boltseal.Unknown {
				decision, reason = d, groups[i].explain(f, d)
			}
		case reason == (boltseal.Reason{}):
			reason = groups[i].explain(f, d)
		}
	}
	return decision, reason
}

func (p *policy) group(groups []group, f *boltseal.Findings) []group {
	for _, r := range p.required {
		groups = append(groups, group{artifactType: r.artifactType, rule: r.rule})
	}
	for i := range f.Evidence {
		ev := &f.Evidence[i]
		k := slices.IndexFunc(groups, func(g group) bool { return g.artifactType == ev.ArtifactType })
		if k < 0 {
			k = len(groups)
			groups = append(groups, group{artifactType: ev.ArtifactType, rule: p.fallback})
		}
		groups[k].add(ev.Outcome)
	}
	return groups
}

func (g *group) add(o boltseal.Outcome) {
	switch o {
	case boltseal.Verified:
		g.verified++
	case boltseal.Undetermined:
		g.open++
	default:
		g.rejected++
	}
}

// decide is monotone: turning an open outcome into either other one never
// changes an answer that is not Unknown.
func (g *group) decide(truncated, incomplete bool) boltseal.Decision {
	switch g.rule {
	case Any:
		switch {
		case g.verified > 0:
			return boltseal.Allow
		case g.open > 0 || incomplete:
			return boltseal.Unknown
		}
	case All:
		switch {
		case g.rejected > 0 || truncated:
			return boltseal.Deny
		case g.open > 0 || incomplete:
			return boltseal.Unknown
		case g.verified > 0:
			return boltseal.Allow
		}
	}
	return boltseal.Deny
}
