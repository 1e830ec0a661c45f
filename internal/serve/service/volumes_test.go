package service_test

import (
	"encoding/json"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

// mounting is a Pod of one trusted container that mounts a volume by a CSI driver.
func mounting(t *testing.T, container, driver string, attributes map[string]string) *admissionv1.AdmissionRequest {
	t.Helper()
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: container}},
		Volumes: []corev1.Volume{{Name: "code", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: driver, VolumeAttributes: attributes}}}}}}
	q := pod("prod")
	q.Object = runtime.RawExtension{Raw: testhouse.Need(json.Marshal(p))(t)}
	return q
}

// TestImagesThatDriversMount are judged and pinned like those of image volumes.
func TestImagesThatDriversMount(t *testing.T) {
	t.Parallel()
	drivers := testhouse.Need(integrity.ParseDrivers([]string{"csi.example=imageRef"}))(t)
	r := start(t, testhouse.Options{}, service.Options{Server: server.Options{Drivers: drivers}}, policy("prod", ""))
	tag, pinned := r.Signed("v", r.Signer)
	_, stranger := r.Signed("evil", r.Stranger)
	_, digest, _ := strings.Cut(pinned, "@")
	for _, tt := range []struct {
		name, driver string
		attributes   map[string]string
		denied       string // what the message says; "" = it is admitted
	}{
		{"trusted", "container-image.csi.k8s.io", map[string]string{"image": pinned}, ""},
		{"not trusted", "container-image.csi.k8s.io", map[string]string{"image": stranger, "pullAlways": "true"}, `image volume "code" (CSI driver container-image.csi.k8s.io): image ` + stranger},
		{"by the older name", "csi-image.warm-metal.tech", map[string]string{"image": stranger}, "csi-image.warm-metal.tech"},
		{"the retired populator", "image.csi.k8s.io", map[string]string{"image": stranger}, "image.csi.k8s.io"},
		{"listed, trusted", "csi.example", map[string]string{"imageRef": pinned, "image": stranger}, ""},
		{"listed, not trusted", "csi.example", map[string]string{"imageRef": stranger, "image": pinned}, "CSI driver csi.example"},
		{"no image is named", "container-image.csi.k8s.io", map[string]string{"Image": pinned}, "CSI driver container-image.csi.k8s.io"},
		{"no attributes", "csi.example", nil, "CSI driver csi.example"},
		{"mounts no images", "secrets-store.csi.k8s.io", map[string]string{"image": stranger}, ""},
	} {
		a := r.review(server.PathValidate, mounting(t, pinned, tt.driver, tt.attributes))
		if a.Allowed != (tt.denied == "") || !a.Allowed && !strings.Contains(a.Result.Message, tt.denied) {
			t.Errorf("%s: %+v", tt.name, a.Result)
		}
	}
	for driver, attribute := range map[string]string{"container-image.csi.k8s.io": "image", "csi.example": "imageRef"} {
		patch := string(r.review(server.PathPin, mounting(t, pinned, driver, map[string]string{attribute: tag})).Patch)
		if want := `{"op":"replace","path":"/spec/volumes/0/csi/volumeAttributes/` + attribute + `","value":"` + tag + "@" + digest + `"}`; !strings.Contains(patch, want) {
			t.Errorf("%s: %s is not in %s", driver, want, patch)
		}
	}
}
