package kube_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/keys/kube"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testwait"
	"github.com/boltseal/boltseal/trust"
)

// house is a cluster's objects; a real API server is asked in e2e/keys.
type house struct {
	client.WithWatch
	fault atomic.Pointer[error] // of reading, nil = none
}

func newHouse(t *testing.T, objects ...client.Object) *house {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	kinds := meta.NewDefaultRESTMapper(nil)
	kinds.Add(corev1.SchemeGroupVersion.WithKind("Secret"), meta.RESTScopeNamespace)
	kinds.Add(corev1.SchemeGroupVersion.WithKind("ConfigMap"), meta.RESTScopeNamespace)
	name := func(o client.Object) []string { return []string{o.GetName()} }
	h := &house{}
	h.WithWatch = fake.NewClientBuilder().WithScheme(scheme).WithRESTMapper(kinds).WithObjects(objects...).
		WithIndex(&corev1.Secret{}, "metadata.name", name).WithIndex(&corev1.ConfigMap{}, "metadata.name", name).
		WithInterceptorFuncs(interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, k client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if f := h.fault.Load(); f != nil {
				return *f
			}
			return c.Get(ctx, k, o, opts...)
		}, Watch: func(ctx context.Context, c client.WithWatch, l client.ObjectList, opts ...client.ListOption) (watch.Interface, error) {
			w, err := c.Watch(ctx, l, opts...)
			if err != nil {
				return nil, err
			}
			return watch.Filter(w, metadataOnly), nil
		}}).Build()
	return h
}

// metadataOnly is what an API server sends to whoever watches metadata; the one in
// memory sends everything.
func metadataOnly(e watch.Event) (watch.Event, bool) {
	if o, ok := e.Object.(client.Object); ok {
		e.Object = &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion()}}
	}
	return e, true
}

func (h *house) breaks(err error) {
	if err == nil {
		h.fault.Store(nil)
		return
	}
	h.fault.Store(&err)
}

func secret(data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "signing", Name: "roots"}, Data: data}
}

func root(t *testing.T) (*testca.Chain, []byte) {
	t.Helper()
	c := testca.Test(t, testca.Options{})
	return c, c.Root().PEM()
}

func parameters(kind string, entries ...string) kube.Parameters {
	return kube.Parameters{Kind: kind, Name: "roots", Namespace: "signing", Keys: entries}
}

func (h *house) fetch(t *testing.T, p kube.Parameters) ([]keys.Group, error) {
	t.Helper()
	v, err := p.Open(keys.Env{Objects: kube.Objects{Client: h}}, "")
	if err != nil {
		t.Fatal(err)
	}
	return v.Fetch(t.Context())
}

// TestEntries: which entries are read, and what comes of each.
func TestEntries(t *testing.T) {
	t.Parallel()
	_, a := root(t)
	leaf := testca.Test(t, testca.Options{}).Leaf().PEM()
	for _, c := range []struct {
		name    string
		object  client.Object
		p       kube.Parameters
		certs   int
		problem string // of the content
		err     error  // of the group
	}{
		{"ca.crt", secret(map[string][]byte{"ca.crt": a, "tls.key": []byte("not checked")}), parameters(keys.KindSecret), 1, "", nil},
		{"ca.crt before tls.crt", secret(map[string][]byte{"ca.crt": a, "tls.crt": []byte("x")}), parameters(keys.KindSecret), 1, "", nil},
		{"tls.crt alone", secret(map[string][]byte{"tls.crt": a}), parameters(keys.KindSecret), 1, "", nil},
		{"nothing that is known", secret(map[string][]byte{"other": a}), parameters(keys.KindSecret), 0, "name the entries under keys", nil},
		{"named", secret(map[string][]byte{"other": a}), parameters(keys.KindSecret, "other"), 1, "", nil},
		{"named and not there", secret(map[string][]byte{"other": a}), parameters(keys.KindSecret, "other", "more"), 1, "more: there is no such entry", nil},
		{"a leaf", secret(map[string][]byte{"ca.crt": leaf}), parameters(keys.KindSecret), 0, "it contains no certificate of a CA and none that is self-signed", nil},
		{"garbage", secret(map[string][]byte{"ca.crt": []byte("x")}), parameters(keys.KindSecret), 0, "", boltseal.ErrMalformed},
		{"empty", secret(map[string][]byte{"ca.crt": nil}), parameters(keys.KindSecret), 0, "", boltseal.ErrMalformed},
		{"cut off", secret(map[string][]byte{"ca.crt": a[:len(a)/2]}), parameters(keys.KindSecret), 0, "", boltseal.ErrMalformed},
		{"oversized", secret(map[string][]byte{"ca.crt": append(bytes.Repeat([]byte("#"), trust.MaxPEMBytes), a...)}), parameters(keys.KindSecret), 0, "", boltseal.ErrMalformed},
		{"ConfigMap, all entries", &corev1.ConfigMap{ObjectMeta: secret(nil).ObjectMeta, Data: map[string]string{"a": string(a)}, BinaryData: map[string][]byte{"b": testca.Test(t, testca.Options{}).Root().Raw}}, parameters(keys.KindConfigMap), 2, "", nil},
		{"not there", &corev1.ConfigMap{ObjectMeta: secret(nil).ObjectMeta}, parameters(keys.KindSecret), 0, "Secret signing/roots: it is not there", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g, err := newHouse(t, c.object).fetch(t, c.p)
			if err != nil {
				t.Fatal(err)
			}
			content := keys.NewContent(g)
			if n := len(content.Certificates()); n != c.certs || (c.problem == "") != (len(content.Problems()) == 0) || !strings.Contains(keys.Texts(content.Problems()), c.problem) || !errors.Is(g[0].Err, c.err) {
				t.Errorf("%d certificates, problems %q, %v", n, content.Problems(), g[0].Err)
			}
		})
	}
}

