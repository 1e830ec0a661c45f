package upgrade

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// eventually waits until f returns nil.
func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	await.Until(t, what, f)
}

func want(ok bool, format string, a ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, a...)
}

func podOf(namespace, image string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}}}
}

func try(ctx context.Context, ns, image string) error {
	return cluster.Client().Create(ctx, podOf(ns, image), client.DryRunAll)
}

// denied reports whether Boltseal refused a Pod for its image.
func denied(err error) error {
	return want(apierrors.IsForbidden(err) && strings.Contains(err.Error(), "nothing signed"), "not denied by Boltseal: %v", err)
}

// load creates signed and unsigned Pods without a pause until it is stopped. Whatever is not decided, or wrongly, fails
// the test.
func load(t *testing.T, ns, signed, unsigned string) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var mu sync.Mutex
	n, failed := 0, 0
	for range 2 {
		for _, image := range []string{signed, unsigned} {
			wg.Go(func() {
				for ctx.Err() == nil {
					err := try(context.WithoutCancel(ctx), ns, image)
					if image == unsigned {
						err = denied(err)
					}
					mu.Lock()
					n++
					if err != nil {
						if failed++; failed <= 3 {
							t.Errorf("%s, %s: %v", time.Now().Format(time.TimeOnly), image, err)
						}
					}
					mu.Unlock()
					time.Sleep(5 * time.Millisecond) // waits: the pace of the load
				}
			})
		}
	}
	return func() int {
		cancel()
		wg.Wait()
		if failed > 0 {
			t.Errorf("%d of %d requests were not answered as they should be", failed, n)
		}
		return n
	}
}

// refused measures for how long Pods are refused until it is called.
func refused(ns, image string) func() time.Duration {
	ctx, cancel := context.WithCancel(context.Background())
	var first, last time.Time
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := try(context.WithoutCancel(ctx), ns, image); err != nil {
				if last = time.Now(); first.IsZero() {
					first = last
				}
			}
			time.Sleep(5 * time.Millisecond) // waits: the pace of the load
		}
	}()
	return func() time.Duration {
		cancel()
		<-done
		return last.Sub(first)
	}
}

func definition(t *testing.T, name string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := cluster.Client().Get(t.Context(), client.ObjectKey{Name: name}, crd); err != nil {
		t.Fatal(err)
	}
	return crd
}

const policies = "imageintegritypolicies.boltseal.dev"

// knowsField reports whether the cluster's ImageIntegrityPolicy has the field that the old version lacks.
func knowsField(t *testing.T) bool {
	t.Helper()
	_, ok := definition(t, policies).Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Properties[oldField]
	return ok
}

func policy(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	u.SetAPIVersion("boltseal.dev/v1alpha1")
	u.SetKind("ImageIntegrityPolicy")
	if err := cluster.Client().Get(t.Context(), client.ObjectKey{Name: "demand"}, u); err != nil {
		t.Fatal(err)
	}
	return u
}

// keepsField holds that what a user wrote into the newer field is there, also after Boltseal has written a status.
func keepsField(t *testing.T, when string) {
	t.Helper()
	if v, there, _ := unstructured.NestedBool(policy(t).Object, "spec", oldField); !there || v {
		t.Errorf("%s: what was written into %s is lost", when, oldField)
	}
}

