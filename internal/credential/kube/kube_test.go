package kube_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/credential/kube"
	keyskube "github.com/boltseal/boltseal/internal/keys/kube"
	"github.com/boltseal/boltseal/oci"
)

// house is a cluster's objects; a real API server is asked in e2e/registries.
type house struct {
	client.WithWatch
	reads atomic.Int64
	fault atomic.Pointer[error] // of reading, nil = none
	now   atomic.Int64          // seconds
}

func newHouse(t *testing.T, objects ...client.Object) *house {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	h := &house{}
	var own []client.Object // the fake writes into what it is given, and tests share theirs
	for _, o := range objects {
		own = append(own, o.DeepCopyObject().(client.Object))
	}
	h.WithWatch = fake.NewClientBuilder().WithScheme(scheme).WithObjects(own...).
		WithInterceptorFuncs(interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, k client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			h.reads.Add(1)
			if f := h.fault.Load(); f != nil {
				return *f
			}
			return c.Get(ctx, k, o, opts...)
		}}).Build()
	return h
}

func (h *house) source(t *testing.T, o kube.Options) *kube.Source {
	t.Helper()
	o.Objects = keyskube.Objects{Client: h}
	o.Clock = func() time.Time { return time.Unix(h.now.Load(), 0) }
	s, err := kube.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func auths(user string, servers ...string) string {
	var entries []string
	for _, s := range servers {
		entries = append(entries, fmt.Sprintf("%q: {\"auth\": %q}", s, base64.StdEncoding.EncodeToString([]byte(user+":secret-of-"+user))))
	}
	return "{" + strings.Join(entries, ", ") + "}"
}

func secret(namespace, name, key, text string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: map[string][]byte{key: []byte(text)}}
}

func pull(namespace, name, user string, servers ...string) *corev1.Secret {
	return secret(namespace, name, corev1.DockerConfigJsonKey, `{"auths": `+auths(user, servers...)+`}`)
}

func account(namespace, name string, secrets ...string) *corev1.ServiceAccount {
	a := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	for _, s := range secrets {
		a.ImagePullSecrets = append(a.ImagePullSecrets, corev1.LocalObjectReference{Name: s})
	}
	return a
}

// TestWhoGetsWhat: whose credential a registry gets, and what ends the question.
func TestWhoGetsWhat(t *testing.T) {
	t.Parallel()
	objects := []client.Object{
		pull("own", "a", "alice", "r.example", "r.example/deep/er", "https://index.docker.io/v1/"),
		pull("own", "b", "bob", "r.example", "s.example"), pull("team", "t", "tim", "r.example"),
		secret("own", "old", corev1.DockerConfigKey, auths("olga", "https://o.example/v1/")),
		secret("own", "opaque", "password", "x"), secret("own", "torn", corev1.DockerConfigJsonKey, `{"auths": {"r.example": `),
		secret("own", "helper", corev1.DockerConfigJsonKey, `{"credHelpers": {"r.example": "evil"}}`),
		secret("own", "store", corev1.DockerConfigJsonKey, `{"credsStore": "evil", "auths": {}}`),
		secret("own", "wrong", corev1.DockerConfigJsonKey, `{"auths": {"r.example": {"auth": "?secret-of"}}}`),
		account("own", "default", "b"), account("own", "puller", "a", "old"), account("own", "missing", "nowhere"), account("team", "default", "t"),
	}
	named := func(names ...string) kube.Options {
		o := kube.Options{Own: "own"}
		for _, n := range names {
			namespace, name, ok := strings.Cut(n, "/")
			if !ok {
				namespace, name = "", n
			}
			o.Secrets = append(o.Secrets, kube.Secret{Name: name, Namespace: namespace})
		}
		return o
	}
	of := func(account string, o kube.Options) kube.Options { o.ServiceAccount = account; return o }
	in := func(namespace string, o kube.Options) kube.Options { o.Namespace = namespace; return o }
	for name, c := range map[string]struct {
		o    kube.Options
		host string
		want string // the user
		err  error
		says string
	}{
		"named":                          {named("a"), "r.example", "alice", nil, ""},
		"the first counts":               {named("b", "a"), "r.example", "bob", nil, ""},
		"the next where it has none":     {named("b", "a"), "docker.io", "alice", nil, ""},
		"none has it":                    {named("a", "b"), "x.example", "", nil, ""},
		"a lookalike":                    {named("a"), "r.example.evil.example", "", nil, ""},
		"a lookalike in front":           {named("a"), "evilr.example", "", nil, ""},
		"another namespace":              {named("team/t"), "r.example", "tim", nil, ""},
		"a namespace's own":              {in("team", named("t")), "r.example", "tim", nil, ""},
		"a namespace has no other's":     {in("team", named("a")), "r.example", "", boltseal.ErrNotFound, "Secret team/a"},
		"the older type":                 {named("old"), "o.example", "olga", nil, ""},
		"the default account":            {named(), "s.example", "bob", nil, ""},
		"a namespace's default account":  {in("team", named()), "r.example", "tim", nil, ""},
		"named, so no default account":   {named("a"), "s.example", "", nil, ""},
		"an account":                     {of("puller", named()), "o.example", "olga", nil, ""},
		"an account after what is named": {of("puller", named("b")), "r.example", "bob", nil, ""},
		"no such account":                {of("nobody", named()), "r.example", "", boltseal.ErrNotFound, "ServiceAccount own/nobody"},
		"an account's Secret is missing": {of("missing", named()), "r.example", "", boltseal.ErrNotFound, "Secret own/nowhere"},
		"missing":                        {named("nowhere", "a"), "r.example", "", boltseal.ErrNotFound, "Secret own/nowhere"},
		"missing, after it":              {named("a", "nowhere"), "r.example", "alice", nil, ""},
		"of another type":                {named("opaque"), "r.example", "", boltseal.ErrMalformed, "it has neither .dockerconfigjson nor .dockercfg"},
		"torn":                           {named("torn"), "r.example", "", boltseal.ErrMalformed, "is not JSON"},
		"a helper":                       {named("helper"), "r.example", "", boltseal.ErrMalformed, "would run a program"},
		"a store of helpers":             {named("store"), "r.example", "", boltseal.ErrMalformed, "would run a program"},
		"a broken entry":                 {named("wrong"), "r.example", "", boltseal.ErrMalformed, "its auth is not base64"},
		"a broken entry of another host": {named("wrong", "b"), "s.example", "bob", nil, ""},
		"no namespace is known":          {kube.Options{Secrets: []kube.Secret{{Name: "a"}}}, "r.example", "", boltseal.ErrConfiguration, "its namespace is not known: name it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := newHouse(t, objects...).source(t, c.o).Credential(t.Context(), c.host, "app")
			if got.Username != c.want || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Fatalf("%q, %v", got.Username, err)
			}
			if err != nil && (!strings.HasPrefix(err.Error(), "k8Secrets: "+c.host+": ") || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret-of")) {
				t.Error(err)
			}
		})
	}
	o := named("a")
	o.Objects = nil
	s, err := kube.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Credential(t.Context(), "r.example", "app"); !errors.Is(err, boltseal.ErrConfiguration) || !strings.Contains(err.Error(), "there is no cluster") {
		t.Error(err)
	}
}

