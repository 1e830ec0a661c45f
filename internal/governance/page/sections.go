package page

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/compliance"
	"github.com/boltseal/boltseal/internal/governance/overview"
)

// maxNames bounds the names in an alert.
const maxNames = 20

// section returns the page that q asks for.
func (s *Site) section(q Query, to address) (section, error) {
	var out section
	var err error
	switch {
	case q.Assignment != "":
		out, err = s.assignment(q.Assignment, to)
	case q.Namespace != "":
		out, err = s.namespace(q.Cluster, q.Namespace, to)
	case q.Cluster != "":
		out, err = s.cluster(q.Cluster, to)
	case q.Image != "":
		out, err = s.image(q.Image, to)
	case q.Exemption != "":
		out, err = s.exemption(q.Exemption, to)
	case q.Change != "":
		out, err = s.change(q.Change, to)
	default:
		out, err = s.overview(to), nil
	}
	out.ID = q.id()
	for i := range out.Tables {
		out.Tables[i].ID = out.ID + "&table=" + string(rune('a'+i))
	}
	return out, err
}

func (s *Site) overview(to address) section {
	out := section{Title: "Compliance", Lead: s.lead(), Alerts: s.alerts(s.order, to)}
	out.Cards = s.totals()
	assignments := table{Title: "Assignments", Header: []string{"Assignment", "State", "Clusters", "% of known", "Azure %", "Trusted Pods", "Trend"},
		Empty: "Nothing is assigned. Assign a definition with 'boltseal policy assignment create'."}
	for i := range s.rows {
		a := &s.rows[i]
		assignments.add(cell{Text: cleanText(a.Assignment), Href: to(Query{Assignment: a.Assignment}), Below: cleanText(a.Scope)}, stateCell(stateOf(a.State)),
			cell{Bar: barOf(*a), Text: trendSentence(*a)}, textCell(percentText(a.CompliantPercent)), textCell(percentText(a.AzurePercent)), trustedPods(a.Pods), cell{Spark: s.spark(a.Assignment)})
	}
	assignments.Note = "% of known counts the clusters whose state is known. Azure % is the number that Azure Policy shows: clusters of which nothing is known raise it."
	out.Tables = append(out.Tables, assignments, s.clusterTable(to, s.order, ""), s.exemptionTable("", to))
	if t, ok := s.changeTable(func(Change) bool { return true }, to); ok {
		out.Tables = append(out.Tables, t)
	}
	images := overview.Images(s.now)
	out.Tables = append(out.Tables, s.imageTable(images, to))
	return out
}

func (s *Site) lead() string {
	var parts []string
	f := s.in.Filter
	for _, p := range [][2]string{{"assignment", f.Assignment}, {"cluster", f.Cluster}, {"namespace", f.Namespace}, {"images with", f.Image}} {
		if p[1] != "" {
			parts = append(parts, p[0]+" "+cleanText(p[1]))
		}
	}
	if !f.Since.IsZero() {
		parts = append(parts, "images first seen since "+formatInstant(f.Since))
	}
	if len(parts) == 0 {
		return ""
	}
	return "Only " + strings.Join(parts, ", ") + "."
}

// alerts says of which clusters nothing is known: everything else is said without them.
func (s *Site) alerts(of []*cluster, to address) []alert {
	var links []link
	n, late := 0, 0
	for _, c := range of {
		if !c.silent {
			continue
		}
		if n++; len(links) < maxNames {
			links = append(links, link{cleanText(c.Name), to(Query{Cluster: c.Name})})
		}
		if c.late {
			late++
		}
	}
	var out []alert
	if n > 0 {
		out = append(out, alert{Title: "Nothing is known of " + countNoun(n, "cluster"), Links: links, More: n - len(links),
			Text: "No agent reports from there now. They count as unknown, and their Pods and images are in none of the numbers below."})
	}
	if late > 0 {
		out = append(out, alert{Title: "The hub does not keep its numbers up to date",
			Text: "Clusters have been silent for longer than the hub takes to say so. Numbers of assignments may be of the past: look whether Boltseal runs at the hub."})
	}
	return out
}

