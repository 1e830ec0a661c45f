package exemption

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

func need(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	await.Until(t, what, f, func() string {
		log, _ := os.ReadFile(cluster.LogFile("boltseal"))
		return string(log[max(0, len(log)-3000):])
	})
}

// config trusts the signer for all images, and exempts until a time.
func config(exemptions string) string {
	return fmt.Sprintf(`
apiVersion: config.ratify.deislabs.io/v1beta1
kind: KeyManagementProvider
metadata: {name: roots}
spec:
  type: inline
  parameters:
    value: |
      %s
---
apiVersion: config.ratify.deislabs.io/v1beta1
kind: Store
metadata: {name: store}
spec: {name: oras, parameters: {useHttp: true}}
---
apiVersion: config.ratify.deislabs.io/v1beta1
kind: Verifier
metadata: {name: verifier}
spec:
  name: notation
  artifactTypes: application/vnd.cncf.notary.signature
  parameters:
    verificationCertStores: {ca: {release: [roots]}}
    trustPolicyDoc:
      version: "1.0"
      trustPolicies:
      - name: all
        registryScopes: ["*"]
        signatureVerification: {level: strict}
        trustStores: ["ca:release"]
        trustedIdentities: ["*"]
---
apiVersion: boltseal.dev/v1alpha1
kind: ImageIntegrityPolicy
metadata: {name: prod}
spec:
  exemptions: %s
`, strings.ReplaceAll(strings.TrimSpace(string(signer.Root().PEM())), "\n", "\n      "), exemptions)
}

func namespace(t testing.TB) string {
	t.Helper()
	ns, err := cluster.Namespace(t.Context(), "shop", map[string]string{"judged": "yes"})
	need(t, err)
	return ns
}

func template(image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}}}
}

func deployment(ns, name, image string) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Template: template(image)}}
}

func podsOf(ctx context.Context, ns string) ([]corev1.Pod, error) {
	var list corev1.PodList
	err := cluster.Client().List(ctx, &list, client.InNamespace(ns))
	return list.Items, err
}

func denied(t testing.TB, what string, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "not trusted") {
		t.Errorf("%s: admitted, or denied for something else: %v", what, err)
	}
}

// warnings are what the API server says.
type warnings struct {
	mu   sync.Mutex
	text []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, text)
}

func policyObject() *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.KindImageIntegrityPolicy))
	u.SetName("prod")
	return u
}

func audit(ctx context.Context) (*v1alpha1.Audit, error) {
	u := policyObject()
	if err := cluster.Client().Get(ctx, client.ObjectKey{Name: "prod"}, u); err != nil {
		return nil, err
	}
	fields, ok, err := unstructured.NestedMap(u.Object, "status", "audit")
	if err != nil || !ok {
		return nil, errors.Join(errors.New("no audit yet"), err)
	}
	b, err := json.Marshal(fields)
	a := &v1alpha1.Audit{}
	if err == nil {
		err = json.Unmarshal(b, a)
	}
	return a, err
}

// inForce returns an error where Boltseal has not taken up the policy as it is now.
func inForce(ctx context.Context) error {
	u := policyObject()
	if err := cluster.Client().Get(ctx, client.ObjectKey{Name: "prod"}, u); err != nil {
		return err
	}
	observed, _, err := unstructured.NestedInt64(u.Object, "status", "observedGeneration")
	if err == nil && observed != u.GetGeneration() {
		err = fmt.Errorf("generation %d, the status is about %d", u.GetGeneration(), observed)
	}
	return err
}

// outcomes is what 'boltseal audit' says of each Pod in a namespace.
func outcomes(t testing.TB, ns string) map[string]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, "audit", "--kubeconfig", cluster.Kubeconfig(), "-n", ns, "-o", "json")
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && stdout.Len() == 0 {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var r struct {
		Findings []struct {
			Outcome string
			First   []struct{ Name string }
		}
	}
	need(t, json.Unmarshal([]byte(stdout.String()), &r))
	out := map[string]string{}
	for _, f := range r.Findings {
		for _, p := range f.First {
			out[p.Name] = f.Outcome
		}
	}
	return out
}

