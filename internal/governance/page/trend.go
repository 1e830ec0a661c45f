package page

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/boltseal/boltseal/internal/governance/overview"
)

// bar is the clusters of an assignment in their states, side by side.
type bar struct {
	Label string
	Parts []part
}

// part is from X on, Width wide, of 100.
type part struct {
	Class, X, Width string
}

func trendSentence(a overview.Assignment) string {
	if a.Clusters == 0 {
		return "no clusters"
	}
	var out []string
	for _, p := range trendCounts(a) {
		if p.n > 0 {
			out = append(out, groupDigits(int64(p.n))+" "+p.word)
		}
	}
	return strings.Join(out, ", ")
}

type counted struct {
	class, word string
	n           int32
}

func trendCounts(a overview.Assignment) []counted {
	return []counted{{"bad", "non-compliant", a.NonCompliant}, {"bad", "in error", a.Error}, {"warn", "in conflict", a.Conflict},
		{"warn", "unknown", a.Unknown}, {"calm", "exempt", a.Exempt}, {"good", "compliant", a.Compliant}}
}

// barOf is nil where there are no clusters.
func barOf(a overview.Assignment) *bar {
	var sum, x float64
	for _, p := range trendCounts(a) {
		sum += float64(max(0, p.n))
	}
	if sum == 0 {
		return nil
	}
	out := &bar{Label: trendSentence(a)}
	for _, p := range trendCounts(a) {
		if p.n <= 0 {
			continue
		}
		// What is wrong must be seen, be it one in a thousand.
		w := max(100*float64(p.n)/sum, 2)
		w = min(w, 100-x)
		out.Parts = append(out.Parts, part{p.class, formatDecimal(x), formatDecimal(w)})
		x += w
	}
	return out
}

func formatDecimal(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) }

// spark is the percent of the known over time, as lines in a field of 100 by 24.
type spark struct {
	Label string
	Lines []string // points of polylines; where nothing was known there is none
}

// chart is how many of the clusters were in which state over time, as areas in a field
// of 600 by 120, and the same as a table.
type chart struct {
	Label, From, To string
	Areas           []area
	Points          table
}

type area struct{ Class, Points string }

func (s *Site) points(assignment string) []overview.Point {
	var out []overview.Point
	for _, p := range s.trends {
		if p.Assignment == assignment && !p.At.After(s.in.Now) {
			out = append(out, p)
		}
	}
	return out
}

// fractionOf is where a time is, between the first point and now, of 1.
func fractionOf(points []overview.Point, at, now time.Time) float64 {
	all := now.Sub(points[0].At)
	if all <= 0 {
		return 1
	}
	return min(1, max(0, float64(at.Sub(points[0].At))/float64(all)))
}

func (s *Site) spark(assignment string) *spark {
	points := s.points(assignment)
	if len(points) == 0 {
		return nil
	}
	out := &spark{Label: "% of known since " + points[0].At.UTC().Format(time.DateOnly) + ": from " + percentText(points[0].CompliantPercent) + " to " + percentText(points[len(points)-1].CompliantPercent)}
	var line []string
	end := func() {
		if len(line) > 0 {
			out.Lines = append(out.Lines, strings.Join(line, " "))
		}
		line = nil
	}
	for i, p := range points {
		f, err := strconv.ParseFloat(p.CompliantPercent, 64)
		if err != nil || f < 0 || f > 100 {
			end()
			continue
		}
		until := s.in.Now
		if i+1 < len(points) {
			until = points[i+1].At
		}
		y := formatDecimal(22 - f/5)
		line = append(line, formatDecimal(100*fractionOf(points, p.At, s.in.Now))+","+y, formatDecimal(100*fractionOf(points, until, s.in.Now))+","+y)
	}
	end()
	return out
}

func (s *Site) trend(assignment string) *chart {
	points := s.points(assignment)
	if len(points) == 0 {
		return nil
	}
	last := points[len(points)-1]
	out := &chart{From: points[0].At.UTC().Format(time.DateOnly), To: s.in.Now.UTC().Format(time.DateOnly),
		Points: table{Title: "The trend as a table", Header: []string{"From", "State", "% of known", "Compliant", "Non-compliant", "Unknown", "Clusters"}}}
	out.Label = fmt.Sprintf("Clusters in each state since %s; now %d of %d are non-compliant", out.From, max(0, last.NonCompliant), max(0, last.Clusters))
	for i, p := range points {
		until := s.in.Now
		if i+1 < len(points) {
			until = points[i+1].At
		}
		out.Points.add(timeCell(p.At), stateCell(stateOf(p.State)), textCell(percentText(p.CompliantPercent)), orUnknown(p.Compliant), numberCell(max(0, p.NonCompliant)), orUnknown(p.Unknown), numberCell(max(0, p.Clusters)))
		if p.Clusters <= 0 || p.Compliant == nil || p.Unknown == nil {
			continue // nothing is drawn where something is not known
		}
		x, w, y := 600*fractionOf(points, p.At, s.in.Now), 600*fractionOf(points, until, s.in.Now), 120.0
		for _, part := range []counted{{class: "good", n: *p.Compliant}, {class: "warn", n: *p.Unknown}, {class: "bad", n: p.NonCompliant}} {
			h := 120 * float64(max(0, part.n)) / float64(p.Clusters)
			if h > 0 {
				h = max(h, 2)
			}
			h = min(h, y)
			if h > 0 {
				out.Areas = append(out.Areas, area{part.class, fmt.Sprintf("%s,%s %s,%s %s,%s %s,%s", formatDecimal(x), formatDecimal(y), formatDecimal(x), formatDecimal(y-h), formatDecimal(w), formatDecimal(y-h), formatDecimal(w), formatDecimal(y))})
			}
			y -= h
		}
	}
	return out
}

func orUnknown(n *int32) cell {
	if n == nil {
		return cell{Text: "unknown"}
	}
	return numberCell(max(0, *n))
}
