package page

import (
	"cmp"
	"slices"
	"strings"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/overview"
	"github.com/boltseal/boltseal/internal/governance/whatif"
)

// clusterTable lists clusters, with how far they are with one assignment, or with all
// where there is no name.
func (s *Site) clusterTable(to address, of []*cluster, assignment string) table {
	t := table{Title: "Clusters", Header: []string{"Cluster", "State", "Why, and what to do", "Last report", "Pods"}, Empty: "No cluster is registered. Register one with 'boltseal cluster register'."}
	if assignment != "" {
		t.Empty = "No cluster in the scope of this assignment has reported."
	}
	for _, c := range of {
		state, reason, message := c.state, c.reason, c.message
		pods := s.pods(c)
		if assignment != "" && !c.silent {
			state, reason, message = worstOf(c.Status.Assignments, assignment)
			pods = podsIn(c.Status.Assignments, assignment)
		}
		if c.silent {
			message, reason = silenceText(c), ""
		}
		t.add(cell{Text: cleanText(c.Name), Href: to(Query{Cluster: c.Name}), Below: cleanText(c.Spec.Scope)}, stateCell(stateOf(state)), reasonCell(message, remedyOf(reason)), lastSeen(c), pods)
	}
	return t
}

// podsIn are the Pods of a cluster by the definition of an assignment by which most are
// not trusted: all of them look at the same Pods.
func podsIn(all []v1alpha1.AssignmentState, assignment string) cell {
	var worst *v1alpha1.PodCounts
	for _, a := range all {
		if a.Assignment == assignment && a.Pods != nil && (worst == nil || a.Pods.NotTrusted > worst.NotTrusted) {
			worst = a.Pods
		}
	}
	out := trustedPods(worst)
	if worst != nil && worst.Trusted != nil {
		out.Text += " trusted"
	}
	return out
}

func (s *Site) imageTable(images []overview.Group, to address) table {
	t := table{Title: "Images that are not trusted", Header: []string{"Image", "State", "Pods", "Clusters", "First seen"}, Empty: "No cluster that reports runs an image that is not trusted."}
	if len(s.order) == 0 {
		t.Empty = "Nothing is known: no cluster is registered."
	}
	if s.notNamed > 0 {
		t.Note = countNoun(s.notNamed, "more Pod") + " run images that are not trusted and are not listed: a report names the first 100 images of each assignment."
	}
	for _, g := range images {
		t.add(cell{Text: cleanText(g.Name), Mono: true, Href: to(Query{Image: g.Name})}, stateCell(trustOf(g.State)), numberCell(max(0, g.Pods)), numberCell(int32(g.Clusters)), timeCell(g.FirstSeen))
	}
	return t
}

// unnamed says how many Pods of a cluster the report counts and does not name.
func (s *Site) unnamed(c *cluster) string {
	r, b := s.reports[c.Name], s.bundles[c.Name]
	if r == nil || b == nil {
		return ""
	}
	one := overview.Input{Filter: s.in.Filter, Clusters: []v1alpha1.Cluster{*c.Cluster}, Bundles: []v1alpha1.ClusterBundle{*b}, Reports: []v1alpha1.ClusterReport{*r}}
	if _, more := overview.Components(one); more > 0 {
		return countNoun(more, "more Pod") + " run images that are not trusted and are not listed: a report names the first 100 images of each assignment."
	}
	return ""
}

