package strict

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
)

type leaf struct {
	Level    string            `json:"level"`
	Override map[string]string `json:"override,omitempty"`
	Small    int32             `json:"small,omitempty"`
	Ratio    float64           `json:"ratio,omitempty"`
}

type embedded struct {
	Kind string `json:"kind,omitempty"`
}

type sample struct {
	embedded `json:",inline"`
	Name     string          `json:"name"`
	Flag     bool            `json:"flag"`
	Maybe    *bool           `json:"maybe,omitempty"`
	TTL      int             `json:"ttl"`
	Scopes   []string        `json:"scopes"`
	Leaf     leaf            `json:"leaf"`
	Leaves   []leaf          `json:"leaves"`
	Raw      json.RawMessage `json:"raw,omitempty"`
	Any      any             `json:"any,omitempty"`
	When     *stamp          `json:"when,omitempty"`
	Hidden   string          `json:"-"`
}

// stamp decodes itself and takes one word only.
type stamp struct{ ok bool }

func (s stamp) MarshalJSON() ([]byte, error) { return []byte(`"now"`), nil }

func (s *stamp) UnmarshalJSON(b []byte) error {
	if string(b) != `"now"` {
		return errors.New("it is not now")
	}
	s.ok = true
	return nil
}

// decodeAll decodes every document of a text into T, and returns all problems.
func decodeAll[T any](text string) ([]T, Problems) {
	docs, err := Documents("f.yaml", []byte(text))
	if err != nil {
		return nil, flatten(err)
	}
	var out []T
	var ps Problems
	for _, d := range docs {
		var v T
		if err := d.Decode(&v); err != nil {
			ps = append(ps, flatten(err)...)
			continue
		}
		out = append(out, v)
	}
	return out, ps
}

func flatten(err error) Problems {
	var p Problem
	var ps Problems
	if errors.As(err, &p) {
		return Problems{p}
	}
	errors.As(err, &ps)
	return ps
}

