package compile

import (
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/trust"
)

// Entry is a resource of a cluster: as it is, and as it was when it last worked.
type Entry struct {
	Current *Resource
	Good    *Resource // nil = it never worked, as far as is known
}

// Serving says what is in force for a resource.
type Serving string

// What may be in force for a resource. A stand-in says no to everything that the
// resource would have judged, so that what is broken never lets anything through.
const (
	ServingCurrent  Serving = "Current"  // the resource as it is
	ServingLastGood Serving = "LastGood" // the resource as it was when it last worked
	ServingReduced  Serving = "Reduced"  // the resource, without certificates that it names and that are not there
	ServingStandIn  Serving = "StandIn"
)

// Standing is how one resource stands.
type Standing struct {
	// Problems is why the resource is not in force as it is written. None means
	// that it is.
	Problems strict.Problems
	// Warnings are what deserves a look and does no harm.
	Warnings []strict.Problem
	Serving  Serving
	// Certificates are what a provider provides.
	Certificates []*x509.Certificate
	// Expiring says which of them are not valid, or not for long.
	Expiring []string
	// Fetched is how fetching them stands; nil for a provider that is inline, and for
	// what is none.
	Fetched *keys.State
}

// OK reports whether the resource is in force as it is written.
func (s *Standing) OK() bool { return len(s.Problems) == 0 }

// ClusterOptions say how a cluster is read.
type ClusterOptions struct {
	// CertificateStores are the namespaces whose CertificateStores a verifier may
	// name without their namespace; the first that has one wins. Whoever may write
	// there has the trust of the whole cluster.
	CertificateStores []string
}

// MaxOfNamespace is how many resources of one namespace are in force, of all kinds
// together: the oldest. A younger one is replaced by a stand-in, which costs next to
// nothing, so that nobody's resources put off what others change.
const MaxOfNamespace = 500

// Cluster is all resources of a cluster.
type Cluster struct {
	o        ClusterOptions
	entries  []Entry
	standing map[Key]*Standing
	policies []*integrity.Policy
	// over are those beyond MaxOfNamespace.
	over map[Key]bool
	// kinds are the kinds that there are, without Namespaced, by namespace.
	kinds map[Key]bool
}

// NewCluster takes resources together, in any order. In contrast to files, what
// is broken takes down nothing else:
//
//   - a resource that does not work as it is stays in force as it last worked;
//   - one that never did, or whose dependencies are gone, is replaced by a
//     stand-in, which denies whatever the resource would have judged;
//   - a Verifier whose certificates are not all there trusts those that are.
//
// None of the three turns a denial into anything else than the denial or the
// verdict of a configuration that was in force and is still what is written
// elsewhere.
func NewCluster(o ClusterOptions, entries []Entry) *Cluster {
	c := &Cluster{o: o, entries: slices.Clone(entries), standing: make(map[Key]*Standing, len(entries)), over: map[Key]bool{}}
	slices.SortFunc(c.entries, func(a, b Entry) int {
		if d := a.Current.created.Compare(b.Current.created); d != 0 {
			return d
		}
		return a.Current.key.Compare(b.Current.key)
	})
	count, stricter := map[string]int{}, map[string]bool{}
	for _, e := range c.entries {
		ns := e.Current.key.Namespace
		st := &Standing{Problems: placed(e.Current.problems), Serving: ServingCurrent}
		c.standing[e.Current.key] = st
		if count[ns]++; ns != "" && count[ns] > MaxOfNamespace {
			c.over[e.Current.key] = true
			st.Problems, st.Serving = tooMany(ns), ServingStandIn
		}
		if !e.Current.key.integrity() {
			continue
		}
		switch {
		case c.over[e.Current.key]:
			if !stricter[ns] { // one says what all of them could
				stricter[ns] = true
				everything, _ := integrity.Compile(e.Current.key.Name, v1alpha1.ImageIntegrityPolicySpec{})
				c.policies = append(c.policies, everything.Of(ns))
			}
		case st.OK():
			st.Warnings = placed(e.Current.set.advice)
			c.policies = append(c.policies, e.Current.set.integrity...)
		case e.Good != nil && len(e.Good.problems) == 0:
			st.Serving = ServingLastGood
			c.policies = append(c.policies, e.Good.set.integrity...)
		default:
			st.Serving = ServingStandIn
			c.policies = append(c.policies, e.Current.strict)
		}
	}
	c.warnDenied()
	return c
}

// tooMany says that a resource is one too many.
func tooMany(namespace string) strict.Problems {
	return strict.Problems{{Message: fmt.Sprintf("the namespace %s has more than %d resources of Boltseal's, and the oldest of them apply: delete this one, or older ones that are not needed", namespace, MaxOfNamespace)}}
}

// placed makes problems speak to somebody who looks at the resource: it has no
// file and no lines, and its name need not be said.
func placed(ps strict.Problems) strict.Problems {
	out := make(strict.Problems, len(ps))
	for i, p := range ps {
		p.File, p.Line, p.Object = "", 0, strict.Object{}
		out[i] = p
	}
	return out
}

