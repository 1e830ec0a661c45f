package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	integrity "github.com/boltseal/boltseal/api/integrity/v1alpha1"
)

// ClusterBundle is what the hub requires of one cluster, and is named as it. The hub writes it
// from assignments; the cluster's agent, which may read this one and nothing else, renders it.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="boltseal.dev/schema-revision=3"
// +kubebuilder:resource:scope=Cluster,categories=boltseal
// +kubebuilder:printcolumn:name="Add-on",type=boolean,JSONPath=`.spec.addOn.enabled`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ClusterBundle struct {
	metav1.TypeMeta `json:",inline"`
	// Metadata of the bundle.
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what is required.
	Spec ClusterBundleSpec `json:"spec"`
}

// ClusterBundleList is a list of ClusterBundles.
//
// +kubebuilder:object:root=true
type ClusterBundleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ClusterBundle `json:"items"`
}

// ClusterBundleSpec is what is required of a cluster.
type ClusterBundleSpec struct {
	// Engine to render for. Empty means what the cluster has.
	// +optional
	Engine Engine `json:"engine,omitempty"`
	// AddOn is the add-on that verifies images.
	// +optional
	AddOn BundleAddOn `json:"addOn,omitempty"`
	// Demands are the requirements: one for each definition of each assignment that checks what runs, in order of
	// their names.
	// +kubebuilder:validation:MaxItems=200
	// +listType=atomic
	// +optional
	Demands []Demand `json:"demands,omitempty"`
}

// BundleAddOn is the add-on that verifies images.
type BundleAddOn struct {
	// Enabled installs it (true) or removes what was installed by an assignment (false). Nothing
	// said leaves it as it is.
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
	// Purge also removes the users' configuration when it is removed.
	// +optional
	Purge bool `json:"purge,omitempty"`
	// Attempt grows when a failed installation is to be tried again at once.
	// +optional
	Attempt int64 `json:"attempt,omitempty"`
}

// Demand is what one definition of one assignment requires of what runs in a cluster.
type Demand struct {
	// Name of what is rendered, unique in the bundle: azurepolicy-…
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// Assignment by name.
	Assignment string `json:"assignment"`
	// AssignmentID with its scope.
	AssignmentID string `json:"assignmentId"`
	// DefinitionID of the definition.
	DefinitionID string `json:"definitionId"`
	// DefinitionReferenceID within the initiative.
	// +optional
	DefinitionReferenceID string `json:"definitionReferenceId,omitempty"`
	// SetDefinitionID of the initiative.
	// +optional
	SetDefinitionID string `json:"setDefinitionId,omitempty"`
	// Effect that applies, in Azure's words: Audit or Deny.
	Effect string `json:"effect"`
	// EnforcementAction that the effect, warn and the enforcement mode come to.
	EnforcementAction integrity.EnforcementAction `json:"enforcementAction"`
	// Warn also warns whoever applies an object that would violate an audited requirement.
	// +optional
	Warn bool `json:"warn,omitempty"`
	// Match selects the objects.
	// +optional
	Match integrity.Match `json:"match,omitempty"`
	// ExcludedImages are not checked.
	// +kubebuilder:validation:MaxItems=1000
	// +optional
	ExcludedImages []string `json:"excludedImages,omitempty"`
	// Source is All, Generated or Original, for Gatekeeper.
	// +optional
	Source string `json:"source,omitempty"`
	// Template is a ConstraintTemplate in YAML that the definition brings itself. Empty means
	// Boltseal's own.
	// +kubebuilder:validation:MaxLength=262144
	// +optional
	Template string `json:"template,omitempty"`
	// Message is said to whoever is denied or warned.
	// +optional
	Message string `json:"message,omitempty"`
	// Exemptions that are active or will be.
	// +kubebuilder:validation:MaxItems=500
	// +listType=atomic
	// +optional
	Exemptions []BundleExemption `json:"exemptions,omitempty"`
}

// BundleExemption takes something out of a requirement for a while.
type BundleExemption struct {
	// Name of the PolicyExemption.
	Name string `json:"name"`
	// Category is Waiver or Mitigated.
	Category string `json:"category"`
	// ExpiresOn is when it ends. The agent ends it by itself, hub or no hub.
	// +optional
	ExpiresOn *metav1.Time `json:"expiresOn,omitempty"`
	// Within narrows it. Empty means the whole cluster.
	// +optional
	Within *ExemptionWithin `json:"within,omitempty"`
}

// ClusterReport is what the agent of one cluster reports to the hub, and is named as the cluster.
// The agent may write this one and nothing else.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="boltseal.dev/schema-revision=3"
// +kubebuilder:resource:scope=Cluster,categories=boltseal
// +kubebuilder:printcolumn:name="Add-on",type=string,JSONPath=`.report.addOn.state`
// +kubebuilder:printcolumn:name="Sequence",type=integer,JSONPath=`.report.sequence`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ClusterReport struct {
	metav1.TypeMeta `json:",inline"`
	// Metadata of the report.
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Report is what the agent reports.
	// +optional
	Report ClusterReportContent `json:"report,omitempty"`
}

