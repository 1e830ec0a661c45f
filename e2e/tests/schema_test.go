package tests

import (
	"encoding/json"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/internal/test/testca"
)

// groups are the API groups of all resources.
var groups = []string{"config.ratify.deislabs.io/v1beta1", "boltseal.dev/v1alpha1"}

// TestDefinitionsAreSound: the API server finds nothing wrong with a definition.
func TestDefinitionsAreSound(t *testing.T) {
	var list apiextensionsv1.CustomResourceDefinitionList
	if err := cluster.Client().List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, crd := range list.Items {
		if !slices.ContainsFunc(groups, func(g string) bool { return strings.HasPrefix(g, crd.Spec.Group+"/") }) {
			continue
		}
		n++
		for _, c := range crd.Status.Conditions {
			good := c.Type == apiextensionsv1.Established || c.Type == apiextensionsv1.NamesAccepted
			if (c.Status == apiextensionsv1.ConditionTrue) != good {
				t.Errorf("%s: %s is %s: %s", crd.Name, c.Type, c.Status, c.Message)
			}
		}
	}
	if n != len(kinds) {
		t.Errorf("%d definitions, want %d", n, len(kinds))
	}
}

// field is what of an OpenAPI schema is looked at.
type field struct {
	Description string
	Ref         string `json:"$ref"`
	Properties  map[string]*field
	Items       *field
	AllOf       []*field
	Kinds       []struct{ Kind string } `json:"x-kubernetes-group-version-kind"`
}

// TestEveryFieldIsExplained reads what kubectl explain reads, for all fields, and
// then asks kubectl for some.
func TestEveryFieldIsExplained(t *testing.T) {
	hc, err := rest.HTTPClientFor(cluster.Config())
	if err != nil {
		t.Fatal(err)
	}
	fields, explained := 0, map[string]bool{}
	for _, group := range groups {
		var doc struct {
			Components struct{ Schemas map[string]*field }
		}
		eventually(t, "the schemas of "+group+" are published", func() error {
			resp, err := hc.Get(cluster.Config().Host + "/openapi/v3/apis/" + group)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				return err
			}
			return json.Unmarshal(body, &doc)
		})
		for name, s := range doc.Components.Schemas {
			if len(s.Kinds) != 1 || strings.HasSuffix(s.Kinds[0].Kind, "List") || !slices.Contains(kinds, s.Kinds[0].Kind) {
				continue
			}
			explained[s.Kinds[0].Kind] = true
			walk(t, name, s, &fields)
		}
	}
	if len(explained) != len(kinds) || fields < 200 {
		t.Errorf("%d fields of %v", fields, explained)
	}
	t.Logf("%d fields of %d kinds are explained", fields, len(explained))
	for path, words := range map[string]string{
		"verifiers":                                                       "how signatures are verified",
		"verifiers.spec.artifactTypes":                                    "separated by commas",
		"keymanagementproviders.status.properties":                        "fingerprint",
		"certificatestores.spec.parameters":                               "docs/keys.md",
		"keymanagementproviders.spec.parameters":                          "azurekeyvault: VaultURI",
		"verifiers.spec.parameters.trustPolicyDoc.trustPolicies":          "trustedIdentities",
		"namespacedstores.spec.parameters.authProvider.endpoints":         "awsEcrBasic",
		"imageintegritypolicies.spec.onUnavailable.maxAge":                "lastKnownGood",
		"namespacedimageintegritypolicies.spec.match":                     "Empty means all",
		"namespacedpolicies.status.conditions.lastTransitionTime":         "transitioned",
		"imageintegritypolicies.spec.match.namespaceSelector.matchLabels": "key",
	} {
		var out string
		eventually(t, "kubectl knows "+path, func() (err error) {
			out, err = tryKubectl(t, "explain", path) // discovery is a moment behind
			return err
		})
		if !strings.Contains(strings.Join(strings.Fields(out), " "), words) || strings.Contains(out, "<empty>") {
			t.Errorf("kubectl explain %s:\n%s", path, out)
		}
	}
}

func walk(t *testing.T, path string, s *field, fields *int) {
	for name, p := range s.Properties {
		if name == "metadata" || name == "apiVersion" || name == "kind" {
			continue
		}
		*fields++
		if p.Description == "" {
			t.Errorf("%s.%s has no description", path, name)
		}
		walk(t, path+"."+name, p, fields)
	}
	if s.Items != nil {
		walk(t, path+"[]", s.Items, fields)
	}
}

