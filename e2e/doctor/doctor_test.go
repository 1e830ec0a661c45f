// Package doctor tests boltseal doctor on a real cluster.
package doctor

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/internal/demo"
)

var cluster *kit.Cluster

func TestMain(m *testing.M) { os.Exit(kit.Main(m.Run, kit.Options{}, &cluster)) }

type finding struct{ Area, Subject, Level, Message, Remedy string }

// examine runs the program and returns what it found and its exit status.
func examine(t *testing.T, binary string, args ...string) ([]finding, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, append([]string{"doctor", "--kubeconfig", cluster.Kubeconfig(), "-o", "json"}, args...)...)
	out, err := cmd.Output()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	var v struct{ Findings []finding }
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return v.Findings, cmd.ProcessState.ExitCode()
}

func find(fs []finding, area, level string, words ...string) error {
	for _, f := range fs {
		text := fmt.Sprint(f)
		all := f.Area == area && f.Level == level
		for _, w := range words {
			all = all && strings.Contains(text, w)
		}
		if all {
			return nil
		}
	}
	return fmt.Errorf("no finding %s %s with %q in %+v", area, level, words, fs)
}

// hookFor has the API server ask a replica about Pods.
func hookFor(s *product.Server) string {
	return fmt.Sprintf(`apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: boltseal}
webhooks:
- name: validate.boltseal.dev
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  timeoutSeconds: 10
  namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [kube-system]}]}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  clientConfig: {url: %[1]q, caBundle: %[3]s}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: boltseal}
webhooks:
- name: pin.boltseal.dev
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  timeoutSeconds: 10
  namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [kube-system]}]}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  clientConfig: {url: %[2]q, caBundle: %[3]s}
`, s.URL+"/admission/validate", s.URL+"/admission/mutate", base64.StdEncoding.EncodeToString(s.CA))
}

func countFindings(fs []finding, area string) (n int) {
	for _, f := range fs {
		if f.Area == area {
			n++
		}
	}
	return n
}

