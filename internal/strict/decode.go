package strict

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/boltseal/boltseal/internal/nearest"
)

// Decode reads a node into a struct by its json tags. Fields that the struct
// does not have, values of the wrong type and names that stand twice are
// problems. A field whose type decodes itself from JSON takes any value. The
// error is Problems.
func (n Node) Decode(into any) error {
	d := decoder{file: n.file}
	var v any
	if n.yaml != nil {
		v = d.value(n.yaml, reflect.TypeOf(into).Elem(), n.path)
	}
	if len(d.problems) > 0 {
		return d.problems
	}
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		return Problems{n.Problem("%v", err)}
	}
	return nil
}

type decoder struct {
	file     string
	problems Problems
}

func (d *decoder) report(n *yaml.Node, path, format string, a ...any) {
	if len(d.problems) < maxProblems {
		d.problems = append(d.problems, Problem{File: d.file, Line: n.Line, Field: path, Message: fmt.Sprintf(format, a...)})
	}
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// value checks a node against a type and returns it as encoding/json's values.
func (d *decoder) value(n *yaml.Node, t reflect.Type, path string) any {
	n = resolve(n)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if n.Tag == "!!null" {
		return nil
	}
	if t.Kind() == reflect.Interface {
		return d.free(n, path)
	}
	if reflect.PointerTo(t).Implements(unmarshaler) {
		return d.itself(n, t, path)
	}
	switch t.Kind() {
	case reflect.Struct:
		return d.structure(n, t, path)
	case reflect.Map:
		return d.mapping(n, path, func(string, *yaml.Node) (reflect.Type, bool) { return t.Elem(), true })
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			d.report(n, path, "must be a list, and is %s", what(n))
			return nil
		}
		out := make([]any, 0, len(n.Content))
		for i, c := range n.Content {
			out = append(out, d.value(c, t.Elem(), fmt.Sprintf("%s[%d]", path, i)))
		}
		return out
	}
	return d.scalar(n, t, path)
}

// field is a struct's field as JSON sees it.
type field struct {
	name string
	typ  reflect.Type
}

func fields(t reflect.Type) []field {
	var fs []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && (name == "" || strings.Contains(opts, "inline")):
			fs = append(fs, fields(f.Type)...)
		case f.IsExported() && name != "-":
			if name == "" {
				name = f.Name
			}
			fs = append(fs, field{name, f.Type})
		}
	}
	return fs
}

func (d *decoder) structure(n *yaml.Node, t reflect.Type, path string) any {
	fs := fields(t)
	return d.mapping(n, path, func(name string, at *yaml.Node) (reflect.Type, bool) {
		for _, f := range fs {
			if f.name == name {
				return f.typ, true
			}
		}
		names := make([]string, len(fs))
		for i, f := range fs {
			names[i] = f.name
		}
		slices.Sort(names)
		hint := nearest.Hint(name, names)
		if hint == "" {
			hint = "; known here: " + strings.Join(names, ", ")
		}
		d.report(at, join(path, name), "unknown field%s", hint)
		return nil, false
	})
}

func (d *decoder) mapping(n *yaml.Node, path string, typeOf func(string, *yaml.Node) (reflect.Type, bool)) any {
	if n.Kind != yaml.MappingNode {
		d.report(n, path, "must be a mapping, and is %s", what(n))
		return nil
	}
	out := make(map[string]any, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, name := resolve(n.Content[i]), ""
		if key.Kind == yaml.ScalarNode {
			name = key.Value
		}
		if _, twice := out[name]; twice {
			d.report(key, join(path, name), "stands here twice")
			continue
		}
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
			d.report(key, path, "a key must be a plain word")
			continue
		}
		out[name] = nil
		if t, ok := typeOf(name, key); ok {
			out[name] = d.value(n.Content[i+1], t, join(path, name))
		}
	}
	return out
}

var anyType = reflect.TypeFor[any]()

// free takes any value, but nothing twice.
func (d *decoder) free(n *yaml.Node, path string) any {
	switch n.Kind {
	case yaml.MappingNode:
		return d.mapping(n, path, func(string, *yaml.Node) (reflect.Type, bool) { return anyType, true })
	case yaml.SequenceNode:
		return d.value(n, reflect.TypeFor[[]any](), path)
	}
	var v any
	if b, ok := boolean(n); ok {
		return b
	}
	if n.Tag == "!!timestamp" || n.Tag == "!!binary" {
		return n.Value
	}
	if err := n.Decode(&v); err != nil {
		d.report(n, path, "%v", err)
	}
	return v
}

// itself is a value whose type decodes itself: only that tells whether it can.
func (d *decoder) itself(n *yaml.Node, t reflect.Type, path string) any {
	before := len(d.problems)
	v := d.free(n, path)
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, reflect.New(t).Interface())
	}
	if err != nil && len(d.problems) == before {
		d.report(n, path, "%v", err)
	}
	return v
}

func (d *decoder) scalar(n *yaml.Node, t reflect.Type, path string) any {
	if n.Kind != yaml.ScalarNode {
		d.report(n, path, "must be %s, and is %s", kindName(t), what(n))
		return nil
	}
	switch t.Kind() {
	case reflect.String:
		if n.Tag != "!!str" && n.Tag != "!!timestamp" {
			d.report(n, path, "must be a text; write it in quotes: \"%s\"", n.Value)
			return nil
		}
		return n.Value
	case reflect.Bool:
		if b, ok := boolean(n); ok {
			return b
		}
	case reflect.Int, reflect.Int32, reflect.Int64:
		var i int64
		if n.Tag == "!!int" && n.Decode(&i) == nil {
			return i
		}
	case reflect.Float64:
		var f float64
		if (n.Tag == "!!int" || n.Tag == "!!float") && n.Decode(&f) == nil {
			return f
		}
	}
	d.report(n, path, "must be %s, and is %s", kindName(t), what(n))
	return nil
}

// boolean reads what kubectl reads as one (YAML 1.1).
func boolean(n *yaml.Node) (value, ok bool) {
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return false, false
	}
	switch n.Value {
	case "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON":
		return true, true
	case "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF":
		return false, true
	}
	return false, false
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "a whole number"
	}
	return "a number"
}

func what(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return fmt.Sprintf("%.40q", n.Value)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
