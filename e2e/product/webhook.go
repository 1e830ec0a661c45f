package product

import (
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
)

// Pinning is the webhook that writes digests into Pods, for one that validates them: a policy admits no Pod without
// the digest that was verified unless it says resolveTags: false.
func Pinning(w *admissionregistrationv1.ValidatingWebhookConfiguration) *admissionregistrationv1.MutatingWebhookConfiguration {
	out := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: w.ObjectMeta}
	for _, v := range w.Webhooks {
		again := admissionregistrationv1.IfNeededReinvocationPolicy
		m := admissionregistrationv1.MutatingWebhook{Name: "mutate." + v.Name, AdmissionReviewVersions: v.AdmissionReviewVersions, FailurePolicy: v.FailurePolicy, SideEffects: v.SideEffects,
			NamespaceSelector: v.NamespaceSelector, Rules: v.Rules, ClientConfig: v.ClientConfig, ReinvocationPolicy: &again}
		url := strings.Replace(*v.ClientConfig.URL, "/admission/validate", "/admission/mutate", 1)
		m.ClientConfig.URL = &url
		out.Webhooks = append(out.Webhooks, m)
	}
	return out
}
