package chart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/e2e/render"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// serverValues have the program do all that it can: be a webhook and Gatekeeper's provider, audit, and read keys.
const serverValues = `
replicas: 1
webhook: {failurePolicy: Ignore, timeoutSeconds: 1}
shutdown: {delaySeconds: 0}
gatekeeper: {enabled: true, mutationProvider: {create: true}}
audit: {interval: 2s}
policies: [{name: of-the-chart, spec: {match: {namespaces: [nowhere]}, enforcementAction: dryrun}}]
keySources: {configMaps: [{namespace: keys-of-others, name: roots}]}
`

// server is the Pod of the chart's Deployment, with the rights of the chart's ServiceAccount.
var server = sync.OnceValues(startServer)

// assigned is what the cluster demands of itself.
const assigned = `
apiVersion: policy.boltseal.dev/v1alpha1
kind: PolicyAssignment
metadata: {name: everywhere}
spec: {scope: /, policyDefinitionId: image-integrity, parameters: {effect: {value: Audit}}}
`

func startServer() (*replica, error) {
	ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
	defer cancel()
	r, err := render.Render(render.Options{Chart: folder, Release: "serving", Namespace: "serving", Values: []string{serverValues, "fullnameOverride: serving"}})
	if err != nil {
		return nil, err
	}
	for _, ns := range []string{"serving", "gatekeeper-system", "keys-of-others"} {
		if err := cluster.ApplyObjects(ctx, render.Namespace(ns, nil)); err != nil {
			return nil, err
		}
	}
	reports, err := moduleFile(ctx, "github.com/openreports/reports-api", "config", "crd", openreports.GroupName+"_reports.yaml")
	if err != nil {
		return nil, err
	}
	all, err := kit.Parse(r.Objects)
	if err != nil {
		return nil, err
	}
	apply := slices.DeleteFunc(all, func(u *unstructured.Unstructured) bool { return u.GetKind() == "ConstraintTemplate" })
	keys, err := keysOfOthers()
	if err != nil {
		return nil, err
	}
	if err := cluster.Apply(ctx, reports, providerCRD, keys, assigned); err != nil {
		return nil, err
	}
	if err := cluster.ApplyObjects(ctx, apply...); err != nil {
		return nil, err
	}
	for {
		var pods corev1.PodList
		if err := cluster.Client().List(ctx, &pods, client.InNamespace("serving")); err != nil {
			return nil, err
		}
		for i, p := range pods.Items {
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
					return &replica{pod: &pods.Items[i], address: node.Address(&p)}, nil
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), node.Problems())
		case <-time.After(50 * time.Millisecond): // waits: between two looks
		}
	}
}

// replica is the Pod of the Deployment, at the chart's ports.
type replica struct {
	pod     *corev1.Pod
	address string
}

func (r *replica) main() string    { return "https://" + r.address + ":6001" }
func (r *replica) health() string  { return "http://" + r.address + ":9099" }
func (r *replica) metrics() string { return "http://" + r.address + ":8888" }

// providerCRD stands in for Gatekeeper, which e2e/webhook and e2e/upgrade run: here it is about rights.
const providerCRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: providers.externaldata.gatekeeper.sh}
spec:
  group: externaldata.gatekeeper.sh
  names: {kind: Provider, listKind: ProviderList, plural: providers, singular: provider}
  scope: Cluster
  versions:
  - {name: v1beta1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`

// keysOfOthers are certificates in another namespace, and a provider that reads them.
func keysOfOthers() (string, error) {
	ca, err := testca.New(testca.Options{})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: ConfigMap
metadata: {name: roots, namespace: keys-of-others}
data:
  root.crt: |
    %s
---
apiVersion: config.ratify.deislabs.io/v1beta1
kind: KeyManagementProvider
metadata: {name: of-others}
spec: {type: configmap, parameters: {namespace: keys-of-others, name: roots}}
`, strings.ReplaceAll(strings.TrimSpace(string(ca.Root().PEM())), "\n", "\n    ")), nil
}

