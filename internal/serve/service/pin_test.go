package service_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/opencontainers/go-digest"

	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// places are where an image may come to stand in a Pod, and by what.
var places = map[string]func(p *corev1.Pod, image string) (subresource string, update bool){
	"container": func(p *corev1.Pod, image string) (string, bool) {
		p.Spec.Containers = []corev1.Container{{Name: "c", Image: image}}
		return "", false
	},
	"init container": func(p *corev1.Pod, image string) (string, bool) {
		p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: image}}
		return "", false
	},
	"image volume": func(p *corev1.Pod, image string) (string, bool) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: image}}}}
		return "", false
	},
	"volume of a CSI driver": func(p *corev1.Pod, image string) (string, bool) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "image.csi.k8s.io", VolumeAttributes: map[string]string{"image": image}}}}}
		return "", false
	},
	"container that is changed": func(p *corev1.Pod, image string) (string, bool) {
		p.Spec.Containers = []corev1.Container{{Name: "c", Image: image}}
		return "", true
	},
	"ephemeral container": func(p *corev1.Pod, image string) (string, bool) {
		p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e", Image: image}}}
		return "ephemeralcontainers", true
	},
}

// placed asks about a Pod with the image at a place, beside a container that runs
// already where it is an update.
func placed(namespace, image string, at func(*corev1.Pod, string) (string, bool), running string) *admissionv1.AdmissionRequest {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: running}}}}
	before, _ := json.Marshal(p)
	q := pod(namespace)
	var update bool
	if q.SubResource, update = at(&p, image); update {
		q.Operation, q.OldObject.Raw = admissionv1.Update, before
	}
	q.Object.Raw, _ = json.Marshal(p)
	return q
}

func imagesOf(t *testing.T, q *admissionv1.AdmissionRequest) (out []string) {
	t.Helper()
	var p corev1.Pod
	if err := json.Unmarshal(q.Object.Raw, &p); err != nil {
		t.Fatal(err)
	}
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		out = append(out, c.Image)
	}
	for _, c := range p.Spec.EphemeralContainers {
		out = append(out, c.Image)
	}
	for _, v := range p.Spec.Volumes {
		if v.CSI != nil {
			out = append(out, v.CSI.VolumeAttributes["image"])
			continue
		}
		out = append(out, v.Image.Reference)
	}
	return out
}

// inNamespace is a policy that a namespace sets itself, and a Verifier that trusts
// somebody else than the cluster's does.
func inNamespace(namespace string, roots []byte, spec string) string {
	indented := strings.ReplaceAll(strings.TrimSpace(string(roots)), "\n", "\n      ")
	return `apiVersion: config.ratify.deislabs.io/v1beta1
kind: NamespacedKeyManagementProvider
metadata: {name: mine, namespace: ` + namespace + `}
spec:
  type: inline
  parameters:
    value: |
      ` + indented + `
---
apiVersion: config.ratify.deislabs.io/v1beta1
kind: NamespacedVerifier
metadata: {name: mine, namespace: ` + namespace + `}
spec:
  name: notation
  artifactTypes: application/vnd.cncf.notary.signature
  parameters:
    verificationCertStores: {ca: {mine: [mine]}}
    trustPolicyDoc:
      version: "1.0"
      trustPolicies:
        - {name: all, registryScopes: ["*"], signatureVerification: {level: strict}, trustStores: ["ca:mine"], trustedIdentities: ["*"]}
---
apiVersion: boltseal.dev/v1alpha1
kind: NamespacedImageIntegrityPolicy
metadata: {name: own, namespace: ` + namespace + `}
spec: {` + spec + `}
`
}

