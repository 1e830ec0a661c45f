// Package v1beta1 has the resources that Ratify's users apply: group config.ratify.deislabs.io.
//
// +kubebuilder:object:generate=true
// +groupName=config.ratify.deislabs.io
// +versionName=v1beta1
package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion of all types in this package.
var GroupVersion = schema.GroupVersion{Group: "config.ratify.deislabs.io", Version: "v1beta1"}

// Kinds of this group. Each "Namespaced" kind has the spec of its namesake.
const (
	KindCertificateStore      = "CertificateStore"
	KindKeyManagementProvider = "KeyManagementProvider"
	KindStore                 = "Store"
	KindVerifier              = "Verifier"
	KindPolicy                = "Policy"
	NamespacedPrefix          = "Namespaced"
)

// PluginSource says where a plugin's binary comes from. Boltseal runs no
// plugins; a resource that names a source is refused.
type PluginSource struct {
	// Artifact is the OCI artifact that holds the plugin.
	Artifact string `json:"artifact,omitempty"`
	// AuthProvider says how to authenticate to the artifact's registry.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	AuthProvider *runtime.RawExtension `json:"authProvider,omitempty"`
}

// StoreSpec says where images and signatures are read.
type StoreSpec struct {
	// Name is the kind of store: oras.
	Name string `json:"name"`
	// Version of the plugin. It has no effect.
	Version string `json:"version,omitempty"`
	// Address of the plugin. It has no effect.
	Address string `json:"address,omitempty"`
	// Source of the plugin. Not supported.
	Source *PluginSource `json:"source,omitempty"`
	// Parameters of the store, see docs/configuration.md.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	Parameters runtime.RawExtension `json:"parameters,omitempty"`
}

// VerifierSpec says how signatures are verified.
// +kubebuilder:validation:XValidation:rule="has(self.name) || has(self.type)",message="name the kind of verifier, such as name: notation"
type VerifierSpec struct {
	// Name is the kind of verifier where Type is empty: notation.
	// +optional
	Name string `json:"name,omitempty"`
	// Type is the kind of verifier: notation.
	Type string `json:"type,omitempty"`
	// Version of the plugin. It has no effect.
	Version string `json:"version,omitempty"`
	// ArtifactTypes that the verifier checks, separated by commas; * is all.
	ArtifactTypes string `json:"artifactTypes"`
	// Address of the plugin. It has no effect.
	Address string `json:"address,omitempty"`
	// Source of the plugin. Not supported.
	Source *PluginSource `json:"source,omitempty"`
	// Parameters of the verifier, see docs/configuration.md.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	Parameters runtime.RawExtension `json:"parameters,omitempty"`
}

// KeyManagementProviderSpec says where certificates and keys come from.
type KeyManagementProviderSpec struct {
	// Type is the kind of provider: inline, azurekeyvault, secret, configmap, file, vault, awskms or gcpkms.
	Type string `json:"type,omitempty"`
	// Provider is the older name of Type.
	Provider string `json:"provider,omitempty"`
	// RefreshInterval is how often they are fetched anew, such as 1h; empty is never.
	RefreshInterval string `json:"refreshInterval,omitempty"`
	// Parameters of the provider, see docs/keys.md.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	Parameters runtime.RawExtension `json:"parameters,omitempty"`
}

// CertificateStoreSpec is the older form of KeyManagementProviderSpec.
type CertificateStoreSpec struct {
	// Provider is the kind of provider, as in a KeyManagementProvider.
	Provider string `json:"provider"`
	// Parameters of the provider, see docs/keys.md.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	Parameters runtime.RawExtension `json:"parameters,omitempty"`
}

// PolicySpec says how many signatures must match.
type PolicySpec struct {
	// Type is the kind of policy: config-policy.
	Type string `json:"type"`
	// Parameters of the policy, see docs/configuration.md.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	Parameters runtime.RawExtension `json:"parameters,omitempty"`
}

// Status says whether a resource is in use.
type Status struct {
	// IsSuccess is true where the resource was understood and is in use.
	IsSuccess bool `json:"issuccess"`
	// Error says what is wrong.
	Error string `json:"error,omitempty"`
	// BriefError is the beginning of Error.
	BriefError string `json:"brieferror,omitempty"`
	// Conditions: Ready says whether the resource is in use as it is written.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ProviderStatus says whether certificates and keys could be fetched.
type ProviderStatus struct {
	Status `json:",inline"`
	// LastFetchedTime is when they were fetched.
	// +optional
	LastFetchedTime *metav1.Time `json:"lastfetchedtime,omitempty"`
	// Properties of what was fetched: for each certificate its name and version, subject, issuer,
	// serial number, times and fingerprint, when the first expires, and what is not in use and why.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	Properties *runtime.RawExtension `json:"properties,omitempty"`
}
