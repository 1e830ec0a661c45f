package admission_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/boltseal/boltseal/internal/admission"
)

func podSpec(images ...string) corev1.PodSpec {
	var s corev1.PodSpec
	for i, image := range images {
		s.Containers = append(s.Containers, corev1.Container{Name: fmt.Sprint("c", i), Image: image})
	}
	return s
}

// full has one image of every sort.
func full() corev1.PodSpec {
	s := podSpec("main:1")
	s.InitContainers = []corev1.Container{{Name: "init", Image: "init:1"}}
	s.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "debug:1"}}}
	s.Volumes = []corev1.Volume{{Name: "empty"}, {Name: "model", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "model:1"}}}}
	return s
}

func review(t testing.TB, group, kind string, object, old any, change func(*admissionv1.AdmissionRequest)) []byte {
	t.Helper()
	raw := func(o any) runtime.RawExtension {
		if o == nil {
			return runtime.RawExtension{}
		}
		b, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return runtime.RawExtension{Raw: b}
	}
	r := &admissionv1.AdmissionRequest{
		UID: "u-1", Kind: metav1.GroupVersionKind{Group: group, Version: "v1", Kind: kind}, Namespace: "team", Operation: admissionv1.Create,
		Object: raw(object), OldObject: raw(old),
	}
	r.UserInfo.Username = "alice"
	if old != nil {
		r.Operation = admissionv1.Update
	}
	if change != nil {
		change(r)
	}
	b, err := json.Marshal(admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: r})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func images(q admission.Request) (out []string) {
	for _, i := range q.Images {
		out = append(out, i.Image)
	}
	return out
}

func TestEveryKind(t *testing.T) {
	t.Parallel()
	tmpl := corev1.PodTemplateSpec{Spec: full()}
	for kind, o := range map[string]any{
		"/Pod":                    corev1.Pod{Spec: full()},
		"/PodTemplate":            corev1.PodTemplate{Template: tmpl},
		"/ReplicationController":  corev1.ReplicationController{Spec: corev1.ReplicationControllerSpec{Template: &tmpl}},
		"apps/Deployment":         appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: tmpl}},
		"apps/ReplicaSet":         appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Template: tmpl}},
		"apps/StatefulSet":        appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Template: tmpl}},
		"apps/DaemonSet":          appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Template: tmpl}},
		"batch/Job":               batchv1.Job{Spec: batchv1.JobSpec{Template: tmpl}},
		"batch/CronJob":           batchv1.CronJob{Spec: batchv1.CronJobSpec{JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: tmpl}}}},
		"argoproj.io/Rollout":     map[string]any{"spec": map[string]any{"template": tmpl}},
		"apps.evil.example/Job":   batchv1.Job{Spec: batchv1.JobSpec{Template: tmpl}},
		"/ReplicationController2": nil,
	} {
		group, name, _ := strings.Cut(kind, "/")
		q, err := admission.Decode(review(t, group, name, o, nil, nil))
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if known := !strings.Contains(group, ".") && !strings.HasSuffix(name, "2"); known {
			want := []string{"main:1", "init:1", "debug:1", "model:1"}
			if got := images(q); !slices.Equal(got, want) || q.Exempt != "" {
				t.Errorf("%s: %q (%s), want %q", kind, got, q.Exempt, want)
			}
		} else if !q.Unknown || q.Exempt == "" {
			t.Errorf("%s: %+v, want a kind that is not known", kind, q)
		}
	}
}

func TestWhatNeedsNoLook(t *testing.T) {
	t.Parallel()
	pod := func(imgs ...string) corev1.Pod { return corev1.Pod{Spec: podSpec(imgs...)} }
	mirror := pod("x:1")
	mirror.Annotations = map[string]string{"kubernetes.io/config.mirror": "h"}
	node := func(name string, groups ...string) func(*admissionv1.AdmissionRequest) {
		return func(r *admissionv1.AdmissionRequest) { r.UserInfo.Username, r.UserInfo.Groups = name, groups }
	}
	sub := func(s string, op admissionv1.Operation) func(*admissionv1.AdmissionRequest) {
		return func(r *admissionv1.AdmissionRequest) { r.SubResource, r.Operation = s, op }
	}
	for _, tt := range []struct {
		name     string
		obj, old any
		change   func(*admissionv1.AdmissionRequest)
		want     []string
	}{
		{"create", pod("x:1"), nil, nil, []string{"x:1"}},
		{"delete", nil, pod("x:1"), sub("", admissionv1.Delete), nil},
		{"exec", pod("x:1"), nil, sub("exec", admissionv1.Connect), nil},
		{"status", pod("y:1"), pod("x:1"), sub("status", admissionv1.Update), nil},
		{"labels changed", pod("x:1", "y:1"), pod("x:1", "y:1"), nil, nil},
		{"one image changed", pod("x:1", "y:2"), pod("x:1", "y:1"), nil, []string{"y:2"}},
		{"two images swapped", pod("y:1", "x:1"), pod("x:1", "y:1"), nil, []string{"y:1", "x:1"}},
		{"one container added", pod("x:1", "y:1"), pod("x:1"), nil, []string{"y:1"}},
		{"one container removed", pod("x:1"), pod("x:1", "y:1"), nil, nil},
		{"ephemeral container added", corev1.Pod{Spec: full()}, corev1.Pod{Spec: podSpec("main:1")}, sub("ephemeralcontainers", admissionv1.Update), []string{"init:1", "debug:1", "model:1"}},
		{"update without the old object", pod("x:1"), nil, sub("", admissionv1.Update), []string{"x:1"}},
		{"mirror pod", mirror, nil, node("system:node:n1", "system:nodes"), nil},
		{"mirror pod of somebody else", mirror, nil, node("alice", "system:nodes"), []string{"x:1"}},
		{"mirror pod of a node without its group", mirror, nil, node("system:node:n1"), []string{"x:1"}},
		{"a node's ordinary pod", pod("x:1"), nil, node("system:node:n1", "system:nodes"), []string{"x:1"}},
	} {
		q, err := admission.Decode(review(t, "", "Pod", tt.obj, tt.old, tt.change))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got := images(q); !slices.Equal(got, tt.want) || (q.Exempt != "") != (len(tt.want) == 0) {
			t.Errorf("%s: %q (%s), want %q", tt.name, got, q.Exempt, tt.want)
		}
	}
	scale := review(t, "autoscaling", "Scale", map[string]any{"spec": map[string]any{"replicas": 3}}, map[string]any{}, func(r *admissionv1.AdmissionRequest) { r.SubResource = "scale" })
	if q, err := admission.Decode(scale); err != nil || q.Exempt == "" || q.Unknown {
		t.Errorf("scaling: %+v, %v", q, err)
	}
	empty := appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: podSpec("")}}}
	if q, err := admission.Decode(review(t, "apps", "Deployment", empty, nil, nil)); err != nil || q.Exempt == "" {
		t.Errorf("a template that leaves its image open: %+v, %v", q, err)
	}
}

