package strict_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/strict"
)

type inner struct {
	Name  string            `json:"name"`
	Count int               `json:"count"`
	On    bool              `json:"on"`
	Rate  float64           `json:"rate"`
	Words []string          `json:"words"`
	Map   map[string]string `json:"map"`
	Deep  *inner            `json:"deep"`
	Free  any               `json:"free"`
}

type base struct {
	Kind string `json:"kind"`
}

type document struct {
	base `json:",inline"`
	Spec inner `json:"spec"`
}

func one(t testing.TB, text string) (strict.Node, error) {
	t.Helper()
	docs, err := strict.Documents("f.yaml", []byte(text))
	if err != nil {
		return strict.Node{}, err
	}
	if len(docs) != 1 {
		t.Fatalf("%d documents in %q", len(docs), text)
	}
	return docs[0], nil
}

func decode(t testing.TB, text string) (document, error) {
	t.Helper()
	var d document
	n, err := one(t, text)
	if err == nil {
		err = n.Decode(&d)
	}
	return d, err
}

func TestDecode(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"kind: K\nspec:\n  name: n\n  count: 3\n  on: yes\n  rate: 1.5\n  words: [a, \"b\"]\n  map: {x: y}\n  deep: {name: m}\n  free: {a: [1, true, null]}\n",
		`{"kind":"K","spec":{"name":"n","count":3,"on":true,"rate":1.5,"words":["a","b"],"map":{"x":"y"},"deep":{"name":"m"},"free":{"a":[1,true,null]}}}`,
		"\uFEFFkind: K\nspec: {name: n, count: 3, on: on, rate: 1.5, words: [a, b], map: {x: y}, deep: &d {name: m}, free: {a: [1, true, ]}}",
		"kind: K\nspec:\n  deep: &d\n    name: m\n  name: n\n  count: 0x3\n  on: True\n  rate: 1.5\n  words:\n  - a\n  - b\n  map:\n    x: y\n",
	} {
		d, err := decode(t, text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if s := d.Spec; d.Kind != "K" || s.Name != "n" || s.Count != 3 || !s.On || s.Rate != 1.5 || len(s.Words) != 2 || s.Map["x"] != "y" || s.Deep == nil || s.Deep.Name != "m" {
			t.Errorf("%q: %+v", text, d)
		}
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, says string }{
		{"unknown field", "spec:\n  naem: n\n", `f.yaml:2: spec.naem: unknown field (did you mean "name"?)`},
		{"unknown at the top", "spek: {}\n", `did you mean "spec"?`},
		{"unknown and far", "spec:\n  zzzzzzzz: 1\n", "known here: count, deep,"},
		{"unknown and deep", "spec:\n  deep:\n    deep:\n      cuont: 1\n", `f.yaml:4: spec.deep.deep.cuont: unknown field (did you mean "count"?)`},
		{"case", "spec: {Name: n}\n", `did you mean "name"?`},
		{"twice", "spec:\n  name: a\n  name: b\n", "f.yaml:3: spec.name: stands here twice"},
		{"twice in what is free", "spec:\n  free:\n    a: 1\n    a: 2\n", "stands here twice"},
		{"text for a number", "spec: {count: three}\n", `spec.count: must be a whole number, and is "three"`},
		{"number for text", "spec: {name: 1.0}\n", `spec.name: must be a text; write it in quotes: "1.0"`},
		{"text for a list", "spec: {words: a}\n", "spec.words: must be a list"},
		{"list for text", "spec: {name: [a]}\n", "spec.name: must be a text, and is a list"},
		{"list for a mapping", "spec: []\n", "spec: must be a mapping, and is a list"},
		{"number in a list of texts", "spec: {words: [a, 2]}\n", "spec.words[1]: must be a text"},
		{"boolean in quotes", "spec: {on: \"true\"}\n", "spec.on: must be true or false"},
		{"fraction for a whole number", "spec: {count: 1.5}\n", "spec.count: must be a whole number"},
		{"merge key", "spec:\n  deep: &d {name: m}\n  <<: *d\n", "a key must be a plain word"},
		{"a mapping as a key", "spec:\n  ? {a: b}\n  : c\n", "a key must be a plain word"},
		{"tab", "spec:\n\tname: n\n", "f.yaml"},
		{"not YAML", "spec: {", "f.yaml"},
		{"unknown anchor", "spec: *x\n", "unknown anchor"},
		{"too deep", "spec:\n  free: " + strings.Repeat("[", 100) + strings.Repeat("]", 100), "nested deeper than"},
		{"too large", strings.Repeat("#", strict.MaxBytes+1), "at most"},
		{"billion laughs", laughs(), "values, aliases counted each time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := decode(t, tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("%v\nwant %q", err, tt.says)
			}
			if !errors.Is(err, boltseal.ErrConfiguration) {
				t.Errorf("%v is not a problem of the configuration", err)
			}
		})
	}
}

