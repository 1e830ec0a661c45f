package product

// rights are what Boltseal needs in a cluster, and all that it is given here.
const rights = `
apiVersion: v1
kind: Namespace
metadata: {name: boltseal-system}
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
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: boltseal, namespace: boltseal-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: boltseal}
subjects: [{kind: ServiceAccount, name: boltseal, namespace: boltseal-system}]
`
