// Package strict decodes the YAML and JSON that users write: unknown fields are errors, with their place and the nearest right name.
package strict

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/boltseal/boltseal"
)

// Limits on one file.
const (
	MaxBytes     = 4 << 20
	MaxDocuments = 10_000
	// MaxProblems is how many problems of one document are told.
	MaxProblems = 20

	maxNodes = 1_000_000 // aliases count each time they are used
	maxDepth = 64
	maxShown = 40 // characters of a name or a value in a message
)

// Object names the resource that a document is, as it calls itself.
type Object struct {
	Kind      string
	Namespace string // "" = cluster-wide
	Name      string
}

// String is KIND NAME or KIND NAMESPACE/NAME, "" for the zero Object.
func (o Object) String() string {
	switch {
	case o == Object{}:
		return ""
	case o.Name == "":
		return Label(o.Kind)
	case o.Namespace != "":
		return Label(o.Kind) + " " + Label(o.Namespace) + "/" + Label(o.Name)
	}
	return Label(o.Kind) + " " + Label(o.Name)
}

// Problem is one thing that is wrong in a document.
type Problem struct {
	File    string
	Line    int    // 1-based; 0 = not known
	Object  Object // whose problem it is; zero = not known, or of no single one
	Field   string // path, such as "spec.parameters.trustPolicyDoc"; "" = the document
	Message string
}

// Error writes the problem as FILE:LINE: OBJECT: FIELD: MESSAGE.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Place())
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	if o := p.Object.String(); o != "" {
		b.WriteString(o + ": ")
	}
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Place is FILE:LINE, as far as they are known.
func (p Problem) Place() string { return place(p.File, p.Line) }

func place(file string, line int) string {
	switch {
	case line <= 0:
		return file
	case file == "":
		return "line " + strconv.Itoa(line)
	}
	return file + ":" + strconv.Itoa(line)
}

// Unwrap makes every problem one of the configuration.
func (p Problem) Unwrap() error { return boltseal.ErrConfiguration }

// Problems are all that is wrong, in the order of the text.
type Problems []Problem

// Of returns the problems of one object.
func (ps Problems) Of(o Object) Problems {
	var out Problems
	for _, p := range ps {
		if p.Object == o {
			out = append(out, p)
		}
	}
	return out
}

// Error writes one problem a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes the problems ones of the configuration.
func (ps Problems) Unwrap() error { return boltseal.ErrConfiguration }

// Node is a part of a document, with its place. The zero Node has nothing in it.
type Node struct {
	file string
	path string
	line int
	yaml *yaml.Node // resolved: never an alias
}

// Member is a named part of a mapping.
type Member struct {
	Name string
	Node Node
}

func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// isNull tells whether a node holds nothing.
func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// lineOf is where a reader looks for a member: at its name where the value
// begins on a line below.
func lineOf(key, value *yaml.Node) int {
	if value.Kind == yaml.MappingNode || value.Kind == yaml.SequenceNode {
		return key.Line
	}
	return value.Line
}

// Members returns the members of a mapping in the order of the text, none where
// the node is no mapping.
func (n Node) Members() []Member {
	if n.yaml == nil || n.yaml.Kind != yaml.MappingNode {
		return nil
	}
	ms := make([]Member, 0, len(n.yaml.Content)/2)
	for i := 0; i+1 < len(n.yaml.Content); i += 2 {
		key, value := resolve(n.yaml.Content[i]), n.yaml.Content[i+1]
		if key.Kind == yaml.ScalarNode {
			ms = append(ms, Member{key.Value, Node{file: n.file, path: join(n.path, key.Value), line: lineOf(key, value), yaml: resolve(value)}})
		}
	}
	return ms
}

// Items returns the parts of a list, none where the node is no list.
func (n Node) Items() []Node {
	if n.yaml == nil || n.yaml.Kind != yaml.SequenceNode {
		return nil
	}
	items := make([]Node, len(n.yaml.Content))
	for i, c := range n.yaml.Content {
		items[i] = Node{file: n.file, path: fmt.Sprintf("%s[%d]", n.path, i), line: c.Line, yaml: resolve(c)}
	}
	return items
}

// IsList and IsMapping tell what the node is.
func (n Node) IsList() bool    { return n.yaml != nil && n.yaml.Kind == yaml.SequenceNode }
func (n Node) IsMapping() bool { return n.yaml != nil && n.yaml.Kind == yaml.MappingNode }

// Get returns a member by its path of names; ok is false where there is none, or
// null.
func (n Node) Get(names ...string) (m Node, ok bool) {
	for _, name := range names {
		found := false
		for _, m := range n.Members() {
			if found = m.Name == name; found {
				n = m.Node
				break
			}
		}
		if !found || isNull(n.yaml) {
			return Node{}, false
		}
	}
	return n, n.yaml != nil
}

// Text returns a member's scalar text, "" where there is none.
func (n Node) Text(names ...string) string {
	v, ok := n.Get(names...)
	if !ok || v.yaml.Kind != yaml.ScalarNode {
		return ""
	}
	return v.yaml.Value
}

// What says what the node is, for a message: a mapping, a list, or its value.
func (n Node) What() string {
	if n.yaml == nil {
		return "empty"
	}
	return what(n.yaml)
}

// Problem makes a problem at the node's place.
func (n Node) Problem(format string, a ...any) Problem {
	return Problem{File: n.file, Line: n.line, Field: n.path, Message: fmt.Sprintf(format, a...)}
}

// At is Problem at a member, or where the member would be.
func (n Node) At(path string, format string, a ...any) Problem {
	names := strings.Split(path, ".")
	for i := len(names); i > 0; i-- {
		if m, ok := n.Get(names[:i]...); ok {
			p := m.Problem(format, a...)
			p.Field = join(n.path, path)
			return p
		}
	}
	p := n.Problem(format, a...)
	p.Field = join(n.path, path)
	return p
}

// Place is the node's file and line.
func (n Node) Place() string { return place(n.file, n.line) }

// join adds a name to a path. A name is a stranger's: what would not show, or
// would go on for pages, is written otherwise.
func join(path, name string) string {
	name = Label(name)
	if path == "" {
		return name
	}
	return path + "." + name
}

// Label is a name as a message may show it: in quotes and shortened where it is
// not plain.
func Label(name string) string {
	plain := name != "" && len(name) <= 2*maxShown
	for _, r := range name {
		if r < '!' || r > '~' || r == '"' {
			plain = false
			break
		}
	}
	if plain {
		return name
	}
	return strconv.QuoteToASCII(cut(name))
}

// cut shortens a text to its first line, and that to what a message has room for.
func cut(s string) string {
	line, _, more := strings.Cut(s, "\n")
	for i := range line {
		if i >= maxShown {
			line, more = line[:i], true
			break
		}
	}
	if more {
		line += "…"
	}
	return strings.ToValidUTF8(line, string(utf8.RuneError))
}
