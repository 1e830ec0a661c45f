package page

import (
	"strconv"
	"strings"
	"time"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

// What is shown. Texts in it are clean, and are escaped where they are written; see markup.go.

type document struct {
	Policy, At string
	File       bool
	Sections   []section
}

// section is one page.
type section struct {
	ID, Title string
	Kind      string // what the title names, such as Cluster; "" for the overview
	Up        []link // the pages above, the overview first
	State     *state
	Lead      string
	Alerts    []alert
	Facts     []fact
	Cards     []card
	Chart     *chart
	Tables    []table
}

type link struct{ Text, Href string }

type alert struct {
	Title, Text string
	Links       []link
	More        int
}

type fact struct {
	Name string
	Cell cell
}

// card is one number with what it counts.
type card struct {
	Class, Number, Name, Below string
}

type table struct {
	ID, Title, Note string
	Header          []string
	Rows            [][]cell
	Empty           string // in place of the table, where there are no rows
	More            int    // rows that were left out
}

type cell struct {
	Text, Href string
	Below      string
	Mono, Time bool
	State      *state
	Bar        *bar
	Spark      *spark
}

// state is a word with a colour.
type state struct{ Class, Word string }

func (t *table) add(cells ...cell) {
	if len(t.Rows) >= maxRows {
		t.More++
		return
	}
	t.Rows = append(t.Rows, cells)
}

func textCell(s string) cell             { return cell{Text: cleanText(s)} }
func monoCell(s string) cell             { return cell{Text: cleanText(s), Mono: true} }
func timeCell(t time.Time) cell          { return cell{Text: formatInstant(t), Time: true} }
func linkCell(s, href string) cell       { return cell{Text: cleanText(s), Href: href} }
func numberCell[T int | int32](n T) cell { return cell{Text: groupDigits(int64(n))} }

// reasonCell is a reason with what to do about it.
func reasonCell(message, remedy string) cell {
	return cell{Text: cleanText(message), Below: cleanText(remedy)}
}

// groupDigits writes a number with commas: 1,000.
func groupDigits(n int64) string {
	s := strconv.FormatInt(max(0, n), 10)
	var b strings.Builder
	for i, r := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// countNoun is a number with its noun.
func countNoun[T int | int32](n T, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return groupDigits(int64(n)) + " " + noun + "s"
}

// stateOf is how far clusters and assignments are. What nobody knows is unknown.
func stateOf(s v1alpha1.ComplianceState) *state {
	switch s {
	case v1alpha1.Compliant:
		return &state{"good", "compliant"}
	case v1alpha1.NonCompliant:
		return &state{"bad", "non-compliant"}
	case v1alpha1.Failed:
		return &state{"bad", "error"}
	case v1alpha1.Conflict:
		return &state{"warn", "conflict"}
	case v1alpha1.Exempt:
		return &state{"calm", "exempt"}
	}
	return &state{"warn", "unknown"}
}

// trustOf is what an image that is reported is.
func trustOf(s v1alpha1.ComplianceState) *state {
	switch s {
	case v1alpha1.NonCompliant:
		return &state{"bad", "not trusted"}
	case v1alpha1.Exempt:
		return &state{"calm", "not trusted, exempt"}
	}
	return &state{"warn", "unknown"}
}

// stateRank is the order of rows: what is wrong first.
func stateRank(s v1alpha1.ComplianceState) int {
	switch s {
	case v1alpha1.NonCompliant:
		return 0
	case v1alpha1.Failed:
		return 1
	case v1alpha1.Conflict:
		return 2
	case v1alpha1.Compliant:
		return 5
	case v1alpha1.Exempt:
		return 4
	}
	return 3
}

func stateCell(s *state) cell { return cell{State: s} }

func percentText(s string) string {
	if s == "" {
		return "unknown"
	}
	return cleanText(s) + " %"
}

// trustedPods says how many Pods are trusted of those that were judged, and of how many
// more that is not known.
func trustedPods(p *v1alpha1.PodCounts) cell {
	switch {
	case p == nil:
		return cell{Text: "unknown"}
	case p.Trusted == nil:
		return cell{Text: "unknown", Below: groupDigits(int64(p.NotTrusted)) + " not trusted"}
	}
	out := cell{Text: groupDigits(int64(*p.Trusted)) + " of " + groupDigits(int64(*p.Trusted)+int64(p.NotTrusted)+int64(p.Exempt))}
	if p.Unknown > 0 {
		out.Below = groupDigits(int64(p.Unknown)) + " unknown"
	}
	return out
}
