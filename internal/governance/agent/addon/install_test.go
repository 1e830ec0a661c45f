package addon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/agent/keep"
)

const manifests = `apiVersion: v1
kind: Namespace
metadata: {name: boltseal-system}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: stores.config.ratify.deislabs.io}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: boltseal, namespace: boltseal-system}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: boltseal, namespace: boltseal-system}
`

// cluster is client-go's in-memory API, made to do what an API server does with an apply: it fills in identities, who wrote,
// and that a definition is served. A write can be made to fail.
type cluster struct {
	client *dynamicfake.FakeDynamicClient
	keeper *keep.Keeper
	writes []string // in order
	fail   func(what string) error
	made   int
}

func newCluster(t *testing.T, objects ...runtime.Object) *cluster {
	t.Helper()
	lists := map[schema.GroupVersionResource]string{}
	for _, gvr := range Configuration() {
		lists[gvr] = gvr.Resource + "List"
	}
	c := &cluster{client: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), lists, objects...), fail: func(string) error { return nil }}
	c.keeper = &keep.Keeper{ConfigMaps: kubefake.NewClientset().CoreV1().ConfigMaps("boltseal-system"), Name: "inventory", Of: "add-on"}
	c.client.PrependReactor("patch", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		p := a.(clienttesting.PatchAction)
		u := &unstructured.Unstructured{}
		if err := json.Unmarshal(p.GetPatch(), &u.Object); err != nil || p.GetPatchType() != types.ApplyPatchType {
			return true, nil, fmt.Errorf("no apply: %v", err)
		}
		if err := c.write("apply", u.GetKind(), u.GetName()); err != nil {
			return true, nil, err
		}
		u.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: FieldManager, Operation: metav1.ManagedFieldsOperationApply}})
		if u.GetKind() == "CustomResourceDefinition" {
			setCondition(u, "Established")
		}
		gvr := p.GetResource()
		if live, err := c.client.Tracker().Get(gvr, p.GetNamespace(), p.GetName()); err == nil {
			u.SetUID(live.(*unstructured.Unstructured).GetUID())
			return true, u, c.client.Tracker().Update(gvr, u, p.GetNamespace())
		}
		c.made++
		u.SetUID(types.UID(fmt.Sprint("made-", c.made)))
		return true, u, c.client.Tracker().Create(gvr, u, p.GetNamespace())
	})
	c.client.PrependReactor("delete", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		d := a.(clienttesting.DeleteAction)
		err := c.write("delete", a.GetResource().Resource, d.GetName())
		return err != nil, nil, err
	})
	return c
}

func (c *cluster) write(verb, kind, name string) error {
	what := verb + " " + kind + " " + name
	c.writes = append(c.writes, what)
	return c.fail(what)
}

func setCondition(u *unstructured.Unstructured, typ string) {
	u.Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": typ, "status": "True"}}}
}

