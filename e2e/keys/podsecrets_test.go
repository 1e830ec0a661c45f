package keys

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// admits asks as the API server does for a Pod with some pull Secrets.
func admits(t testing.TB, namespace, account, image string, secrets ...string) (bool, string) {
	t.Helper()
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: namespace}, Spec: corev1.PodSpec{ServiceAccountName: account, Containers: []corev1.Container{{Name: "app", Image: image}}}}
	for _, s := range secrets {
		pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: s})
	}
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	q, err := json.Marshal(admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: &admissionv1.AdmissionRequest{
		UID: "u", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Namespace: namespace, Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: raw}}})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := asking().Post(boltseal.URL+"/admission/validate?timeout=10s", "application/json", bytes.NewReader(q))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var a admissionv1.AdmissionReview
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || a.Response == nil {
		t.Fatal(resp.Status, err)
	}
	if a.Response.Result == nil {
		return a.Response.Allowed, ""
	}
	return a.Response.Allowed, a.Response.Result.Message
}

// allSecrets is the right that the chart gives for keySources.podPullSecrets.
func allSecrets(namespace string) string {
	return strings.Replace(rights(namespace, "secrets", "all"), "resources: [secrets], resourceNames: [all], verbs: [get, list, watch]", "resources: [secrets, serviceaccounts], verbs: [get]", 1)
}

// TestPodPullSecrets: a registry is read by the Secrets of the Pod that asks, and
// what they could read is no answer for a Pod with others.
func TestPodPullSecrets(t *testing.T) {
	h := testhouse.New(t, testhouse.Options{Registry: testregistry.Options{Token: &testregistry.TokenOptions{Users: map[string]string{"reader": password, "team": password}}}})
	image, _ := h.Signed("mine", h.Signer)
	host, _, _ := strings.Cut(image, "/")
	namespace := func(prefix string) string {
		ns, err := cluster.Namespace(t.Context(), prefix, nil)
		if err != nil {
			t.Fatal(err)
		}
		return ns
	}
	one, two, three := namespace("pods-one"), namespace("pods-two"), namespace("pods-three")
	use(t, provider("", "type: inline, parameters: {value: \""+oneLine(h.Signer.Root().PEM())+"\"}"),
		strings.Replace(docs(""), "spec: {name: oras}", "spec: {name: oras, parameters: {authProvider: {name: podPullSecrets}}}", 1),
		fmt.Sprintf("apiVersion: boltseal.dev/v1alpha1\nkind: ImageIntegrityPolicy\nmetadata: {name: pods}\nspec: {resolveTags: false, match: {namespaces: [%s, %s, %s]}}\n", one, two, three),
		allSecrets(one), allSecrets(two), pullSecret(one, host, "reader"), pullSecret(two, host, "nobody"), pullSecret(three, host, "reader"))
	says := func(text, namespace, account string, secrets ...string) {
		t.Helper()
		eventually(t, namespace+": "+text, func() error {
			ok, got := admits(t, namespace, account, image, secrets...)
			if ok != (text == "") || !strings.Contains(got, text) {
				return fmt.Errorf("%t: %s", ok, got)
			}
			return nil
		})
	}
	says("", one, "", "pull")
	says("not authorized", two, "", "pull")
	says("not authorized", one, "") // the ServiceAccount has none yet
	says("podPullSecrets: "+host+": read Secret "+three+"/pull at the API server: HTTP 403", three, "", "pull")
	if trusted, got, err := verdict(image); err != nil || trusted {
		t.Errorf("Gatekeeper, which names no Pod: %t %s %v", trusted, got, err)
	}
	// By the ServiceAccount, which may name what is not there.
	use(t, "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: puller, namespace: "+one+"}\nimagePullSecrets: [{name: gone}, {name: pull}]\n")
	says("", one, "puller")
	says("not authorized", one, "nobody")
	// A Secret that the registry refused is read anew as soon as it is another.
	apply(t, pullSecret(two, host, "team"))
	says("", two, "", "pull")
	if log, err := os.ReadFile(boltseal.Process.LogFile()); err != nil || strings.Contains(string(log), password) {
		t.Errorf("the log repeats the password: %v", err)
	}
}
