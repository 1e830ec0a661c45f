package running

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/boltseal/boltseal/internal/admission/integrity"
)

// podOf is a running Pod; images are pairs of what it names and what runs.
func podOf(namespace, name string, images ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(namespace + "-" + name), Labels: map[string]string{"app": name}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	for i := 0; i < len(images); i += 2 {
		c := fmt.Sprint("c", i)
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: c, Image: images[i]})
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: c, Image: "as resolved", ImageID: images[i+1]})
	}
	return p
}

func TestUsesOfAPod(t *testing.T) {
	t.Parallel()
	p := podOf("ns", "p", "app:1", "app@sha256:a", "app:1", "app@sha256:a", "waiting:1", "")
	p.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "init:1"}}
	p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "init", ImageID: "init@sha256:b", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}}
	p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "debug:1"}}}
	p.Status.EphemeralContainerStatuses = []corev1.ContainerStatus{{Name: "debug", ImageID: "debug@sha256:c"}, {Name: "gone", Image: "gone:1", ImageID: "gone@sha256:d"}}
	p.Spec.Volumes = []corev1.Volume{
		{Name: "told", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "model:1"}}},
		{Name: "untold", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "model:2"}}},
		{Name: "driver's", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "container-image.csi.k8s.io", VolumeAttributes: map[string]string{"image": "model:3"}}}},
		{Name: "another's", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "csi.example", VolumeAttributes: map[string]string{"image": "model:4", "ref": "model:5"}}}},
		{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	}
	p.Status.ContainerStatuses[0].VolumeMounts = []corev1.VolumeMountStatus{{Name: "told", VolumeStatus: &corev1.VolumeStatus{Image: &corev1.ImageVolumeStatus{ImageRef: "model@sha256:e"}}}}
	want := []use{{"app:1", "app@sha256:a"}, {"debug:1", "debug@sha256:c"}, {"gone:1", "gone@sha256:d"}, {"init:1", "init@sha256:b"},
		{"model:1", "model@sha256:e"}, {"model:2", ""}, {"model:3", ""}}
	got := usesOf(p, nil)
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if again := unpackUses(packUses(got)); !slices.Equal(again, got) {
		t.Errorf("packed and unpacked: %v", again)
	}
	if all := usesOf(p, integrity.Drivers{"csi.example": "ref"}); !slices.Contains(all, use{"model:5", ""}) || slices.Contains(all, use{"model:3", ""}) {
		t.Errorf("by other drivers: %v", all)
	}
	for _, phase := range []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed} {
		p.Status.Phase = phase
		if rowOf(p, nil) != nil {
			t.Errorf("a Pod that is %s runs", phase)
		}
	}
	if rowOf(podOf("ns", "p", "app:1", ""), nil) != nil {
		t.Error("a Pod runs of which nothing has started")
	}
}

func TestInventoryTellsOfWhatCounts(t *testing.T) {
	t.Parallel()
	v, told := NewInventory(nil), 0
	v.changed = func() { told++ }
	s := podStore{v: v}
	step := func(what string, want int, err error) {
		t.Helper()
		if err != nil || told != want {
			t.Errorf("%s: told %d times, want %d, %v", what, told, want, err)
		}
	}
	p := podOf("ns", "p", "app:1", "app@sha256:a")
	step("a Pod", 1, s.Add(p))
	p = p.DeepCopy()
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady}}
	step("its health", 1, s.Update(p))
	p = p.DeepCopy()
	p.Labels["tier"] = "web"
	step("its labels", 2, s.Update(p))
	p = p.DeepCopy()
	p.Status.ContainerStatuses[0].ImageID = "app@sha256:b"
	step("its image", 3, s.Update(p))
	step("another one that waits", 3, s.Add(podOf("ns", "q", "app:1", "")))
	slimmed, err := s.Transformer()(p)
	step("the same, slim", 3, err)
	step("the same, slim", 3, s.Update(slimmed))
	step("its end", 4, s.Delete(p))
	step("all Pods anew", 5, s.Replace([]any{slimmed, podOf("ns", "q", "app:1", "app@sha256:a"), podOf("ns", "r", "app:1", "")}, "1"))
	if v.Pods() != 2 {
		t.Errorf("%d Pods", v.Pods())
	}
	n := namespaceStore{v: v}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", Labels: map[string]string{"a": "b"}}}
	step("a namespace", 6, n.Add(ns))
	step("the same", 6, n.Update(ns))
	step("its end", 7, n.Delete(ns))
	step("all namespaces anew", 8, n.Replace([]any{ns}, "1"))
	if s.Add("no Pod") == nil || n.Add("no namespace") == nil {
		t.Error("anything is taken in")
	}
}

// TestTenThousandPodsAreCheap holds what is kept of a Pod against a bound.
func TestTenThousandPodsAreCheap(t *testing.T) {
	const pods, most = 10_000, 600
	used := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	v := NewInventory(nil)
	before := used()
	for i := range pods {
		image := fmt.Sprintf("registry.example/team%02d/app%04d", i%50, i%2000)
		p := podOf(fmt.Sprintf("namespace-%03d", i%100), fmt.Sprintf("app-%04d-7d9c6b5f4-%05d", i%2000, i), image+":v1.2.3", image+"@sha256:"+hexA)
		p.Labels = map[string]string{"app.kubernetes.io/name": fmt.Sprintf("app-%04d", i%2000), "app.kubernetes.io/part-of": "team", "pod-template-hash": fmt.Sprintf("%08d", i%2000)}
		if err := (podStore{v: v}).Add(p); err != nil {
			t.Fatal(err)
		}
	}
	each := (used() - before) / pods
	t.Logf("%d bytes are kept of a Pod", each)
	if each > most {
		t.Errorf("%d bytes are kept of a Pod, at most %d are meant to be", each, most)
	}
	runtime.KeepAlive(v)
}
