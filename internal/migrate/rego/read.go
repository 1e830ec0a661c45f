// Package rego reads ConstraintTemplates: whom they ask, what they want of an answer, and whether they can refuse anything.
package rego

import (
	"slices"
	"strconv"
	"strings"
)

// Template is what a template's Rego says. It is read without being run: by what
// stands where in an answer, not by which values come.
type Template struct {
	// Providers are those of external data that it asks by name.
	Providers []string
	// Told says that it asks a provider whose name its constraint gives.
	Told bool
	// Demands are what it wants of answers and no answer has, such as
	// `verifierReports[].type "sbom"`.
	Demands []string
	// Violation says that it has a rule violation, which Gatekeeper goes by.
	Violation bool
	// Dead says that no such rule can ever hold.
	Dead bool
	// Always says that one holds whatever the answer is, since what it wants is
	// never there.
	Always bool
	// Outcome says that such a rule, or one that it rests on, looks at whether an
	// image or a signature is trusted; Failure that it looks at answers that did not
	// come.
	Outcome, Failure bool
	// Cut says that it was not read to its end: it is too much, or too involved. What
	// else is said of it may then lack something.
	Cut bool
}

const (
	maxRounds = 12
	maxSteps  = 500_000 // terms looked at, in all rounds
	maxValues = 64
	listOf    = "["      // a collection of what follows
	nothing   = "\x00"   // an empty collection
	literal   = "="      // a text
	parameter = "\x01in" // of the constraint
	ruleName  = "violation"
)

// values are what a name may stand for.
type values map[string]bool

// reader follows an answer through the rules.
type reader struct {
	known Known
	rules []*rule
	named map[string][]int // rules by their name
	env   map[string]values
	dead  map[int]bool
	uses  map[int]map[string]bool // rules that a rule names
	reads map[int]values
	must  map[int]bool // that a "not" of what never holds is in it
	out   Template
	grew  bool
	steps int
	rule  int
	never bool // what is evaluated now never holds

	negated bool            // it stands after "not"
	met     map[string]bool // places that are held against something that can stand there, too
}

// Read reads the texts of one template: its Rego and its libraries.
func Read(texts []string, known Known) Template {
	r := &reader{known: known, named: map[string][]int{}, env: map[string]values{}, dead: map[int]bool{}, uses: map[int]map[string]bool{}, reads: map[int]values{}, must: map[int]bool{}, met: map[string]bool{}}
	for _, text := range texts {
		// These are looked for by walking, too, so the word itself is the demand.
		rules, whole := parseModule(text, func(before, t token) {
			if field := t.kind == textToken || before.s == "."; field && (t.s == nestedReports || t.s == nestedResults) {
				r.demand(t.s)
			}
		})
		r.out.Cut = r.out.Cut || !whole
		for _, first := range rules {
			for d := first; d != nil; d = d.next {
				r.named[d.name] = append(r.named[d.name], len(r.rules))
				r.rules = append(r.rules, d)
			}
		}
	}
	r.grew = true
	for round := 0; r.grew && round < maxRounds && !r.out.Cut; round++ {
		r.grew = false
		for i := range r.rules {
			r.define(i)
		}
	}
	r.judge()
	// Of two names that a report is asked for, one is enough.
	r.out.Demands = slices.DeleteFunc(r.out.Demands, func(d string) bool {
		place, _, ok := strings.Cut(d, " ")
		return ok && r.met[place]
	})
	slices.Sort(r.out.Providers)
	slices.Sort(r.out.Demands)
	return r.out
}

// define reads one rule.
func (r *reader) define(i int) {
	r.rule = i
	d := r.rules[i]
	dead := r.block(d.body)
	if d.key != nil {
		for v := range r.eval(d.key) {
			r.add(d.name, listOf+v)
		}
	}
	if d.value != nil {
		for v := range r.eval(d.value) {
			r.add(d.name, v)
		}
	}
	if dead && !d.none && !r.dead[i] {
		r.dead[i], r.grew = true, true
	}
}

// block reads statements, and reports whether one of them never holds.
func (r *reader) block(body []*stmt) (dead bool) {
	for _, s := range body {
		before, negated := r.never, r.negated
		r.never, r.negated = false, s.not
		r.statement(s)
		r.negated = negated
		if r.never && s.not {
			r.must[r.rule] = true
		}
		dead = dead || r.never && !s.not
		r.never = before
	}
	return dead
}

func (r *reader) statement(s *stmt) {
	e := s.expr
	if e == nil {
		return
	}
	switch {
	case e.kind == wordTerm && e.s == "false":
		r.never = true
	case e.kind == infixTerm && (e.s == ":=" || e.s == "="):
		right := r.eval(e.args[1])
		r.bind(e.args[0], right)
		if e.s == "=" {
			left := r.eval(e.args[0])
			r.bind(e.args[1], left)
			r.compare(e)
		}
	case e.kind == infixTerm && e.s == "in":
		among := r.eval(e.args[1])
		if literals := literalsOf(among); len(literals) > 0 {
			r.among(r.eval(e.args[0]), literals)
			return
		}
		for v := range among {
			if v == nothing {
				r.never = true
			} else if below, _ := stepInto(v, &term{}); below != "" {
				r.bind(e.args[0], values{below: true})
			}
		}
	case e.kind == infixTerm:
		r.compare(e)
	default:
		r.eval(e)
	}
	r.block(e.body) // of every
}