func TestDecode(t *testing.T) {
	t.Parallel()
	yes := true
	for _, c := range []struct {
		name, text string
		want       []sample
	}{
		{"fields", "name: a\nflag: true\nmaybe: true\nttl: 5\nscopes: [x, w]\nleaf: {level: l, override: {k: v}, small: -3, ratio: 1.5}\nleaves:\n- level: m\nkind: K\n",
			[]sample{{embedded: embedded{"K"}, Name: "a", Flag: true, Maybe: &yes, TTL: 5, Scopes: []string{"x", "w"}, Leaf: leaf{"l", map[string]string{"k": "v"}, -3, 1.5}, Leaves: []leaf{{Level: "m"}}}}},
		{"JSON", `{"name": "a", "flag": true, "leaf": {"level": "l"}}`, []sample{{Name: "a", Flag: true, Leaf: leaf{Level: "l"}}}},
		{"JSON over lines, with tabs", "{\n\t\"name\": \"a\",\n\t\"leaf\": {\"level\": \"l\"}\n}\n", []sample{{Name: "a", Leaf: leaf{Level: "l"}}}},
		{"several documents", "name: a\n---\nname: b\n...\n---\nname: c\n", []sample{{Name: "a"}, {Name: "b"}, {Name: "c"}}},
		{"empty documents", "---\n---\n# a comment\n---\nname: a\n---\n---\nnull\n---\n~\n", []sample{{Name: "a"}}},
		{"nothing", "", nil},
		{"comments only", "# a\n# b\n", nil},
		{"comments", "# before\nname: a # after\n# between\nflag: true\n", []sample{{Name: "a", Flag: true}}},
		{"mark of UTF-8", "\ufeffname: a\n", []sample{{Name: "a"}}},
		{"line breaks of Windows", "name: a\r\nflag: true\r\nscopes:\r\n- x\r\n", []sample{{Name: "a", Flag: true, Scopes: []string{"x"}}}},
		{"nulls", "name: null\nmaybe: ~\nleaf:\nscopes: null\nttl:\nraw: null\nany:\nwhen: null\n", []sample{{Raw: json.RawMessage("null")}}},
		{"booleans as kubectl reads them", "flag: yes\nmaybe: On\n", []sample{{Flag: true, Maybe: &yes}}},
		{"a date for a text", "name: 2026-11-23\n", []sample{{Name: "2026-11-23"}}},
		{"a number in quotes for a text", "name: \"5\"\n", []sample{{Name: "5"}}},
		{"a tag that says text", "name: !!str 5\n", []sample{{Name: "5"}}},
		{"text of several lines", "name: |\n  a\n  b\n", []sample{{Name: "a\nb\n"}}},
		{"folded text", "name: >-\n  a\n  b\n", []sample{{Name: "a b"}}},
		{"alias", "leaf: &x {level: l}\nleaves: [*x, *x]\n", []sample{{Leaf: leaf{Level: "l"}, Leaves: []leaf{{Level: "l"}, {Level: "l"}}}}},
		{"a number for a name of a map", "leaf: {override: {5: x}}\n", []sample{{Leaf: leaf{Override: map[string]string{"5": "x"}}}}},
		{"free-form", "raw: {a: [1, yes, null, 2.5, x]}\nany: {b: {c: d}}\n", []sample{{Raw: json.RawMessage(`{"a":[1,true,null,2.5,"x"]}`), Any: map[string]any{"b": map[string]any{"c": "d"}}}}},
		{"decodes itself", "when: now\n", []sample{{When: &stamp{true}}}},
		{"List", "apiVersion: v1\nkind: List\nmetadata: {resourceVersion: \"\"}\nitems:\n- name: a\n- name: b\n---\nname: c\n", []sample{{Name: "a"}, {Name: "b"}, {Name: "c"}}},
		{"empty List", "apiVersion: v1\nkind: List\nitems: []\n---\nkind: List\nitems:\n", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, ps := decodeAll[sample](c.text)
			if len(ps) > 0 || !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v\n%v\nwant %+v", got, ps, c.want)
			}
		})
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{"unknown field", "name: a\nnmae: b\n", `f.yaml:2: nmae: unknown field (did you mean "name"?)`},
		{"unknown field by case", "Name: a\n", `f.yaml:1: Name: unknown field (did you mean "name"?)`},
		{"unknown field near nothing", "zzzzzzzzz: a\n", "f.yaml:1: zzzzzzzzz: unknown field; known here: any, flag, kind, leaf, leaves, maybe, name, raw, scopes, ttl, when"},
		{"a field that JSON does not see", "Hidden: a\n", "unknown field"},
		{"below", "leaf:\n  level: x\n  overide:\n    a: b\n", `f.yaml:3: leaf.overide: unknown field (did you mean "override"?)`},
		{"below in a list", "leaves:\n- level: x\n- level: y\n  levle: z\n", `f.yaml:4: leaves[1].levle: unknown field (did you mean "level"?)`},
		{"below in JSON", "{\"leaf\":\n {\"level\": \"x\",\n \"overide\": {}}}", `f.yaml:3: leaf.overide: unknown field`},
		{"below an alias", "leaf: &x\n  lvl: a\nleaves:\n- *x\n", "f.yaml:2: leaf.lvl: unknown field; known here: level, override, ratio, small\nf.yaml:2: leaves[0].lvl: unknown field"},
		{"in the second document", "name: a\n---\n\nnmae: b\n", "f.yaml:4: nmae: unknown field"},
		{"in the second item", "kind: List\nitems:\n- name: a\n- nmae: b\n", "f.yaml:4: nmae: unknown field"},
		{"with a strange name", "\"na\\nme\": a\n", `f.yaml:1: "na\u2026": unknown field`},
		{"with an escape in its name", "\"\\e[31mname\": a\n", `f.yaml:1: "\x1b[31mname": unknown field`},
		{"with a long name", strings.Repeat("n", 500) + ": a\n", `f.yaml:1: "` + strings.Repeat("n", maxShown) + `\u2026": unknown field`},
		{"twice", "name: a\nname: b\n", "f.yaml:2: name: is listed twice"},
		{"twice below", "leaf:\n  level: a\n  override: {}\n  level: b\n", "f.yaml:4: leaf.level: is listed twice"},
		{"twice in a map", "leaf: {override: {a: b, a: c}}\n", "f.yaml:1: leaf.override.a: is listed twice"},
		{"twice in free form", "raw:\n  a: 1\n  b: {c: 1, c: 2}\n", "f.yaml:3: raw.b.c: is listed twice"},
		{"twice, once in quotes", "name: a\n\"name\": b\n", "f.yaml:2: name: is listed twice"},
		{"list for a text", "name: [a]\n", "f.yaml:1: name: must be a text, and is a list"},
		{"list for a text, told where its name is", "name:\n- a\n", "f.yaml:1: name: must be a text, and is a list"},
		{"mapping for a list", "scopes: {a: b}\n", "f.yaml:1: scopes: must be a list, and is a mapping"},
		{"text for a list", "scopes: a\n", `f.yaml:1: scopes: must be a list, and is "a"`},
		{"text for a mapping", "leaf: a\n", `f.yaml:1: leaf: must be a mapping, and is "a"`},
		{"list for a mapping", "leaf:\n  - level: a\n", "f.yaml:1: leaf: must be a mapping, and is a list"},
		{"text for a boolean", "flag: maybe\n", `f.yaml:1: flag: must be true or false, and is "maybe"`},
		{"quoted boolean", "flag: \"true\"\n", `f.yaml:1: flag: must be true or false, and is "true"`},
		{"number for a boolean", "flag: 1\n", `must be true or false, and is "1"`},
		{"text for a number", "ttl: ten\n", `f.yaml:1: ttl: must be a whole number, and is "ten"`},
		{"quoted number", "ttl: \"10\"\n", `must be a whole number, and is "10"`},
		{"fraction for a whole number", "ttl: 1.5\n", `must be a whole number, and is "1.5"`},
		{"number too large", "ttl: 99999999999999999999\n", `must be a whole number`},
		{"number too large for its field", "leaf: {small: 3000000000}\n", "f.yaml:1: leaf.small: must be a whole number"},
		{"infinity", "leaf: {ratio: .inf}\n", "leaf.ratio: must be a number"},
		{"no number in free form", "raw: .nan\n", "f.yaml:1: raw: .nan is no number that JSON has"},
		{"number for a text", "name: 1.0\n", `f.yaml:1: name: must be a text, and 1.0 is none to YAML; write it in quotes: "1.0"`},
		{"boolean for a text", "name: yes\n", `f.yaml:1: name: must be a text, and yes is none to YAML; write it in quotes: "yes"`},
		{"long number for a text", "name: " + strings.Repeat("1", 300) + "\n", "name: must be a text, and " + strings.Repeat("1", maxShown) + "…"},
		{"value over lines", "flag: |\n  first\n  second\n", `must be true or false, and is "first…"`},
		{"decodes itself and cannot", "when: later\n", "f.yaml:1: when: it is not now"},
		{"boolean for a name", "leaf: {override: {on: x}}\n", `f.yaml:1: leaf.override: the name on is no text to YAML; write it in quotes: "on"`},
		{"null for a name", "leaf: {override: {~: x}}\n", "the name ~ is no text to YAML"},
		{"odd number for a name", "leaf: {override: {0x10: x}}\n", "the name 0x10 is no text to YAML"},
		{"a template's value", "flag: {{ .Values.a }}\n", "is this a template of Helm or another tool"},
		{"a template's value in quotes, for another type", "ttl: '{{ .Values.b }}'\n", "is this a template of Helm or another tool"},
		{"a template's line", "{{- if .Values.a }}\na: b\n{{- end }}\n", "is this a template of Helm or another tool"},
		{"list for a name", "? [a]\n: b\n", "f.yaml:1: a name must be a text, and is a list"},
		{"merge key", "leaf: &x {level: a}\nleaves:\n- <<: *x\n", `f.yaml:3: leaves[0]: "<<" (merge) is not read here; write the fields out`},
		{"binary", "name: !!binary aGk=\n", "f.yaml:1: name: the tag !!binary is not read here; write the value without it"},
		{"tag of one's own", "leaf: !mine {level: a}\n", "the tag !mine is not read here"},
		{"null for a mapping", "leaf: !!null {level: a}\n", "the tag !!null is not read here"},
		{"text for a list by its tag", "scopes: !!str [a]\n", "the tag !!str is not read here"},
		{"a scalar for a document", "just words\n", `f.yaml:1: must be a mapping, and is "just words"`},
		{"a list for a document", "- name: a\n", "f.yaml:1: must be a mapping, and is a list"},
		{"tab", "leaf:\n\tlevel: a\n", "f.yaml:2: found character that cannot start any token: a tab; indent with spaces"},
		{"tab after spaces", "leaf:\n  level: a\n  \toverride: {}\n", "a tab; indent with spaces"},
		{"at sign", "name: @a\n", "f.yaml:1: found character that cannot start any token: a text that begins with @, % or ` must be quoted"},
		{"colon in a text", "name: a: b\n", `mapping values are not allowed in this context: a text with ": " in it must be quoted`},
		{"open quote", "name: \"a\n", "f.yaml:2: found unexpected end of stream: a quote or a bracket is not closed"},
		{"open bracket", "scopes: [a, b\nname: x\n", "f.yaml:1: did not find expected ',' or ']'"},
		{"certificate without |", "name:\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", `is the line before indented too far, or a "|" missing before a text of several lines?`},
		{"unknown anchor", "name: a\nleaf: *nobody\n", "f.yaml:2: the alias *nobody has no anchor &nobody before it; a text that begins with * must be quoted"},
		{"star without quotes", "scopes:\n- *\n", "f.yaml:2: did not find expected alphabetic or numeric character"},
		{"two JSON documents in a line", "{\"name\":\"a\"}{\"name\":\"b\"}", "documents are separated by a line ---"},
		{"mark in the middle", "name: a\n---\n\ufeffname: b\n", "f.yaml:3: a byte order mark (U+FEFF) is here"},
		{"not UTF-8", "name: \xff\n", "f.yaml:1: invalid leading UTF-8 octet"},
		{"control character", "name: a\nleaf: \x01\n", "f.yaml:2: control characters are not allowed"},
		{"List with a field too many", "kind: List\nitmes: []\n", `f.yaml:2: itmes: unknown field of a List (did you mean "items"?)`},
		{"List without items", "apiVersion: v1\nkind: List\n", "f.yaml:1: a List needs items"},
		{"List of no list", "kind: List\nitems: a\n", `f.yaml:2: items: must be a list, and is "a"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, ps := decodeAll[sample](c.text)
			if !strings.Contains(ps.Error(), c.want) {
				t.Errorf("%q\nwant %q", ps, c.want)
			}
			if !errors.Is(ps, boltseal.ErrConfiguration) || len(ps) > 0 && !errors.Is(ps[0], boltseal.ErrConfiguration) {
				t.Error("it is no problem of the configuration")
			}
			if strings.ContainsAny(ps.Error(), "\x1b\x07\x00") {
				t.Errorf("%q holds control characters", ps)
			}
		})
	}
}

// TestAllProblems: one look tells everything, in the order of the text.
func TestAllProblems(t *testing.T) {
	t.Parallel()
	_, ps := decodeAll[sample]("nmae: a\nflag: x\nscopes: [a, 1, {}]\nleaf:\n  lvl: 1\n---\nttl: x\n")
	want := []string{`f.yaml:1: nmae`, `f.yaml:2: flag`, `f.yaml:3: scopes[1]`, `f.yaml:3: scopes[2]`, `f.yaml:5: leaf.lvl`, `f.yaml:7: ttl`}
	if len(ps) != len(want) {
		t.Fatalf("%v", ps)
	}
	for i, p := range ps {
		if !strings.HasPrefix(p.Error(), want[i]+": ") {
			t.Errorf("%v, want %s", p, want[i])
		}
	}
}

func TestManyProblems(t *testing.T) {
	t.Parallel()
	_, ps := decodeAll[sample]("scopes:\n" + strings.Repeat("- 1\n", 10*MaxProblems))
	if len(ps) != MaxProblems+1 || !strings.Contains(ps[MaxProblems].Error(), "more is wrong from here on") || ps[MaxProblems].Line != MaxProblems+2 {
		t.Errorf("%d problems, the last %v", len(ps), ps[len(ps)-1])
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	laughs := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 10; i++ {
		laughs += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	for _, c := range []struct{ name, text, want string }{
		{"bytes", strings.Repeat(" ", MaxBytes+1), fmt.Sprintf("f.yaml: it has more than %d bytes", MaxBytes)},
		{"documents", strings.Repeat("---\na: b\n", MaxDocuments+1), fmt.Sprintf("f.yaml:%d: more than %d documents", 2*MaxDocuments+1, MaxDocuments)},
		{"empty documents", strings.Repeat("---\n", MaxDocuments+2), "more than"},
		{"items of a List", "kind: List\nitems:\n" + strings.Repeat("- a: b\n", MaxDocuments+1), "more than"},
		{"billion laughs", laughs, fmt.Sprintf("more than %d values, aliases counted each time", maxNodes)},
		{"values", strings.Repeat("- a\n", maxNodes+1), fmt.Sprintf("more than %d values", maxNodes)},
		{"values in several documents", strings.Repeat("---\n["+strings.Repeat("a,", maxNodes/4)+"]\n", 5), fmt.Sprintf("more than %d values", maxNodes)},
		{"depth", strings.Repeat("[", maxDepth+2) + strings.Repeat("]", maxDepth+2), fmt.Sprintf("f.yaml:1: nested deeper than %d", maxDepth)},
		{"depth by indentation", deep(maxDepth + 2), "nested deeper than"},
		{"depth of the parser", strings.Repeat("[", 20_000), "exceeded max depth"},
		{"an alias in itself", "a: &a [*a]\n", "nested deeper than"},
		{"an alias in itself, twice", "a: &a {b: [*a, *a, *a, *a]}\n", "nested deeper than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if len(c.text) > MaxBytes && c.name != "bytes" {
				t.Fatalf("%d bytes: the limit of bytes hides what is tested", len(c.text))
			}
			docs, err := Documents("f.yaml", []byte(c.text))
			if err == nil || docs != nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%d documents, %v, want %q", len(docs), err, c.want)
			}
		})
	}
	if docs, err := Documents("f.yaml", []byte(strings.Repeat("---\na: b\n", MaxDocuments))); err != nil || len(docs) != MaxDocuments {
		t.Errorf("at the limit: %d documents, %v", len(docs), err)
	}
}

func deep(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestNode(t *testing.T) {
	t.Parallel()
	docs, err := Documents("f.yaml", []byte("# x\nspec:\n  list:\n  - a\n  - b: c\n  empty: null\n  at: &x {y: z}\n  again: *x\n"))
	if err != nil || len(docs) != 1 {
		t.Fatal(docs, err)
	}
	d := docs[0]
	list, ok := d.Get("spec", "list")
	if !ok || !list.IsList() || list.IsMapping() || list.Place() != "f.yaml:3" || len(list.Items()) != 2 || list.Members() != nil {
		t.Errorf("list: %+v", list)
	}
	for _, c := range []struct{ p, want string }{
		{list.Items()[1].Problem("%s", "x").Error(), "f.yaml:5: spec.list[1]: x"},
		{list.Items()[1].Members()[0].Node.Problem("x").Error(), "f.yaml:5: spec.list[1].b: x"},
		{d.At("spec.list", "x").Error(), "f.yaml:3: spec.list: x"},
		{d.At("spec.absent.deeper", "x").Error(), "f.yaml:2: spec.absent.deeper: x"},
		{d.At("absent", "x").Error(), "f.yaml:2: absent: x"},
		{Problem{Message: "x"}.Error(), "x"},
		{Problem{Line: 3, Message: "x"}.Error(), "line 3: x"},
		{Problem{File: "f", Message: "x"}.Error(), "f: x"},
		{d.Text("spec", "at", "y"), "z"}, {d.Text("spec", "again", "y"), "z"}, {d.Text("spec", "list"), ""}, {d.Text("nobody"), ""},
		{list.What(), "a list"}, {Node{}.What(), "empty"},
	} {
		if c.p != c.want {
			t.Errorf("%q, want %q", c.p, c.want)
		}
	}
	for _, path := range [][]string{{"spec", "empty"}, {"spec", "list", "a"}, {"nobody"}} {
		if _, ok := d.Get(path...); ok {
			t.Errorf("%v is there", path)
		}
	}
	if _, ok := (Node{}).Get(); ok || (Node{}).Members() != nil || (Node{}).Items() != nil {
		t.Error("the zero Node has something in it")
	}
	if err := (Node{}).Decode(&sample{}); err != nil {
		t.Error(err)
	}
}
