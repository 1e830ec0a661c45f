// Package resolve turns assignments, exemptions and definitions into what is demanded of one cluster.
package resolve

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/definition"
	"github.com/boltseal/boltseal/internal/governance/render"
	"github.com/boltseal/boltseal/internal/governance/scope"
)

// Features that opt a scope in to definitions that are marked preview: ours, or both of Azure's.
const (
	FeaturePreview      = "ImageIntegrityPreview"
	FeatureAzurePreview = "EnableImageIntegrityPreview"
	FeatureAzureData    = "AKS-AzurePolicyExternalData"
)

// FeatureNames are the features that there are.
func FeatureNames() []string { return []string{FeaturePreview, FeatureAzurePreview, FeatureAzureData} }

// FeatureNamespaces are those that features are in: Azure's, and ours.
func FeatureNamespaces() []string { return []string{"Microsoft.ContainerService", scope.Provider} }

// IsFeatureNamespace reports whether features are in a namespace, in any case; "" stands for all of them.
func IsFeatureNamespace(namespace string) bool {
	return namespace == "" || slices.ContainsFunc(FeatureNamespaces(), func(n string) bool { return strings.EqualFold(n, namespace) })
}

// Reasons of problems, as words.
const (
	ReasonInvalidAssignment  = "InvalidAssignment"     // its scopes, selectors or overrides cannot be read
	ReasonDefinitionNotFound = "DefinitionNotFound"    // nothing has the name that it assigns
	ReasonVersionNotFound    = "VersionNotFound"       // the definition has another version
	ReasonInvalidParameters  = "InvalidParameters"     // the parameters do not go with the definition
	ReasonFeatureNotThere    = "FeatureNotRegistered"  // the definition is a preview
	ReasonUndecided          = "SelectorUndecided"     // a selector asks for what the cluster does not say
	ReasonInvalidCluster     = "InvalidCluster"        // its scope cannot be read
	ReasonTooManyDemands     = "TooManyDemands"        // more than a bundle holds
	ReasonEffectNotSupported = "EffectNotSupported"    // the definition's mode has no such effect
	ReasonInvalidExemption   = "InvalidExemption"      // its assignment or scope cannot be read
	ReasonAmbiguous          = "DefinitionIsAmbiguous" // a definition and an initiative have the name
)

// MaxDemands bounds the demands of a cluster, as the custom resource does.
const MaxDemands = 200

// Library finds what is assigned, by a name or a resource ID.
type Library interface {
	// Definition returns a definition; ok is false where there is none.
	Definition(id string) (e definition.DefinitionEntry, ok bool)
	// Set returns an initiative.
	Set(id string) (e definition.SetEntry, ok bool)
}

// Input is all that is demanded anywhere.
type Input struct {
	Library     Library
	Assignments []v1alpha1.PolicyAssignment
	Exemptions  []v1alpha1.PolicyExemption
	Features    []v1alpha1.FeatureRegistration
	// Clock tells which exemptions are over. Nil means time.Now.
	Clock func() time.Time
}

// Problem is why an assignment, or an exemption, is not in force as it is written.
type Problem struct {
	// Assignment or Exemption has a name, and the other is empty.
	Assignment, Exemption string
	// Reference within the initiative; "" = all of the assignment.
	Reference string
	// Cluster that it is about; "" = all.
	Cluster string
	Reason  string
	Message string
}

// Deployment is what a definition of the mode Indexed says of one cluster.
type Deployment struct {
	Assignment, AssignmentID, Reference string
	Effect                              definition.Effect
	// Deploy is what it sets on the cluster.
	Deploy definition.Deploy
	// Automatic says that an update of the cluster deploys it; otherwise a
	// remediation does.
	Automatic bool
	State     v1alpha1.ComplianceState
}

// Outcome is what is demanded of one cluster.
type Outcome struct {
	Bundle      v1alpha1.ClusterBundleSpec
	Deployments []Deployment
	Problems    []Problem
}

// Resolver has everything checked once, for many clusters. It does not change.
type Resolver struct {
	assignments []assignment
	exemptions  []exemption
	features    []feature
	clock       func() time.Time
	problems    []Problem
}

type assignment struct {
	spec  *v1alpha1.PolicyAssignmentSpec
	name  string
	id    string
	scope *scope.Assignment
	set   string // ID of the initiative, "" = one definition
	// preview says that the initiative is one.
	preview bool
	parts   []part
}

// part is one definition of an assignment.
type part struct {
	definition.Reference
	entry definition.DefinitionEntry
}

type exemption struct {
	name       string
	spec       *v1alpha1.PolicyExemptionSpec
	assignment string
	scope      scope.Path
}

type feature struct {
	name string
	at   scope.Path
}

// New checks everything that does not depend on a cluster.
func New(in Input) *Resolver {
	r := &Resolver{clock: in.Clock}
	if r.clock == nil {
		r.clock = time.Now
	}
	for i := range in.Features {
		f := &in.Features[i].Spec
		if at, err := scope.Parse(cmp.Or(f.Scope, "/")); err == nil && IsFeatureNamespace(f.Namespace) {
			r.features = append(r.features, feature{strings.ToLower(f.Name), at})
		}
	}
	for i := range in.Assignments {
		r.assignment(&in.Assignments[i], in.Library)
	}
	slices.SortFunc(r.assignments, func(a, b assignment) int { return cmp.Compare(a.name, b.name) })
	for i := range in.Exemptions {
		r.exemption(&in.Exemptions[i])
	}
	slices.SortFunc(r.exemptions, func(a, b exemption) int { return cmp.Compare(a.name, b.name) })
	return r
}