// TestLife is that of an installation.
func TestLife(t *testing.T) {
	ctx := t.Context()
	registry, err := testregistry.Start(testregistry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer registry.Close()
	signer, err := testca.New(testca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	registry.Sign("app", registry.PushImage("app", "signed", 0), signer, testca.SignOptions{})
	registry.PushImage("app", "unsigned", 1)
	signed, unsigned := registry.Ref("app", "signed"), registry.Ref("app", "unsigned")
	ns, err := cluster.Namespace(ctx, "life", nil)
	if err != nil {
		t.Fatal(err)
	}
	demand := func(spec string) {
		t.Helper()
		if err := cluster.Apply(ctx, fmt.Sprintf("apiVersion: boltseal.dev/v1alpha1\nkind: ImageIntegrityPolicy\nmetadata: {name: demand}\nspec: {match: {namespaces: [%s]}, %s}\n", ns, spec)); err != nil {
			t.Fatal(err)
		}
	}
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v; %v", what, err, node.Problems())
		}
	}

	ratify(t)
	if err := install(t, oldChart, "policies: [{name: too-soon}]"); err == nil || !strings.Contains(err.Error(), "boltseal crds apply") {
		t.Errorf("a policy before its kind is known: %v", err)
	}
	must("install", install(t, oldChart))
	runs(t, oldVersion)
	adopted(t)
	if knowsField(t) {
		t.Fatal("the old version knows the field")
	}
	must("the configuration", cluster.Apply(ctx, trusts(signer)))
	demand("enforcementAction: deny")
	eventually(t, "it denies", func() error { return denied(try(ctx, ns, unsigned)) })
	eventually(t, "it admits", func() error { return try(ctx, ns, signed) })
	provider(t)
	closed := constraint(t, unsigned)

	stop := load(t, ns, signed, unsigned)
	if err := upgrade(t, newChart, "image: {tag: broken}", "crds: {activeDeadlineSeconds: 10}"); err == nil {
		t.Error("an upgrade whose Job fails went on")
	}
	if err := node.Problems(); err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("the Job did not fail: %v", err)
	}
	node.Forgive()
	jobFailed(t)
	runs(t, oldVersion)
	must("upgrade", upgrade(t, newChart))
	runs(t, "0.1.0")
	if !knowsField(t) {
		t.Fatal("the definitions are those of before")
	}
	demand("enforcementAction: deny, resolveTags: false")
	keepsField(t, "after the upgrade")
	drained(t)
	runs(t, "0.1.0")

	must("roll back", helmRelease().Rollback(1))
	runs(t, oldVersion)
	if !knowsField(t) {
		t.Error("the definitions went back")
	}
	eventually(t, "the old version has written a status", func() error {
		g, _, _ := unstructured.NestedInt64(policy(t).Object, "status", "observedGeneration")
		return want(g == policy(t).GetGeneration(), "generation %d of %d", g, policy(t).GetGeneration())
	})
	keepsField(t, "after going back")

	// A tool that knows no rollback goes back by installing the older chart, whose Job runs.
	must("upgrade once more", upgrade(t, newChart))
	runs(t, "0.1.0")
	must("upgrade to the older chart", upgrade(t, oldChart))
	runs(t, oldVersion)
	if !knowsField(t) {
		t.Error("the definitions went back with the older chart")
	}
	keepsField(t, "with the older chart")
	must("and to the newer one", upgrade(t, newChart))
	runs(t, "0.1.0")
	t.Logf("%d Pods were judged meanwhile", stop())

	measured := refused(ns, signed)
	must("uninstall", helmRelease().Uninstall())
	for _, ns := range []string{ns, closed} {
		eventually(t, "nothing blocks a Pod", func() error { return try(ctx, ns, unsigned) })
	}
	t.Logf("while it was uninstalled, Pods were refused for %s", measured().Round(time.Millisecond))
	nothingLeft(t)
	keepsField(t, "after it was uninstalled")

	must("install again", install(t, newChart))
	runs(t, "0.1.0")
	eventually(t, "it denies again", func() error { return denied(try(ctx, ns, unsigned)) })
	must("uninstall again", helmRelease().Uninstall())
	if err := node.Problems(); err != nil {
		t.Error(err)
	}
}

// ratify makes the cluster one in which Ratify has been for long, with Gatekeeper: its Store is stored in v1alpha1 too.
func ratify(t *testing.T) {
	t.Helper()
	version := func(name string, storage bool) string {
		return fmt.Sprintf(`{name: %s, served: true, storage: %t, subresources: {status: {}}, schema: {openAPIV3Schema: {type: object, properties: {
      spec: {type: object, properties: {name: {type: string}, parameters: {type: object, x-kubernetes-preserve-unknown-fields: true}}},
      status: {type: object, properties: {issuccess: {type: boolean}, error: {type: string}, brieferror: {type: string}}}}}}}`, name, storage)
	}
	crd := func(versions ...string) string {
		return `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: stores.config.ratify.deislabs.io}
spec:
  group: config.ratify.deislabs.io
  names: {kind: Store, listKind: StoreList, plural: stores, singular: store}
  scope: Cluster
  versions: [` + strings.Join(versions, ", ") + "]\n"
	}
	store := "apiVersion: config.ratify.deislabs.io/v1alpha1\nkind: Store\nmetadata: {name: store-oras}\nspec: {name: oras}\n"
	for _, step := range []string{crd(version("v1alpha1", true)), store, crd(version("v1alpha1", false), version("v1beta1", true))} {
		if err := cluster.Apply(t.Context(), step); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := cluster.StartGatekeeper(t.Context(), kit.GatekeeperOptions{FailurePolicy: "Fail"}); err != nil {
		t.Fatal(err)
	}
}

// adopted holds that Ratify's definition became Boltseal's, and that nothing was taken away.
func adopted(t *testing.T) {
	t.Helper()
	crd := definition(t, "stores.config.ratify.deislabs.io")
	var versions []string
	for _, v := range crd.Spec.Versions {
		versions = append(versions, fmt.Sprintf("%s %t %t", v.Name, v.Served, v.Storage))
	}
	if got := strings.Join(versions, ", "); got != "v1beta1 true true, v1alpha1 true false" {
		t.Errorf("versions %s", got)
	}
	if _, ok := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["status"].Properties["conditions"]; !ok {
		t.Error("the definition is Ratify's")
	}
	for _, version := range []string{"v1alpha1", "v1beta1"} {
		u := &unstructured.Unstructured{}
		u.SetAPIVersion("config.ratify.deislabs.io/" + version)
		u.SetKind("Store")
		if err := cluster.Client().Get(t.Context(), client.ObjectKey{Name: "store-oras"}, u); err != nil {
			t.Errorf("%s: %v", version, err)
		}
	}
	eventually(t, "the Store that was there is in force", func() error {
		u := &unstructured.Unstructured{}
		u.SetAPIVersion("config.ratify.deislabs.io/v1beta1")
		u.SetKind("Store")
		if err := cluster.Client().Get(t.Context(), client.ObjectKey{Name: "store-oras"}, u); err != nil {
			return err
		}
		conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
		ok, _, _ := unstructured.NestedBool(u.Object, "status", "issuccess")
		return want(ok && len(conditions) > 0, "status %v", u.Object["status"])
	})
}

// provider holds that the Provider is made, belongs to the release and has a CA.
func provider(t *testing.T) {
	t.Helper()
	eventually(t, "the Provider is made", func() error {
		u := &unstructured.Unstructured{}
		u.SetAPIVersion("externaldata.gatekeeper.sh/v1beta1")
		u.SetKind("Provider")
		if err := cluster.Client().Get(t.Context(), client.ObjectKey{Name: "ratify-provider"}, u); err != nil {
			return err
		}
		ca, _, _ := unstructured.NestedString(u.Object, "spec", "caBundle")
		return want(ca != "" && len(u.GetOwnerReferences()) == 1, "%v", u.Object)
	})
}

// constraint demands trusted images of a namespace through Gatekeeper. Gatekeeper has no way to Boltseal's Service here, so
// that all is refused there, until the chart's template goes.
func constraint(t *testing.T, unsigned string) (namespace string) {
	t.Helper()
	ns, err := cluster.Namespace(t.Context(), "closed", nil)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the template is known", func() error {
		return cluster.Apply(t.Context(), "apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: BoltsealTrustedImages\nmetadata: {name: closed}\nspec: {match: {kinds: [{apiGroups: [\"\"], kinds: [Pod]}], namespaces: ["+ns+"]}}\n")
	})
	eventually(t, "Gatekeeper refuses", func() error {
		err := try(t.Context(), ns, unsigned)
		return want(apierrors.IsForbidden(err) && strings.Contains(err.Error(), "validation.gatekeeper.sh"), "%v", err)
	})
	return ns
}

