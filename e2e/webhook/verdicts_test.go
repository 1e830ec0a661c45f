package webhook

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const denial = `admission webhook "validate.boltseal.dev" denied the request: `

func denied(err error, words ...string) error {
	for _, w := range append([]string{denial}, words...) {
		if err == nil || !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), w) {
			return want(false, "not denied with %q: %v", w, err)
		}
	}
	return nil
}

func TestPods(t *testing.T) {
	settled(t)
	ctx, cl := t.Context(), cluster.Client()
	signed, digest := image("signed", signer)
	unsigned, _ := image("unsigned")
	prod, lab := namespace(t, "prod"), namespace(t, "lab")

	p := pod(prod, "signed", signed)
	if err := cl.Create(ctx, p); err != nil || p.Spec.Containers[0].Image != signed+"@"+digest {
		t.Errorf("a signed image: %v, %s", err, p.Spec.Containers[0].Image)
	}
	if err := denied(cl.Create(ctx, pod(prod, "unsigned", unsigned)), `container "app"`, unsigned, "nothing signed", `policy "deny"`, "What to do"); err != nil {
		t.Error(err)
	}
	both := pod(prod, "both", signed)
	both.Spec.InitContainers = []corev1.Container{{Name: "first", Image: unsigned}}
	if err := denied(cl.Create(ctx, both), `init container "first"`); err != nil {
		t.Error(err)
	}
	var said warnings
	config := cluster.Config()
	config.WarningHandler = &said
	warned := clientOf(t, config)
	if err := warned.Create(ctx, pod(namespace(t, "test"), "unsigned", unsigned)); err != nil || !strings.Contains(said.String(), "nothing signed") {
		t.Errorf("where a policy warns: %v, %q", err, said.String())
	}
	if err := cl.Create(ctx, pod(lab, "unsigned", unsigned)); err != nil {
		t.Errorf("where a policy only records: %v", err)
	}
	for _, ns := range []string{"kube-system", system} {
		eventually(t, "Pods in "+ns, func() error {
			return client.IgnoreAlreadyExists(cl.Create(ctx, pod(ns, "unsigned", unsigned))) // its ServiceAccount may be young
		})
	}
	// A label that a tenant can set is no way around.
	ns := &corev1.Namespace{}
	if err := cl.Get(ctx, client.ObjectKey{Name: prod}, ns); err != nil {
		t.Fatal(err)
	}
	ns.Labels["kubernetes.io/metadata.name"] = "kube-system"
	if err := cl.Update(ctx, ns); err == nil {
		err = denied(cl.Create(ctx, pod(prod, "around", unsigned)))
		if err != nil {
			t.Error(err)
		}
	}
}

func TestChangesOfPods(t *testing.T) {
	settled(t)
	ctx, cl := t.Context(), cluster.Client()
	signed, digest := image("signed", signer)
	unsigned, _ := image("unsigned")
	ns := namespace(t, "prod")
	p := pod(ns, "p", signed)
	if err := cl.Create(ctx, p); err != nil {
		t.Fatal(err)
	}
	change := p.DeepCopy()
	change.Spec.Containers[0].Image = unsigned
	if err := denied(cl.Update(ctx, change)); err != nil {
		t.Errorf("another image: %v", err)
	}
	debug := p.DeepCopy()
	debug.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: unsigned}}}
	if err := denied(cl.SubResource("ephemeralcontainers").Update(ctx, debug), `ephemeral container "debug"`); err != nil {
		t.Error(err)
	}
	debug = p.DeepCopy()
	debug.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: signed}}}
	if err := cl.SubResource("ephemeralcontainers").Update(ctx, debug); err != nil || debug.Spec.EphemeralContainers[0].Image != signed+"@"+digest {
		t.Errorf("a signed ephemeral container: %v, %+v", err, debug.Spec.EphemeralContainers)
	}
	// What is nobody's business passes, whatever runs.
	old := pod(ns, "old", unsigned)
	withoutPolicy(t, ns, func() {
		if err := cl.Create(ctx, old); err != nil {
			t.Fatal(err)
		}
	})
	old.Labels = map[string]string{"color": "red"}
	if err := cl.Update(ctx, old); err != nil {
		t.Errorf("a label of a Pod that runs an unsigned image: %v", err)
	}
	if err := cluster.SetRunning(ctx, ns, "old", nil); err != nil {
		t.Errorf("its status: %v", err)
	}
	// A Pod as large as they come must not be too much for the conditions.
	big := pod(ns, "big", signed)
	for i := range 200 {
		c := corev1.Container{Name: "c" + strings.Repeat("x", 20) + string(rune('a'+i/26)) + string(rune('a'+i%26)), Image: signed}
		for j := range 50 {
			c.Env = append(c.Env, corev1.EnvVar{Name: "V" + string(rune('A'+j%26)) + string(rune('A'+j/26)), Value: strings.Repeat("v", 80)})
		}
		big.Spec.Containers = append(big.Spec.Containers, c)
	}
	if err := cl.Create(ctx, big); err != nil {
		t.Fatal(err)
	}
	big.Labels = map[string]string{"color": "blue"}
	if err := cl.Update(ctx, big); err != nil {
		t.Errorf("a label of a large Pod: %v", err)
	}
	big.Spec.Containers[150].Image = unsigned
	if err := denied(cl.Update(ctx, big)); err != nil {
		t.Errorf("an image in a large Pod: %v", err)
	}
}

