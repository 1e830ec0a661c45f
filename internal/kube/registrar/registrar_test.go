package registrar

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/boltseal/boltseal/internal/admission"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

func testWebhooks() Webhooks {
	return Webhooks{Namespace: "boltseal-system", Service: "boltseal", Port: 6001, PinPath: "/admission/mutate", ValidatePath: "/admission/validate", Exempt: []string{"lab", "kube-system"},
		AdvisePath: "/admission/advise", Advised: []schema.GroupVersionKind{{Group: "config.ratify.deislabs.io", Version: "v1beta1", Kind: "Store"},
			{Group: "boltseal.dev", Version: "v1alpha1", Kind: "ImageIntegrityPolicy"}, {Group: "config.ratify.deislabs.io", Version: "v1beta1", Kind: "Policy"}}}
}

// TestRulesFitWhatIsRead holds the rules against the kinds that are read: each is asked about, and no other.
func TestRulesFitWhatIsRead(t *testing.T) {
	t.Parallel()
	kinds := map[string]string{"pods": "Pod", "podtemplates": "PodTemplate", "replicationcontrollers": "ReplicationController", "daemonsets": "DaemonSet",
		"deployments": "Deployment", "replicasets": "ReplicaSet", "statefulsets": "StatefulSet", "cronjobs": "CronJob", "jobs": "Job"}
	var asked []string
	for _, r := range testWebhooks().Validating(nil).Webhooks[0].Rules {
		for _, resource := range r.Resources {
			if resource == "pods/ephemeralcontainers" {
				continue
			}
			kind := kinds[resource]
			asked = append(asked, kind)
			review := `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","operation":"CREATE","kind":{"group":"` +
				r.APIGroups[0] + `","version":"v1","kind":"` + kind + `"},"object":{}}}`
			if q, err := (admission.Options{}).Decode([]byte(review)); err != nil || q.Unknown {
				t.Errorf("%s is asked about, and not read: %+v, %v", resource, q, err)
			}
		}
	}
	slices.Sort(asked)
	if !slices.Equal(asked, integrity.Kinds()) {
		t.Errorf("asked about %v, judged are %v", asked, integrity.Kinds())
	}
}

func TestWhatWebhooksAre(t *testing.T) {
	t.Parallel()
	w := testWebhooks()
	m, v := w.Mutating([]byte("ca")).Webhooks[0], w.Validating([]byte("ca")).Webhooks[0]
	if *m.FailurePolicy != admissionregistrationv1.Fail || *v.FailurePolicy != admissionregistrationv1.Fail || *v.TimeoutSeconds != 10 || *m.SideEffects != admissionregistrationv1.SideEffectClassNone {
		t.Errorf("%+v %+v", m, v)
	}
	want := []metav1.LabelSelectorRequirement{{Key: "kubernetes.io/metadata.name", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"boltseal-system", "kube-system", "lab"}}}
	for _, s := range []*metav1.LabelSelector{m.NamespaceSelector, v.NamespaceSelector} {
		if b, _ := json.Marshal(s.MatchExpressions); len(s.MatchLabels) > 0 || string(b) != must(t, want) {
			t.Errorf("selector %s", b)
		}
	}
	w.FailurePolicy, w.TimeoutSeconds = admissionregistrationv1.Ignore, 5
	if v := w.Validating(nil).Webhooks[0]; *v.FailurePolicy != admissionregistrationv1.Ignore || *v.TimeoutSeconds != 5 {
		t.Errorf("%+v", v)
	}
}

