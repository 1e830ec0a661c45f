package admission_test

import (
	"encoding/json"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/boltseal/boltseal/internal/admission"
)

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func encoded(t *testing.T, uid string, a admission.Answer) admissionv1.AdmissionReview {
	t.Helper()
	b, err := admission.Encode(uid, a)
	if err != nil {
		t.Fatal(err)
	}
	var rv admissionv1.AdmissionReview
	if err := json.Unmarshal(b, &rv); err != nil || rv.Response == nil || rv.Kind != "AdmissionReview" || rv.APIVersion != "admission.k8s.io/v1" {
		t.Fatalf("%s: %v", b, err)
	}
	return rv
}

func TestEncode(t *testing.T) {
	t.Parallel()
	if r := encoded(t, "u", admission.Answer{}).Response; r.Allowed || r.UID != "u" || r.Result.Code != 403 {
		t.Errorf("the zero answer: %+v", r)
	}
	r := encoded(t, "u", admission.Answer{Allowed: true, Warnings: []string{`say "x"`}, Audit: map[string]string{"b": "2", "a": "1"}}).Response
	if !r.Allowed || r.Result != nil || r.Warnings[0] != `say "x"` || r.AuditAnnotations["a"] != "1" || r.Patch != nil || r.PatchType != nil {
		t.Errorf("%+v", r)
	}
	a := admission.Answer{Message: "no", Audit: map[string]string{"b": "2", "a": "1", "c": "3"}}
	first, _ := admission.Encode("u", a)
	for range 20 {
		if again, _ := admission.Encode("u", a); string(again) != string(first) {
			t.Fatal("the same answer, other bytes")
		}
	}
}

// TestPins: the patch, applied as the API server does, changes the images that
// were verified and nothing else.
func TestPins(t *testing.T) {
	t.Parallel()
	pod := corev1.Pod{Spec: full()}
	body := review(t, "", "Pod", pod, nil, nil)
	q, err := admission.Decode(body)
	if err != nil {
		t.Fatal(err)
	}
	var pins []admission.Pin
	for _, i := range q.Images {
		pins = append(pins, admission.Pin{Image: i, New: admission.PinnedTo(i.Image, digest)})
	}
	r := encoded(t, "u", admission.Answer{Allowed: true, Pins: pins}).Response
	if *r.PatchType != admissionv1.PatchTypeJSONPatch {
		t.Fatal(*r.PatchType)
	}
	patch, err := jsonpatch.DecodePatch(r.Patch)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := json.Marshal(pod)
	after, err := patch.Apply(before)
	if err != nil {
		t.Fatal(err)
	}
	var got corev1.Pod
	if err := json.Unmarshal(after, &got); err != nil {
		t.Fatal(err)
	}
	want := corev1.Pod{Spec: full()}
	want.Spec.Containers[0].Image += "@" + digest
	want.Spec.InitContainers[0].Image += "@" + digest
	want.Spec.EphemeralContainers[0].Image += "@" + digest
	want.Spec.Volumes[1].Image.Reference += "@" + digest
	w, _ := json.Marshal(want)
	g, _ := json.Marshal(got)
	if string(w) != string(g) {
		t.Errorf("got %s\nwant %s", g, w)
	}
	pod.Spec.Containers[0].Image = "changed:since"
	moved, _ := json.Marshal(pod)
	if _, err := patch.Apply(moved); err == nil {
		t.Error("the patch applies to an image that was not verified")
	}
	if r := encoded(t, "u", admission.Answer{Pins: pins}).Response; r.Patch != nil {
		t.Error("a denial with a patch")
	}
}

func TestPinnedTo(t *testing.T) {
	t.Parallel()
	for image, want := range map[string]string{
		"nginx": "nginx:latest@" + digest, "nginx:1": "nginx:1@" + digest,
		"host:5000/a/b": "host:5000/a/b:latest@" + digest, "host:5000/a/b:t": "host:5000/a/b:t@" + digest,
	} {
		if got := admission.PinnedTo(image, digest); got != want {
			t.Errorf("%s: %s, want %s", image, got, want)
		}
	}
}
