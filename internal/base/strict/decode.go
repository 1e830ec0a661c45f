package strict

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/boltseal/boltseal/internal/base/nearest"
)

// Decode reads a node into a struct by its json tags. Fields that the struct
// does not have, values of the wrong type and names that stand twice are
// problems. A field whose type decodes itself from JSON, json.RawMessage too,
// takes any value. The error is [Problems], at most MaxProblems of them and a
// word that there are more; into is then as it was.
func (n Node) Decode(into any) error {
	d := decoder{file: n.file}
	var v any
	if n.yaml != nil {
		v = d.value(n.yaml, n.line, reflect.TypeOf(into).Elem(), n.path)
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

// full tells whether there is no room for another problem, and says so once.
func (d *decoder) full(line int) bool {
	if len(d.problems) == MaxProblems {
		d.problems = append(d.problems, Problem{File: d.file, Line: line, Message: "more is wrong from here on; it is not listed"})
	}
	return len(d.problems) > MaxProblems
}

func (d *decoder) report(line int, path, format string, a ...any) {
	if !d.full(line) {
		d.problems = append(d.problems, Problem{File: d.file, Line: line, Field: path, Message: fmt.Sprintf(format, a...)})
	}
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// value checks a node against a type and returns it as encoding/json's values.
func (d *decoder) value(n *yaml.Node, line int, t reflect.Type, path string) any {
	n = resolve(n)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case !d.tagged(n, line, path), isNull(n):
		return nil
	case t.Kind() == reflect.Interface:
		return d.free(n, line, path)
	case reflect.PointerTo(t).Implements(unmarshaler):
		return d.itself(n, line, t, path)
	}
	switch t.Kind() {
	case reflect.Struct:
		return d.structure(n, line, t, path)
	case reflect.Map:
		return d.mapping(n, line, path, func(string, *yaml.Node) (reflect.Type, bool) { return t.Elem(), true })
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			d.report(line, path, "must be a list, and is %s", what(n))
			return nil
		}
		out := make([]any, 0, len(n.Content))
		for i, c := range n.Content {
			out = append(out, d.value(c, c.Line, t.Elem(), path+"["+strconv.Itoa(i)+"]"))
		}
		return out
	}
	return d.scalar(n, line, t, path)
}

// tagged refuses tags that change what a value is.
func (d *decoder) tagged(n *yaml.Node, line int, path string) bool {
	if n.Style&yaml.TaggedStyle == 0 {
		return true
	}
	switch tag := n.ShortTag(); {
	case n.Kind == yaml.ScalarNode && tag == "!!str", n.Kind == yaml.MappingNode && tag == "!!map", n.Kind == yaml.SequenceNode && tag == "!!seq":
		return true
	default:
		d.report(line, path, "the tag %s is not read here; write the value without it", Label(tag))
		return false
	}
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

// Fields are the names of a struct's fields, as JSON sees them.
func Fields(t reflect.Type) []string {
	var names []string
	for _, f := range fields(t) {
		names = append(names, f.name)
	}
	return names
}

func (d *decoder) structure(n *yaml.Node, line int, t reflect.Type, path string) any {
	fs := fields(t)
	return d.mapping(n, line, path, func(name string, at *yaml.Node) (reflect.Type, bool) {
		for _, f := range fs {
			if f.name == name {
				return f.typ, true
			}
		}
		if d.full(at.Line) {
			return nil, false
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
		d.report(at.Line, join(path, name), "unknown field%s", hint)
		return nil, false
	})
}

func (d *decoder) mapping(n *yaml.Node, line int, path string, typeOf func(string, *yaml.Node) (reflect.Type, bool)) any {
	if n.Kind != yaml.MappingNode {
		d.report(line, path, "must be a mapping, and is %s", what(n))
		return nil
	}
	out := make(map[string]any, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		at, value := n.Content[i], n.Content[i+1]
		name, ok := d.key(resolve(at), at.Line, path)
		if !ok {
			continue
		}
		if _, twice := out[name]; twice {
			d.report(at.Line, join(path, name), "is listed twice")
			continue
		}
		out[name] = nil
		if t, ok := typeOf(name, at); ok {
			out[name] = d.value(value, lineOf(at, value), t, join(path, name))
		}
	}
	return out
}

// key reads a member's name. What YAML takes for something else than a text
// would have another name elsewhere: kubectl reads on as true, and 0x10 as 16.
func (d *decoder) key(n *yaml.Node, line int, path string) (string, bool) {
	_, isBool := boolean(n)
	switch {
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!merge":
		d.report(line, path, `"<<" (merge) is not read here; write the fields out`)
	case n.Kind != yaml.ScalarNode:
		d.report(line, path, "a name must be a text, and is %s%s", what(n), isTemplate)
	case isBool, n.ShortTag() != "!!str" && n.ShortTag() != "!!timestamp" && !plainNumber(n.Value):
		d.report(line, path, "the name %s is no text to YAML; write it in quotes: %q", Label(n.Value), cut(n.Value))
	case !d.tagged(n, line, path):
	default:
		return n.Value, true
	}
	return "", false
}

// plainNumber tells whether a number is written as everybody writes it back.
func plainNumber(s string) bool {
	i, err := strconv.ParseInt(s, 10, 64)
	return err == nil && strconv.FormatInt(i, 10) == s
}

var anyType = reflect.TypeFor[any]()

// free takes any value, but nothing twice.
func (d *decoder) free(n *yaml.Node, line int, path string) any {
	switch n.Kind {
	case yaml.MappingNode:
		return d.mapping(n, line, path, func(string, *yaml.Node) (reflect.Type, bool) { return anyType, true })
	case yaml.SequenceNode:
		return d.value(n, line, reflect.TypeFor[[]any](), path)
	}
	if b, ok := boolean(n); ok {
		return b
	}
	if t := n.ShortTag(); t == "!!timestamp" || t == "!!str" {
		return n.Value
	}
	var v any
	err := n.Decode(&v)
	if f, ok := v.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
		err = fmt.Errorf("%s is no number that JSON has", cut(n.Value))
	}
	if err != nil {
		d.report(line, path, "%v", err)
		return nil
	}
	return v
}

// itself is a value whose type decodes itself: only that tells whether it can.
func (d *decoder) itself(n *yaml.Node, line int, t reflect.Type, path string) any {
	before := len(d.problems)
	v := d.free(n, line, path)
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, reflect.New(t).Interface())
	}
	if err != nil && len(d.problems) == before {
		d.report(line, path, "%s", cut(err.Error()))
	}
	return v
}