// TestAdviceHasNoSay: whatever the webhook is set to, nothing depends on the answer
// about Boltseal's own kinds, in whatever namespace they are.
func TestAdviceHasNoSay(t *testing.T) {
	t.Parallel()
	w := testWebhooks()
	w.FailurePolicy, w.TimeoutSeconds, w.Others = admissionregistrationv1.Fail, 30, []string{"argoproj.io/Rollout"}
	hooks := w.Validating([]byte("ca")).Webhooks
	if len(hooks) != 2 || hooks[1].Name != AdviseWebhook {
		t.Fatalf("%+v", hooks)
	}
	a := hooks[1]
	if *a.FailurePolicy != admissionregistrationv1.Ignore || *a.TimeoutSeconds != 2 || *a.SideEffects != admissionregistrationv1.SideEffectClassNone ||
		len(a.NamespaceSelector.MatchExpressions) > 0 || *a.ClientConfig.Service.Path != "/admission/advise" || string(a.ClientConfig.CABundle) != "ca" {
		t.Errorf("%+v", a)
	}
	var rules []string
	for _, r := range a.Rules {
		rules = append(rules, fmt.Sprint(r.APIGroups, r.APIVersions, r.Resources, r.Operations)+" "+string(*r.Scope))
	}
	want := []string{"[config.ratify.deislabs.io] [v1beta1] [policies stores] [CREATE UPDATE DELETE] *", "[boltseal.dev] [v1alpha1] [imageintegritypolicies] [CREATE UPDATE DELETE] *"}
	if !slices.Equal(rules, want) {
		t.Errorf("%v", rules)
	}
	if w.AdvisePath = ""; len(w.Validating(nil).Webhooks) != 1 {
		t.Error("nobody advises, and it is asked for")
	}
}

// TestAWebhookMoreTrustsWhatTheFirstDoes: where the CAs are not known, those that are
// there stay, also by the side of a webhook that was not there yet.
func TestAWebhookMoreTrustsWhatTheFirstDoes(t *testing.T) {
	t.Parallel()
	r := &Registrar{o: Options{Mode: Enforce, Webhooks: testWebhooks()}}
	old := testWebhooks()
	old.AdvisePath = ""
	v := old.Validating([]byte("theirs"))
	for range 2 {
		if err := r.enforce(t.Context(), testWebhooks(), v, nil); err != nil {
			t.Fatal(err)
		}
		if len(v.Webhooks) != 2 || string(v.Webhooks[0].ClientConfig.CABundle) != "theirs" || string(v.Webhooks[1].ClientConfig.CABundle) != "theirs" {
			t.Errorf("%+v", v.Webhooks)
		}
	}
}

