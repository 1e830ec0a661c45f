package admission_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"

	"github.com/boltseal/boltseal/internal/admission"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/test/weight"
)

// typed reads the pod spec of an object as the API server reads it: by
// Kubernetes' own types and its own, case-sensitive decoder.
func typed(group, kind string, raw []byte) (spec corev1.PodSpec, err error) {
	read := func(into any) { err = kjson.UnmarshalCaseSensitivePreserveInts(raw, into) }
	switch group + "/" + kind {
	case "/Pod":
		var o corev1.Pod
		read(&o)
		spec = o.Spec
	case "/PodTemplate":
		var o corev1.PodTemplate
		read(&o)
		spec = o.Template.Spec
	case "/ReplicationController":
		var o corev1.ReplicationController
		if read(&o); o.Spec.Template != nil {
			spec = o.Spec.Template.Spec
		}
	case "apps/Deployment":
		var o appsv1.Deployment
		read(&o)
		spec = o.Spec.Template.Spec
	case "apps/ReplicaSet":
		var o appsv1.ReplicaSet
		read(&o)
		spec = o.Spec.Template.Spec
	case "apps/StatefulSet":
		var o appsv1.StatefulSet
		read(&o)
		spec = o.Spec.Template.Spec
	case "apps/DaemonSet":
		var o appsv1.DaemonSet
		read(&o)
		spec = o.Spec.Template.Spec
	case "batch/Job":
		var o batchv1.Job
		read(&o)
		spec = o.Spec.Template.Spec
	case "batch/CronJob":
		var o batchv1.CronJob
		read(&o)
		spec = o.Spec.JobTemplate.Spec.Template.Spec
	default:
		err = errors.New("no pod spec")
	}
	return spec, err
}

type at struct{ list, container, image string }

// standing lists the images that a pod spec names. A template may leave an image
// open, for somebody to fill in; a Pod may not.
func standing(spec *corev1.PodSpec, pod bool) (out []at) {
	for _, c := range spec.Containers {
		if pod || c.Image != "" {
			out = append(out, at{"containers", c.Name, c.Image})
		}
	}
	for _, c := range spec.InitContainers {
		if pod || c.Image != "" {
			out = append(out, at{"initContainers", c.Name, c.Image})
		}
	}
	for _, c := range spec.EphemeralContainers {
		out = append(out, at{"ephemeralContainers", c.Name, c.Image})
	}
	for _, v := range spec.Volumes {
		if v.Image != nil && v.Image.Reference != "" {
			out = append(out, at{"volumes", v.Name, v.Image.Reference})
		}
		if v.CSI != nil && v.CSI.Driver == "container-image.csi.k8s.io" {
			out = append(out, at{"volumes", v.Name, v.CSI.VolumeAttributes["image"]})
		}
	}
	return out
}

// agree holds what was read from a body against Kubernetes' own reading of it,
// and reports whether the two could be compared.
func agree(t *testing.T, body []byte, q admission.Request) bool {
	t.Helper()
	var rv admissionv1.AdmissionReview
	if kjson.UnmarshalCaseSensitivePreserveInts(body, &rv) != nil || rv.Request == nil {
		return false
	}
	r := rv.Request
	if q.UID != string(r.UID) || q.Operation != string(r.Operation) || q.Kind != integrity.KindName(r.Kind.Group, r.Kind.Kind) || q.Group != r.Kind.Group ||
		q.Namespace != r.Namespace || q.User != r.UserInfo.Username || q.DryRun != (r.DryRun != nil && *r.DryRun) {
		t.Errorf("read %+v of %s", q, body)
	}
	if len(q.Images) == 0 && q.Exempt != "no image was added or changed" {
		return false
	}
	now, err := typed(r.Kind.Group, r.Kind.Kind, r.Object.Raw)
	if err != nil {
		return false
	}
	var meta metav1.PartialObjectMetadata
	if err := kjson.UnmarshalCaseSensitivePreserveInts(r.Object.Raw, &meta); err == nil {
		var owners []integrity.Owner
		for _, o := range meta.OwnerReferences {
			if o.Controller != nil && *o.Controller {
				owners = append(owners, integrity.Owner{APIVersion: o.APIVersion, Kind: o.Kind, Name: o.Name, UID: string(o.UID)})
			}
		}
		if (q.Owner != nil) != (len(owners) == 1) || q.Owner != nil && *q.Owner != owners[0] {
			t.Errorf("owner %+v, Kubernetes reads %+v in %s", q.Owner, owners, body)
		}
	}
	pod := r.Kind.Kind == "Pod"
	want := standing(&now, pod)
	if r.Operation == admissionv1.Update && strings.HasPrefix(strings.TrimSpace(string(r.OldObject.Raw)), "{") {
		old, err := typed(r.Kind.Group, r.Kind.Kind, r.OldObject.Raw)
		if err != nil {
			return false
		}
		last := map[[2]string]string{} // of two containers with one name, which the API server refuses, the last
		for _, a := range standing(&old, pod) {
			last[[2]string{a.list, a.container}] = a.image
		}
		want = slices.DeleteFunc(want, func(a at) bool {
			image, ok := last[[2]string{a.list, a.container}]
			return ok && image == a.image
		})
	}
	var got []at
	for _, i := range q.Images {
		got = append(got, at{i.List, i.Container, i.Image})
	}
	if !slices.Equal(got, want) {
		t.Errorf("read %q, Kubernetes reads %q in %s", got, want, body)
	}
	return true
}