// TestKept: one reading serves for a while, an edit counts when it is over or when the
// credential is refused, and a fault is not kept for long.
func TestKept(t *testing.T) {
	t.Parallel()
	h := newHouse(t, pull("own", "a", "alice", "r.example"))
	s := h.source(t, kube.Options{Own: "own", Secrets: []kube.Secret{{Name: "a"}}})
	user := func() string {
		t.Helper()
		c, err := s.Credential(t.Context(), "r.example", "app")
		if err != nil {
			t.Fatal(err)
		}
		return c.Username
	}
	edit := func(to string) {
		t.Helper()
		if err := h.Update(t.Context(), pull("own", "a", to, "r.example")); err != nil {
			t.Fatal(err)
		}
	}
	old, err := s.Credential(t.Context(), "r.example", "app")
	if err != nil {
		t.Fatal(err)
	}
	edit("bob")
	if user() != "alice" || h.reads.Load() != 1 {
		t.Errorf("%d readings", h.reads.Load())
	}
	s.Invalidate("r.example", "app", oci.Credential{Username: "somebody"})
	if user() != "alice" {
		t.Error("dropped for another's credential")
	}
	s.Invalidate("r.example", "app", old)
	if user() != "bob" {
		t.Error("kept although refused")
	}
	edit("carol")
	h.now.Add(int64(kube.KeepFor / time.Second))
	if user() != "carol" {
		t.Error("kept for ever")
	}
	var fault error = apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "a", errors.New("no rights"))
	h.fault.Store(&fault)
	h.now.Add(int64(kube.KeepFor / time.Second))
	if _, err := s.Credential(t.Context(), "r.example", "app"); !errors.Is(err, boltseal.ErrUnauthorized) || !strings.Contains(err.Error(), "give Boltseal's ServiceAccount") {
		t.Error(err)
	}
	h.fault.Store(nil)
	h.now.Add(5)
	if user() != "carol" {
		t.Error("the fault is kept")
	}
}

// TestReadsARegistry: with a Secret's password, and after it was changed at both ends,
// but not with the wrong one.
func TestReadsARegistry(t *testing.T) {
	t.Parallel()
	mem := ocimem.New()
	config, err := mem.PushBlob(t.Context(), "app", ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromString("{}"), Size: 2}, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	manifest := fmt.Sprintf(`{"schemaVersion": 2, "mediaType": %q, "config": {"mediaType": %q, "digest": %q, "size": 2}, "layers": []}`, ocispec.MediaTypeImageManifest, config.MediaType, config.Digest)
	desc, err := mem.PushManifest(t.Context(), "app", "", []byte(manifest), ocispec.MediaTypeImageManifest)
	if err != nil {
		t.Fatal(err)
	}
	var allowed atomic.Value
	allowed.Store("alice")
	next := ociserver.New(mem, nil)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != allowed.Load() || password != "secret-of-"+user {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "http://")
	ref := boltseal.Reference{Registry: host, Repository: "app", Digest: desc.Digest}
	resolve := func(s oci.CredentialSource) error {
		r, err := oci.NewRegistry(oci.Options{Credentials: s})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		_, err = r.Resolve(t.Context(), ref)
		return err
	}
	h := newHouse(t, pull("own", "a", "alice", host), pull("own", "stranger", "mallory", host))
	s := h.source(t, kube.Options{Own: "own", Secrets: []kube.Secret{{Name: "a"}}})
	if err := resolve(s); err != nil {
		t.Error(err)
	}
	if err := resolve(h.source(t, kube.Options{Own: "own", Secrets: []kube.Secret{{Name: "stranger"}}})); !errors.Is(err, boltseal.ErrUnauthorized) || strings.Contains(err.Error(), "secret-of") {
		t.Errorf("another's: %v", err)
	}
	if err := h.Update(t.Context(), pull("own", "a", "bob", host)); err != nil {
		t.Fatal(err)
	}
	allowed.Store("bob")
	if err := resolve(s); err != nil {
		t.Errorf("after the password was changed: %v", err)
	}
}
