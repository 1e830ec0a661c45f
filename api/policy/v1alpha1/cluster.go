package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Engine is what denies in a cluster.
// +kubebuilder:validation:Enum=Boltseal;Gatekeeper
type Engine string

// The engines.
const (
	EngineBoltseal   Engine = "Boltseal"   // ImageIntegrityPolicies and Boltseal's own webhook
	EngineGatekeeper Engine = "Gatekeeper" // ConstraintTemplates and constraints
)

// Cluster is a cluster that is governed.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="boltseal.dev/schema-revision=3"
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=boltseal,shortName=polcluster
// +kubebuilder:printcolumn:name="Scope",type=string,JSONPath=`.spec.scope`
// +kubebuilder:printcolumn:name="Integrity",type=boolean,JSONPath=`.spec.securityProfile.imageIntegrity.enabled`
// +kubebuilder:printcolumn:name="Add-on",type=string,JSONPath=`.status.addOn`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.compliance.state`
// +kubebuilder:printcolumn:name="Violations",type=integer,JSONPath=`.status.compliance.violations`
// +kubebuilder:printcolumn:name="Seen",type=date,JSONPath=`.status.lastSeen`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Cluster struct {
	metav1.TypeMeta `json:",inline"`
	// Metadata of the cluster.
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is the cluster's place in the hierarchy, and what it is to have.
	// +optional
	Spec ClusterSpec `json:"spec,omitempty"`
	// Status is how far it is. Boltseal writes it.
	// +optional
	Status ClusterStatus `json:"status,omitempty"`
}

// ClusterList is a list of Clusters.
//
// +kubebuilder:object:root=true
type ClusterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Cluster `json:"items"`
}

// ClusterSpec is a cluster's place in the hierarchy, and what it is to have.
type ClusterSpec struct {
	// Scope is the path of the cluster, such as /subscriptions/S/resourceGroups/G.
	// +kubebuilder:default="/"
	// +kubebuilder:validation:Pattern=`^/`
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Scope string `json:"scope,omitempty"`
	// ManagementGroups above the scope, as Azure writes their IDs. What is assigned to one of
	// them applies to the cluster.
	// +kubebuilder:validation:MaxItems=10
	// +optional
	ManagementGroups []string `json:"managementGroups,omitempty"`
	// Location, such as westeurope, for selectors and filters.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Location string `json:"location,omitempty"`
	// Engine is what denies in the cluster. Empty means what the cluster has: Gatekeeper
	// where it is installed, and Boltseal otherwise.
	// +optional
	Engine Engine `json:"engine,omitempty"`
	// SecurityProfile is what the cluster is to have.
	// +optional
	SecurityProfile SecurityProfile `json:"securityProfile,omitempty"`
	// AddonProfiles are the add-ons that the cluster is to have.
	// +optional
	AddonProfiles AddonProfiles `json:"addonProfiles,omitempty"`
}

// SecurityProfile is what a cluster is to have.
type SecurityProfile struct {
	// ImageIntegrity is the add-on that verifies images.
	// +optional
	ImageIntegrity ImageIntegrity `json:"imageIntegrity,omitempty"`
}

// ImageIntegrity is the add-on that verifies images.
type ImageIntegrity struct {
	// Enabled installs it (true) or removes it (false). Nothing said means that assignments
	// decide.
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
	// PurgeOnDisable also removes the users' configuration when it is removed.
	// +optional
	PurgeOnDisable bool `json:"purgeOnDisable,omitempty"`
}

// AddonProfiles are the add-ons that a cluster is to have.
type AddonProfiles struct {
	// AzurePolicy renders assignments in the cluster.
	// +optional
	AzurePolicy AddonProfile `json:"azurePolicy,omitempty"`
}

// AddonProfile is an add-on.
type AddonProfile struct {
	// Enabled says whether the cluster is to have it. Nothing said means that assignments
	// decide.
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
}

// ClusterStatus is how far a cluster is.
type ClusterStatus struct {
	Status `json:",inline"`
	// ID of the cluster: its scope, and its name.
	// +optional
	ID string `json:"id,omitempty"`
	// AddOn is Installed, Absent, Installing, Removing or Failed, as the cluster reports.
	// +optional
	AddOn AddOnState `json:"addOn,omitempty"`
	// Version of Boltseal that the cluster reports.
	// +optional
	Version string `json:"version,omitempty"`
	// LastSeen is when the cluster's agent reported last.
	// +optional
	LastSeen *metav1.Time `json:"lastSeen,omitempty"`
	// Compliance with all assignments together.
	// +optional
	Compliance *ClusterTotals `json:"compliance,omitempty"`
	// Assignments that hold for the cluster, each with its state.
	// +listType=atomic
	// +optional
	Assignments []AssignmentState `json:"assignments,omitempty"`
}

// ClusterTotals is how far a cluster is with all assignments together.
type ClusterTotals struct {
	// State is the worst of its assignments.
	State ComplianceState `json:"state"`
	// Pods that were checked.
	Pods int32 `json:"pods"`
	// Violations is how many of them run an image that is not trusted and not exempt.
	Violations int32 `json:"violations"`
	// Unknown is how many could not be checked.
	Unknown int32 `json:"unknown"`
}

// AssignmentState is how far a cluster is with one definition of one assignment.
type AssignmentState struct {
	// Assignment by name.
	Assignment string `json:"assignment"`
	// PolicyDefinitionReferenceID within the initiative; the definition's name without one.
	PolicyDefinitionReferenceID string `json:"policyDefinitionReferenceId"`
	// Effect that applies.
	Effect string `json:"effect"`
	// State of it.
	State ComplianceState `json:"state"`
	// Reason is why, as a word.
	// +optional
	Reason string `json:"reason,omitempty"`
	// Message is why, as a sentence.
	// +optional
	Message string `json:"message,omitempty"`
	// Pods of the cluster that it selects. Absent means that nothing is known of them now.
	// +optional
	Pods *PodCounts `json:"pods,omitempty"`
}

// PodCounts is how many Pods run which images. Each Pod is counted once.
type PodCounts struct {
	// Trusted is how many run trusted images only. Absent means that it is not known:
	// Gatekeeper does not report which Pods it checks.
	// +optional
	Trusted *int32 `json:"trusted,omitempty"`
	// NotTrusted is how many run an image that is not trusted and not exempt.
	NotTrusted int32 `json:"notTrusted"`
	// Exempt is how many run an image that is not trusted, and are exempt.
	Exempt int32 `json:"exempt"`
	// Unknown is how many could not be checked.
	Unknown int32 `json:"unknown"`
}

// AddOnState is how far the add-on of a cluster is.
// +kubebuilder:validation:Enum=Installed;Absent;Installing;Removing;Failed
type AddOnState string

// The states of an add-on.
const (
	AddOnInstalled  AddOnState = "Installed"
	AddOnAbsent     AddOnState = "Absent"
	AddOnInstalling AddOnState = "Installing"
	AddOnRemoving   AddOnState = "Removing"
	AddOnFailed     AddOnState = "Failed"
)