// TestRightsSuffice has the program do everything that it does in a cluster, with the chart's rights and no other. What
// is written must appear, and nothing may have been forbidden.
func TestRightsSuffice(t *testing.T) {
	s, err := server()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cl := t.Context(), cluster.Client()
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
	unsigned := registry.PushImage("app", "unsigned", 1).Digest.String()
	if err := cluster.Apply(ctx, product.Trust(signer.Root().PEM())); err != nil {
		t.Fatal(err)
	}
	ns, err := cluster.Namespace(ctx, "rights", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := cl.Create(ctx, podOf(ns, "old", registry.Ref("app", "unsigned"))); err != nil {
		t.Fatal(err)
	}
	if err := cluster.SetRunning(ctx, ns, "old", map[string]string{"app": registry.Host + "/app@" + unsigned}); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Apply(ctx, fmt.Sprintf("apiVersion: boltseal.dev/v1alpha1\nkind: ImageIntegrityPolicy\nmetadata: {name: rights}\nspec: {match: {namespaces: [%s]}}\n", ns)); err != nil {
		t.Fatal(err)
	}
	for what, there := range map[string]func() error{
		"a status":                     field("boltseal.dev/v1alpha1", "ImageIntegrityPolicy", "", "rights", "status", "conditions"),
		"the audit's part of a status": field("boltseal.dev/v1alpha1", "ImageIntegrityPolicy", "", "rights", "status", "audit"),
		"a report":                     field("openreports.io/v1alpha1", "Report", ns, "boltseal", "results"),
		"the lease":                    field("coordination.k8s.io/v1", "Lease", "serving", "boltseal-status", "spec", "holderIdentity"),
		"the certificate":              field("v1", "Secret", "serving", "serving-serving", "data", "tls.crt"),
		"a webhook configuration":      field("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "", "boltseal", "metadata", "ownerReferences"),
		"the other one":                field("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "", "boltseal", "metadata", "ownerReferences"),
		"the Provider":                 field("externaldata.gatekeeper.sh/v1beta1", "Provider", "", "ratify-provider", "spec", "caBundle"),
		"the one for mutation":         field("externaldata.gatekeeper.sh/v1beta1", "Provider", "", "ratify-mutation-provider", "spec", "caBundle"),
		"what a provider read":         field("config.ratify.deislabs.io/v1beta1", "KeyManagementProvider", "", "of-others", "status", "lastfetchedtime"),
		"an event": func() error {
			var events corev1.EventList
			if err := cl.List(ctx, &events, client.InNamespace(ns)); err != nil {
				return err
			}
			for _, e := range events.Items {
				if e.Source.Component == "boltseal" && e.Reason == "UntrustedImage" {
					return nil
				}
			}
			return fmt.Errorf("%d others", len(events.Items))
		},
	} {
		eventually(t, what+" is written", there)
	}
	// What is its own is put right, too: the right to update.
	v := &unstructured.Unstructured{}
	v.SetGroupVersionKind(schema.GroupVersionKind{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingWebhookConfiguration"})
	if err := cl.Get(ctx, client.ObjectKey{Name: "boltseal"}, v); err != nil {
		t.Fatal(err)
	}
	v.SetOwnerReferences(nil)
	if err := cl.Update(ctx, v); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its owner is put back", field("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "", "boltseal", "metadata", "ownerReferences"))
	// A right that is not given would be asked for in vain.
	file, err := node.LogFile(s.pod)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(log) {
		if bytes.Contains(line, []byte("forbidden")) {
			t.Errorf("something was forbidden: %s", line)
		}
	}
	if _, err := get(ctx, s.health()+"/readyz"); err != nil {
		t.Error(err)
	}
}

// TestRightsReachNoFurther asks the API server what the chart's ServiceAccount may not do.
func TestRightsReachNoFurther(t *testing.T) {
	if _, err := server(); err != nil {
		t.Fatal(err)
	}
	config, err := cluster.ServiceAccountConfig(t.Context(), "serving", "serving")
	if err != nil {
		t.Fatal(err)
	}
	cl, err := client.New(config, client.Options{Scheme: cluster.Client().Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	meta := func(ns, name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: ns, Name: name} }
	ctx := t.Context()
	for what, err := range map[string]error{
		"read all Secrets":                      cl.List(ctx, &corev1.SecretList{}),
		"read all Secrets of its namespace":     cl.List(ctx, &corev1.SecretList{}, client.InNamespace("serving")),
		"read another Secret of its namespace":  cl.Get(ctx, client.ObjectKey{Namespace: "serving", Name: "other"}, &corev1.Secret{}),
		"read another Secret of Gatekeeper's":   cl.Get(ctx, client.ObjectKey{Namespace: "gatekeeper-system", Name: "other"}, &corev1.Secret{}),
		"change Gatekeeper's certificate":       cl.Update(ctx, &corev1.Secret{ObjectMeta: meta("gatekeeper-system", "gatekeeper-webhook-server-cert")}),
		"read another ConfigMap":                cl.Get(ctx, client.ObjectKey{Namespace: "keys-of-others", Name: "other"}, &corev1.ConfigMap{}),
		"make a Pod":                            cl.Create(ctx, podOf("serving", "p", "app")),
		"delete a Pod":                          cl.Delete(ctx, podOf("serving", "p", "app")),
		"label a namespace":                     cl.Patch(ctx, &corev1.Namespace{ObjectMeta: meta("", "kube-system")}, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"a":"b"}}}`))),
		"widen its own rights":                  cl.Patch(ctx, parse(t, "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: serving}"), client.RawPatch("application/merge-patch+json", []byte(`{"rules":[]}`))),
		"change a policy":                       cl.Patch(ctx, parse(t, "apiVersion: boltseal.dev/v1alpha1\nkind: ImageIntegrityPolicy\nmetadata: {name: rights}"), client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"enforcementAction":"dryrun"}}`))),
		"change a CustomResourceDefinition":     cl.Patch(ctx, parse(t, "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: stores.config.ratify.deislabs.io}"), client.RawPatch("application/merge-patch+json", []byte(`{}`))),
		"change another webhook configuration":  cl.Patch(ctx, parse(t, "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: other}"), client.RawPatch("application/merge-patch+json", []byte(`{}`))),
		"delete its own webhook configurations": cl.Delete(ctx, parse(t, "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: boltseal}")),
		"write another's report":                cl.Create(ctx, parse(t, "apiVersion: openreports.io/v1alpha1\nkind: Report\nmetadata: {name: other, namespace: default}")),
	} {
		if !apierrors.IsForbidden(err) {
			t.Errorf("it may %s: %v", what, err)
		}
	}
}

func podOf(namespace, name, image string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}}}
}

// field reports whether an object has a field.
func field(apiVersion, kind, ns, name string, path ...string) func() error {
	return func() error {
		u := &unstructured.Unstructured{}
		u.SetAPIVersion(apiVersion)
		u.SetKind(kind)
		if err := cluster.Client().Get(context.Background(), client.ObjectKey{Namespace: ns, Name: name}, u); err != nil {
			return err
		}
		if _, there, err := unstructured.NestedFieldNoCopy(u.Object, path...); err != nil || !there {
			return fmt.Errorf("%s has no %s: %w", name, filepath.Join(path...), err)
		}
		return nil
	}
}

func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	return string(b), err
}
