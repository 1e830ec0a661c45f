package chart

import (
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/boltseal/boltseal/e2e/render"
	"github.com/boltseal/boltseal/internal/governance/agent"
	"github.com/boltseal/boltseal/internal/governance/hub"
	"github.com/boltseal/boltseal/internal/governance/own"
	"github.com/boltseal/boltseal/internal/governance/pageserver"
)

// right is one thing that may be done.
type right struct{ group, resource, name, verb string }

func rights(in []rbacv1.PolicyRule) map[right]bool {
	out := map[right]bool{}
	for _, r := range in {
		names := r.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, g := range r.APIGroups {
			for _, res := range r.Resources {
				for _, n := range names {
					for _, v := range r.Verbs {
						out[right{g, res, n, v}] = true
					}
				}
			}
		}
	}
	return out
}

func has(all map[right]bool, r right) bool {
	any := r
	any.name = ""
	return all[r] || all[any]
}

// TestRightsOfGovernance holds the chart's rights against what the code says that it needs, in each role.
func TestRightsOfGovernance(t *testing.T) {
	t.Parallel()
	inNamespace := agent.NamespaceRules()
	hubRules := append(append(append(hub.Rules(), own.Rules("fra1")...), hub.AgentRules("fra1")...), agent.Rules()...)
	for name, c := range map[string]struct {
		values           string
		all, inNamespace []rbacv1.PolicyRule
		doesNotHave      []right
	}{
		"a hub":               {values: "governance: {clusterName: fra1}", all: hubRules, inNamespace: inNamespace},
		"a hub with the page": {values: "governance: {clusterName: fra1, page: {enabled: true}}", all: append(slices.Clip(hubRules), pageserver.ReviewRules()...), inNamespace: inNamespace},
		"a member": {values: "governance: {clusterName: fra1, hubKubeconfigSecret: hub}", all: agent.Rules(), inNamespace: inNamespace,
			doesNotHave: []right{{"policy.boltseal.dev", "clusters", "", "list"}, {"policy.boltseal.dev", "clusterbundles", "", "create"}}},
		"not governed": {values: "governance: {enabled: false}", doesNotHave: []right{{"boltseal.dev", "imageintegritypolicies", "", "create"},
			{"constraints.gatekeeper.sh", "*", "", "create"}, {"", "configmaps", "", "create"}, {"policy.boltseal.dev", "clusters", "", "list"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var cluster, namespaced []rbacv1.PolicyRule
			for _, u := range objects(t, rendered(t, render.Options{Values: []string{c.values}})) {
				if u.GetName() != "boltseal" {
					continue
				}
				switch u.GetKind() {
				case "ClusterRole":
					cluster = append(cluster, rules(t, u)...)
				case "Role":
					namespaced = append(namespaced, rules(t, u)...)
				}
			}
			have, local := rights(cluster), rights(namespaced)
			for r := range rights(c.all) {
				if !has(have, r) {
					t.Errorf("it may not %+v", r)
				}
			}
			for r := range rights(c.inNamespace) {
				if !has(local, r) {
					t.Errorf("in its namespace, it may not %+v", r)
				}
			}
			for _, r := range c.doesNotHave {
				if has(have, r) || has(local, r) {
					t.Errorf("it may %+v", r)
				}
			}
		})
	}
}
