package definition

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/boltseal/boltseal/internal/base/nearest"
)

// anyType is the type of what is only known when it is evaluated.
const anyType Type = ""

// scope is what an expression may refer to.
type scope struct {
	parameters map[string]*parameter
	cluster    bool // field() and resourceGroup()
}

// values are what parameters are, and whom it is about.
type values struct {
	parameters map[string]node
	cluster    ClusterFields
}

var functions = []string{"parameters", "if", "equals", "concat", "field", "resourceGroup"}

// check returns the type of an expression, and an error where it has something
// that is not evaluated in a policy. used collects the parameters.
func (s scope) check(e *expr, used map[string]bool) (Type, error) {
	switch e.kind {
	case literalExpr:
		if e.value.kind == numberKind {
			return TypeInteger, nil
		}
		return TypeString, nil
	case indexExpr:
		return "", fmt.Errorf("%s: [ ] on a value is not supported in a policy's expression", truncateText(e.String()))
	case accessExpr:
		if e.args[0].is("resourceGroup", 0) && s.cluster {
			if strings.EqualFold(e.name, "name") {
				return TypeString, nil
			}
			return "", fmt.Errorf("resourceGroup().%s is not supported; only resourceGroup().name is known of a cluster", truncateText(e.name))
		}
		return "", fmt.Errorf(".%s on %s is not supported in a policy's expression", truncateText(e.name), truncateText(e.args[0].String()))
	}
	return s.checkCall(e, used)
}

func (s scope) checkCall(e *expr, used map[string]bool) (Type, error) {
	want := -1
	switch fn := strings.ToLower(e.name); fn {
	case "parameters":
		if len(e.args) == 1 {
			return s.checkParameter(e.args[0], used)
		}
		want = 1
	case "field":
		if !s.cluster {
			return "", fmt.Errorf("field() is not known here: an initiative's parameters do not depend on a cluster")
		}
		if len(e.args) == 1 {
			return checkField(e.args[0])
		}
		want = 1
	case "resourcegroup":
		if !s.cluster {
			return "", fmt.Errorf("resourceGroup() is not known here: an initiative's parameters do not depend on a cluster")
		}
		return "", fmt.Errorf("of resourceGroup() only resourceGroup().name is supported")
	case "if":
		want = 3
	case "equals":
		want = 2
	case "concat":
	default:
		return "", fmt.Errorf("the function %s() is not supported%s", truncateText(e.name), nearestHint(e.name, functions))
	}
	if want >= 0 && len(e.args) != want {
		return "", fmt.Errorf("%s() takes %d argument(s), and has %d", e.name, want, len(e.args))
	}
	types := make([]Type, len(e.args))
	for i, a := range e.args {
		var err error
		if types[i], err = s.check(a, used); err != nil {
			return "", err
		}
	}
	return resultType(strings.ToLower(e.name), types)
}

func resultType(fn string, types []Type) (Type, error) {
	switch fn {
	case "equals":
		return TypeBoolean, nil
	case "if":
		if types[0] != TypeBoolean && types[0] != anyType {
			return "", fmt.Errorf("the first argument of if() must be true or false, such as equals(…), and is of type %s", types[0])
		}
		if types[1] == types[2] {
			return types[1], nil
		}
		return anyType, nil
	}
	if len(types) == 0 {
		return "", fmt.Errorf("concat() takes at least one argument")
	}
	for _, t := range types {
		if t != types[0] && t != anyType && types[0] != anyType && (t == TypeArray) != (types[0] == TypeArray) {
			return "", fmt.Errorf("concat() joins texts or lists, not both")
		}
		if t == TypeObject {
			return "", fmt.Errorf("concat() joins texts or lists, not objects")
		}
	}
	switch {
	case types[0] == TypeArray:
		return TypeArray, nil
	case types[0] == anyType:
		return anyType, nil
	}
	return TypeString, nil
}

func (s scope) checkParameter(arg *expr, used map[string]bool) (Type, error) {
	name, ok := arg.word()
	if !ok {
		return "", fmt.Errorf("parameters() takes a name in single quotes")
	}
	p, ok := s.parameters[name]
	if !ok {
		return "", fmt.Errorf("there is no parameter %q%s", truncateText(name), nearestHint(name, slices.Sorted(maps.Keys(s.parameters))))
	}
	used[name] = true
	return p.typ, nil
}

