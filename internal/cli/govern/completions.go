package govern

import (
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/governance/definition"
	"github.com/boltseal/boltseal/internal/governance/resolve"
)

// KnownValues returns what is known of the values of the family's flags.
func KnownValues() frame.Completions {
	assignments, clusters, exemptions := frame.NamesOfKind(v1alpha1.KindPolicyAssignment), frame.NamesOfKind(v1alpha1.KindCluster), frame.NamesOfKind(v1alpha1.KindPolicyExemption)
	builtIn := []string{definition.DeployImageIntegrity, definition.DeployPolicyAddOn, definition.VerifyImages}
	return frame.Completions{
		Flags: map[string]frame.Completed{
			"assignment": assignments, "policy-assignment": assignments, "cluster": clusters, "without-exemption": exemptions,
			"policy":                  {Values: builtIn, Kinds: []string{v1alpha1.KindPolicyDefinition}},
			"policy-set-definition":   {Values: []string{definition.SetImageIntegrity}, Kinds: []string{v1alpha1.KindPolicySetDefinition}},
			"engine":                  {Values: []string{string(v1alpha1.EngineBoltseal), string(v1alpha1.EngineGatekeeper)}},
			"by":                      {Values: complianceLevels},
			"effect":                  {Values: []string{string(definition.EffectAudit), string(definition.EffectDeny), string(definition.EffectDisabled)}},
			"enforcement-mode":        {Values: []string{string(v1alpha1.EnforceDefault), string(v1alpha1.DoNotEnforce)}},
			"exemption-category":      {Values: []string{"Waiver", "Mitigated"}},
			"resource-discovery-mode": {Values: []string{"ExistingNonCompliant", "ReEvaluateCompliance"}},
		},
		Commands: map[string]map[string]frame.Completed{
			"feature": {"name": {Values: resolve.FeatureNames()}, "namespace": {Values: resolve.FeatureNamespaces()[:1]}},
		},
		Names: map[string]frame.Completed{
			"policy assignment": assignments, "policy exemption": exemptions, "cluster": clusters,
			"policy remediation": frame.NamesOfKind(v1alpha1.KindRemediation),
			"policy definition":  {Values: builtInNames(), Kinds: []string{v1alpha1.KindPolicyDefinition, v1alpha1.KindPolicySetDefinition}},
		},
	}
}
