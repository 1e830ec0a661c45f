package gatekeeper

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/internal/test/testca"
)

// denied checks that an error is Gatekeeper's denial with all of the words.
func denied(t *testing.T, what string, err error, words ...string) {
	t.Helper()
	if !apierrors.IsForbidden(err) {
		t.Errorf("%s: not denied: %v", what, err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %q is not in %v", what, w, err)
		}
	}
}

func admitted(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func TestPods(t *testing.T) {
	ns := namespace(t)
	demand(t, ns, "deny", "")
	signed, signedDigest := image("signed", signer)
	unsigned, unsignedDigest := image("unsigned")
	stranger, _ := image("stranger", testca.Test(t, testca.Options{}))
	apply := func(doc string) error { return cluster.Apply(t.Context(), doc) }

	admitted(t, "signed, by tag", apply(pod(ns, "signed", signed)))
	admitted(t, "signed, by digest", apply(pod(ns, "digest", registry.Host+"/"+repo+"@"+signedDigest)))
	admitted(t, "signed, by tag and digest", apply(pod(ns, "both", signed+"@"+signedDigest)))
	err := apply(pod(ns, "unsigned", unsigned))
	denied(t, "unsigned", err, `container "app": image `+unsigned+` is not trusted: nothing signed`, "What to do: sign the image and push the signature")
	t.Logf("a denial reads: %v", err)
	denied(t, "unsigned, with the tag of a signed one and the digest of another", apply(pod(ns, "mixed", signed+"@"+unsignedDigest)), "nothing signed")
	denied(t, "signed by a stranger", apply(pod(ns, "stranger", stranger)), stranger, "who is not trusted")
	denied(t, "an image that is not there", apply(pod(ns, "nosuch", registry.Ref(repo, "nosuch"))), "nosuch")
	denied(t, "no reference", apply(pod(ns, "noref", "UPPER/case")), "UPPER/case")

	spec := func(name, spec string) error {
		return apply(fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: %s}, spec: %s}", name, ns, spec))
	}
	denied(t, "an init container", spec("init", fmt.Sprintf("{initContainers: [{name: first, image: %q}], containers: [{name: app, image: %q}]}", unsigned, signed)),
		`init container "first"`)
	denied(t, "one of two", spec("two", fmt.Sprintf("{containers: [{name: app, image: %q}, {name: side, image: %q}]}", signed, unsigned)), `container "side"`)
	denied(t, "an image volume", spec("volume", fmt.Sprintf("{containers: [{name: app, image: %q}], volumes: [{name: model, image: {reference: %q}}]}", signed, unsigned)),
		`volume "model"`)

	// Ephemeral containers come by a subresource.
	var p corev1.Pod
	if err := cluster.Client().Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "signed"}, &p); err != nil {
		t.Fatal(err)
	}
	debug := func(name, image string) error {
		q := p.DeepCopy()
		q.Spec.EphemeralContainers = append(q.Spec.EphemeralContainers, corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name, Image: image}})
		return cluster.Client().SubResource("ephemeralcontainers").Update(t.Context(), q)
	}
	denied(t, "an ephemeral container", debug("bad", unsigned), `ephemeral container "bad"`)
	admitted(t, "a signed ephemeral container", debug("good", signed))
}

