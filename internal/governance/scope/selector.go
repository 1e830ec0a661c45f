package scope

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/base/nearest"
)

// Limits on an assignment, as Azure and the custom resource have them.
const (
	MaxNotScopes         = 400
	MaxResourceSelectors = 10
	MaxOverrides         = 10
	MaxSelectors         = 10 // in one resource selector or override
	MaxValues            = 50 // in one selector
)

// Kinds of selectors.
const (
	KindLocation        = "resourceLocation"
	KindType            = "resourceType"
	KindWithoutLocation = "resourceWithoutLocation"
	KindReference       = "policyDefinitionReferenceId"
)

// Kinds of overrides. Azure's own files say definitionVersion too.
const (
	OverrideEffect     = "policyEffect"
	OverrideVersion    = "policyVersion"
	overrideDefinition = "definitionVersion"
)

// subscriptionLevel is the only value that resourceWithoutLocation takes. A
// cluster is never such a resource.
const subscriptionLevel = "subscriptionLevelResources"

// Problem is what is wrong with one field of an assignment.
type Problem struct {
	Field   string // path, "spec.notScopes[2]"
	Message string
}

// Error writes FIELD: MESSAGE.
func (p Problem) Error() string { return p.Field + ": " + p.Message }

// Unwrap makes it a fault of the configuration.
func (p Problem) Unwrap() error { return boltseal.ErrConfiguration }

// UndecidedError says that a selector asks for a property that is not known of
// the cluster. Whether the assignment holds is then not known either.
type UndecidedError struct {
	Cluster  string
	Selector string // field of the assignment
	Property string // field of the cluster
}

// Error says what to do.
func (e *UndecidedError) Error() string {
	return fmt.Sprintf("%s asks for what cluster %s does not say; set its %s", e.Selector, e.Cluster, e.Property)
}

// Unwrap makes it a fault of the configuration.
func (e *UndecidedError) Unwrap() error { return boltseal.ErrConfiguration }

// Assignment is where an assignment holds, checked. It is immutable. The nil
// Assignment holds nowhere.
type Assignment struct {
	scope     Path
	notScopes []Path
	selectors [][]selector
	overrides []override
}

type selector struct {
	field, kind string
	values      []string // normalized
	not         bool
}

type override struct {
	field, kind, value string
	selectors          []selector
}

// Compile checks where an assignment holds. references are the reference IDs of
// the initiative, or the name of the one definition; nil leaves names of
// references unchecked. The error joins a Problem for each fault.
func Compile(spec *v1alpha1.PolicyAssignmentSpec, references []string) (*Assignment, error) {
	c := &compiler{references: references}
	a := &Assignment{}
	a.scope = c.path("spec.scope", spec.Scope)
	if !c.tooMany("spec.notScopes", len(spec.NotScopes), MaxNotScopes) {
		for i, n := range spec.NotScopes {
			field := fmt.Sprintf("spec.notScopes[%d]", i)
			p := c.path(field, n)
			if p.Contains(a.scope) {
				c.fail(field, "%s takes out all of the scope; delete the assignment instead", truncateText(n))
			}
			a.notScopes = append(a.notScopes, p)
		}
	}
	if !c.tooMany("spec.resourceSelectors", len(spec.ResourceSelectors), MaxResourceSelectors) {
		for i, r := range spec.ResourceSelectors {
			field := fmt.Sprintf("spec.resourceSelectors[%d].selectors", i)
			if len(r.Selectors) == 0 {
				c.fail(field, "it is empty and would select everything; leave the resource selector out")
			}
			a.selectors = append(a.selectors, c.selectors(field, r.Selectors, KindLocation, KindType, KindWithoutLocation))
		}
	}
	if !c.tooMany("spec.overrides", len(spec.Overrides), MaxOverrides) {
		for i, o := range spec.Overrides {
			a.overrides = append(a.overrides, c.override(fmt.Sprintf("spec.overrides[%d]", i), o))
		}
	}
	if len(c.problems) > 0 {
		return nil, errors.Join(c.problems...)
	}
	return a, nil
}

type compiler struct {
	references []string
	problems   []error
}

func (c *compiler) fail(field, format string, a ...any) {
	c.problems = append(c.problems, Problem{field, fmt.Sprintf(format, a...)})
}

func (c *compiler) tooMany(field string, n, limit int) bool {
	if n > limit {
		c.fail(field, "%d entries, at most %d", n, limit)
	}
	return n > limit
}

func (c *compiler) path(field, text string) Path {
	p, err := Parse(text)
	if err != nil {
		c.fail(field, "%v", err)
	}
	return p
}