// TestNoTagIsAdmittedThatWasNotPinned: whatever became of the step that pins, and
// whatever a namespace says itself, a Pod that the cluster's policy admits names the
// digest that was verified.
func TestNoTagIsAdmittedThatWasNotPinned(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	namespaces := map[string]string{"plain": "", "denies": "enforcementAction: deny", "warns": "enforcementAction: warn", "tries": "enforcementAction: dryrun",
		"keeps": "enforcementAction: dryrun, resolveTags: false", "open": "enforcementAction: deny, onUnavailable: {action: allow}"}
	policies := []string{policy("prod", "")}
	for ns, spec := range namespaces {
		if spec != "" {
			policies = append(policies, inNamespace(ns, h.Stranger.Root().PEM(), spec))
		}
	}
	r := startWith(t, h, service.Options{Memo: shortLived}, config(h.Signer.Root().PEM(), policies...))
	if code, text := r.ready(); code != 200 {
		t.Fatal(text)
	}
	ours, oursPinned := r.Signed("ours", r.Signer)
	both, bothPinned := r.Signed("both", r.Signer, r.Stranger)
	_, evil := r.Signed("evil")
	const patient = "?timeout=30s"
	// What becomes of the question on its way to validation.
	steps := map[string]func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionRequest{
		"pinned": func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionRequest { return r.mutated(q) },
		"asked by nobody, or of a replica that does not pin": func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionRequest { return q },
		"not to be found out": func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionRequest {
			answers := r.Registry.Inject(testregistry.Fault{Kind: testregistry.Status, Status: 401})
			defer answers()
			a := r.review(server.PathPin+patient, q)
			if !a.Allowed || len(a.Patch) > 0 || len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "keeps its tag") || !strings.Contains(a.Warnings[0], r.Registry.Host) {
				t.Errorf("whoever applies it is not told why it is not pinned: %+v", a)
			}
			return q
		},
	}
	for ns := range namespaces {
		for step, do := range steps {
			for place, at := range places {
				for _, moves := range []bool{false, true} {
					image, pinned := ours, oursPinned
					if ns == "denies" || ns == "open" {
						image, pinned = both, bothPinned
					}
					name := fmt.Sprintf("%s: %s, %s, the tag moves: %t", ns, place, step, moves)
					_, verified, _ := strings.Cut(pinned, "@")
					q := do(placed(ns, image, at, pinned))
					if moves {
						_, other, _ := strings.Cut(evil, "@")
						r.retag(image, other)
					}
					time.Sleep(2 * time.Millisecond) // waits: until what was answered before has run out; it never sleeps less
					a := r.review(server.PathValidate+patient, q)
					r.retag(image, verified)
					time.Sleep(2 * time.Millisecond) // waits: the same
					if a.Allowed != (step == "pinned") {
						t.Errorf("%s: %+v %+v", name, a, a.Result)
					}
					for _, i := range imagesOf(t, q) {
						if a.Allowed && !strings.HasSuffix(i, "@"+verified) {
							t.Errorf("%s: admitted with %s", name, i)
						}
					}
					if !a.Allowed && !moves && (!strings.Contains(a.Result.Message, verified) || !strings.Contains(a.Result.Message, "try again")) {
						t.Errorf("%s: it does not say what is missing, or what to do: %s", name, a.Result.Message)
					}
				}
			}
		}
	}
	if n := r.metric(`boltseal_image_decisions_total{cause="unpinned",decision="not trusted",source="admission"}`); n == "" || n == "0" {
		t.Errorf("counted %q times", n)
	}
	eventually(t, "the audit log says so", func() bool { return strings.Contains(r.audit.String(), `"unpinned":true`) })
}

// TestTooLateToBePinned: a registry that answers after the time of mutation, and
// within that of validation, gets no tag in; who tries again gets the digest.
func TestTooLateToBePinned(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{}, policy("prod", ""))
	tag, _ := r.Signed("v", r.Signer)
	answers := r.Registry.Inject(testregistry.Fault{Kind: testregistry.Hang, Class: testregistry.Manifest})
	q := pod("team", tag)
	a := r.review(server.PathPin+"?timeout=200ms", q)
	if !a.Allowed || len(a.Patch) > 0 || len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "keeps its tag") || !strings.Contains(a.Warnings[0], r.Registry.Host) {
		t.Errorf("whoever applies it is not told why it is not pinned: %+v", a)
	}
	answers()
	eventually(t, "the registry answers again", func() bool { return r.gatekeeper(server.PathVerify, tag)[0].trusted() })
	if a := r.review(server.PathValidate, q); a.Allowed || !strings.Contains(a.Result.Message, "a warning of /admission/mutate says why") {
		t.Errorf("a tag that nobody pinned: %+v %+v", a, a.Result)
	}
	if a := r.validate("team", tag); !a.Allowed || len(a.Warnings) > 0 {
		t.Errorf("tried again: %+v %+v", a, a.Result)
	}
}

// retag moves a tag.
func (r *running) retag(image, to string) {
	r.t.Helper()
	name, tag, _ := strings.Cut(strings.TrimPrefix(image, r.Registry.Host+"/"), ":")
	r.Registry.Tag(name, tag, digest.Digest(to))
}

// TestTagsOfTemplates: what Pods are made of may have tags, for they are pinned when
// they come; what a policy says must not be pinned may have them, with a warning.
func TestTagsOfTemplates(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{},
		policy("prod", "match: {excludedNamespaces: [keeps, templates]}"), policy("keeps", "match: {namespaces: [keeps]}, resolveTags: false"),
		policy("templates", "match: {namespaces: [templates], kinds: [Deployment]}"))
	tag, _ := r.Signed("v", r.Signer)
	deployment := func(ns string) *admissionv1.AdmissionRequest {
		q := pod(ns)
		q.Kind = metav1.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}
		q.Object.Raw = fmt.Appendf(nil, `{"metadata":{"name":"d"},"spec":{"template":{"spec":{"containers":[{"name":"c","image":%q}]}}}}`, tag)
		return q
	}
	for ns, warned := range map[string]bool{"team": false, "keeps": true, "templates": true} {
		a := r.review(server.PathValidate, deployment(ns))
		if !a.Allowed || strings.Contains(strings.Join(a.Warnings, ""), "may pull something else") != warned {
			t.Errorf("a Deployment in %s: %+v %+v", ns, a, a.Result)
		}
	}
	for ns, allowed := range map[string]bool{"team": false, "keeps": true} {
		a := r.review(server.PathValidate, pod(ns, tag))
		if a.Allowed != allowed || allowed && !strings.Contains(strings.Join(a.Warnings, ""), "may pull something else") {
			t.Errorf("a Pod in %s: %+v %+v", ns, a, a.Result)
		}
		if !allowed && !strings.Contains(a.Result.Message, "boltseal webhook print") {
			t.Errorf("nobody asked to pin, and the message does not say how to: %s", a.Result.Message)
		}
	}
}