// totals are the clusters in each state. What is not known stands beside what is.
func (s *Site) totals() []card {
	n := map[string]int32{}
	var looked, bad, unknown int64
	for _, c := range s.order {
		n[stateOf(c.state).Word]++
		if t := c.Status.Compliance; t != nil && !c.silent {
			looked, bad, unknown = looked+int64(max(0, t.Pods)), bad+int64(max(0, t.Violations)), unknown+int64(max(0, t.Unknown))
		}
	}
	known := compliance.Counts{Compliant: n["compliant"], NonCompliant: n["non-compliant"], Conflict: n["conflict"], Error: n["error"]}
	below := ""
	if p := known.KnownPercent(); p != "" {
		below = p + " % of those that are known"
	}
	out := []card{{"", groupDigits(int64(len(s.order))), strings.TrimPrefix(countNoun(len(s.order), "cluster"), groupDigits(int64(len(s.order)))+" "), "registered at the hub"}, {"good", groupDigits(int64(n["compliant"])), "compliant", below},
		{"bad", groupDigits(int64(n["non-compliant"])), "non-compliant", "in at least one assignment"}, {"warn", groupDigits(int64(n["unknown"])), "unknown", "silent, not reported yet, or nothing assigned"}}
	for _, w := range []string{"exempt", "conflict", "error"} {
		if n[w] > 0 {
			out = append(out, card{map[string]string{"exempt": "calm", "conflict": "warn", "error": "bad"}[w], groupDigits(int64(n[w])), w, ""})
		}
	}
	pods := card{"bad", groupDigits(bad), "Pods not trusted", "of " + groupDigits(looked) + " that were checked"}
	switch {
	case looked == 0:
		pods = card{"warn", "unknown", "Pods not trusted", "no cluster has reported any Pods"}
	case bad == 0:
		pods.Class = ""
	}
	if unknown > 0 {
		pods.Below += ", " + groupDigits(unknown) + " more are unknown"
	}
	return append(out, pods)
}

func (s *Site) assignment(name string, to address) (section, error) {
	i := slices.IndexFunc(s.rows, func(a overview.Assignment) bool { return a.Assignment == name })
	j := slices.IndexFunc(s.in.Assignments, func(a v1alpha1.PolicyAssignment) bool { return a.Name == name })
	if i < 0 || j < 0 {
		return section{}, ErrNotFound
	}
	a, spec := s.rows[i], s.in.Assignments[j].Spec
	out := section{Kind: "Assignment", Title: cleanText(name), Up: s.up(to), State: stateOf(a.State), Lead: cleanText(spec.Description), Chart: s.trend(name)}
	out.Facts = factRows("Assigned", textCell(spec.PolicyDefinitionID), "Scope", textCell(spec.Scope), "Enforcement", textCell(cmp.Or(string(spec.EnforcementMode), string(v1alpha1.EnforceDefault))),
		"Clusters", textCell(trendSentence(a)), "% of known", textCell(percentText(a.CompliantPercent)), "Azure %", textCell(percentText(a.AzurePercent)), "Trusted Pods", trustedPods(a.Pods))
	if a.ChangedAt != nil {
		out.Facts = append(out.Facts, factRows("Last change", timeCell(*a.ChangedAt))...)
	}
	for _, m := range spec.NonComplianceMessages {
		out.Facts = append(out.Facts, factRows("What to do", textCell(m.Message))...)
	}
	var of []*cluster
	for _, c := range s.order {
		if slices.ContainsFunc(c.Status.Assignments, func(t v1alpha1.AssignmentState) bool { return t.Assignment == name }) {
			of = append(of, c)
		}
	}
	out.Alerts = s.alerts(of, to)
	var cs []overview.Component
	for _, c := range s.now {
		if c.Assignment == name {
			cs = append(cs, c)
		}
	}
	out.Tables = []table{s.clusterTable(to, of, name), s.imageTable(overview.Images(cs), to), s.signers("", name), s.exemptionTable(name, to)}
	if t, ok := s.changeTable(func(c Change) bool { return c.Assignment == name }, to); ok {
		out.Tables = append(out.Tables, t)
	}
	return out, nil
}

