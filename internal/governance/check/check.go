// Package check reads governance resources from files, and says what a hub would not take.
package check

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/governance/definition"
	"github.com/boltseal/boltseal/internal/governance/resolve"
	"github.com/boltseal/boltseal/internal/governance/scope"
)

// Kinds are those that people write.
func Kinds() []string {
	return []string{v1alpha1.KindPolicyAssignment, v1alpha1.KindPolicyExemption, v1alpha1.KindPolicyDefinition, v1alpha1.KindPolicySetDefinition,
		v1alpha1.KindCluster, v1alpha1.KindFeatureRegistration, v1alpha1.KindRemediation}
}

// Options say how documents are checked.
type Options struct {
	// Clock tells which exemptions are over. Nil means time.Now.
	Clock func() time.Time
}

// Documents checks documents of the group policy.boltseal.dev, which may name what is
// in the hub and not among them: that is a warning.
func Documents(docs []strict.Node, o Options) (problems strict.Problems, warnings []strict.Problem) {
	c := &checker{library: definition.BuiltIns(), docs: map[string]strict.Node{}}
	for _, d := range docs {
		c.document(d)
	}
	c.together(o)
	return c.problems, c.warnings
}

type checker struct {
	problems strict.Problems
	warnings []strict.Problem
	docs     map[string]strict.Node // by KIND/NAME

	library     definition.Library
	assignments []v1alpha1.PolicyAssignment
	exemptions  []v1alpha1.PolicyExemption
	features    []v1alpha1.FeatureRegistration
}

// ownProblem makes a problem one of the document.
func ownProblem(d strict.Node, p strict.Problem) strict.Problem {
	if p.Object == (strict.Object{}) {
		p.Object = strict.Object{Kind: d.Text("kind"), Name: d.Text("metadata", "name")}
	}
	return p
}

func (c *checker) fail(d strict.Node, ps ...strict.Problem) {
	for _, p := range ps {
		c.problems = append(c.problems, ownProblem(d, p))
	}
}

func (c *checker) document(d strict.Node) {
	version, kind, name := d.Text("apiVersion"), d.Text("kind"), d.Text("metadata", "name")
	switch {
	case version != v1alpha1.GroupVersion.String():
		c.fail(d, d.At("apiVersion", "%s is not known here; known: %s", strict.Label(version), v1alpha1.GroupVersion))
		return
	case name == "":
		c.fail(d, d.At("metadata.name", "a %s needs a name", strict.Label(kind)))
		return
	case len(validation.IsDNS1123Subdomain(name)) > 0:
		c.fail(d, d.At("metadata.name", "%s is no name to Kubernetes: lower-case letters, digits, - and . only", strict.Label(name)))
		return
	}
	if first, ok := c.docs[kind+"/"+name]; ok {
		c.fail(d, d.At("metadata.name", "a second %s of this name; the first is at %s", strict.Label(kind), first.Place()))
		return
	}
	c.docs[kind+"/"+name] = d
	switch kind {
	case v1alpha1.KindPolicyAssignment:
		if o, ok := decodeDocument[v1alpha1.PolicyAssignment](c, d); ok {
			c.assignments = append(c.assignments, o)
		}
	case v1alpha1.KindPolicyExemption:
		if o, ok := decodeDocument[v1alpha1.PolicyExemption](c, d); ok {
			c.exemptions = append(c.exemptions, o)
		}
	case v1alpha1.KindFeatureRegistration:
		if o, ok := decodeDocument[v1alpha1.FeatureRegistration](c, d); ok {
			c.features = append(c.features, o)
			c.path(d, "spec.scope", o.Spec.Scope)
			c.feature(d, o.Spec)
		}
	case v1alpha1.KindCluster:
		if o, ok := decodeDocument[v1alpha1.Cluster](c, d); ok {
			c.path(d, "spec.scope", o.Spec.Scope)
		}
	case v1alpha1.KindRemediation:
		decodeDocument[v1alpha1.Remediation](c, d)
	case v1alpha1.KindPolicyDefinition:
		if o, ok := decodeDocument[v1alpha1.PolicyDefinition](c, d); ok {
			_, err := definition.Compile(o.Spec)
			c.definition(d, definition.Object{Definition: &o}, err)
		}
	case v1alpha1.KindPolicySetDefinition:
		if o, ok := decodeDocument[v1alpha1.PolicySetDefinition](c, d); ok {
			_, err := definition.CompileSet(o.Spec)
			c.definition(d, definition.Object{Set: &o}, err)
		}
	default:
		hint := nearest.Hint(kind, Kinds())
		if hint == "" {
			hint = "; known: " + strings.Join(Kinds(), ", ")
		}
		c.fail(d, d.At("kind", "%s is not known here%s", strict.Label(kind), hint))
	}
}

