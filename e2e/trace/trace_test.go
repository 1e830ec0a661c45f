// Package trace follows a request from a real API server that traces to the registry that Boltseal asks.
package trace

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testotlp"
)

var (
	cluster *kit.Cluster
	audit   string // the API server's audit log
)

// TestMain starts an API server that traces every request, as docs/tracing.md says. Its own spans go nowhere: what counts
// here is what it tells webhooks.
func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "boltseal-trace-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer nobody.Close()
	audit = filepath.Join(dir, "audit.log")
	files := map[string]string{
		"tracing.yaml": "apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\nendpoint: " + nobody.Addr().String() + "\nsamplingRatePerMillion: 1000000\n",
		"audit.yaml":   "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata, resources: [{resources: [pods]}]}]\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return kit.Main(m.Run, kit.Options{Controllers: []string{}, APIServerArgs: []string{"--tracing-config-file=" + filepath.Join(dir, "tracing.yaml"),
		"--audit-policy-file=" + filepath.Join(dir, "audit.yaml"), "--audit-log-path=" + audit}}, &cluster)
}

const configuration = `apiVersion: config.ratify.deislabs.io/v1beta1
kind: KeyManagementProvider
metadata: {name: keys}
spec: {type: inline, parameters: {value: %q}}
---
apiVersion: config.ratify.deislabs.io/v1beta1
kind: Store
metadata: {name: oras}
spec: {name: oras, parameters: {useHttp: true}}
---
apiVersion: config.ratify.deislabs.io/v1beta1
kind: Verifier
metadata: {name: notation}
spec:
  name: notation
  artifactTypes: application/vnd.cncf.notary.signature
  parameters:
    verificationCertStores: {ca: {roots: [keys]}}
    trustPolicyDoc:
      version: "1.0"
      trustPolicies: [{name: all, registryScopes: ["*"], signatureVerification: {level: strict}, trustStores: ["ca:roots"], trustedIdentities: ["*"]}]
---
apiVersion: boltseal.dev/v1alpha1
kind: ImageIntegrityPolicy
metadata: {name: prod}
spec: {enforcementAction: deny}
---
apiVersion: v1
kind: Namespace
metadata: {name: team}
`

// TestOneTraceFromTheAPIServerToTheRegistry: the trace of a real API server is in the decision's line, in its audit log and in
// the spans of each request to the registry.
func TestOneTraceFromTheAPIServerToTheRegistry(t *testing.T) {
	collector := testotlp.New(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", collector.CAFile)
	house := testhouse.New(t, testhouse.Options{})
	_, image := house.Signed("traced", house.Signer)
	need := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	binary, err := product.Build(t.Context(), cluster.Dir())
	need(err)
	need(product.Install(t.Context(), cluster, binary))
	server, err := product.Start(t.Context(), cluster, binary, product.Options{Args: []string{"--admission-trust-network"}})
	need(err)
	need(cluster.Apply(t.Context(), fmt.Sprintf(configuration, house.Signer.Root().PEM())))
	need(server.Ready(t.Context()))
	need(cluster.Client().Create(t.Context(), webhook(server)))
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: team}\nspec: {containers: [{name: app, image: \"" + image + "\"}]}\n"
	await.Until(t, "a Pod is judged and admitted", func() error {
		if err := cluster.Apply(t.Context(), pod); err != nil {
			return err
		}
		line, err := os.ReadFile(audit)
		if err == nil && !bytes.Contains(line, []byte(`"validate.boltseal.dev/traceID"`)) {
			return fmt.Errorf("the API server's audit log names no trace")
		}
		return err
	})
	need(server.Process.Stop(await.Limit)) // what was recorded is exported
	log, err := os.ReadFile(audit)
	need(err)
	_, after, _ := bytes.Cut(log, []byte(`"validate.boltseal.dev/traceID":"`))
	id, _, _ := strings.Cut(string(after), `"`)
	if len(id) != 32 {
		t.Fatalf("trace id %q", id)
	}
	roots, asked := 0, 0
	for _, s := range collector.Spans() {
		switch {
		case s.Trace != id:
		case s.Name == "admission-validate":
			if roots++; s.Parent == "" || s.Parent == strings.Repeat("0", 16) {
				t.Error("the review has no parent at the API server")
			}
		case s.Text["server.address"] == house.Registry.Host:
			asked++
		}
	}
	if roots != 1 || asked < 3 {
		t.Errorf("of trace %s %d reviews and %d requests to the registry are recorded", id, roots, asked)
	}
}

// webhook has the API server ask a replica about Pods.
func webhook(s *product.Server) *admissionregistrationv1.ValidatingWebhookConfiguration {
	url, none, fail := s.URL+"/admission/validate", admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.Fail
	return &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "boltseal"}, Webhooks: []admissionregistrationv1.ValidatingWebhook{{
		Name: "validate.boltseal.dev", ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: s.CA}, SideEffects: &none, FailurePolicy: &fail,
		AdmissionReviewVersions: []string{"v1"}, Rules: []admissionregistrationv1.RuleWithOperations{{Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
			Rule: admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}}}},
	}}}
}