func (s *Site) cluster(name string, to address) (section, error) {
	c := s.clusters[name]
	if c == nil {
		return section{}, ErrNotFound
	}
	out := section{Kind: "Cluster", Title: cleanText(name), Up: s.up(to), State: stateOf(c.state)}
	if c.silent {
		out.Alerts = []alert{{Title: "Nothing is known of this cluster now", Text: silenceText(c)}}
	}
	out.Facts = factRows("Scope", textCell(cmp.Or(c.Spec.Scope, "/")), "Location", textCell(c.Spec.Location), "Last report", lastSeen(c), "Add-on", textCell(string(c.Status.AddOn)), "Version", textCell(c.Status.Version), "Pods", s.pods(c))
	t := table{Title: "Assignments", Header: []string{"Assignment", "Definition", "Effect", "State", "Why, and what to do"}, Empty: "Nothing is assigned to this cluster, or the hub has not looked yet."}
	for _, a := range c.Status.Assignments {
		if f := s.in.Filter.Assignment; f != "" && f != a.Assignment {
			continue
		}
		state, message := a.State, a.Message
		if c.silent {
			state, message = v1alpha1.Unknown, cmp.Or(c.message, a.Message)
		}
		if state == v1alpha1.NonCompliant && message == "" {
			message = "Pods run images that are not trusted: see the namespaces below"
		}
		t.add(linkCell(a.Assignment, to(Query{Assignment: a.Assignment})), textCell(a.PolicyDefinitionReferenceID), textCell(a.Effect), stateCell(stateOf(state)), reasonCell(message, remedyOf(a.Reason)))
	}
	ns := table{Title: "Namespaces with images that are not trusted", Header: []string{"Namespace", "Worst", "Images", "Pods", "First seen"}, Note: s.unnamed(c), Empty: "The cluster reports no image that is not trusted."}
	if c.silent {
		ns.Title, ns.Note, ns.Empty = "Namespaces as they were reported last", "", "Nothing is known of its images now."
	}
	for _, g := range overview.Namespaces(s.of(s.byCluster[name])) {
		ns.add(linkCell(g.Name, to(Query{Cluster: name, Namespace: g.Name})), stateCell(trustOf(g.State)), numberCell(int32(g.Images)), numberCell(max(0, g.Pods)), timeCell(g.FirstSeen))
	}
	out.Tables = []table{t, ns, s.signers(name, "")}
	return out, nil
}

func (s *Site) namespace(cluster, name string, to address) (section, error) {
	var cs []overview.Component
	for _, c := range s.of(s.byCluster[cluster]) {
		if c.Namespace == name {
			cs = append(cs, c)
		}
	}
	if s.clusters[cluster] == nil || len(cs) == 0 {
		return section{}, ErrNotFound
	}
	out := section{Kind: "Namespace", Title: cleanText(name), Up: append(s.up(to), link{cleanText(cluster), to(Query{Cluster: cluster})})}
	if c := s.clusters[cluster]; c.silent {
		out.Alerts = []alert{{Title: "This is what the cluster reported last", Text: silenceText(c)}}
	}
	t := table{Title: "Images", Header: []string{"Image", "State", "Pods", "Assignment", "Why, and what to do", "Signer", "First seen"}}
	for _, c := range cs {
		t.add(cell{Text: cleanText(c.Image), Mono: true, Href: to(Query{Image: c.Image})}, stateCell(trustOf(c.State)), podsOf(c), linkCell(c.Assignment, to(Query{Assignment: c.Assignment})),
			reasonCell(c.Message, remedyOf(c.Reason)), textCell(cmp.Or(c.Signer, "none known")), timeCell(c.FirstSeen))
	}
	out.Tables = []table{t}
	return out, nil
}