// available makes a Deployment of the add-on run.
func (c *cluster) available(t *testing.T) {
	t.Helper()
	deployments := schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	u, err := c.client.Resource(deployments).Namespace("boltseal-system").Get(t.Context(), "boltseal", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	setCondition(u, "Available")
	if err := c.client.Tracker().Update(deployments, u, "boltseal-system"); err != nil {
		t.Fatal(err)
	}
	c.client.PrependReactor("patch", "deployments", func(clienttesting.Action) (bool, runtime.Object, error) { return true, u, nil })
}

// installer is one process of an agent's.
func (c *cluster) installer(t *testing.T, version, text string) *Installer {
	t.Helper()
	set, err := Parse([]byte(text), version, nil)
	if err != nil {
		t.Fatal(err)
	}
	return New(Options{Dynamic: c.client, Set: set, Inventory: c.keeper})
}

func (c *cluster) exists(t *testing.T, kind, namespace, name string) bool {
	t.Helper()
	version := map[string]string{"Deployment": "apps/v1", "CustomResourceDefinition": "apiextensions.k8s.io/v1", "Store": "config.ratify.deislabs.io/v1beta1"}[kind]
	if version == "" {
		version = "v1"
	}
	i := item{version, kind, namespace, name}
	_, err := c.client.Tracker().Get(i.gvr(), namespace, name)
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	return err == nil
}

func wanted(enabled bool) v1alpha1.BundleAddOn { return v1alpha1.BundleAddOn{Enabled: &enabled} }

// installed brings a cluster to an installed add-on.
func installed(t *testing.T) *cluster {
	t.Helper()
	c := newCluster(t)
	if err := c.installer(t, "1", manifests).Reconcile(t.Context(), wanted(true)); !errors.Is(err, errNotReady) {
		t.Fatalf("%v", err)
	}
	c.available(t)
	if err := c.installer(t, "1", manifests).Reconcile(t.Context(), wanted(true)); err != nil {
		t.Fatal(err)
	}
	c.writes = nil
	return c
}

// TestInstallGoesOnAfterEachWrite: cut off at any write, by a process that dies there, the next one finds what was made and
// ends with all of it; removing goes on in the same way.
func TestInstallGoesOnAfterEachWrite(t *testing.T) {
	t.Parallel()
	const objects = 4
	for stop := 1; stop <= objects; stop++ {
		c := newCluster(t)
		c.fail = func(string) error {
			if len(c.writes) == stop {
				return apierrors.NewServiceUnavailable("the agent's process ends here")
			}
			return nil
		}
		first := c.installer(t, "1", manifests)
		if err := first.Reconcile(t.Context(), wanted(true)); err == nil || errors.Is(err, errNotReady) {
			t.Fatalf("stopped at %d: %v", stop, err)
		}
		c.fail = func(string) error { return nil }
		second := c.installer(t, "1", manifests)
		if err := second.Reconcile(t.Context(), wanted(true)); !errors.Is(err, errNotReady) {
			t.Fatalf("stopped at %d: %v", stop, err)
		}
		if r := second.Report(); r.State != v1alpha1.AddOnInstalling || r.InstalledBy != ByAssignment || !strings.Contains(r.Message, "does not run yet") {
			t.Errorf("%+v", r)
		}
		// Removed by a process that is cut off, and by one that is told nothing more: what was begun is ended.
		c.writes, c.fail = nil, func(string) error {
			if len(c.writes) == 1 {
				return apierrors.NewServiceUnavailable("the agent's process ends here")
			}
			return nil
		}
		if err := c.installer(t, "1", manifests).Reconcile(t.Context(), wanted(false)); err == nil {
			t.Fatal("the first deletion failed, and nothing says so")
		}
		c.fail = func(string) error { return nil }
		third := c.installer(t, "1", manifests)
		if err := third.Reconcile(t.Context(), v1alpha1.BundleAddOn{}); err != nil {
			t.Fatal(err)
		}
		if c.exists(t, "Deployment", "boltseal-system", "boltseal") || c.exists(t, "ServiceAccount", "boltseal-system", "boltseal") {
			t.Errorf("stopped at %d: something is left: %v", stop, c.writes)
		}
		if !c.exists(t, "Namespace", "", "boltseal-system") || !c.exists(t, "CustomResourceDefinition", "", "stores.config.ratify.deislabs.io") {
			t.Error("what holds users' things was removed")
		}
		if r := third.Report(); r.State != v1alpha1.AddOnAbsent {
			t.Errorf("%+v", r)
		}
	}
}

// TestNothingIsMadeBeforeItIsNoted: where the inventory cannot be written, no object is.
func TestNothingIsMadeBeforeItIsNoted(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	kube := kubefake.NewClientset()
	kube.PrependReactor("create", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "configmaps"}, "inventory", errors.New("no"))
	})
	c.keeper.ConfigMaps = kube.CoreV1().ConfigMaps("boltseal-system")
	if err := c.installer(t, "1", manifests).Reconcile(t.Context(), wanted(true)); err == nil || len(c.writes) > 0 {
		t.Errorf("%v, %v", err, c.writes)
	}
}

