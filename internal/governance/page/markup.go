package page

import (
	"bytes"
	"html"
	"strings"
)

// constant is markup that stands in this program. Go turns only a literal into it by itself, so a text of a cluster cannot become
// markup unless somebody writes a conversion.
type constant string

// markup collects a page. There are three ways into it: markup of this program, texts and values of attributes in quotes, which
// are both escaped (HTML Living Standard, section 13.3), and links to places of the page itself. Nothing else of a page, such as
// a style or an address of another site, is ever made of a text.
type markup struct {
	buf bytes.Buffer
	err error // [ErrTooLarge], once there was more than maxBytes
}

// raw writes markup of this program.
func (m *markup) raw(s constant) { m.put(string(s)) }

// text writes a text between tags.
func (m *markup) text(s string) { m.put(escapeText(s)) }

// attr writes an attribute with a blank before it.
func (m *markup) attr(name constant, value string) {
	m.put(" " + string(name) + `="` + escapeText(value) + `"`)
}

// within writes an element that has a text and nothing else; class may be "".
func (m *markup) within(element, class constant, s string) {
	m.raw("<" + element)
	if class != "" {
		m.attr("class", string(class))
	}
	m.raw(">")
	m.text(s)
	m.raw("</" + element + ">")
}

// link writes a text that leads to href, which is a query or a place of this page; to anything else no link is written.
func (m *markup) link(s, href string) {
	if !strings.HasPrefix(href, "?") && !strings.HasPrefix(href, "#") {
		m.text(s)
		return
	}
	m.raw("<a")
	m.attr("href", href)
	m.raw(">")
	m.text(s)
	m.raw("</a>")
}

func (m *markup) put(s string) {
	if m.err == nil && m.buf.Len()+len(s) > maxBytes {
		m.err = ErrTooLarge
	}
	if m.err == nil {
		m.buf.WriteString(s)
	}
}

// escapeText makes a text fit to stand between tags, and in an attribute in double or single quotes. A NUL, which no page may
// have, becomes U+FFFD.
func escapeText(s string) string {
	return html.EscapeString(strings.ReplaceAll(s, "\x00", "\ufffd"))
}
