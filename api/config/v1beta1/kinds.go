package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

//go:generate go tool -modfile=../../../tools/go.mod controller-gen object crd:crdVersions=v1 paths=. output:crd:dir=../../../charts/boltseal/crds
//go:generate go -C ../../../tools run ./unwrap ../charts/boltseal/crds
//go:generate go run ../../../internal/compile/schemas/generate ../../.. ../../../charts/boltseal/crds ../../../docs/schemas

// Store says where images and signatures are read.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="boltseal.dev/schema-revision=3"
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=boltseal
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.name`
// +kubebuilder:printcolumn:name="IsSuccess",type=boolean,JSONPath=`.status.issuccess`
// +kubebuilder:printcolumn:name="Error",type=string,JSONPath=`.status.brieferror`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Store struct {
	metav1.TypeMeta `json:",inline"`
	// Metadata of the resource.
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is where they are read.
	Spec StoreSpec `json:"spec"`
	// Status is the state of the resource. Boltseal writes it.
	// +optional
	Status Status `json:"status,omitempty"`
}

// Verifier says how signatures are verified, and who is trusted.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="boltseal.dev/schema-revision=3"
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=boltseal
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.name`
// +kubebuilder:printcolumn:name="IsSuccess",type=boolean,JSONPath=`.status.issuccess`
// +kubebuilder:printcolumn:name="Error",type=string,JSONPath=`.status.brieferror`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Verifier struct {
	metav1.TypeMeta `json:",inline"`
	// Metadata of the resource.
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is how signatures are verified.
	Spec VerifierSpec `json:"spec"`
	// Status is the state of the resource. Boltseal writes it.
	// +optional
	Status Status `json:"status,omitempty"`
}

// KeyManagementProvider provides certificates and keys for verification.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="boltseal.dev/schema-revision=3"
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=boltseal
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name="IsSuccess",type=boolean,JSONPath=`.status.issuccess`
// +kubebuilder:printcolumn:name="Error",type=string,JSONPath=`.status.brieferror`
// +kubebuilder:printcolumn:name="LastFetchedTime",type=date,JSONPath=`.status.lastfetchedtime`
// +kubebuilder:printcolumn:name="Expires",type=string,JSONPath=`.status.properties.earliestExpiry`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type KeyManagementProvider struct {
	metav1.TypeMeta `json:",inline"`
	// Metadata of the resource.
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is where certificates and keys come from.
	Spec KeyManagementProviderSpec `json:"spec"`
	// Status is the state of the resource. Boltseal writes it.
	// +optional
	Status ProviderStatus `json:"status,omitempty"`
}

// Policy says how many signatures must match. Its name must be ratify-policy.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="boltseal.dev/schema-revision=3"
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=boltseal
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name="IsSuccess",type=boolean,JSONPath=`.status.issuccess`
// +kubebuilder:printcolumn:name="Error",type=string,JSONPath=`.status.brieferror`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Policy struct {
	metav1.TypeMeta `json:",inline"`
	// Metadata of the resource.
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is how many signatures must match.
	Spec PolicySpec `json:"spec"`
	// Status is the state of the resource. Boltseal writes it.
	// +optional
	Status Status `json:"status,omitempty"`
}

// CertificateStore provides certificates for verification. It is the older form of KeyManagementProvider, and serves the whole cluster.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="boltseal.dev/schema-revision=3"
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,categories=boltseal
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.provider`
// +kubebuilder:printcolumn:name="IsSuccess",type=boolean,JSONPath=`.status.issuccess`
// +kubebuilder:printcolumn:name="Error",type=string,JSONPath=`.status.brieferror`
// +kubebuilder:printcolumn:name="LastFetchedTime",type=date,JSONPath=`.status.lastfetchedtime`
// +kubebuilder:printcolumn:name="Expires",type=string,JSONPath=`.status.properties.earliestExpiry`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type CertificateStore struct {
	metav1.TypeMeta `json:",inline"`
	// Metadata of the resource.
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is where certificates come from.
	Spec CertificateStoreSpec `json:"spec"`
	// Status is the state of the resource. Boltseal writes it.
	// +optional
	Status ProviderStatus `json:"status,omitempty"`
}

// NamespacedStore says where images and signatures are read for one namespace, in place of the Stores of the cluster.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="boltseal.dev/schema-revision=3"
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,categories=boltseal
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.name`
// +kubebuilder:printcolumn:name="IsSuccess",type=boolean,JSONPath=`.status.issuccess`
// +kubebuilder:printcolumn:name="Error",type=string,JSONPath=`.status.brieferror`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NamespacedStore struct {
	metav1.TypeMeta `json:",inline"`
	// Metadata of the resource.
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is where they are read.
	Spec StoreSpec `json:"spec"`
	// Status is the state of the resource. Boltseal writes it.
	// +optional
	Status Status `json:"status,omitempty"`
}

// NamespacedVerifier says how signatures are verified for one namespace, in place of the Verifiers of the cluster.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="boltseal.dev/schema-revision=3"
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,categories=boltseal
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.name`
// +kubebuilder:printcolumn:name="IsSuccess",type=boolean,JSONPath=`.status.issuccess`
// +kubebuilder:printcolumn:name="Error",type=string,JSONPath=`.status.brieferror`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NamespacedVerifier struct {
	metav1.TypeMeta `json:",inline"`
	// Metadata of the resource.
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is how signatures are verified.
	Spec VerifierSpec `json:"spec"`
	// Status is the state of the resource. Boltseal writes it.
	// +optional
	Status Status `json:"status,omitempty"`
}

// NamespacedKeyManagementProvider provides certificates and keys for the verifiers of one namespace.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="boltseal.dev/schema-revision=3"
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,categories=boltseal
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name="IsSuccess",type=boolean,JSONPath=`.status.issuccess`
// +kubebuilder:printcolumn:name="Error",type=string,JSONPath=`.status.brieferror`
// +kubebuilder:printcolumn:name="LastFetchedTime",type=date,JSONPath=`.status.lastfetchedtime`
// +kubebuilder:printcolumn:name="Expires",type=string,JSONPath=`.status.properties.earliestExpiry`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NamespacedKeyManagementProvider struct {
	metav1.TypeMeta `json:",inline"`
	// Metadata of the resource.
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is where certificates and keys come from.
	Spec KeyManagementProviderSpec `json:"spec"`
	// Status is the state of the resource. Boltseal writes it.
	// +optional
	Status ProviderStatus `json:"status,omitempty"`
}

// NamespacedPolicy says how many signatures must match in one namespace, in place of the Policy of the cluster. Its name must be ratify-policy.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="boltseal.dev/schema-revision=3"
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,categories=boltseal
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name="IsSuccess",type=boolean,JSONPath=`.status.issuccess`
// +kubebuilder:printcolumn:name="Error",type=string,JSONPath=`.status.brieferror`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NamespacedPolicy struct {
	metav1.TypeMeta `json:",inline"`
	// Metadata of the resource.
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is how many signatures must match.
	Spec PolicySpec `json:"spec"`
	// Status is the state of the resource. Boltseal writes it.
	// +optional
	Status Status `json:"status,omitempty"`
}
