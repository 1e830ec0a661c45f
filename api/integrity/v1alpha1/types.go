// Package v1alpha1 has ImageIntegrityPolicy, which says where Boltseal's own webhook requires trusted images: group boltseal.dev.
//
// +kubebuilder:object:generate=true
// +groupName=boltseal.dev
// +versionName=v1alpha1
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion of all types in this package.
var GroupVersion = schema.GroupVersion{Group: "boltseal.dev", Version: "v1alpha1"}

// Kinds of this group: policies for the whole cluster, and those that a namespace
// sets itself.
const (
	KindImageIntegrityPolicy           = "ImageIntegrityPolicy"
	KindNamespacedImageIntegrityPolicy = "NamespacedImageIntegrityPolicy"
)

// EnforcementAction is what becomes of an object with an image that is not trusted.
// +kubebuilder:validation:Enum=deny;warn;dryrun
type EnforcementAction string

// The enforcement actions.
const (
	Deny   EnforcementAction = "deny"   // it is not admitted
	Warn   EnforcementAction = "warn"   // it is admitted, and whoever applies it is warned
	DryRun EnforcementAction = "dryrun" // it is admitted, and the audit log says so
)

// UnavailableAction is what becomes of an object whose images could not be checked.
// +kubebuilder:validation:Enum=deny;allow;lastKnownGood
type UnavailableAction string

// The actions for images that could not be checked.
const (
	UnavailableDeny          UnavailableAction = "deny"
	UnavailableAllow         UnavailableAction = "allow"
	UnavailableLastKnownGood UnavailableAction = "lastKnownGood"
)

// Match selects objects. Every condition that is set must match; an empty Match
// selects all.
type Match struct {
	// Kinds of objects: Pod, Deployment and the like, and those of others as GROUP/Kind, such as
	// argoproj.io/Rollout, in which every image is found by what is around it. Empty means
	// CronJob, DaemonSet, Deployment, Job, Pod, PodTemplate, ReplicaSet, ReplicationController
	// and StatefulSet.
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:items:Pattern=`^(CronJob|DaemonSet|Deployment|Job|Pod|PodTemplate|ReplicaSet|ReplicationController|StatefulSet|[a-z0-9.-]+/[A-Za-z][A-Za-z0-9]*)$`
	// +kubebuilder:validation:items:MaxLength=317
	// +optional
	Kinds []string `json:"kinds,omitempty"`
	// Namespaces by name; a trailing * matches any ending. Empty means all.
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9-]*\*?$`
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	// +optional
	Namespaces []string `json:"namespaces,omitempty"`
	// ExcludedNamespaces by name; a trailing * matches any ending. They win over Namespaces.
	// kube-system and Boltseal's own namespace are always excluded.
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9-]*\*?$`
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	// +optional
	ExcludedNamespaces []string `json:"excludedNamespaces,omitempty"`
	// NamespaceSelector selects namespaces by their labels.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	// LabelSelector selects objects by their own labels. Whoever creates an object chooses
	// its labels, so this keeps out nobody who wants to be kept out.
	// +optional
	LabelSelector *metav1.LabelSelector `json:"labelSelector,omitempty"`
}

// OnUnavailable says what to do with images that could not be checked because a registry,
// a key store or a revocation service did not answer.
// +kubebuilder:validation:XValidation:rule="!has(self.maxAge) || self.action == 'lastKnownGood'",message="maxAge means something with action lastKnownGood only"
type OnUnavailable struct {
	// Action is deny (the default), allow, or lastKnownGood: what the registry said before is
	// verified again against today's trust configuration. A registry that answers, be it with
	// 401, is not unavailable.
	// +kubebuilder:default=deny
	// +optional
	Action UnavailableAction `json:"action,omitempty"`
	// MaxAge is how long ago the registry may have answered last, for lastKnownGood, such as
	// 12h. The default is 24h.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$`
	// +optional
	MaxAge *metav1.Duration `json:"maxAge,omitempty"`
}

