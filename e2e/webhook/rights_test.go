package webhook

// rights are what Boltseal needs as a webhook and provider that keeps its certificates and configurations itself,
// and all that it is given here. docs/webhook.md lists them.
const rights = `
apiVersion: v1
kind: Namespace
metadata: {name: boltseal-system}
---
apiVersion: v1
kind: Namespace
metadata: {name: gatekeeper-system}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: boltseal, namespace: boltseal-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: boltseal}
rules:
- {apiGroups: [""], resources: [namespaces], verbs: [get, list, watch]}
- {apiGroups: [""], resources: [pods], verbs: [list, watch]}
- {apiGroups: [openreports.io], resources: [reports], verbs: [list]}
- {apiGroups: [openreports.io], resources: [reports], resourceNames: [boltseal], verbs: [create, patch, delete]}
- {apiGroups: [""], resources: [events], verbs: [create, patch]}
- {apiGroups: [config.ratify.deislabs.io, boltseal.dev], resources: ["*"], verbs: [get, list, watch]}
- apiGroups: [config.ratify.deislabs.io]
  resources: [stores/status, verifiers/status, policies/status, keymanagementproviders/status, certificatestores/status,
    namespacedstores/status, namespacedverifiers/status, namespacedpolicies/status, namespacedkeymanagementproviders/status]
  verbs: [patch]
- apiGroups: [boltseal.dev]
  resources: [imageintegritypolicies/status, namespacedimageintegritypolicies/status]
  verbs: [patch]
- apiGroups: [admissionregistration.k8s.io]
  resources: [mutatingwebhookconfigurations, validatingwebhookconfigurations]
  verbs: [create]
- apiGroups: [admissionregistration.k8s.io]
  resources: [mutatingwebhookconfigurations, validatingwebhookconfigurations]
  resourceNames: [boltseal]
  verbs: [list, watch, update]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [clusterroles]
  resourceNames: [boltseal]
  verbs: [get]
- apiGroups: [externaldata.gatekeeper.sh]
  resources: [providers]
  resourceNames: [ratify-provider, ratify-mutation-provider]
  verbs: [list, watch, patch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: boltseal}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: boltseal}
subjects: [{kind: ServiceAccount, name: boltseal, namespace: boltseal-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: boltseal, namespace: boltseal-system}
rules:
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, create, update]}
- {apiGroups: [""], resources: [secrets], verbs: [create]}
- {apiGroups: [""], resources: [secrets], resourceNames: [boltseal-serving], verbs: [get, list, watch, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: boltseal, namespace: boltseal-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: boltseal}
subjects: [{kind: ServiceAccount, name: boltseal, namespace: boltseal-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: boltseal-gatekeeper-ca, namespace: gatekeeper-system}
rules:
- {apiGroups: [""], resources: [secrets], resourceNames: [gatekeeper-webhook-server-cert], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: boltseal-gatekeeper-ca, namespace: gatekeeper-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: boltseal-gatekeeper-ca}
subjects: [{kind: ServiceAccount, name: boltseal, namespace: boltseal-system}]
`
