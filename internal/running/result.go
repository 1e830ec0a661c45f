package running

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/answer/signers"
	"github.com/boltseal/boltseal/internal/answer/snapshot"
)

// Pod names one.
type Pod struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	uid       types.UID // for events
}

// Counts is how many have which outcome.
type Counts struct {
	Trusted    int `json:"trusted"`
	Exempt     int `json:"exempt"`
	NotTrusted int `json:"notTrusted"`
	Unknown    int `json:"unknown"`
	Pending    int `json:"pending"`
}

// Total is how many there are.
func (c Counts) Total() int { return c.Trusted + c.Exempt + c.NotTrusted + c.Unknown + c.Pending }

// Of is how many have an outcome.
func (c Counts) Of(o Outcome) int { return *c.of(o) }

func (c *Counts) of(o Outcome) *int {
	switch o {
	case Trusted:
		return &c.Trusted
	case Exempt:
		return &c.Exempt
	case Unknown:
		return &c.Unknown
	case NotTrusted:
		return &c.NotTrusted
	}
	return &c.Pending
}

// Finding is what one image in one namespace comes to under one policy.
type Finding struct {
	Namespace string `json:"namespace"`
	// Policy is its name, NAMESPACE/NAME for one that a namespace sets itself.
	Policy string                     `json:"policy"`
	Action v1alpha1.EnforcementAction `json:"action"`
	// Image is HOST/REPOSITORY@DIGEST as it runs; where that is not known, the
	// image as the Pod names it.
	Image   string  `json:"image"`
	Outcome Outcome `json:"outcome"`
	// Reason says why it is not trusted.
	Reason boltseal.Reason `json:"reason,omitzero"`
	// Signer is whose signature holds, where it is trusted; elsewhere whose does not.
	// Several are joined by " and ".
	Signer string `json:"signer,omitempty"`
	// Exemption of the policy that it is under, and its end, where it is Exempt. No
	// end is never.
	Exemption string    `json:"exemption,omitempty"`
	Until     time.Time `json:"until,omitzero"`
	// Pods is how many run it, First names some of them.
	Pods  int   `json:"pods"`
	First []Pod `json:"first"`
	// Workloads are what owns those Pods, ordered by kind and name.
	Workloads []Workload `json:"workloads,omitempty"`

	signers signers.Set
}

// PolicyTotals is what a policy finds.
type PolicyTotals struct {
	Name   string                     `json:"name"`
	Owner  string                     `json:"namespace,omitempty"` // whose own it is; "" = the cluster's
	Action v1alpha1.EnforcementAction `json:"action"`
	Pods   Counts                     `json:"pods"`
	Images Counts                     `json:"images"`
	policy *integrity.Policy
}

// Result is what runs, judged.
type Result struct {
	// Generation is the snapshot's that it was judged by.
	Generation uint64    `json:"-"`
	At         time.Time `json:"time"`
	// Pods by the worst outcome of their images; Ignored are those that no policy
	// looks at.
	Pods    Counts `json:"pods"`
	Ignored int    `json:"ignoredPods"`
	// Images counts each image once.
	Images   Counts         `json:"images"`
	Policies []PolicyTotals `json:"policies"`
	// Findings are ordered by namespace, policy, outcome (the worst first) and image.
	Findings []*Finding `json:"findings"`
}

type findingKey struct {
	namespace    string
	policy, unit int
	exempt       *integrity.Exemption
}

