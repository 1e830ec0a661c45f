// Package whatif tells from what clusters report which of their images a change of assignments would deny.
package whatif

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/boltseal/boltseal"
	integrityv1 "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/governance/compliance"
	"github.com/boltseal/boltseal/internal/governance/render"
	"github.com/boltseal/boltseal/internal/governance/resolve"
)

// State is what is demanded before or after a change.
type State struct {
	Library     resolve.Library
	Assignments []v1alpha1.PolicyAssignment
	Exemptions  []v1alpha1.PolicyExemption
	Features    []v1alpha1.FeatureRegistration
	// At is the time by which exemptions are over or not.
	At time.Time
}

// Input is a change, and the evidence at hand.
type Input struct {
	Before, After State
	Clusters      []v1alpha1.Cluster
	Reports       []v1alpha1.ClusterReport
	// Revoked are certificates that are trusted no more after the change.
	Revoked []Certificate
	// Now tells whether a report is stale.
	Now time.Time
}

// Denied is an image in a namespace that would be denied, and is not now.
type Denied struct {
	Cluster    string `json:"cluster"`
	Namespace  string `json:"namespace"`
	Image      string `json:"image"`
	Pods       int32  `json:"pods"`
	Pod        string `json:"pod"`
	Assignment string `json:"assignment"`
	Reference  string `json:"policyDefinitionReferenceId"`
	Reason     string `json:"reason,omitempty"`
	Message    string `json:"message,omitempty"`
	Signer     string `json:"signer,omitempty"`
	// Certain is false where the evidence does not tell, and Doubt says why.
	Certain bool   `json:"certain"`
	Doubt   string `json:"doubt,omitempty"`
}

// Gap is what the evidence of a cluster says nothing about.
type Gap struct {
	Cluster    string `json:"cluster"`
	Assignment string `json:"assignment,omitempty"`
	Message    string `json:"message"`
}

// Problem is why something would not be in force as it is written.
type Problem struct {
	Assignment string `json:"assignment,omitempty"`
	Exemption  string `json:"exemption,omitempty"`
	Cluster    string `json:"cluster,omitempty"`
	Reason     string `json:"reason"`
	Message    string `json:"message"`
}

// Result is what a change comes to, in order of names.
type Result struct {
	Denied   []Denied  `json:"denied"`
	Gaps     []Gap     `json:"gaps"`
	Problems []Problem `json:"problems"`
}

// Look compares what is denied before and after a change. The evidence is what
// clusters report of images that are not trusted: an image that no assignment
// looks at yet, or that is trusted now, is not in it.
func Look(in Input) Result {
	out := Result{Denied: []Denied{}, Gaps: []Gap{}, Problems: []Problem{}}
	before, after := newResolver(in.Before), newResolver(in.After)
	known := map[resolve.Problem]bool{}
	for _, p := range before.Problems() {
		known[p] = true
	}
	out.problems(after.Problems(), known)
	reports := map[string]*v1alpha1.ClusterReport{}
	for i := range in.Reports {
		reports[in.Reports[i].Name] = &in.Reports[i]
	}
	for i := range in.Clusters {
		c := &in.Clusters[i]
		was, will := before.ForCluster(c), after.ForCluster(c)
		for _, p := range was.Problems {
			known[p] = true
		}
		out.problems(will.Problems, known)
		out.cluster(c.Name, was.Bundle.Demands, will.Bundle.Demands, reports[c.Name], in)
	}
	slices.SortFunc(out.Denied, func(a, b Denied) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Image, b.Image), cmp.Compare(a.Assignment, b.Assignment))
	})
	return out
}

func newResolver(s State) *resolve.Resolver {
	return resolve.New(resolve.Input{Library: s.Library, Assignments: s.Assignments, Exemptions: s.Exemptions, Features: s.Features,
		Clock: func() time.Time { return s.At }})
}

func (r *Result) problems(ps []resolve.Problem, known map[resolve.Problem]bool) {
	for _, p := range ps {
		if !known[p] {
			known[p] = true
			r.Problems = append(r.Problems, Problem{p.Assignment, p.Exemption, p.Cluster, p.Reason, p.Message})
		}
	}
}

