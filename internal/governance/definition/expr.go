package definition

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

type exprKind uint8

const (
	literalExpr exprKind = iota // value
	callExpr                    // name(args…)
	accessExpr                  // args[0].name
	indexExpr                   // args[0][args[1]]
)

// expr is an expression of Azure's template language.
type expr struct {
	kind  exprKind
	name  string
	args  []*expr
	value node
}

// innerExpression returns what is between the brackets of a text that is an
// expression; ok is false where the text is one to take as it is, which is then
// returned without the bracket that escapes it. Source: Azure Resource Manager,
// template syntax and expressions.
func innerExpression(s string) (inner string, ok bool) {
	if len(s) < 2 || s[0] != '[' || s[len(s)-1] != ']' {
		return s, false
	}
	if s[1] == '[' {
		return s[1:], false
	}
	return s[1 : len(s)-1], true
}

// parseExpression reads the inside of an expression.
func parseExpression(s string) (*expr, error) {
	if len(s) > MaxExpression {
		return nil, fmt.Errorf("the expression is longer than %d bytes", MaxExpression)
	}
	p := exprParser{s: s}
	e, err := p.expr(0)
	if err == nil {
		if p.space(); p.i < len(p.s) {
			err = p.unexpected()
		}
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

type exprParser struct {
	s     string
	i     int
	count int
}

func (p *exprParser) space() {
	for p.i < len(p.s) && strings.IndexByte(" \t\r\n", p.s[p.i]) >= 0 {
		p.i++
	}
}

// fail tells the place as the number of the character within the brackets.
func (p *exprParser) fail(format string, a ...any) error {
	return fmt.Errorf("the expression is not understood at character %d: %s", len([]rune(p.s[:p.i]))+1, fmt.Sprintf(format, a...))
}

func (p *exprParser) unexpected() error {
	if p.i >= len(p.s) {
		return p.fail("it ends too early")
	}
	return p.fail("%s is not expected here", strconv.QuoteRune([]rune(p.s[p.i:])[0]))
}

func (p *exprParser) next(c byte) bool {
	if p.space(); p.i < len(p.s) && p.s[p.i] == c {
		p.i++
		return true
	}
	return false
}

func (p *exprParser) expr(depth int) (*expr, error) {
	e, err := p.primary(depth)
	for levels := depth; err == nil; levels++ {
		var next *expr
		switch {
		case p.next('.'):
			p.space()
			name := p.ident()
			if name == "" {
				return nil, p.unexpected()
			}
			next = &expr{kind: accessExpr, name: name, args: []*expr{e}}
		case p.next('['):
			at, err := p.expr(depth + 1)
			if err != nil {
				return nil, err
			}
			if !p.next(']') {
				return nil, p.unexpected()
			}
			next = &expr{kind: indexExpr, args: []*expr{e, at}}
		default:
			return e, nil
		}
		e, err = next, p.room(levels)
	}
	return nil, err
}

// room keeps expressions small and flat.
func (p *exprParser) room(depth int) error {
	if p.count++; p.count > maxExprNodes {
		return fmt.Errorf("the expression has more than %d parts", maxExprNodes)
	}
	if depth > maxExprDepth {
		return fmt.Errorf("the expression is nested deeper than %d levels", maxExprDepth)
	}
	return nil
}

func (p *exprParser) primary(depth int) (*expr, error) {
	if err := p.room(depth); err != nil {
		return nil, err
	}
	p.space()
	if p.i >= len(p.s) {
		return nil, p.unexpected()
	}
	switch c := p.s[p.i]; {
	case c == '\'':
		return p.text()
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	}
	name := p.ident()
	if name == "" {
		return nil, p.unexpected()
	}
	if !p.next('(') {
		return nil, p.fail("%s must be a function, with ( after it, or a text in single quotes", truncateText(name))
	}
	e := &expr{kind: callExpr, name: name}
	if p.next(')') {
		return e, nil
	}
	for {
		arg, err := p.expr(depth + 1)
		if err != nil {
			return nil, err
		}
		e.args = append(e.args, arg)
		switch {
		case p.next(','):
		case p.next(')'):
			return e, nil
		default:
			return nil, p.unexpected()
		}
	}
}

func (p *exprParser) ident() string {
	start := p.i
	for p.i < len(p.s) {
		c := p.s[p.i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (p.i == start || c < '0' || c > '9') {
			break
		}
		p.i++
	}
	return p.s[start:p.i]
}

// text reads 'text', in which ” is a quote.
func (p *exprParser) text() (*expr, error) {
	var b strings.Builder
	for p.i++; p.i < len(p.s); p.i++ {
		if p.s[p.i] != '\'' {
			b.WriteByte(p.s[p.i])
			continue
		}
		if p.i++; p.i >= len(p.s) || p.s[p.i] != '\'' {
			return textExpression(b.String()), nil
		}
		b.WriteByte('\'')
	}
	return nil, p.fail("a text is not closed with a single quote")
}

func (p *exprParser) number() (*expr, error) {
	start := p.i
	for p.i++; p.i < len(p.s) && p.s[p.i] >= '0' && p.s[p.i] <= '9'; p.i++ {
	}
	n, err := strconv.ParseInt(p.s[start:p.i], 10, 64)
	if err != nil {
		return nil, p.fail("%q is no whole number of 64 bits", truncateText(p.s[start:p.i]))
	}
	return &expr{value: node{kind: numberKind, text: strconv.FormatInt(n, 10)}}, nil
}

func textExpression(s string) *expr { return &expr{value: node{kind: stringKind, text: s}} }

// is tells whether e calls a function, whose name may be in any case.
func (e *expr) is(name string, args int) bool {
	return e.kind == callExpr && strings.EqualFold(e.name, name) && (args < 0 || len(e.args) == args)
}

// word returns the text of a literal.
func (e *expr) word() (string, bool) {
	return e.value.text, e.kind == literalExpr && e.value.kind == stringKind
}

// String writes the expression so that parse reads it back.
func (e *expr) String() string {
	var b strings.Builder
	e.write(&b)
	return b.String()
}

func (e *expr) write(b *strings.Builder) {
	switch e.kind {
	case literalExpr:
		if e.value.kind == stringKind {
			b.WriteString("'" + strings.ReplaceAll(e.value.text, "'", "''") + "'")
			return
		}
		b.Write(e.value.appendJSON(nil))
	case callExpr:
		b.WriteString(e.name + "(")
		for i, a := range e.args {
			if i > 0 {
				b.WriteString(", ")
			}
			a.write(b)
		}
		b.WriteString(")")
	case accessExpr:
		e.args[0].write(b)
		b.WriteString("." + e.name)
	case indexExpr:
		e.args[0].write(b)
		b.WriteString("[")
		e.args[1].write(b)
		b.WriteString("]")
	}
}

var errNoExpression = errors.New("an expression is not evaluated here; write the value itself")