// TestExemption: an exempt workload is admitted down to its Pods, the same image is not admitted outside of it,
// nor for an owner that is made up, nor after the end; and the audit says the same.
func TestExemption(t *testing.T) {
	desc := registry.PushImage(repo, "unsigned", 0)
	unsigned, unsignedAt := registry.Ref(repo, "unsigned"), registry.Pinned(repo, desc.Digest)
	good := registry.PushImage(repo, "signed", 0)
	registry.Sign(repo, good, signer, testca.SignOptions{})
	shop, other := namespace(t), namespace(t)
	exempt := func(end time.Time) {
		need(t, cluster.Apply(t.Context(), config(fmt.Sprintf(`[{name: legacy, category: Waiver, reason: the vendor signs soon, expires: %q,
    workloads: [{kind: Deployment, name: web, namespace: %s}]}]`, end.UTC().Format(time.RFC3339), shop))))
	}
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	exempt(end)
	need(t, cluster.Client().Create(t.Context(), webhook()))
	t.Cleanup(func() {
		_ = cluster.Client().Delete(context.Background(), webhook())
		_ = cluster.Client().Delete(context.Background(), policyObject())
	})
	eventually(t, "the webhook judges", func() error {
		err := cluster.Client().Create(t.Context(), deployment(other, "web", unsigned), client.DryRunAll)
		if err == nil || !strings.Contains(err.Error(), "not trusted") {
			return fmt.Errorf("admitted or not judged: %w", err)
		}
		err = cluster.Client().Create(t.Context(), deployment(other, "web", registry.Ref(repo, "signed")), client.DryRunAll)
		return err
	})

	w := &warnings{}
	c := cluster.Config()
	c.WarningHandler = w
	user, err := client.New(c, client.Options{Scheme: cluster.Client().Scheme()})
	need(t, err)
	need(t, user.Create(t.Context(), deployment(shop, "web", unsigned)))
	if text := strings.Join(w.text, "\n"); !strings.Contains(text, `exempt until `+end.UTC().Format(time.RFC3339)) || !strings.Contains(text, "the vendor signs soon") {
		t.Errorf("warnings %q", text)
	}
	var pod corev1.Pod
	eventually(t, "the Deployment's Pod is there", func() error {
		pods, err := podsOf(t.Context(), shop)
		if err != nil || len(pods) != 1 {
			return fmt.Errorf("%d Pods: %w", len(pods), err)
		}
		pod = pods[0]
		return nil
	})
	denied(t, "another Deployment", user.Create(t.Context(), deployment(shop, "web2", unsigned)))
	denied(t, "the same name elsewhere", user.Create(t.Context(), deployment(other, "web", unsigned)))
	forged := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "forged", Labels: pod.Labels, OwnerReferences: pod.OwnerReferences}, Spec: template(unsigned).Spec}
	denied(t, "a Pod with a true ReplicaSet for a made-up owner", user.Create(t.Context(), forged))
	yes := true
	rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "web-forged", OwnerReferences: []metav1.OwnerReference{
		{APIVersion: "apps/v1", Kind: "Deployment", Name: "web", UID: "00000000-0000-0000-0000-000000000000", Controller: &yes}}},
		Spec: appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Template: template(unsigned)}}
	denied(t, "a ReplicaSet with a made-up owner", user.Create(t.Context(), rs))

	need(t, cluster.SetRunning(t.Context(), shop, pod.Name, map[string]string{"app": unsignedAt}))
	eventually(t, "the audit says that the Pod is exempt", func() error {
		a, err := audit(t.Context())
		if err != nil || a.Exempt != 1 || a.Violations != 0 {
			return fmt.Errorf("%+v: %w", a, err)
		}
		return nil
	})
	if got := outcomes(t, shop); got[pod.Name] != "exempt" {
		t.Errorf("boltseal audit: %v", got)
	}
	// From the moment when the end is known nothing is applied any more: it comes by itself.
	testwait.Grow(t, 6*time.Second, func(left time.Duration) error {
		end = time.Now().Add(left).Truncate(time.Second)
		exempt(end)
		eventually(t, "the policy with its end is in force", func() error { return inForce(t.Context()) })
		if time.Now().After(end) {
			return errors.New("it had ended before")
		}
		return nil
	})
	eventually(t, "the audit says that the exemption has ended", func() error {
		a, err := audit(t.Context())
		if err != nil || a.Exempt != 0 || a.Violations != 1 {
			return fmt.Errorf("%+v: %w", a, err)
		}
		return nil
	})
	if time.Now().Before(end) {
		t.Error("the exemption ended before its time")
	}
	if got := outcomes(t, shop); got[pod.Name] != "not trusted" {
		t.Errorf("boltseal audit: %v", got)
	}
	denied(t, "the exempt Deployment after the end", user.Create(t.Context(), deployment(shop, "web", unsigned), client.DryRunAll))
	need(t, cluster.Client().Delete(t.Context(), &pod))
	eventually(t, "the ReplicaSet's next Pod is denied", func() error {
		var events corev1.EventList
		if err := cluster.Client().List(t.Context(), &events, client.InNamespace(shop)); err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Reason == "FailedCreate" && strings.Contains(e.Message, "not trusted") {
				return nil
			}
		}
		return fmt.Errorf("%d events", len(events.Items))
	})
}

