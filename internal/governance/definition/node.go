package definition

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/boltseal/boltseal/internal/base/strict"
)

type kind uint8

const (
	nullKind kind = iota
	boolKind
	numberKind
	stringKind
	arrayKind
	objectKind
)

// node is a JSON value with its place. The zero node is null.
type node struct {
	kind    kind
	yes     bool
	text    string // of a string; of a number as it is written
	items   []node
	members []member
	path    string
	line    int // 1-based; 0 = not known
}

type member struct {
	name  string
	value node
}

// get returns a member; ok is false where there is none, or null.
func (n node) get(name string) (node, bool) {
	for _, m := range n.members {
		if m.name == name {
			return m.value, m.value.kind != nullKind
		}
	}
	return node{}, false
}

// what names the value in a message.
func (n node) what() string {
	switch n.kind {
	case boolKind, numberKind:
		return truncateText(n.scalar())
	case stringKind:
		return strconv.Quote(truncateText(n.text))
	case arrayKind:
		return "a list"
	case objectKind:
		return "an object"
	}
	return "null"
}

// scalar is the text of a string, a number or a boolean.
func (n node) scalar() string {
	if n.kind == boolKind {
		return strconv.FormatBool(n.yes)
	}
	return n.text
}

// digest is the SHA-256 of a value, in hexadecimal: the same for values that are equal,
// whatever white space and order of members they were written with.
func (n node) digest() string {
	h := sha256.New()
	n.hash(h)
	return hex.EncodeToString(h.Sum(nil))
}

// hash writes a value so that no two values that differ are written alike: each part with
// its kind and its length.
func (n node) hash(w io.Writer) {
	fmt.Fprintf(w, "%d:%d:%d:%d:%s", n.kind, len(n.items), len(n.members), len(n.scalar()), n.scalar())
	for _, item := range n.items {
		item.hash(w)
	}
	byName := func(a, b member) int { return strings.Compare(a.name, b.name) }
	for _, m := range slices.SortedFunc(slices.Values(n.members), byName) {
		fmt.Fprintf(w, "%d:%s", len(m.name), m.name)
		m.value.hash(w)
	}
}

// equal compares with case; members in any order.
func (n node) equal(o node) bool {
	if n.kind != o.kind {
		return false
	}
	switch n.kind {
	case boolKind:
		return n.yes == o.yes
	case stringKind:
		return n.text == o.text
	case numberKind:
		a, errA := strconv.ParseFloat(n.text, 64)
		b, errB := strconv.ParseFloat(o.text, 64)
		return n.text == o.text || errA == nil && errB == nil && a == b
	case arrayKind:
		return slices.EqualFunc(n.items, o.items, node.equal)
	case objectKind:
		if len(n.members) != len(o.members) {
			return false
		}
		for _, m := range n.members {
			i := slices.IndexFunc(o.members, func(x member) bool { return x.name == m.name })
			if i < 0 || !m.value.equal(o.members[i].value) {
				return false
			}
		}
	}
	return true
}

// appendJSON writes the value compactly.
func (n node) appendJSON(b []byte) []byte {
	switch n.kind {
	case boolKind:
		return strconv.AppendBool(b, n.yes)
	case numberKind:
		return append(b, n.text...)
	case stringKind:
		b, _ = jsontext.AppendQuote(b, n.text) // valid UTF-8: it was decoded
		return b
	case arrayKind:
		b = append(b, '[')
		for i, x := range n.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = x.appendJSON(b)
		}
		return append(b, ']')
	case objectKind:
		b = append(b, '{')
		for i, m := range n.members {
			if i > 0 {
				b = append(b, ',')
			}
			b, _ = jsontext.AppendQuote(b, m.name)
			b = append(b, ':')
			b = m.value.appendJSON(b)
		}
		return append(b, '}')
	}
	return append(b, "null"...)
}

// decodeNode reads one JSON value (RFC 8259, with names that are unique and text
// that is UTF-8). Places begin with path; without lines, none are told.
func decodeNode(data []byte, path string, lines bool) (node, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	d := treeDecoder{data: data, lines: lines, dec: jsontext.NewDecoder(bytes.NewReader(data))}
	n, err := d.value(path, 0)
	if err == nil {
		if _, more := d.dec.ReadToken(); !errors.Is(more, io.EOF) {
			d.advance()
			err = d.problem(path, "something follows after the JSON value; several belong in a list: [ …, … ]")
		}
	}
	return n, err
}

