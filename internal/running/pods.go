package running

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"unique"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/boltseal/boltseal/internal/admission/integrity"
)

// row is what is kept of a Pod: some three hundred bytes. Its labels and its images
// are shared with all Pods that have the same.
type row struct {
	uid    types.UID
	labels unique.Handle[string] // see packLabels
	images unique.Handle[string] // see packUses
	owner  unique.Handle[string] // see packOwner
	pulls  unique.Handle[string] // see packPulls
}

// rowOf takes from a Pod what is kept of it, nil where nothing in it runs.
func rowOf(p *corev1.Pod, drivers integrity.Drivers) *row {
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return nil
	}
	uses := usesOf(p, drivers)
	if len(uses) == 0 {
		return nil
	}
	return &row{uid: types.UID(strings.Clone(string(p.UID))), labels: unique.Make(packLabels(p.Labels)), images: unique.Make(packUses(uses)), owner: unique.Make(packOwner(p)), pulls: unique.Make(packPulls(&p.Spec))}
}

// usesOf lists the images that run in a Pod, each once: those of containers, init
// containers and ephemeral containers that have started, finished ones included,
// and those of image volumes, drivers' among them: of those nobody tells the digest.
func usesOf(p *corev1.Pod, drivers integrity.Drivers) []use {
	specs := map[string]string{}
	for _, c := range p.Spec.InitContainers {
		specs[c.Name] = c.Image
	}
	for _, c := range p.Spec.Containers {
		specs[c.Name] = c.Image
	}
	for _, c := range p.Spec.EphemeralContainers {
		specs[c.Name] = c.Image
	}
	var uses []use
	add := func(spec, id string) {
		u := use{truncateText(spec, maxText), truncateText(id, maxText)}
		if !slices.Contains(uses, u) {
			uses = append(uses, u)
		}
	}
	volumes := map[string]string{}
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses} {
		for i := range list {
			st := &list[i]
			for _, m := range st.VolumeMounts {
				if m.VolumeStatus != nil && m.VolumeStatus.Image != nil && m.VolumeStatus.Image.ImageRef != "" {
					volumes[m.Name] = m.VolumeStatus.Image.ImageRef
				}
			}
			if st.ImageID == "" {
				continue // nothing has run yet
			}
			spec, ok := specs[st.Name]
			if !ok {
				spec = st.Image
			}
			add(spec, st.ImageID)
		}
	}
	for _, v := range p.Spec.Volumes {
		if v.Image != nil && v.Image.Reference != "" && len(uses) > 0 {
			add(v.Image.Reference, volumes[v.Name])
		}
		if v.CSI != nil && len(uses) > 0 {
			if attribute, ok := drivers.Attribute(v.CSI.Driver); ok {
				add(v.CSI.VolumeAttributes[attribute], "")
			}
		}
	}
	slices.SortFunc(uses, func(a, b use) int {
		if c := strings.Compare(a.spec, b.spec); c != 0 {
			return c
		}
		return strings.Compare(a.id, b.id)
	})
	return uses
}

// The separators can stand in no label; an image with one in it is no reference,
// and loses it.
const (
	fieldEnd = "\x00"
	entryEnd = "\x01"
)

func packUses(uses []use) string {
	var b strings.Builder
	for _, u := range uses {
		b.WriteString(cleanText(u.spec) + fieldEnd + cleanText(u.id) + entryEnd)
	}
	return b.String()
}

func cleanText(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, fieldEnd, ""), entryEnd, "")
}

func unpackUses(s string) (uses []use) {
	for entry := range strings.SplitSeq(strings.TrimSuffix(s, entryEnd), entryEnd) {
		spec, id, _ := strings.Cut(entry, fieldEnd)
		uses = append(uses, use{spec, id})
	}
	return uses
}

// packPulls keeps what says by which Secrets a Pod's images are pulled: its
// ServiceAccount, and the Secrets that it names.
func packPulls(p *corev1.PodSpec) string {
	var b strings.Builder
	b.WriteString(cleanText(p.ServiceAccountName))
	for _, s := range p.ImagePullSecrets {
		b.WriteString(fieldEnd + cleanText(s.Name))
	}
	return b.String()
}

func unpackPulls(s string) (account string, secrets []string) {
	all := strings.Split(s, fieldEnd)
	return all[0], all[1:]
}

func packLabels(labels map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		b.WriteString(k + fieldEnd + labels[k] + entryEnd)
	}
	return b.String()
}

func unpackLabels(s string) map[string]string {
	labels := map[string]string{}
	for entry := range strings.SplitSeq(s, entryEnd) {
		if k, v, ok := strings.Cut(entry, fieldEnd); ok {
			labels[k] = v
		}
	}
	return labels
}

// Inventory is what runs in a cluster, and the labels of its namespaces. It is
// safe for concurrent use.
type Inventory struct {
	mu         sync.Mutex
	rows       map[types.NamespacedName]*row
	namespaces map[string]map[string]string
	drivers    integrity.Drivers
	changed    func() // told after each change that counts; nil = nobody
}

// NewInventory makes an Inventory that knows of nothing. drivers are the CSI drivers
// that mount images.
func NewInventory(drivers integrity.Drivers) *Inventory {
	return &Inventory{drivers: drivers, rows: map[types.NamespacedName]*row{}, namespaces: map[string]map[string]string{}}
}

