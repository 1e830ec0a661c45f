package resolve

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	integrity "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/definition"
	"github.com/boltseal/boltseal/internal/governance/render"
	"github.com/boltseal/boltseal/internal/governance/scope"
)

// ForCluster returns what is demanded of one cluster, in an order that depends on
// names only: the same input gives the same bundle.
func (r *Resolver) ForCluster(c *v1alpha1.Cluster) Outcome {
	integrityAddOn := c.Spec.SecurityProfile.ImageIntegrity
	out := Outcome{Bundle: v1alpha1.ClusterBundleSpec{
		Engine: c.Spec.Engine,
		AddOn:  v1alpha1.BundleAddOn{Enabled: integrityAddOn.Enabled, Purge: integrityAddOn.PurgeOnDisable},
	}}
	place, err := scope.At(c)
	if err != nil {
		out.Problems = []Problem{{Cluster: c.Name, Reason: ReasonInvalidCluster, Message: err.Error()}}
		return out
	}
	x := &resolving{Resolver: r, out: &out, cluster: c, place: place, fields: definition.FieldsOf(*c)}
	for i := range r.assignments {
		x.assignment(&r.assignments[i])
	}
	slices.SortFunc(out.Bundle.Demands, func(a, b v1alpha1.Demand) int { return cmp.Compare(a.Name, b.Name) })
	if n := len(out.Bundle.Demands); n > MaxDemands {
		for _, d := range out.Bundle.Demands[MaxDemands:] {
			x.problem(d.Assignment, d.DefinitionReferenceID, ReasonTooManyDemands, fmt.Errorf("%d definitions are assigned to the cluster; the limit is %d", n, MaxDemands))
		}
		out.Bundle.Demands = out.Bundle.Demands[:MaxDemands]
	}
	return out
}

type resolving struct {
	*Resolver
	out     *Outcome
	cluster *v1alpha1.Cluster
	place   scope.Place
	fields  definition.ClusterFields
}

func (x *resolving) problem(assignment, reference, reason string, err error) {
	x.out.Problems = append(x.out.Problems, Problem{Assignment: assignment, Reference: reference, Cluster: x.cluster.Name, Reason: reason, Message: err.Error()})
}

func (x *resolving) assignment(a *assignment) {
	holds, err := a.scope.Holds(x.place)
	if err != nil {
		x.problem(a.name, "", ReasonUndecided, err)
		return
	}
	if !holds {
		return
	}
	for i := range a.parts {
		x.part(a, &a.parts[i])
	}
}

func (x *resolving) part(a *assignment, p *part) {
	applied, err := a.scope.Overrides(x.place, p.ID)
	if err != nil {
		x.problem(a.name, p.ID, ReasonUndecided, err)
		return
	}
	if pattern := cmp.Or(applied.Version, p.DefinitionVersion); !p.entry.Matches(pattern) {
		x.problem(a.name, p.ID, ReasonVersionNotFound,
			fmt.Errorf("definition %s is version %s, and %s is asked for", p.entry.Object.Name, cmp.Or(p.entry.Object.Spec.Version, "1.0.0"), pattern))
		return
	}
	bound, err := p.entry.Compiled.Bind(p.Parameters, x.fields)
	if err != nil {
		x.problem(a.name, p.ID, ReasonInvalidParameters, err)
		return
	}
	if applied.Effect != "" {
		if bound, err = bound.WithEffect(applied.Effect); err != nil {
			x.problem(a.name, p.ID, ReasonEffectNotSupported, err)
			return
		}
	}
	if bound.Effect == definition.EffectDisabled || !bound.Applies(x.fields) {
		return
	}
	if (a.preview || p.entry.Compiled.Preview) && !x.opted(x.place) {
		x.problem(a.name, p.ID, ReasonFeatureNotThere,
			fmt.Errorf("%w: register the feature %s for %s, 'boltseal feature register' shows how", errPreview, FeaturePreview, x.place.Scope()))
		return
	}
	exempt := x.exemptionsOf(a, p)
	if bound.Mode == definition.ModeIndexed {
		x.deployment(a, p, bound, exempt)
		return
	}
	if err := x.demand(a, p, bound, exempt); err != nil {
		x.problem(a.name, p.ID, ReasonEffectNotSupported, err)
	}
}

