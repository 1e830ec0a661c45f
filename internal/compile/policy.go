package compile

import (
	"slices"
	"strings"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/base/strict"
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
	c.multiArch(r, p, &o)
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

// multiArch reads what is demanded of images of several platforms.
func (c *compiler) multiArch(r resource[v1beta1.PolicySpec], p configPolicyParameters, o *policy.Options) {
	var demands []string
	for _, d := range boltseal.Demands() {
		demands = append(demands, string(d))
	}
	if n, ok := r.node.Get("spec", "parameters", "multiArch"); ok && !slices.Contains(demands, p.MultiArch) {
		c.fail(r.own(n.Problem("%s is not %s%s", strict.Label(p.MultiArch), strings.Join(demands, ", "), nearest.Hint(p.MultiArch, demands))))
		return
	}
	o.MultiArch = boltseal.Demand(p.MultiArch)
	list, ok := r.node.Get("spec", "parameters", "platforms")
	if ok && len(p.Platforms) == 0 {
		c.fail(r.own(list.Problem("it is empty: list the platforms that nodes run, or leave it out, which means all")))
		return
	}
	nodes := false
	for i, n := range list.Items() {
		if p.Platforms[i] == nodesItem {
			if nodes {
				c.fail(r.own(n.Problem("%s is listed twice", nodesItem)))
			}
			nodes = true
			continue
		}
		platform, err := boltseal.ParsePlatform(p.Platforms[i])
		switch {
		case err != nil:
			c.fail(r.own(n.Problem("%s, and not %s", trim(err), nodesItem)))
		case slices.Contains(o.Platforms, platform):
			c.fail(r.own(n.Problem("%s is listed twice", platform)))
		default:
			o.Platforms = append(o.Platforms, platform)
		}
	}
	m := boltseal.MultiArch{Demand: o.MultiArch, Platforms: o.Platforms}
	if nodes {
		m.Unread = nodesItem // of no demand but these two, whatever Nodes run
	}
	if err := m.Validate(); err != nil && ok {
		c.fail(r.own(list.Problem("%s", trim(err))))
	}
	if nodes {
		c.nodes(r, list, o)
	}
}
