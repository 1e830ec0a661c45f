package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// EnforcementMode says whether an assignment denies.
// +kubebuilder:validation:Enum=Default;DoNotEnforce
type EnforcementMode string

// The enforcement modes.
const (
	EnforceDefault EnforcementMode = "Default"      // as the effect says
	DoNotEnforce   EnforcementMode = "DoNotEnforce" // it reports, and neither denies nor deploys
)

// PolicyAssignment assigns a definition or an initiative to all clusters in a scope.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="boltseal.dev/schema-revision=3"
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=boltseal,shortName=polassign
// +kubebuilder:printcolumn:name="Scope",type=string,JSONPath=`.spec.scope`
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.enforcementMode`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.compliance.state`
// +kubebuilder:printcolumn:name="Percent",type=string,JSONPath=`.status.compliance.compliantPercent`
// +kubebuilder:printcolumn:name="Clusters",type=integer,JSONPath=`.status.compliance.clusters`
// +kubebuilder:printcolumn:name="Non-compliant",type=integer,JSONPath=`.status.compliance.nonCompliant`
// +kubebuilder:printcolumn:name="Unknown",type=integer,JSONPath=`.status.compliance.unknown`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type PolicyAssignment struct {
	metav1.TypeMeta `json:",inline"`
	// Metadata of the assignment.
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what is assigned, and where.
	Spec PolicyAssignmentSpec `json:"spec"`
	// Status is how far the clusters are. Boltseal writes it.
	// +optional
	Status PolicyAssignmentStatus `json:"status,omitempty"`
}

// PolicyAssignmentList is a list of PolicyAssignments.
//
// +kubebuilder:object:root=true
type PolicyAssignmentList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []PolicyAssignment `json:"items"`
}

// PolicyAssignmentSpec is what is assigned, and where.
type PolicyAssignmentSpec struct {
	// DisplayName for people.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	DisplayName string `json:"displayName,omitempty"`
	// Description for people.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Description string `json:"description,omitempty"`
	// Scope is a path, such as /subscriptions/S/resourceGroups/G or /emea/production: all
	// clusters at it and below it. / is all clusters.
	// +kubebuilder:validation:Pattern=`^/`
	// +kubebuilder:validation:MaxLength=512
	Scope string `json:"scope"`
	// NotScopes below the scope are not checked and not counted.
	// +kubebuilder:validation:MaxItems=400
	// +kubebuilder:validation:items:Pattern=`^/`
	// +kubebuilder:validation:items:MaxLength=512
	// +optional
	NotScopes []string `json:"notScopes,omitempty"`
	// PolicyDefinitionID is what is assigned: the name of a definition or an initiative, or its
	// resource ID as Azure writes it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	PolicyDefinitionID string `json:"policyDefinitionId"`
	// DefinitionVersion is the versions that will do, such as 1.*.*. Empty means any.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	DefinitionVersion string `json:"definitionVersion,omitempty"`
	// Parameters of the definition or initiative.
	// +kubebuilder:validation:MaxProperties=300
	// +optional
	Parameters map[string]ParameterValue `json:"parameters,omitempty"`
	// EnforcementMode is Default, or DoNotEnforce: report, and neither deny nor deploy.
	// +kubebuilder:default=Default
	// +optional
	EnforcementMode EnforcementMode `json:"enforcementMode,omitempty"`
	// NonComplianceMessages are said to whoever is denied or warned.
	// +kubebuilder:validation:MaxItems=50
	// +listType=atomic
	// +optional
	NonComplianceMessages []NonComplianceMessage `json:"nonComplianceMessages,omitempty"`
	// ResourceSelectors narrow the clusters down: one of them must match. Empty means all.
	// +kubebuilder:validation:MaxItems=10
	// +listType=atomic
	// +optional
	ResourceSelectors []ResourceSelector `json:"resourceSelectors,omitempty"`
	// Overrides change effects or versions without touching the definition; of several that
	// apply, the first counts.
	// +kubebuilder:validation:MaxItems=10
	// +listType=atomic
	// +optional
	Overrides []Override `json:"overrides,omitempty"`
}

// NonComplianceMessage is said to whoever is denied or warned.
type NonComplianceMessage struct {
	// Message says what to do.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message"`
	// PolicyDefinitionReferenceID narrows it to one definition of the initiative.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	PolicyDefinitionReferenceID string `json:"policyDefinitionReferenceId,omitempty"`
}

// ResourceSelector matches where all of its selectors do.
type ResourceSelector struct {
	// Name for people.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	Name string `json:"name,omitempty"`
	// Selectors, all of which must match.
	// +kubebuilder:validation:MaxItems=10
	// +listType=atomic
	Selectors []Selector `json:"selectors"`
}

