// Package editors holds the JSON schemas that editors read against the files that people begin with.
package editors

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

const (
	root = "../.."
	dir  = root + "/docs/schemas"
	all  = "boltseal.json"
)

func compile(t *testing.T, file string) *jsonschema.Schema {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// documents are those of a file, as JSON has them.
func documents(t *testing.T, text []byte) (out []map[string]any) {
	t.Helper()
	for dec := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var d map[string]any
		if err := dec.Decode(&d); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		if d == nil {
			continue
		}
		b, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v.(map[string]any))
	}
}

// TestWhatPeopleBeginWith: the examples, and every kind and parameter that users of
// Ratify have, are right by the schema of all kinds and by that of their own.
func TestWhatPeopleBeginWith(t *testing.T) {
	files, err := filepath.Glob(root + "/examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(len(files), err)
	}
	seen := 0
	for _, file := range append(files, root+"/e2e/tests/testdata/ratify-documents.yaml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range documents(t, text) {
			seen++
			kind, _ := d["kind"].(string)
			for _, schema := range []string{all, strings.ToLower(kind) + ".json"} {
				if err := compile(t, schema).Validate(d); err != nil {
					t.Errorf("%s: %s by %s: %v", file, kind, schema, err)
				}
			}
		}
	}
	if seen < 15 {
		t.Errorf("%d documents", seen)
	}
}

// TestWhatIsWrong: a field that is not known is wrong wherever it stands, and so is
// one of another type's; kinds of others pass.
func TestWhatIsWrong(t *testing.T) {
	const ratify = "apiVersion: config.ratify.deislabs.io/v1beta1\nkind: "
	s := compile(t, all)
	for text, right := range map[string]bool{
		ratify + "Store\nmetadata: {name: s}\nspec: {name: oras, parameters: {useHttp: true}}":                                                          true,
		ratify + "Store\nmetadata: {name: s}\nspec: {name: oras, parameters: {useHtp: true}}":                                                           false,
		ratify + "Store\nmetadata: {name: s}\nspec: {name: oras, parameters: {registries: [{hots: a}]}}":                                                false,
		ratify + "Store\nmetadata: {name: s}\nspec: {name: oras, parameters: {useHttp: 1}}":                                                             false,
		ratify + "Store\nmetadata: {name: s}\nspec: {nam: oras}":                                                                                        false,
		ratify + "NamespacedStore\nmetadata: {name: s, namespace: n}\nspec: {name: oras, parameters: {scops: []}}":                                      false,
		ratify + "KeyManagementProvider\nmetadata: {name: k}\nspec: {type: inline, parameters: {value: x}}":                                             true,
		ratify + "KeyManagementProvider\nmetadata: {name: k}\nspec: {provider: inline, parameters: {value: x}}":                                         true,
		ratify + "KeyManagementProvider\nmetadata: {name: k}\nspec: {type: inline, parameters: {vaultURI: x}}":                                          false,
		ratify + "KeyManagementProvider\nmetadata: {name: k}\nspec: {type: azurekeyvault, parameters: {vaultURI: x, tenantID: null}}":                   true,
		ratify + "CertificateStore\nmetadata: {name: k}\nspec: {provider: inline, parameters: {valu: x}}":                                               false,
		ratify + "Verifier\nmetadata: {name: v}\nspec: {name: notation, artifactTypes: x/y, parameters: {trustPolcyDoc: {}}}":                           false,
		ratify + "Verifier\nmetadata: {name: v}\nspec: {type: notation, artifactTypes: x/y, parameters: {trustPolicyDoc: {trustPolices: []}}}":          false,
		ratify + "Verifier\nmetadata: {name: v}\nspec: {name: cosign, artifactTypes: x/y, parameters: {key: x}}":                                        true,
		ratify + "Policy\nmetadata: {name: ratify-policy}\nspec: {type: config-policy, parameters: {artifactVerificationPolicys: {}}}":                  false,
		"apiVersion: boltseal.dev/v1alpha1\nkind: ImageIntegrityPolicy\nmetadata: {name: p}\nspec: {enforcmentAction: deny}":                            false,
		"apiVersion: boltseal.dev/v1alpha1\nkind: ImageIntegrityPolicy\nmetadata: {name: p}\nspec: {enforcementAction: warn}":                           true,
		"apiVersion: boltseal.dev/v1alpha1\nkind: ImageIntegrityPolicy\nmetadata: {name: p}\nspec: {enforcementAction: audit}":                          false,
		"apiVersion: policy.boltseal.dev/v1alpha1\nkind: PolicyExemption\nmetadata: {name: e}\nspec: {policyAssignmentId: a, exemptionCategory: Waver}": false,
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: b}":                                                                            true,
	} {
		for _, d := range documents(t, []byte(text)) {
			if err := s.Validate(d); (err == nil) != right {
				t.Errorf("%s\nright: %t; %v", text, right, err)
			}
		}
	}
}

// TestEveryKindHasASchema: those of the definitions that people write, and no others.
func TestEveryKindHasASchema(t *testing.T) {
	crds, err := filepath.Glob(root + "/charts/boltseal/crds/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{all}
	for _, file := range crds {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var crd struct {
			Spec struct{ Names struct{ Kind string } }
		}
		if err := yaml.Unmarshal(text, &crd); err != nil {
			t.Fatal(err)
		}
		if kind := crd.Spec.Names.Kind; kind != "ClusterBundle" && kind != "ClusterReport" {
			want = append(want, strings.ToLower(kind)+".json")
		}
	}
	var have []string
	files, err := filepath.Glob(dir + "/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		have = append(have, filepath.Base(f))
	}
	slices.Sort(want)
	if slices.Sort(have); !slices.Equal(have, want) {
		t.Errorf("%v, want %v", have, want)
	}
}
