package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Remediation deploys at once what a deployIfNotExists definition misses in clusters that are
// there already. Its spec does not change once it has started, but for cancel.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="boltseal.dev/schema-revision=2"
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=boltseal,shortName=polremediate
// +kubebuilder:printcolumn:name="Assignment",type=string,JSONPath=`.spec.policyAssignmentId`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.provisioningState`
// +kubebuilder:printcolumn:name="Total",type=integer,JSONPath=`.status.deploymentStatus.totalDeployments`
// +kubebuilder:printcolumn:name="Succeeded",type=integer,JSONPath=`.status.deploymentStatus.successfulDeployments`
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.deploymentStatus.failedDeployments`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.statusMessage`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Remediation struct {
	metav1.TypeMeta `json:",inline"`
	// Metadata of the remediation.
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what is deployed.
	Spec RemediationSpec `json:"spec"`
	// Status is how far it is. Boltseal writes it.
	// +optional
	Status RemediationStatus `json:"status,omitempty"`
}

// RemediationList is a list of Remediations.
//
// +kubebuilder:object:root=true
type RemediationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Remediation `json:"items"`
}

// RemediationSpec is what is deployed.
//
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.cancel) || !oldSelf.cancel || (has(self.cancel) && self.cancel)",message="what is cancelled stays cancelled"
// +kubebuilder:validation:XValidation:rule="self.policyAssignmentId == oldSelf.policyAssignmentId && has(self.policyDefinitionReferenceId) == has(oldSelf.policyDefinitionReferenceId) && (!has(self.policyDefinitionReferenceId) || self.policyDefinitionReferenceId == oldSelf.policyDefinitionReferenceId) && has(self.resourceCount) == has(oldSelf.resourceCount) && (!has(self.resourceCount) || self.resourceCount == oldSelf.resourceCount) && has(self.parallelDeployments) == has(oldSelf.parallelDeployments) && (!has(self.parallelDeployments) || self.parallelDeployments == oldSelf.parallelDeployments) && has(self.failureThreshold) == has(oldSelf.failureThreshold) && (!has(self.failureThreshold) || self.failureThreshold == oldSelf.failureThreshold) && has(self.filters) == has(oldSelf.filters) && (!has(self.filters) || self.filters == oldSelf.filters) && has(self.resourceDiscoveryMode) == has(oldSelf.resourceDiscoveryMode) && (!has(self.resourceDiscoveryMode) || self.resourceDiscoveryMode == oldSelf.resourceDiscoveryMode)",message="a remediation does not change once it has started, but for cancel: make another"
type RemediationSpec struct {
	// PolicyAssignmentID is the assignment: its name or its ID.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	PolicyAssignmentID string `json:"policyAssignmentId"`
	// PolicyDefinitionReferenceID is the definition of the initiative; needed for an initiative.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	PolicyDefinitionReferenceID string `json:"policyDefinitionReferenceId,omitempty"`
	// ResourceCount is how many clusters at most.
	// +kubebuilder:default=500
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=50000
	// +optional
	ResourceCount int32 `json:"resourceCount,omitempty"`
	// ParallelDeployments is how many clusters at a time.
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=30
	// +optional
	ParallelDeployments int32 `json:"parallelDeployments,omitempty"`
	// FailureThreshold is when to give up.
	// +optional
	FailureThreshold *FailureThreshold `json:"failureThreshold,omitempty"`
	// Filters narrow the clusters down.
	// +optional
	Filters *RemediationFilters `json:"filters,omitempty"`
	// ResourceDiscoveryMode is ExistingNonCompliant, or ReEvaluateCompliance: look anew first.
	// +kubebuilder:validation:Enum=ExistingNonCompliant;ReEvaluateCompliance
	// +kubebuilder:default=ExistingNonCompliant
	// +optional
	ResourceDiscoveryMode string `json:"resourceDiscoveryMode,omitempty"`
	// Cancel ends it: what is under way is finished, and nothing else is begun.
	// +optional
	Cancel bool `json:"cancel,omitempty"`
}

// FailureThreshold is when to give up.
type FailureThreshold struct {
	// Percentage of clusters that failed, 0 to 100, above which nothing else is begun.
	// +kubebuilder:default=100
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Percentage int32 `json:"percentage"`
}