func laughs() string {
	var b strings.Builder
	b.WriteString("spec:\n  free:\n    a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 10; i++ {
		fmt.Fprintf(&b, "    a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	return b.String()
}

// TestAllProblems: a user mends a file in one go, not one message at a time.
func TestAllProblems(t *testing.T) {
	t.Parallel()
	_, err := decode(t, "kidn: K\nspec:\n  naem: n\n  count: x\n  words: 1\n")
	var ps strict.Problems
	if !errors.As(err, &ps) || len(ps) != 4 {
		t.Fatalf("%v, want four problems", err)
	}
	for i, line := range []int{1, 3, 4, 5} {
		if ps[i].Line != line || ps[i].File != "f.yaml" {
			t.Errorf("problem %d is at %s:%d, want line %d", i, ps[i].File, ps[i].Line, line)
		}
	}
	var many strings.Builder
	for i := range 100 {
		fmt.Fprintf(&many, "x%d: 1\n", i)
	}
	if _, err := decode(t, many.String()); !errors.As(err, &ps) || len(ps) > 20 {
		t.Errorf("%d problems are told", len(ps))
	}
}

func TestDocuments(t *testing.T) {
	t.Parallel()
	docs, err := strict.Documents("f", []byte("# a comment\n---\nkind: A\n---\n---\nnull\n---\nkind: B\n...\n---\nkind: List\nitems:\n- kind: C\n- kind: D\n"))
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, d := range docs {
		kinds = append(kinds, d.Text("kind"))
	}
	if got := strings.Join(kinds, ""); got != "ABCD" {
		t.Errorf("documents %q", got)
	}
	if docs[1].Place() != "f:8" {
		t.Errorf("the second is at %s", docs[1].Place())
	}
	if _, err := strict.Documents("f", []byte(strings.Repeat("a: b\n---\n", strict.MaxDocuments+1))); err == nil || !strings.Contains(err.Error(), "documents") {
		t.Errorf("too many documents: %v", err)
	}
}

func TestNode(t *testing.T) {
	t.Parallel()
	n, err := one(t, "kind: K\nspec:\n  name: n\n  none: null\n  list: [a]\n")
	if err != nil {
		t.Fatal(err)
	}
	if n.Text("spec", "name") != "n" || n.Text("spec", "list") != "" || n.Text("spec", "nothing", "there") != "" || n.Text("kind", "below") != "" {
		t.Error("texts")
	}
	if _, ok := n.Get("spec", "none"); ok {
		t.Error("null counts as there")
	}
	if p := n.At("spec.name", "is %s", "bad"); p.Error() != "f.yaml:3: spec.name: is bad" {
		t.Error(p)
	}
	if p := n.At("spec.missing", "is missing"); p.Error() != "f.yaml:1: spec.missing: is missing" {
		t.Error(p)
	}
	var zero strict.Node
	if zero.Text("a") != "" || zero.Place() != "" {
		t.Error("the zero node")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("kind: K\nspec: {name: n, words: [a], deep: {count: 1}}\n")
	f.Add("a: &a [*a]\n")
	f.Add("spec:\n  <<: {name: x}\n")
	f.Add("? [a]\n: b\n--- \n!!binary aGk=\n")
	f.Add("spec: {free: !!timestamp 2001-01-01, name: 2001-01-01}\n")
	f.Fuzz(func(t *testing.T, text string) {
		docs, err := strict.Documents("f", []byte(text))
		inside(t, text, err)
		for _, n := range docs {
			var a, b document
			err := n.Decode(&a)
			inside(t, text, err)
			if err != nil {
				continue
			}
			if err := n.Decode(&b); err != nil || fmt.Sprintf("%+v", a.Spec.Name) != fmt.Sprintf("%+v", b.Spec.Name) {
				t.Errorf("%q decodes as %+v, then as %+v, %v", text, a, b, err)
			}
		}
	})
}

// inside checks that problems have their place within the file.
func inside(t *testing.T, text string, err error) {
	t.Helper()
	var ps strict.Problems
	if !errors.As(err, &ps) {
		return
	}
	lines := strings.Count(text, "\n") + strings.Count(text, "\r") + strings.Count(text, "\u0085") + strings.Count(text, "\u2028") + strings.Count(text, "\u2029") + 1
	for _, p := range ps {
		if p.Line < 0 || p.Line > lines {
			t.Errorf("%q: problem at line %d of %d: %v", text, p.Line, lines, p)
		}
	}
}
