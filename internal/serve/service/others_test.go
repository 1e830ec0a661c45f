package service_test

import (
	"fmt"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

// TestWorkloadsOfOthersAreRefusedWhereSomebodyActs: a policy names kinds of others, and
// whoever applies one is told where the image stands that is not trusted.
func TestWorkloadsOfOthersAreRefusedWhereSomebodyActs(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{}, policy("prod", "match: {kinds: [Pod, argoproj.io/Rollout, serving.knative.dev/Service, apps.openshift.io/DeploymentConfig]}"),
		policy("everything", "match: {namespaces: [none]}"))
	signed, _ := r.Signed("v", r.Signer)
	_, stranger := r.Signed("evil", r.Stranger)
	template := `{"metadata":{"name":"web"},"spec":{"template":{"spec":{"containers":[{"name":"app","image":%q}]}}}}`
	review := func(group, kind, object string) *admissionv1.AdmissionResponse {
		t.Helper()
		q := pod("prod")
		q.Kind, q.Object = metav1.GroupVersionKind{Group: group, Version: "v1", Kind: kind}, runtime.RawExtension{Raw: []byte(object)}
		return r.review(server.PathValidate, q)
	}
	for group, kind := range map[string]string{"argoproj.io": "Rollout", "serving.knative.dev": "Service", "apps.openshift.io": "DeploymentConfig"} {
		if a := review(group, kind, fmt.Sprintf(template, signed)); !a.Allowed || len(a.Warnings) > 0 {
			t.Errorf("%s: %+v", kind, a)
		}
		a := review(group, kind, fmt.Sprintf(template, stranger))
		if a.Allowed || !strings.Contains(a.Result.Message, `container "app" at spec.template.spec.containers[0].image: image `+stranger) {
			t.Errorf("%s: %+v", kind, a.Result)
		}
	}
	// One that nobody named, and one of the same name in another group, are not looked at.
	for group, kind := range map[string]string{"argoproj.io": "Workflow", "": "Service", "example.org": "Pod"} {
		if a := review(group, kind, fmt.Sprintf(template, stranger)); !a.Allowed || len(a.Warnings) != 1 {
			t.Errorf("%s/%s: %+v", group, kind, a)
		}
	}
	a := review("argoproj.io", "Rollout", fmt.Sprintf(template, "{{inputs.parameters.image}}"))
	if !a.Allowed || len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "is a parameter") {
		t.Errorf("a parameter: %+v", a)
	}
	// A namespace does not decide what the API server asks about in all of them.
	r.write(config(r.Signer.Root().PEM(), "apiVersion: boltseal.dev/v1alpha1\nkind: NamespacedImageIntegrityPolicy\nmetadata: {name: own, namespace: team}\nspec: {match: {kinds: [argoproj.io/Workflow]}}\n"))
	eventually(t, "it is refused", func() bool {
		_, text := r.ready()
		return strings.Contains(text, "are for an ImageIntegrityPolicy of the cluster")
	})
}