func (s *Site) image(name string, to address) (section, error) {
	cs := s.of(s.byImage[name])
	if len(cs) == 0 {
		return section{}, ErrNotFound
	}
	groups := overview.Images(cs)
	out := section{Kind: "Image", Title: cleanText(name), Up: s.up(to), State: trustOf(groups[0].State)}
	out.Facts = factRows("Pods", numberCell(max(0, groups[0].Pods)), "Clusters", numberCell(int32(groups[0].Clusters)), "First seen", timeCell(groups[0].FirstSeen), "Last seen", timeCell(groups[0].LastSeen))
	t := table{Title: "Where it runs", Header: []string{"Cluster", "Namespace", "State", "Pods", "Assignment", "Why, and what to do", "Signer", "First seen"}}
	for _, c := range cs {
		where := linkCell(c.Cluster, to(Query{Cluster: c.Cluster}))
		if k := s.clusters[c.Cluster]; k != nil && k.silent {
			where.Below = "silent: as reported last"
		}
		t.add(where, linkCell(c.Namespace, to(Query{Cluster: c.Cluster, Namespace: c.Namespace})), stateCell(trustOf(c.State)), podsOf(c), linkCell(c.Assignment, to(Query{Assignment: c.Assignment})),
			reasonCell(c.Message, remedyOf(c.Reason)), textCell(cmp.Or(c.Signer, "none known")), timeCell(c.FirstSeen))
	}
	out.Tables = []table{t}
	return out, nil
}

func (s *Site) up(to address) []link { return []link{{"Compliance", to(Query{})}} }

func (s *Site) of(at []int) []overview.Component {
	out := make([]overview.Component, len(at))
	for i, j := range at {
		out[i] = s.components[j]
	}
	return out
}

func podsOf(c overview.Component) cell {
	out := numberCell(max(0, c.Pods))
	if c.Pod != "" {
		out.Below = "such as " + cleanText(c.Pod)
	}
	return out
}

// factRows are names and cells in turn; a fact without a text is left out.
func factRows(pairs ...any) (out []fact) {
	for i := 0; i+1 < len(pairs); i += 2 {
		if c := pairs[i+1].(cell); c.Text != "" {
			out = append(out, fact{pairs[i].(string), c})
		}
	}
	return out
}

func lastSeen(c *cluster) cell {
	if c.Status.LastSeen == nil {
		return cell{Text: "never"}
	}
	return timeCell(c.Status.LastSeen.Time)
}

func silenceText(c *cluster) string {
	if c.message == "" || c.Status.LastSeen == nil && len(c.Status.Assignments) == 0 {
		return "Its agent has not reported. Look whether it runs and reaches the hub."
	}
	return strings.ToUpper(cleanText(c.message)[:1]) + cleanText(c.message)[1:] + "."
}

func (s *Site) pods(c *cluster) cell {
	t := c.Status.Compliance
	if t == nil || c.silent {
		return cell{Text: "unknown"}
	}
	out := cell{Text: groupDigits(int64(t.Violations)) + " not trusted of " + groupDigits(int64(t.Pods))}
	if t.Unknown > 0 {
		out.Below = groupDigits(int64(t.Unknown)) + " unknown"
	}
	return out
}

// left says how long something lasts from now on.
func (s *Site) left(end time.Time) string {
	switch d := end.Sub(s.in.Now); {
	case d <= 0:
		return "it has ended"
	case d < 48*time.Hour:
		return "in " + countNoun(int(d/time.Hour), "hour")
	default:
		return "in " + countNoun(int(d/(24*time.Hour)), "day")
	}
}
