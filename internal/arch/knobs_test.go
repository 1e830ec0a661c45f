package arch

import (
	"bufio"
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// knobsFile has a line for each field that users write: the field, and the tests in
// which it changes a verdict, a request or an object, each as FOLDER.TestName.
const knobsFile = "testdata/knobs"

// machines are kinds that Boltseal's own parts write to each other.
var machines = map[string]bool{"ClusterBundle": true, "ClusterReport": true}

// forPeople are fields that change nothing but what people read, and are said to, with
// the reason.
var forPeople = map[string]string{
	"displayName": "a title in lists", "description": "a text in lists", "groupNames": "Azure's files have them; the API says that they change nothing",
	"metadata.category": "a heading in lists", "metadata.version": "Azure's second place for the version; version counts", "metadata.deprecated": "a remark in lists",
	"resourceDiscoveryMode": "Azure's; every cluster is judged anew in either mode",
}

// parameters are the files with what stands under parameters, whose schema Kubernetes
// does not know, and the types in them; none means all.
var parameters = map[string][]string{
	"internal/compile/params.go": nil, "internal/compile/params_auth.go": nil, "internal/compile/keys.go": nil,
	"internal/cloud/aws/kms/parameters.go": nil, "internal/cloud/azure/keyvault/parameters.go": nil, "internal/cloud/gcp/kms/parameters.go": nil,
	"internal/cloud/vault/parameters.go": nil, "internal/keys/file/file.go": {"Parameters"}, "internal/keys/kube/kube.go": nil, "internal/keys/secretref.go": nil,
	"internal/credential/kube/kube.go": {"Secret"}, "internal/cloud/alibaba/alibaba.go": {"Instance"}, "notation/trustpolicy.go": nil,
}

// proofs are tests that change each of its fields alone, in a configuration that works,
// and fail where nothing comes of it. They name them in full, and no other test counts.
var proofs = []string{"internal/compile.TestEachFieldHasAnEffect", "internal/compile.TestEachParameterOfACloudHasAnEffect", "internal/compile.TestEachParameterOfAzureHasAnEffect",
	"internal/compile.TestEachParameterOfOtherCloudsHasAnEffect", "internal/compile.TestEachParameterOfAClustersSecretsHasAnEffect",
	"internal/governance/hub.TestEachFieldOfGovernanceHasAnEffect", "internal/governance/hub.TestEachFieldOfARemediationHasAnEffect"}

// TestEveryFieldThatUsersWriteHasATest: a knob without effect is a hole. A field is
// added with the name of a test in which that field alone changes something.
func TestEveryFieldThatUsersWriteHasATest(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	fields := crdFields(t, filepath.Join(root, "charts", "boltseal", "crds"))
	maps.DeleteFunc(fields, func(field string, _ bool) bool {
		for name := range forPeople {
			if strings.HasSuffix(field, "."+name) {
				return true
			}
		}
		return false
	})
	for file, types := range parameters {
		for _, f := range structFields(t, root, file, types) {
			fields[f] = true
		}
	}
	for _, pattern := range []string{"internal/compile/params*.go", "internal/cloud/*/parameters.go", "internal/cloud/*/*/parameters.go", "internal/keys/*/parameters.go"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if name, _ := filepath.Rel(root, file); !slices.Contains(slices.Collect(maps.Keys(parameters)), filepath.ToSlash(name)) {
				t.Errorf("%s has parameters that users write: name it in parameters", name)
			}
		}
	}
	if len(fields) < 150 {
		t.Fatalf("%d fields: the schemas are not read", len(fields))
	}
	listed := readKnobs(t)
	bodies := map[string]map[string]string{} // by folder, then function
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		tests := listed[field]
		if len(tests) == 0 {
			t.Errorf("%s: name in internal/arch/%s a test in which this field alone changes a verdict, a request or an object", field, knobsFile)
		}
		if !slices.ContainsFunc(tests, func(test string) bool { return slices.Contains(proofs, test) }) {
			t.Errorf("%s: name %s in %s, and show there what the field changes", field, strings.Join(proofs, " or "), knobsFile)
		}
		for _, test := range tests {
			folder, name, ok := cutLast(test, ".")
			if ok && bodies[folder] == nil {
				bodies[folder] = testBodies(t, filepath.Join(root, folder))
			}
			switch body, there := bodies[folder][name]; {
			case !there:
				t.Errorf("%s: there is no test %s", field, test)
			case slices.Contains(proofs, test) && !strings.Contains(body, strconv.Quote(field)):
				t.Errorf("%s: %s does not change it", field, test)
			case !regexp.MustCompile(`(?i)` + regexp.QuoteMeta(lastName(field))).MatchString(body):
				t.Errorf("%s: %s does not speak of it", field, test)
			}
		}
	}
	for field := range listed {
		if !fields[field] {
			t.Errorf("%s: %s is no field any more", knobsFile, field)
		}
	}
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// lastName is a field's own name.
func lastName(field string) string {
	_, name, _ := cutLast(strings.NewReplacer("[]", "", "{}", "").Replace(field), ".")
	return name
}

