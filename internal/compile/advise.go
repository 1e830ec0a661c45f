package compile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/trust"
)

// MaxAdvised bounds the resources of a cluster that a change is looked at beside: of a
// larger one only its own text is.
const MaxAdvised = 10_000

// maxNamed bounds how many resources one warning names.
const maxNamed = 3

// Change is a write of one resource: Next is the resource as it is to be, or the one
// that is deleted.
type Change struct {
	Next    *Resource
	Deleted bool
	// Proven says that it is known who asks. Otherwise no names are told of what is in
	// namespaces.
	Proven bool
}

// Advice is what whoever makes a change should know.
type Advice struct {
	// Own is what the resource's own text says.
	Own []strict.Problem
	// Others is what other resources make of it. They may be under way.
	Others []strict.Problem
}

// Advise says of a change what the statuses would say once it is made, as far as that
// can be known without reading a file or asking anybody; and nothing of what a provider
// has. Nil entries mean that the other resources are not known.
func Advise(o ClusterOptions, entries []Entry, change Change, deps Deps) (a Advice) {
	r := change.Next
	if !change.Deleted && r.created.IsZero() {
		r.created = time.Now().Add(time.Hour) // the API server has not written it yet: it is the youngest
	}
	known := entries != nil && len(entries) < MaxAdvised
	if !known {
		entries = nil
	}
	after := slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool { return e.Current.key == r.key })
	before := after
	if change.Deleted {
		before = append(slices.Clone(after), Entry{Current: r})
	} else {
		after = append(slices.Clone(after), Entry{Current: r})
	}
	x := adviser{change: change, deps: deps, now: NewCluster(o, after)}
	switch {
	case change.Deleted && known:
		a.Others = x.deleted(NewCluster(o, before))
	case !change.Deleted:
		a = x.written(known)
	}
	return a
}

// adviser looks at one change.
type adviser struct {
	change Change
	deps   Deps
	now    *Cluster // as it would be
}

// shows reports whether what is in a namespace may be named to whoever asks.
func (x adviser) shows(namespace string) bool {
	mine := x.change.Next.key.Namespace
	return namespace == "" || x.change.Proven && (mine == "" || mine == namespace)
}

// written is about a resource that is made or changed.
func (x adviser) written(known bool) (a Advice) {
	r, st := x.change.Next, x.now.standing[x.change.Next.key]
	if !st.OK() {
		return Advice{Own: st.Problems}
	}
	if r.key.integrity() {
		a.Own = placed(r.set.advice)
		if known {
			a.Others = st.Warnings[len(a.Own):] // NewCluster's order
		}
		return a
	}
	a.Own = x.alone(keyring{any: true})
	if !known {
		return a
	}
	for _, p := range x.alone(x.named()) {
		if !slices.Contains(a.Own, p) {
			a.Others = append(a.Others, p)
		}
	}
	if p, ok := x.collision(); ok {
		a.Others = append(a.Others, p)
	}
	return a
}

// named are the cluster's providers by name, with hints that may be told.
func (x adviser) named() keyring {
	k := x.now.names()
	k.hints.names = slices.DeleteFunc(k.names(), func(name string) bool {
		namespace, _, ok := strings.Cut(name, "/")
		return ok && !x.shows(namespace)
	})
	return k
}

// alone compiles the one resource with providers of these names, and closes it.
func (x adviser) alone(names keyring) []strict.Problem {
	deps := x.deps
	deps.Keys, deps.Sources, deps.Wrap, deps.Forgot, deps.Layout = nil, nil, nil, nil, nil
	deps.Nodes = &Nodes{Platforms: []boltseal.Platform{{OS: "linux", Architecture: "amd64"}}} // what they run is the status's to say
	deps.Cloud = keys.Env{Getenv: deps.Cloud.Getenv, Namespace: deps.Cloud.Namespace, Clock: deps.Cloud.Clock}
	c := newCompiler(deps)
	c.part, c.files.none, c.keys = true, true, names
	r := x.change.Next
	err := guarded(func() error {
		for _, s := range r.set.stores {
			s.from = nil // nothing of it lasts
			c.store(s)
		}
		for _, v := range r.set.verifiers {
			c.verifier(v)
		}
		for _, p := range r.set.policies {
			c.policy(p)
		}
		for _, p := range r.set.providers {
			src, err := source(p)
			if c.fail(err); err != nil {
				continue
			}
			c.out.Warnings = append(c.out.Warnings, src.warnings...)
			for _, cert := range src.inline {
				if text := trust.Expiring(cert, c.deps.Clock()); text != "" {
					c.out.Warnings = append(c.out.Warnings, p.problem("spec.parameters.value", "%s", text))
				}
			}
		}
		return nil
	})
	c.fail(err)
	c.out.Close()
	return placed(append(c.problems, c.out.Warnings...))
}