// ClusterReportList is a list of ClusterReports.
//
// +kubebuilder:object:root=true
type ClusterReportList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ClusterReport `json:"items"`
}

// ClusterReportContent is what an agent tells. It is bounded: totals are whole, names are the
// first ones.
type ClusterReportContent struct {
	// Sequence grows with each report of one agent.
	// +optional
	Sequence int64 `json:"sequence,omitempty"`
	// At is when the agent last had contact; refreshed at least every few minutes.
	// +optional
	At *metav1.Time `json:"at,omitempty"`
	// BundleGeneration is the generation of the ClusterBundle that is rendered.
	// +optional
	BundleGeneration int64 `json:"bundleGeneration,omitempty"`
	// Version of Boltseal.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	Version string `json:"version,omitempty"`
	// Engine that is rendered for.
	// +optional
	Engine Engine `json:"engine,omitempty"`
	// AddOn is how far the add-on is.
	// +optional
	AddOn AddOnReport `json:"addOn,omitempty"`
	// Pods that were checked.
	// +optional
	Pods int32 `json:"pods,omitempty"`
	// Demands are the requirements, each with its state.
	// +kubebuilder:validation:MaxItems=200
	// +listType=atomic
	// +optional
	Demands []DemandReport `json:"demands,omitempty"`
}

// AddOnReport is how far the add-on of a cluster is.
type AddOnReport struct {
	// State of the add-on.
	// +optional
	State AddOnState `json:"state,omitempty"`
	// InstalledBy is assignment, or other: what somebody installed by hand is never removed.
	// +kubebuilder:validation:Enum=assignment;other
	// +optional
	InstalledBy string `json:"installedBy,omitempty"`
	// Attempt that the state is about.
	// +optional
	Attempt int64 `json:"attempt,omitempty"`
	// Message says why, as a sentence.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`
}

// DemandReport is the state of one requirement.
type DemandReport struct {
	// Name of the requirement in the bundle.
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// State of it.
	State ComplianceState `json:"state"`
	// Reason is a word, such as ConstraintTemplateConflicts.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	Reason string `json:"reason,omitempty"`
	// Message is a sentence.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`
	// Pods that the requirement selects.
	// +optional
	Pods int32 `json:"pods,omitempty"`
	// Trusted is how many of them run trusted images only. Absent means that it is not known:
	// Gatekeeper does not report which Pods it checks.
	// +optional
	Trusted *int32 `json:"trusted,omitempty"`
	// Violations is how many of them run an image that is not trusted and not exempt.
	// +optional
	Violations int32 `json:"violations,omitempty"`
	// Exempt is how many run an image that is not trusted, and are exempt.
	// +optional
	Exempt int32 `json:"exempt,omitempty"`
	// Unknown is how many could not be checked.
	// +optional
	Unknown int32 `json:"unknown,omitempty"`
	// ExemptOtherwise is how many exempt images Components does not name, counted in each
	// namespace.
	// +optional
	ExemptOtherwise int32 `json:"exemptOtherwise,omitempty"`
	// Components are the first violations by namespace and image.
	// +kubebuilder:validation:MaxItems=100
	// +listType=atomic
	// +optional
	Components []Component `json:"components,omitempty"`
	// TrustedBy says whose signatures the trusted images rest on, those with the most Pods first.
	// +kubebuilder:validation:MaxItems=10
	// +listType=atomic
	// +optional
	TrustedBy []integrity.TrustedBy `json:"trustedBy,omitempty"`
	// TrustedOtherwise is how many trusted images TrustedBy does not count.
	// +optional
	TrustedOtherwise int32 `json:"trustedOtherwise,omitempty"`
}

// Component is an image in a namespace that does not satisfy a requirement.
type Component struct {
	// Namespace that it runs in.
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`
	// Image that runs, as HOST/REPOSITORY@DIGEST.
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image"`
	// Pods is how many run it.
	Pods int32 `json:"pods"`
	// Pod is the name of one of them.
	// +kubebuilder:validation:MaxLength=253
	Pod string `json:"pod"`
	// State is NonCompliant, Exempt or Unknown.
	State ComplianceState `json:"state"`
	// Reason is why, as a word.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	Reason string `json:"reason,omitempty"`
	// Message is why, as a sentence.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`
	// Signer, where the image has a signature that is not trusted.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Signer string `json:"signer,omitempty"`
	// FirstSeen and LastSeen are when it was seen to run.
	FirstSeen metav1.Time `json:"firstSeen"`
	// LastSeen is when it was seen to run last, to the hour.
	LastSeen metav1.Time `json:"lastSeen"`
}
