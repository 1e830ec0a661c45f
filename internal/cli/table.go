package cli

import (
	"io"
	"strings"
	"unicode/utf8"
)

// style colours words, or leaves them alone.
type style bool

func (s style) paint(code, text string) string {
	if !s {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

const (
	green  = "32"
	red    = "31"
	yellow = "33"
	faint  = "2"
	bold   = "1"
)

// row is one line of a table; cells may be coloured by colours, index by index.
type row struct {
	cells   []string
	colours []string
	below   []string // lines under the row, indented
}

// writeTable aligns the cells by their visible width.
func writeTable(w io.Writer, st style, header []string, rows []row) error {
	width := make([]int, len(header))
	for i, h := range header {
		width[i] = len(h)
	}
	for _, r := range rows {
		for i, c := range r.cells {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	line := func(cells, colours []string) {
		for i, c := range cells {
			text := c
			if i < len(colours) && colours[i] != "" {
				text = st.paint(colours[i], c)
			}
			b.WriteString(text)
			if i < len(cells)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(c)+2))
			}
		}
		b.WriteByte('\n')
	}
	grey := make([]string, len(header))
	for i := range grey {
		grey[i] = faint
	}
	line(header, grey)
	for _, r := range rows {
		line(r.cells, r.colours)
		for _, l := range r.below {
			b.WriteString("  " + l + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
