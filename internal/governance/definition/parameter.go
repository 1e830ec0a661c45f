package definition

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

// Type of a parameter.
type Type string

// The types of parameters, which may be written in any case.
const (
	TypeString   Type = "string"
	TypeArray    Type = "array"
	TypeObject   Type = "object"
	TypeBoolean  Type = "boolean"
	TypeInteger  Type = "integer"
	TypeFloat    Type = "float"
	TypeDateTime Type = "dateTime"
)

var typeNames = []string{"string", "array", "object", "boolean", "integer", "float", "dateTime"}

// parameter is declared by a definition or an initiative.
type parameter struct {
	typ      Type
	fallback *node
	allowed  []node
	schema   *schema
}

func typeOf(n node) Type {
	switch n.kind {
	case boolKind:
		return TypeBoolean
	case numberKind:
		if _, err := strconv.ParseInt(n.text, 10, 64); err == nil {
			return TypeInteger
		}
		return TypeFloat
	case stringKind:
		return TypeString
	case arrayKind:
		return TypeArray
	case objectKind:
		return TypeObject
	}
	return anyType
}

// parameters compiles what the spec declares.
func (r *report) parameters(in map[string]v1alpha1.Parameter, limit int) map[string]*parameter {
	if len(in) > limit {
		r.add(0, "parameters", fmt.Sprintf("has more than %d parameters", limit))
		return nil
	}
	out := make(map[string]*parameter, len(in))
	for _, name := range slices.Sorted(maps.Keys(in)) {
		out[name] = r.parameter(in[name], joinPath("parameters", name))
	}
	return out
}

func (r *report) parameter(in v1alpha1.Parameter, path string) *parameter {
	p := &parameter{}
	i := slices.IndexFunc(typeNames, func(t string) bool { return strings.EqualFold(t, in.Type) })
	if i < 0 {
		r.add(0, path+".type", fmt.Sprintf("%q is no type of a parameter%s", truncateText(in.Type), nearestHint(in.Type, typeNames)))
		return p
	}
	p.typ = Type(typeNames[i])
	if in.Schema != nil {
		if n, ok := r.raw(*in.Schema, path+".schema"); ok {
			if p.typ != TypeObject {
				r.at(n, "only parameters of type object have a schema")
			} else {
				p.schema = r.schema(n, 0)
			}
		}
	}
	if len(in.AllowedValues) > MaxAllowedValues {
		r.add(0, path+".allowedValues", fmt.Sprintf("has more than %d values", MaxAllowedValues))
		return p
	}
	for i, v := range in.AllowedValues {
		if n, ok := r.raw(v, indexPath(path+".allowedValues", i)); ok {
			p.allowed = append(p.allowed, n)
			if p.typ != TypeArray {
				if err := p.hasType(n); err != nil {
					r.at(n, "%v", err)
				}
			}
		}
	}
	if in.DefaultValue != nil {
		if n, ok := r.raw(*in.DefaultValue, path+".defaultValue"); ok {
			if err := p.accepts(n); err != nil {
				r.at(n, "%v", err)
			}
			p.fallback = &n
		}
	}
	return p
}

func (r *report) raw(v apiextensionsv1.JSON, path string) (node, bool) {
	if len(v.Raw) > MaxValueBytes {
		r.add(0, path, fmt.Sprintf("is longer than %d bytes", MaxValueBytes))
		return node{}, false
	}
	n, err := decodeNode(v.Raw, path, false)
	if err != nil {
		r.merge(err)
		return node{}, false
	}
	return n, true
}

func (p *parameter) hasType(n node) error {
	have := typeOf(n)
	ok := have == p.typ
	switch p.typ {
	case TypeFloat:
		ok = n.kind == numberKind
	case TypeDateTime:
		if ok = n.kind == stringKind; ok {
			if _, err := time.Parse(time.RFC3339, n.text); err != nil {
				return fmt.Errorf("must be a time such as 2026-01-31T12:00:00Z (RFC 3339), and is %s", n.what())
			}
		}
	}
	if !ok {
		return fmt.Errorf("must be of type %s, and is %s", p.typ, n.what())
	}
	return nil
}

// accepts tells what is wrong with a value: type, allowed values (with their
// case; of a list, each entry), schema.
func (p *parameter) accepts(n node) error {
	if err := p.hasType(n); err != nil {
		return err
	}
	if len(p.allowed) > 0 && !p.allows(n) {
		return fmt.Errorf("%s is not allowed; allowed are %s", n.what(), p.allowedText())
	}
	if p.schema != nil {
		return p.schema.accepts(n, "")
	}
	return nil
}

func (p *parameter) allows(n node) bool {
	if slices.ContainsFunc(p.allowed, n.equal) {
		return true
	}
	return p.typ == TypeArray && !slices.ContainsFunc(n.items, func(item node) bool { return !slices.ContainsFunc(p.allowed, item.equal) })
}

func (p *parameter) allowedText() string {
	const shown = 10
	var words []string
	for i, a := range p.allowed {
		if i == shown {
			words = append(words, "…")
			break
		}
		words = append(words, a.what())
	}
	return joinWords(words)
}

// bindParameters checks what is set, and takes the defaults for the rest.
func (r *report) bindParameters(declared map[string]*parameter, set map[string]v1alpha1.ParameterValue) map[string]node {
	out := make(map[string]node, len(declared))
	names := slices.Sorted(maps.Keys(declared))
	for _, name := range slices.Sorted(maps.Keys(set)) {
		path := joinPath("parameters", name)
		p, ok := declared[name]
		if !ok {
			r.add(0, path, "there is no such parameter"+nearestHint(name, names))
			continue
		}
		n, ok := r.raw(set[name].Value, path)
		if !ok {
			continue
		}
		if err := p.accepts(n); err != nil {
			r.at(n, "%v", err)
			continue
		}
		out[name] = n
	}
	for _, name := range names {
		if _, ok := set[name]; ok {
			continue
		}
		if declared[name].fallback == nil {
			r.add(0, joinPath("parameters", name), "must be set: it has no default value")
			continue
		}
		out[name] = *declared[name].fallback
	}
	return out
}
