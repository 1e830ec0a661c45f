package cli

import (
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/boltseal/boltseal"
)

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