// TestVerifierNeedsAKind: the definition refuses what could mean nothing at all.
func TestVerifierNeedsAKind(t *testing.T) {
	clean(t)
	err := cluster.Apply(t.Context(), document("Verifier", "", "v", "artifactTypes: x/y"))
	if err == nil || !strings.Contains(err.Error(), "name the kind of verifier") {
		t.Errorf("%v", err)
	}
}

// TestDocumentsOfRatifyUsers: they apply as they stand, with kubectl's validation,
// and nothing in them is lost.
func TestDocumentsOfRatifyUsers(t *testing.T) {
	clean(t)
	data, err := os.ReadFile("testdata/ratify-documents.yaml")
	if err != nil {
		t.Fatal(err)
	}
	root := strings.TrimSpace(string(testca.Test(t, testca.Options{}).Root().PEM()))
	text := strings.ReplaceAll(string(data), "      CERTIFICATE", "      "+strings.ReplaceAll(root, "\n", "\n      "))
	apply(t, "{apiVersion: v1, kind: Namespace, metadata: {name: team}}")
	file := t.TempDir() + "/documents.yaml"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "apply", "--validate=strict", "-f", file)
	docs, err := kit.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	applied := map[string]bool{}
	for _, want := range docs {
		have := object(want.GetKind(), want.GetNamespace(), want.GetName())
		if err := cluster.Client().Get(t.Context(), client.ObjectKeyFromObject(want), have); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(have.Object["spec"], want.Object["spec"]) {
			t.Errorf("%s %s is stored as\n%v\nwant\n%v", want.GetKind(), want.GetName(), have.Object["spec"], want.Object["spec"])
		}
		applied[want.GetKind()] = true
	}
	for _, kind := range kinds {
		if !strings.HasSuffix(kind, "ImageIntegrityPolicy") && !applied[kind] {
			t.Errorf("no document of kind %s", kind)
		}
	}
	for _, name := range []string{"keys-inline", "keys-older-name"} {
		stands(t, "KeyManagementProvider", "", name, true)
	}
	stands(t, "CertificateStore", "default", "certificates-inline", true)
	stands(t, "Verifier", "", "verifier-by-type", true)
	stands(t, "Verifier", "", "verifier-type-only", true)
	stands(t, "Policy", "", "ratify-policy", true)
	_, c := stands(t, "Store", "", "store-docker", true)
	if !strings.Contains(c.Message, "spec.parameters.localCachePath: it has no effect") {
		t.Errorf("nobody is told what has no effect: %q", c.Message)
	}
	for _, kind := range []string{"NamespacedStore", "NamespacedVerifier", "NamespacedPolicy", "NamespacedKeyManagementProvider"} {
		name := map[string]string{"NamespacedStore": "store", "NamespacedVerifier": "verifier", "NamespacedPolicy": "ratify-policy", "NamespacedKeyManagementProvider": "keys"}[kind]
		stands(t, kind, "team", name, true)
	}
}

