package addon

import (
	"strings"
	"testing"
)

const service = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: \"${NS}\"}\n"

func TestParse(t *testing.T) {
	t.Parallel()
	s, err := Parse([]byte(service+"---\n# nothing\n---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: x.y}\n"), "1", map[string]string{"NS": "n: {"})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Objects) != 2 || s.Objects[0].GetKind() != "CustomResourceDefinition" || s.Objects[1].GetNamespace() != "n: {" || s.Version != "1" || len(s.Configuration) == 0 {
		t.Errorf("%+v", s)
	}
	if rules := s.Rules(); len(rules) != 2+len(s.Configuration) || rules[1].Resources[0] != "services" || rules[1].ResourceNames[0] != "a" {
		t.Errorf("%+v", rules)
	}
	for what, text := range map[string]string{
		"not given":    strings.ReplaceAll(service, "NS", "OTHER"),
		"twice":        service + "---\n" + service,
		"no kind":      "apiVersion: v1\nmetadata: {name: a}",
		"no name":      "apiVersion: v1\nkind: Service",
		"no YAML":      "a: [",
		"no object":    "- a",
		"too much":     strings.Repeat("#", MaxManifests+1),
		"too many":     many(MaxObjects + 1),
		"no namespace": strings.Replace(service, "v1", "", 1),
	} {
		if _, err := Parse([]byte(text), "1", map[string]string{"NS": "n"}); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x" + strings.Repeat("x", i) + "}\n")
	}
	return b.String()
}

func FuzzExpand(f *testing.F) {
	f.Add("${A}-${A}")
	f.Add("$${A")
	f.Fuzz(func(t *testing.T, s string) {
		out, err := expandText(s, map[string]string{"A": "value"})
		if err != nil {
			return
		}
		if strings.Contains(out, "${A}") && !strings.Contains(s, "${A${") && !strings.Contains(s, "$${") && strings.Count(s, "${A}") == strings.Count(out, "${A}") {
			t.Errorf("%q became %q", s, out)
		}
		if !strings.Contains(s, "${") && out != s {
			t.Errorf("%q became %q", s, out)
		}
	})
}