// withoutPolicy runs f while the namespace is of a stage that only records.
func withoutPolicy(t *testing.T, ns string, f func()) {
	t.Helper()
	unsigned, _ := image("unsigned")
	stage := func(s string) {
		o := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}
		patch, _ := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]string{"stage": s}}})
		if err := cluster.Client().Patch(context.Background(), o, client.RawPatch("application/merge-patch+json", patch)); err != nil {
			t.Fatal(err)
		}
	}
	try := func() error {
		// Both replicas must know.
		for range 20 {
			if err := cluster.Client().Create(t.Context(), pod(ns, "try", unsigned), client.DryRunAll); err != nil {
				return err
			}
		}
		return nil
	}
	stage("lab")
	eventually(t, "the label is known", try)
	f()
	stage("prod")
	eventually(t, "the label is known", func() error {
		for range 20 {
			if err := denied(cluster.Client().Create(t.Context(), pod(ns, "try", unsigned), client.DryRunAll)); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestWorkloads(t *testing.T) {
	settled(t)
	ctx, cl := t.Context(), cluster.Client()
	signed, digest := image("signed", signer)
	unsigned, _ := image("unsigned")
	ns := namespace(t, "prod")
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: ns, Name: name, Labels: map[string]string{"app": name}}
	}
	template := func(name, image string) corev1.PodTemplateSpec {
		return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}}, Spec: pod(ns, name, image).Spec}
	}
	selector := func(name string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
	}
	job := func(name, image string) batchv1.JobSpec {
		tpl := template(name, image)
		tpl.Spec.RestartPolicy = corev1.RestartPolicyNever
		return batchv1.JobSpec{Template: tpl}
	}
	all := map[string]func(name, image string) client.Object{
		"deployment": func(n, i string) client.Object {
			return &appsv1.Deployment{ObjectMeta: meta(n), Spec: appsv1.DeploymentSpec{Selector: selector(n), Template: template(n, i)}}
		},
		"replicaset": func(n, i string) client.Object {
			return &appsv1.ReplicaSet{ObjectMeta: meta(n), Spec: appsv1.ReplicaSetSpec{Selector: selector(n), Template: template(n, i)}}
		},
		"statefulset": func(n, i string) client.Object {
			return &appsv1.StatefulSet{ObjectMeta: meta(n), Spec: appsv1.StatefulSetSpec{Selector: selector(n), Template: template(n, i)}}
		},
		"daemonset": func(n, i string) client.Object {
			return &appsv1.DaemonSet{ObjectMeta: meta(n), Spec: appsv1.DaemonSetSpec{Selector: selector(n), Template: template(n, i)}}
		},
		"job": func(n, i string) client.Object { return &batchv1.Job{ObjectMeta: meta(n), Spec: job(n, i)} },
		"cronjob": func(n, i string) client.Object {
			return &batchv1.CronJob{ObjectMeta: meta(n), Spec: batchv1.CronJobSpec{Schedule: "0 0 1 1 *", JobTemplate: batchv1.JobTemplateSpec{Spec: job(n, i)}}}
		},
		"podtemplate": func(n, i string) client.Object {
			return &corev1.PodTemplate{ObjectMeta: meta(n), Template: template(n, i)}
		},
		"replicationcontroller": func(n, i string) client.Object {
			tpl := template(n, i)
			return &corev1.ReplicationController{ObjectMeta: meta(n), Spec: corev1.ReplicationControllerSpec{Selector: map[string]string{"app": n}, Template: &tpl}}
		},
	}
	for kind, made := range all {
		if err := denied(cl.Create(ctx, made(kind+"-unsigned", unsigned)), unsigned); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		o := made(kind, signed)
		if err := cl.Create(ctx, o); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if err := cl.Patch(ctx, o, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"color":"red"}}}`))); err != nil {
			t.Errorf("%s, a label: %v", kind, err)
		}
	}
	eventually(t, "the Deployment's Pod is there, pinned", func() error {
		var pods corev1.PodList
		if err := cl.List(ctx, &pods, client.InNamespace(ns), client.MatchingLabels{"app": "deployment"}); err != nil {
			return err
		}
		return want(len(pods.Items) == 1 && pods.Items[0].Spec.Containers[0].Image == signed+"@"+digest, "%d Pods", len(pods.Items))
	})
}

func TestMirrorPods(t *testing.T) {
	settled(t)
	unsigned, _ := image("unsigned")
	ns := namespace(t, "prod")
	ctx := t.Context()
	if err := cluster.Apply(ctx, `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: e2e-pods}
rules: [{apiGroups: [""], resources: [pods], verbs: [create]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: e2e-pods}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: e2e-pods}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:node:n1"}
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: mallory}`); err != nil {
		t.Fatal(err)
	}
	as := func(user, group string, mirror bool) error {
		config, err := cluster.UserConfig(user, group)
		if err != nil {
			t.Fatal(err)
		}
		p := pod(ns, "static-"+strings.NewReplacer(":", "-").Replace(user), unsigned)
		p.Spec.NodeName = "n1"
		if mirror {
			p.Annotations = map[string]string{"kubernetes.io/config.mirror": "x"}
		}
		return clientOf(t, config).Create(ctx, p)
	}
	eventually(t, "a node may show what it runs", func() error { return as("system:node:n1", "system:nodes", true) })
	for _, who := range []struct {
		user, group string
		mirror      bool
	}{{"mallory", "system:nodes", true}, {"mallory", "people", true}, {"system:node:n1", "people", true}, {"system:node:n1", "system:nodes", false}} {
		if err := denied(as(who.user, who.group, who.mirror)); err != nil {
			t.Errorf("%+v: %v", who, err)
		}
	}
}