// result judges the plan by what is known.
func (j *Judge) result(p *plan) *Result {
	known := j.verdicts(p)
	r := &Result{Generation: p.snap.Generation, At: j.o.Clock()}
	outcome := func(unit int) Outcome {
		if v := known[unit]; v != nil {
			return outcomeOf(v.decision)
		}
		return Pending
	}
	totals := make([]PolicyTotals, len(p.policies))
	for i, pol := range p.policies {
		totals[i] = PolicyTotals{Name: pol.Name(), Owner: pol.Owner(), Action: pol.Action(), policy: pol}
	}
	findings := map[findingKey]*Finding{}
	images := map[string]Outcome{} // by name
	perPolicy := make([]map[string]Outcome, len(p.policies))
	for _, s := range p.sorts {
		if len(s.demands) == 0 {
			r.Ignored += s.pods
			continue
		}
		all := Trusted
		byPolicy := map[int]Outcome{}
		for _, d := range s.demands {
			o, name := outcome(d.unit), p.units[d.unit].target.name()
			exempt := j.exemption(s, d, r.At)
			if o == Trusted || o == Pending {
				exempt = nil
			}
			if exempt != nil {
				o = Exempt
			}
			all = worseOutcome(all, o)
			noteWorst(byPolicy, d.policy, o)
			noteWorst(images, name, o)
			if perPolicy[d.policy] == nil {
				perPolicy[d.policy] = map[string]Outcome{}
			}
			noteWorst(perPolicy[d.policy], name, o)
			key := findingKey{s.namespace, d.policy, d.unit, exempt}
			f := findings[key]
			if f == nil {
				f = &Finding{Namespace: s.namespace, Policy: totals[d.policy].Name, Action: totals[d.policy].Action, Image: name, Outcome: o}
				if v := known[d.unit]; v != nil {
					f.signers, f.Signer = v.signers, truncateText(v.signers.Subjects(), maxSigner)
					if o != Trusted {
						f.Reason = v.reason
					}
				}
				if exempt != nil {
					f.Exemption, f.Until = exempt.Name, exempt.Ends
				}
				findings[key] = f
				r.Findings = append(r.Findings, f)
			}
			f.Pods += s.pods
			f.First = mergeFirst(f.First, s.first)
			f.Workloads = addWorkload(f.Workloads, workloadOf(s))
		}
		*r.Pods.of(all) += s.pods
		for i, o := range byPolicy {
			*totals[i].Pods.of(o) += s.pods
		}
	}
	for _, o := range images {
		*r.Images.of(o)++
	}
	for i, m := range perPolicy {
		for _, o := range m {
			*totals[i].Images.of(o)++
		}
	}
	r.Policies = totals
	slices.SortFunc(r.Findings, compareFindings)
	return r
}

// noteWorst keeps the worst outcome of each key.
func noteWorst[K comparable](m map[K]Outcome, key K, o Outcome) {
	if before, ok := m[key]; ok {
		o = worseOutcome(before, o)
	}
	m[key] = o
}

func compareFindings(a, b *Finding) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Policy, b.Policy), cmp.Compare(b.Outcome, a.Outcome), strings.Compare(a.Image, b.Image))
}

func mergeFirst(a, b []Pod) []Pod {
	if len(a) == maxFirst && len(b) > 0 && comparePods(a[maxFirst-1], b[0]) < 0 {
		return a
	}
	all := append(slices.Clone(a), b...)
	slices.SortFunc(all, comparePods)
	return all[:min(len(all), maxFirst)]
}

// EveryPod is policies that look at every Pod, for a configuration that has none:
// as Ratify judges them, by the resources of their namespaces where those have any.
func EveryPod(name string, engines snapshot.Engines, v *Inventory) []*integrity.Policy {
	var out []*integrity.Policy
	var match v1alpha1.Match
	everything, _ := integrity.Compile(name, v1alpha1.ImageIntegrityPolicySpec{})
	for _, ns := range v.Namespaces() {
		if engines.EngineFor(ns) == engines.EngineFor("") {
			continue
		}
		out = append(out, everything.Of(ns))
		if len(match.ExcludedNamespaces) < integrity.MaxList {
			match.ExcludedNamespaces = append(match.ExcludedNamespaces, ns)
		}
	}
	cluster, _ := integrity.Compile(name, v1alpha1.ImageIntegrityPolicySpec{Match: match})
	return append(out, cluster)
}