type treeDecoder struct {
	data  []byte
	dec   *jsontext.Decoder
	lines bool
	count int
	line  int // newlines up to read
	read  int
}

// advance counts lines up to where the decoder is.
func (d *treeDecoder) advance() int {
	if !d.lines {
		return 0
	}
	to := min(int(d.dec.InputOffset()), len(d.data))
	d.line += bytes.Count(d.data[d.read:to], []byte("\n"))
	d.read = to
	return d.line + 1
}

func (d *treeDecoder) problem(path, message string) error {
	line := 0
	if d.lines {
		line = d.line + 1
	}
	return strict.Problems{{Line: line, Field: path, Message: message}}
}

func (d *treeDecoder) value(path string, depth int) (node, error) {
	if d.count++; d.count > maxNodes {
		return node{}, d.problem(path, fmt.Sprintf("has more than %d values", maxNodes))
	}
	if depth > maxDepth {
		return node{}, d.problem(path, fmt.Sprintf("is nested deeper than %d levels", maxDepth))
	}
	t, err := d.dec.ReadToken()
	if err != nil {
		return node{}, d.syntax(path, err)
	}
	n := node{path: path}
	k, s := t.Kind(), ""
	if k == '"' || k == '0' {
		s = t.String()
	}
	n.line = d.advance()
	switch k {
	case 't', 'f':
		n.kind, n.yes = boolKind, k == 't'
	case '0':
		n.kind, n.text = numberKind, s
	case '"':
		n.kind, n.text = stringKind, s
	case '[':
		n.kind = arrayKind
		for d.dec.PeekKind() != ']' {
			item, err := d.value(indexPath(path, len(n.items)), depth+1)
			if err != nil {
				return node{}, err
			}
			n.items = append(n.items, item)
		}
		_, err = d.dec.ReadToken()
	case '{':
		n.kind = objectKind
		for d.dec.PeekKind() != '}' {
			name, err := d.dec.ReadToken()
			if err != nil {
				return node{}, d.syntax(path, err)
			}
			key := name.String()
			v, err := d.value(joinPath(path, key), depth+1)
			if err != nil {
				return node{}, err
			}
			n.members = append(n.members, member{key, v})
		}
		_, err = d.dec.ReadToken()
	}
	if err != nil {
		return node{}, d.syntax(path, err)
	}
	return n, nil
}

// syntax says what the decoder found, in the words of a reader.
func (d *treeDecoder) syntax(path string, err error) error {
	d.advance()
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return d.problem(path, "a name is listed twice: "+truncateText(duplicateName(err)))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return d.problem(path, "the JSON ends too early")
	}
	msg := err.Error()
	var se *jsontext.SyntacticError
	if errors.As(err, &se) && se.Err != nil {
		msg = se.Err.Error()
	}
	return d.problem(path, "is not JSON: "+msg)
}

func duplicateName(err error) string {
	var se *jsontext.SyntacticError
	if errors.As(err, &se) {
		return se.JSONPointer.LastToken()
	}
	return ""
}

func indexPath(path string, i int) string {
	if len(path) > maxPath {
		return path
	}
	return path + "[" + strconv.Itoa(i) + "]"
}

func joinPath(path, name string) string {
	if len(path) > maxPath {
		return path
	}
	if name == "" || strings.ContainsAny(name, ".[]\"\\ ") || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(name) > maxRefID {
		name = strconv.Quote(truncateText(name))
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// truncateText shortens what somebody wrote for a message.
func truncateText(s string) string {
	if r := []rune(s); len(r) > maxText {
		return string(r[:maxText]) + "…"
	}
	return s
}

func joinWords(words []string) string { return strings.Join(words, ", ") }

func containsFold(words []string, w string) bool { return slices.Contains(words, w) }

// memberNames are the names of an object's members.
func memberNames(n node) []string {
	var out []string
	for _, m := range n.members {
		out = append(out, m.name)
	}
	return out
}