func must(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Owner{"": {}, "ClusterRole/x": {"ClusterRole", "x"}, "Namespace/x": {"Namespace", "x"}} {
		if o, err := ParseOwner(text); err != nil || o != want {
			t.Errorf("%q: %v, %v", text, o, err)
		}
	}
	for _, text := range []string{"x", "Role/x", "ClusterRole/", "ClusterRole/x/y"} {
		if _, err := ParseOwner(text); err == nil {
			t.Errorf("%q is an owner", text)
		}
	}
	for _, change := range []func(*Options){
		func(o *Options) { o.Mode = "on" }, func(o *Options) { o.Webhooks.FailurePolicy = "Maybe" }, func(o *Options) { o.Webhooks.TimeoutSeconds = 31 },
		func(o *Options) { o.Webhooks.Port = 0 }, func(o *Options) { o.Webhooks.Service = "" },
	} {
		o := Options{Webhooks: testWebhooks()}
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

func newCA(t *testing.T) (*x509.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// cluster is an API server's memory with a Registrar that leads.
type cluster struct {
	client.WithWatch
	r      *Registrar
	mu     sync.Mutex
	bundle []byte
	ready  bool

	looked, watches atomic.Int64 // how often it asked for the CAs or whether it is ready, and how many watches have begun
}

func (c *cluster) set(bundle []byte, ready bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bundle, c.ready = bundle, ready
}

func newCluster(t *testing.T, change func(*Options), objects ...client.Object) *cluster {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, admissionregistrationv1.AddToScheme, rbacv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	kinds := meta.NewDefaultRESTMapper(nil)
	kinds.Add(mutatingKind, meta.RESTScopeRoot)
	kinds.Add(validatingKind, meta.RESTScopeRoot)
	kinds.Add(providerKind, meta.RESTScopeRoot)
	kinds.Add(rbacv1.SchemeGroupVersion.WithKind("ClusterRole"), meta.RESTScopeRoot)
	name := func(o client.Object) []string { return []string{o.GetName()} }
	provider := &unstructured.Unstructured{}
	provider.SetGroupVersionKind(providerKind)
	scheme.AddKnownTypeWithName(providerKind, &unstructured.Unstructured{})
	scheme.AddKnownTypeWithName(providerKind.GroupVersion().WithKind("ProviderList"), &unstructured.UnstructuredList{})
	c := &cluster{}
	c.WithWatch = fake.NewClientBuilder().WithScheme(scheme).WithRESTMapper(kinds).WithObjects(objects...).
		WithIndex(&admissionregistrationv1.MutatingWebhookConfiguration{}, "metadata.name", name).
		WithIndex(&admissionregistrationv1.ValidatingWebhookConfiguration{}, "metadata.name", name).
		WithIndex(provider, "metadata.name", name).
		WithInterceptorFuncs(interceptor.Funcs{Watch: func(ctx context.Context, api client.WithWatch, l client.ObjectList, o ...client.ListOption) (watch.Interface, error) {
			w, err := api.Watch(ctx, l, o...)
			if err == nil {
				c.watches.Add(1)
			}
			return w, err
		}}).Build()
	o := Options{Client: c, Mode: Enforce, Webhooks: testWebhooks(), Owner: Owner{"ClusterRole", "boltseal"}, Providers: []string{"ratify-provider", "elsewhere"}, Names: []string{"boltseal.boltseal-system"},
		Bundle: func() []byte { c.looked.Add(1); c.mu.Lock(); defer c.mu.Unlock(); return c.bundle }, Ready: func() bool { c.looked.Add(1); c.mu.Lock(); defer c.mu.Unlock(); return c.ready }}
	if change != nil {
		change(&o)
	}
	var err error
	if c.r, err = New(o); err != nil {
		t.Fatal(err)
	}
	c.r.Ask(o.Webhooks.Others)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.r.Run(ctx) })
	wg.Go(func() { c.r.Lead(ctx) })
	t.Cleanup(func() {
		stop()
		wg.Wait()
	})
	// This API server's watches miss what happens before they begin.
	eventually(t, "all is watched", func() bool { return c.watches.Load() >= int64(len(c.r.targets)) })
	return c
}

// settles waits until the leader has looked at everything, with what is so now.
func (c *cluster) settles(t *testing.T) {
	t.Helper()
	const each, rounds = 4, 2 // it asks at most so often for one target; the first round may have begun before
	least := c.looked.Load() + int64(each*rounds*len(c.r.targets))
	eventually(t, "the leader looks", func() bool { c.r.Poke(); return c.looked.Load() >= least })
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	testwait.Until(t, what, f)
}

func (c *cluster) validating() *admissionregistrationv1.ValidatingWebhookConfiguration {
	v := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	if c.Get(context.Background(), client.ObjectKey{Name: Name}, v) != nil {
		return nil
	}
	return v
}

func clusterRole() *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "boltseal", UID: "uid-1"}}
}

func provider(name, url string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"url": url, "caBundle": "b2xk", "timeout": int64(3)}}}
	u.SetGroupVersionKind(providerKind)
	u.SetName(name)
	return u
}