// rule is a demand that denies, as the cluster would judge by it.
type rule struct {
	demand *v1alpha1.Demand
	set    *integrity.Set
	policy *integrity.Policy
	at     time.Time // by which exemptions are over or not
	doubt  string
}

// rules are the demands that deny, with their exemptions.
func (r *Result) rules(cluster string, demands []v1alpha1.Demand, at time.Time, tell bool) []rule {
	var out []rule
	for i := range demands {
		d := demands[i]
		if d.EnforcementAction != integrityv1.Deny {
			continue
		}
		if d.Template != "" {
			if tell {
				r.Gaps = append(r.Gaps, Gap{cluster, d.Assignment, "its definition brings a ConstraintTemplate of its own, of which reports say nothing"})
			}
			continue
		}
		rendered, err := render.Render(render.Input{Engine: v1alpha1.EngineBoltseal, Demands: []v1alpha1.Demand{d}, Clock: func() time.Time { return at }})
		if err != nil || len(rendered.Outcomes) != 1 || rendered.Outcomes[0].Reason != "" {
			if tell {
				r.Problems = append(r.Problems, Problem{Assignment: d.Assignment, Cluster: cluster, Reason: string(render.InvalidConstraint), Message: "it cannot be rendered"})
			}
			continue
		}
		if rendered.Outcomes[0].Exempt {
			continue
		}
		if next, ok := compileRule(&demands[i], rendered); ok {
			next.at = at
			out = append(out, next)
		}
	}
	return out
}

// compileRule reads the rendered policy back, without what the evidence cannot tell.
func compileRule(d *v1alpha1.Demand, rendered *render.Result) (rule, bool) {
	if len(rendered.Objects) != 1 {
		return rule{}, false
	}
	out := rule{demand: d}
	policy, err := specOf(rendered.Objects[0].Object)
	if err != nil {
		return rule{}, false
	}
	if s := policy.Match.LabelSelector; s != nil && len(s.MatchLabels)+len(s.MatchExpressions) > 0 {
		policy.Match.LabelSelector, out.doubt = nil, "it depends on labels, which reports do not contain"
	}
	if k := policy.Match.Kinds; len(k) > 0 && !slices.Contains(k, "Pod") {
		policy.Match.Kinds, out.doubt = nil, "it depends on the kind of the workload, which reports do not contain"
	}
	p, problems := integrity.Compile(d.Name, policy)
	if len(problems) > 0 {
		return rule{}, false
	}
	out.policy, out.set = p, integrity.NewSet([]*integrity.Policy{p})
	return out, true
}

// denies tells whether the rule denies an image in a namespace, and what is not certain.
func (r rule) denies(c *v1alpha1.Component) (denied bool, doubt string) {
	if len(r.set.Select(integrity.Object{Kind: "Pod", Namespace: c.Namespace})) == 0 || r.policy.Excludes(c.Image) {
		return false, ""
	}
	if r.policy.ExemptionOf(integrity.Subject{Namespace: c.Namespace}, c.Image, r.at) != nil {
		return false, ""
	}
	doubt = r.doubt
	if r.policy.MayExempt(c.Namespace, c.Image, r.at) {
		doubt = "a tag of its repository or a workload of its namespace is exempt, and reports contain neither"
	}
	if c.State == v1alpha1.Unknown {
		doubt = "the image could not be checked"
	}
	for _, x := range r.demand.ExcludedImages {
		if !strings.HasSuffix(x, "*") && sameRepository(x, c.Image) {
			doubt = "an image of its repository is excluded by its tag, which reports do not contain"
		}
	}
	return true, doubt
}

func sameRepository(a, b string) bool {
	x, errX := boltseal.ParseReference(a)
	y, errY := boltseal.ParseReference(b)
	return errX == nil && errY == nil && x.Digest == "" && x.Registry == y.Registry && x.Repository == y.Repository
}