// ImageIntegrityPolicySpec says which objects may only have trusted images.
type ImageIntegrityPolicySpec struct {
	// Match selects the objects. Empty means all that have containers.
	// +optional
	Match Match `json:"match,omitempty"`
	// ExcludedImages are not checked: an exact image, or a beginning with a trailing *,
	// compared with the canonical name (docker.io/library/nginx:1.27). A * before the first /
	// is refused: myregistry* would name myregistry.evil.example too.
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:Pattern=`^([^*]+|([^*/]*[.:][^*/]*|localhost)/[^*]*\*)$`
	// +kubebuilder:validation:items:MaxLength=512
	// +optional
	ExcludedImages []string `json:"excludedImages,omitempty"`
	// Exemptions take some of what the policy selects out of it for a while. An image that is
	// not trusted, or could not be checked, is admitted under one, and is reported. They say
	// nothing to other policies.
	// +kubebuilder:validation:MaxItems=500
	// +listType=map
	// +listMapKey=name
	// +optional
	Exemptions []Exemption `json:"exemptions,omitempty"`
	// EnforcementAction is deny (the default), warn or dryrun.
	// +kubebuilder:default=deny
	// +optional
	EnforcementAction EnforcementAction `json:"enforcementAction,omitempty"`
	// OnUnavailable says what to do when a registry does not answer. The default is to deny.
	// +optional
	OnUnavailable OnUnavailable `json:"onUnavailable,omitempty"`
	// ResolveTags pins the digest that was verified into Pods, and keeps the tag: repo:tag@digest.
	// The default is true, and then a Pod that names an image without the digest that was
	// verified does not satisfy the policy. Without it a node may pull something else under the
	// same tag, and whoever applies an object with a tag is warned of that.
	// +kubebuilder:default=true
	// +optional
	ResolveTags *bool `json:"resolveTags,omitempty"`
}

// ExemptionCategory says why something is exempt.
// +kubebuilder:validation:Enum=Waiver;Mitigated
type ExemptionCategory string

// The exemption categories.
const (
	Waiver    ExemptionCategory = "Waiver"    // the risk is accepted
	Mitigated ExemptionCategory = "Mitigated" // it is met in another way
)

