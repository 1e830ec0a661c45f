package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

//go:generate go tool -modfile=../../../tools/go.mod controller-gen object crd:crdVersions=v1 paths=. output:crd:dir=../../../charts/boltseal/crds
//go:generate go -C ../../../tools run ./unwrap ../charts/boltseal/crds
//go:generate go run ../../../internal/compile/schemas/generate ../../.. ../../../charts/boltseal/crds ../../../docs/schemas

// ImageIntegrityPolicy requires trusted images of the objects it matches. They are verified
// with the resources of the cluster, whatever a namespace defines. Of several policies that
// match, the strictest wins.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="boltseal.dev/schema-revision=5"
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=boltseal,shortName=iip
// +kubebuilder:printcolumn:name="Action",type=string,JSONPath=`.spec.enforcementAction`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Pods",type=integer,JSONPath=`.status.audit.pods`
// +kubebuilder:printcolumn:name="Violations",type=integer,JSONPath=`.status.audit.violations`
// +kubebuilder:printcolumn:name="Unknown",type=integer,JSONPath=`.status.audit.unknown`,priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ImageIntegrityPolicy struct {
	metav1.TypeMeta `json:",inline"`
	// Metadata of the policy.
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what is required.
	Spec ImageIntegrityPolicySpec `json:"spec"`
	// Status is the state of the policy. Boltseal writes it.
	// +optional
	Status ImageIntegrityPolicyStatus `json:"status,omitempty"`
}

// NamespacedImageIntegrityPolicy requires trusted images of objects in its own namespace,
// beside what the cluster requires. They are verified with the namespace's resources, kind by
// kind, and with the cluster's where it has none. It can only add: whatever it says, the
// policies of the cluster must be satisfied too.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="boltseal.dev/schema-revision=4"
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,categories=boltseal,shortName=niip
// +kubebuilder:printcolumn:name="Action",type=string,JSONPath=`.spec.enforcementAction`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Pods",type=integer,JSONPath=`.status.audit.pods`
// +kubebuilder:printcolumn:name="Violations",type=integer,JSONPath=`.status.audit.violations`
// +kubebuilder:printcolumn:name="Unknown",type=integer,JSONPath=`.status.audit.unknown`,priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NamespacedImageIntegrityPolicy struct {
	metav1.TypeMeta `json:",inline"`
	// Metadata of the policy.
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what is required.
	Spec NamespacedImageIntegrityPolicySpec `json:"spec"`
	// Status is the state of the policy. Boltseal writes it.
	// +optional
	Status ImageIntegrityPolicyStatus `json:"status,omitempty"`
}