// TestSomebodyElsesAddOnIsLeftAlone: installed by others it is reported as theirs, and neither written nor removed; one
// object of theirs in the way is named, and stays as it is.
func TestSomebodyElsesAddOnIsLeftAlone(t *testing.T) {
	t.Parallel()
	theirs := func(kind, version string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"apiVersion": version, "kind": kind,
			"metadata": map[string]any{"name": "boltseal", "namespace": "boltseal-system", "uid": "theirs"}}}
	}
	c := newCluster(t, theirs("Deployment", "apps/v1"))
	for _, w := range []v1alpha1.BundleAddOn{wanted(true), wanted(false), {}} {
		in := c.installer(t, "1", manifests)
		if err := in.Reconcile(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		if r := in.Report(); r.State != v1alpha1.AddOnInstalled || r.InstalledBy != ByOther || len(c.writes) > 0 {
			t.Errorf("%+v, %v", r, c.writes)
		}
	}
	// The agent's own add-on, and somebody made one of its objects again.
	c = installed(t)
	accounts := schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
	if err := c.client.Tracker().Update(accounts, theirs("ServiceAccount", "v1"), "boltseal-system"); err != nil {
		t.Fatal(err)
	}
	err := c.installer(t, "1", manifests).Reconcile(t.Context(), wanted(true))
	if err == nil || !strings.Contains(err.Error(), "ServiceAccount boltseal-system/boltseal was made by somebody else") {
		t.Errorf("%v", err)
	}
	if err := c.installer(t, "1", manifests).Reconcile(t.Context(), wanted(false)); err != nil {
		t.Fatal(err)
	}
	if !c.exists(t, "ServiceAccount", "boltseal-system", "boltseal") || c.exists(t, "Deployment", "boltseal-system", "boltseal") {
		t.Errorf("%v", c.writes)
	}
}

// TestNewVersionRemovesWhatItLacks: what an earlier version had goes, last things first, except for what holds users' things.
func TestNewVersionRemovesWhatItLacks(t *testing.T) {
	t.Parallel()
	c := installed(t)
	smaller := strings.Split(manifests, "---\n")
	in := c.installer(t, "2", smaller[0]+"---\n"+smaller[2])
	if err := in.Reconcile(t.Context(), wanted(true)); err != nil {
		t.Fatal(err)
	}
	if want := []string{"apply Namespace boltseal-system", "apply ServiceAccount boltseal", "delete deployments boltseal"}; !slices.Equal(c.writes, want) {
		t.Errorf("%v, want %v", c.writes, want)
	}
	if !c.exists(t, "CustomResourceDefinition", "", "stores.config.ratify.deislabs.io") {
		t.Error("a definition was removed, and users' resources with it")
	}
	// The definition is still known as the add-on's when it is purged.
	purge := wanted(false)
	purge.Purge = true
	if err := in.Reconcile(t.Context(), purge); err != nil {
		t.Fatal(err)
	}
	if c.exists(t, "CustomResourceDefinition", "", "stores.config.ratify.deislabs.io") || !c.exists(t, "Namespace", "", "boltseal-system") {
		t.Errorf("%v", c.writes)
	}
}

// TestPurgeRemovesConfigurationFirst: users' resources go before their definitions, and only where they are purged.
func TestPurgeRemovesConfigurationFirst(t *testing.T) {
	t.Parallel()
	c := installed(t)
	store := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "config.ratify.deislabs.io/v1beta1", "kind": "Store", "metadata": map[string]any{"name": "users"}}}
	if err := c.client.Tracker().Create(Configuration()[2], store, ""); err != nil {
		t.Fatal(err)
	}
	in := c.installer(t, "1", manifests)
	if err := in.Reconcile(t.Context(), wanted(false)); err != nil || !c.exists(t, "Store", "", "users") {
		t.Fatalf("%v, %v", err, c.writes)
	}
	purge := wanted(false)
	purge.Purge = true
	if err := in.Reconcile(t.Context(), purge); err != nil {
		t.Fatal(err)
	}
	users, definition := slices.Index(c.writes, "delete stores users"), slices.Index(c.writes, "delete customresourcedefinitions stores.config.ratify.deislabs.io")
	if users < 0 || definition < users {
		t.Errorf("%v", c.writes)
	}
}

// TestRunReportsFailures: what fails is reported with its reason, and once it works again with how far it is.
func TestRunReportsFailures(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	told := make(chan v1alpha1.AddOnReport, 64)
	set, err := Parse([]byte(manifests), "1", nil)
	if err != nil {
		t.Fatal(err)
	}
	var in *Installer
	in = New(Options{Dynamic: c.client, Set: set, Inventory: c.keeper, Changed: func() { told <- in.Report() }})
	c.fail = func(what string) error {
		if strings.HasPrefix(what, "apply ServiceAccount") {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "serviceaccounts"}, "boltseal", errors.New("no right"))
		}
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); in.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	in.Want(v1alpha1.BundleAddOn{Enabled: wanted(true).Enabled, Attempt: 7})
	for r := range told {
		if r.State == v1alpha1.AddOnFailed {
			if r.Attempt != 7 || !strings.Contains(r.Message, "no right") {
				t.Errorf("%+v", r)
			}
			return
		}
	}
}
