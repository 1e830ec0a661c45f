// Package page writes how far clusters are as HTML that needs no script: what the hub knows goes in, pages come out.
package page

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/compliance"
	"github.com/boltseal/boltseal/internal/governance/overview"
	"github.com/boltseal/boltseal/internal/governance/whatif"
)

// Limits on what is written. What a limit leaves out is counted on the page.
const (
	maxRows     = 1000     // of one table
	maxText     = 1024     // bytes of one text
	maxSections = 2000     // of one file
	maxChanges  = 20       // what-ifs in one file
	maxBytes    = 64 << 20 // of one answer
)

// ErrTooLarge says that a page would have more than 64 MiB.
var ErrTooLarge = errors.New("the page would have more than 64 MiB: narrow it down, to one assignment or one cluster")

// ErrNotFound says that nothing has the name that a Query asks for.
var ErrNotFound = errors.New("nothing of this name is known at the hub")

// Input is what the hub knows.
type Input struct {
	overview.Input
	Exemptions []v1alpha1.PolicyExemption
	// Changes are what can be asked beforehand. Empty offers none.
	Changes []Change
	// Now is when all of this was read.
	Now time.Time
}

// Change is something that somebody may do, or that time does.
type Change struct {
	// Name in links, unique; Title for people, such as "assignment watch denies".
	Name, Title string
	// Assignment or Exemption that it is about, by name.
	Assignment, Exemption string
	// Look returns what the change would deny. It is asked once at most, and only where
	// somebody opens it.
	Look func() (whatif.Result, error)
}

// Site is one state of the hub as pages. It is safe for use by several at a time.
type Site struct {
	in         Input
	rows       []overview.Assignment
	components []overview.Component // of all clusters, as they reported last
	now        []overview.Component // of those that are not silent
	notNamed   int32
	clusters   map[string]*cluster
	order      []*cluster // silent ones first, then the worst
	trends     []overview.Point
	byCluster  map[string][]int
	byImage    map[string][]int
	changes    map[string]func() (whatif.Result, error)
	bundles    map[string]*v1alpha1.ClusterBundle
	reports    map[string]*v1alpha1.ClusterReport
}

// cluster is a cluster as the page shows it.
type cluster struct {
	*v1alpha1.Cluster
	silent bool
	late   bool // it is silent, and the hub does not say so
	// state is that of all its assignments together, and Unknown where it is silent.
	state   v1alpha1.ComplianceState
	reason  string
	message string
}

// New returns the pages of a state.
func New(in Input) *Site {
	s := &Site{in: in, rows: overview.Assignments(in.Input), trends: overview.Trend(in.Input), clusters: map[string]*cluster{}, byCluster: map[string][]int{}, byImage: map[string][]int{},
		changes: map[string]func() (whatif.Result, error){}, bundles: map[string]*v1alpha1.ClusterBundle{}, reports: map[string]*v1alpha1.ClusterReport{}}
	for i := range in.Bundles {
		s.bundles[in.Bundles[i].Name] = &in.Bundles[i]
	}
	for i := range in.Reports {
		s.reports[in.Reports[i].Name] = &in.Reports[i]
	}
	s.addClusters()
	s.components, _ = overview.Components(in.Input)
	for i := range s.components {
		c := &s.components[i]
		s.byCluster[c.Cluster] = append(s.byCluster[c.Cluster], i)
		s.byImage[c.Image] = append(s.byImage[c.Image], i)
	}
	now := in.Input
	now.Reports = slices.DeleteFunc(slices.Clone(in.Reports), func(r v1alpha1.ClusterReport) bool { c := s.clusters[r.Name]; return c == nil || c.silent })
	s.now, s.notNamed = overview.Components(now)
	for _, c := range in.Changes {
		s.changes[c.Name] = sync.OnceValues(c.Look)
	}
	return s
}

