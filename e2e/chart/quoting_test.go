package chart

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/boltseal/boltseal/e2e/render"
)

// oddText has what YAML reads in its own way, wherever it stands unquoted.
const oddText = `a: "b" 'c' #d {e} [f] &g *h !i %j @k | > - ? \n, true`

// TestValuesAreQuoted: a text that somebody sets arrives as it is, or is refused by
// the schema: it never becomes YAML of its own.
func TestValuesAreQuoted(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(folder, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema valueSchema
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile(filepath.Join(folder, "values.yaml")); err != nil {
		t.Fatal(err)
	}
	var defaults map[string]any
	if err := yaml.Unmarshal(text, &defaults); err != nil {
		t.Fatal(err)
	}
	leaves := map[string]valueSchema{}
	schema.leaves(schema.Definitions, "", leaves)
	odd, err := json.Marshal(oddText)
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	for _, path := range slices.Sorted(maps.Keys(leaves)) {
		if _, isText := valueAt(defaults, path).(string); !isText || len(leaves[path].Enum) > 0 || noKnobs[path] != "" {
			continue
		}
		needs := neededFor(path)
		r, err := render.Render(render.Options{Chart: folder, Values: []string{needs, setAt(path, string(odd))}})
		if err != nil {
			if !strings.Contains(err.Error(), "schema") && !strings.Contains(err.Error(), "does not match") && !strings.Contains(err.Error(), "must be") {
				t.Errorf("%s: %v", path, err)
			}
			continue
		}
		taken++
		found := false
		for doc := range strings.SplitSeq(r.Objects+r.Hooks, "\n---\n") {
			var v any
			if err := yaml.Unmarshal([]byte(doc), &v); err != nil {
				t.Errorf("%s makes what is no YAML: %v", path, err)
				break
			}
			found = found || hasText(v, oddText)
		}
		if !found {
			t.Errorf("%s does not arrive as it is", path)
		}
	}
	t.Logf("%d texts are not restricted by the schema", taken)
}

// hasText looks for a text in the scalars of a document.
func hasText(v any, text string) bool {
	switch v := v.(type) {
	case string:
		return strings.Contains(v, text)
	case []any:
		return slices.ContainsFunc(v, func(e any) bool { return hasText(e, text) })
	case map[string]any:
		for k, e := range v {
			if strings.Contains(k, text) || hasText(e, text) {
				return true
			}
		}
	}
	return false
}