// randomSpec names few images and few containers, so that changes of every sort come up.
func randomSpec(rng *rand.Rand) (s corev1.PodSpec) {
	image := func() string { return []string{"", "a:1", "a:2", "reg.example/b@sha256:0"}[rng.IntN(4)] }
	for _, name := range []string{"x", "y", "z"} {
		if rng.IntN(2) == 0 {
			s.Containers = append(s.Containers, corev1.Container{Name: name, Image: image(), Args: []string{"containers"}, Env: []corev1.EnvVar{{Name: "image", Value: "evil:1"}}})
		}
		if rng.IntN(3) == 0 {
			s.InitContainers = append(s.InitContainers, corev1.Container{Name: name, Image: image()})
		}
		if rng.IntN(3) == 0 {
			s.EphemeralContainers = append(s.EphemeralContainers, corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name, Image: image()}})
		}
		if rng.IntN(3) == 0 {
			s.Volumes = append(s.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: image()}}})
		}
	}
	for _, name := range []string{"u", "v"} {
		if rng.IntN(3) == 0 {
			driver := []string{"container-image.csi.k8s.io", "secrets-store.csi.k8s.io"}[rng.IntN(2)]
			attributes := []map[string]string{nil, {"image": image(), "pullAlways": "true"}}[rng.IntN(2)]
			s.Volumes = append(s.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: driver, VolumeAttributes: attributes}}})
		}
	}
	rng.Shuffle(len(s.Containers), func(i, j int) { s.Containers[i], s.Containers[j] = s.Containers[j], s.Containers[i] })
	return s
}

func objects(s corev1.PodSpec) map[string]any {
	tmpl := corev1.PodTemplateSpec{Spec: s}
	return map[string]any{
		"/Pod": corev1.Pod{Spec: s}, "/PodTemplate": corev1.PodTemplate{Template: tmpl},
		"/ReplicationController": corev1.ReplicationController{Spec: corev1.ReplicationControllerSpec{Template: &tmpl}},
		"apps/Deployment":        appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: tmpl}},
		"apps/ReplicaSet":        appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Template: tmpl}},
		"apps/StatefulSet":       appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Template: tmpl}},
		"apps/DaemonSet":         appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Template: tmpl}},
		"batch/Job":              batchv1.Job{Spec: batchv1.JobSpec{Template: tmpl}},
		"batch/CronJob":          batchv1.CronJob{Spec: batchv1.CronJobSpec{JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: tmpl}}}},
	}
}

func TestAgreesWithKubernetes(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		now, before := objects(randomSpec(rng)), objects(randomSpec(rng))
		for kind, o := range now {
			group, name, _ := strings.Cut(kind, "/")
			for _, old := range []any{nil, before[kind], o} {
				body := review(t, group, name, o, old, nil)
				q, err := admission.Decode(body)
				if err != nil {
					t.Fatal(err)
				}
				if !agree(t, body, q) {
					t.Fatalf("not compared: %s", body)
				}
			}
		}
	}
}

// owned are Pods with ownerReferences.
func owned(t testing.TB) (bodies [][]byte) {
	t.Helper()
	yes, no := true, false
	rs := metav1.OwnerReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-1", UID: "u", Controller: &yes}
	other, none := rs, rs
	other.Controller, none.Controller, none.Name = &no, nil, "x"
	for _, refs := range [][]metav1.OwnerReference{nil, {}, {rs}, {other}, {none, other, rs}, {rs, rs}} {
		p := corev1.Pod{Spec: full()}
		p.OwnerReferences = refs
		bodies = append(bodies, review(t, "", "Pod", p, nil, nil))
	}
	return bodies
}

func TestOwners(t *testing.T) {
	t.Parallel()
	for i, body := range owned(t) {
		q, err := admission.Decode(body)
		if err != nil || !agree(t, body, q) || (q.Owner != nil) != (i == 2 || i == 4) {
			t.Errorf("%d: %+v: %v", i, q.Owner, err)
		}
	}
	p := corev1.Pod{Spec: full()}
	p.OwnerReferences = make([]metav1.OwnerReference, admission.MaxOwners+1)
	if _, err := admission.Decode(review(t, "", "Pod", p, nil, nil)); !errors.Is(err, admission.ErrLimit) {
		t.Errorf("too many owners: %v", err)
	}
}

