package definition

import (
	"fmt"
	"strings"
)

// resolve replaces what a template's expression refers to: parameters, variables,
// and outputs of deployments. It reports what it cannot, and returns nil then.
func (a *arm) resolve(n node, s *armScope) *expr {
	e, err := a.value(n, s, 0)
	if err != nil {
		a.report.at(n, "%v", err)
		return nil
	}
	return e
}

func (a *arm) value(n node, s *armScope, depth int) (*expr, error) {
	if n.kind == stringKind {
		inner, ok := expression(n.text)
		if !ok {
			return text(inner), nil
		}
		e, err := parse(inner)
		if err != nil {
			return nil, err
		}
		return a.substitute(e, s, depth)
	}
	return &expr{value: n}, nil
}

func (a *arm) substitute(e *expr, s *armScope, depth int) (*expr, error) {
	if a.nodes++; a.nodes > maxSubstituted {
		return nil, fmt.Errorf("the deployment's expressions have more than %d parts", maxSubstituted)
	}
	if depth > 4*maxExprDepth {
		return nil, fmt.Errorf("the deployment's expressions refer to each other deeper than %d levels", 4*maxExprDepth)
	}
	switch {
	case e.kind == literalExpr:
		return e, nil
	case e.is("field", -1):
		return nil, fmt.Errorf("field() is not known in a deployment's template; hand its value over as a parameter")
	case e.is("parameters", 1):
		name, _ := e.args[0].word()
		v, ok := s.parameters[name]
		if !ok {
			return nil, fmt.Errorf("the template has no parameter %q", cut(name))
		}
		return v, nil
	case e.is("variables", 1):
		return a.variable(e, s, depth)
	}
	out := &expr{kind: e.kind, name: e.name, args: make([]*expr, len(e.args)), size: 1}
	for i, arg := range e.args {
		var err error
		if out.args[i], err = a.substitute(arg, s, depth+1); err != nil {
			return nil, err
		}
		// What is shared is counted each time: comparing walks all of it.
		if out.size += max(1, out.args[i].size); out.size > maxSize {
			return nil, fmt.Errorf("the expression has more than %d parts, with all that it refers to", maxSize)
		}
	}
	if v := s.outputOf(out); v != nil {
		return v, nil
	}
	return out, nil
}

func (a *arm) variable(e *expr, s *armScope, depth int) (*expr, error) {
	name, _ := e.args[0].word()
	v, ok := s.variables.get(name)
	if !ok {
		return nil, fmt.Errorf("the template has no variable %q", cut(name))
	}
	if s.busy[name] {
		return nil, fmt.Errorf("the variable %q refers to itself", cut(name))
	}
	s.busy[name] = true
	defer delete(s.busy, name)
	return a.value(v, s, depth+1)
}

// outputOf finds the value of reference(DEPLOYMENT).outputs.NAME.value.
func (s *armScope) outputOf(e *expr) *expr {
	if e.kind != accessExpr || !strings.EqualFold(e.name, "value") {
		return nil
	}
	named := e.args[0]
	if named.kind != accessExpr || named.args[0].kind != accessExpr || !strings.EqualFold(named.args[0].name, "outputs") {
		return nil
	}
	ref := named.args[0].args[0]
	if !ref.is("reference", 1) && !ref.is("reference", 2) {
		return nil
	}
	for _, o := range s.outputs {
		if strings.EqualFold(o.name, named.name) && same(o.deployment, ref.args[0]) {
			return o.value
		}
	}
	return nil
}

// same compares expressions; functions and members may be in any case.
func same(x, y *expr) bool {
	if x.kind != y.kind || !strings.EqualFold(x.name, y.name) || len(x.args) != len(y.args) || !x.value.equal(y.value) {
		return false
	}
	for i := range x.args {
		if !same(x.args[i], y.args[i]) {
			return false
		}
	}
	return true
}

// isClusterName tells whether an expression is the name of the cluster that the
// policy is about.
func isClusterName(e *expr) bool {
	if !e.is("field", 1) {
		return false
	}
	name, _ := e.args[0].word()
	return strings.EqualFold(name, "name")
}

// isCluster tells whether an expression is the cluster, whole:
// reference(resourceId([resourceGroup().name,] TYPE, field('name')), VERSION, 'Full').
func isCluster(e *expr) bool {
	if !e.is("reference", 3) {
		return false
	}
	if full, _ := e.args[2].word(); !strings.EqualFold(full, "Full") {
		return false
	}
	id := e.args[0]
	switch {
	case id.is("resourceId", 3):
		group := id.args[0]
		if group.kind != accessExpr || !strings.EqualFold(group.name, "name") || !group.args[0].is("resourceGroup", 0) {
			return false
		}
	case !id.is("resourceId", 2):
		return false
	}
	args := id.args[len(id.args)-2:]
	typ, _ := args[0].word()
	return strings.EqualFold(typ, ManagedClusters) && isClusterName(args[1])
}

// isOwn tells whether an expression is the cluster's own value at a path.
func isOwn(e *expr, path []string) bool {
	for i := len(path) - 1; i >= 0; i-- {
		if e.kind != accessExpr || !strings.EqualFold(e.name, path[i]) {
			return false
		}
		e = e.args[0]
	}
	return isCluster(e)
}

// copies tells whether an expression only writes back the cluster's own value at
// a path: as it is, or if(contains(PARENT, NAME), VALUE, json('null')).
func copies(e *expr, path []string) bool {
	if isOwn(e, path) {
		return true
	}
	if !e.is("if", 3) || !e.args[0].is("contains", 2) || !isOwn(e.args[1], path) {
		return false
	}
	last := len(path) - 1
	name, _ := e.args[0].args[1].word()
	return strings.EqualFold(name, path[last]) && isOwn(e.args[0].args[0], path[:last]) && isNull(e.args[2])
}

func isNull(e *expr) bool {
	if e.is("null", 0) {
		return true
	}
	if !e.is("json", 1) {
		return false
	}
	word, _ := e.args[0].word()
	return word == "null"
}