func TestNothingIsMadeTooSoon(t *testing.T) {
	t.Parallel()
	_, bundle := newCA(t)
	c := newCluster(t, nil)
	none := func(why string) {
		t.Helper()
		c.settles(t)
		if c.validating() != nil {
			t.Errorf("it is made although %s", why)
		}
	}
	none("nobody can answer")
	c.set(bundle, true)
	none("its owner is not there")
	if err := c.Create(t.Context(), clusterRole()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is made", func() bool { return c.validating() != nil })
	v := c.validating()
	if string(v.Webhooks[0].ClientConfig.CABundle) != string(bundle) || len(v.OwnerReferences) != 1 || v.OwnerReferences[0].UID != "uid-1" || v.OwnerReferences[0].APIVersion != "rbac.authorization.k8s.io/v1" {
		t.Errorf("%+v", v)
	}
}

func TestAnnounced(t *testing.T) {
	t.Parallel()
	first, one := newCA(t)
	second, two := newCA(t)
	c := newCluster(t, nil, clusterRole(), provider("ratify-provider", "https://boltseal.boltseal-system:6001/ratify/gatekeeper/v1/verify"),
		provider("elsewhere", "https://ratify.other:6001/"))
	c.set(one, true)
	c.r.Poke()
	eventually(t, "the first CA is announced", func() bool { _, ok := c.r.Announced(first); return ok })
	if _, ok := c.r.Announced(second); ok {
		t.Error("a CA is announced that nobody knows")
	}
	eventually(t, "everything is seen", func() bool {
		c.r.mu.Lock()
		defer c.r.mu.Unlock()
		n := 0
		for _, s := range c.r.seen {
			if s.trusts[string(first.Raw)] != (time.Time{}) {
				n++
			}
		}
		return n == 3
	})
	since, _ := c.r.Announced(first)
	c.set(append(slices.Clone(one), two...), true)
	c.r.Poke()
	eventually(t, "the second is, too", func() bool { _, ok := c.r.Announced(second); return ok })
	if again, ok := c.r.Announced(first); !ok || !again.Equal(since) {
		t.Errorf("the first is announced since %s, and was since %s", again, since)
	}
	u := provider("x", "")
	for name, want := range map[string]string{"ratify-provider": base64.StdEncoding.EncodeToString(append(slices.Clone(one), two...)), "elsewhere": "b2xk"} {
		if err := c.Get(t.Context(), client.ObjectKey{Name: name}, u); err != nil {
			t.Fatal(err)
		}
		if have, _, _ := unstructured.NestedString(u.Object, "spec", "caBundle"); have != want {
			t.Errorf("%s has the caBundle %.40s", name, have)
		}
	}
	// One that forgets it is enough for it not to be announced.
	v := c.validating()
	v.Webhooks = append(v.Webhooks, *v.Webhooks[0].DeepCopy())
	v.Webhooks[1].ClientConfig.CABundle = nil
	if bundle, here := c.r.bundleOf(v); !here || bundle != nil {
		t.Errorf("webhooks that disagree: %q, %t", bundle, here)
	}
}

// TestOff puts CAs into what somebody else made, and nothing more.
func TestOff(t *testing.T) {
	t.Parallel()
	_, bundle := newCA(t)
	theirs := testWebhooks().Validating(nil)
	theirs.Labels = map[string]string{"theirs": "yes"}
	ignore := admissionregistrationv1.Ignore
	theirs.Webhooks[0].FailurePolicy = &ignore
	other := *theirs.Webhooks[0].DeepCopy()
	other.Name, other.ClientConfig.Service.Name = "other.example", "other"
	theirs.Webhooks = append(theirs.Webhooks, other)
	c := newCluster(t, func(o *Options) { o.Mode = Off }, theirs)
	c.set(bundle, true)
	c.r.Poke()
	eventually(t, "it gets the CAs", func() bool { return string(c.validating().Webhooks[0].ClientConfig.CABundle) == string(bundle) })
	v := c.validating()
	if *v.Webhooks[0].FailurePolicy != ignore || v.Webhooks[2].ClientConfig.CABundle != nil || len(v.OwnerReferences) > 0 || v.Labels[managedByLabel] != "" {
		t.Errorf("more was changed: %+v", v)
	}
	m := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := c.Get(t.Context(), client.ObjectKey{Name: Name}, m); err == nil {
		t.Error("one was made")
	}
}

// TestOwnCertificates leaves caBundles alone that somebody else fills.
func TestOwnCertificates(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, clusterRole())
	c.set(nil, true)
	eventually(t, "it is made", func() bool { return c.validating() != nil })
	v := c.validating()
	v.Webhooks[0].ClientConfig.CABundle = []byte("theirs")
	v.Webhooks[0].TimeoutSeconds = pointerTo(int32(1))
	if err := c.Update(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rest is put back", func() bool { return *c.validating().Webhooks[0].TimeoutSeconds == 10 })
	if ca := string(c.validating().Webhooks[0].ClientConfig.CABundle); ca != "theirs" {
		t.Errorf("caBundle %q", ca)
	}
}
