package frame

import (
	"io"
	"strings"
	"unicode/utf8"
)

// Style colours words, or leaves them alone.
type Style bool

// Paint gives text a colour, by its code in ANSI escapes such as [Red].
func (s Style) Paint(code, text string) string {
	if !s {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

const (
	Green  = "32"
	Red    = "31"
	Yellow = "33"
	Faint  = "2"
	Bold   = "1"
)

// Row is one line of a table; cells may be coloured by colours, index by index.
type Row struct {
	Cells   []string
	Colours []string
	Below   []string // lines under the row, indented
}

// WriteTable aligns the cells by their visible width.
func WriteTable(w io.Writer, st Style, header []string, rows []Row) error {
	width := make([]int, len(header))
	for i, h := range header {
		width[i] = len(h)
	}
	for _, r := range rows {
		for i, c := range r.Cells {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	line := func(cells, colours []string) {
		for i, c := range cells {
			text := c
			if i < len(colours) && colours[i] != "" {
				text = st.Paint(colours[i], c)
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
		grey[i] = Faint
	}
	line(header, grey)
	for _, r := range rows {
		line(r.Cells, r.Colours)
		for _, l := range r.Below {
			b.WriteString("  " + l + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