// Integrity returns the ImageIntegrityPolicies that are in force.
func (c *Cluster) Integrity() []*integrity.Policy { return c.policies }

// clusterCompiler compiles a Cluster.
type clusterCompiler struct {
	*compiler
	cluster *Cluster
	owners  map[string][]Key // of the stores of each namespace, in their order
	cache   *Cache           // of the compilation before
	results map[Key]*result  // for the next one, as is kept
	kept    map[string]cachedEngine
	lookups []lookup // of the Verifier that is compiled now
}

// Compile makes the engines, and says how each resource stands. It does not
// fail: a cluster without resources has no engine, and denies. A nil cache means
// that nothing is known from before.
func (c *Cluster) Compile(deps Deps, cache *Cache) (*Compiled, map[Key]*Standing) {
	if cache == nil {
		cache = &Cache{}
	}
	x := &clusterCompiler{compiler: newCompiler(deps), cluster: c, owners: map[string][]Key{},
		cache: cache, results: map[Key]*result{}, kept: map[string]cachedEngine{}}
	x.providers()
	x.keys.trace = func(l lookup) { x.lookups = append(x.lookups, l) }
	for _, e := range c.entries {
		switch key := e.Current.key; key.base() {
		case v1beta1.KindStore:
			x.cached(e, func() { x.tryStore(e) })
			x.owners[key.Namespace] = append(x.owners[key.Namespace], key)
		case v1beta1.KindVerifier:
			x.cached(e, func() { x.tryVerifier(e) })
		case v1beta1.KindPolicy:
			x.cached(e, func() { x.tryPolicy(e) })
		}
	}
	x.allEngines()
	cache.results, cache.engines = x.results, x.kept
	return x.out, c.standing
}

// attempt runs f and returns what it found wrong. A panic is one resource's
// problem, and not the end of the process that answers for all others.
func (x *clusterCompiler) attempt(f func()) (ps strict.Problems, warnings []strict.Problem) {
	x.problems, x.out.Warnings = nil, nil
	if err := guarded(func() error { f(); return nil }); err != nil {
		x.fail(err)
	}
	ps, warnings = x.problems, x.out.Warnings
	x.problems, x.out.Warnings = nil, nil
	return ps, warnings
}

// try puts a resource in force: as it is, else as it was, else with what is left
// of it, else by a stand-in. add reports whether it added anything.
func (x *clusterCompiler) try(e Entry, add func(*Resource) bool, deny func(Entry, strict.Problems)) {
	st := x.cluster.standing[e.Current.key]
	if x.cluster.over[e.Current.key] {
		deny(e, st.Problems)
		return
	}
	x.lenient = false
	if st.OK() {
		ps, warnings := x.attempt(func() { add(e.Current) })
		st.Problems, st.Warnings = placed(ps), placed(warnings)
	}
	if st.OK() {
		return
	}
	if e.Good != nil && e.Good != e.Current {
		done := false
		if ps, _ := x.attempt(func() { done = add(e.Good) }); done && len(ps) == 0 {
			st.Serving = ServingLastGood
			return
		}
	}
	x.lenient = true
	defer func() { x.lenient = false }()
	for _, r := range []*Resource{e.Current, e.Good} {
		if r == nil || len(r.problems) > 0 {
			continue
		}
		done := false
		x.attempt(func() { done = add(r) })
		if done {
			st.Serving = ServingReduced
			return
		}
	}
	st.Serving = ServingStandIn
	deny(e, st.Problems)
}

func (x *clusterCompiler) tryStore(e Entry) {
	x.try(e, func(r *Resource) bool {
		n := len(x.stores[r.key.Namespace])
		for _, s := range r.set.stores {
			x.store(s)
		}
		return len(x.stores[r.key.Namespace]) > n
	}, x.denyStore)
	if st := x.cluster.standing[e.Current.key]; st.Serving == ServingReduced {
		st.Serving = ServingLastGood // all of it, by files as they were
	}
}

func (x *clusterCompiler) tryVerifier(e Entry) {
	x.try(e, func(r *Resource) bool {
		n := len(x.verifiers[r.key.Namespace])
		for _, v := range r.set.verifiers {
			x.verifier(v)
		}
		return len(x.verifiers[r.key.Namespace]) > n
	}, x.denyVerifier)
}

func (x *clusterCompiler) tryPolicy(e Entry) {
	namespace := e.Current.key.Namespace
	x.try(e, func(r *Resource) bool {
		before := x.policies[namespace]
		for _, p := range r.set.policies {
			x.policy(p)
		}
		return x.policies[namespace] != before
	}, func(e Entry, ps strict.Problems) {
		// A Policy of another name than the one that counts never was in force.
		if e.Current.key.Name == policyName {
			x.policies[namespace] = denyPolicy{broken(e.Current.key, ps)}
		}
	})
}

