package registrar

import (
	"encoding/base64"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const verifyURL = "https://boltseal.boltseal-system.svc:6001/ratify/gatekeeper/v1/verify"

func makesOne(o *Options) {
	o.Make = []Provider{{Name: "ratify-provider", Path: "/ratify/gatekeeper/v1/verify", TimeoutSeconds: 3}}
	o.Names = []string{"boltseal.boltseal-system.svc"}
}

func (c *cluster) provider(t *testing.T, name string) *unstructured.Unstructured {
	t.Helper()
	u := provider(name, "")
	if client.IgnoreNotFound(c.Get(t.Context(), client.ObjectKey{Name: name}, u)) != nil {
		t.Fatal("the Provider cannot be read")
	}
	if u.GetUID() == "" && u.GetResourceVersion() == "" {
		return nil
	}
	return u
}

func says(u *unstructured.Unstructured, url string, timeout int64, bundle []byte) bool {
	if u == nil {
		return false
	}
	have, _, _ := unstructured.NestedMap(u.Object, "spec")
	return have["url"] == url && have["timeout"] == timeout && have["caBundle"] == base64.StdEncoding.EncodeToString(bundle)
}

func TestProviderIsMadeAndKept(t *testing.T) {
	t.Parallel()
	_, bundle := newCA(t)
	_, next := newCA(t)
	c := newCluster(t, makesOne)
	none := func(why string) {
		t.Helper()
		c.settles(t)
		if c.provider(t, "ratify-provider") != nil {
			t.Errorf("it is made although %s", why)
		}
	}
	none("nobody can answer")
	c.set(nil, true)
	none("its CA is not known")
	c.set(bundle, true)
	none("its owner is not there")
	if err := c.Create(t.Context(), clusterRole()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is made", func() bool { return says(c.provider(t, "ratify-provider"), verifyURL, 3, bundle) })
	u := c.provider(t, "ratify-provider")
	if refs := u.GetOwnerReferences(); len(refs) != 1 || refs[0].UID != "uid-1" || u.GetLabels()[managedByLabel] != managedBy {
		t.Errorf("owners %v, labels %v", refs, u.GetLabels())
	}
	if c.provider(t, "elsewhere") != nil {
		t.Error("another one was made")
	}
	c.set(next, true)
	c.r.Poke()
	eventually(t, "it gets the next CA", func() bool { return says(c.provider(t, "ratify-provider"), verifyURL, 3, next) })
	u = c.provider(t, "ratify-provider")
	_ = unstructured.SetNestedField(u.Object, "https://elsewhere.example/", "spec", "url")
	_ = unstructured.SetNestedField(u.Object, int64(30), "spec", "timeout")
	u.SetOwnerReferences(nil)
	if err := c.Update(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is put back", func() bool {
		u := c.provider(t, "ratify-provider")
		return says(u, verifyURL, 3, next) && len(u.GetOwnerReferences()) == 1
	})
}

// TestProviderOfOthers leaves alone what somebody else made under the name.
func TestProviderOfOthers(t *testing.T) {
	t.Parallel()
	_, bundle := newCA(t)
	ratify := "https://ratify.gatekeeper-system:6001/ratify/gatekeeper/v1/verify"
	c := newCluster(t, makesOne, clusterRole(), provider("ratify-provider", ratify))
	c.set(bundle, true)
	eventually(t, "the rest is made", func() bool { return c.validating() != nil })
	c.settles(t)
	u := c.provider(t, "ratify-provider")
	if !says(u, ratify, 3, []byte("old")) || len(u.GetOwnerReferences()) > 0 {
		t.Errorf("it was changed: %v", u.Object)
	}
	_ = unstructured.SetNestedField(u.Object, verifyURL, "spec", "url")
	_ = unstructured.SetNestedField(u.Object, int64(5), "spec", "timeout")
	if err := c.Update(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it gets the CA once it points here", func() bool { return says(c.provider(t, "ratify-provider"), verifyURL, 5, bundle) })
}

func TestProviderOptions(t *testing.T) {
	t.Parallel()
	for _, p := range []Provider{{}, {Name: "x", Path: "/x"}, {Name: "x", TimeoutSeconds: 1}, {Path: "/x", TimeoutSeconds: 1}} {
		if _, err := New(Options{Webhooks: testWebhooks(), Make: []Provider{p}}); err == nil {
			t.Errorf("%+v was accepted", p)
		}
	}
	r, err := New(Options{Webhooks: testWebhooks(), Providers: []string{"x", "y"}, Make: []Provider{{"x", "/x", 1}}})
	if err != nil || len(r.targets) != 4 {
		t.Errorf("%v, %v", r.targets, err)
	}
}
