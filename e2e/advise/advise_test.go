// Package advise applies Boltseal's own resources with kubectl, and reads what is said of them.
package advise

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/yaml"

	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/internal/test/testca"
)

const (
	installTimeout = 3 * await.Limit
	team           = "team"
)

var (
	cluster *kit.Cluster
	binary  string
	server  *product.Server
	signer  *testca.Chain
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	os.Exit(kit.Main(func() int {
		ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
		defer cancel()
		if err := install(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}, kit.Options{}, &cluster))
}

// install starts a replica, and has the API server ask it as 'boltseal webhook print' says.
func install(ctx context.Context) (err error) {
	if signer, err = testca.New(testca.Options{}); err != nil {
		return err
	}
	if binary, err = product.Build(ctx, cluster.Dir()); err != nil {
		return err
	}
	if err := product.Install(ctx, cluster, binary); err != nil {
		return err
	}
	if server, err = product.Start(ctx, cluster, binary, product.Options{}); err != nil {
		return err
	}
	if err := server.Ready(ctx); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, binary, "webhook", "print").Output()
	if err != nil {
		return err
	}
	_, text, _ := strings.Cut(string(out), "kind: ValidatingWebhookConfiguration")
	var v admissionregistrationv1.ValidatingWebhookConfiguration
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		return err
	}
	for i := range v.Webhooks {
		url := server.URL + *v.Webhooks[i].ClientConfig.Service.Path
		v.Webhooks[i].ClientConfig = admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: server.CA}
	}
	if err := cluster.Client().Create(ctx, &v); err != nil {
		return err
	}
	return cluster.Apply(ctx, "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+team+"}\n")
}

// kubectl runs a command with a manifest on its standard input. It must succeed, and returns the warnings.
func kubectl(t *testing.T, manifest string, args ...string) (warnings string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), cluster.Kubectl(), append([]string{"--kubeconfig", cluster.Kubeconfig()}, append(args, "-f", "-")...)...)
	cmd.Stdin = strings.NewReader(manifest)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("kubectl %v: %v\n%s\n%s", args, err, stderr.String(), manifest)
	}
	return stderr.String()
}

// applied applies a manifest; what is said of it must have the words, "" = nothing.
func applied(t *testing.T, manifest, words string) {
	t.Helper()
	checkWarning(t, manifest, kubectl(t, manifest, "apply"), words)
}

func checkWarning(t *testing.T, manifest, got, words string) {
	t.Helper()
	if words == "" && got != "" || words != "" && (!strings.HasPrefix(got, "Warning: ") || !strings.Contains(got, words)) {
		t.Errorf("%s\nwarnings %q, want %q", manifest, got, words)
	}
}

// resource is one of the group; namespaced where name is NAMESPACE/NAME.
func resource(group, kind, name, spec string) string {
	metadata := "{name: " + name + "}"
	if ns, n, ok := strings.Cut(name, "/"); ok {
		metadata = "{name: " + n + ", namespace: " + ns + "}"
	}
	return "---\napiVersion: " + group + "\nkind: " + kind + "\nmetadata: " + metadata + "\nspec: " + spec + "\n"
}

const (
	ratify     = "config.ratify.deislabs.io/v1beta1"
	integrity  = "boltseal.dev/v1alpha1"
	governance = "policy.boltseal.dev/v1alpha1"
)

func provider(kind, name string) string {
	return resource(ratify, kind, name, "{type: inline, provider: inline, parameters: {value: "+fmt.Sprintf("%q", signer.Root().PEM())+"}}")
}

func verifier(kind, name, provider string) string {
	return resource(ratify, kind, name, `{name: notation, artifactTypes: application/vnd.cncf.notary.signature, parameters: {verificationCertStores: {ca: {roots: [`+provider+`]}}, trustPolicyDoc: {version: "1.0", trustPolicies: [{name: all, registryScopes: ["*"], signatureVerification: {level: strict}, trustStores: ["ca:roots"], trustedIdentities: ["*"]}]}}}`)
}