// TestSchema: the API server refuses exemptions that say nothing, or what is not known.
func TestSchema(t *testing.T) {
	for exemptions, words := range map[string]string{
		`[{name: a, category: Waiver}]`:                                                             "write namespaces, images or workloads",
		`[{name: a, category: Waved, namespaces: [x]}]`:                                             "Unsupported value",
		`[{name: a, namespaces: [x]}]`:                                                              "category",
		`[{name: a, category: Waiver, workloads: [{kind: Pod, name: a, namespace: x}]}]`:            "should match",
		`[{name: a, category: Waiver, namespaces: [x]}, {name: a, category: Waiver, images: [b]}]`:  "duplicate entries",
		`[{name: a, category: Waiver, namespaces: [x], expires: tomorrow}]`:                         "date-time",
		`[{name: a, category: Waiver, images: ["registry*"]}]`:                                      "should match",
		`[{name: a, category: Waiver, namespaces: [x], workload: [{kind: Deployment, name: web}]}]`: "workload",
	} {
		err := cluster.Apply(t.Context(), strings.Replace(config(exemptions), "name: prod", "name: bad", 1))
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", exemptions, err)
		}
	}
}

// TestEveryController: the Pods of each kind of workload come in by the controller that creates them.
func TestEveryController(t *testing.T) {
	registry.PushImage(repo, "every", 0)
	unsigned := registry.Ref(repo, "every")
	ns := namespace(t)
	names := map[string]string{"ReplicaSet": "rs", "StatefulSet": "sts", "Job": "job", "ReplicationController": "rc"}
	var list []string
	for kind, name := range names {
		list = append(list, fmt.Sprintf("{kind: %s, name: %s}", kind, name))
	}
	policy := strings.Replace(config(fmt.Sprintf("[{name: all, category: Mitigated, namespaces: [%s], workloads: [%s]}]", ns, strings.Join(list, ", "))), "name: prod", "name: every", 1)
	need(t, cluster.Apply(t.Context(), policy+"  match: {namespaces: ["+ns+"]}\n"))
	w := webhook()
	w.Name = "every"
	w.Webhooks[0].NamespaceSelector.MatchLabels = map[string]string{"kubernetes.io/metadata.name": ns}
	need(t, cluster.Client().Create(t.Context(), w))
	t.Cleanup(func() { _ = cluster.Client().Delete(context.Background(), w) })
	eventually(t, "the webhook judges", func() error {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "probe"}, Spec: template(unsigned).Spec}
		if err := cluster.Client().Create(t.Context(), p, client.DryRunAll); err == nil || !strings.Contains(err.Error(), `policy "every"`) {
			return fmt.Errorf("admitted, or not judged: %w", err)
		}
		return nil
	})
	meta := func(kind string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: ns, Name: names[kind]} }
	pods := func(kind string) corev1.PodTemplateSpec {
		p := template(unsigned)
		p.Labels = map[string]string{"app": kind}
		return p
	}
	selector := func(kind string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app": kind}}
	}
	job := pods("Job")
	job.Labels, job.Spec.RestartPolicy = nil, corev1.RestartPolicyNever
	rc := pods("ReplicationController")
	for _, o := range []client.Object{
		&appsv1.ReplicaSet{ObjectMeta: meta("ReplicaSet"), Spec: appsv1.ReplicaSetSpec{Selector: selector("ReplicaSet"), Template: pods("ReplicaSet")}},
		&appsv1.StatefulSet{ObjectMeta: meta("StatefulSet"), Spec: appsv1.StatefulSetSpec{Selector: selector("StatefulSet"), Template: pods("StatefulSet")}},
		&batchv1.Job{ObjectMeta: meta("Job"), Spec: batchv1.JobSpec{Template: job}},
		&corev1.ReplicationController{ObjectMeta: meta("ReplicationController"), Spec: corev1.ReplicationControllerSpec{Selector: rc.Labels, Template: &rc}},
	} {
		need(t, cluster.Client().Create(t.Context(), o))
	}
	eventually(t, "each has its Pod", func() error {
		all, err := podsOf(t.Context(), ns)
		if err != nil || len(all) != len(names) {
			return fmt.Errorf("%d Pods: %w", len(all), err)
		}
		return nil
	})
}
