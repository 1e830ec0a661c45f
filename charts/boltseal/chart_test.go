package chart

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// run does what go generate does, into other folders.
func run(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func generate(t *testing.T, args ...string) {
	t.Helper()
	run(t, append([]string{"tool", "-modfile=tools/go.mod", "controller-gen"}, args...)...)
}

func TestGeneratedFilesAreUpToDate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	generate(t, "crd:crdVersions=v1", "paths=./api/...", "output:crd:dir="+dir)
	run(t, "-C", "tools", "run", "./unwrap", dir)
	editors := t.TempDir()
	run(t, "run", "./internal/compile/schemas/generate", ".", dir, editors)
	want, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(want) == 0 {
		t.Fatal(len(want), err)
	}
	have, _ := fs.Glob(files, "crds/*.yaml")
	if len(have) != len(want) {
		t.Errorf("%d files, %d are generated", len(have), len(want))
	}
	for _, w := range want {
		compare(t, w, filepath.Join("crds", filepath.Base(w)))
	}
	want, err = filepath.Glob(filepath.Join(editors, "*.json"))
	if err != nil || len(want) == 0 {
		t.Fatal(len(want), err)
	}
	if have, _ := filepath.Glob("../../docs/schemas/*.json"); len(have) != len(want) {
		t.Errorf("%d JSON schemas, %d are generated", len(have), len(want))
	}
	for _, w := range want {
		compare(t, w, filepath.Join("../../docs/schemas", filepath.Base(w)))
	}
	for _, pkg := range []string{"config/v1beta1", "integrity/v1alpha1", "policy/v1alpha1"} {
		dir := t.TempDir()
		generate(t, "object", "paths=./api/"+pkg, "output:object:dir="+dir)
		compare(t, filepath.Join(dir, "zz_generated.deepcopy.go"), filepath.Join("../../api", pkg, "zz_generated.deepcopy.go"))
	}
}

func compare(t *testing.T, want, have string) {
	t.Helper()
	w, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := os.ReadFile(have); err != nil || !bytes.Equal(h, w) {
		t.Errorf("%s is not what is generated from the types: run go generate ./api/... (%v)", have, err)
	}
}

// TestSchemas holds every definition to what its users rely on: a status of its
// own where it has one, columns, and words for every field that kubectl explain shows.
func TestSchemas(t *testing.T) {
	t.Parallel()
	all, err := CRDs()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{}
	for _, doc := range strings.Split(string(all), "\n---\n") {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal([]byte(doc), &crd); err != nil {
			t.Fatal(err)
		}
		kind := crd.Spec.Names.Kind
		kinds[kind] = string(crd.Spec.Scope)
		if len(crd.Spec.Versions) != 1 {
			t.Fatalf("%s has %d versions", kind, len(crd.Spec.Versions))
		}
		version := crd.Spec.Versions[0]
		// The status of these is nobody's: one side writes them, and the other reads.
		plain := kind == "FeatureRegistration" || kind == "ClusterBundle" || kind == "ClusterReport"
		if (version.Subresources != nil && version.Subresources.Status != nil) == plain || len(version.AdditionalPrinterColumns) < 2 {
			t.Errorf("%s lacks columns, or has a status subresource although it is not to, or the other way round", kind)
		}
		for name, p := range crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties {
			if name != "metadata" {
				described(t, kind+"."+name, p)
			}
		}
	}
	want := map[string]string{"CertificateStore": "Namespaced", "ImageIntegrityPolicy": "Cluster", "NamespacedImageIntegrityPolicy": "Namespaced"}
	for _, k := range []string{"KeyManagementProvider", "Store", "Verifier", "Policy"} {
		want[k], want["Namespaced"+k] = "Cluster", "Namespaced"
	}
	for _, k := range []string{"PolicyDefinition", "PolicySetDefinition", "PolicyAssignment", "PolicyExemption", "Remediation", "FeatureRegistration", "Cluster", "ClusterBundle", "ClusterReport"} {
		want[k] = "Cluster"
	}
	if len(kinds) != len(want) {
		t.Errorf("kinds %v", kinds)
	}
	for k, scope := range want {
		if kinds[k] != scope {
			t.Errorf("%s has scope %q, want %s", k, kinds[k], scope)
		}
	}
}

func described(t *testing.T, path string, p apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	if p.Description == "" {
		t.Errorf("%s has no description", path)
	}
	if p.Type == "object" && len(p.Properties) == 0 && p.AdditionalProperties == nil && (p.XPreserveUnknownFields == nil || !*p.XPreserveUnknownFields) {
		t.Errorf("%s is an object without fields", path)
	}
	for name, sub := range p.Properties {
		described(t, path+"."+name, sub)
	}
	if p.Items != nil && p.Items.Schema != nil && p.Items.Schema.Type == "object" {
		described(t, path+"[]", *p.Items.Schema)
	}
}
