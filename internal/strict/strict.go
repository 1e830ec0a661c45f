// Package strict decodes the YAML and JSON that users write: unknown fields are errors, with their place and the nearest right name.
package strict

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/boltseal/boltseal"
)

// Limits on one file.
const (
	MaxBytes     = 8 << 20
	MaxDocuments = 10_000
	maxNodes     = 1_000_000 // aliases count each time they are used
	maxDepth     = 64
	maxProblems  = 20
)

// Problem is one thing that is wrong in a document.
type Problem struct {
	File    string
	Line    int    // 1-based; 0 = not known
	Field   string // path, such as "spec.parameters.trustPolicyDoc"; "" = the document
	Message string
}

// Error writes the problem as FILE:LINE: FIELD: MESSAGE.
func (p Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File + ":")
	}
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:", p.Line)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Unwrap makes every problem one of the configuration.
func (p Problem) Unwrap() error { return boltseal.ErrConfiguration }

// Problems are all that is wrong, in the order of the text.
type Problems []Problem

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

// Node is a part of a document, with its place.
type Node struct {
	file string
	path string
	yaml *yaml.Node
}

// Documents splits a file into its documents; empty ones are left out, and the
// items of a List are documents of their own. name is for messages.
func Documents(name string, b []byte) ([]Node, error) {
	fail := func(line int, format string, a ...any) error {
		return Problem{File: name, Line: line, Message: fmt.Sprintf(format, a...)}
	}
	if len(b) > MaxBytes {
		return nil, fail(0, "%d bytes, at most %d", len(b), MaxBytes)
	}
	var docs []Node
	dec := yaml.NewDecoder(bytes.NewReader(b))
	count := 0
	for {
		var doc yaml.Node
		err := decode(dec, &doc)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return nil, fail(0, "%s", strings.TrimPrefix(err.Error(), "yaml: "))
		}
		if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
			continue
		}
		root := doc.Content[0]
		if err := measure(root, 0, &count); err != nil {
			return nil, fail(root.Line, "%v", err)
		}
		for _, n := range items(root) {
			if len(docs) == MaxDocuments {
				return nil, fail(n.Line, "more than %d documents", MaxDocuments)
			}
			docs = append(docs, Node{file: name, yaml: n})
		}
	}
}

// decode turns a panic of the parser into an error: the text may be a stranger's.
func decode(dec *yaml.Decoder, into *yaml.Node) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("this is not YAML: %v", p)
		}
	}()
	return dec.Decode(into)
}

// measure counts what a document expands to.
func measure(n *yaml.Node, depth int, count *int) error {
	*count++
	switch {
	case depth > maxDepth:
		return fmt.Errorf("nested deeper than %d", maxDepth)
	case *count > maxNodes:
		return fmt.Errorf("more than %d values, aliases counted each time", maxNodes)
	}
	if n.Kind == yaml.AliasNode {
		return measure(n.Alias, depth+1, count)
	}
	for _, c := range n.Content {
		if err := measure(c, depth+1, count); err != nil {
			return err
		}
	}
	return nil
}

// items takes a Kubernetes List apart.
func items(root *yaml.Node) []*yaml.Node {
	if v := member(root, "kind"); v == nil || v.Value != "List" {
		return []*yaml.Node{root}
	}
	list := member(root, "items")
	if list == nil || list.Kind != yaml.SequenceNode {
		return []*yaml.Node{root}
	}
	return list.Content
}

func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func member(n *yaml.Node, name string) *yaml.Node {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return resolve(n.Content[i+1])
		}
	}
	return nil
}

// Get returns a member by its path of names; ok is false where there is none.
func (n Node) Get(names ...string) (Node, bool) {
	for _, name := range names {
		if n.yaml == nil {
			return Node{}, false
		}
		v := member(n.yaml, name)
		if v == nil || v.Tag == "!!null" {
			return Node{}, false
		}
		n = Node{file: n.file, path: n.at(name), yaml: v}
	}
	return n, n.yaml != nil
}

func (n Node) at(name string) string {
	if n.path == "" {
		return name
	}
	return n.path + "." + name
}

// Text returns a member's scalar text, "" where there is none.
func (n Node) Text(names ...string) string {
	v, ok := n.Get(names...)
	if !ok || v.yaml.Kind != yaml.ScalarNode {
		return ""
	}
	return v.yaml.Value
}

// Problem makes a problem at the node's place.
func (n Node) Problem(format string, a ...any) Problem {
	p := Problem{File: n.file, Field: n.path, Message: fmt.Sprintf(format, a...)}
	if n.yaml != nil {
		p.Line = n.yaml.Line
	}
	return p
}

// At is Problem at a member, or at the node where the member is not there.
func (n Node) At(path string, format string, a ...any) Problem {
	if m, ok := n.Get(strings.Split(path, ".")...); ok {
		return m.Problem(format, a...)
	}
	p := n.Problem(format, a...)
	p.Field = n.at(path)
	return p
}

// Place is the node's file and line.
func (n Node) Place() string {
	if n.yaml == nil {
		return n.file
	}
	return fmt.Sprintf("%s:%d", n.file, n.yaml.Line)
}
