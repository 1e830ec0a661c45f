package compile

import (
	"slices"
	"strings"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/nearest"
	"github.com/boltseal/boltseal/internal/strict"
	"github.com/boltseal/boltseal/policy"
)

// policyName is the one name that a Policy may have, as in Ratify.
const policyName = "ratify-policy"

var (
	policyTypes = []string{"config-policy", "configpolicy"} // two spellings of one
	policyRules = []string{string(policy.Any), string(policy.All)}
)

// policy sets the Policy of its namespace, or says all that is wrong with it.
func (c *compiler) policy(r resource[v1beta1.PolicySpec]) {
	before := len(c.problems)
	if r.name != policyName {
		c.fail(r.problem("metadata.name", "a %s must be named %s", r.kind, policyName))
	}
	if !slices.Contains(policyTypes, strings.ToLower(r.spec.Type)) {
		c.fail(unknown(r, "spec.type", "policy", r.spec.Type, policyTypes[:1]))
		return
	}
	var p configPolicyParameters
	if err := r.parameters(&p); err != nil {
		c.fail(err)
		return
	}
	o := policy.Options{Default: policy.All, ByType: map[string]policy.Rule{}}
	rules, _ := r.node.Get("spec", "parameters", "artifactVerificationPolicies")
	for _, m := range rules.Members() {
		rule := p.ArtifactVerificationPolicies[m.Name]
		switch {
		case !slices.Contains(policyRules, rule):
			c.fail(r.own(m.Node.Problem("%s is not any or all%s", strict.Label(rule), nearest.Hint(rule, policyRules))))
		case m.Name == "default":
			o.Default = policy.Rule(rule)
		default:
			o.ByType[m.Name] = policy.Rule(rule)
		}
	}
	if len(c.problems) > before {
		return
	}
	compiled, err := policy.New(o)
	if err != nil {
		c.fail(r.problem("spec.parameters", "%s", trim(err)))
		return
	}
	c.policies[r.namespace] = compiled
}
