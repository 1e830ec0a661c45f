package verify

import (
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cli/frame"
)

// writeResults prints the table of `verify`.
func writeResults(w io.Writer, st frame.Style, results []imageResult) error {
	var rows []frame.Row
	counts := map[boltseal.Decision]int{}
	for _, r := range results {
		counts[r.Decision]++
		word, colour := frame.VerdictWord(r.Decision)
		out := frame.Row{
			Cells:   []string{frame.SafeText(r.Image), word, frame.ShortDigest(r.Subject.Digest.String()), frame.SafeText(signerOf(r))},
			Colours: []string{"", colour, frame.Faint, ""},
		}
		out.Below = platformLines(st, r)
		if r.Decision != boltseal.Allow {
			out.Below = append(out.Below, st.Paint(colour, "why: ")+frame.SafeText(r.Reason.Message))
			if r.Reason.Remedy != "" {
				out.Below = append(out.Below, st.Paint(frame.Bold, "do:  ")+frame.SafeText(r.Reason.Remedy))
			}
		}
		rows = append(rows, out)
	}
	if err := frame.WriteTable(w, st, []string{"IMAGE", "VERDICT", "DIGEST", "SIGNER"}, rows); err != nil {
		return err
	}
	if len(results) < 2 {
		return nil
	}
	_, err := fmt.Fprintf(w, "\n%d images: %d trusted, %d not trusted, %d unknown\n", len(results),
		counts[boltseal.Allow], counts[boltseal.Deny], counts[boltseal.Unknown])
	return err
}

// signerOf is the subject of the certificate that the decision speaks of.
func signerOf(r imageResult) string {
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
func platformLines(st frame.Style, r imageResult) (lines []string) {
	if r.Index == nil {
		return nil
	}
	width := 0
	for i := range r.Index.Manifests {
		width = max(width, utf8.RuneCountInString(frame.SafeText(r.Index.Manifests[i].Platform)))
	}
	for i := range r.Index.Manifests {
		m := &r.Index.Manifests[i]
		word, colour := frame.VerdictWord(m.Decision)
		if m.Failure.Cause == boltseal.CauseIncomplete {
			word = "not checked"
		}
		lines = append(lines, fmt.Sprintf("%-*s  %s  %s", width, frame.SafeText(m.Platform), st.Paint(colour, fmt.Sprintf("%-13s", word)), st.Paint(frame.Faint, frame.ShortDigest(m.Subject.Digest.String()))))
	}
	for _, p := range r.Index.Absent {
		lines = append(lines, fmt.Sprintf("%-*s  not in the index", width, p))
	}
	return lines
}