func (c *compiler) override(field string, o v1alpha1.Override) override {
	kind := o.Kind
	if kind == overrideDefinition {
		kind = OverrideVersion
	}
	if known := []string{OverrideEffect, OverrideVersion}; !slices.Contains(known, kind) {
		c.fail(field+".kind", "%q is not known here; known: %s%s", truncateText(o.Kind), strings.Join(known, ", "), nearest.Hint(o.Kind, known))
	}
	if o.Value == "" {
		c.fail(field+".value", "it is empty")
	}
	return override{field, kind, o.Value,
		c.selectors(field+".selectors", o.Selectors, KindReference, KindLocation, KindType, KindWithoutLocation)}
}

func (c *compiler) selectors(field string, list []v1alpha1.Selector, known ...string) (out []selector) {
	if c.tooMany(field, len(list), MaxSelectors) {
		return nil
	}
	for i, s := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		if !slices.Contains(known, s.Kind) {
			c.fail(at+".kind", "%q is not known here; known: %s%s", truncateText(s.Kind), strings.Join(known, ", "), nearest.Hint(s.Kind, known))
			continue
		}
		if (len(s.In) > 0) == (len(s.NotIn) > 0) {
			c.fail(at, "say either in or notIn, with at least one value")
			continue
		}
		values, word := s.In, ".in"
		if len(s.NotIn) > 0 {
			values, word = s.NotIn, ".notIn"
		}
		if c.tooMany(at+word, len(values), MaxValues) {
			continue
		}
		sel := selector{field: at, kind: s.Kind, not: word == ".notIn"}
		for j, v := range values {
			sel.values = append(sel.values, c.value(fmt.Sprintf("%s%s[%d]", at, word, j), s.Kind, v))
		}
		out = append(out, sel)
	}
	return out
}

func (c *compiler) value(field, kind, v string) string {
	normal := strings.ToLower(v)
	switch {
	case strings.TrimSpace(v) == "":
		c.fail(field, "it is empty")
	case kind == KindLocation:
		normal = normalizeLocation(v)
	case kind == KindWithoutLocation && !strings.EqualFold(v, subscriptionLevel):
		c.fail(field, "%q is not known; known: %s", truncateText(v), subscriptionLevel)
	case kind == KindReference && c.references != nil &&
		!slices.ContainsFunc(c.references, func(r string) bool { return strings.EqualFold(r, v) }):
		c.fail(field, "the definition has no reference %q%s", truncateText(v), nearest.Hint(v, c.references))
	}
	return normal
}

// Scope is what is assigned to.
func (a *Assignment) Scope() Path {
	if a == nil {
		return Path{}
	}
	return a.scope
}

// Holds reports whether the assignment holds for a cluster: it stands in the
// scope, in none of notScopes, and one of the resource selectors holds. An
// UndecidedError says that this is not known.
func (a *Assignment) Holds(p Place) (bool, error) {
	if a == nil || !p.In(a.scope) || slices.ContainsFunc(a.notScopes, p.In) {
		return false, nil
	}
	if len(a.selectors) == 0 {
		return true, nil
	}
	var undecided error
	for _, all := range a.selectors {
		ok, err := matchesAll(all, p, "")
		if ok {
			return true, nil
		}
		if err != nil && undecided == nil {
			undecided = err
		}
	}
	return false, undecided
}

// Applied is what overrides change. Empty means nothing.
type Applied struct {
	Effect  string
	Version string
}

// Overrides returns what holds for one definition at a cluster: the first
// override of each kind that applies. reference is the definition's reference
// ID, or the name of the one definition. An UndecidedError says that it is not
// known whether an override applies that would be the first.
func (a *Assignment) Overrides(p Place, reference string) (Applied, error) {
	var out Applied
	if a == nil {
		return out, nil
	}
	for _, o := range a.overrides {
		into := &out.Effect
		if o.kind == OverrideVersion {
			into = &out.Version
		}
		if *into != "" {
			continue
		}
		ok, err := matchesAll(o.selectors, p, reference)
		if err != nil {
			return Applied{}, err
		}
		if ok {
			*into = o.value
		}
	}
	return out, nil
}

// matchesAll reports whether all selectors do. One that plainly does not decides,
// whatever is not known about the others.
func matchesAll(all []selector, p Place, reference string) (bool, error) {
	var undecided error
	for _, s := range all {
		switch ok, err := s.holds(p, reference); {
		case err != nil:
			undecided = err
		case !ok:
			return false, nil
		}
	}
	return undecided == nil, undecided
}

func (s selector) holds(p Place, reference string) (bool, error) {
	var found bool
	switch s.kind {
	case KindLocation:
		if p.location == "" {
			return false, &UndecidedError{Cluster: p.name, Selector: s.field, Property: "spec.location"}
		}
		found = slices.Contains(s.values, p.location)
	case KindType:
		found = slices.Contains(s.values, strings.ToLower(ManagedClusterType)) || slices.Contains(s.values, ClusterType)
	case KindReference:
		found = slices.Contains(s.values, strings.ToLower(reference))
	}
	return found != s.not, nil
}