// decodeDocument reads a document strictly.
func decodeDocument[T any](c *checker, d strict.Node) (o T, ok bool) {
	if err := d.Decode(&o); err != nil {
		c.fail(d, listProblems(d, "", err)...)
		return o, false
	}
	if _, ok := d.Get("spec"); !ok {
		c.fail(d, d.Problem("a %s needs a spec", d.Text("kind")))
		return o, false
	}
	return o, true
}

// listProblems makes problems of an error, with their places in the document. Paths in them
// begin at prefix.
func listProblems(d strict.Node, prefix string, err error) (out []strict.Problem) {
	switch e := err.(type) {
	case strict.Problems:
		for _, p := range e {
			out = append(out, listProblems(d, prefix, p)...)
		}
	case strict.Problem:
		if e.Line == 0 || prefix != "" { // lines within a part of it say nothing of the file
			e = d.At(strings.Trim(prefix+e.Field, "."), "%s", e.Message)
		}
		out = append(out, e)
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			out = append(out, listProblems(d, prefix, err)...)
		}
	default:
		field, message, ok := strings.Cut(err.Error(), ": ")
		if !ok || !strings.HasPrefix(field, "spec.") {
			field, message = strings.Trim(prefix, "."), err.Error()
		}
		out = append(out, d.At(field, "%s", message))
	}
	return out
}

// feature refuses what opts nothing in.
func (c *checker) feature(d strict.Node, f v1alpha1.FeatureRegistrationSpec) {
	names := resolve.FeatureNames()
	if !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, f.Name) }) {
		c.fail(d, d.At("spec.name", "there is no feature %s%s; there are %s", strict.Label(f.Name), nearest.Hint(f.Name, names), strings.Join(names, ", ")))
	}
	if !resolve.IsFeatureNamespace(f.Namespace) {
		known := resolve.FeatureNamespaces()
		c.fail(d, d.At("spec.namespace", "%s has no such feature%s; it is in %s", strict.Label(f.Namespace), nearest.Hint(f.Namespace, known), known[0]))
	}
}

func (c *checker) path(d strict.Node, field, text string) {
	if text == "" {
		return
	}
	if _, err := scope.Parse(text); err != nil {
		c.fail(d, d.At(field, "%v", err))
	}
}

func (c *checker) definition(d strict.Node, o definition.Object, err error) {
	if err != nil {
		c.fail(d, listProblems(d, "spec.", err)...)
	}
	_ = c.library.Add(o) // it compiles, or is not found
}

// together checks what depends on other documents.
func (c *checker) together(o Options) {
	// For a hub that has registered all previews: which it has is not known here.
	features := append([]v1alpha1.FeatureRegistration{{Spec: v1alpha1.FeatureRegistrationSpec{Name: resolve.FeaturePreview}}}, c.features...)
	var known []v1alpha1.PolicyAssignment
	for _, a := range c.assignments {
		d := c.docs[v1alpha1.KindPolicyAssignment+"/"+a.Name]
		before := len(c.problems)
		if _, err := scope.Compile(&a.Spec, nil); err != nil {
			c.fail(d, listProblems(d, "", err)...)
		}
		if err := definition.CheckVersionPattern(a.Spec.DefinitionVersion); a.Spec.DefinitionVersion != "" && err != nil {
			c.fail(d, d.At("spec.definitionVersion", "%v", err))
		}
		for i, v := range a.Spec.Overrides {
			if err := definition.CheckVersionPattern(v.Value); v.Kind == scope.OverrideVersion && err != nil {
				c.fail(d, d.At(fmt.Sprintf("spec.overrides[%d].value", i), "%v", err))
			}
		}
		_, one := c.library.Definition(a.Spec.PolicyDefinitionID)
		_, set := c.library.Set(a.Spec.PolicyDefinitionID)
		switch {
		case len(c.problems) > before:
		case a.Spec.PolicyDefinitionID == "":
			c.fail(d, d.At("spec.policyDefinitionId", "it is missing: name a definition or an initiative"))
		case !one && !set:
			c.notHere(d, "spec.policyDefinitionId", "%s is neither built in nor in these files%s: it must be in the hub", a.Spec.PolicyDefinitionID, c.near(a.Spec.PolicyDefinitionID))
		default:
			known = append(known, a)
			c.assigned(d, a, features, o)
		}
	}
	for _, e := range c.exemptions {
		c.exemption(e, known, o)
	}
}