// nothingLeft holds that what asked Boltseal is gone, and that what users made is not.
func nothingLeft(t *testing.T) {
	t.Helper()
	ctx, cl := t.Context(), cluster.Client()
	eventually(t, "nothing is left that asks Boltseal", func() error {
		var m admissionregistrationv1.MutatingWebhookConfigurationList
		var v admissionregistrationv1.ValidatingWebhookConfigurationList
		if err := cl.List(ctx, &m); err != nil {
			return err
		}
		if err := cl.List(ctx, &v); err != nil {
			return err
		}
		v.Items = slices.DeleteFunc(v.Items, func(c admissionregistrationv1.ValidatingWebhookConfiguration) bool {
			return strings.HasPrefix(c.Name, "gatekeeper")
		})
		providers := &unstructured.UnstructuredList{}
		providers.SetAPIVersion("externaldata.gatekeeper.sh/v1beta1")
		providers.SetKind("ProviderList")
		if err := cl.List(ctx, providers); err != nil {
			return err
		}
		var pods corev1.PodList
		if err := cl.List(ctx, &pods, client.InNamespace(system)); err != nil {
			return err
		}
		return want(len(m.Items)+len(v.Items)+len(providers.Items)+len(pods.Items) == 0, "%d and %d webhook configurations, %d Providers, %d Pods",
			len(m.Items), len(v.Items), len(providers.Items), len(pods.Items))
	})
	var crds apiextensionsv1.CustomResourceDefinitionList
	if err := cl.List(ctx, &crds); err != nil {
		t.Fatal(err)
	}
	if len(crds.Items) < 11 {
		t.Errorf("%d definitions: resources of users went with them", len(crds.Items))
	}
}

// trusts is a configuration that trusts a signer. The Store is there already.
func trusts(signer *testca.Chain) string {
	return fmt.Sprintf(`
apiVersion: config.ratify.deislabs.io/v1beta1
kind: KeyManagementProvider
metadata: {name: roots}
spec:
  type: inline
  parameters:
    value: |
      %s
---
apiVersion: config.ratify.deislabs.io/v1beta1
kind: Verifier
metadata: {name: verifier}
spec:
  name: notation
  artifactTypes: application/vnd.cncf.notary.signature
  parameters:
    verificationCertStores: {ca: {release: [roots]}}
    trustPolicyDoc:
      version: "1.0"
      trustPolicies:
      - name: all
        registryScopes: ["*"]
        signatureVerification: {level: strict}
        trustStores: ["ca:release"]
        trustedIdentities: ["*"]
`, strings.ReplaceAll(strings.TrimSpace(string(signer.Root().PEM())), "\n", "\n      "))
}
