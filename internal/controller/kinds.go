package controller

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
)

// Kinds are all kinds of resources that are watched.
func Kinds() []schema.GroupVersionKind {
	var out []schema.GroupVersionKind
	for _, k := range []string{v1beta1.KindStore, v1beta1.KindVerifier, v1beta1.KindPolicy, v1beta1.KindKeyManagementProvider} {
		out = append(out, v1beta1.GroupVersion.WithKind(k), v1beta1.GroupVersion.WithKind(v1beta1.NamespacedPrefix+k))
	}
	return append(out, v1beta1.GroupVersion.WithKind(v1beta1.KindCertificateStore),
		v1alpha1.GroupVersion.WithKind(v1alpha1.KindImageIntegrityPolicy), v1alpha1.GroupVersion.WithKind(v1alpha1.KindNamespacedImageIntegrityPolicy))
}

// groupVersion of a kind of ours.
func groupVersion(kind string) schema.GroupVersion {
	switch kind {
	case v1alpha1.KindImageIntegrityPolicy, v1alpha1.KindNamespacedImageIntegrityPolicy:
		return v1alpha1.GroupVersion
	}
	return v1beta1.GroupVersion
}

func objectOf(gvk schema.GroupVersionKind) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(gvk)
	return u
}
