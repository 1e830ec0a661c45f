package govern

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/governance/definition"
	"github.com/boltseal/boltseal/internal/governance/overview"
	"github.com/boltseal/boltseal/internal/governance/page"
	"github.com/boltseal/boltseal/internal/governance/whatif"
)

// maxOffered bounds the changes that a page offers to look at.
const maxOffered = 100

// pageInput reads all that the page shows. A page that is narrowed down has no what-ifs. Where definitions and features cannot be read it has no what-ifs
// either, and missing says why.
func (h *hub) pageInput(ctx context.Context, filter overview.Filter) (in page.Input, missing, err error) {
	in.Filter, in.Now = filter, time.Now()
	if in.Assignments, err = h.assignments(ctx); err != nil {
		return in, nil, err
	}
	if in.Clusters, err = h.clusters(ctx); err != nil {
		return in, nil, err
	}
	if in.Bundles, err = h.bundles(ctx); err != nil {
		return in, nil, err
	}
	if in.Reports, err = h.reports(ctx); err != nil {
		return in, nil, err
	}
	if in.Exemptions, err = h.exemptions(ctx); err != nil {
		return in, nil, err
	}
	if filter != (overview.Filter{}) {
		return in, nil, nil // a what-if is about everything
	}
	lib, err := h.library(ctx, frame.Env{Stderr: io.Discard})
	if err == nil {
		var features []v1alpha1.FeatureRegistration
		if features, err = h.features(ctx); err == nil {
			in.Changes = changesOf(in, lib, features)
			return in, nil, nil
		}
	}
	return in, err, nil
}

// changesOf are an end of each exemption that applies, and a denial of each assignment that
// only reports in some cluster.
func changesOf(in page.Input, lib definition.Library, features []v1alpha1.FeatureRegistration) (out []page.Change) {
	before := whatif.State{Library: lib, Assignments: in.Assignments, Exemptions: in.Exemptions, Features: features, At: in.Now}
	look := func(after whatif.State) func() (whatif.Result, error) {
		return func() (whatif.Result, error) {
			return whatif.Look(whatif.Input{Before: before, After: after, Clusters: in.Clusters, Reports: in.Reports, Now: in.Now}), nil
		}
	}
	for i := range in.Exemptions {
		e := &in.Exemptions[i]
		if e.Spec.ExpiresOn != nil && !e.Spec.ExpiresOn.After(in.Now) {
			continue
		}
		after := before
		after.Exemptions = slices.DeleteFunc(slices.Clone(in.Exemptions), func(o v1alpha1.PolicyExemption) bool { return o.Name == e.Name })
		out = append(out, page.Change{Name: "end/" + e.Name, Title: "the exemption " + e.Name + " ends", Exemption: e.Name, Look: look(after)})
	}
	for i := range in.Assignments {
		name := in.Assignments[i].Name
		if !slices.ContainsFunc(in.Clusters, func(c v1alpha1.Cluster) bool {
			return slices.ContainsFunc(c.Status.Assignments, func(s v1alpha1.AssignmentState) bool { return s.Assignment == name && s.Effect == "Audit" })
		}) {
			continue
		}
		a := in.Assignments[i].DeepCopy()
		if err := (whatIfFlags{assignment: name, effect: "Deny"}).change(a, lib); err != nil {
			continue // what it assigns has no such parameter
		}
		after := before
		after.Assignments = slices.Clone(in.Assignments)
		after.Assignments[i] = *a
		out = append(out, page.Change{Name: "deny/" + name, Title: "the assignment " + name + " denies", Assignment: name, Look: look(after)})
	}
	return out[:min(maxOffered, len(out))]
}