// Problems are those that hold for every cluster.
func (r *Resolver) Problems() []Problem { return slices.Clone(r.problems) }

func (r *Resolver) assignment(a *v1alpha1.PolicyAssignment, lib Library) {
	fail := func(reference, reason, format string, args ...any) {
		r.problems = append(r.problems, Problem{Assignment: a.Name, Reference: reference, Reason: reason, Message: fmt.Sprintf(format, args...)})
	}
	out := assignment{spec: &a.Spec, name: a.Name}
	set, isSet := lib.Set(a.Spec.PolicyDefinitionID)
	one, isOne := lib.Definition(a.Spec.PolicyDefinitionID)
	if isSet && isOne {
		// Azure's IDs say which of the two they name; a bare name does not.
		switch lower := strings.ToLower(a.Spec.PolicyDefinitionID); {
		case strings.Contains(lower, "/policysetdefinitions/"):
			isOne = false
		case strings.Contains(lower, "/policydefinitions/"):
			isSet = false
		default:
			fail("", ReasonAmbiguous, "a definition and an initiative have the name %q: write the ID, with policyDefinitions or policySetDefinitions in it", a.Spec.PolicyDefinitionID)
			return
		}
	}
	var refs []definition.Reference
	switch {
	case isSet:
		var err error
		if refs, err = set.Compiled.Bind(a.Spec.Parameters); err != nil {
			fail("", ReasonInvalidParameters, "initiative %s: %v", set.Object.Name, err)
			return
		}
		if !set.Matches(a.Spec.DefinitionVersion) {
			fail("", ReasonVersionNotFound, "initiative %s is version %s, and the assignment asks for %s", set.Object.Name, cmp.Or(set.Object.Spec.Version, "1.0.0"), a.Spec.DefinitionVersion)
			return
		}
		out.set, out.preview = cmp.Or(set.Object.Annotations[definition.AnnotationID], set.Object.Name), set.Compiled.Preview
	case isOne:
		refs = []definition.Reference{{ID: one.Object.Name, DefinitionID: a.Spec.PolicyDefinitionID, DefinitionVersion: a.Spec.DefinitionVersion, Parameters: a.Spec.Parameters}}
	default:
		fail("", ReasonDefinitionNotFound, "there is no definition and no initiative %q: import it, or see 'boltseal policy definition list'", a.Spec.PolicyDefinitionID)
		return
	}
	var names []string
	for _, ref := range refs {
		names = append(names, ref.ID)
	}
	var err error
	if out.scope, err = scope.Compile(&a.Spec, names); err != nil {
		fail("", ReasonInvalidAssignment, "%v", err)
		return
	}
	out.id = scope.AssignmentID(out.scope.Scope(), a.Name)
	for _, ref := range refs {
		d, ok := lib.Definition(ref.DefinitionID)
		if !ok {
			fail(ref.ID, ReasonDefinitionNotFound, "there is no definition %q: import it", ref.DefinitionID)
			continue
		}
		out.parts = append(out.parts, part{ref, d})
	}
	r.assignments = append(r.assignments, out)
}

func (r *Resolver) exemption(e *v1alpha1.PolicyExemption) {
	fail := func(format string, args ...any) {
		r.problems = append(r.problems, Problem{Exemption: e.Name, Reason: ReasonInvalidExemption, Message: fmt.Sprintf(format, args...)})
	}
	out := exemption{name: e.Name, spec: &e.Spec}
	var at scope.Path
	for i := range r.assignments {
		a := &r.assignments[i]
		named, err := scope.NamesAssignment(e.Spec.PolicyAssignmentID, a.scope.Scope(), a.name)
		if err != nil {
			fail("policyAssignmentId: %v", err)
			return
		}
		if !named {
			continue
		}
		out.assignment, at = a.name, a.scope.Scope()
		for _, id := range e.Spec.PolicyDefinitionReferenceIDs {
			if !slices.ContainsFunc(a.parts, func(p part) bool { return strings.EqualFold(p.ID, id) }) {
				fail("assignment %s has no definition %q", a.name, id)
				return
			}
		}
	}
	if out.assignment == "" {
		fail("no assignment %q is active", e.Spec.PolicyAssignmentID)
		return
	}
	out.scope = at
	if e.Spec.Scope != "" {
		var err error
		if out.scope, err = scope.Parse(e.Spec.Scope); err != nil {
			fail("scope: %v", err)
			return
		}
	}
	if w := e.Spec.Within; w != nil {
		if _, err := render.Exemption(&v1alpha1.BundleExemption{Name: e.Name, Category: e.Spec.ExemptionCategory, Within: w}); err != nil {
			fail("%v", err)
			return
		}
	}
	r.exemptions = append(r.exemptions, out)
}

// opted tells whether a cluster is opted in to previews.
func (r *Resolver) opted(p scope.Place) bool {
	has := func(name string) bool {
		return slices.ContainsFunc(r.features, func(f feature) bool { return f.name == strings.ToLower(name) && p.In(f.at) })
	}
	return has(FeaturePreview) || has(FeatureAzurePreview) && has(FeatureAzureData)
}

var errPreview = errors.New("the definition is a preview")
