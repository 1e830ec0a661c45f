package agent

import (
	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	rbacv1 "k8s.io/api/rbac/v1"

	integrityv1 "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/agent/addon"
	"github.com/boltseal/boltseal/internal/governance/agent/apply"
)

// Rules are the rights that the agent needs in all of its cluster. Those at the hub
// are hub.AgentRules.
func Rules() []rbacv1.PolicyRule {
	keep := []string{"get", "list", "watch", "create", "update", "delete"}
	return []rbacv1.PolicyRule{
		{APIGroups: []string{integrityv1.GroupVersion.Group}, Resources: []string{"imageintegritypolicies"}, Verbs: keep},
		{APIGroups: []string{apply.TemplateGroup}, Resources: []string{"constrainttemplates"}, Verbs: keep},
		{APIGroups: []string{apply.ConstraintGroup}, Resources: []string{"*"}, Verbs: keep},
		// Pods are counted, and the audit's reports are read.
		{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}},
		{APIGroups: []string{openreports.GroupName}, Resources: []string{"reports"}, Verbs: []string{"list"}},
	}
}

// NamespaceRules are the rights that it needs in its own namespace. A right to
// create cannot be bound to a name.
func NamespaceRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get", "update", "delete"}, ResourceNames: []string{KeptBundle, KeptSeen, KeptAddOn}},
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"create"}},
	}
}

// AddOnRules are the rights in all of the cluster that it needs beside those of
// Rules to install and remove an add-on. Where the add-on brings roles, the agent
// must also have the rights that these grant, as Kubernetes demands of whoever
// makes a role.
func AddOnRules(s addon.Set) []rbacv1.PolicyRule { return s.Rules() }