func checkField(arg *expr) (Type, error) {
	name, ok := arg.word()
	if !ok {
		return "", fmt.Errorf("field() takes a name in single quotes")
	}
	f, ok := lookUpField(name)
	if !ok {
		return "", fmt.Errorf("a cluster has no field %q%s", truncateText(name), nearestHint(name, fieldNames))
	}
	if f == fieldImageIntegrity || f == fieldPolicyAddOn {
		return "", fmt.Errorf("the field %q is compared in conditions only", truncateText(name))
	}
	return TypeString, nil
}

func nearestHint(word string, known []string) string {
	if h := nearest.Hint(word, known); h != "" {
		return h
	}
	if len(known) == 0 {
		return ""
	}
	return "; known here: " + joinWords(known)
}

// eval computes a checked expression.
func (v values) eval(e *expr) (node, error) {
	switch {
	case e.kind == literalExpr:
		return e.value, nil
	case e.kind == accessExpr:
		return node{kind: stringKind, text: v.cluster.ResourceGroup}, nil
	case e.is("parameters", 1):
		name, _ := e.args[0].word()
		n, ok := v.parameters[name]
		if !ok {
			return node{}, fmt.Errorf("the parameter %q has no value", truncateText(name))
		}
		return n, nil
	case e.is("field", 1):
		name, _ := e.args[0].word()
		f, _ := lookUpField(name)
		s, _ := v.cluster.text(f)
		return node{kind: stringKind, text: s}, nil
	}
	args := make([]node, len(e.args))
	for i, a := range e.args {
		var err error
		if args[i], err = v.eval(a); err != nil {
			return node{}, err
		}
	}
	switch {
	case e.is("equals", 2):
		return node{kind: boolKind, yes: args[0].equal(args[1])}, nil
	case e.is("if", 3):
		if args[0].kind != boolKind {
			return node{}, fmt.Errorf("the first argument of if() must be true or false, and is %s", args[0].what())
		}
		if args[0].yes {
			return args[1], nil
		}
		return args[2], nil
	}
	return concatNodes(args)
}

func concatNodes(args []node) (node, error) {
	out := node{kind: args[0].kind}
	if out.kind != arrayKind {
		out.kind = stringKind
	}
	size := 0
	for _, a := range args {
		if (a.kind == arrayKind) != (out.kind == arrayKind) || a.kind == objectKind || a.kind == nullKind {
			return node{}, fmt.Errorf("concat() joins texts or lists, and has %s", a.what())
		}
		if size += len(a.items) + len(a.scalar()); size > MaxValueBytes {
			return node{}, fmt.Errorf("concat() makes more than %d bytes", MaxValueBytes)
		}
		out.items = append(out.items, a.items...)
		if out.kind == stringKind {
			out.text += a.scalar()
		}
	}
	return out, nil
}

// template is a JSON value in which texts may be expressions.
type template struct {
	node    node // its scalars, and the place
	expr    *expr
	items   []template
	members []templateMember
	used    map[string]bool // parameters, below too
	typ     Type
}

type templateMember struct {
	name  string
	value template
}

// compileTemplate reports expressions that cannot be evaluated.
func (r *report) compileTemplate(n node, s scope) template {
	t := template{node: n, used: map[string]bool{}, typ: typeOf(n)}
	switch n.kind {
	case stringKind:
		inner, ok := innerExpression(n.text)
		if !ok {
			t.node.text = inner
			break
		}
		e, err := parseExpression(inner)
		if err == nil {
			t.expr = e
			t.typ, err = s.check(e, t.used)
		}
		if err != nil {
			r.at(n, "%v", err)
			t.expr, t.typ = nil, anyType
		}
	case arrayKind:
		for _, item := range n.items {
			c := r.compileTemplate(item, s)
			maps.Copy(t.used, c.used)
			t.items = append(t.items, c)
		}
	case objectKind:
		for _, m := range n.members {
			c := r.compileTemplate(m.value, s)
			maps.Copy(t.used, c.used)
			t.members = append(t.members, templateMember{m.name, c})
		}
	}
	return t
}

// eval computes the value; its place is that of the template.
func (v values) template(t template) (node, error) {
	if t.expr != nil {
		n, err := v.eval(t.expr)
		n.path, n.line = t.node.path, t.node.line
		return n, err
	}
	if len(t.used) == 0 && len(t.items) == 0 && len(t.members) == 0 {
		return t.node, nil
	}
	n := node{kind: t.node.kind, path: t.node.path, line: t.node.line}
	for _, c := range t.items {
		item, err := v.template(c)
		if err != nil {
			return node{}, err
		}
		n.items = append(n.items, item)
	}
	for _, c := range t.members {
		item, err := v.template(c.value)
		if err != nil {
			return node{}, err
		}
		n.members = append(n.members, member{c.name, item})
	}
	return n, nil
}
