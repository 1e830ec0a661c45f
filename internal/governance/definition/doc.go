// Package definition reads policy definitions and initiatives in Azure Policy's format, checks everything that they say, and binds parameters to them.
package definition

import (
	"errors"
	"fmt"

	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/base/strict"
)

// Limits on what is read. What is beyond one is refused with a message that
// names it.
const (
	MaxBytes      = 4 << 20 // of a file
	MaxObjects    = 100     // definitions and initiatives in a file
	MaxRuleBytes  = 512 << 10
	MaxParameters = 20  // of a definition
	MaxReferences = 100 // definitions of an initiative
	// MaxSetParameters is how many parameters an initiative has.
	MaxSetParameters = 300
	MaxAllowedValues = 500
	MaxValueBytes    = 256 << 10 // of a parameter's value
	MaxList          = 1000      // namespaces, images, kinds
	MaxExpression    = 8 << 10   // bytes of one expression

	maxDepth       = 64 // of JSON
	maxNodes       = 50_000
	maxPath        = 400 // bytes of a path; what is deeper has the path above it
	maxConditions  = 500
	maxCondDepth   = 32
	maxExprDepth   = 32
	maxExprNodes   = 1000
	maxSchemaDepth = 16
	maxText        = 40 // characters of a value in a message
	maxImage       = 512
	maxNamespace   = 65
	maxDisplayName = 128 // characters, here and below: as the custom resources have them
	maxDescription = 512
	maxID          = 512
	maxVersion     = 64
	maxRefID       = 128
)

// report collects what is wrong, at most strict.MaxProblems of it.
type report struct {
	object   strict.Object
	problems strict.Problems
}

func (r *report) at(n node, format string, a ...any) {
	r.add(n.line, n.path, fmt.Sprintf(format, a...))
}

func (r *report) add(line int, path, message string) {
	switch {
	case len(r.problems) < strict.MaxProblems:
		r.problems = append(r.problems, strict.Problem{Line: line, Object: r.object, Field: path, Message: message})
	case len(r.problems) == strict.MaxProblems:
		r.problems = append(r.problems, strict.Problem{Line: line, Object: r.object, Message: "more is wrong from here on; it is not listed"})
	}
}

// err is nil where nothing is wrong.
func (r *report) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	return r.problems
}

// object reports members of n that are not known, with the reason where one is
// given, and whether n is an object at all.
func (r *report) members(n node, known []string, reasons map[string]string) bool {
	if n.kind != objectKind {
		r.at(n, "must be an object, and is %s", n.what())
		return false
	}
	for _, m := range n.members {
		if containsFold(known, m.name) {
			continue
		}
		if why, ok := reasons[m.name]; ok {
			r.add(m.value.line, m.value.path, "is not supported: "+why)
			continue
		}
		hint := nearest.Hint(m.name, known)
		if hint == "" {
			hint = "; known here: " + joinWords(known)
		}
		r.add(m.value.line, m.value.path, "unknown field"+hint)
	}
	return true
}

// text reads a member that must be a text, "" where there is none.
func (r *report) text(n node, name string, limit int) string {
	v, ok := n.get(name)
	switch {
	case !ok:
		return ""
	case v.kind != stringKind:
		r.at(v, "must be a text, and is %s", v.what())
		return ""
	case len([]rune(v.text)) > limit:
		r.at(v, "has more than %d characters", limit)
		return ""
	}
	return v.text
}

func (r *report) boolean(n node, name string) bool {
	v, ok := n.get(name)
	if ok && v.kind != boolKind {
		r.at(v, "must be true or false, and is %s", v.what())
	}
	return ok && v.yes
}

func (r *report) texts(n node, name string, limit, each int) []string {
	v, ok := n.get(name)
	if !ok {
		return nil
	}
	out, err := readTexts(v)
	if err != nil {
		r.at(v, "%v", err)
		return nil
	}
	if len(out) > limit {
		r.at(v, "has more than %d entries", limit)
		return nil
	}
	for i, s := range out {
		if len(s) > each {
			r.at(v.items[i], "has more than %d characters", each)
		}
	}
	return out
}

// merge takes over the problems that a decoder found.
func (r *report) merge(err error) {
	var ps strict.Problems
	if errors.As(err, &ps) {
		for _, p := range ps {
			r.add(p.Line, p.Field, p.Message)
		}
	}
}