// TestParametersKeepWhatTheyDoNotKnow: null and what no type has are taken and kept at
// every depth, so that the status can tell; only what can be no value of a known
// parameter is refused.
func TestParametersKeepWhatTheyDoNotKnow(t *testing.T) {
	clean(t)
	specs := map[string]string{
		"Store":                 `{name: oras, parameters: {useHttp: null, authProvider: null, registries: [{host: a.example, proxy: null, hots: b, deeper: {x: [1]}}], mirrors: null, mirors: [{only: "x"}], authProviders: [{name: other, secrets: [{secretNam: some}]}]}}`,
		"Verifier":              `{name: cosign, artifactTypes: x/y, parameters: {key: /k, trustPolicies: [{name: p, keyless: {x: 1}}], verificationCertStores: {ca: {a: [b]}, c: [d]}, trustPolicyDoc: {version: null, more: [x], trustPolicies: [{nam: a, signatureVerification: {level: null, levl: strict}}]}}}`,
		"KeyManagementProvider": `{type: secret, parameters: {name: some, keys: [a, b], certificates: {array: [x]}, auth: {method: null, methd: x}, kv: [{pth: x}]}}`,
		"Policy":                `{type: rego-policy, parameters: {policy: "package x", artifactVerificationPolicies: {default: null}, platforms: null}}`,
	}
	for kind, spec := range specs {
		name := "any"
		if kind == "Policy" {
			name = "ratify-policy"
		}
		o := object(kind, "", name)
		var want map[string]any
		if err := yaml.Unmarshal([]byte(spec), &want); err != nil {
			t.Fatal(err)
		}
		o.Object["spec"] = want
		sent := o.DeepCopy()
		if err := cluster.Client().Create(t.Context(), o); err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		have := object(kind, "", name)
		if err := cluster.Client().Get(t.Context(), client.ObjectKeyFromObject(o), have); err != nil {
			t.Fatal(err)
		}
		a, _ := json.Marshal(have.Object["spec"])
		b, _ := json.Marshal(sent.Object["spec"])
		if string(a) != string(b) {
			t.Errorf("%s is stored as\n%s\nwant\n%s", kind, a, b)
		}
	}
	for _, spec := range []string{"{name: oras, parameters: {useHttp: x}}", "{name: oras, parameters: {scopes: host.example}}", "{name: oras, parameters: {registries: [{host: 1}]}}"} {
		err := cluster.Apply(t.Context(), "apiVersion: config.ratify.deislabs.io/v1beta1\nkind: Store\nmetadata: {name: wrong}\nspec: "+spec)
		if err == nil || !strings.Contains(err.Error(), "spec.parameters.") {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

// TestKubectlGet: the columns tell at a glance what stands and what does not.
func TestKubectlGet(t *testing.T) {
	clean(t)
	ns := namespace(t, nil)
	root := testca.Test(t, testca.Options{})
	apply(t, provider("", "good", root), document("KeyManagementProvider", "", "bad", "type: inline\n  parameters: {value: x}"),
		store(""), verifier("", "verifier", "good"), verifier("", "waiting", "missing"), document("ImageIntegrityPolicy", "", "all", "enforcementAction: warn"),
		document("ImageIntegrityPolicy", ns, "own", "enforcementAction: dryrun"))
	stands(t, "KeyManagementProvider", "", "good", true)
	stands(t, "KeyManagementProvider", "", "bad", false)
	stands(t, "Verifier", "", "verifier", true)
	stands(t, "Verifier", "", "waiting", false)
	stands(t, "ImageIntegrityPolicy", "", "all", true)
	stands(t, "NamespacedImageIntegrityPolicy", ns, "own", true)
	for _, tt := range []struct {
		resource, columns string
		rows              []string
	}{
		{"keymanagementproviders", "NAME TYPE ISSUCCESS ERROR LASTFETCHEDTIME EXPIRES AGE", []string{"good inline true", "bad inline false spec.parameters.value: no certificate"}},
		{"verifiers", "NAME TYPE ISSUCCESS ERROR AGE", []string{"verifier notation true", "waiting notation false spec.parameters.verificationCertStores"}},
		{"stores", "NAME TYPE ISSUCCESS ERROR AGE", []string{"store oras true"}},
		{"iip", "NAME ACTION READY PODS VIOLATIONS AGE", []string{"all warn True"}},
		{"iip -o wide", "NAME ACTION READY PODS VIOLATIONS UNKNOWN MESSAGE AGE", []string{"all warn True"}},
		{"niip -n " + ns, "NAME ACTION READY PODS VIOLATIONS AGE", []string{"own dryrun True"}},
	} {
		out := kubectl(t, append([]string{"get"}, strings.Fields(tt.resource)...)...)
		t.Logf("kubectl get %s\n%s", tt.resource, out)
		var lines []string
		for line := range strings.Lines(out) {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
			if len(line) > 220 {
				t.Errorf("a line of %d characters", len(line))
			}
		}
		if strings.HasSuffix(tt.resource, "-o wide") && !strings.Contains(out, "applied as it is written") {
			t.Errorf("the message is missing:\n%s", out)
		}
		if lines[0] != tt.columns {
			t.Errorf("columns %q, want %q", lines[0], tt.columns)
		}
		for _, row := range tt.rows {
			if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, row) }) {
				t.Errorf("%q is not in\n%s", row, out)
			}
		}
	}
	if out := kubectl(t, "get", "boltseal", "-A"); strings.Count(out, "boltseal.dev")+strings.Count(out, "config.ratify.deislabs.io") < 7 {
		t.Errorf("the category boltseal lacks some:\n%s", out)
	}
	if out := kubectl(t, "describe", "keymanagementprovider", "bad"); !strings.Contains(out, "Warning") || !strings.Contains(out, "Broken") || !strings.Contains(out, "no certificate") {
		t.Errorf("kubectl describe shows no event:\n%s", out)
	}
	if out := kubectl(t, "wait", "--for=condition=Ready", "verifier/verifier", "--timeout=5s"); !strings.Contains(out, "condition met") {
		t.Error(out)
	}
}
