package kit

import (
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// manifests are the parts of Gatekeeper's manifests.
type manifests struct {
	apply   []*unstructured.Unstructured // to be applied as they are
	webhook *unstructured.Unstructured   // the validating webhook's configuration
	podSpec corev1.PodSpec               // the webhook's Pods
}

// readManifests sorts Gatekeeper's manifests.
func readManifests(data []byte) (manifests, error) {
	objs, err := Parse(string(data))
	if err != nil {
		return manifests{}, err
	}
	var m manifests
	deployed := false
	for _, u := range objs {
		switch u.GetKind() {
		case "Deployment":
			if u.GetName() != webhookDeployment {
				continue
			}
			var d appsv1.Deployment
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &d); err != nil {
				return manifests{}, fmt.Errorf("read Gatekeeper's Deployment: %w", err)
			}
			m.podSpec, deployed = d.Spec.Template.Spec, true
		case "ValidatingWebhookConfiguration":
			m.webhook = u
		case "Service", "PodDisruptionBudget", "Secret", "MutatingWebhookConfiguration":
			// A process takes the place of the Pods, and files that of the Secret. Nothing is mutated.
		default:
			m.apply = append(m.apply, u)
		}
	}
	if m.webhook == nil || m.webhook.GetName() != validatingConfig {
		return manifests{}, fmt.Errorf("find ValidatingWebhookConfiguration %s in Gatekeeper's manifests: there is none", validatingConfig)
	}
	if !deployed {
		return manifests{}, fmt.Errorf("find Deployment %s in Gatekeeper's manifests: there is none", webhookDeployment)
	}
	return m, nil
}

// webhookConfig points the manifests' webhooks at a URL.
func webhookConfig(u *unstructured.Unstructured, url string, ca []byte, o GatekeeperOptions) (*unstructured.Unstructured, error) {
	var config admissionregistrationv1.ValidatingWebhookConfiguration
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &config); err != nil {
		return nil, fmt.Errorf("read Gatekeeper's webhook configuration: %w", err)
	}
	for i := range config.Webhooks {
		w := &config.Webhooks[i]
		if w.ClientConfig.Service == nil || w.ClientConfig.Service.Path == nil {
			return nil, fmt.Errorf("webhook %s of Gatekeeper's manifests names no service with a path", w.Name)
		}
		at := url + *w.ClientConfig.Service.Path
		w.ClientConfig = admissionregistrationv1.WebhookClientConfig{URL: &at, CABundle: ca}
		if *w.ClientConfig.URL != url+"/v1/admit" {
			continue
		}
		if o.FailurePolicy != "" {
			w.FailurePolicy = &o.FailurePolicy
		}
		if o.TimeoutSeconds != 0 {
			w.TimeoutSeconds = &o.TimeoutSeconds
		}
	}
	obj, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&config)
	if err != nil {
		return nil, fmt.Errorf("write Gatekeeper's webhook configuration: %w", err)
	}
	out := &unstructured.Unstructured{Object: obj}
	out.SetGroupVersionKind(u.GroupVersionKind())
	return out, nil
}