// TestTagsAlone: what is trusted and named by a tag alone is admitted into no Pod, wherever it stands there, unless the
// constraint says so; into what Pods are made of it is.
func TestTagsAlone(t *testing.T) {
	signed, digest := image("tags-signed", signer)
	pinned := signed + "@" + digest
	strict, lax := namespace(t), namespace(t)
	demand(t, strict, "deny", "  parameters: {excludedImages: [\""+registry.Ref(repo, "tags-excluded")+"\"], allowTags: false}\n")
	demand(t, lax, "deny", "")
	apply := func(doc string) error { return cluster.Apply(t.Context(), doc) }
	eventually(t, "the constraint is in force", func() error {
		err := apply(pod(strict, "probe", signed))
		if err == nil || !strings.Contains(err.Error(), "is trusted, but a tag") {
			return fmt.Errorf("admitted, or for another reason: %w", err)
		}
		return nil
	})
	admitted(t, "a tag where that is admitted", apply(pod(lax, "tag", signed)))
	admitted(t, "a digest", apply(pod(strict, "digest", registry.Host+"/"+repo+"@"+digest)))
	admitted(t, "a tag with its digest", apply(pod(strict, "both", pinned)))
	excluded, _ := image("tags-excluded")
	admitted(t, "what is not checked", apply(pod(strict, "excluded", excluded)))
	spec := func(name, spec string) error {
		return apply(fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: %s}, spec: %s}", name, strict, spec))
	}
	denied(t, "an init container", spec("init", fmt.Sprintf("{initContainers: [{name: first, image: %q}], containers: [{name: app, image: %q}]}", signed, pinned)), `init container "first"`, "is trusted, but a tag", "What to do")
	denied(t, "an image volume", spec("volume", fmt.Sprintf("{containers: [{name: app, image: %q}], volumes: [{name: model, image: {reference: %q}}]}", pinned, signed)), `volume "model"`)
	var p corev1.Pod
	if err := cluster.Client().Get(t.Context(), client.ObjectKey{Namespace: strict, Name: "both"}, &p); err != nil {
		t.Fatal(err)
	}
	q := p.DeepCopy()
	q.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: signed}}}
	denied(t, "an ephemeral container", cluster.Client().SubResource("ephemeralcontainers").Update(t.Context(), q), `ephemeral container "debug"`)
	q = p.DeepCopy()
	q.Spec.Containers[0].Image = signed
	denied(t, "a container that is changed", cluster.Client().Update(t.Context(), q), `container "app"`)
	admitted(t, "a Deployment", apply(fmt.Sprintf("{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, namespace: %s}, spec: {replicas: 0, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: app, image: %q}]}}}}", strict, signed)))
}

func TestTemplatesOfPods(t *testing.T) {
	ns := namespace(t)
	demand(t, ns, "deny", "")
	signed, _ := image("template-signed", signer)
	unsigned, _ := image("template-unsigned")
	for kind, doc := range map[string]string{
		"Deployment":            "{apiVersion: apps/v1, kind: Deployment, metadata: {name: NAME, namespace: NS}, spec: {selector: {matchLabels: {a: b}}, template: POD}}",
		"ReplicaSet":            "{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: NAME, namespace: NS}, spec: {selector: {matchLabels: {a: b}}, template: POD}}",
		"StatefulSet":           "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: NAME, namespace: NS}, spec: {serviceName: x, selector: {matchLabels: {a: b}}, template: POD}}",
		"DaemonSet":             "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: NAME, namespace: NS}, spec: {selector: {matchLabels: {a: b}}, template: POD}}",
		"Job":                   "{apiVersion: batch/v1, kind: Job, metadata: {name: NAME, namespace: NS}, spec: {template: POD}}",
		"CronJob":               "{apiVersion: batch/v1, kind: CronJob, metadata: {name: NAME, namespace: NS}, spec: {schedule: '0 0 1 1 *', jobTemplate: {spec: {template: POD}}}}",
		"ReplicationController": "{apiVersion: v1, kind: ReplicationController, metadata: {name: NAME, namespace: NS}, spec: {replicas: 0, selector: {a: b}, template: POD}}",
		"PodTemplate":           "{apiVersion: v1, kind: PodTemplate, metadata: {name: NAME, namespace: NS}, template: POD}",
	} {
		apply := func(name, image string) error {
			restart := ""
			if strings.HasSuffix(kind, "Job") {
				restart = "restartPolicy: Never, "
			}
			pod := fmt.Sprintf("{metadata: {labels: {a: b}}, spec: {%scontainers: [{name: app, image: %q}]}}", restart, image)
			return cluster.Apply(t.Context(), strings.NewReplacer("NAME", strings.ToLower(kind)+name, "NS", ns, "POD", pod).Replace(doc))
		}
		admitted(t, kind, apply("-good", signed))
		denied(t, kind, apply("-bad", unsigned), `container "app": image `+unsigned)
	}
}

