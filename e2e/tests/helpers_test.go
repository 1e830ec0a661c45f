package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/internal/test/testca"
)

// eventually waits until f returns nil.
func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	await.Until(t, what, f, func() string {
		log, _ := os.ReadFile(boltseal.process.LogFile())
		return string(log[max(0, len(log)-3000):])
	})
}

func want(ok bool, format string, a ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, a...)
}

func get(ctx context.Context, url string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// ready waits until the server is.
func (s *server) ready(ctx context.Context) error {
	for {
		status, text, err := get(ctx, s.health+"/readyz?verbose")
		if err == nil && status == http.StatusOK {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("boltseal is not ready: %d %s: %w", status, text, errors.Join(err, ctx.Err()))
		// waits: the time between two questions
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *server) post(path string, question, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return err
	}
	resp, err := http.Post(s.base+path, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP %d: %s", resp.StatusCode, b)
	}
	return json.Unmarshal(b, answer)
}

// verdict asks as Gatekeeper does. An answer without a report counts as not
// trusted; err is for what Gatekeeper would take for a failure.
func (s *server) verdict(key string) (trusted bool, text string, err error) {
	q := map[string]any{"apiVersion": "externaldata.gatekeeper.sh/v1beta1", "kind": "ProviderRequest", "request": map[string]any{"keys": []string{key}}}
	var a struct {
		Response struct {
			Items []struct {
				Value json.RawMessage
				Error string
			}
			SystemError string
		}
	}
	if err := s.post("/ratify/gatekeeper/v1/verify", q, &a); err != nil {
		return false, "", err
	}
	if a.Response.SystemError != "" || len(a.Response.Items) != 1 {
		return false, "", fmt.Errorf("%+v", a)
	}
	item := a.Response.Items[0]
	var report struct{ IsSuccess bool }
	if len(item.Value) > 0 {
		if err := json.Unmarshal(item.Value, &report); err != nil {
			return false, "", err
		}
	}
	return report.IsSuccess, item.Error + string(item.Value), nil
}

func becomes(t testing.TB, key string, trusted bool) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s is trusted: %t", key, trusted), func() error {
		got, text, err := boltseal.verdict(key)
		if err != nil {
			t.Fatal(err)
		}
		return want(got == trusted, "%t: %s", got, text)
	})
}

// admits asks as the API server does for a Pod: it has its images pinned, and what is left of it validated.
func (s *server) admits(t testing.TB, namespace string, images ...string) (bool, string) {
	t.Helper()
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: namespace}}
	for i, image := range images {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: fmt.Sprint("c", i), Image: image})
	}
	ask := func(path string) (a admissionv1.AdmissionReview) {
		raw, err := json.Marshal(pod)
		if err != nil {
			t.Fatal(err)
		}
		q := admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: &admissionv1.AdmissionRequest{
			UID: "u", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Namespace: namespace, Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: raw}}}
		if err := s.post(path+"?timeout=10s", q, &a); err != nil || a.Response == nil {
			t.Fatal(a, err)
		}
		return a
	}
	var ops []struct{ Op, Path, Value string }
	if patch := ask("/admission/mutate").Response.Patch; len(patch) > 0 {
		if err := json.Unmarshal(patch, &ops); err != nil {
			t.Fatal(err)
		}
	}
	for _, op := range ops {
		var i int
		if _, err := fmt.Sscanf(op.Path, "/spec/containers/%d/image", &i); err == nil && op.Op == "replace" {
			pod.Spec.Containers[i].Image = op.Value
		}
	}
	a := ask("/admission/validate")
	if a.Response.Result != nil {
		return a.Response.Allowed, a.Response.Result.Message
	}
	return a.Response.Allowed, ""
}

func object(kind, namespace, name string) *unstructured.Unstructured {
	gv := schema.GroupVersion{Group: "config.ratify.deislabs.io", Version: "v1beta1"}
	if strings.HasSuffix(kind, "ImageIntegrityPolicy") {
		gv = schema.GroupVersion{Group: "boltseal.dev", Version: "v1alpha1"}
	}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(gv.WithKind(kind))
	u.SetNamespace(namespace)
	u.SetName(name)
	return u
}

// status reads a resource's status, and its condition Ready.
func status(t testing.TB, kind, namespace, name string) (map[string]any, *metav1.Condition) {
	t.Helper()
	u := object(kind, namespace, name)
	if err := cluster.Client().Get(t.Context(), client.ObjectKeyFromObject(u), u); err != nil {
		t.Fatal(err)
	}
	st, _, _ := unstructured.NestedMap(u.Object, "status")
	var typed struct{ Conditions []metav1.Condition }
	if b, err := json.Marshal(st); err != nil || json.Unmarshal(b, &typed) != nil {
		t.Fatal(st)
	}
	c := meta.FindStatusCondition(typed.Conditions, "Ready")
	if c != nil && c.ObservedGeneration != u.GetGeneration() {
		c = nil // about an earlier version
	}
	return st, c
}

