package strict

import (
	"slices"

	"go.yaml.in/yaml/v3"
)

// Scalar is a text at the node's place, as if it stood there in quotes.
func (n Node) Scalar(text string) Node {
	return Node{file: n.file, line: n.line, yaml: &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: text, Line: n.line}}
}

// Empty is a mapping without members at the node's place.
func (n Node) Empty() Node {
	return Node{file: n.file, path: n.path, line: n.line, yaml: &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: n.line}}
}

// With is the mapping with a member, in place of the one that had its name. The node
// itself stays as it is, and so does the document that it is of.
func (n Node) With(name string, value Node) Node {
	if !n.IsMapping() {
		n = n.Empty()
	}
	m := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Style: n.yaml.Style, Content: slices.Clone(n.yaml.Content), Line: n.line}
	put := false
	for i := 0; i+1 < len(m.Content); i += 2 {
		if !put && m.Content[i].Kind == yaml.ScalarNode && m.Content[i].Value == name { // a second one is a problem of who wrote it
			m.Content[i+1], put = value.yaml, true
		}
	}
	n.yaml = m
	if !put {
		return n.And(name, value)
	}
	return n
}

// And is the mapping with a member more, beside one that may have its name.
func (n Node) And(name string, value Node) Node {
	if !n.IsMapping() {
		n = n.Empty()
	}
	content := append(slices.Clip(n.yaml.Content), &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name, Line: value.line}, value.yaml)
	n.yaml = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Style: n.yaml.Style, Content: content, Line: n.line}
	return n
}

// Named is the node in a file that is called by what it is, too.
func (n Node) Named(what string) Node {
	n.file += " (" + what + ")"
	return n
}

// Root is the node as a document of its own: paths begin at it.
func (n Node) Root() Node {
	n.path = ""
	return n
}
