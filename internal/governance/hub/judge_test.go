package hub

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/compliance"
	"github.com/boltseal/boltseal/internal/governance/definition"
	"github.com/boltseal/boltseal/internal/governance/resolve"
)

// saying is a cluster whose spec says of both add-ons what it should have; nil says nothing.
func saying(integrity, addOn *bool) *v1alpha1.Cluster {
	c := &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "one", ResourceVersion: "1", Generation: 1}}
	c.Spec.SecurityProfile.ImageIntegrity.Enabled, c.Spec.AddonProfiles.AzurePolicy.Enabled = integrity, addOn
	return c
}

func reporting(state v1alpha1.AddOnState) *v1alpha1.ClusterReport {
	return &v1alpha1.ClusterReport{Report: v1alpha1.ClusterReportContent{AddOn: v1alpha1.AddOnReport{State: state}}}
}

// TestAClusterHasAnAddOnOnlyWhereItsAgentSaysSo: what a spec demands is no fact; a cluster that is not heard from is unknown
// and never compliant; one where somebody installed it by hand has it.
func TestAClusterHasAnAddOnOnlyWhereItsAgentSaysSo(t *testing.T) {
	t.Parallel()
	on, off := new(true), new(false)
	integrity, addOn := definition.Deploy{ImageIntegrity: true, PolicyAddOn: true}, definition.Deploy{PolicyAddOn: true}
	for name, c := range map[string]struct {
		deploy    definition.Deploy
		found     v1alpha1.ComplianceState // by what the cluster's spec says
		automatic bool
		cluster   *v1alpha1.Cluster
		report    *v1alpha1.ClusterReport
		fresh     bool
		want      v1alpha1.ComplianceState
		reason    string
	}{
		"exempt":                               {integrity, v1alpha1.Exempt, true, saying(nil, nil), nil, false, v1alpha1.Exempt, ReasonExempt},
		"lacks it":                             {integrity, v1alpha1.NonCompliant, true, saying(nil, nil), nil, false, v1alpha1.NonCompliant, ReasonAddOnMissing},
		"lacks it, and is only audited":        {integrity, v1alpha1.NonCompliant, false, saying(nil, nil), nil, false, v1alpha1.NonCompliant, ReasonAddOnMissing},
		"installed by hand":                    {integrity, v1alpha1.NonCompliant, true, saying(nil, nil), reporting(v1alpha1.AddOnInstalled), true, v1alpha1.Compliant, ""},
		"installed by hand, reported long ago": {integrity, v1alpha1.NonCompliant, true, saying(nil, nil), reporting(v1alpha1.AddOnInstalled), false, v1alpha1.NonCompliant, ReasonAddOnMissing},
		"installed by hand and refused":        {integrity, v1alpha1.NonCompliant, true, saying(off, nil), reporting(v1alpha1.AddOnInstalled), true, v1alpha1.NonCompliant, ReasonAddOnDisabled},
		"disabled":                             {integrity, v1alpha1.NonCompliant, true, saying(off, on), nil, false, v1alpha1.NonCompliant, ReasonAddOnDisabled},
		"the other one is disabled":            {integrity, v1alpha1.NonCompliant, true, saying(nil, off), nil, false, v1alpha1.NonCompliant, ReasonAddOnDisabled},
		"enabled, never heard from":            {integrity, v1alpha1.Compliant, true, saying(on, on), nil, false, v1alpha1.Unknown, compliance.ReasonNoReport},
		"enabled, silent":                      {integrity, v1alpha1.Compliant, true, saying(on, on), reporting(v1alpha1.AddOnInstalled), false, v1alpha1.Unknown, compliance.ReasonNoReport},
		"enabled, reports nothing of it":       {integrity, v1alpha1.Compliant, true, saying(on, on), reporting(""), true, v1alpha1.Unknown, compliance.ReasonNoReport},
		"enabled and installed":                {integrity, v1alpha1.Compliant, true, saying(on, on), reporting(v1alpha1.AddOnInstalled), true, v1alpha1.Compliant, ""},
		"enabled and on its way":               {integrity, v1alpha1.Compliant, true, saying(on, on), reporting(v1alpha1.AddOnInstalling), true, v1alpha1.NonCompliant, ReasonAddOnInstalling},
		"enabled and being removed":            {integrity, v1alpha1.Compliant, true, saying(on, on), reporting(v1alpha1.AddOnRemoving), true, v1alpha1.NonCompliant, ReasonAddOnInstalling},
		"enabled and absent":                   {integrity, v1alpha1.Compliant, true, saying(on, on), reporting(v1alpha1.AddOnAbsent), true, v1alpha1.NonCompliant, ReasonAddOnInstalling},
		"enabled and failed":                   {integrity, v1alpha1.Compliant, true, saying(on, on), reporting(v1alpha1.AddOnFailed), true, v1alpha1.NonCompliant, ReasonAddOnFailed},
		"a state that nobody knows":            {integrity, v1alpha1.Compliant, true, saying(on, on), reporting("Splendid"), true, v1alpha1.NonCompliant, ReasonAddOnInstalling},
		"policy add-on, agent in contact":      {addOn, v1alpha1.Compliant, true, saying(nil, on), reporting(""), true, v1alpha1.Compliant, ""},
		"policy add-on, agent silent":          {addOn, v1alpha1.Compliant, true, saying(nil, on), reporting(""), false, v1alpha1.Unknown, compliance.ReasonNoReport},
		"policy add-on by hand":                {addOn, v1alpha1.NonCompliant, true, saying(nil, nil), reporting(""), true, v1alpha1.Compliant, ""},
		"what is not known stays unknown":      {integrity, v1alpha1.Unknown, true, saying(on, on), reporting(v1alpha1.AddOnInstalled), true, v1alpha1.Unknown, ""},
	} {
		p := &plan{cluster: c.cluster, report: c.report, fresh: c.fresh, outcome: resolve.Outcome{Deployments: []resolve.Deployment{
			{Assignment: "a", Reference: "r", Effect: definition.EffectDeployIfNotExists, Deploy: c.deploy, Automatic: c.automatic, State: c.found}}}}
		got := p.judge()
		if len(got) != 1 || got[0].State != c.want || got[0].Reason != c.reason {
			t.Errorf("%s: %+v, want %s %q", name, got, c.want, c.reason)
		}
		if len(got) == 1 && got[0].Reason != "" && got[0].Message == "" {
			t.Errorf("%s: nothing says what to do: %+v", name, got[0])
		}
	}
}

