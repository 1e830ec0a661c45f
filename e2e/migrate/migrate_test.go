// Package migrate tests boltseal migrate check on a real cluster with Gatekeeper and Ratify's resources.
package migrate

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/internal/demo"
	"github.com/boltseal/boltseal/internal/test/testca"
)

var cluster *kit.Cluster

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	os.Exit(kit.Main(m.Run, kit.Options{}, &cluster))
}

type finding struct{ Resource, Place, Field, Severity, Ratify, Boltseal, Do string }

// examine runs the program and returns what it found, what it said else, and its exit status.
func examine(t *testing.T, binary string, args ...string) ([]finding, string, int) {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), binary, append([]string{"migrate", "check", "--kubeconfig", cluster.Kubeconfig(), "-o", "json"}, args...)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	var v struct{ Findings []finding }
	if len(out) > 0 {
		if err := json.Unmarshal(out, &v); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return v.Findings, stderr.String(), cmd.ProcessState.ExitCode()
}

func expect(t *testing.T, fs []finding, resource, field, severity string, words ...string) {
	t.Helper()
	for _, f := range fs {
		all := f.Resource == resource && f.Field == field && f.Severity == severity && f.Place == ""
		for _, w := range words {
			all = all && strings.Contains(fmt.Sprint(f), w)
		}
		if all {
			return
		}
	}
	t.Errorf("no %s of %s %q with %q in %+v", severity, resource, field, words, fs)
}

// older are definitions as old versions of Ratify have them: Policy in the older version only.
func older(kind, plural string, versions ...string) string {
	var list []string
	for i, v := range versions {
		list = append(list, fmt.Sprintf("{name: %s, served: true, storage: %t, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}", v, i == 0))
	}
	return fmt.Sprintf(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[2]s.config.ratify.deislabs.io}
spec:
  group: config.ratify.deislabs.io
  names: {kind: %[1]s, listKind: %[1]sList, plural: %[2]s, singular: %[3]s}
  scope: Cluster
  versions: [%[4]s]
`, kind, plural, strings.ToLower(kind), strings.Join(list, ", "))
}

const gatekeeperObjects = `
apiVersion: externaldata.gatekeeper.sh/v1beta1
kind: Provider
metadata: {name: ratify-provider}
spec: {url: "https://ratify.gatekeeper-system:6001/ratify/gatekeeper/v1/verify", timeout: 5, caBundle: %s}
---
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: ratifyverification}
spec:
  crd: {spec: {names: {kind: RatifyVerification}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package ratifyverification
      violation[{"msg": "m"}] {
        response := external_data({"provider": "ratify-provider", "keys": [input.review.object.spec.containers[_].image]})
        response.responses[_][1].isSuccess == false
      }
`

// TestMigrateCheck reads a cluster as Ratify leaves it, and holds that nothing is changed there.
func TestMigrateCheck(t *testing.T) {
	ctx := t.Context()
	binary, err := product.Build(ctx, cluster.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if _, said, status := examine(t, binary); status != 2 || !strings.Contains(said, "there is no resource of Ratify's") {
		t.Errorf("an empty cluster: %d, %s", status, said)
	}
	d, err := demo.Start(demo.Options{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := cluster.StartGatekeeper(ctx, kit.GatekeeperOptions{}); err != nil {
		t.Fatal(err)
	}
	config, _, _ := strings.Cut(string(d.Config), "apiVersion: boltseal.dev/") // what is Ratify's too
	config = config[:strings.LastIndex(config, "---")]
	ca, err := testca.New(testca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.Apply(ctx, older("Store", "stores", "v1alpha1", "v1beta1"), older("Verifier", "verifiers", "v1beta1", "v1alpha1"),
		older("KeyManagementProvider", "keymanagementproviders", "v1beta1"), older("Policy", "policies", "v1alpha1"), config,
		"apiVersion: config.ratify.deislabs.io/v1alpha1\nkind: Policy\nmetadata: {name: configpolicy}\nspec: {parameters: {artifactVerificationPolicies: {default: any}}}\n",
		"apiVersion: config.ratify.deislabs.io/v1beta1\nkind: Verifier\nmetadata: {name: verifier-cosign}\nspec: {name: cosign, artifactTypes: application/vnd.dev.cosign.artifact.sig.v1+json}\n",
		fmt.Sprintf(gatekeeperObjects, base64.StdEncoding.EncodeToString(ca.Root().PEM()))); err != nil {
		t.Fatal(err)
	}
	fs, said, status := examine(t, binary)
	if status != 1 || said != "" {
		t.Errorf("%d, %s", status, said)
	}
	expect(t, fs, "Store store-oras", "", "ok")
	expect(t, fs, "Verifier verifier-notation", "", "ok")
	expect(t, fs, "KeyManagementProvider release-roots", "", "ok")
	expect(t, fs, "Verifier verifier-cosign", "spec.name", "unsupported", "cosign")
	expect(t, fs, "Policy configpolicy", "apiVersion", "differs", "v1alpha1")
	expect(t, fs, "Policy configpolicy", "spec.type", "error", "ratify-policy")
	expect(t, fs, "Provider ratify-provider", "spec.url", "differs", "https://boltseal.boltseal-system.svc:6001/ratify/gatekeeper/v1/verify")
	expect(t, fs, "ConstraintTemplate ratifyverification", "spec.targets", "ok")
	for _, f := range fs {
		if strings.HasPrefix(f.Resource, "Store ") && f.Resource != "Store store-oras" {
			t.Errorf("a kind of two versions is read twice: %+v", f)
		}
	}
	// Without what will not work, nothing is left but differences.
	if err := cluster.Delete(ctx, "apiVersion: config.ratify.deislabs.io/v1beta1\nkind: Verifier\nmetadata: {name: verifier-cosign}\n",
		"apiVersion: config.ratify.deislabs.io/v1alpha1\nkind: Policy\nmetadata: {name: configpolicy}\n"); err != nil {
		t.Fatal(err)
	}
	if fs, said, status := examine(t, binary); status != 0 {
		t.Errorf("%d, %s, %+v", status, said, fs)
	}
	// Who may read nothing is told so.
	nobody, err := cluster.Namespace(ctx, "nobody", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, said, status := examine(t, binary, "--kubeconfig", forbidden(t, nobody)); status != 2 || !strings.Contains(said, "forbidden") {
		t.Errorf("who may not: %d, %s", status, said)
	}
}

// forbidden is a kubeconfig of a ServiceAccount that has no rights.
func forbidden(t *testing.T, ns string) string {
	t.Helper()
	config, err := cluster.ServiceAccountConfig(t.Context(), ns, "default")
	if err != nil {
		t.Fatal(err)
	}
	c := api.NewConfig()
	c.Clusters["c"] = &api.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData, CertificateAuthority: config.CAFile}
	c.AuthInfos["u"] = &api.AuthInfo{Token: config.BearerToken, TokenFile: config.BearerTokenFile}
	c.Contexts["x"] = &api.Context{Cluster: "c", AuthInfo: "u"}
	c.CurrentContext = "x"
	name := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*c, name); err != nil {
		t.Fatal(err)
	}
	return name
}
