package hub

import (
	"cmp"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/compliance"
	"github.com/boltseal/boltseal/internal/governance/definition"
	"github.com/boltseal/boltseal/internal/governance/resolve"
)

// Reasons of what the hub judges itself.
const (
	ReasonAddOnMissing    = "AddOnMissing"    // the cluster is not to have the add-on yet
	ReasonAddOnDisabled   = "AddOnDisabled"   // somebody disabled it
	ReasonAddOnInstalling = "AddOnInstalling" // it is on its way
	ReasonAddOnFailed     = "AddOnFailed"     // it could not be installed
	ReasonExempt          = "Exempt"
)

// judge returns how a cluster stands with what needs no look at what runs: with
// deployments, and with what could not be resolved.
func (p *plan) judge() []v1alpha1.AssignmentState {
	var out []v1alpha1.AssignmentState
	for i := range p.outcome.Deployments {
		d := &p.outcome.Deployments[i]
		s := v1alpha1.AssignmentState{Assignment: d.Assignment, PolicyDefinitionReferenceID: d.Reference, Effect: string(d.Effect), State: d.State}
		switch {
		case d.State == v1alpha1.Exempt:
			s.Reason, s.Message = ReasonExempt, "the cluster is exempt"
		case d.State == v1alpha1.NonCompliant && p.hasAlready(d.Deploy):
			s.State = v1alpha1.Compliant
		case d.State == v1alpha1.NonCompliant && refusesAny(p.cluster, d.Deploy):
			s.Reason, s.Message = ReasonAddOnDisabled, "the add-on was disabled; a remediation installs it, or 'boltseal cluster update --enable-image-integrity'"
		case d.State == v1alpha1.NonCompliant && d.Automatic:
			s.Reason, s.Message = ReasonAddOnMissing, "the cluster lacks the add-on; it is installed when the cluster is next updated, or at once by a remediation"
		case d.State == v1alpha1.NonCompliant:
			s.Reason, s.Message = ReasonAddOnMissing, "the cluster lacks the add-on; a remediation installs it"
		case d.State == v1alpha1.Compliant && d.Deploy.ImageIntegrity:
			s.State, s.Reason, s.Message = p.installed()
		case d.State == v1alpha1.Compliant && d.Deploy.PolicyAddOn && !p.fresh:
			// It is the agent that renders assignments.
			s.State, s.Reason, s.Message = v1alpha1.Unknown, compliance.ReasonNoReport, "the add-on is enabled, and the cluster's agent is not in contact; check whether it runs and reaches the hub"
		}
		out = append(out, s)
	}
	for _, q := range p.outcome.Problems {
		if q.Assignment == "" {
			continue
		}
		state := v1alpha1.Failed
		if q.Reason == resolve.ReasonUndecided {
			state = v1alpha1.Unknown
		}
		out = append(out, v1alpha1.AssignmentState{Assignment: q.Assignment, PolicyDefinitionReferenceID: q.Reference, State: state,
			Reason: q.Reason, Message: printableText(q.Message, maxSentence)})
	}
	return out
}

// installed tells whether the add-on is there that the cluster is to have: saying
// so is not having it.
func (p *plan) installed() (v1alpha1.ComplianceState, string, string) {
	if !p.fresh || p.report.Report.AddOn.State == "" {
		return v1alpha1.Unknown, compliance.ReasonNoReport, "the add-on is enabled, and the cluster's agent does not report whether it is installed; check whether it runs and reaches the hub"
	}
	a := p.report.Report.AddOn
	switch a.State {
	case v1alpha1.AddOnInstalled:
		return v1alpha1.Compliant, "", ""
	case v1alpha1.AddOnFailed:
		return v1alpha1.NonCompliant, ReasonAddOnFailed, cmp.Or(a.Message, "the add-on could not be installed; read the log of the cluster's agent")
	}
	return v1alpha1.NonCompliant, ReasonAddOnInstalling, "the add-on is enabled, and is not installed yet"
}

// hasAlready tells whether a cluster has what a deployment would give it although
// nobody said that it is to have it: somebody has installed Boltseal there.
func (p *plan) hasAlready(d definition.Deploy) bool {
	if !p.fresh || refusesAny(p.cluster, d) {
		return false
	}
	return !d.ImageIntegrity || p.report.Report.AddOn.State == v1alpha1.AddOnInstalled
}

// stateOf returns how the cluster stands with one deployment.
func (p *plan) stateOf(assignment, reference string) (*resolve.Deployment, v1alpha1.AssignmentState, bool) {
	for i := range p.outcome.Deployments {
		if d := &p.outcome.Deployments[i]; d.Assignment == assignment && d.Reference == reference {
			return d, p.states[i], true
		}
	}
	return nil, v1alpha1.AssignmentState{}, false
}

func deployFields(c *v1alpha1.Cluster) (integrity, addOn *bool) {
	return c.Spec.SecurityProfile.ImageIntegrity.Enabled, c.Spec.AddonProfiles.AzurePolicy.Enabled
}

// refusesAny tells whether somebody said false to what is to be deployed.
func refusesAny(c *v1alpha1.Cluster, d definition.Deploy) bool {
	integrity, addOn := deployFields(c)
	return d.ImageIntegrity && integrity != nil && !*integrity || d.PolicyAddOn && addOn != nil && !*addOn
}

// missingDeployment returns what of a deployment the cluster's spec does not say yet. What
// somebody set to false is left out unless it is overruled.
func missingDeployment(c *v1alpha1.Cluster, d definition.Deploy, overrule bool) definition.Deploy {
	open := func(want bool, have *bool) bool { return want && (have == nil || overrule && !*have) }
	integrity, addOn := deployFields(c)
	return definition.Deploy{ImageIntegrity: open(d.ImageIntegrity, integrity), PolicyAddOn: open(d.PolicyAddOn, addOn)}
}
