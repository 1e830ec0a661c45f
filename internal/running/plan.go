package running

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"
	"unique"

	"k8s.io/apimachinery/pkg/types"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/answer/snapshot"
)

// unit is one image to be verified with one namespace's resources, or the
// cluster's.
type unit struct {
	engine *boltseal.Engine // nil = there is none
	why    boltseal.Reason  // there is none
	target target
}

// kind is all Pods that are the same to every policy. Replicas are.
type kind struct {
	namespace      string
	labels, images unique.Handle[string]
	owner          unique.Handle[string]
	pulls          unique.Handle[string] // where an engine does
}

// sort is one kind of Pods, and what is demanded of it.
type sort struct {
	kind
	pods    int
	first   []Pod
	demands []demand
}

// demand is a policy's of one image: places in the plan.
type demand struct {
	policy, unit int
	// exempt is the exemption that the image is under; nil = none. claimed is the one
	// that it is under if the Pod's owner is what the Pod says, where that is another.
	exempt, claimed *integrity.Exemption
	image           string // as the Pod names it, where something is claimed
}

// plan is what is to be found out in order to judge all that runs.
type plan struct {
	snap     *snapshot.Snapshot
	policies []*integrity.Policy
	units    []unit
	sorts    []*sort
	targets  map[use]target // those that were identified
	owners   bool           // it matters who owns Pods
	ends     time.Time      // when the next exemption does; zero = none
}

// newPlan holds the Pods against the policies. targets are what was identified
// before.
func newPlan(ctx context.Context, snap *snapshot.Snapshot, v *Inventory, targets map[use]target, now time.Time) *plan {
	p := &plan{snap: snap, policies: snap.Policies.Policies(), targets: make(map[use]target, len(targets))}
	perPod := false
	for _, pol := range p.policies {
		p.owners = p.owners || pol.ExemptsWorkloads()
		perPod = perPod || snap.Choose(pol.Owner(), true).PerPod
		for _, e := range pol.Exemptions() {
			if !e.Ends.IsZero() && !e.Over(now) && (p.ends.IsZero() || e.Ends.Before(p.ends)) {
				p.ends = e.Ends
			}
		}
	}
	sorts := map[kind]*sort{}
	v.mu.Lock()
	namespaces := maps.Clone(v.namespaces)
	for key, r := range v.rows {
		k := kind{key.Namespace, r.labels, r.images, r.owner, unique.Handle[string]{}}
		if perPod {
			k.pulls = r.pulls
		}
		s := sorts[k]
		if s == nil {
			s = &sort{kind: k}
			sorts[k] = s
			p.sorts = append(p.sorts, s)
		}
		s.pods++
		s.first = firstPods(s.first, key, r.uid)
	}
	v.mu.Unlock()
	slices.SortFunc(p.sorts, func(a, b *sort) int { return comparePods(a.first[0], b.first[0]) })
	d := demander{plan: p, before: targets, now: now, number: make(map[*integrity.Policy]int, len(p.policies)), units: map[unit]int{}, ctx: ctx, choices: map[pulling]snapshot.Choice{}}
	for i, pol := range p.policies {
		d.number[pol] = i
	}
	for _, s := range p.sorts {
		d.demand(s, namespaces[s.namespace])
	}
	return p
}

// firstPods adds a Pod to the first by name.
func firstPods(first []Pod, key types.NamespacedName, uid types.UID) []Pod {
	p := Pod{Namespace: key.Namespace, Name: key.Name, uid: uid}
	if len(first) == maxFirst && comparePods(first[maxFirst-1], p) < 0 {
		return first
	}
	i, _ := slices.BinarySearchFunc(first, p, comparePods)
	first = slices.Insert(first, i, p)
	return first[:min(len(first), maxFirst)]
}

func comparePods(a, b Pod) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// demander finds out what is demanded of which image.
type demander struct {
	plan   *plan
	before map[use]target
	number map[*integrity.Policy]int
	units  map[unit]int
	now    time.Time

	ctx     context.Context //nolint:containedctx // of making this one plan
	choices map[pulling]snapshot.Choice
}

// pulling is what the choice of an engine for Pods depends on.
type pulling struct {
	owner, namespace string
	pulls            unique.Handle[string]
}

// choose returns the engine to judge a sort of Pods by, with the resources of a namespace or
// the cluster's own. What runs is asked about in nobody's name but the Pods' own.
func (d *demander) choose(owner string, s *sort) snapshot.Choice {
	k := pulling{owner, s.namespace, s.pulls}
	c, ok := d.choices[k]
	if !ok {
		if c = d.plan.snap.Choose(owner, true); c.PerPod {
			account, secrets := unpackPulls(s.pulls.Value())
			c = c.ForPod(d.ctx, snapshot.Pod{Namespace: s.namespace, Secrets: secrets, Account: account})
		}
		d.choices[k] = c
	}
	return c
}

func (d *demander) target(u use) target {
	t, ok := d.plan.targets[u]
	if !ok {
		if t, ok = d.before[u]; !ok {
			t = identifyImage(u)
		}
		d.plan.targets[u] = t
	}
	return t
}

func (d *demander) demand(s *sort, namespaceLabels map[string]string) {
	labels := unpackLabels(s.labels.Value())
	policies := d.plan.snap.Policies.Select(integrity.Object{Kind: "Pod", Namespace: s.namespace, Labels: labels, NamespaceLabels: namespaceLabels})
	if len(policies) == 0 {
		return
	}
	subject := integrity.Subject{Namespace: s.namespace}
	claim := subject
	if d.plan.owners {
		claim.Workloads = integrity.Owned("Pod", unpackOwner(s.owner.Value()), labels)
	}
	for _, u := range unpackUses(s.kind.images.Value()) {
		t := d.target(u)
		for _, p := range policies {
			if p.Excludes(u.spec) {
				continue
			}
			c := d.choose(p.Owner(), s)
			dem := demand{policy: d.number[p], unit: d.unit(unit{c.Engine, c.Why, t}), exempt: p.ExemptionOf(subject, u.spec, d.now)}
			if len(claim.Workloads) > 0 {
				if e := p.ExemptionOf(claim, u.spec, d.now); e != dem.exempt {
					dem.claimed, dem.image = e, u.spec
				}
			}
			if !slices.Contains(s.demands, dem) {
				s.demands = append(s.demands, dem)
			}
		}
	}
}

func (d *demander) unit(u unit) int {
	i, ok := d.units[u]
	if !ok {
		i = len(d.plan.units)
		d.units[u] = i
		d.plan.units = append(d.plan.units, u)
	}
	return i
}