// AddPod takes in a Pod as it is now.
func (v *Inventory) AddPod(p *corev1.Pod) { v.setRow(keyOf(p), rowOf(p, v.drivers)) }

// AddNamespace takes in a namespace's labels.
func (v *Inventory) AddNamespace(name string, labels map[string]string) {
	if labels == nil {
		labels = map[string]string{} // known to have none
	}
	v.mu.Lock()
	same := v.namespaces[name] != nil && maps.Equal(v.namespaces[name], labels)
	v.namespaces[name] = labels
	v.mu.Unlock()
	v.tell(!same)
}

// Pods is how many Pods are known that run.
func (v *Inventory) Pods() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.rows)
}

// Namespaces are the names of all namespaces that are known.
func (v *Inventory) Namespaces() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Sorted(maps.Keys(v.namespaces))
}

func (v *Inventory) setRow(key types.NamespacedName, r *row) {
	v.mu.Lock()
	old := v.rows[key]
	if r == nil {
		delete(v.rows, key)
	} else {
		v.rows[key] = r
	}
	v.mu.Unlock()
	v.tell(!sameRow(old, r))
}

// sameRow reports whether nothing changed that counts: most updates of Pods are
// about their health.
func sameRow(a, b *row) bool { return a == b || a != nil && b != nil && *a == *b }

func (v *Inventory) tell(changed bool) {
	if changed && v.changed != nil {
		v.changed()
	}
}

func keyOf(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// slim is a Pod on its way from the API server into the Inventory.
type slim struct {
	metav1.ObjectMeta
	row *row
}

// podStore is the Inventory's Pods as a Reflector fills them. Each method takes
// whole Pods and slim ones.
type podStore struct {
	v     *Inventory
	known func() // told when all Pods were taken in; nil = nobody
}

var _ toolscache.TransformingStore = podStore{}

// Transformer makes Pods slim as soon as they are decoded.
func (s podStore) Transformer() toolscache.TransformFunc {
	return func(o any) (any, error) {
		p, ok := o.(*corev1.Pod)
		if !ok {
			return o, nil
		}
		return &slim{metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, ResourceVersion: p.ResourceVersion}, rowOf(p, s.v.drivers)}, nil
	}
}

func (s podStore) rowIn(o any) (types.NamespacedName, *row, error) {
	switch p := o.(type) {
	case *corev1.Pod:
		return keyOf(p), rowOf(p, s.v.drivers), nil
	case *slim:
		return keyOf(p), p.row, nil
	}
	return types.NamespacedName{}, nil, fmt.Errorf("a %T is no Pod", o)
}

// Add takes in a Pod.
func (s podStore) Add(o any) error {
	key, r, err := s.rowIn(o)
	if err == nil {
		s.v.setRow(types.NamespacedName{Namespace: unique.Make(key.Namespace).Value(), Name: strings.Clone(key.Name)}, r)
	}
	return err
}

// Update takes in a Pod.
func (s podStore) Update(o any) error { return s.Add(o) }

// Delete forgets a Pod.
func (s podStore) Delete(o any) error {
	m, err := meta.Accessor(o)
	if err == nil {
		s.v.setRow(keyOf(m), nil)
	}
	return err
}

// Replace takes in all Pods there are.
func (s podStore) Replace(list []any, _ string) error {
	rows := make(map[types.NamespacedName]*row, len(list))
	for _, o := range list {
		key, r, err := s.rowIn(o)
		if err != nil {
			return err
		}
		if r != nil {
			rows[types.NamespacedName{Namespace: unique.Make(key.Namespace).Value(), Name: strings.Clone(key.Name)}] = r
		}
	}
	s.v.mu.Lock()
	s.v.rows = rows
	s.v.mu.Unlock()
	s.v.tell(true)
	if s.known != nil {
		s.known()
	}
	return nil
}

// Resync does nothing: nothing is ever out of step.
func (podStore) Resync() error { return nil }

// namespaceStore is the Inventory's namespaces as a Reflector fills them.
type namespaceStore struct {
	v     *Inventory
	known func() // told when all namespaces were taken in; nil = nobody
}

// Add takes in a namespace.
func (s namespaceStore) Add(o any) error {
	m, err := meta.Accessor(o)
	if err == nil {
		s.v.AddNamespace(m.GetName(), m.GetLabels())
	}
	return err
}

// Update takes in a namespace.
func (s namespaceStore) Update(o any) error { return s.Add(o) }

// Delete forgets a namespace.
func (s namespaceStore) Delete(o any) error {
	m, err := meta.Accessor(o)
	if err != nil {
		return err
	}
	s.v.mu.Lock()
	delete(s.v.namespaces, m.GetName())
	s.v.mu.Unlock()
	s.v.tell(true)
	return nil
}

// Replace takes in all namespaces there are.
func (s namespaceStore) Replace(list []any, _ string) error {
	all := make(map[string]map[string]string, len(list))
	for _, o := range list {
		m, err := meta.Accessor(o)
		if err != nil {
			return err
		}
		labels := m.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		all[m.GetName()] = labels
	}
	s.v.mu.Lock()
	s.v.namespaces = all
	s.v.mu.Unlock()
	s.v.tell(true)
	if s.known != nil {
		s.known()
	}
	return nil
}

// Resync does nothing: nothing is ever out of step.
func (namespaceStore) Resync() error { return nil }