// RemediationFilters narrow clusters down.
type RemediationFilters struct {
	// Locations of the clusters.
	// +kubebuilder:validation:MaxItems=50
	// +optional
	Locations []string `json:"locations,omitempty"`
}

// RemediationState is how far a remediation is.
// +kubebuilder:validation:Enum=Accepted;Evaluating;Running;Cancelling;Canceled;Failed;Complete;Succeeded
type RemediationState string

// The states of a remediation.
const (
	RemediationAccepted   RemediationState = "Accepted"
	RemediationRunning    RemediationState = "Running"
	RemediationCancelling RemediationState = "Cancelling"
	RemediationCanceled   RemediationState = "Canceled"
	RemediationFailed     RemediationState = "Failed"
	RemediationComplete   RemediationState = "Complete"  // done, with failures below the threshold
	RemediationSucceeded  RemediationState = "Succeeded" // done, without failures
)

// RemediationStatus is how far a remediation is.
type RemediationStatus struct {
	// ProvisioningState is how far it is.
	// +optional
	ProvisioningState RemediationState `json:"provisioningState,omitempty"`
	// StatusMessage says why, as a sentence.
	// +optional
	StatusMessage string `json:"statusMessage,omitempty"`
	// CreatedOn is when it was begun.
	// +optional
	CreatedOn *metav1.Time `json:"createdOn,omitempty"`
	// LastUpdatedOn is when what is reported here changed last.
	// +optional
	LastUpdatedOn *metav1.Time `json:"lastUpdatedOn,omitempty"`
	// DeploymentStatus has the counts.
	// +optional
	DeploymentStatus DeploymentCounts `json:"deploymentStatus,omitempty"`
	// Deployments that failed or are under way, by cluster, at most 100.
	// +kubebuilder:validation:MaxItems=100
	// +listType=atomic
	// +optional
	Deployments []Deployment `json:"deployments,omitempty"`
	// Cursor is the last cluster that was begun with; they are taken in order of their names.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Cursor string `json:"cursor,omitempty"`
}

// DeploymentCounts are how many clusters.
type DeploymentCounts struct {
	// TotalDeployments is how many clusters there are to remediate.
	TotalDeployments int32 `json:"totalDeployments"`
	// SuccessfulDeployments is how many have what they missed.
	SuccessfulDeployments int32 `json:"successfulDeployments"`
	// FailedDeployments is how many could not be given it.
	FailedDeployments int32 `json:"failedDeployments"`
}

// Deployment is one cluster of a remediation.
type Deployment struct {
	// Cluster by name.
	Cluster string `json:"cluster"`
	// Status is Pending, Running, Succeeded or Failed.
	Status string `json:"status"`
	// BegunOn is when it was begun.
	// +optional
	BegunOn *metav1.Time `json:"begunOn,omitempty"`
	// Message is why, as a sentence.
	// +optional
	Message string `json:"message,omitempty"`
}

// FeatureRegistration opts a scope in to what is marked preview.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="boltseal.dev/schema-revision=2"
// +kubebuilder:resource:scope=Cluster,categories=boltseal,shortName=polfeature
// +kubebuilder:printcolumn:name="Namespace",type=string,JSONPath=`.spec.namespace`
// +kubebuilder:printcolumn:name="Feature",type=string,JSONPath=`.spec.name`
// +kubebuilder:printcolumn:name="Scope",type=string,JSONPath=`.spec.scope`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type FeatureRegistration struct {
	metav1.TypeMeta `json:",inline"`
	// Metadata of the registration.
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is the feature, and where.
	Spec FeatureRegistrationSpec `json:"spec"`
}

// FeatureRegistrationList is a list of FeatureRegistrations.
//
// +kubebuilder:object:root=true
type FeatureRegistrationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []FeatureRegistration `json:"items"`
}

// FeatureRegistrationSpec is a feature, and where it is registered.
type FeatureRegistrationSpec struct {
	// Namespace of the feature, such as Microsoft.ContainerService.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// Name of the feature: ImageIntegrityPreview, or Azure's EnableImageIntegrityPreview and
	// AKS-AzurePolicyExternalData.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Name string `json:"name"`
	// Scope is a path: all clusters at it and below it.
	// +kubebuilder:default="/"
	// +kubebuilder:validation:Pattern=`^/`
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Scope string `json:"scope,omitempty"`
}
