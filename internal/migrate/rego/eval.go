package rego

import "slices"

// askExternal is Gatekeeper's function that asks a provider.
const askExternal = "external_data"

// eval is what a term may stand for. What never holds is noted.
func (r *reader) eval(t *term) values {
	if r.steps++; r.steps > maxSteps {
		r.out.Cut = true
		return nil
	}
	switch t.kind {
	case textTerm:
		return values{literal + t.s: true}
	case nameTerm:
		return r.nameValues(t.s)
	case refTerm:
		return r.reference(t)
	case callTerm:
		return r.call(t)
	case listTerm:
		out := values{}
		for _, a := range t.args {
			for v := range r.eval(a) {
				out[listOf+v] = true
			}
		}
		return out
	case objectTerm:
		for _, a := range t.args {
			r.eval(a)
		}
	case comprehensionTerm:
		before := r.never
		dead := r.block(t.body)
		r.never = false
		out := values{}
		for _, a := range t.args {
			for v := range r.eval(a) {
				out[listOf+v] = true
			}
		}
		r.never = before
		if dead {
			return values{nothing: true}
		}
		return out
	case infixTerm:
		out := values{}
		switch t.s {
		case "|", "&", "+", "-":
			for _, a := range t.args {
				for v := range r.eval(a) {
					out[v] = true
				}
			}
		default:
			r.compare(t)
			r.never = false // its value is false then, and it holds
		}
		return out
	}
	return nil
}

// nameValues is what a name stands for in this rule: a variable of it, or a rule.
func (r *reader) nameValues(name string) values {
	if name == "input" {
		return values{parameter: true}
	}
	out := values{}
	for v := range r.env[r.local(name)] {
		out[v] = true
	}
	if len(r.named[name]) > 0 {
		r.use(name)
		for v := range r.env[name] {
			out[v] = true
		}
	}
	return out
}

// use notes that a rule rests on another one.
func (r *reader) use(name string) {
	if r.uses[r.rule] == nil {
		r.uses[r.rule] = map[string]bool{}
	}
	r.uses[r.rule][name] = true
	for _, i := range r.named[name] {
		if !r.dead[i] {
			return
		}
	}
	r.never = true
}

func (r *reader) reference(t *term) values {
	base, rest := t.args[0], t.args[1:]
	if base.kind == nameTerm && base.s == "data" { // data.lib.NAME: the rules of all texts are one heap
		for len(rest) > 0 && rest[0].kind == textTerm {
			base, rest = &term{kind: nameTerm, s: rest[0].s}, rest[1:]
			if len(r.named[base.s]) > 0 {
				break
			}
		}
	}
	vs := r.eval(base)
	for _, field := range rest {
		if field.kind != textTerm && field.kind != numberTerm {
			if inside := r.eval(field); len(inside) > 0 {
				if literals := literalsOf(vs); len(literals) > 0 {
					r.among(inside, literals)
				}
			}
		}
		vs = r.below(vs, field)
	}
	return vs
}

// below is what stands below any of the values.
func (r *reader) below(vs values, field *term) values {
	out := values{}
	if onlyValue(vs, nothing) {
		r.never = true
		return out
	}
	for v := range vs {
		if v == parameter {
			out[parameter] = true
			continue
		}
		next, missing := stepInto(v, field)
		if missing != "" && missing != nestedReports && missing != nestedResults { // see Read
			r.demand(v + "." + missing)
		}
		if next != "" {
			out[next] = true
			r.read(next)
		}
	}
	return out
}

func (r *reader) read(v string) {
	if r.reads[r.rule] == nil {
		r.reads[r.rule] = values{}
	}
	r.reads[r.rule][v] = true
}

// through are functions whose answer is one of their arguments, more or less.
var through = []string{"lower", "upper", "trim", "trim_space", "array.concat", "union", "sort", "to_array", "cast_array", "cast_set"}

func (r *reader) call(t *term) values {
	if t.s == askExternal {
		r.asks(t)
		r.read(atAnswer)
		return values{atAnswer: true}
	}
	var args []values
	for _, a := range t.args {
		args = append(args, r.eval(a))
	}
	if t.s == "object.get" && len(t.args) == 3 {
		out := r.below(args[0], t.args[1])
		for v := range args[2] {
			out[v] = true
		}
		return out
	}
	out := values{}
	if slices.Contains(through, t.s) {
		for _, vs := range args {
			for v := range vs {
				out[v] = true
			}
		}
		return out
	}
	name := t.s
	for i := len(name) - 1; i >= 0 && len(r.named[name]) == 0; i-- { // data.lib.NAME
		if name[i] == '.' && len(r.named[name[i+1:]]) > 0 {
			name = name[i+1:]
		}
	}
	if len(r.named[name]) == 0 {
		return out
	}
	r.use(name)
	never, from := r.never, r.rule
	for _, i := range r.named[name] {
		r.rule = i
		for n, p := range r.rules[i].params {
			if n < len(args) {
				r.bind(p, args[n])
			}
		}
	}
	r.never, r.rule = never, from
	for v := range r.env[name] {
		out[v] = true
	}
	return out
}

// asks notes the provider that is asked.
func (r *reader) asks(t *term) {
	if len(t.args) == 0 {
		return
	}
	request := t.args[0]
	if request.kind == objectTerm {
		for i := 0; i+1 < len(request.args); i += 2 {
			if request.args[i].s != "provider" {
				r.eval(request.args[i+1])
				continue
			}
			r.provider(r.eval(request.args[i+1]))
		}
		return
	}
	r.eval(request)
	r.out.Told = true // the whole request comes from elsewhere
}

func (r *reader) provider(vs values) {
	found := false
	for v := range vs {
		switch {
		case v == parameter:
			r.out.Told, found = true, true
		case len(v) > len(literal) && v[:len(literal)] == literal:
			found = true
			if name := v[len(literal):]; !slices.Contains(r.out.Providers, name) {
				r.out.Providers = append(r.out.Providers, name)
			}
		}
	}
	if !found && !r.grew {
		r.out.Told = true
	}
}
