package definition

import (
	"slices"
	"strings"

	"github.com/boltseal/boltseal/internal/base/nearest"
)

type operator uint8

const (
	opAll operator = iota
	opAny
	opNot
	opIn    // equals too
	opNotIn // notEquals too
	opExists
)

var operators = []string{"equals", "notEquals", "in", "notIn", "exists"}

// unsupported operators of Azure, so that the message can tell them from typing
// errors.
var unsupportedOperators = []string{"like", "notLike", "match", "notMatch", "matchInsensitively", "notMatchInsensitively",
	"contains", "notContains", "containsKey", "notContainsKey", "less", "lessOrEquals", "greater", "greaterOrEquals"}

// condition is the if of a rule, or what must exist.
type condition struct {
	op    operator
	parts []condition // of allOf, anyOf and not
	field clusterField
	value template // a list for in and notIn
	one   bool     // the value is not a list: equals, notEquals, exists
}

func (r *report) condition(n node, s scope) condition {
	count := 0
	return r.conditionAt(n, s, 0, &count)
}

func (r *report) conditionAt(n node, s scope, depth int, count *int) condition {
	if *count++; *count > maxConditions || depth > maxCondDepth {
		if *count == maxConditions+1 || depth == maxCondDepth+1 {
			r.at(n, "the condition has more than %d parts, or is nested deeper than %d levels", maxConditions, maxCondDepth)
		}
		return condition{}
	}
	if n.kind != objectKind {
		r.at(n, "a condition must be an object, and is %s", n.what())
		return condition{}
	}
	for _, logical := range []string{"allOf", "anyOf", "not"} {
		v, ok := n.get(logical)
		if !ok {
			continue
		}
		r.members(n, []string{logical}, map[string]string{})
		if logical == "not" {
			return condition{op: opNot, parts: []condition{r.conditionAt(v, s, depth+1, count)}}
		}
		c := condition{op: opAll}
		if logical == "anyOf" {
			c.op = opAny
		}
		if v.kind != arrayKind || len(v.items) == 0 {
			r.at(v, "must be a list of at least one condition, and is %s", v.what())
		}
		for _, item := range v.items {
			c.parts = append(c.parts, r.conditionAt(item, s, depth+1, count))
		}
		return c
	}
	return r.comparison(n, s)
}

func (r *report) comparison(n node, s scope) condition {
	c := condition{}
	operands := 0
	field := false
	for _, m := range n.members {
		v := m.value
		switch m.name {
		case "field":
			field = true
			f, ok := lookUpField(v.text)
			if v.kind != stringKind || !ok {
				r.at(v, "a cluster has no field %s%s", v.what(), nearestHint(v.text, fieldNames))
			}
			c.field = f
			continue
		case "equals", "notEquals":
			c.op, c.one = opIn, true
			if m.name == "notEquals" {
				c.op = opNotIn
			}
			c.value = r.operand(v, s, TypeString)
		case "in", "notIn":
			c.op = opIn
			if m.name == "notIn" {
				c.op = opNotIn
			}
			c.value = r.operand(v, s, TypeArray)
		case "exists":
			c.op, c.one = opExists, true
			c.value = r.operand(v, s, TypeBoolean)
		case "value", "count":
			r.at(v, "is not supported: conditions here compare a field of the cluster: %s", joinWords(fieldNames))
			return c
		default:
			r.unknownOperator(m)
			return c
		}
		operands++
	}
	switch {
	case !field:
		r.at(n, "the condition compares no field; known are %s, and allOf, anyOf and not around them", joinWords(fieldNames))
	case operands != 1:
		r.at(n, "the condition must have exactly one of %s", joinWords(operators))
	}
	return c
}

func (r *report) unknownOperator(m member) {
	if slices.Contains(unsupportedOperators, m.name) {
		r.at(m.value, "the operator is not supported; supported are %s, allOf, anyOf and not", joinWords(operators))
		return
	}
	known := append([]string{"allOf", "anyOf", "not", "field"}, operators...)
	h := nearest.Hint(m.name, known)
	if h == "" {
		h = "; known here: " + joinWords(known)
	}
	r.at(m.value, "unknown field%s", h)
}

// operand checks what a field is compared with.
func (r *report) operand(v node, s scope, want Type) template {
	t := r.compileTemplate(v, s)
	switch {
	case t.typ == anyType && t.expr != nil:
	case want == TypeArray:
		if t.typ != TypeArray {
			r.at(v, "must be a list, and is %s", v.what())
		}
		for _, item := range t.items {
			if !scalarType(item.typ) {
				r.at(item.node, "must be a text, a number, true or false, and is %s", item.node.what())
			}
		}
	case !scalarType(t.typ):
		r.at(v, "must be a text, a number, true or false, and is %s", v.what())
	case want == TypeBoolean && t.expr == nil && !isBoolean(v.scalar()):
		r.at(v, "must be true or false, and is %s", v.what())
	}
	return t
}

func scalarType(t Type) bool {
	return t == TypeString || t == TypeBoolean || t == TypeInteger || t == TypeFloat || t == TypeDateTime
}

func isBoolean(s string) bool { return strings.EqualFold(s, "true") || strings.EqualFold(s, "false") }

// comparisons are a condition whose expressions are evaluated.
type comparisons struct {
	op    operator
	parts []comparisons
	field clusterField
	texts []string
}

func (r *report) bindCondition(c condition, v values) comparisons {
	out := comparisons{op: c.op, field: c.field}
	for _, p := range c.parts {
		out.parts = append(out.parts, r.bindCondition(p, v))
	}
	if c.op < opIn {
		return out
	}
	n, err := v.template(c.value)
	if err != nil {
		r.at(c.value.node, "%v", err)
		return out
	}
	items := n.items
	if c.one {
		items = []node{n}
	} else if n.kind != arrayKind {
		r.at(n, "must be a list, and is %s", n.what())
	}
	for _, item := range items {
		switch {
		case item.kind == nullKind || item.kind >= arrayKind:
			r.at(n, "must be a text, a number, true or false, and is %s", item.what())
		case c.op == opExists && !isBoolean(item.scalar()):
			r.at(n, "must be true or false, and is %s", item.what())
		default:
			out.texts = append(out.texts, item.scalar())
		}
	}
	return out
}

// holds compares without case, as Azure does. A field that the cluster does not
// have equals nothing.
func (c comparisons) holds(f ClusterFields) bool {
	switch c.op {
	case opAll:
		return !slices.ContainsFunc(c.parts, func(p comparisons) bool { return !p.holds(f) })
	case opAny:
		return slices.ContainsFunc(c.parts, func(p comparisons) bool { return p.holds(f) })
	case opNot:
		return !c.parts[0].holds(f)
	}
	have, ok := f.text(c.field)
	if c.op == opExists {
		return ok == strings.EqualFold(c.texts[0], "true")
	}
	found := ok && slices.ContainsFunc(c.texts, func(t string) bool { return strings.EqualFold(t, have) })
	return found == (c.op == opIn)
}
