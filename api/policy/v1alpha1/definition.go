package v1alpha1

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PolicyDefinition is a rule that can be assigned: what is checked, and what becomes of
// what does not satisfy it. It has the shape of the properties of an Azure Policy definition.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="boltseal.dev/schema-revision=2"
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=boltseal,shortName=poldef
// +kubebuilder:printcolumn:name="Display name",type=string,JSONPath=`.spec.displayName`
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.spec.version`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type PolicyDefinition struct {
	metav1.TypeMeta `json:",inline"`
	// Metadata of the definition.
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is the definition.
	Spec PolicyDefinitionSpec `json:"spec"`
	// Status says whether the definition can be assigned. Boltseal writes it.
	// +optional
	Status Status `json:"status,omitempty"`
}

// PolicyDefinitionList is a list of PolicyDefinitions.
//
// +kubebuilder:object:root=true
type PolicyDefinitionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []PolicyDefinition `json:"items"`
}

// PolicyDefinitionSpec is a definition.
type PolicyDefinitionSpec struct {
	// DisplayName for people.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	DisplayName string `json:"displayName,omitempty"`
	// Description for people.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Description string `json:"description,omitempty"`
	// PolicyType is BuiltIn, Custom or Static: who wrote it. It changes nothing.
	// +optional
	PolicyType string `json:"policyType,omitempty"`
	// Mode is Microsoft.Kubernetes.Data for what runs in clusters, or Indexed for clusters.
	// +kubebuilder:validation:Enum=Microsoft.Kubernetes.Data;Indexed
	Mode string `json:"mode"`
	// Metadata about the definition.
	// +optional
	Metadata DefinitionMetadata `json:"metadata,omitempty"`
	// Version of the definition, such as 1.1.0-preview.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Version string `json:"version,omitempty"`
	// Versions that there have been.
	// +kubebuilder:validation:MaxItems=100
	// +optional
	Versions []string `json:"versions,omitempty"`
	// Parameters that an assignment may set.
	// +kubebuilder:validation:MaxProperties=20
	// +optional
	Parameters map[string]Parameter `json:"parameters,omitempty"`
	// PolicyRule has if and then, as Azure Policy defines them.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	PolicyRule apiextensionsv1.JSON `json:"policyRule"`
}

// DefinitionMetadata is what is said about a definition.
type DefinitionMetadata struct {
	// Version of the definition, as in its version.
	// +optional
	Version string `json:"version,omitempty"`
	// Category for people.
	// +optional
	Category string `json:"category,omitempty"`
	// Preview definitions take effect only where the feature ImageIntegrityPreview, or the
	// name that Azure has for it, is registered.
	// +optional
	Preview bool `json:"preview,omitempty"`
	// Deprecated definitions still apply, and are said to be deprecated.
	// +optional
	Deprecated bool `json:"deprecated,omitempty"`
}

// Parameter is declared by a definition, and set by an assignment.
type Parameter struct {
	// Type is string, array, object, boolean, integer, float or dateTime, in any case.
	// +kubebuilder:validation:Pattern=`^(?i:string|array|object|boolean|integer|float|datetime)$`
	Type string `json:"type"`
	// Metadata for people and portals. It changes nothing.
	// +optional
	Metadata ParameterMetadata `json:"metadata,omitempty"`
	// DefaultValue where an assignment sets none.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	DefaultValue *apiextensionsv1.JSON `json:"defaultValue,omitempty"`
	// AllowedValues, compared with their case.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	AllowedValues []apiextensionsv1.JSON `json:"allowedValues,omitempty"`
	// Schema that values of type object satisfy.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	Schema *apiextensionsv1.JSON `json:"schema,omitempty"`
}

// ParameterMetadata is what is said about a parameter.
type ParameterMetadata struct {
	// DisplayName for people.
	// +optional
	DisplayName string `json:"displayName,omitempty"`
	// Description for people.
	// +optional
	Description string `json:"description,omitempty"`
}

// ParameterValue is what an assignment or an initiative sets a parameter to.
type ParameterValue struct {
	// Value of the parameter. In an initiative it may be an expression, such as
	// [parameters('effect')].
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	Value apiextensionsv1.JSON `json:"value"`
}

// PolicySetDefinition, also called an initiative, is a set of definitions that are assigned
// together. It has the shape of the properties of an Azure Policy initiative.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="boltseal.dev/schema-revision=2"
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=boltseal,shortName=polset
// +kubebuilder:printcolumn:name="Display name",type=string,JSONPath=`.spec.displayName`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.spec.version`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type PolicySetDefinition struct {
	metav1.TypeMeta `json:",inline"`
	// Metadata of the initiative.
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is the initiative.
	Spec PolicySetDefinitionSpec `json:"spec"`
	// Status says whether the initiative can be assigned. Boltseal writes it.
	// +optional
	Status Status `json:"status,omitempty"`
}

// PolicySetDefinitionList is a list of PolicySetDefinitions.
//
// +kubebuilder:object:root=true
type PolicySetDefinitionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []PolicySetDefinition `json:"items"`
}

// PolicySetDefinitionSpec is an initiative.
type PolicySetDefinitionSpec struct {
	// DisplayName for people.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	DisplayName string `json:"displayName,omitempty"`
	// Description for people.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Description string `json:"description,omitempty"`
	// PolicyType is BuiltIn, Custom or Static: who wrote it. It changes nothing.
	// +optional
	PolicyType string `json:"policyType,omitempty"`
	// Metadata about the initiative.
	// +optional
	Metadata DefinitionMetadata `json:"metadata,omitempty"`
	// Version of the initiative.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Version string `json:"version,omitempty"`
	// Versions that there have been.
	// +kubebuilder:validation:MaxItems=100
	// +optional
	Versions []string `json:"versions,omitempty"`
	// Parameters that an assignment may set.
	// +kubebuilder:validation:MaxProperties=300
	// +optional
	Parameters map[string]Parameter `json:"parameters,omitempty"`
	// PolicyDefinitions of the initiative.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +listType=map
	// +listMapKey=policyDefinitionReferenceId
	PolicyDefinitions []PolicyDefinitionReference `json:"policyDefinitions"`
}

// PolicyDefinitionReference is one definition of an initiative.
type PolicyDefinitionReference struct {
	// PolicyDefinitionReferenceID names it within the initiative.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	PolicyDefinitionReferenceID string `json:"policyDefinitionReferenceId"`
	// PolicyDefinitionID is the definition's name, or its resource ID as Azure writes it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	PolicyDefinitionID string `json:"policyDefinitionId"`
	// DefinitionVersion is the versions that will do, such as 1.*.*-preview. Empty means any.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	DefinitionVersion string `json:"definitionVersion,omitempty"`
	// Parameters handed to the definition; values may be expressions over the initiative's.
	// +kubebuilder:validation:MaxProperties=300
	// +optional
	Parameters map[string]ParameterValue `json:"parameters,omitempty"`
	// GroupNames for people. They change nothing.
	// +kubebuilder:validation:MaxItems=100
	// +optional
	GroupNames []string `json:"groupNames,omitempty"`
}

// Status is the state of an object.
type Status struct {
	// ObservedGeneration is the generation of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Ready says whether the object applies as it is written.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