// providers reads all KeyManagementProviders and CertificateStores.
func (x *clusterCompiler) providers() {
	x.keys = newKeyring(x.cluster.o.CertificateStores)
	for _, stores := range []bool{false, true} {
		for _, e := range x.cluster.entries {
			key := e.Current.key
			if key.base() != v1beta1.KindKeyManagementProvider && key.Kind != v1beta1.KindCertificateStore || stores != (key.Kind == v1beta1.KindCertificateStore) {
				continue
			}
			if has, ok := x.provide(e); stores {
				x.keys.addStore(key.Namespace, key.Name, has, ok)
			} else {
				x.keys.add(key.Namespace+"/"+key.Name, has, ok)
			}
		}
	}
}

// provide finds out what a provider has: by its text as it is, else as it was. ok is
// false where the text is wrong and there is no other.
func (x *clusterCompiler) provide(e Entry) (has provided, ok bool) {
	st := x.cluster.standing[e.Current.key]
	if x.cluster.over[e.Current.key] {
		return provided{}, false
	}
	if st.OK() {
		src, err := e.Current.source()
		if err == nil {
			has, ok = src.have(x.deps.Keys), true
			st.Certificates, st.Fetched, st.Warnings = has.certs, has.state, placed(src.warnings)
			for _, t := range has.trouble {
				st.Problems = append(st.Problems, strict.Problem{Message: t})
			}
			x.ending(st)
			switch {
			case len(st.Problems) == 0:
				return has, true
			case len(has.certs) > 0 && has.state.Err != nil:
				st.Serving = ServingLastGood
				return has, true
			case has.state != nil && has.state.Content != nil: // so it answered
				st.Serving = ServingReduced
				return has, true
			}
		} else {
			st.Problems = placed(collect(nil, err))
		}
	}
	if e.Good != nil && e.Good != e.Current && len(e.Good.problems) == 0 {
		if src, err := e.Good.source(); err == nil {
			if was := src.have(x.deps.Keys); len(was.certs) > 0 {
				st.Serving, st.Certificates = ServingLastGood, was.certs
				x.ending(st)
				return was, true
			}
		}
	}
	st.Serving = ServingStandIn
	return has, ok
}

// ending finds certificates that are not valid, or not for long.
func (x *clusterCompiler) ending(st *Standing) {
	now := x.deps.Clock()
	for _, c := range st.Certificates {
		if text := trust.Expiring(c, now); text != "" {
			st.Expiring = append(st.Expiring, text)
		}
	}
}

// allEngines makes one engine for the cluster and one for each namespace with
// resources of its own. A namespace that has any does not fall back to the
// cluster's where its own do not work.
func (x *clusterCompiler) allEngines() {
	if _, ok := x.policies[""]; !ok {
		if x.cache.fallback == nil {
			if err := x.defaultPolicy(); err != nil {
				x.policies[""] = denyPolicy{broken(Key{Kind: v1beta1.KindPolicy, Name: policyName}, collect(nil, err))}
			}
			x.cache.fallback = x.policies[""]
		}
		x.policies[""] = x.cache.fallback
	}
	x.untangle("")
	namespaces := map[string]bool{}
	for _, e := range x.cluster.entries {
		switch e.Current.key.base() {
		case v1beta1.KindStore, v1beta1.KindVerifier, v1beta1.KindPolicy:
			namespaces[e.Current.key.Namespace] = true
		}
	}
	delete(namespaces, "")
	x.out.cluster = x.engine("")
	for ns := range namespaces {
		x.untangle(ns)
		x.out.namespaces[ns] = x.engine(ns)
	}
}

// untangle leaves out stores that serve what an older one serves already, and
// stand-ins that serve what a store that works does.
func (x *clusterCompiler) untangle(namespace string) {
	type owned struct {
		boltseal.ScopedStore
		key Key
	}
	var stores []owned
	for i, s := range x.stores[namespace] {
		stores = append(stores, owned{s, x.owners[namespace][i]})
	}
	slices.SortStableFunc(stores, func(a, b owned) int { return rank(a.Store) - rank(b.Store) })
	var taken boltseal.Scopes
	var kept []boltseal.ScopedStore
	for _, s := range stores {
		if err := taken.Take(s.ScopedStore); err == nil {
			kept = append(kept, s.ScopedStore)
		} else if rank(s.Store) == 0 {
			st := x.cluster.standing[s.key]
			st.Problems = append(st.Problems, olderStays(err))
			st.Serving = ServingStandIn
		}
	}
	x.stores[namespace] = kept
}

func rank(s boltseal.Store) int {
	if _, standIn := s.(denyStore); standIn {
		return 1
	}
	return 0
}

// olderStays says that a Store serves what an older one does.
func olderStays(err error) strict.Problem {
	return strict.Problem{Field: fieldScopes, Message: trim(err) + ": the older Store still applies"}
}
