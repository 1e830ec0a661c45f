package cli

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/boltseal/boltseal"
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

// verdict is the word for a decision, and its colour.
func verdict(d boltseal.Decision) (word, colour string) {
	switch d {
	case boltseal.Allow:
		return "trusted", green
	case boltseal.Unknown:
		return "unknown", yellow
	}
	return "not trusted", red
}

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

// printable replaces control characters: registries and certificates choose
// these texts, and a terminal must not obey them.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '�'
		}
		return r
	}, s)
}

// writeResults prints the table of `verify`.
func writeResults(w io.Writer, st style, results []imageResult) error {
	var rows []row
	counts := map[boltseal.Decision]int{}
	for _, r := range results {
		counts[r.Decision]++
		word, colour := verdict(r.Decision)
		out := row{
			cells:   []string{printable(r.Image), word, shortDigest(r.Subject.Digest.String()), printable(signer(r))},
			colours: []string{"", colour, faint, ""},
		}
		out.below = platformLines(st, r)
		if r.Decision != boltseal.Allow {
			out.below = append(out.below, st.paint(colour, "why: ")+printable(r.Reason.Message))
			if r.Reason.Remedy != "" {
				out.below = append(out.below, st.paint(bold, "do:  ")+printable(r.Reason.Remedy))
			}
		}
		rows = append(rows, out)
	}
	if err := writeTable(w, st, []string{"IMAGE", "VERDICT", "DIGEST", "SIGNER"}, rows); err != nil {
		return err
	}
	if len(results) < 2 {
		return nil
	}
	_, err := fmt.Fprintf(w, "\n%d images: %d trusted, %d not trusted, %d unknown\n", len(results),
		counts[boltseal.Allow], counts[boltseal.Deny], counts[boltseal.Unknown])
	return err
}

// signer is the subject of the certificate that the decision speaks of.
func signer(r imageResult) string {
	var found string
	for ev := range r.AllEvidence {
		if ev.Signer == nil {
			continue
		}
		if ev.Outcome == boltseal.Verified {
			return ev.Signer.Subject
		}
		found = ev.Signer.Subject
	}
	if found == "" {
		return "-"
	}
	return found
}

// platformLines tell what was looked at of an image of several platforms.
func platformLines(st style, r imageResult) (lines []string) {
	if r.Index == nil {
		return nil
	}
	width := 0
	for i := range r.Index.Manifests {
		width = max(width, utf8.RuneCountInString(printable(r.Index.Manifests[i].Platform)))
	}
	for i := range r.Index.Manifests {
		m := &r.Index.Manifests[i]
		word, colour := verdict(m.Decision)
		if m.Failure.Cause == boltseal.CauseIncomplete {
			word = "not checked"
		}
		lines = append(lines, fmt.Sprintf("%-*s  %s  %s", width, printable(m.Platform), st.paint(colour, fmt.Sprintf("%-13s", word)), st.paint(faint, shortDigest(m.Subject.Digest.String()))))
	}
	for _, p := range r.Index.Absent {
		lines = append(lines, fmt.Sprintf("%-*s  not in the index", width, p))
	}
	return lines
}

func shortDigest(d string) string {
	const keep = len("sha256:") + 12
	switch {
	case d == "":
		return "-"
	case len(d) > keep:
		return d[:keep]
	}
	return d
}
