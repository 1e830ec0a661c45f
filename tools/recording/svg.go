package main

import (
	"fmt"
	"html"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	columns    = 112 // longer lines are broken
	charTenths = 84  // the width of a character of 14 pixels, in tenths of a pixel
	lineHeight = 20
	margin     = 16
	titleBar   = 28
	typingTime = 0.9  // seconds before what a command prints
	lineTime   = 0.06 // seconds from line to line
)

const style = `
.t{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#d6dbe4;white-space:pre}
.c{fill:#fff;font-weight:600}.n{fill:#8b95a7}.g{fill:#63d68d}.r{fill:#ff7a7a}.y{fill:#f0c864}
.l{opacity:0;animation:a .01s linear forwards}
@keyframes a{to{opacity:1}}
@media (prefers-reduced-motion:reduce),print{.l{opacity:1;animation:none}}
`

// drawTerminal draws lines as an SVG. They appear one after the other, once, and stay.
func drawTerminal(lines []line) string {
	var rows []line
	for _, l := range lines {
		rows = append(rows, breakLine(l)...)
	}
	for len(rows) > 0 && rows[len(rows)-1].text == "" {
		rows = rows[:len(rows)-1]
	}
	width := columns*charTenths/10 + 2*margin
	height := titleBar + len(rows)*lineHeight + 2*margin
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" aria-label="Boltseal at work in a terminal">`+"\n", width, height)
	fmt.Fprintf(&b, "<style>%s</style>\n", style)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" rx="8" fill="#171b24"/>`+"\n", width, height)
	for i, colour := range []string{"#ff5f57", "#febc2e", "#28c840"} {
		fmt.Fprintf(&b, `<circle cx="%d" cy="16" r="5" fill="%s"/>`+"\n", 20+i*18, colour)
	}
	at := 0.3
	for i, l := range rows {
		if i > 0 && rows[i-1].command && !l.command {
			at += typingTime
		}
		at += lineTime
		if l.text == "" {
			continue
		}
		fmt.Fprintf(&b, `<text class="t l%s" style="animation-delay:%.2fs" x="%d" y="%d" xml:space="preserve">%s</text>`+"\n",
			kindOf(l), at, margin, titleBar+margin+(i+1)*lineHeight-6, colourWords(html.EscapeString(l.text)))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// kindOf is the class of a line's colour.
func kindOf(l line) string {
	switch {
	case strings.HasPrefix(l.text, "#"):
		return " n"
	case l.command:
		return " c"
	}
	return ""
}

// breakLine breaks a line at spaces; what is broken off is indented.
func breakLine(l line) []line {
	const indent = "  "
	var out []line
	text := l.text
	for utf8.RuneCountInString(text) > columns {
		runes := []rune(text)
		cut := strings.LastIndex(strings.TrimRight(string(runes[:columns]), " "), " ")
		if strings.TrimSpace(string(runes[:columns])) == "" || cut <= len(indent) {
			cut = len(string(runes[:columns]))
		}
		out = append(out, line{text[:cut], l.command})
		text = indent + strings.TrimLeft(text[cut:], " ")
	}
	return append(out, line{text, l.command})
}

// coloured are words that matter, each as the group of an expression, where they are a verdict and not part of a text.
var coloured = []struct {
	is    *regexp.Regexp
	class string
}{
	{regexp.MustCompile(`(?:\S  +|\d )(not trusted)\b`), "r"},
	{regexp.MustCompile(`(?:\S  +|\d )(trusted)\b`), "g"},
	{regexp.MustCompile(`(denied the request|nothing signed)`), "r"},
	{regexp.MustCompile(` (created)$`), "g"},
	{regexp.MustCompile(`^(Warning:)`), "y"},
}

// colourWords colours the words that matter.
func colourWords(text string) string {
	for _, c := range coloured {
		at := c.is.FindAllStringSubmatchIndex(text, -1)
		for _, m := range slices.Backward(at) {
			text = fmt.Sprintf(`%s<tspan class="%s">%s</tspan>%s`, text[:m[2]], c.class, text[m[2]:m[3]], text[m[3]:])
		}
	}
	return text
}