func (c *checker) near(id string) string {
	if w := c.library.Nearest(id); w != "" {
		return ` (did you mean "` + w + `"?)`
	}
	return ""
}

func (c *checker) notHere(d strict.Node, field, format, name, hint string) {
	c.warnings = append(c.warnings, ownProblem(d, d.At(field, format, strict.Label(name), hint)))
}

// assigned checks parameters, effects and versions for a cluster that stands at the
// scope, whichever clusters are left out.
func (c *checker) assigned(d strict.Node, a v1alpha1.PolicyAssignment, features []v1alpha1.FeatureRegistration, o Options) {
	everywhere := *a.DeepCopy()
	everywhere.Spec.NotScopes, everywhere.Spec.ResourceSelectors = nil, nil
	r := resolve.New(resolve.Input{Library: c.library, Assignments: []v1alpha1.PolicyAssignment{everywhere}, Features: features, Clock: o.Clock})
	problems := r.Problems()
	if len(problems) == 0 {
		some := &v1alpha1.Cluster{Spec: v1alpha1.ClusterSpec{Scope: a.Spec.Scope}}
		some.Name = "any"
		problems = r.ForCluster(some).Problems
	}
	for _, p := range problems {
		message, field := p.Message, "spec"
		if p.Reference != "" {
			message = p.Reference + ": " + message
		}
		switch p.Reason {
		case resolve.ReasonUndecided, resolve.ReasonInvalidCluster, resolve.ReasonFeatureNotThere:
			continue
		case resolve.ReasonInvalidParameters:
			field = "spec.parameters"
		case resolve.ReasonVersionNotFound:
			field = "spec.definitionVersion"
		case resolve.ReasonDefinitionNotFound, resolve.ReasonAmbiguous:
			field = "spec.policyDefinitionId"
		}
		c.fail(d, d.At(field, "%s", message))
	}
}

func (c *checker) exemption(e v1alpha1.PolicyExemption, known []v1alpha1.PolicyAssignment, o Options) {
	d := c.docs[v1alpha1.KindPolicyExemption+"/"+e.Name]
	before := len(c.problems)
	c.path(d, "spec.scope", e.Spec.Scope)
	switch category := e.Spec.ExemptionCategory; category {
	case "Waiver", "Mitigated":
	default:
		c.fail(d, d.At("spec.exemptionCategory", "%s is not Waiver or Mitigated%s", strict.Label(category), nearest.Hint(category, []string{"Waiver", "Mitigated"})))
	}
	if e.Spec.PolicyAssignmentID == "" {
		c.fail(d, d.At("spec.policyAssignmentId", "it is missing: name an assignment"))
	}
	if len(c.problems) > before {
		return
	}
	// Its assignment may be in the hub: the rest is then checked for one that stands in.
	var names []string
	for _, a := range known {
		at, err := scope.Parse(a.Spec.Scope)
		if err == nil {
			if named, err := scope.NamesAssignment(e.Spec.PolicyAssignmentID, at, a.Name); err == nil && named {
				c.exempted(d, e, a, o)
				return
			}
		}
		names = append(names, a.Name)
	}
	c.notHere(d, "spec.policyAssignmentId", "%s is no assignment in these files%s: it must be in the hub", e.Spec.PolicyAssignmentID, nearest.Hint(e.Spec.PolicyAssignmentID, names))
	standIn := v1alpha1.PolicyAssignment{Spec: v1alpha1.PolicyAssignmentSpec{Scope: "/", PolicyDefinitionID: definition.VerifyImages}}
	standIn.Name = "assignment"
	e.Spec.PolicyAssignmentID, e.Spec.PolicyDefinitionReferenceIDs = standIn.Name, nil
	c.exempted(d, e, standIn, o)
}

func (c *checker) exempted(d strict.Node, e v1alpha1.PolicyExemption, a v1alpha1.PolicyAssignment, o Options) {
	r := resolve.New(resolve.Input{Library: c.library, Assignments: []v1alpha1.PolicyAssignment{a}, Exemptions: []v1alpha1.PolicyExemption{e}, Clock: o.Clock})
	for _, p := range r.Problems() {
		if p.Exemption != "" {
			c.fail(d, d.At("spec", "%s", p.Message))
		}
	}
}