// TestUpdates shows that an object whose image is not trusted any more can still be changed in other ways, and removed.
func TestUpdates(t *testing.T) {
	ns := namespace(t)
	unsigned, _ := image("updates-unsigned")
	other, _ := image("updates-other")
	admitted(t, "before the demand", cluster.Apply(t.Context(), pod(ns, "old", unsigned)))
	demand(t, ns, "deny", "")
	denied(t, "now", cluster.Apply(t.Context(), pod(ns, "new", unsigned)))
	var p corev1.Pod
	if err := cluster.Client().Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "old"}, &p); err != nil {
		t.Fatal(err)
	}
	p.Labels = map[string]string{"label": "new"}
	admitted(t, "another label", cluster.Client().Update(t.Context(), &p))
	p.Spec.Containers[0].Image = other
	denied(t, "another image", cluster.Client().Update(t.Context(), &p), other)
	admitted(t, "deletion", cluster.Client().Delete(t.Context(), &p))
}

func TestWarnAndDryrun(t *testing.T) {
	ns := namespace(t)
	unsigned, _ := image("warn-unsigned")
	demand(t, ns, "warn", "")
	var warnings warnings
	config := cluster.Config()
	config.WarningHandlerWithContext = &warnings
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: unsigned}}}}
	p.Namespace, p.Name = ns, "warned"
	admitted(t, "warn", c.Create(t.Context(), p))
	if !strings.Contains(string(warnings), "image "+unsigned+" is not trusted: nothing signed") {
		t.Errorf("warnings %q", warnings)
	}
	warnings = ""
	demand(t, ns, "dryrun", "")
	p = &corev1.Pod{Spec: p.Spec}
	p.Namespace, p.Name = ns, "dry"
	admitted(t, "dryrun", c.Create(t.Context(), p))
	if warnings != "" {
		t.Errorf("warnings %q", warnings)
	}
	eventually(t, "the audit lists it under dryrun", func() error {
		if v := violations(t, "BoltsealTrustedImages", ns); !strings.Contains(v, "name:dry") {
			return fmt.Errorf("violations %s", v)
		}
		return nil
	})
}

type warnings string

func (w *warnings) HandleWarningHeaderWithContext(_ context.Context, _ int, _, text string) {
	*w += warnings(text) + "\n"
}

func TestExclusions(t *testing.T) {
	ns := namespace(t)
	unsigned, digest := image("excluded")
	other, _ := image("not-excluded")
	demand(t, ns, "deny", fmt.Sprintf(`  parameters:
    excludedImages: [%q, "docker.io/library/*", "registry.example:5000/base/*", "registry.example:5000/tools/app:v1*"]
`, unsigned))
	apply := func(name, image string) error { return cluster.Apply(t.Context(), pod(ns, name, image)) }
	admitted(t, "exact", apply("exact", unsigned))
	denied(t, "exact, but with a digest too", apply("with-digest", unsigned+"@"+digest))
	denied(t, "another", apply("another", other))
	for i, image := range []string{"nginx", "nginx:1.27", "library/nginx", "docker.io/nginx", "docker.io/library/nginx:1", "index.docker.io/nginx",
		"registry.example:5000/base/os", "registry.example:5000/base/os:1@" + digest, "registry.example:5000/tools/app:v1.2"} {
		admitted(t, image, apply(fmt.Sprint("in-", i), image))
	}
	for i, image := range []string{"evil/nginx", "registry.example/base/os", "registry.example:5000/basement/os", "docker.io.evil.example/library/nginx", "registry.example:5000/tools/app:v2", "registry.example:5000/tools/app:v1.2@" + digest} {
		denied(t, image, apply(fmt.Sprint("out-", i), image), image)
	}
	for _, pattern := range []string{"registry*", "*", "*.example/app", "registry.example/*/app", "nginx*"} {
		c := constraintObject("BoltsealTrustedImages", ns+"-bad")
		c.Object["spec"] = map[string]any{"parameters": map[string]any{"excludedImages": []any{pattern}}}
		if err := cluster.Client().Create(t.Context(), c); !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) {
			t.Errorf("pattern %q: %v", pattern, err)
		}
	}
}
