package rego

// Limits on one text. Beyond them the rest is not read.
const (
	maxTokens = 200_000
	maxDepth  = 60
)

// term is a part of an expression. The zero term is one that is not understood.
type term struct {
	kind termKind
	s    string  // of a scalar, what it holds; of a name, the name; of an infix, the operator; of a call, the function
	args []*term // of a reference, its base and what follows; of others, their parts
	body []*stmt // of a comprehension, and of every
}

type termKind uint8

const (
	unknown termKind = iota
	textTerm
	numberTerm
	wordTerm // true, false, null
	nameTerm
	refTerm
	callTerm
	listTerm   // arrays and sets
	objectTerm // keys and values alternate
	comprehensionTerm
	infixTerm
)

// stmt is a line of a rule's body.
type stmt struct {
	not  bool
	expr *term
}

// rule is one definition.
type rule struct {
	name   string
	params []*term // of a function
	key    *term   // of a partial rule, what stands in brackets
	value  *term   // nil where it is true
	body   []*stmt
	none   bool // "default": it holds where no other does
	next   *rule
}

type parser struct {
	toks  []token
	at    int
	depth int
}

func (p *parser) peek() token {
	if p.at < len(p.toks) {
		return p.toks[p.at]
	}
	return token{line: true}
}

func (p *parser) next() token {
	t := p.peek()
	if p.at < len(p.toks) {
		p.at++
	}
	return t
}

func (p *parser) is(s string) bool {
	t := p.peek()
	return (t.kind == sign || t.kind == name) && t.s == s
}

func (p *parser) take(s string) bool {
	if p.is(s) {
		p.at++
		return true
	}
	return false
}

// parseModule reads the rules of a module. What it does not understand it passes over; whole
// is false where the text is longer than what is read. seen is told of each word, and of the one before it.
func parseModule(src string, seen func(before, t token)) (rules []*rule, whole bool) {
	p := &parser{toks: scanTokens(src)}
	before := token{}
	for _, t := range p.toks {
		seen(before, t)
		before = t
	}
	for p.peek().kind != end {
		before := p.at
		switch {
		case p.take("package"), p.take("import"):
			for p.peek().kind != end && !p.peek().line {
				p.next()
			}
		default:
			if r := p.rule(); r != nil {
				rules = append(rules, r)
			}
		}
		if p.at == before {
			p.next()
		}
	}
	return rules, len(p.toks) < maxTokens
}

// rule reads a definition: a head, and a body, with what follows after else.
func (p *parser) rule() *rule {
	r := &rule{none: p.take("default")}
	if p.peek().kind != name {
		return nil
	}
	r.name = p.next().s
	for p.is(".") { // a rule below another one
		p.next()
		r.name += "." + p.next().s
	}
	if p.is("(") {
		p.next()
		r.params = p.list(")")
	}
	if p.is("[") && !p.peek().line {
		p.next()
		r.key = p.expr()
		p.take("]")
	}
	if p.take("contains") {
		r.key = p.expr()
	}
	p.rest(r)
	return r
}

// rest reads a rule's value and body.
func (p *parser) rest(r *rule) {
	if p.take(":=") || p.take("=") {
		r.value = p.expr()
	}
	brace := p.take("if")
	switch {
	case p.is("{"):
		p.next()
		r.body = p.block("}")
	case brace:
		if s := p.stmt(); s != nil {
			r.body = []*stmt{s}
		}
	}
	if p.take("else") {
		r.next = &rule{name: r.name, params: r.params}
		p.depth++
		if p.depth < maxDepth {
			p.rest(r.next)
		}
		p.depth--
	}
}

// block reads statements until a closing sign.
func (p *parser) block(until string) (out []*stmt) {
	p.depth++
	defer func() { p.depth-- }()
	for p.peek().kind != end && !p.take(until) {
		if p.take(";") {
			continue
		}
		before := p.at
		if s := p.stmt(); s != nil {
			out = append(out, s)
		}
		if p.at == before {
			p.next()
		}
	}
	return out
}

func (p *parser) stmt() *stmt {
	s := &stmt{}
	for p.take("not") {
		s.not = !s.not
	}
	switch {
	case p.take("some"):
		// names, or names in a collection, which reads like a comparison
		first := p.expr()
		for p.take(",") {
			first = p.expr()
		}
		if first.kind != infixTerm {
			return nil
		}
		s.expr = first
	case p.take("every"):
		s.expr = p.expr()
		if p.take(",") {
			s.expr = p.expr()
		}
		if p.take("{") {
			s.expr.body = p.block("}")
		}
	default:
		s.expr = p.expr()
	}
	for p.take("with") {
		p.expr()
		p.take("as")
		p.expr()
	}
	return s
}

// expr reads an expression; operators have no rank, since none of what is asked here
// depends on it.
func (p *parser) expr() *term { return p.infix(true) }

