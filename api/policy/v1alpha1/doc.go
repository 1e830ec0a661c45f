// Package v1alpha1 has the objects of governance, which assigns image integrity to clusters and tells how far they are: group policy.boltseal.dev.
//
// +kubebuilder:object:generate=true
// +groupName=policy.boltseal.dev
// +versionName=v1alpha1
package v1alpha1

import "k8s.io/apimachinery/pkg/runtime/schema"

//go:generate go tool -modfile=../../../tools/go.mod controller-gen object crd:crdVersions=v1 paths=. output:crd:dir=../../../charts/boltseal/crds
//go:generate go -C ../../../tools run ./unwrap ../charts/boltseal/crds
//go:generate go run ../../../internal/compile/schemas/generate ../../.. ../../../charts/boltseal/crds ../../../docs/schemas

// GroupVersion of all types in this package.
var GroupVersion = schema.GroupVersion{Group: "policy.boltseal.dev", Version: "v1alpha1"}

// Kinds of this group. Somebody responsible for clusters writes PolicyDefinition,
// PolicySetDefinition, PolicyAssignment, PolicyExemption, Remediation,
// FeatureRegistration and Cluster, all at the hub. ClusterBundle is written by the hub
// and read by the agent of one cluster, ClusterReport the other way round.
const (
	KindPolicyDefinition    = "PolicyDefinition"
	KindPolicySetDefinition = "PolicySetDefinition"
	KindPolicyAssignment    = "PolicyAssignment"
	KindPolicyExemption     = "PolicyExemption"
	KindRemediation         = "Remediation"
	KindFeatureRegistration = "FeatureRegistration"
	KindCluster             = "Cluster"
	KindClusterBundle       = "ClusterBundle"
	KindClusterReport       = "ClusterReport"
)