// stands waits until a resource's status speaks of its present version, and says
// that it is ready or not.
func stands(t testing.TB, kind, namespace, name string, ready bool) (st map[string]any, c *metav1.Condition) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s %s/%s is ready: %t", kind, namespace, name, ready), func() error {
		st, c = status(t, kind, namespace, name)
		return want(c != nil && (c.Status == metav1.ConditionTrue) == ready, "status %v", st)
	})
	if !strings.HasSuffix(kind, "ImageIntegrityPolicy") && st["issuccess"] != ready {
		t.Errorf("%s %s: condition %v and issuccess %v disagree", kind, name, c, st["issuccess"])
	}
	return st, c
}

func apply(t testing.TB, docs ...string) {
	t.Helper()
	if err := cluster.Apply(t.Context(), docs...); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, kind, namespace, name string) {
	t.Helper()
	if err := cluster.Client().Delete(t.Context(), object(kind, namespace, name)); err != nil {
		t.Fatal(err)
	}
}

// kinds are all kinds of resources.
var kinds = []string{"Store", "Verifier", "Policy", "KeyManagementProvider", "CertificateStore", "NamespacedStore", "NamespacedVerifier",
	"NamespacedPolicy", "NamespacedKeyManagementProvider", "ImageIntegrityPolicy", "NamespacedImageIntegrityPolicy"}

// clean removes all resources when a test has ended, so that the next one begins
// with none.
func clean(t testing.TB) {
	t.Helper()
	t.Cleanup(func() {
		ctx := context.Background()
		for _, kind := range kinds {
			list := &unstructured.UnstructuredList{}
			list.SetGroupVersionKind(object(kind, "", "").GroupVersionKind())
			if err := cluster.Client().List(ctx, list); err != nil {
				t.Error(err)
			}
			for i := range list.Items {
				if err := client.IgnoreNotFound(cluster.Client().Delete(ctx, &list.Items[i])); err != nil {
					t.Error(err)
				}
			}
		}
		eventually(t, "nothing is left", func() error {
			_, text, err := get(ctx, boltseal.metrics+"/metrics")
			for _, line := range strings.Split(text, "\n") {
				if strings.HasPrefix(line, "boltseal_resources{") && !strings.HasSuffix(line, " 0") {
					return errors.New(line)
				}
			}
			return err
		})
	})
}

func kubectl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := tryKubectl(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryKubectl(t testing.TB, args ...string) (string, error) {
	cmd := exec.CommandContext(t.Context(), cluster.Kubectl(), append([]string{"--kubeconfig", cluster.Kubeconfig(), "--cache-dir", filepath.Join(t.TempDir(), "cache")}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// provider is a KeyManagementProvider; in a namespace, a namespaced one.
func provider(namespace, name string, chain *testca.Chain) string {
	return document("KeyManagementProvider", namespace, name, "type: inline\n  parameters:\n    value: |\n      "+
		strings.ReplaceAll(strings.TrimSpace(string(chain.Root().PEM())), "\n", "\n      "))
}

func document(kind, namespace, name, spec string) string {
	group, ns := "config.ratify.deislabs.io/v1beta1", ""
	if strings.HasSuffix(kind, "ImageIntegrityPolicy") {
		group = "boltseal.dev/v1alpha1"
	}
	if namespace != "" {
		kind, ns = "Namespaced"+kind, ", namespace: "+namespace
	}
	return fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: %s%s}\nspec:\n  %s\n", group, kind, name, ns, spec)
}

func store(namespace string) string {
	return document("Store", namespace, "store", "name: oras\n  parameters: {useHttp: true}")
}

// verifier trusts what the providers have, for all images.
func verifier(namespace, name string, providers ...string) string {
	return document("Verifier", namespace, name, `name: notation
  artifactTypes: application/vnd.cncf.notary.signature
  parameters:
    verificationCertStores: {ca: {release: [`+strings.Join(providers, ", ")+`]}}
    trustPolicyDoc:
      version: "1.0"
      trustPolicies:
      - name: all
        registryScopes: ["*"]
        signatureVerification: {level: strict}
        trustStores: ["ca:release"]
        trustedIdentities: ["*"]`)
}