func (p *parser) infix(bar bool) *term {
	if p.depth++; p.depth > maxDepth {
		p.next()
		p.depth--
		return &term{}
	}
	defer func() { p.depth-- }()
	left := p.operand()
	for {
		t := p.peek()
		op := ""
		switch {
		case t.kind == name && t.s == "in":
			op = "in"
		case t.kind != sign || t.line && t.s != "|":
		case t.s == "|" && !bar:
		case t.s == ":=" || t.s == "=" || t.s == "==" || t.s == "!=" || t.s == "<" || t.s == ">" || t.s == "<=" || t.s == ">=",
			t.s == "+" || t.s == "-" || t.s == "*" || t.s == "/" || t.s == "%" || t.s == "&" || t.s == "|":
			op = t.s
		}
		if op == "" {
			return left
		}
		p.next()
		left = &term{kind: infixTerm, s: op, args: []*term{left, p.operand()}}
		// a := b == c and the like: what follows belongs to the right
		if op == ":=" || op == "=" || op == "in" {
			right := left
			for t := p.peek(); t.kind == sign && !t.line && (t.s == "==" || t.s == "!=" || t.s == "<" || t.s == ">" || t.s == "+" || t.s == "-" || t.s == "|" && bar || t.s == "&"); t = p.peek() {
				p.next()
				right.args[1] = &term{kind: infixTerm, s: t.s, args: []*term{right.args[1], p.operand()}}
			}
		}
	}
}

// operand reads a term with what follows it.
func (p *parser) operand() *term {
	t := p.next()
	var base *term
	switch {
	case t.kind == textToken:
		base = &term{kind: textTerm, s: t.s}
	case t.kind == number:
		base = &term{kind: numberTerm, s: t.s}
	case t.kind == name && (t.s == "true" || t.s == "false" || t.s == "null"):
		base = &term{kind: wordTerm, s: t.s}
	case t.kind == name:
		base = &term{kind: nameTerm, s: t.s}
	case t.s == "(":
		base = p.expr()
		p.take(")")
	case t.s == "[":
		base = p.collection("]")
	case t.s == "{":
		base = p.collection("}")
	case t.s == "-":
		return p.operand2()
	case t.s == "}" || t.s == "]" || t.s == ")":
		p.at-- // whoever opened it takes it
		return &term{}
	default:
		return &term{}
	}
	return p.follow(base)
}

// operand2 is what stands after a sign of its own.
func (p *parser) operand2() *term {
	if p.peek().kind == number {
		return &term{kind: numberTerm, s: "-" + p.next().s}
	}
	return &term{}
}

// follow reads the fields, indices and arguments after a term.
func (p *parser) follow(base *term) *term {
	for n := 0; n < maxTokens; n++ {
		t := p.peek()
		switch {
		case t.kind == sign && t.s == "." && !t.line:
			p.next()
			if p.peek().kind != name {
				return base
			}
			base = referTo(base, &term{kind: textTerm, s: p.next().s})
		case t.kind == sign && t.s == "[" && !t.line && base.kind != numberTerm && base.kind != textTerm && base.kind != wordTerm:
			p.next()
			i := p.expr()
			p.take("]")
			base = referTo(base, i)
		case t.kind == sign && t.s == "(" && !t.line && (base.kind == nameTerm || base.kind == refTerm):
			p.next()
			base = &term{kind: callTerm, s: nameOf(base), args: p.list(")")}
		default:
			return base
		}
	}
	return base
}

func referTo(base, field *term) *term {
	if base.kind == refTerm {
		base.args = append(base.args, field)
		return base
	}
	return &term{kind: refTerm, args: []*term{base, field}}
}

// nameOf is a function's name with its dots.
func nameOf(t *term) string {
	if t.kind != refTerm {
		return t.s
	}
	out := t.args[0].s
	for _, a := range t.args[1:] {
		out += "." + a.s
	}
	return out
}

// list reads terms up to a closing sign.
func (p *parser) list(until string) (out []*term) {
	for p.peek().kind != end && !p.take(until) {
		before := p.at
		out = append(out, p.expr())
		p.take(",")
		if p.at == before {
			p.next()
		}
	}
	return out
}

// collection reads an array, a set, an object or a comprehension after its opening.
func (p *parser) collection(until string) *term {
	if p.take(until) {
		return &term{kind: listTerm}
	}
	first := p.infix(false)
	if p.take(":") {
		first = &term{kind: objectTerm, args: []*term{first, p.infix(false)}}
	}
	if p.take("|") {
		return &term{kind: comprehensionTerm, args: []*term{first}, body: p.block(until)}
	}
	out := &term{kind: listTerm, args: []*term{first}}
	if first.kind == objectTerm && until == "}" {
		out = first
	}
	for p.peek().kind != end && !p.take(until) {
		before := p.at
		if p.take(",") {
			if p.take(until) {
				return out
			}
			out.args = append(out.args, p.expr())
			if out.kind == objectTerm {
				p.take(":")
				out.args = append(out.args, p.expr())
			}
		}
		if p.at == before {
			p.next()
		}
	}
	return out
}