// exemptionsOf are the exemptions in force of one definition, in order of their names.
func (x *resolving) exemptionsOf(a *assignment, p *part) []v1alpha1.BundleExemption {
	var out []v1alpha1.BundleExemption
	now := x.clock()
	for i := range x.exemptions {
		e := &x.exemptions[i]
		ids := e.spec.PolicyDefinitionReferenceIDs
		switch {
		case e.assignment != a.name, isExpired(e.spec, now), !x.place.In(e.scope):
		case len(ids) > 0 && !slices.ContainsFunc(ids, func(id string) bool { return strings.EqualFold(id, p.ID) }):
		default:
			out = append(out, v1alpha1.BundleExemption{Name: e.name, Category: e.spec.ExemptionCategory, ExpiresOn: e.spec.ExpiresOn, Within: e.spec.Within})
		}
	}
	return out
}

func isExpired(e *v1alpha1.PolicyExemptionSpec, now time.Time) bool {
	return e.ExpiresOn != nil && !now.Before(e.ExpiresOn.Time)
}

func (x *resolving) deployment(a *assignment, p *part, b *definition.Bound, exempt []v1alpha1.BundleExemption) {
	d := Deployment{
		Assignment: a.name, AssignmentID: a.id, Reference: p.ID, Effect: b.Effect, Deploy: b.Deploy,
		Automatic: b.Effect == definition.EffectDeployIfNotExists && a.spec.EnforcementMode != v1alpha1.DoNotEnforce,
		State:     v1alpha1.NonCompliant,
	}
	// An exemption within a cluster says nothing of the cluster.
	whole := slices.ContainsFunc(exempt, func(e v1alpha1.BundleExemption) bool { return e.Within == nil })
	switch {
	case b.Exists(x.fields):
		d.State = v1alpha1.Compliant
	case whole:
		d.State = v1alpha1.Exempt
	}
	if whole {
		d.Automatic = false
	}
	x.out.Deployments = append(x.out.Deployments, d)
}

func (x *resolving) demand(a *assignment, p *part, b *definition.Bound, exempt []v1alpha1.BundleExemption) error {
	mode := a.spec.EnforcementMode
	action, rendered, err := render.Action(string(b.Effect), b.Warn, mode)
	if err != nil || !rendered {
		return err
	}
	if slices.ContainsFunc(b.Match.APIGroups, func(g string) bool { return g != "" && g != "apps" && g != "batch" }) {
		return errors.New("only the API groups core, apps and batch have containers")
	}
	d := v1alpha1.Demand{
		Name:       render.Name(a.id, p.ID),
		Assignment: a.name, AssignmentID: a.id, DefinitionID: cmp.Or(p.entry.Object.Annotations[definition.AnnotationID], p.entry.Object.Name), SetDefinitionID: a.set,
		Effect: string(b.Effect), EnforcementAction: action, Warn: b.Warn && mode != v1alpha1.DoNotEnforce,
		Match: integrity.Match{Kinds: b.Match.Kinds, Namespaces: b.Match.Namespaces,
			ExcludedNamespaces: b.Match.ExcludedNamespaces, LabelSelector: b.Match.LabelSelector},
		ExcludedImages: b.ExcludedImages, Source: b.Source, Template: string(b.Template.Content),
		Message: denialMessage(a.spec, p.ID), Exemptions: exempt,
	}
	if a.set != "" {
		d.DefinitionReferenceID = p.ID
	}
	x.out.Bundle.Demands = append(x.out.Bundle.Demands, d)
	return nil
}

// denialMessage is what is said to whoever is denied: one for the definition before one for all.
func denialMessage(a *v1alpha1.PolicyAssignmentSpec, reference string) string {
	all := ""
	for _, m := range a.NonComplianceMessages {
		switch {
		case strings.EqualFold(m.PolicyDefinitionReferenceID, reference) && m.PolicyDefinitionReferenceID != "":
			return m.Message
		case m.PolicyDefinitionReferenceID == "" && all == "":
			all = m.Message
		}
	}
	return all
}