func (d *decoder) scalar(n *yaml.Node, line int, t reflect.Type, path string) any {
	if n.Kind != yaml.ScalarNode {
		d.report(line, path, "must be %s, and is %s", kindName(t), what(n))
		return nil
	}
	b, isBool := boolean(n)
	switch t.Kind() {
	case reflect.String:
		if tag := n.ShortTag(); isBool || tag != "!!str" && tag != "!!timestamp" {
			d.report(line, path, "must be a text, and %s is none to YAML; write it in quotes: %[1]q", cut(n.Value))
			return nil
		}
		return n.Value
	case reflect.Bool:
		if isBool {
			return b
		}
	case reflect.Int, reflect.Int32, reflect.Int64:
		var i int64
		if n.ShortTag() == "!!int" && n.Decode(&i) == nil && !reflect.Zero(t).OverflowInt(i) {
			return i
		}
	case reflect.Float64:
		var f float64
		if tag := n.ShortTag(); (tag == "!!int" || tag == "!!float") && n.Decode(&f) == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
			return f
		}
	}
	d.report(line, path, "must be %s, and is %s", kindName(t), what(n))
	return nil
}

// boolean reads what kubectl reads as one (YAML 1.1).
func boolean(n *yaml.Node) (value, ok bool) {
	const quoted = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle | yaml.TaggedStyle
	if n.Kind != yaml.ScalarNode || n.Style&quoted != 0 {
		return false, false
	}
	switch n.Value {
	case "true", "True", "TRUE", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON":
		return true, true
	case "false", "False", "FALSE", "n", "N", "no", "No", "NO", "off", "Off", "OFF":
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

// isTemplate is what people mostly mean where YAML sees braces in braces.
const isTemplate = ": is this a template of Helm or another tool, {{ … }}? Render it first (helm template), and name what comes of it"

// template reports whether a value is braces in braces to YAML.
func template(n *yaml.Node) bool {
	return n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle != 0 && len(n.Content) == 2 && n.Content[0].Kind == yaml.MappingNode && n.Content[0].Style&yaml.FlowStyle != 0
}

func what(n *yaml.Node) string {
	switch {
	case template(n):
		return "a mapping" + isTemplate
	case n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "{{") && strings.Contains(n.Value, "}}"):
		return strconv.Quote(cut(n.Value)) + isTemplate
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "empty"
	}
	return strconv.Quote(cut(n.Value))
}