func readKnobs(t *testing.T) map[string][]string {
	t.Helper()
	data, err := os.ReadFile(filepath.FromSlash(knobsFile))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		if f := strings.Fields(s.Text()); len(f) > 0 && !strings.HasPrefix(f[0], "#") {
			out[f[0]] = f[1:]
		}
	}
	return out
}

// crdFields are the fields of all kinds that users write, as KIND.spec.field.
func crdFields(t *testing.T, folder string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal(data, &crd); err != nil {
			t.Fatal(err)
		}
		kind := crd.Spec.Names.Kind
		for _, v := range crd.Spec.Versions {
			// Policies have a test of their own; a namespace's kinds are read by the code of the
			// cluster's.
			if v.Storage && !machines[kind] && !strings.HasSuffix(kind, "ImageIntegrityPolicy") {
				schemaFields(v.Schema.OpenAPIV3Schema.Properties["spec"], strings.TrimPrefix(kind, "Namespaced")+".spec", out)
			}
		}
	}
	return out
}

func schemaFields(s apiextensionsv1.JSONSchemaProps, path string, out map[string]bool) {
	switch {
	case s.Items != nil && s.Items.Schema != nil && len(s.Items.Schema.Properties) > 0:
		s, path = *s.Items.Schema, path+"[]"
	case s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil && len(s.AdditionalProperties.Schema.Properties) > 0:
		s, path = *s.AdditionalProperties.Schema, path+"{}"
	}
	if len(s.Properties) == 0 || strings.HasSuffix(path, ".spec.parameters") && s.XPreserveUnknownFields != nil { // those are read from their types
		out[path] = true
		return
	}
	for name, p := range s.Properties {
		schemaFields(p, path+"."+name, out)
	}
}

// structFields are the fields of a file's types with names in JSON, as FOLDER.Type.field.
func structFields(t *testing.T, root, file string, types []string) (out []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, filepath.FromSlash(file)), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || len(types) > 0 && !slices.Contains(types, spec.Name.Name) {
			return true
		}
		ast.Inspect(spec.Type, func(n ast.Node) bool {
			field, ok := n.(*ast.Field)
			if !ok || field.Tag == nil {
				return true
			}
			tag, _ := strconv.Unquote(field.Tag.Value)
			name, _, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(tag, `json:"`), `"`), ",")
			if name == "" || name == "-" {
				return true
			}
			out = append(out, fmt.Sprintf("%s.%s.%s", filepath.ToSlash(filepath.Dir(file)), spec.Name.Name, name))
			return true
		})
		return false
	})
	if len(out) == 0 {
		t.Errorf("%s has no parameters", file)
	}
	return out
}

// testBodies are the texts of a folder's tests, by name, with the file's other
// declarations, which hold what they are made of.
func testBodies(t *testing.T, folder string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		rest := string(text)
		var tests []*ast.FuncDecl
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
				tests = append(tests, fn)
			}
		}
		body := func(fn *ast.FuncDecl) string { return string(text[fn.Pos()-f.FileStart : fn.End()-f.FileStart]) }
		for _, fn := range tests {
			rest = strings.Replace(rest, body(fn), "", 1)
		}
		for _, fn := range tests {
			out[fn.Name.Name] = body(fn) + rest
		}
	}
	return out
}