// bind gives a name, or the names of a pattern, what they may stand for.
func (r *reader) bind(pattern *term, vs values) {
	switch pattern.kind {
	case nameTerm:
		for v := range vs {
			r.add(r.local(pattern.s), v)
		}
	case listTerm:
		for i, p := range pattern.args {
			r.bind(p, r.below(vs, &term{kind: numberTerm, s: [...]string{"0", "1", "2"}[min(i, 2)]}))
		}
	case objectTerm:
		for i := 0; i+1 < len(pattern.args); i += 2 {
			r.bind(pattern.args[i+1], r.below(vs, pattern.args[i]))
		}
	}
}

func (r *reader) local(name string) string {
	return r.rules[r.rule].name + "#" + strconv.Itoa(r.rule) + "#" + name
}

func (r *reader) add(name, v string) {
	if r.env[name] == nil {
		r.env[name] = values{}
	}
	if !r.env[name][v] && len(r.env[name]) < maxValues && len(v) < 200 {
		r.env[name][v], r.grew = true, true
	}
}

// compare looks at what is held against a literal.
func (r *reader) compare(e *term) {
	if len(e.args) < 2 {
		return
	}
	left, right := e.args[0], e.args[1]
	if isLiteral(left) && !isLiteral(right) {
		left, right = right, left
	}
	vs := r.eval(left)
	if !isLiteral(right) {
		r.eval(right)
		return
	}
	if isLiteral(left) {
		r.never = r.never || e.s == "==" && (left.kind != right.kind || left.s != right.s)
		return
	}
	if left.kind == callTerm && left.s == "count" && len(left.args) == 1 && right.kind == numberTerm {
		if onlyValue(r.eval(left.args[0]), nothing) && (e.s == ">" || e.s == "!=" && right.s == "0" || (e.s == ">=" || e.s == "==") && right.s != "0") {
			r.never = true
		}
		return
	}
	if e.s != "==" && e.s != "=" && e.s != "!=" {
		return
	}
	if e.s == "!=" {
		return // of what is never so, it always holds
	}
	r.among(vs, []*term{right})
}

// among holds what may stand at some places against the literals that one of them must
// be. A demand is what none of them can be.
func (r *reader) among(vs values, literals []*term) {
	possible := len(vs) == 0
	var demands []string
	for v := range vs {
		for _, l := range literals {
			demand, never := r.known.impossible(v, l)
			if possible = possible || !never; never {
				demands = append(demands, demand)
			} else {
				r.met[v] = true
			}
		}
	}
	if possible {
		return
	}
	r.never = true
	for _, d := range demands {
		if !r.negated { // what must not be there need not be there
			r.demand(d)
		}
	}
}

// literalsOf are the literals of a collection.
func literalsOf(vs values) (out []*term) {
	for v := range vs {
		if text, ok := strings.CutPrefix(v, listOf+literal); ok {
			out = append(out, &term{kind: textTerm, s: text})
		}
	}
	return out
}

func isLiteral(t *term) bool {
	return t.kind == textTerm || t.kind == numberTerm || t.kind == wordTerm
}

func onlyValue(vs values, v string) bool { return len(vs) == 1 && vs[v] }

func (r *reader) demand(what string) {
	if !slices.Contains(r.out.Demands, what) && len(r.out.Demands) < maxValues {
		r.out.Demands = append(r.out.Demands, what)
	}
}

// judge says what comes of the rules that Gatekeeper goes by.
func (r *reader) judge() {
	r.out.Dead = true
	for _, i := range r.named[ruleName] {
		if r.rules[i].none {
			continue
		}
		r.out.Violation = true
		if r.dead[i] {
			continue
		}
		r.out.Dead = false
		outcome, failure, always := r.reach(i)
		r.out.Outcome, r.out.Failure, r.out.Always = r.out.Outcome || outcome, r.out.Failure || failure, r.out.Always || always
	}
}

// reach is what a rule and those that it rests on look at.
func (r *reader) reach(from int) (outcome, failure, always bool) {
	seen := map[int]bool{from: true}
	for queue := []int{from}; len(queue) > 0; queue = queue[1:] {
		i := queue[0]
		own := false
		for v := range r.reads[i] {
			own = own || strings.HasSuffix(v, "."+isSuccess)
		}
		always = always || r.must[i] && !own
		for v := range r.reads[i] {
			outcome = outcome || strings.HasSuffix(v, "."+isSuccess) || strings.HasPrefix(v, atReport+".") || v == atReports
			failure = failure || v == atErrors || v == atSystem
		}
		for name := range r.uses[i] {
			for _, other := range r.named[name] {
				if !seen[other] && !r.dead[other] {
					seen[other] = true
					queue = append(queue, other)
				}
			}
		}
	}
	return outcome, failure, always
}