// TestDoctor goes the way of an installation, and asks the doctor at every step.
func TestDoctor(t *testing.T) {
	ctx := t.Context()
	binary, err := product.Build(ctx, cluster.Dir())
	if err != nil {
		t.Fatal(err)
	}
	expect := func(step string, fs []finding, area, level string, words ...string) {
		t.Helper()
		if err := find(fs, area, level, words...); err != nil {
			t.Errorf("%s: %v", step, err)
		}
	}
	fs, status := examine(t, binary)
	expect("an empty cluster", fs, "cluster", "problem", "Verifier", "does not know this kind", "boltseal crds")
	expect("an empty cluster", fs, "configuration", "warning", "no resource")
	expect("an empty cluster", fs, "requirements", "warning", "nothing requires", "every image is admitted")
	expect("an empty cluster", fs, "trust", "warning", "no image can be trusted", "no Store and no Verifier")
	expect("an empty cluster", fs, "admission", "unknown", "nothing was tried")
	for _, f := range fs {
		if strings.Contains(f.Message, "every image is denied") || strings.Contains(f.Message, "every image is refused") {
			t.Errorf("nothing is required, and nothing refused: %+v", f)
		}
	}
	if n := countFindings(fs, "cluster"); n != 1 {
		t.Errorf("the kinds that are missing are %d findings: %+v", n, fs)
	}
	expect("an empty cluster", fs, "replicas", "problem", "not there")
	expect("an empty cluster", fs, "permissions", "problem", "it may not")
	if status != 1 {
		t.Errorf("status %d", status)
	}

	if err := product.Install(ctx, cluster, binary); err != nil {
		t.Fatal(err)
	}
	d, err := demo.Start(demo.Options{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := cluster.Apply(ctx, string(d.Config)); err != nil {
		t.Fatal(err)
	}
	fs, _ = examine(t, binary, "--image", d.Image("signed"), "--image", d.Image("unsigned"))
	expect("resources without Boltseal", fs, "admission", "ok", "would be admitted now", "unsigned")
	expect("resources without Boltseal", fs, "cluster", "problem", "have no status of their present version")
	expect("resources without Boltseal", fs, "configuration", "ok", "4 resources of 4")
	expect("resources without Boltseal", fs, "certificates", "ok", "release-roots")
	expect("resources without Boltseal", fs, "registries", "ok", d.Host+"/demo/app")
	expect("resources without Boltseal", fs, "images", "ok", "signed", "trusted")
	expect("resources without Boltseal", fs, "images", "problem", "nothing signed")
	expect("resources without Boltseal", fs, "webhooks", "problem", "not enforced")
	expect("resources without Boltseal", fs, "permissions", "ok")

	s, err := product.Start(ctx, cluster, binary, product.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(d.Config), "- release-roots", "- release-root", 1)
	if err := cluster.Apply(ctx, broken); err != nil {
		t.Fatal(err)
	}
	await.Until(t, "a broken edit is found", func() error {
		fs, status = examine(t, binary)
		if find(fs, "cluster", "problem", "have no status") == nil {
			return errors.New("resources have no status yet")
		}
		return find(fs, "configuration", "problem", "Verifier verifier-notation", "release-root", "did you mean")
	}, func() string { return fmt.Sprintf("%+v", fs) })
	if status != 1 {
		t.Errorf("status %d", status)
	}

	// A policy that denies, and nothing that could be trusted.
	deny := "apiVersion: boltseal.dev/v1alpha1\nkind: ImageIntegrityPolicy\nmetadata: {name: only-trusted-images}\nspec: {enforcementAction: deny}\n"
	if err := cluster.Apply(ctx, deny); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Apply(ctx, hookFor(s)); err != nil {
		t.Fatal(err)
	}
	verifier := &unstructured.Unstructured{}
	verifier.SetGroupVersionKind(schema.GroupVersionKind{Group: "config.ratify.deislabs.io", Version: "v1beta1", Kind: "Verifier"})
	verifier.SetName("verifier-notation")
	if err := cluster.Client().Delete(ctx, verifier); err != nil {
		t.Fatal(err)
	}
	await.Until(t, "nothing can be trusted", func() error {
		fs, status = examine(t, binary, "--image", d.Image("signed"))
		return find(fs, "admission", "problem", "would be refused now", "validate.boltseal.dev")
	}, func() string { return fmt.Sprintf("%+v", fs) })
	expect("nothing can be trusted", fs, "requirements", "ok", "only-trusted-images")
	expect("nothing can be trusted", fs, "trust", "problem", "every image is refused", "there is no Verifier")
	if status != 1 {
		t.Errorf("status %d", status)
	}

	// All is well: what is trusted is admitted, and what is not is refused, as it should be.
	if err := cluster.Apply(ctx, string(d.Config)); err != nil {
		t.Fatal(err)
	}
	await.Until(t, "all is well", func() error {
		fs, _ = examine(t, binary, "--image", d.Image("signed"), "--image", d.Image("unsigned"))
		return errors.Join(find(fs, "admission", "ok", "signed", "would be admitted now"), find(fs, "admission", "warning", "unsigned", "nothing signed"))
	}, func() string { return fmt.Sprintf("%+v", fs) })

	// What needs to know who asks, where nothing proves it.
	behind := `apiVersion: v1
kind: Service
metadata: {name: boltseal, namespace: default}
spec: {selector: {app: boltseal}, ports: [{port: 6001}]}
---
apiVersion: v1
kind: Pod
metadata: {name: boltseal-a, namespace: default, labels: {app: boltseal}}
spec: {containers: [{name: boltseal, image: "` + d.Image("signed") + `", args: [serve, --in-cluster]}]}
---
apiVersion: config.ratify.deislabs.io/v1beta1
kind: NamespacedStore
metadata: {name: store, namespace: default}
spec: {name: oras, parameters: {authProvider: {name: k8Secrets, secrets: [{secretName: pull}]}}}
`
	if err := cluster.Apply(ctx, behind); err != nil {
		t.Fatal(err)
	}
	fs, _ = examine(t, binary, "--boltseal-namespace", "default")
	expect("nothing proves who asks", fs, "admission", "warning", "nothing proves", "NamespacedStore default/store (k8Secrets)", "webhook.clientCAConfigMap")
	proven := strings.NewReplacer("boltseal-a", "boltseal-b", "--in-cluster", "--admission-client-ca=/ca.crt").Replace(behind)
	if err := cluster.Apply(ctx, proven); err != nil {
		t.Fatal(err)
	}
	fs, _ = examine(t, binary, "--boltseal-namespace", "default")
	expect("one of two knows who asks", fs, "admission", "warning", "nothing proves")
	pod := &unstructured.Unstructured{}
	pod.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "Pod"})
	pod.SetName("boltseal-a")
	pod.SetNamespace("default")
	if err := cluster.Client().Delete(ctx, pod); err != nil {
		t.Fatal(err)
	}
	fs, _ = examine(t, binary, "--boltseal-namespace", "default")
	expect("a client certificate proves who asks", fs, "admission", "ok", "known by --admission-client-ca")

	// Somebody who may read little is told what is not known.
	config, err := cluster.UserConfig("reader")
	if err != nil {
		t.Fatal(err)
	}
	user := filepath.Join(t.TempDir(), "kubeconfig")
	if err := kit.WriteKubeconfig(user, config); err != nil {
		t.Fatal(err)
	}
	fs, status = examine(t, binary, "--kubeconfig", user)
	expect("few rights", fs, "cluster", "unknown", "may not list")
	expect("few rights", fs, "requirements", "unknown", "not known whether")
	if status != 1 && status != 2 {
		t.Errorf("status %d", status)
	}
}