// collision is that of a Store with another one of its namespace that wins.
func (x adviser) collision() (p strict.Problem, ok bool) {
	key := x.change.Next.key
	if key.base() != v1beta1.KindStore {
		return p, false
	}
	var taken boltseal.Scopes
	for _, e := range x.now.entries { // the older ones first
		if e.Current.key.base() != v1beta1.KindStore || e.Current.key.Namespace != key.Namespace || len(e.Current.problems) > 0 {
			continue
		}
		for _, s := range e.Current.set.stores {
			var params orasParameters
			if s.parameters(&params) != nil {
				continue
			}
			if err := taken.Take(boltseal.ScopedStore{Name: s.name, Scopes: params.Scopes}); err != nil && e.Current.key == key {
				return olderStays(err), true
			}
		}
	}
	return p, false
}

// deleted is about a resource that goes: who names it, and what nothing is left for.
func (x adviser) deleted(before *Cluster) (out []strict.Problem) {
	was := map[Dangling]bool{}
	for _, d := range before.Dangling() {
		was[d] = true
	}
	var naming []Key
	for _, d := range x.now.Dangling() {
		if !was[d] && !slices.Contains(naming, d.Verifier) {
			naming = append(naming, d.Verifier)
		}
	}
	if len(naming) > 0 {
		out = append(out, strict.Problem{Message: "it is still named by " + x.list(naming) + ", which will not trust what is signed by its certificates any more: change that first"})
	}
	var denying []Key
	lacking := ""
	for _, e := range x.now.entries {
		if lacks := x.now.lacks(e.Current); lacks != "" && before.lacks(e.Current) == "" {
			denying, lacking = append(denying, e.Current.key), lacks
		}
	}
	if len(denying) > 0 {
		out = append(out, strict.Problem{Message: fmt.Sprintf("without it there is no %s, and %s will deny every image", lacking, x.list(denying))})
	}
	return out
}

// list names resources, as far as they may be named.
func (x adviser) list(keys []Key) string {
	var names []string
	for _, k := range keys {
		if len(names) < maxNamed && x.shows(k.Namespace) {
			names = append(names, k.String())
		}
	}
	switch more := len(keys) - len(names); {
	case len(names) == 0 && more == 1:
		return "another resource"
	case len(names) == 0:
		return fmt.Sprintf("%d other resources", more)
	case more > 0:
		return fmt.Sprintf("%s and %d more", strings.Join(names, ", "), more)
	}
	return strings.Join(names, ", ")
}

// lacks is the kind of which there is none for the images that a policy denies, so
// that it denies them all; "" where there is nothing to say.
func (c *Cluster) lacks(r *Resource) string {
	if !r.key.integrity() || len(r.set.integrity) != 1 || r.set.integrity[0].Action() != v1alpha1.Deny {
		return ""
	}
	for _, kind := range []string{v1beta1.KindStore, v1beta1.KindVerifier} {
		if !c.kinds[Key{Kind: kind}] && !c.kinds[Key{Kind: kind, Namespace: r.key.Namespace}] {
			return kind
		}
	}
	return ""
}

// warnDenied warns of policies that deny whatever there is.
func (c *Cluster) warnDenied() {
	c.kinds = map[Key]bool{}
	for _, e := range c.entries {
		c.kinds[Key{Kind: e.Current.key.base(), Namespace: e.Current.key.Namespace}] = true
	}
	for _, e := range c.entries {
		if st := c.standing[e.Current.key]; st.OK() {
			if lacks := c.lacks(e.Current); lacks != "" {
				st.Warnings = append(st.Warnings, strict.Problem{Message: "every image that it selects is denied: there is no " + lacks + " for them yet, so nobody is trusted. Add one, or set enforcementAction: warn until then"})
			}
		}
	}
}