func TestBadReviews(t *testing.T) {
	t.Parallel()
	good := review(t, "", "Pod", corev1.Pod{Spec: podSpec("x:1")}, nil, nil)
	edit := func(old, new string) []byte { return []byte(strings.Replace(string(good), old, new, 1)) }
	for _, tt := range []struct {
		name string
		body []byte
		uid  bool // the question can be found again
	}{
		{"nothing", nil, false}, {"null", []byte("null"), false}, {"a number", []byte("7"), false}, {"a list", []byte("[]"), false},
		{"truncated", good[:len(good)/2], true}, {"no request", []byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}`), false},
		{"v1beta1", edit("admission.k8s.io/v1", "admission.k8s.io/v1beta1"), true},
		{"another kind", edit(`"AdmissionReview"`, `"TokenReview"`), true},
		{"no uid", edit(`"uid":"u-1"`, `"uid":""`), false}, {"long uid", edit("u-1", strings.Repeat("u", 300)), false},
		{"no object", edit(`"object":{`, `"objekt":{`), true}, {"object is text", []byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"kind":"Pod"},"operation":"CREATE","object":"x"}}`), true},
		{"image is a number", edit(`"image":"x:1"`, `"image":1`), true},
		{"image twice", edit(`"image":"x:1"`, `"image":"trusted:1","image":"x:1"`), true},
		{"containers twice", edit(`"containers":[`, `"containers":[],"containers":[`), true},
		{"operation", edit(`"CREATE"`, `"PATCH"`), true},
		{"long uid, and more is wrong", []byte(strings.NewReplacer("u-1", strings.Repeat("u", 300), `"CREATE"`, "5").Replace(string(good))), false},
		{"too large", append(good, make([]byte, admission.MaxBytes)...), false},
		{"not UTF-8", edit("x:1", "x:\xff"), true},
	} {
		q, err := admission.Decode(tt.body)
		if err == nil || (!errors.Is(err, admission.ErrMalformed) && !errors.Is(err, admission.ErrLimit)) {
			t.Errorf("%s: %+v, %v", tt.name, q, err)
		}
		if (q.UID != "") != tt.uid {
			t.Errorf("%s: uid %q", tt.name, q.UID)
		}
	}
	if q, _ := admission.Decode(edit("admission.k8s.io/v1", "admission.k8s.io/v2")); q.UID != "u-1" {
		t.Error("the uid was there to be read")
	}
	many := corev1.Pod{}
	for range admission.MaxImages + 1 {
		many.Spec.Containers = append(many.Spec.Containers, corev1.Container{Image: "x"})
	}
	if _, err := admission.Decode(review(t, "", "Pod", many, nil, nil)); !errors.Is(err, admission.ErrLimit) {
		t.Errorf("too many containers: %v", err)
	}
}

// TestCase: JSON names differ by case. What is read is what the API server
// reads, not a spelling that only resembles it.
func TestCase(t *testing.T) {
	t.Parallel()
	body := []byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"kind":"Pod"},"operation":"CREATE",
		"object":{"spec":{"Containers":[{"image":"trusted:1"}],"containers":[{"name":"c","Image":"trusted:1","image":"evil:1"}]}}}}`)
	if q, err := admission.Decode(body); err != nil || !slices.Equal(images(q), []string{"evil:1"}) {
		t.Errorf("%q, %v", images(q), err)
	}
}

func BenchmarkDecode(b *testing.B) {
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Labels: map[string]string{"app": "x"}}, Spec: podSpec("r.example/a:1", "r.example/b:1", "r.example/c:1", "r.example/d:1", "r.example/e:1")}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		c.Args = []string{"--flag=value", "--other"}
		c.Env = []corev1.EnvVar{{Name: "A", Value: "b"}, {Name: "C", Value: "d"}}
		c.VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}}
	}
	body := review(b, "", "Pod", pod, nil, nil)
	b.Run("boltseal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := admission.Decode(body); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bare", func(b *testing.B) { // what a handler does that looks at no object
		b.ReportAllocs()
		for b.Loop() {
			var rv admissionv1.AdmissionReview
			if json.Unmarshal(body, &rv) != nil {
				b.Fatal("not read")
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var rv admissionv1.AdmissionReview
			var p corev1.Pod
			if json.Unmarshal(body, &rv) != nil || json.Unmarshal(rv.Request.Object.Raw, &p) != nil {
				b.Fatal("not read")
			}
		}
	})
}