// TestWhatCannotBeResolvedIsNotCompliant: a selector that asks for what the cluster does not say is unknown, everything
// else is failed.
func TestWhatCannotBeResolvedIsNotCompliant(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]v1alpha1.ComplianceState{
		resolve.ReasonUndecided: v1alpha1.Unknown, resolve.ReasonInvalidAssignment: v1alpha1.Failed, resolve.ReasonDefinitionNotFound: v1alpha1.Failed,
		resolve.ReasonTooManyDemands: v1alpha1.Failed, "": v1alpha1.Failed,
	} {
		p := &plan{cluster: saying(nil, nil), outcome: resolve.Outcome{Problems: []resolve.Problem{{Assignment: "a", Reason: reason, Message: "m"}, {Reason: reason, Message: "of no assignment"}}}}
		if got := p.judge(); len(got) != 1 || got[0].State != want {
			t.Errorf("%s: %+v", reason, got)
		}
	}
}

// TestWhatSomebodyDisabledIsOverruledByARemediationOnly: an update of the cluster does not enable again what was disabled.
func TestWhatSomebodyDisabledIsOverruledByARemediationOnly(t *testing.T) {
	t.Parallel()
	on, off := new(true), new(false)
	both := definition.Deploy{ImageIntegrity: true, PolicyAddOn: true}
	for name, c := range map[string]struct {
		cluster  *v1alpha1.Cluster
		overrule bool
		want     definition.Deploy
	}{
		"says nothing":            {saying(nil, nil), false, both},
		"has both":                {saying(on, on), true, definition.Deploy{}},
		"disabled":                {saying(off, off), false, definition.Deploy{}},
		"disabled and remediated": {saying(off, off), true, both},
		"one of both":             {saying(on, off), true, definition.Deploy{PolicyAddOn: true}},
	} {
		if got := missingDeployment(c.cluster, both, c.overrule); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// TestASlipTakesNothingAway: what was demanded and cannot be resolved now stays demanded; what is deleted, disabled or
// opted out of goes.
func TestASlipTakesNothingAway(t *testing.T) {
	t.Parallel()
	have := []v1alpha1.Demand{{Name: "d2", Assignment: "a", DefinitionReferenceID: "r"}, {Name: "d1", Assignment: "b"}}
	p := &plan{cluster: saying(nil, nil)}
	for name, c := range map[string]struct {
		problem resolve.Problem
		want    int
	}{
		"its assignment cannot be read":      {resolve.Problem{Assignment: "a", Reason: resolve.ReasonInvalidAssignment}, 1},
		"here":                               {resolve.Problem{Assignment: "a", Cluster: "one", Reason: resolve.ReasonUndecided}, 1},
		"elsewhere":                          {resolve.Problem{Assignment: "a", Cluster: "two", Reason: resolve.ReasonUndecided}, 0},
		"this reference":                     {resolve.Problem{Assignment: "a", Reference: "r", Reason: resolve.ReasonInvalidParameters}, 1},
		"another reference":                  {resolve.Problem{Assignment: "a", Reference: "s", Reason: resolve.ReasonInvalidParameters}, 0},
		"the cluster opted out of a preview": {resolve.Problem{Assignment: "a", Reason: resolve.ReasonFeatureNotThere}, 0},
		"there are too many demands":         {resolve.Problem{Assignment: "a", Reason: resolve.ReasonTooManyDemands}, 0},
		"an exemption of it is broken":       {resolve.Problem{Exemption: "e", Reason: resolve.ReasonInvalidExemption}, 0},
		"the assignment is gone, no problem": {resolve.Problem{}, 0},
	} {
		w := &world{problems: []resolve.Problem{c.problem}}
		if got := keepUnresolved(nil, have, w, p); len(got) != c.want || c.want == 1 && got[0].Name != "d2" {
			t.Errorf("%s: %+v", name, got)
		}
		if got := keepUnresolved([]v1alpha1.Demand{{Name: "d2", Effect: "new"}}, have, w, p); len(got) != 1 || got[0].Effect != "new" {
			t.Errorf("%s: what is resolved is not replaced by what was: %+v", name, got)
		}
	}
}
