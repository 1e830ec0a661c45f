package kit

import (
	"context"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestWebhookByService shows that a webhook registered the way it is in production, by service, reaches a process
// of this machine.
func TestWebhookByService(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	ca, err := NewCA("webhook-ca", nil)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(ForServer, pkix.Name{CommonName: "hook"}, "hook."+ns+".svc")
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.Request == nil {
			http.Error(w, "no review", http.StatusBadRequest)
			return
		}
		review.Response = &admissionv1.AdmissionResponse{
			UID: review.Request.UID, Allowed: review.Request.Name == "welcome",
			Result: &metav1.Status{Code: http.StatusForbidden, Message: "asked at " + r.URL.Path},
		}
		review.Request = nil
		_ = json.NewEncoder(w).Encode(review)
	}))
	serveTLS(t, srv, pair, nil)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.LoopbackService(t.Context(), ns, "hook"); err != nil {
		t.Fatal(err)
	}
	hook := fmt.Sprintf(`
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: %[1]s}
webhooks:
- name: hook.kit.example
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  clientConfig:
    caBundle: %[3]s
    service: {namespace: %[1]s, name: hook, port: %[2]s, path: /here}
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %[1]s}}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
`, ns, u.Port(), base64.StdEncoding.EncodeToString(ca.PEM()))
	if err := cluster.Apply(t.Context(), hook); err != nil {
		t.Fatal(err)
	}
	// The apiserver learns of the configuration a moment later, and of the Service perhaps after that.
	eventually(t, "the webhook to be asked", func(ctx context.Context) error {
		err := cluster.Client().Create(ctx, podOf(ns, "intruder"), client.DryRunAll)
		return want(apierrors.IsForbidden(err) && strings.Contains(err.Error(), "asked at /here"), "got %v", err)
	})
	if err := cluster.Client().Create(t.Context(), podOf(ns, "welcome")); err != nil {
		t.Errorf("a pod that the webhook allows: %v", err)
	}
}

func podOf(namespace, name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.example/app:1"}}},
	}
}
