// Package hub turns the objects of governance into what each cluster is to have, and what clusters report into compliance.
//
// Whoever runs it needs the rights of Rules, and the agent of a cluster those of
// AgentRules: it reads the one bundle and writes the one report that have the
// cluster's name, so that a stolen credential lies about that cluster only.
package hub

import (
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

// Rules are the rights that the hub needs, in all of its cluster.
func Rules() []rbacv1.PolicyRule {
	group := []string{v1alpha1.GroupVersion.Group}
	return []rbacv1.PolicyRule{
		{APIGroups: group, Verbs: []string{"get", "list", "watch"}, Resources: []string{"policydefinitions", "policysetdefinitions",
			"policyassignments", "policyexemptions", "remediations", "featureregistrations", "clusters", "clusterreports"}},
		{APIGroups: group, Verbs: []string{"update"}, Resources: []string{"policydefinitions/status", "policysetdefinitions/status",
			"policyassignments/status", "policyexemptions/status", "remediations/status", "clusters/status"}},
		// A deployment sets what a cluster is to have.
		{APIGroups: group, Verbs: []string{"patch"}, Resources: []string{"clusters"}},
		{APIGroups: group, Verbs: []string{"get", "list", "watch", "create", "update", "delete"}, Resources: []string{"clusterbundles"}},
		{APIGroups: []string{""}, Verbs: []string{"create", "patch"}, Resources: []string{"events"}},
	}
}

// AgentRules are the rights at the hub that the agent of one cluster needs.
// Kubernetes cannot narrow create to a name by RBAC, as the name is not part of
// the request: the hub's administrator makes the empty report, or the agent does
// so by a patch (server-side apply), which carries the name.
func AgentRules(cluster string) []rbacv1.PolicyRule {
	group, name := []string{v1alpha1.GroupVersion.Group}, []string{cluster}
	return []rbacv1.PolicyRule{
		{APIGroups: group, Verbs: []string{"get", "list", "watch"}, Resources: []string{"clusterbundles"}, ResourceNames: name},
		{APIGroups: group, Verbs: []string{"get", "create", "update", "patch"}, Resources: []string{"clusterreports"}, ResourceNames: name},
	}
}