func (s *Site) addClusters() {
	silent := overview.Silent(s.in.Input)
	for i := range s.in.Clusters {
		c := &cluster{Cluster: &s.in.Clusters[i], state: v1alpha1.Unknown}
		if f := s.in.Filter.Cluster; f != "" && c.Name != f {
			continue
		}
		if s.in.Filter.Assignment != "" && !slices.ContainsFunc(c.Status.Assignments, func(a v1alpha1.AssignmentState) bool { return a.Assignment == s.in.Filter.Assignment }) {
			continue
		}
		c.judge(s.in.Filter.Assignment)
		_, found := slices.BinarySearch(silent, c.Name)
		switch seen := c.Status.LastSeen; {
		case found, seen == nil:
			c.silent = true
		case s.in.Now.Sub(seen.Time) > compliance.StaleAfter+compliance.MaxSkew:
			// The hub would say so, if it ran.
			c.silent, c.late = true, true
			c.reason, c.message = compliance.ReasonReportStale, "the agent reported last at "+formatInstant(seen.Time)+"; look whether Boltseal runs at the hub and in the cluster"
		}
		if c.silent && c.state != v1alpha1.Unknown {
			c.state = v1alpha1.Unknown
		}
		s.clusters[c.Name] = c
		s.order = append(s.order, c)
	}
	slices.SortStableFunc(s.order, func(a, b *cluster) int {
		if a.silent != b.silent {
			return map[bool]int{true: -1, false: 1}[a.silent]
		}
		if d := stateRank(a.state) - stateRank(b.state); d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
}

// judge is what the hub says of the cluster: the worst of its assignments, or of the named
// one, and why.
func (c *cluster) judge(assignment string) {
	if len(c.Status.Assignments) == 0 {
		c.message = "nothing is assigned to it, or the hub has not checked it yet"
		return
	}
	c.state, c.reason, c.message = worstOf(c.Status.Assignments, assignment)
}

// worstOf is the worst state of an assignment, or of all where there is no name.
func worstOf(all []v1alpha1.AssignmentState, assignment string) (state v1alpha1.ComplianceState, reason, message string) {
	var of []v1alpha1.ComplianceState
	for _, a := range all {
		if assignment == "" || a.Assignment == assignment {
			of = append(of, a.State)
		}
	}
	state = compliance.RollUp(of...)
	for _, a := range all {
		if a.State != state || assignment != "" && a.Assignment != assignment {
			continue
		}
		if a.Message == "" && state == v1alpha1.NonCompliant {
			return state, compliance.ReasonPodsViolate, "Pods run images that are not trusted"
		}
		return state, a.Reason, a.Message
	}
	return state, "", ""
}

//go:embed page.css
var style string

// Policy is the Content-Security-Policy of every page: nothing is loaded and nothing is
// run; the one style is known by its SHA-256 (CSP Level 3, section 2.3.1).
func Policy() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
}

// Write writes the page that q asks for. Its links lead to other queries of the same path.
func (s *Site) Write(w io.Writer, q Query) error {
	sec, err := s.section(q, address(func(q Query) string { return "?" + q.Encode() }))
	if err != nil {
		return err
	}
	return s.render(w, []section{sec}, false)
}

// WriteFile writes all pages as one, whose links lead to places in it.
func (s *Site) WriteFile(w io.Writer) error {
	all := s.everything()
	in := make(map[Query]bool, len(all))
	for _, q := range all {
		in[q] = true
	}
	to := address(func(q Query) string {
		if !in[q] {
			return "" // a text in place of a link
		}
		return "#" + q.id()
	})
	var out []section
	for _, q := range all {
		sec, err := s.section(q, to)
		if err != nil {
			return err
		}
		out = append(out, sec)
	}
	return s.render(w, out, true)
}

func (s *Site) render(w io.Writer, sections []section, file bool) error {
	d := document{Policy: Policy(), At: formatInstant(s.in.Now), File: file, Sections: sections}
	var m markup
	if d.write(&m); m.err != nil {
		return m.err
	}
	_, err := w.Write(m.buf.Bytes())
	return err
}

// everything is what a file has: the overview, then each assignment, cluster, namespace,
// image, exemption and change, up to maxSections.
func (s *Site) everything() []Query {
	out := []Query{{}}
	for _, a := range s.rows {
		out = append(out, Query{Assignment: a.Assignment})
	}
	for _, e := range s.exemptions("") {
		out = append(out, Query{Exemption: e.Name})
	}
	for _, c := range s.in.Changes[:min(maxChanges, len(s.in.Changes))] {
		out = append(out, Query{Change: c.Name})
	}
	for _, c := range s.order {
		out = append(out, Query{Cluster: c.Name})
	}
	for _, g := range overview.Images(s.components) {
		out = append(out, Query{Image: g.Name})
	}
	for _, g := range overview.Namespaces(s.components) {
		if s.clusters[g.Cluster] != nil {
			out = append(out, Query{Cluster: g.Cluster, Namespace: g.Name})
		}
	}
	return out[:min(len(out), maxSections)]
}

// cleanText makes a text of a cluster fit to be shown: what moves or turns a reader's eye is
// replaced, and it is cut.
func cleanText(s string) string {
	cut := len(s) > maxText
	if cut {
		s = s[:maxText]
		for len(s) > 0 && !utf8.ValidString(s[max(0, len(s)-utf8.UTFMax):]) && s[len(s)-1] >= utf8.RuneSelf {
			s = s[:len(s)-1]
		}
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r < ' ', r >= 0x7f && r < 0xa0, r >= 0x200b && r <= 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2060 && r <= 0x206f, r == 0xfeff, r >= 0xe0000 && r < 0xe1000:
			return utf8.RuneError
		}
		return r
	}, s)
	if cut {
		s += "…"
	}
	return s
}

func formatInstant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04 UTC")
}