// Exemption takes something out of a policy. Every condition that is set must match, and one
// must be set.
//
// +kubebuilder:validation:XValidation:rule="has(self.namespaces) || has(self.images) || has(self.workloads)",message="write namespaces, images or workloads"
type Exemption struct {
	// Name that it is reported by.
	// +kubebuilder:validation:Pattern=`^[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?$`
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Category is Waiver (the risk is accepted) or Mitigated (met in another way).
	Category ExemptionCategory `json:"category"`
	// Expires is when it ends. Empty means never.
	// +optional
	Expires *metav1.Time `json:"expires,omitempty"`
	// Reason for people: why.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Reason string `json:"reason,omitempty"`
	// Namespaces by name; a trailing * matches any ending.
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9-]*\*?$`
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	// +optional
	Namespaces []string `json:"namespaces,omitempty"`
	// Images as in excludedImages. One with a digest and no tag is the digest under any tag.
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:Pattern=`^([^*]+|([^*/]*[.:][^*/]*|localhost)/[^*]*\*)$`
	// +kubebuilder:validation:items:MaxLength=512
	// +optional
	Images []string `json:"images,omitempty"`
	// Workloads, and the Pods that Kubernetes' controllers create for them.
	// +kubebuilder:validation:MaxItems=100
	// +listType=atomic
	// +optional
	Workloads []ExemptWorkload `json:"workloads,omitempty"`
}

// ExemptWorkload names one workload.
type ExemptWorkload struct {
	// Kind of the workload: CronJob, DaemonSet, Deployment, Job, ReplicaSet,
	// ReplicationController, StatefulSet, or a kind of others as GROUP/Kind, such as
	// argoproj.io/Rollout.
	// +kubebuilder:validation:Pattern=`^(CronJob|DaemonSet|Deployment|Job|ReplicaSet|ReplicationController|StatefulSet|[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z][A-Za-z0-9]*)$`
	// +kubebuilder:validation:MaxLength=317
	Kind string `json:"kind"`
	// Name of the workload.
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Namespace of the workload. Empty means the exemption's namespaces.
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// Controller is who creates what belongs to a workload of a kind of others, such as
	// system:serviceaccount:argo-rollouts:argo-rollouts: what that user creates with the
	// workload as its controller is exempt, too. Empty means that only the workload itself
	// is. Kubernetes' own controllers are known.
	// +kubebuilder:validation:Pattern=`^system:serviceaccount:[a-z0-9]([a-z0-9-]*[a-z0-9])?:[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`
	// +kubebuilder:validation:MaxLength=340
	// +optional
	Controller string `json:"controller,omitempty"`
}

// ImageIntegrityPolicyStatus is the state of the policy.
type ImageIntegrityPolicyStatus struct {
	// ObservedGeneration is the generation of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Ready says whether the policy applies as it is written.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Audit is what the policy finds about Pods that already run.
	// +optional
	Audit *Audit `json:"audit,omitempty"`
}

// Audit is what a policy finds about Pods that already run, whatever its
// enforcementAction: nothing that runs is ever stopped.
type Audit struct {
	// ChangedAt is when what is reported here changed last.
	ChangedAt metav1.Time `json:"changedAt"`
	// Pods is how many the policy selects.
	Pods int32 `json:"pods"`
	// Images is how many distinct images run in them.
	Images int32 `json:"images"`
	// Violations is how many of the Pods run an image that does not satisfy the policy.
	Violations int32 `json:"violations"`
	// ViolatingImages is how many such images there are.
	ViolatingImages int32 `json:"violatingImages"`
	// Unknown is how many of the Pods could not be checked because a registry, a key store or a
	// revocation service did not answer. They are neither trusted nor in violation.
	Unknown int32 `json:"unknown"`
	// Exempt is how many of the Pods run an image that is not trusted, or could not be checked,
	// under an exemption, and none that is in violation.
	// +optional
	Exempt int32 `json:"exempt,omitempty"`
	// Pending is how many of the Pods are still to be checked.
	Pending int32 `json:"pending"`
	// First are the first violations by namespace and image. The reports and 'boltseal audit'
	// have more.
	// +listType=atomic
	// +optional
	First []AuditViolation `json:"first,omitempty"`
	// FirstExempt are the first images that are exempt by namespace and image: those that would
	// not satisfy the policy, or could not be checked, without an exemption.
	// +kubebuilder:validation:MaxItems=10
	// +listType=atomic
	// +optional
	FirstExempt []AuditViolation `json:"firstExempt,omitempty"`
	// ExemptOtherwise is how many exempt images FirstExempt does not name, counted in each
	// namespace.
	// +optional
	ExemptOtherwise int32 `json:"exemptOtherwise,omitempty"`
	// TrustedBy says whose signatures the trusted images rest on, those with the most Pods first.
	// +kubebuilder:validation:MaxItems=10
	// +listType=atomic
	// +optional
	TrustedBy []TrustedBy `json:"trustedBy,omitempty"`
	// TrustedOtherwise is how many trusted images TrustedBy does not count.
	// +optional
	TrustedOtherwise int32 `json:"trustedOtherwise,omitempty"`
}

// TrustedBy is images that are trusted for the signatures of the same signers.
type TrustedBy struct {
	// Signers each made a signature of every one of the images, and all of them hold.
	// +kubebuilder:validation:MaxItems=4
	// +listType=atomic
	Signers []SigningCertificate `json:"signers"`
	// Images is how many there are.
	Images int32 `json:"images"`
	// Pods is how many run them.
	Pods int32 `json:"pods"`
	// First are some of the images.
	// +kubebuilder:validation:MaxItems=3
	// +listType=atomic
	// +optional
	First []TrustedImage `json:"first,omitempty"`
}

// SigningCertificate is the certificate that a signature was made with.
type SigningCertificate struct {
	// Subject of it (RFC 4514).
	// +kubebuilder:validation:MaxLength=512
	Subject string `json:"subject"`
	// Fingerprint of it: sha256: and the digest of its DER bytes in hexadecimal.
	// +kubebuilder:validation:MaxLength=128
	Fingerprint string `json:"fingerprint"`
	// Issuers are the subjects of the certificates above it, the root last.
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=512
	// +listType=atomic
	// +optional
	Issuers []string `json:"issuers,omitempty"`
}

// TrustedImage is an image that runs and is trusted.
type TrustedImage struct {
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
}

// AuditViolation is an image that runs and does not satisfy the policy.
type AuditViolation struct {
	// Namespace that it runs in.
	Namespace string `json:"namespace"`
	// Image that runs, as HOST/REPOSITORY@DIGEST.
	Image string `json:"image"`
	// Pods is how many run it.
	Pods int32 `json:"pods"`
	// Pod is the name of one of them.
	Pod string `json:"pod"`
	// Reason is why it is not trusted, as a word.
	Reason string `json:"reason"`
	// Message is why it is not trusted, as a sentence.
	Message string `json:"message"`
	// Signer, where it has a signature that is not valid.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Signer string `json:"signer,omitempty"`
}

// NamespacedMatch selects objects of one namespace. Every condition that is set must
// hold; an empty NamespacedMatch selects all.
type NamespacedMatch struct {
	// Kinds of objects, such as Pod or Deployment. Empty means all that have containers.
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:items:Enum=CronJob;DaemonSet;Deployment;Job;Pod;PodTemplate;ReplicaSet;ReplicationController;StatefulSet
	// +optional
	Kinds []string `json:"kinds,omitempty"`
	// LabelSelector selects objects by their own labels. Whoever creates an object chooses
	// its labels, so this keeps out nobody who wants to be kept out.
	// +optional
	LabelSelector *metav1.LabelSelector `json:"labelSelector,omitempty"`
}

// NamespacedImageIntegrityPolicySpec says which objects of a namespace may only have
// trusted images.
type NamespacedImageIntegrityPolicySpec struct {
	// Match selects the objects. Empty means all that have containers.
	// +optional
	Match NamespacedMatch `json:"match,omitempty"`
	// ExcludedImages are not checked: an exact image, or a beginning with a trailing *,
	// compared with the canonical name (docker.io/library/nginx:1.27). A * before the first /
	// is refused: myregistry* would name myregistry.evil.example too.
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:Pattern=`^([^*]+|([^*/]*[.:][^*/]*|localhost)/[^*]*\*)$`
	// +kubebuilder:validation:items:MaxLength=512
	// +optional
	ExcludedImages []string `json:"excludedImages,omitempty"`
	// EnforcementAction is deny (the default), warn or dryrun.
	// +kubebuilder:default=deny
	// +optional
	EnforcementAction EnforcementAction `json:"enforcementAction,omitempty"`
	// OnUnavailable says what to do when a registry does not answer. The default is to deny.
	// +optional
	OnUnavailable OnUnavailable `json:"onUnavailable,omitempty"`
	// ResolveTags pins the digest that was verified into Pods, and keeps the tag: repo:tag@digest.
	// The default is true, and then a Pod that names an image without the digest that was
	// verified does not satisfy the policy. Without it a node may pull something else under the
	// same tag, and whoever applies an object with a tag is warned of that.
	// +kubebuilder:default=true
	// +optional
	ResolveTags *bool `json:"resolveTags,omitempty"`
}