// TestAdvice: what will not do what it is meant to is told where it is applied, and
// its right form is not; nothing is refused.
func TestAdvice(t *testing.T) {
	// Nothing to trust, until there is.
	applied(t, resource(integrity, "ImageIntegrityPolicy", "all", "{match: {namespaces: [team]}}"), "every image that it selects is denied: there is no Store for them yet")
	applied(t, resource(integrity, "NamespacedImageIntegrityPolicy", team+"/own", "{}"), "there is no Store for them yet")
	applied(t, resource(ratify, "Store", "store", "{name: oras}"), "")
	applied(t, resource(integrity, "ImageIntegrityPolicy", "all", "{match: {namespaces: [team, other]}}"), "there is no Verifier for them yet")
	// Providers that are not there, and parameters that nobody knows.
	applied(t, verifier("Verifier", "verifier", "roots"), "roots, which is not there")
	applied(t, provider("KeyManagementProvider", "roots"), "")
	kubectl(t, verifier("Verifier", "verifier", "roots"), "delete")
	applied(t, resource(ratify, "Verifier", "wrong", `{name: notation, artifactTypes: "*", parameters: {trustPolcyDoc: {}}}`), `spec.parameters.trustPolcyDoc: unknown field (did you mean "trustPolicyDoc"?)`)
	kubectl(t, resource(ratify, "Verifier", "wrong", "{}"), "delete")
	applied(t, verifier("Verifier", "verifier", "roots"), "")
	applied(t, resource(integrity, "ImageIntegrityPolicy", "all", "{match: {namespaces: [team]}}"), "")
	applied(t, resource(ratify, "Store", "store", "{name: oras, parameters: {useHtp: true}}"), `spec.parameters.useHtp: unknown field (did you mean "useHttp"?)`)
	applied(t, resource(ratify, "Store", "store", "{name: oras, parameters: {useHttp: true}}"), "")
	// What a namespace has of its own.
	applied(t, verifier("NamespacedVerifier", team+"/verifier", "own"), "own, which is not there")
	kubectl(t, verifier("NamespacedVerifier", team+"/verifier", "own"), "delete")
	applied(t, provider("NamespacedKeyManagementProvider", team+"/own")+verifier("NamespacedVerifier", team+"/verifier", "own"), "")
	applied(t, resource(ratify, "NamespacedStore", team+"/store", "{name: oras, parameters: {scops: [a.example]}}"), `did you mean "scopes"?`)
	applied(t, resource(ratify, "NamespacedPolicy", team+"/ratify-policy", "{type: config-policy, parameters: {artifactVerificationPolicies: {default: som}}}"), "is not any or all")
	applied(t, resource(ratify, "NamespacedPolicy", team+"/ratify-policy", "{type: config-policy, parameters: {artifactVerificationPolicies: {default: any}}}"), "")
	// A policy for Pods alone.
	applied(t, resource(integrity, "ImageIntegrityPolicy", "pods", "{match: {kinds: [Pod]}}"), "it names Pod and not Deployment")
	applied(t, resource(integrity, "ImageIntegrityPolicy", "pods", "{match: {kinds: [Pod, Deployment]}}"), "")
	applied(t, resource(integrity, "NamespacedImageIntegrityPolicy", team+"/pods", "{match: {kinds: [Pod]}}"), "it names Pod and not Deployment")
	// Governance.
	applied(t, resource(governance, "PolicyAssignment", "a", "{scope: /, policyDefinitionId: image-integrity-verification, parameters: {effct: {value: Deny}}}"), "spec.parameters")
	applied(t, resource(governance, "PolicyAssignment", "a", "{scope: /, policyDefinitionId: image-integrity-verification, parameters: {effect: {value: Deny}}}"), "")
	applied(t, resource(governance, "PolicyAssignment", "b", "{scope: /, policyDefinitionId: one-that-the-hub-has}"), "")
	// What is still named goes with a word, and goes.
	checkWarning(t, "roots", kubectl(t, provider("KeyManagementProvider", "roots"), "delete", "--dry-run=server"), "it is still named by Verifier verifier,")
	checkWarning(t, "the Verifier", kubectl(t, verifier("Verifier", "verifier", "roots"), "delete"), "without it there is no Verifier, and ImageIntegrityPolicy")
	checkWarning(t, "roots", kubectl(t, provider("KeyManagementProvider", "roots"), "delete"), "")
	checkWarning(t, "own", kubectl(t, provider("NamespacedKeyManagementProvider", team+"/own"), "delete"), "it is still named by another resource,")
}

// TestAFileInOneGo: what is applied together is there for what names it, in whatever
// order the API server's word comes.
func TestAFileInOneGo(t *testing.T) {
	for i := range 10 {
		text := provider("KeyManagementProvider", fmt.Sprint("go-", i)) + verifier("Verifier", fmt.Sprint("go-", i), fmt.Sprint("go-", i)) +
			resource(ratify, "Store", "go", "{name: oras, parameters: {scopes: [go.example]}}") +
			resource(integrity, "ImageIntegrityPolicy", "go", fmt.Sprintf("{match: {namespaces: [go-%d]}}", i))
		applied(t, text, "")
	}
}

// TestNobodyWaitsForAdvice: without a replica that answers, what is applied is there.
func TestNobodyWaitsForAdvice(t *testing.T) {
	if err := server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	applied(t, resource(ratify, "Store", "late", "{name: oras, parameters: {useHtp: true, scopes: [late.example]}}"), "")
}
