// Package gatekeeper tests Boltseal as the provider of a real Gatekeeper.
package gatekeeper

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

const (
	installTimeout = 3 * await.Limit
	repo           = "team/app"
)

var (
	cluster  *kit.Cluster
	gk       *kit.Gatekeeper
	boltseal *product.Server
	binary   string
	registry *testregistry.Registry
	signer   *testca.Chain
)

func TestMain(m *testing.M) {
	os.Exit(kit.Main(func() int {
		ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
		defer cancel()
		if err := install(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer registry.Close()
		return m.Run()
	}, kit.Options{}, &cluster))
}

// install starts a registry, Gatekeeper and Boltseal, and applies what a user would.
func install(ctx context.Context) (err error) {
	if registry, err = testregistry.Start(testregistry.Options{}); err != nil {
		return err
	}
	if signer, err = testca.New(testca.Options{Intermediates: []testca.Spec{{}}}); err != nil {
		return err
	}
	if binary, err = product.Build(ctx, cluster.Dir()); err != nil {
		return err
	}
	if err := product.Install(ctx, cluster, binary); err != nil {
		return err
	}
	if gk, err = cluster.StartGatekeeper(ctx, kit.GatekeeperOptions{FailurePolicy: "Fail"}); err != nil {
		return err
	}
	if boltseal, err = product.Start(ctx, cluster, binary, product.Options{ClientCA: gk.ClientCA()}); err != nil {
		return err
	}
	if err := boltseal.Ready(ctx); err != nil {
		return err
	}
	if err := cluster.Apply(ctx, verifyConfig()); err != nil {
		return err
	}
	template, err := os.ReadFile("../../charts/boltseal/gatekeeper/template.yaml")
	if err != nil {
		return err
	}
	return gk.Apply(ctx, provider(boltseal), string(template))
}

func provider(s *product.Server) string {
	return fmt.Sprintf(`
apiVersion: externaldata.gatekeeper.sh/v1beta1
kind: Provider
metadata: {name: ratify-provider}
spec:
  url: %s/ratify/gatekeeper/v1/verify
  timeout: 3
  caBundle: %s
`, s.URL, base64.StdEncoding.EncodeToString(s.CA))
}

// verifyConfig is the AKS document's, with the test's signer.
func verifyConfig() string {
	return fmt.Sprintf(`
apiVersion: config.ratify.deislabs.io/v1beta1
kind: CertificateStore
metadata: {name: certstore-inline}
spec:
  provider: inline
  parameters:
    value: |
      %s
---
apiVersion: config.ratify.deislabs.io/v1beta1
kind: Store
metadata: {name: store-oras}
spec: {name: oras}
---
apiVersion: config.ratify.deislabs.io/v1beta1
kind: Verifier
metadata: {name: verifier-notary-inline}
spec:
  name: notation
  artifactTypes: application/vnd.cncf.notary.signature
  parameters:
    verificationCertStores:
      certs: [certstore-inline]
    trustPolicyDoc:
      version: "1.0"
      trustPolicies:
      - name: default
        registryScopes: ["*"]
        signatureVerification: {level: strict}
        trustStores: ["ca:certs"]
        trustedIdentities: ["*"]
`, strings.ReplaceAll(strings.TrimSpace(string(signer.Root().PEM())), "\n", "\n      "))
}

// image pushes an image under the tag, signed by the chains, and returns its reference and its digest.
func image(tag string, by ...*testca.Chain) (ref, digest string) {
	d := registry.PushImage(repo, tag, 0)
	for _, c := range by {
		registry.Sign(repo, d, c, testca.SignOptions{})
	}
	return registry.Ref(repo, tag), d.Digest.String()
}

func namespace(t *testing.T) string {
	t.Helper()
	ns, err := cluster.Namespace(t.Context(), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

// demand applies a constraint on the namespace; more is further YAML of its spec.
func demand(t *testing.T, ns, action, more string) {
	t.Helper()
	if !strings.Contains(more, "allowTags") { // Gatekeeper does not mutate here
		if !strings.Contains(more, "  parameters:\n") {
			more = "  parameters:\n" + more
		}
		more = strings.Replace(more, "  parameters:\n", "  parameters:\n    allowTags: true\n", 1)
	}
	text := fmt.Sprintf(`
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: BoltsealTrustedImages
metadata: {name: %[1]s}
spec:
  enforcementAction: %[2]s
  match:
    kinds:
    - {apiGroups: [""], kinds: [Pod, ReplicationController, PodTemplate]}
    - {apiGroups: [apps], kinds: [Deployment, ReplicaSet, StatefulSet, DaemonSet]}
    - {apiGroups: [batch], kinds: [Job, CronJob]}
    namespaces: [%[1]s]
%[3]s`, ns, action, more)
	if err := gk.Apply(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c := constraintObject("BoltsealTrustedImages", ns)
		if err := client.IgnoreNotFound(cluster.Client().Delete(context.Background(), c)); err != nil {
			t.Error(err)
		}
	})
}

func constraintObject(kind, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.GroupVersionKind{Group: "constraints.gatekeeper.sh", Version: "v1beta1", Kind: kind})
	u.SetName(name)
	return u
}

func pod(ns, name, image string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: %s}, spec: {containers: [{name: app, image: %q}]}}", name, ns, image)
}

// eventually waits until f returns nil.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	await.Until(t, what, f)
}

// violations are what Gatekeeper's last audit lists under a constraint.
func violations(t *testing.T, kind, name string) string {
	t.Helper()
	u := constraintObject(kind, "")
	if err := cluster.Client().Get(t.Context(), client.ObjectKey{Name: name}, u); err != nil {
		t.Fatal(err)
	}
	list, _, err := unstructured.NestedSlice(u.Object, "status", "violations")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(list)
}

func strangerChain(t *testing.T) *testca.Chain { return testca.Test(t, testca.Options{}) }