// TestFollowed: a change is in force at once, without an interval; what cannot be
// understood or read changes nothing; what is removed goes.
func TestFollowed(t *testing.T) {
	t.Parallel()
	first, a := root(t)
	second, b := root(t)
	h := newHouse(t, secret(map[string][]byte{"ca.crt": a}))
	w := keys.Want{ID: "roots", Resource: "KeyManagementProvider roots", Parameters: parameters(keys.KindSecret)}
	r := keys.NewRefresher(keys.Options{Env: keys.Env{Objects: kube.Objects{Client: h}}})
	t.Cleanup(r.Close)
	r.Use([]keys.Want{w})
	until := func(what string, ok func(keys.State) bool) keys.State {
		t.Helper()
		var st keys.State
		testwait.Until(t, what, func() bool {
			st = r.State(w)
			return ok(st)
		})
		return st
	}
	trusts := func(c *testca.Chain) func(keys.State) bool {
		return func(st keys.State) bool {
			certs := st.Content.Certificates()
			return len(certs) == 1 && certs[0].Equal(c.Root().Certificate)
		}
	}
	update := func(data []byte) {
		t.Helper()
		if err := h.Update(t.Context(), secret(map[string][]byte{"ca.crt": data})); err != nil {
			t.Fatal(err)
		}
	}
	until("the first", trusts(first))
	update(b)
	good := until("the second", trusts(second))
	update([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	if st := until("it is broken", func(st keys.State) bool { return st.Failures > 0 }); st.Content != good.Content || !errors.Is(st.Err, boltseal.ErrMalformed) || !strings.Contains(st.Trouble(), "is still used") {
		t.Errorf("%+v", st)
	}
	update(a)
	good = until("it is mended", func(st keys.State) bool { return st.Failures == 0 && trusts(first)(st) })
	h.breaks(apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "roots", errors.New("no rights")))
	update(b)
	if st := until("rights are gone", func(st keys.State) bool { return st.Failures > 0 }); st.Content != good.Content || !errors.Is(st.Err, boltseal.ErrUnauthorized) || !strings.Contains(st.Err.Error(), "get, list and watch on this object") {
		t.Errorf("%+v", st)
	}
	h.breaks(nil)
	until("rights are back", trusts(second))
	if err := h.Delete(t.Context(), secret(nil)); err != nil {
		t.Fatal(err)
	}
	if st := until("it is gone", func(st keys.State) bool { return len(st.Content.Certificates()) == 0 }); st.Err != nil || !strings.Contains(keys.Texts(st.Content.Problems()), "it is not there") {
		t.Errorf("%+v", st)
	}
	if err := h.Create(t.Context(), secret(map[string][]byte{"ca.crt": a})); err != nil {
		t.Fatal(err)
	}
	until("it is made anew", trusts(first))
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		p         kube.Parameters
		namespace string
		ok        bool
	}{
		{parameters(keys.KindSecret), "", true},
		{parameters(keys.KindSecret), "signing", true},
		{parameters(keys.KindSecret), "team", false},
		{kube.Parameters{Kind: keys.KindSecret, Name: "roots"}, "team", true},
		{kube.Parameters{Kind: keys.KindSecret, Name: "roots"}, "", false},
		{kube.Parameters{Kind: keys.KindSecret, Namespace: "signing"}, "", false},
		{kube.Parameters{Kind: keys.KindSecret, Name: "../x", Namespace: "signing"}, "", false},
		{parameters(keys.KindSecret, "a", "a"), "", false},
		{parameters(keys.KindSecret, "a/b"), "", false},
		{parameters(keys.KindSecret, make([]string, keys.MaxEntries+1)...), "", false},
	} {
		if ps := c.p.Check(c.namespace); (len(ps) == 0) != c.ok {
			t.Errorf("%+v in %q: %+v", c.p, c.namespace, ps)
		}
	}
	if _, err := parameters(keys.KindSecret).Open(keys.Env{}, ""); !errors.Is(err, boltseal.ErrConfiguration) {
		t.Errorf("without a cluster: %v", err)
	}
}
