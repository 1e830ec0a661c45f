package strict

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/boltseal/boltseal/internal/base/nearest"
)

// Documents splits a file into its documents; empty ones are left out, and the
// items of a Kubernetes List are documents of their own. name is for messages.
// The error is a [Problem].
func Documents(name string, b []byte) ([]Node, error) {
	fail := func(line int, format string, a ...any) error {
		return Problem{File: name, Line: line, Message: fmt.Sprintf(format, a...)}
	}
	if len(b) > MaxBytes {
		return nil, fail(0, "it has more than %d bytes", MaxBytes)
	}
	if line := strayMark(b); line > 0 {
		return nil, fail(line, "a byte order mark (U+FEFF) is here; it is allowed at the start of the file only: remove it")
	}
	var docs []Node
	dec := yaml.NewDecoder(bytes.NewReader(b))
	nodes := 0
	for count := 0; ; count++ {
		var doc yaml.Node
		err := decode(dec, &doc)
		switch {
		case errors.Is(err, io.EOF):
			return docs, nil
		case err != nil:
			line, message := syntax(err.Error(), b)
			return nil, fail(line, "%s", message)
		case count >= MaxDocuments: // empty ones too: each costs
			return nil, fail(doc.Line, "more than %d documents", MaxDocuments)
		case len(doc.Content) == 0 || isNull(doc.Content[0]):
			continue
		}
		root := doc.Content[0]
		if line, err := measure(root, 0, &nodes); err != nil {
			return nil, fail(line, "%v", err)
		}
		items, err := unlist(Node{file: name, line: root.Line, yaml: root})
		if err != nil {
			return nil, err
		}
		if docs = append(docs, items...); len(docs) > MaxDocuments {
			return nil, fail(root.Line, "more than %d documents", MaxDocuments)
		}
	}
}

var byteOrderMark = []byte("\ufeff")

// strayMark returns the line that a byte order mark begins although it is not
// the first: files that an editor marked and somebody joined.
func strayMark(b []byte) int {
	at := bytes.Index(b, append([]byte("\n"), byteOrderMark...))
	if at < 0 {
		return 0
	}
	return 2 + bytes.Count(b[:at], []byte("\n"))
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

// measure counts what a document expands to, and returns the line where it is
// too much.
func measure(n *yaml.Node, depth int, count *int) (line int, err error) {
	*count++
	switch {
	case depth > maxDepth:
		return n.Line, fmt.Errorf("nested deeper than %d", maxDepth)
	case *count > maxNodes:
		return n.Line, fmt.Errorf("more than %d values, aliases counted each time", maxNodes)
	case n.Kind == yaml.AliasNode:
		return measure(n.Alias, depth+1, count)
	}
	for _, c := range n.Content {
		if line, err := measure(c, depth+1, count); err != nil {
			return line, err
		}
	}
	return 0, nil
}

var listFields = []string{"apiVersion", "items", "kind", "metadata"}

// unlist takes a Kubernetes List apart.
func unlist(root Node) ([]Node, error) {
	if root.Text("kind") != "List" {
		return []Node{root}, nil
	}
	var list Node
	for _, m := range root.Members() {
		switch {
		case !slices.Contains(listFields, m.Name):
			return nil, m.Node.Problem("unknown field of a List%s", nearest.Hint(m.Name, listFields))
		case m.Name == "items":
			list = m.Node
		}
	}
	switch {
	case list.yaml == nil:
		return nil, root.Problem("a List needs items")
	case isNull(list.yaml):
		return nil, nil
	case !list.IsList():
		return nil, list.Problem("must be a list, and is %s", list.What())
	}
	items := list.Items()
	for i := range items {
		items[i].path = "" // each is a document
	}
	return items, nil
}

var (
	lineOfError   = regexp.MustCompile(`^line (\d+): (.*)`)
	anchorOfError = regexp.MustCompile(`^unknown anchor '(.*)' referenced`)
)

// syntax turns what the parser says into a line and words that help.
func syntax(message string, b []byte) (line int, words string) {
	message = strings.TrimPrefix(message, "yaml: ")
	if m := lineOfError.FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1])
		message = m[2]
	} else if m := anchorOfError.FindStringSubmatch(message); m != nil {
		message = fmt.Sprintf("the alias *%s has no anchor &%[1]s before it; a text that begins with * must be quoted", cut(m[1]))
		if at := bytes.Index(b, []byte("*"+m[1])); at >= 0 {
			line = 1 + bytes.Count(b[:at], []byte("\n"))
		}
		return line, message
	}
	if line == 0 { // the parser does not count the first line, nor what it cannot read
		line = unreadable(b)
	}
	lines := bytes.Split(b, []byte("\n"))
	line = min(line, len(lines)) // the parser counts one more at the end of a file
	return line, message + advice(message, lines[line-1])
}

// unreadable returns the line of the first byte that may not stand in YAML, 1
// where all may.
func unreadable(b []byte) int {
	line := 1
	for i := 0; i < len(b); {
		r, size := utf8.DecodeRune(b[i:])
		switch {
		case r == utf8.RuneError && size == 1, r < ' ' && r != '\t' && r != '\n' && r != '\r', r >= 0x7f && r < 0xa0 && r != 0x85:
			return line
		case r == '\n':
			line++
		}
		i += size
	}
	return 1
}

// advice says what people usually mean where the parser stumbles.
func advice(message string, line []byte) string {
	indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
	switch {
	case bytes.Contains(line, []byte("{{")):
		return isTemplate
	case bytes.ContainsRune(indent, '\t'), strings.Contains(message, "tab character"):
		return ": a tab; indent with spaces"
	case strings.Contains(message, "cannot start any token"):
		return ": a text that begins with @, % or ` must be quoted"
	case strings.Contains(message, "mapping values are not allowed"):
		return `: a text with ": " in it must be quoted, and what belongs together is indented alike`
	case strings.Contains(message, "unexpected end of stream"):
		return ": a quote or a bracket is not closed"
	case strings.Contains(message, "could not find expected ':'"), strings.Contains(message, "did not find expected key"):
		return `: is the line before indented too far, or a "|" missing before a text of several lines?`
	case strings.Contains(message, "did not find expected <document start>"):
		return ": documents are separated by a line ---"
	}
	return ""
}