// Selector compares one property.
//
// +kubebuilder:validation:XValidation:rule="has(self.__in__) != has(self.notIn)",message="say either in or notIn"
type Selector struct {
	// Kind is what is compared: resourceLocation and resourceType (of the cluster) in
	// resourceSelectors; policyDefinitionReferenceId, resourceLocation and resourceType in
	// overrides.
	// +kubebuilder:validation:Enum=resourceLocation;resourceType;resourceWithoutLocation;policyDefinitionReferenceId
	Kind string `json:"kind"`
	// In has the values that hold.
	// +kubebuilder:validation:MaxItems=50
	// +optional
	In []string `json:"in,omitempty"`
	// NotIn has the values that do not match.
	// +kubebuilder:validation:MaxItems=50
	// +optional
	NotIn []string `json:"notIn,omitempty"`
}

// Override changes an effect or a version.
type Override struct {
	// Kind is policyEffect or policyVersion.
	// +kubebuilder:validation:Enum=policyEffect;policyVersion;definitionVersion
	Kind string `json:"kind"`
	// Value that applies: an effect that the definition allows, or a version.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Value string `json:"value"`
	// Selectors, all of which must match. Empty means everywhere.
	// +kubebuilder:validation:MaxItems=10
	// +listType=atomic
	// +optional
	Selectors []Selector `json:"selectors,omitempty"`
}

// PolicyAssignmentStatus is the state of an assignment.
type PolicyAssignmentStatus struct {
	Status `json:",inline"`
	// ID of the assignment: its scope, and its name.
	// +optional
	ID string `json:"id,omitempty"`
	// Compliance of the clusters in the scope.
	// +optional
	Compliance *Compliance `json:"compliance,omitempty"`
}

// ComplianceState is how far something is.
// +kubebuilder:validation:Enum=Compliant;NonCompliant;Exempt;Conflict;Unknown;Error
type ComplianceState string

// The compliance states.
const (
	Compliant    ComplianceState = "Compliant"
	NonCompliant ComplianceState = "NonCompliant"
	Exempt       ComplianceState = "Exempt"
	Conflict     ComplianceState = "Conflict"
	Unknown      ComplianceState = "Unknown" // not reported yet, or could not be checked
	Failed       ComplianceState = "Error"
)

// Compliance is how far the clusters of an assignment are.
type Compliance struct {
	// State is the worst of what is below.
	State ComplianceState `json:"state"`
	// CompliantPercent is how many of the clusters whose state is known, and that are not exempt,
	// are compliant, with one digit, such as 97.5. Empty when there are none.
	// +optional
	CompliantPercent string `json:"compliantPercent,omitempty"`
	// AzurePercent is what Azure Policy calls the compliance percentage: compliant, exempt or
	// unknown, of those that are compliant, not compliant, exempt or in conflict. Clusters of
	// which nothing is known raise it. Empty when there is nothing to count.
	// +optional
	AzurePercent string `json:"azurePercent,omitempty"`
	// Pods of the clusters that reported. Absent where none did.
	// +optional
	Pods *PodCounts `json:"pods,omitempty"`
	// ChangedAt is when what is reported here changed last.
	ChangedAt metav1.Time `json:"changedAt"`
	// Clusters in the scope, and how many of them are in each state.
	Clusters int32 `json:"clusters"`
	// Compliant clusters.
	// +optional
	Compliant int32 `json:"compliant"`
	// NonCompliant clusters.
	// +optional
	NonCompliant int32 `json:"nonCompliant"`
	// Exempt clusters.
	// +optional
	Exempt int32 `json:"exempt,omitempty"`
	// Conflict clusters.
	// +optional
	Conflict int32 `json:"conflict,omitempty"`
	// Unknown clusters.
	// +optional
	Unknown int32 `json:"unknown,omitempty"`
	// Error clusters.
	// +optional
	Error int32 `json:"error,omitempty"`
	// Definitions, each with its own counts.
	// +listType=atomic
	// +optional
	Definitions []DefinitionCompliance `json:"definitions,omitempty"`
	// First are the first clusters that are not compliant, by name.
	// +listType=atomic
	// +optional
	First []ClusterCompliance `json:"first,omitempty"`
	// Trend is how far the clusters were, the oldest first: at most one point an hour, and one a
	// day where nothing changes. The last hundred are kept.
	// +kubebuilder:validation:MaxItems=100
	// +listType=atomic
	// +optional
	Trend []TrendPoint `json:"trend,omitempty"`
}