func (r *Result) cluster(name string, was, will []v1alpha1.Demand, report *v1alpha1.ClusterReport, in Input) {
	old := r.rules(name, was, in.Before.At, false)
	next := r.rules(name, will, in.After.At, true)
	all := next
	next = slices.DeleteFunc(slices.Clone(next), func(n rule) bool { // what denies as it did is no change
		return slices.ContainsFunc(old, func(o rule) bool { return o.demand.Name == n.demand.Name && sameDemand(o.demand, n.demand) })
	})
	if len(next) == 0 && (len(all) == 0 || len(in.Revoked) == 0) || !r.reported(name, report, in.Now) {
		return
	}
	r.revoked(name, report, all, in.Revoked)
	if len(next) == 0 {
		return
	}
	components := r.evidence(name, report)
	for _, n := range next {
		r.unreported(name, was, n.demand, report)
		r.unseen(name, report.Report.Engine, demandNamed(was, n.demand.Name), n.demand)
		for i := range components {
			r.component(name, &components[i], old, n)
		}
	}
}

// unreported tells where nothing that a cluster has reported on checks all that a demand would deny.
func (r *Result) unreported(cluster string, was []v1alpha1.Demand, next *v1alpha1.Demand, report *v1alpha1.ClusterReport) {
	message := "no assignment checks all that it would deny: assign it with the effect Audit first, and ask again"
	for i := range was {
		if !coversDemand(&was[i], next) {
			continue
		}
		if slices.ContainsFunc(report.Report.Demands, func(d v1alpha1.DemandReport) bool { return d.Name == was[i].Name }) {
			return
		}
		message = "it has not reported yet on an assignment that checks what it would deny: ask again when it has"
	}
	r.Gaps = append(r.Gaps, Gap{cluster, next.Assignment, message})
}

func demandNamed(demands []v1alpha1.Demand, name string) *v1alpha1.Demand {
	if i := slices.IndexFunc(demands, func(d v1alpha1.Demand) bool { return d.Name == name }); i >= 0 {
		return &demands[i]
	}
	return nil
}

// reported is a cluster's report where it has one, with what is to be said of it.
func (r *Result) reported(name string, report *v1alpha1.ClusterReport, now time.Time) bool {
	if report == nil {
		r.Gaps = append(r.Gaps, Gap{Cluster: name, Message: "it has not reported: nothing is known of what runs in it"})
		return false
	}
	if at := report.Report.At; at == nil || now.Sub(at.Time) > compliance.StaleAfter {
		last := "never"
		if at != nil {
			last = at.UTC().Format(time.RFC3339)
		}
		r.Gaps = append(r.Gaps, Gap{Cluster: name, Message: "its report is old (" + last + "): something else may run by now"})
	}
	return true
}

func sameDemand(a, b *v1alpha1.Demand) bool {
	x, errX := marshalKey(a)
	y, errY := marshalKey(b)
	return errX == nil && errY == nil && x == y
}

// coversDemand tells whether what one demand looks at includes what another does. It is
// false where that is not plain.
func coversDemand(a, b *v1alpha1.Demand) bool {
	if a.Template != "" {
		return false
	}
	subset := func(x, y []string) bool {
		return !slices.ContainsFunc(x, func(s string) bool { return !slices.Contains(y, s) })
	}
	m, n := a.Match, b.Match
	m.ExcludedNamespaces, n.ExcludedNamespaces = nil, nil
	plain := integrityv1.Match{Kinds: m.Kinds}
	wide := sameMatch(m, n) || sameMatch(m, plain) && (len(m.Kinds) == 0 || slices.Contains(m.Kinds, "Pod"))
	return wide && subset(a.Match.ExcludedNamespaces, b.Match.ExcludedNamespaces) && subset(a.ExcludedImages, b.ExcludedImages)
}

func (r *Result) component(cluster string, c *v1alpha1.Component, old []rule, n rule) {
	if c.State == v1alpha1.Compliant {
		return
	}
	denied, doubt := n.denies(c)
	if !denied {
		return
	}
	for _, o := range old {
		if before, unsure := o.denies(c); before && unsure == "" {
			return
		}
	}
	r.Denied = append(r.Denied, Denied{Cluster: cluster, Namespace: c.Namespace, Image: c.Image, Pods: c.Pods, Pod: c.Pod,
		Assignment: n.demand.Assignment, Reference: compliance.Reference(*n.demand), Reason: c.Reason, Message: c.Message, Signer: c.Signer,
		Certain: doubt == "", Doubt: doubt})
}
