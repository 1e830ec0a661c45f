package agent

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/agent/addon"
	"github.com/boltseal/boltseal/internal/governance/agent/keep"
)

const manifests = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: addon, namespace: "${NAMESPACE}"}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.dev}
spec:
  group: example.dev
  scope: Cluster
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  versions:
    - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: addon}
rules: []
---
apiVersion: v1
kind: Service
metadata: {name: addon, namespace: "${NAMESPACE}"}
spec: {ports: [{port: 443}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: addon, namespace: "${NAMESPACE}"}
data: {version: "${VERSION}"}
`

const onlyOld = `
---
apiVersion: v1
kind: ConfigMap
metadata: {name: addon-old, namespace: "${NAMESPACE}"}
`

const onlyNew = `
---
apiVersion: v1
kind: ConfigMap
metadata: {name: addon-new, namespace: "${NAMESPACE}"}
`

var widgets = schema.GroupVersionResource{Group: "example.dev", Version: "v1", Resource: "widgets"}

func set(t *testing.T, version, more string) addon.Set {
	t.Helper()
	s, err := addon.Parse([]byte(manifests+more), version, map[string]string{"NAMESPACE": namespace, "VERSION": version})
	if err != nil {
		t.Fatal(err)
	}
	s.Configuration = []schema.GroupVersionResource{widgets}
	return s
}

// cut breaks the way to a cluster for good after some writes, each of which reaches the cluster.
type cut struct {
	next http.RoundTripper
	left *atomic.Int64
}

func (c cut) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.left.Load() < 0 {
		return nil, errShut
	}
	resp, err := c.next.RoundTrip(r)
	if r.Method != http.MethodGet && c.left.Add(-1) < 0 && err == nil {
		_ = resp.Body.Close()
		return nil, errShut
	}
	return resp, err
}

// installer makes an Installer whose connection is cut after some writes; as if its process had ended there.
func installer(t *testing.T, s addon.Set, writes int64) *addon.Installer {
	t.Helper()
	left := &atomic.Int64{}
	left.Store(writes)
	config := member.Config()
	config.Wrap(func(rt http.RoundTripper) http.RoundTripper { return cut{rt, left} })
	d, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	core, err := typedcorev1.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return addon.New(addon.Options{Dynamic: d, Set: s, Inventory: &keep.Keeper{ConfigMaps: core.ConfigMaps(namespace), Name: "addon-inventory", Of: "x"}})
}

const uncut = 1 << 40

// objects are all that tests of the add-on may find, and what of it is there.
func objects(t *testing.T) string {
	t.Helper()
	var there []string
	for _, o := range []struct{ api, kind, name string }{{"v1", "ServiceAccount", "addon"}, {"v1", "Service", "addon"}, {"v1", "ConfigMap", "addon"},
		{"v1", "ConfigMap", "addon-old"}, {"v1", "ConfigMap", "addon-new"}, {"v1", "ConfigMap", "users"}, {"v1", "ConfigMap", "addon-inventory"},
		{"rbac.authorization.k8s.io/v1", "ClusterRole", "addon"}, {"apiextensions.k8s.io/v1", "CustomResourceDefinition", "widgets.example.dev"}, {"example.dev/v1", "Widget", "mine"}} {
		u := &unstructured.Unstructured{}
		u.SetAPIVersion(o.api)
		u.SetKind(o.kind)
		u.SetName(o.name)
		if o.api == "v1" {
			u.SetNamespace(namespace)
		}
		d, err := dynamic.NewForConfig(member.Config())
		if err != nil {
			t.Fatal(err)
		}
		resource := map[string]string{"ServiceAccount": "serviceaccounts", "Service": "services", "ConfigMap": "configmaps", "ClusterRole": "clusterroles",
			"CustomResourceDefinition": "customresourcedefinitions", "Widget": "widgets"}[o.kind]
		var r dynamic.ResourceInterface = d.Resource(u.GroupVersionKind().GroupVersion().WithResource(resource))
		if o.api == "v1" {
			r = d.Resource(u.GroupVersionKind().GroupVersion().WithResource(resource)).Namespace(namespace)
		}
		live, err := r.Get(t.Context(), o.name, metav1.GetOptions{})
		switch {
		case err == nil && live.GetDeletionTimestamp() == nil:
			s := o.kind + "/" + o.name
			if v, _, _ := unstructured.NestedString(live.Object, "data", "version"); v != "" {
				s += "=" + v
			}
			there = append(there, s)
		case err != nil && !apierrors.IsNotFound(err):
			t.Fatal(err)
		}
	}
	slices.Sort(there)
	return strings.Join(there, " ")
}

func on(enabled, purge bool) v1alpha1.BundleAddOn {
	return v1alpha1.BundleAddOn{Enabled: &enabled, Purge: purge}
}

// TestAddOnSurvivesBeingCutOff runs a life of the add-on again and again, cut off after one more write each time.
func TestAddOnSurvivesBeingCutOff(t *testing.T) {
	one, two := set(t, "1", onlyOld), set(t, "2", onlyNew)
	create(t, inMember, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "users"}})
	const (
		base    = "ClusterRole/addon ConfigMap/addon=%s ConfigMap/addon-inventory ConfigMap/addon-%s ConfigMap/users CustomResourceDefinition/widgets.example.dev Service/addon ServiceAccount/addon"
		left    = "ConfigMap/addon-inventory ConfigMap/users CustomResourceDefinition/widgets.example.dev"
		nothing = "ConfigMap/users"
	)
	widget := func() {
		t.Helper()
		eventually(t, "a widget", func() error {
			return member.Apply(t.Context(), "{apiVersion: example.dev/v1, kind: Widget, metadata: {name: mine}}")
		})
	}
	steps := []struct {
		what   string
		set    addon.Set
		want   v1alpha1.BundleAddOn
		state  v1alpha1.AddOnState
		result string
		then   func()
	}{
		{"install", one, on(true, false), v1alpha1.AddOnInstalled, fmt.Sprintf(base, "1", "old"), widget},
		{"again", one, on(true, false), v1alpha1.AddOnInstalled, fmt.Sprintf(base, "1", "old") + " Widget/mine", nil},
		{"upgrade", two, on(true, false), v1alpha1.AddOnInstalled, fmt.Sprintf(base, "2", "new") + " Widget/mine", nil},
		{"disable", two, on(false, false), v1alpha1.AddOnAbsent, left + " Widget/mine", nil},
		{"enable", two, on(true, false), v1alpha1.AddOnInstalled, fmt.Sprintf(base, "2", "new") + " Widget/mine", nil},
		{"disable and purge", two, on(false, true), v1alpha1.AddOnAbsent, nothing, nil},
		{"nothing said", two, v1alpha1.BundleAddOn{}, v1alpha1.AddOnAbsent, nothing, nil},
	}
	for writes, cuts := int64(0), true; cuts; writes++ {
		cuts = false
		for _, s := range steps {
			if err := installer(t, s.set, writes).Reconcile(t.Context(), s.want); err != nil {
				cuts = true
			}
			in := installer(t, s.set, uncut)
			eventually(t, s.what, func() error { return in.Reconcile(t.Context(), s.want) })
			if r := in.Report(); r.State != s.state {
				t.Errorf("%s, cut off after %d writes: %+v", s.what, writes, r)
			}
			eventually(t, fmt.Sprintf("%s, cut off after %d writes", s.what, writes), func() error {
				want := strings.Fields(s.result)
				slices.Sort(want)
				if got := objects(t); got != strings.Join(want, " ") {
					return fmt.Errorf("there is %s\nwant %s", got, want)
				}
				return nil
			})
			if s.then != nil {
				s.then()
			}
		}
	}
}

// TestAddOnOfSomebodyElse finds what an administrator installed.
func TestAddOnOfSomebodyElse(t *testing.T) {
	s := set(t, "1", "")
	create(t, inMember, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "addon"}})
	before := objects(t)
	for _, want := range []v1alpha1.BundleAddOn{on(true, false), on(false, false), on(false, true), {}} {
		in := installer(t, s, uncut)
		if err := in.Reconcile(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		if r := in.Report(); r.State != v1alpha1.AddOnInstalled || r.InstalledBy != addon.ByOther || r.Message == "" {
			t.Errorf("%+v", r)
		}
		if got := objects(t); got != before {
			t.Errorf("there is %s, before %s", got, before)
		}
	}
}

// TestAddOnThatCannotBeInstalled finds one object in its place once it has begun, and goes on when that is gone.
func TestAddOnThatCannotBeInstalled(t *testing.T) {
	s := set(t, "1", "")
	if err := installer(t, s, 2).Reconcile(t.Context(), on(true, false)); err == nil {
		t.Fatal("it was not cut off")
	}
	theirs := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "addon"}, Data: map[string]string{"whose": "theirs"}}
	create(t, inMember, theirs)
	in := installer(t, s, uncut)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); in.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	want := on(true, false)
	want.Attempt = 3
	in.Want(want)
	eventually(t, "it fails", func() error {
		if r := in.Report(); r.State != v1alpha1.AddOnFailed || r.Attempt != 3 || !strings.Contains(r.Message, "ConfigMap "+namespace+"/addon was made by somebody else") {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	if got := objects(t); !strings.Contains(got, "ConfigMap/addon ") {
		t.Errorf("theirs is gone: %s", got)
	}
	if err := inMember.Delete(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	want.Attempt = 4
	in.Want(want)
	begun := time.Now()
	eventually(t, "it is tried again at once", func() error {
		if r := in.Report(); r.State != v1alpha1.AddOnInstalled || r.Attempt != 4 || r.InstalledBy != addon.ByAssignment {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	t.Logf("after %s", time.Since(begun))
	in.Want(on(false, true))
	eventually(t, "it is purged", func() error {
		if r := in.Report(); r.State != v1alpha1.AddOnAbsent {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
}