// TrendPoint is how far the clusters of an assignment were at some time.
type TrendPoint struct {
	// At is when the hour of the values began; the values are those of its end.
	At metav1.Time `json:"at"`
	// State was the worst.
	State ComplianceState `json:"state"`
	// CompliantPercent of the clusters whose state was known.
	// +optional
	CompliantPercent string `json:"compliantPercent,omitempty"`
	// Clusters in the scope.
	Clusters int32 `json:"clusters"`
	// Compliant clusters. Absent in points of versions that did not keep it.
	// +optional
	Compliant *int32 `json:"compliant,omitempty"`
	// NonCompliant clusters.
	NonCompliant int32 `json:"nonCompliant"`
	// Unknown clusters. Absent in points of versions that did not keep it.
	// +optional
	Unknown *int32 `json:"unknown,omitempty"`
}

// DefinitionCompliance is how far the clusters are with one definition.
type DefinitionCompliance struct {
	// PolicyDefinitionReferenceID within the initiative; the definition's name without one.
	PolicyDefinitionReferenceID string `json:"policyDefinitionReferenceId"`
	// State is the worst of its clusters.
	State ComplianceState `json:"state"`
	// Compliant and NonCompliant clusters.
	Compliant int32 `json:"compliant"`
	// NonCompliant clusters.
	NonCompliant int32 `json:"nonCompliant"`
}

// ClusterCompliance is how far one cluster is.
type ClusterCompliance struct {
	// Cluster by name.
	Cluster string `json:"cluster"`
	// State of the cluster.
	State ComplianceState `json:"state"`
	// Reason is why, as a word.
	// +optional
	Reason string `json:"reason,omitempty"`
	// Message is why, as a sentence.
	// +optional
	Message string `json:"message,omitempty"`
}

// PolicyExemption takes something out of an assignment for a while. What is exempt is counted,
// and is never denied.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="boltseal.dev/schema-revision=2"
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=boltseal,shortName=polexempt
// +kubebuilder:printcolumn:name="Assignment",type=string,JSONPath=`.spec.policyAssignmentId`
// +kubebuilder:printcolumn:name="Category",type=string,JSONPath=`.spec.exemptionCategory`
// +kubebuilder:printcolumn:name="Expires",type=date,JSONPath=`.spec.expiresOn`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type PolicyExemption struct {
	metav1.TypeMeta `json:",inline"`
	// Metadata of the exemption.
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what is exempt, and until when.
	Spec PolicyExemptionSpec `json:"spec"`
	// Status says whether the exemption is active. Boltseal writes it.
	// +optional
	Status Status `json:"status,omitempty"`
}

// PolicyExemptionList is a list of PolicyExemptions.
//
// +kubebuilder:object:root=true
type PolicyExemptionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []PolicyExemption `json:"items"`
}

// PolicyExemptionSpec is what is exempt, and until when.
type PolicyExemptionSpec struct {
	// DisplayName for people.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	DisplayName string `json:"displayName,omitempty"`
	// Description for people: why.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Description string `json:"description,omitempty"`
	// PolicyAssignmentID is the assignment: its name or its ID.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	PolicyAssignmentID string `json:"policyAssignmentId"`
	// PolicyDefinitionReferenceIDs narrow it to some definitions of the initiative.
	// +kubebuilder:validation:MaxItems=100
	// +optional
	PolicyDefinitionReferenceIDs []string `json:"policyDefinitionReferenceIds,omitempty"`
	// ExemptionCategory is Waiver (the risk is accepted) or Mitigated (met in another way).
	// +kubebuilder:validation:Enum=Waiver;Mitigated
	ExemptionCategory string `json:"exemptionCategory"`
	// ExpiresOn is when it ends. Empty means never. The object stays.
	// +optional
	ExpiresOn *metav1.Time `json:"expiresOn,omitempty"`
	// Scope is a path: all clusters at it and below it. Empty means the assignment's.
	// +kubebuilder:validation:Pattern=`^/`
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Scope string `json:"scope,omitempty"`
	// Within narrows it to some of what runs in those clusters. Empty means the clusters as
	// they are.
	// +optional
	Within *ExemptionWithin `json:"within,omitempty"`
}

// ExemptionWithin is some of what runs in clusters. Every condition that is set must match.
//
// +kubebuilder:validation:MinProperties=1
type ExemptionWithin struct {
	// Namespaces by name; a trailing * matches any ending.
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9-]*\*?$`
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	// +optional
	Namespaces []string `json:"namespaces,omitempty"`
	// Images, exact or a beginning with a trailing *, compared with the canonical name.
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:Pattern=`^([^*]+|([^*/]*[.:][^*/]*|localhost)/[^*]*\*)$`
	// +kubebuilder:validation:items:MaxLength=512
	// +optional
	Images []string `json:"images,omitempty"`
	// Workloads by kind and name, such as Deployment/web; they are in the Namespaces.
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:Pattern=`^[A-Z][A-Za-z]+/[a-z0-9.-]+$`
	// +kubebuilder:validation:items:MaxLength=320
	// +optional
	Workloads []string `json:"workloads,omitempty"`
}
