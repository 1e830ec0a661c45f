package definition

import (
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// schema is the part of JSON Schema that policies use for objects.
type schema struct {
	types      []string
	enum       []node
	properties []property
	others     *schema // what additional members must satisfy
	closed     bool    // no additional members
	required   []string
	items      *schema
	least      bounds
	most       bounds
}

type property struct {
	name   string
	schema *schema
}

// bounds count members, items or characters; nil = none.
type bounds struct{ properties, items, length *int }

var (
	schemaTypes = []string{"string", "array", "object", "boolean", "integer", "number", "null"}
	schemaWords = []string{"$schema", "title", "description", "default", "examples", "type", "enum", "properties",
		"additionalProperties", "required", "items", "minProperties", "maxProperties", "minItems", "maxItems", "minLength", "maxLength"}
)

func (r *report) schema(n node, depth int) *schema {
	s := &schema{}
	if depth > maxSchemaDepth {
		r.at(n, "the schema is nested deeper than %d levels", maxSchemaDepth)
		return s
	}
	if !r.members(n, schemaWords, nil) {
		return s
	}
	if t, ok := n.get("type"); ok {
		s.types = r.schemaType(t)
	}
	if e, ok := n.get("enum"); ok {
		if e.kind != arrayKind || len(e.items) == 0 || len(e.items) > MaxAllowedValues {
			r.at(e, "must be a list of 1 to %d values, and is %s", MaxAllowedValues, e.what())
		}
		s.enum = e.items
	}
	if p, ok := n.get("properties"); ok {
		if p.kind != objectKind {
			r.at(p, "must be an object, and is %s", p.what())
		}
		for _, m := range p.members {
			s.properties = append(s.properties, property{m.name, r.schema(m.value, depth+1)})
		}
	}
	if a, ok := n.get("additionalProperties"); ok {
		if a.kind == boolKind {
			s.closed = !a.yes
		} else {
			s.others = r.schema(a, depth+1)
		}
	}
	if i, ok := n.get("items"); ok {
		s.items = r.schema(i, depth+1)
	}
	s.required = r.texts(n, "required", MaxList, MaxValueBytes)
	s.least = bounds{r.count(n, "minProperties"), r.count(n, "minItems"), r.count(n, "minLength")}
	s.most = bounds{r.count(n, "maxProperties"), r.count(n, "maxItems"), r.count(n, "maxLength")}
	return s
}

func (r *report) schemaType(t node) []string {
	items := t.items
	if t.kind == stringKind {
		items = []node{t}
	}
	var out []string
	for _, i := range items {
		if i.kind != stringKind || !slices.Contains(schemaTypes, i.text) {
			r.at(i, "%s is no type of JSON Schema%s", i.what(), nearestHint(i.text, schemaTypes))
			continue
		}
		out = append(out, i.text)
	}
	if len(items) == 0 {
		r.at(t, "must be a type or a list of types, and is %s", t.what())
	}
	return out
}

func (r *report) count(n node, name string) *int {
	v, ok := n.get(name)
	if !ok {
		return nil
	}
	i, err := strconv.Atoi(v.text)
	if v.kind != numberKind || err != nil || i < 0 {
		r.at(v, "must be a whole number from 0, and is %s", v.what())
		return nil
	}
	return &i
}

// accepts returns the first thing that is wrong; at is the place within the value.
func (s *schema) accepts(n node, at string) error {
	wrong := func(format string, a ...any) error {
		msg := fmt.Sprintf(format, a...)
		if at == "" {
			return fmt.Errorf("does not satisfy the schema: %s", msg)
		}
		return fmt.Errorf("does not satisfy the schema at %s: %s", at, msg)
	}
	if len(s.types) > 0 && !slices.ContainsFunc(s.types, n.isJSON) {
		return wrong("must be of type %s, and is %s", joinWords(s.types), n.what())
	}
	if len(s.enum) > 0 && !slices.ContainsFunc(s.enum, n.equal) {
		return wrong("%s is not allowed; allowed are %s", n.what(), (&parameter{allowed: s.enum}).allowedText())
	}
	var size, least, most *int
	var count int
	switch n.kind {
	case objectKind:
		count, least, most, size = len(n.members), s.least.properties, s.most.properties, &count
	case arrayKind:
		count, least, most, size = len(n.items), s.least.items, s.most.items, &count
	case stringKind:
		count, least, most, size = utf8.RuneCountInString(n.text), s.least.length, s.most.length, &count
	}
	if size != nil && (least != nil && count < *least || most != nil && count > *most) {
		return wrong("has %d members, items or characters, which is too few or too many", count)
	}
	if n.kind == arrayKind && s.items != nil {
		for i, item := range n.items {
			if err := s.items.accepts(item, at+"["+strconv.Itoa(i)+"]"); err != nil {
				return err
			}
		}
	}
	if n.kind == objectKind {
		return s.acceptsMembers(n, at, wrong)
	}
	return nil
}

func (s *schema) acceptsMembers(n node, at string, wrong func(string, ...any) error) error {
	for _, name := range s.required {
		if !slices.ContainsFunc(n.members, func(m member) bool { return m.name == name }) {
			return wrong("%q is missing", name)
		}
	}
	var known []string
	for _, p := range s.properties {
		known = append(known, p.name)
	}
	for _, m := range n.members {
		below := s.others
		if i := slices.Index(known, m.name); i >= 0 {
			below = s.properties[i].schema
		} else if s.closed {
			return wrong("unknown field %q%s", truncateText(m.name), nearestHint(m.name, known))
		}
		if below != nil {
			if err := below.accepts(m.value, joinPath(at, m.name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// isJSON tells whether the value is of a type of JSON Schema.
func (n node) isJSON(t string) bool {
	switch t {
	case "string":
		return n.kind == stringKind
	case "array":
		return n.kind == arrayKind
	case "object":
		return n.kind == objectKind
	case "boolean":
		return n.kind == boolKind
	case "number":
		return n.kind == numberKind
	case "integer":
		return typeOf(n) == TypeInteger
	}
	return n.kind == nullKind
}