// signers lists whose signatures the trusted images rest on: of one cluster, or for one
// assignment. Silent clusters are left out.
func (s *Site) signers(name, assignment string) table {
	t := table{Title: "Who signed the trusted images", Header: []string{"Signer", "Images", "Pods"}, Empty: "No report says who signed."}
	type total struct{ images, pods int64 }
	all := map[string]*total{}
	of := s.order
	if name != "" {
		of = []*cluster{s.clusters[name]}
	}
	for _, c := range of {
		r := s.reports[c.Name]
		if r == nil || c.silent {
			continue
		}
		named := map[string]total{} // several assignments look at the same images
		for _, d := range r.Report.Demands {
			if assignment != "" && !s.isOf(r.Name, d.Name, assignment) {
				continue
			}
			for _, by := range d.TrustedBy {
				var names []string
				for _, g := range by.Signers {
					names = append(names, cleanText(g.Subject))
				}
				k := cmp.Or(strings.Join(names, " and "), "unknown")
				if n := (total{int64(max(0, by.Images)), int64(max(0, by.Pods))}); n.images > named[k].images {
					named[k] = n
				}
			}
		}
		for k, n := range named {
			if all[k] == nil {
				all[k] = &total{}
			}
			all[k].images, all[k].pods = all[k].images+n.images, all[k].pods+n.pods
		}
	}
	for _, k := range sortedKeys(all) {
		t.add(cell{Text: k}, cell{Text: groupDigits(all[k].images)}, cell{Text: groupDigits(all[k].pods)})
	}
	if name == "" && len(t.Rows) > 0 {
		t.Note = "Images are counted in each cluster."
	}
	return t
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// isOf tells whether a demand of a cluster is that of an assignment.
func (s *Site) isOf(cluster, demand, assignment string) bool {
	b := s.bundles[cluster]
	return b != nil && slices.ContainsFunc(b.Spec.Demands, func(d v1alpha1.Demand) bool { return d.Name == demand && d.Assignment == assignment })
}

// exemptions are those of an assignment, or all; those that end first come first.
func (s *Site) exemptions(assignment string) []*v1alpha1.PolicyExemption {
	var out []*v1alpha1.PolicyExemption
	assignment = cmp.Or(assignment, s.in.Filter.Assignment)
	for i := range s.in.Exemptions {
		e := &s.in.Exemptions[i]
		if assignment == "" || nameIn(e.Spec.PolicyAssignmentID) == assignment {
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b *v1alpha1.PolicyExemption) int {
		x, y := a.Spec.ExpiresOn, b.Spec.ExpiresOn
		switch {
		case x == nil && y == nil, x != nil && y != nil && x.Equal(y):
			return strings.Compare(a.Name, b.Name)
		case x == nil:
			return 1
		case y == nil:
			return -1
		}
		return x.Compare(y.Time)
	})
	return out
}

// nameIn is the name of an assignment, of which an ID is a path.
func nameIn(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }

func (s *Site) exemptionTable(assignment string, to address) table {
	t := table{Title: "Exemptions, and when they end", Header: []string{"Exemption", "Assignment", "What", "Category", "Ends"}, Empty: "There are no exemptions."}
	for _, e := range s.exemptions(assignment) {
		name := nameIn(e.Spec.PolicyAssignmentID)
		t.add(linkCell(e.Name, to(Query{Exemption: e.Name})), linkCell(name, to(Query{Assignment: name})), textCell(exemptionScope(e)), textCell(e.Spec.ExemptionCategory), s.ends(e))
	}
	return t
}

func exemptionScope(e *v1alpha1.PolicyExemption) string {
	scope := cmp.Or(e.Spec.Scope, "all clusters of the assignment")
	w := e.Spec.Within
	if w == nil {
		return scope
	}
	var parts []string
	for _, p := range []struct {
		name  string
		names []string
	}{{"namespaces", w.Namespaces}, {"images", w.Images}, {"workloads", w.Workloads}} {
		if len(p.names) > 0 {
			parts = append(parts, p.name+" "+strings.Join(p.names, ", "))
		}
	}
	return strings.Join(parts, "; ") + " in " + scope
}

func (s *Site) ends(e *v1alpha1.PolicyExemption) cell {
	if e.Spec.ExpiresOn == nil {
		return cell{Text: "never"}
	}
	out := timeCell(e.Spec.ExpiresOn.Time)
	out.Below = s.left(e.Spec.ExpiresOn.Time)
	return out
}

func (s *Site) exemption(name string, to address) (section, error) {
	for _, e := range s.exemptions("") {
		if e.Name != name {
			continue
		}
		of := nameIn(e.Spec.PolicyAssignmentID)
		out := section{Kind: "Exemption", Title: cleanText(name), Up: append(s.up(to), link{cleanText(of), to(Query{Assignment: of})}), Lead: cleanText(e.Spec.Description)}
		out.Facts = factRows("Assignment", linkCell(of, to(Query{Assignment: of})), "What", textCell(exemptionScope(e)), "Category", textCell(e.Spec.ExemptionCategory), "Ends", s.ends(e))
		if t, ok := s.changeTable(func(c Change) bool { return c.Exemption == name }, to); ok {
			out.Tables = append(out.Tables, t)
		}
		return out, nil
	}
	return section{}, ErrNotFound
}

func (s *Site) changeTable(of func(Change) bool, to address) (table, bool) {
	t := table{Title: "What would be denied", Header: []string{"If", "Then"}}
	for _, c := range s.in.Changes {
		if of(c) {
			t.add(textCell(c.Title), linkCell("which images would be denied", to(Query{Change: c.Name})))
		}
	}
	return t, len(t.Rows) > 0
}

func (s *Site) change(name string, to address) (section, error) {
	look := s.changes[name]
	if look == nil {
		return section{}, ErrNotFound
	}
	r, err := look()
	if err != nil {
		return section{}, err
	}
	out := section{Kind: "What if", Up: s.up(to)}
	for _, c := range s.in.Changes {
		if c.Name == name {
			out.Title = cleanText(c.Title)
		}
	}
	out.Cards = denialCards(r)
	if len(r.Gaps)+len(r.Problems) > 0 {
		out.Alerts = []alert{{Title: "Not everything is known", Text: "Reports do not contain all that this depends on: see what is not known below."}}
	}
	denied := table{Title: "Images that would be denied", Header: []string{"Cluster", "Namespace", "Image", "Pods", "Denied", "Why, and what to do"}, Empty: "No image that reports name would be denied."}
	for _, d := range r.Denied {
		sure := cell{State: &state{"bad", "certainly"}}
		if !d.Certain {
			sure = cell{State: &state{"warn", "perhaps"}, Below: cleanText(d.Doubt)}
		}
		denied.add(linkCell(d.Cluster, to(Query{Cluster: d.Cluster})), textCell(d.Namespace), monoCell(d.Image), numberCell(max(0, d.Pods)), sure, reasonCell(d.Message, remedyOf(d.Reason)))
	}
	unknown := table{Title: "What is not known", Header: []string{"Where", "What"}, Empty: "The reports contain all that this depends on."}
	for _, g := range r.Gaps {
		unknown.add(cell{Text: cleanText(g.Cluster), Href: to(Query{Cluster: g.Cluster}), Below: cleanText(g.Assignment)}, textCell(g.Message))
	}
	for _, p := range r.Problems {
		unknown.add(textCell(cmp.Or(p.Cluster, p.Assignment, p.Exemption)), textCell(p.Message))
	}
	out.Tables = []table{denied, unknown}
	return out, nil
}

func denialCards(r whatif.Result) []card {
	var sure, perhaps int64
	for _, d := range r.Denied {
		if d.Certain {
			sure += int64(max(0, d.Pods))
		} else {
			perhaps += int64(max(0, d.Pods))
		}
	}
	out := []card{{"bad", groupDigits(sure), "Pods would be denied", "when they start again"}, {"warn", groupDigits(perhaps), "Pods perhaps", "the reports do not contain"}}
	if n := len(r.Gaps) + len(r.Problems); n > 0 {
		out = append(out, card{"warn", groupDigits(int64(n)), "not known", "see what, below"})
	}
	return out
}
