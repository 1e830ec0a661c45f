package govern

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/governance/overview"
	"github.com/boltseal/boltseal/internal/governance/page"
)

type complianceFlags struct {
	hub                                   hubFlags
	assignment, cluster, namespace, image string
	by, output                            string
	since                                 time.Duration
}

var (
	complianceFormats = []string{"table", "json", "yaml", "csv", "html"}
	complianceLevels  = []string{"assignment", "cluster", "namespace", "image", "component", "trend"}
)

func newCompliance(env frame.Env) *cobra.Command {
	var f complianceFlags
	cmd := &cobra.Command{
		Use:   "compliance",
		Short: "Say how far clusters are with what is assigned to them",
		Long: `Say how far clusters are with what is assigned to them: by assignment, by cluster, by
namespace, by image, each component by itself, or the trend of assignments. It shows
what the clusters reported last; 'boltseal cluster list' says when that was. With
-o html it is one file for people without kubectl, with all levels and links between
them; it needs nothing else and can be sent by mail.`,
		Annotations: frame.ExitCodes("all that is shown is compliant or exempt; always for the trend",
			"something that is shown is not compliant",
			"nothing is not compliant, but something is unknown; or the command failed"),
		Example: `    boltseal compliance
    boltseal compliance --assignment deploy-trustedimages
    boltseal compliance --cluster fra1
    boltseal compliance --by image --since 24h
    boltseal compliance --by component -o csv > components.csv
    boltseal compliance -o html > compliance.html`,
		GroupID: groupGovern,
		Args:    frame.CheckArgs(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return runCompliance(cmd, env, f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.assignment, "assignment", "", "only the assignment `NAME`")
	fl.StringVar(&f.cluster, "cluster", "", "only the cluster `NAME`")
	fl.StringVar(&f.namespace, "namespace", "", "only components in the namespace `NAME`")
	fl.StringVar(&f.image, "image", "", "only components whose image has this `TEXT` in its name")
	fl.DurationVar(&f.since, "since", 0, "`DURATION`: only components that were first seen this long ago or later")
	fl.StringVar(&f.by, "by", "", "`LEVEL`: assignment, cluster, namespace, image, component or trend (default by what is asked for)")
	fl.StringVarP(&f.output, "output", "o", "table", "`FORMAT`: table, json, yaml, csv or html")
	f.hub.register(cmd)
	cmd.AddCommand(newComplianceServe(env))
	return cmd
}

// level is what is shown: one below what is asked for.
func (f complianceFlags) level() string {
	switch {
	case f.by != "":
		return f.by
	case f.namespace != "" || f.image != "" || f.since != 0 || f.cluster != "" && f.assignment != "":
		return "component"
	case f.assignment != "" || f.cluster != "":
		return "cluster"
	}
	return "assignment"
}

func (f complianceFlags) check() error {
	word := func(flag, word string, words []string) error {
		if word == "" || slices.Contains(words, word) {
			return nil
		}
		return fmt.Errorf("%s: %q is not %s%s", flag, frame.SafeText(word), strings.Join(words, ", "), nearest.Hint(word, words))
	}
	if err := errors.Join(word("--output", f.output, complianceFormats), word("--by", f.by, complianceLevels)); err != nil {
		return err
	}
	if l := f.level(); (l == "assignment" || l == "cluster" || l == "trend") && (f.namespace != "" || f.image != "" || f.since != 0) {
		return fmt.Errorf("--namespace, --image and --since are about components: --by %s does not go with them", l)
	}
	if (f.by == "assignment" || f.by == "trend") && f.cluster != "" {
		return errors.New("--by " + f.by + " is about all clusters: leave --cluster out, or choose --by cluster")
	}
	if f.output == "html" && f.by != "" {
		return errors.New("--by is for rows: -o html has every level in one file, leave --by out")
	}
	if f.since < 0 {
		return errors.New("--since must be positive")
	}
	return nil
}

func runCompliance(cmd *cobra.Command, env frame.Env, f complianceFlags) error {
	ctx := cmd.Context()
	if err := f.check(); err != nil {
		return frame.UsageFailure(cmd, err)
	}
	h, err := f.hub.open(env)
	if err != nil {
		return err
	}
	in := overview.Input{Filter: overview.Filter{Assignment: f.assignment, Cluster: f.cluster, Namespace: f.namespace, Image: f.image}}
	if f.since != 0 {
		in.Filter.Since = time.Now().Add(-f.since)
	}
	if in.Assignments, err = h.assignments(ctx); err != nil {
		return err
	}
	if f.assignment != "" && !slices.Contains(namesOf(in.Assignments), f.assignment) {
		return noSuchName("assignment", f.assignment, namesOf(in.Assignments), "boltseal policy assignment list")
	}
	level := f.level()
	if f.output == "html" {
		return writePage(ctx, env, h, in.Filter, level)
	}
	if level != "assignment" && level != "trend" {
		if in.Clusters, err = h.clusters(ctx); err != nil {
			return err
		}
		if f.cluster != "" && !slices.Contains(namesOf(in.Clusters), f.cluster) {
			return noSuchName("cluster", f.cluster, namesOf(in.Clusters), "boltseal cluster list")
		}
	}
	if level != "assignment" && level != "cluster" && level != "trend" {
		if in.Bundles, err = h.bundles(ctx); err != nil {
			return err
		}
		if in.Reports, err = h.reports(ctx); err != nil {
			return err
		}
	}
	l := listingOf(level, in)
	if err := l.write(env, f.output); err != nil {
		return err
	}
	return l.exit(level)
}

// writePage writes all levels as one file of HTML.
func writePage(ctx context.Context, env frame.Env, h *hub, filter overview.Filter, level string) error {
	in, missing, err := h.pageInput(ctx, filter)
	if err != nil {
		return err
	}
	if missing != nil {
		fmt.Fprintln(env.Stderr, "warning: the page has no what-ifs:", frame.SafeText(missing.Error()))
	}
	if c := filter.Cluster; c != "" && !slices.Contains(namesOf(in.Clusters), c) {
		return noSuchName("cluster", c, namesOf(in.Clusters), "boltseal cluster list")
	}
	if err := page.New(in).WriteFile(env.Stdout); err != nil {
		return err
	}
	if level == "assignment" {
		level = "cluster" // the file has the clusters that nothing is assigned to as well
	}
	return listingOf(level, in.Input).exit(level)
}

// exit is how the command ends: 1 where something is not compliant, 2 where that is not
// known of something.
func (l *listing) exit(level string) error {
	switch {
	case level == "trend":
		return nil
	case slices.ContainsFunc(l.states, func(s v1alpha1.ComplianceState) bool { return s == v1alpha1.NonCompliant || s == v1alpha1.Failed }):
		return frame.ExitError(frame.ExitNotTrusted)
	case l.unknown:
		return frame.ExitError(frame.ExitUnknown)
	}
	return nil
}

// listing is one level of compliance, for every format.
type listing struct {
	header []string
	rows   [][]string
	states []v1alpha1.ComplianceState // of each row
	state  int                        // column of the state
	below  []string                   // a line under each row, in tables for people
	note   string
	// unknown is true where something is not known.
	unknown bool
	data    any // for JSON
}

func (l *listing) add(state v1alpha1.ComplianceState, below string, cells ...string) {
	l.unknown = l.unknown || state == v1alpha1.Unknown || state == v1alpha1.Conflict
	l.rows, l.states, l.below = append(l.rows, cells), append(l.states, state), append(l.below, below)
}

// numberOr is a number, or - where it is not known.
func numberOr(n *int32) string {
	if n == nil {
		return "-"
	}
	return formatNumber(*n)
}

// trustedPods says how many of how many Pods are trusted, and of how many more that
// is not known; - where nothing is known.
func trustedPods(p *v1alpha1.PodCounts) string {
	if p == nil {
		return "-"
	}
	if p.Trusted == nil {
		return fmt.Sprintf("not known, %d not trusted", p.NotTrusted)
	}
	text := fmt.Sprintf("%d of %d", *p.Trusted, *p.Trusted+p.NotTrusted+p.Exempt)
	if p.Unknown > 0 {
		text += fmt.Sprintf(", %d unknown", p.Unknown)
	}
	return text
}

func formatNumber(n int32) string { return strconv.Itoa(int(n)) }

func listingOf(level string, in overview.Input) *listing {
	l := &listing{}
	switch level {
	case "assignment":
		rows := overview.Assignments(in)
		l.header, l.state, l.data = []string{"ASSIGNMENT", "SCOPE", "STATE", "CLUSTERS", "COMPLIANT", "NON-COMPLIANT", "UNKNOWN", "EXEMPT", "CONFLICT", "ERROR", "% OF KNOWN", "AZURE %", "TRUSTED PODS"}, 2, rows
		for _, r := range rows {
			l.add(r.State, "", r.Assignment, r.Scope, string(r.State), formatNumber(r.Clusters), formatNumber(r.Compliant), formatNumber(r.NonCompliant), formatNumber(r.Unknown), formatNumber(r.Exempt), formatNumber(r.Conflict), formatNumber(r.Error),
				frame.OrDash(r.CompliantPercent), frame.OrDash(r.AzurePercent), trustedPods(r.Pods))
		}
		// Of an assignment to no cluster there is nothing to know.
		l.unknown = slices.ContainsFunc(rows, func(r overview.Assignment) bool {
			return r.Clusters > 0 && (r.State == v1alpha1.Unknown || r.State == v1alpha1.Conflict)
		})
		return l
	case "trend":
		rows := overview.Trend(in)
		l.header, l.state, l.data = []string{"ASSIGNMENT", "FROM", "STATE", "% OF KNOWN", "CLUSTERS", "COMPLIANT", "NON-COMPLIANT", "UNKNOWN"}, 2, rows
		for _, r := range rows {
			l.add(r.State, "", r.Assignment, formatTime(r.At), string(r.State), frame.OrDash(r.CompliantPercent), formatNumber(r.Clusters), numberOr(r.Compliant), formatNumber(r.NonCompliant), numberOr(r.Unknown))
		}
		return l
	case "cluster":
		rows := overview.Clusters(in)
		l.header, l.state, l.data = []string{"CLUSTER", "ASSIGNMENT", "REFERENCE", "EFFECT", "STATE", "REASON"}, 4, rows
		for _, r := range rows {
			l.add(r.State, r.Message, r.Cluster, frame.OrDash(r.Assignment), frame.OrDash(r.Reference), frame.OrDash(r.Effect), string(r.State), frame.OrDash(r.Reason))
		}
		return l
	}
	components, more := overview.Components(in)
	silent := overview.Silent(in)
	l.unknown = len(silent) > 0
	var notes []string
	if more > 0 {
		notes = append(notes, frame.CountNoun(int(more), "more Pod")+" not named: reports name the first 100 images of each assignment")
	}
	if len(silent) > 0 {
		notes = append(notes, "nothing is known of "+frame.CountNoun(len(silent), "cluster")+" that "+map[bool]string{true: "does", false: "do"}[len(silent) == 1]+" not report: "+firstOf(silent, 10))
	}
	l.note = strings.Join(notes, "\n")
	switch level {
	case "namespace", "image":
		rows := overview.Images(components)
		l.header, l.state = []string{"IMAGE", "STATE", "PODS", "CLUSTERS", "FIRST SEEN", "LAST SEEN"}, 1
		if level == "namespace" {
			rows = overview.Namespaces(components)
			l.header, l.state = []string{"CLUSTER", "NAMESPACE", "STATE", "PODS", "IMAGES", "FIRST SEEN", "LAST SEEN"}, 2
		}
		l.data = rows
		for _, r := range rows {
			if level == "namespace" {
				l.add(r.State, "", r.Cluster, r.Name, string(r.State), formatNumber(r.Pods), strconv.Itoa(r.Images), formatTime(r.FirstSeen), formatTime(r.LastSeen))
			} else {
				l.add(r.State, "", r.Name, string(r.State), formatNumber(r.Pods), strconv.Itoa(r.Clusters), formatTime(r.FirstSeen), formatTime(r.LastSeen))
			}
		}
	default:
		l.data = struct {
			Components []overview.Component `json:"components"`
			NotNamed   int32                `json:"notNamed"`
			// Silent are the clusters of which nothing is known.
			Silent []string `json:"silent"`
		}{components, more, append([]string{}, silent...)}
		l.header, l.state = []string{"CLUSTER", "NAMESPACE", "IMAGE", "STATE", "PODS", "ASSIGNMENT", "FIRST SEEN", "LAST SEEN", "REASON", "SIGNER"}, 3
		for _, r := range components {
			l.add(r.State, r.Message, r.Cluster, r.Namespace, r.Image, string(r.State), formatNumber(r.Pods), r.Assignment, formatTime(r.FirstSeen), formatTime(r.LastSeen), frame.OrDash(r.Reason), frame.OrDash(r.Signer))
		}
	}
	return l
}

// firstOf joins the first names, and counts the others.
func firstOf(names []string, most int) string {
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func (l *listing) write(env frame.Env, format string) error {
	switch format {
	case "json", "yaml":
		o := frame.OutputFlag(format)
		return o.Encode(env.Stdout, l.data)
	case "csv":
		w := csv.NewWriter(env.Stdout)
		rows := [][]string{l.header}
		for _, r := range l.rows {
			rows = append(rows, plainCells(r))
		}
		return w.WriteAll(rows)
	}
	st := frame.Style(env.Colour(env.Stdout))
	if len(l.rows) == 0 {
		_, err := fmt.Fprintln(env.Stdout, strings.TrimSuffix("nothing to show\n"+l.note, "\n"))
		return err
	}
	var rows []frame.Row
	for i, cells := range l.rows {
		r := frame.Row{Cells: make([]string, len(cells)), Colours: make([]string, len(cells))}
		for j, c := range cells {
			r.Cells[j] = frame.SafeText(frame.ShortImage(c))
		}
		_, r.Colours[l.state] = stateWord(l.states[i])
		if l.below[i] != "" {
			r.Below = []string{frame.SafeText(l.below[i])}
		}
		rows = append(rows, r)
	}
	if err := frame.WriteTable(env.Stdout, st, l.header, rows); err != nil {
		return err
	}
	if l.note != "" {
		_, err := fmt.Fprintf(env.Stdout, "\n%s\n", l.note)
		return err
	}
	return nil
}

// plainCells keeps spreadsheets from taking a cell for a formula: clusters and
// signers choose these texts.
func plainCells(cells []string) []string {
	out := slices.Clone(cells)
	for i, c := range out {
		if c != "-" && strings.ContainsAny(c[:min(1, len(c))], "=+-@\t\r") {
			out[i] = "'" + c
		}
	}
	return out
}
