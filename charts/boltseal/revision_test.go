package chart

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

const revisionAnnotation = "boltseal.dev/schema-revision"

// TestRevisions makes sure that a change of a schema comes with a new revision, without which the definitions of an
// older Boltseal would be put over those of a newer one.
func TestRevisions(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/revisions")
	if err != nil {
		t.Fatal(err)
	}
	recorded := map[string][]string{}
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		if f := strings.Fields(s.Text()); len(f) == 3 {
			recorded[f[0]] = f[1:]
		}
	}
	all, err := CRDs()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, doc := range strings.Split(string(all), "\n---\n") {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal([]byte(doc), &crd); err != nil {
			t.Fatal(err)
		}
		n++
		revision, err := strconv.Atoi(crd.Annotations[revisionAnnotation])
		if err != nil || revision < 1 {
			t.Errorf("%s has the annotation %s %q", crd.Name, revisionAnnotation, crd.Annotations[revisionAnnotation])
			continue
		}
		line := []string{strconv.Itoa(revision), fingerprint(t, crd.Spec)}
		switch have := recorded[crd.Name]; {
		case have == nil:
			t.Errorf("add to testdata/revisions: %s %s", crd.Name, strings.Join(line, " "))
		case have[0] == line[0] && have[1] != line[1]:
			t.Errorf("the schema of %s has changed: raise %s in api and generate, unless revision %d was never released, and put into testdata/revisions: %s REVISION %s",
				crd.Name, revisionAnnotation, revision, crd.Name, line[1])
		case have[0] != line[0]:
			t.Errorf("put into testdata/revisions: %s %s; a revision never goes down", crd.Name, strings.Join(line, " "))
		}
	}
	if n != len(recorded) {
		t.Errorf("%d definitions, %d in testdata/revisions", n, len(recorded))
	}
}

// fingerprint is that of all that matters of a definition: words may change.
func fingerprint(t *testing.T, spec apiextensionsv1.CustomResourceDefinitionSpec) string {
	t.Helper()
	raw, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(wordless(v))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(text))[:16]
}

func wordless(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			if _, text := e.(string); k == "description" && text {
				continue
			}
			out[k] = wordless(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = wordless(e)
		}
		return out
	}
	return v
}