// TestEveryPlaceOfAnImage fails once Kubernetes has a new place for images in a
// Pod: such a one would go unjudged.
func TestEveryPlaceOfAnImage(t *testing.T) {
	t.Parallel()
	var found []string
	var walk func(typ reflect.Type, path string)
	walk = func(typ reflect.Type, path string) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || strings.Count(path, ".") > 12 {
			return
		}
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" || name == "-" { // inlined, or not written
				if f.Anonymous {
					walk(f.Type, path)
				}
				continue
			}
			if strings.Contains(strings.ToLower(name), "image") {
				found = append(found, path+"."+name)
			}
			walk(f.Type, path+"."+name)
		}
	}
	walk(reflect.TypeFor[corev1.PodSpec](), "")
	slices.Sort(found)
	want := []string{
		".containers.image", ".containers.imagePullPolicy",
		".ephemeralContainers.image", ".ephemeralContainers.imagePullPolicy",
		".imagePullSecrets",
		".initContainers.image", ".initContainers.imagePullPolicy",
		".volumes.image",     // its reference
		".volumes.rbd.image", // a block device, not a container image
	}
	if !slices.Equal(found, want) {
		t.Errorf("fields that speak of images:\n%s\nknown:\n%s", strings.Join(found, "\n"), strings.Join(want, "\n"))
	}
}

// TestManySmallThings: what a body makes the decoder allocate is bounded, however
// small its parts are; most of it is the table that finds names which stand twice.
// It runs alone, for it looks at all memory.
func TestManySmallThings(t *testing.T) {
	good := string(review(t, "", "Pod", corev1.Pod{Spec: podSpec("x:1")}, nil, nil))
	fill := func(one string, n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, one, i)
		}
		return b.String()
	}
	for name, tt := range map[string]struct {
		old, new string
		fails    bool
	}{
		"containers":  {`"containers":[`, `"containers":[` + strings.Repeat("{},", 700_000), true},
		"volumes":     {`"containers":[`, `"volumes":[` + strings.Repeat("{},", 700_000) + `{}],"containers":[`, true},
		"labels":      {`"metadata":{`, `"metadata":{"labels":{` + fill(`"%d":"",`, 200_000) + `"a":""}`, true},
		"groups":      {`"username":"alice"`, `"username":"alice","groups":[` + strings.Repeat(`"",`, 700_000) + `""]`, true},
		"annotations": {`"metadata":{`, `"metadata":{"annotations":{` + fill(`"%d":"",`, 200_000) + `"a":""}`, false},
	} {
		body := []byte(strings.Replace(good, tt.old, tt.new, 1))
		if len(body) > admission.MaxBytes || len(body) < admission.MaxBytes/5 {
			t.Fatalf("%s: %d bytes", name, len(body))
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		q, err := admission.Decode(body)
		runtime.ReadMemStats(&after)
		if tt.fails != errors.Is(err, admission.ErrLimit) || q.UID != "u-1" && name != "groups" {
			t.Errorf("%s: uid %q, %v", name, q.UID, err)
		}
		if spent := after.TotalAlloc - before.TotalAlloc; spent > 40<<20 {
			t.Errorf("%s: %d bytes cost %d MiB of memory", name, len(body), spent>>20)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(review(f, "", "Pod", corev1.Pod{Spec: full()}, nil, nil))
	f.Add(review(f, "", "Pod", corev1.Pod{Spec: full()}, corev1.Pod{Spec: podSpec("main:1")}, nil))
	for kind, o := range objects(full()) {
		group, name, _ := strings.Cut(kind, "/")
		f.Add(review(f, group, name, o, nil, nil))
	}
	for _, body := range owned(f) {
		f.Add(body)
	}
	f.Add([]byte("null"))
	f.Add([]byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"kind":"Pod"},"operation":"CREATE",
		"object":{"spec":{"Containers":[{"image":"a"}],"containers":[null,{"name":"c","Image":"a","image":"b"}],"initContainers":null}}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		weight.Bound{Floor: 64 << 10, Times: 64}.Check(t, len(body), func() { _, _ = admission.Decode(body) })
		q, err := admission.Decode(body)
		if len(q.UID) > 256 || len(q.Images) > 2*admission.MaxImages {
			t.Fatalf("uid of %d bytes, %d images", len(q.UID), len(q.Images))
		}
		if err != nil {
			if !errors.Is(err, admission.ErrMalformed) && !errors.Is(err, admission.ErrLimit) {
				t.Fatalf("an error of another sort: %v", err)
			}
			return
		}
		if q.UID == "" {
			t.Fatal("a review without a uid was accepted")
		}
		if (len(q.Images) == 0) != (q.Exempt != "") {
			t.Fatalf("%d images, exempt %q", len(q.Images), q.Exempt)
		}
		agree(t, body, q)
	})
}
