package compile

import (
	"crypto/x509"
	"slices"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/trust"
)

// Cache keeps what a cluster's resources were compiled to, so that an edit costs
// what it changes, and engines that it does not touch stay the same. It belongs
// to one sequence of compilations with the same [Deps], Wrap and Nodes excepted. The zero
// value is ready.
type Cache struct {
	results  map[Key]*result
	engines  map[string]cachedEngine // by namespace
	fallback boltseal.Policy
}

// result is what became of one Store, Verifier or Policy.
type result struct {
	current, good *Resource
	wrapped, over bool
	lookups       []lookup
	standing      Standing
	stores        []boltseal.ScopedStore // at most one, as of the rest
	verifiers     []boltseal.Verifier
	policy        boltseal.Policy
	nodes         *Nodes // what the Policy was made with; nil = it did not ask
	files         []fileUse
	trusted       []*trust.Store // of a Verifier
	expiring      []string       // what is said of when their certificates end
}

// lookup is one name that a Verifier looked up, and what was there.
type lookup struct {
	namespace, name string
	certs           []*x509.Certificate
	ok, bad         bool
	fetched         bool
	lacks           string // which certificates could not be had, and why
	hint            string // for a name that is not there
}

// same reports whether two lookups found the same: each certificate by its bytes.
// Providers keep what they have parsed, one certificate at a time, so that neither a
// pointer nor a number of them tells that nothing else changed.
func (l lookup) same(o lookup) bool {
	return l.ok == o.ok && l.bad == o.bad && l.fetched == o.fetched && l.lacks == o.lacks && l.hint == o.hint &&
		slices.EqualFunc(l.certs, o.certs, (*x509.Certificate).Equal)
}

type cachedEngine struct {
	options boltseal.Options
	engine  *boltseal.Engine // nil = there is none
	pods    *podEngines      // nil = it is everybody's
	lent    *strangerEngine  // nil = a stranger's is the same
}

// cached runs do for an entry unless what it would do is known from before.
func (x *clusterCompiler) cached(e Entry, do func()) {
	key := e.Current.key
	ns := key.Namespace
	// Where the resource works, what was before it has no say.
	if r := x.cache.results[key]; r != nil && r.current == e.Current && (r.good == e.Good || r.standing.OK() || r.over) && r.wrapped == (x.deps.Wrap != nil) && r.over == x.cluster.over[key] && x.same(r.lookups) && (r.nodes == nil || r.nodes.same(x.deps.Nodes)) && x.files.same(r.files) && slices.Equal(r.expiring, x.expiring(r.trusted)) {
		x.stores[ns] = append(x.stores[ns], r.stores...)
		x.verifiers[ns] = append(x.verifiers[ns], r.verifiers...)
		if r.policy != nil {
			x.policies[ns] = r.policy
		}
		st := r.standing
		st.Problems = slices.Clone(st.Problems) // others add to them
		*x.cluster.standing[key] = st
		x.results[key] = r
		return
	}
	stores, verifiers, policy := len(x.stores[ns]), len(x.verifiers[ns]), x.policies[ns]
	x.lookups, x.asked, x.files.used, x.trusted = nil, nil, nil, nil
	do()
	r := &result{current: e.Current, good: e.Good, wrapped: x.deps.Wrap != nil, over: x.cluster.over[key], lookups: x.lookups, standing: *x.cluster.standing[key], nodes: x.asked, files: x.files.used, trusted: x.trusted, expiring: x.expiring(x.trusted),
		stores: slices.Clone(x.stores[ns][stores:]), verifiers: slices.Clone(x.verifiers[ns][verifiers:])}
	r.standing.Problems = slices.Clone(r.standing.Problems)
	if p := x.policies[ns]; p != policy {
		r.policy = p
	}
	if key.base() == v1beta1.KindStore && !r.standing.OK() && !r.over {
		return // it is tried again: what it lacks may not be in its text
	}
	x.results[key] = r
}

// same reports whether every lookup finds what it found.
func (x *clusterCompiler) same(ls []lookup) bool {
	keys := x.keys
	keys.trace = nil
	for _, l := range ls {
		if !l.same(keys.lookup(l.namespace, l.name)) {
			return false
		}
	}
	return true
}

// engine returns the engine of a namespace, the same as before where nothing in
// it changed, and nil where there is no Store or no Verifier.
func (x *clusterCompiler) engine(namespace string) *boltseal.Engine {
	o := boltseal.Options{Stores: own(x.stores, namespace), Verifiers: own(x.verifiers, namespace), Policy: ownPolicy(x.policies, namespace),
		Clock: x.deps.Clock, Panicked: x.deps.Panicked}
	c, ok := x.cache.engines[namespace]
	if !ok || !sameOptions(c.options, o) {
		e, err := boltseal.New(o)
		if err != nil {
			e = nil
		}
		c = cachedEngine{o, e, newPodEngines(o), newStrangerEngine(o)}
	}
	x.out.addAsked(c.engine, c.pods, c.lent)
	x.kept[namespace] = c
	return c.engine
}

func sameOptions(a, b boltseal.Options) bool {
	return a.Policy == b.Policy && slices.Equal(a.Verifiers, b.Verifiers) && slices.EqualFunc(a.Stores, b.Stores, func(a, b boltseal.ScopedStore) bool {
		return a.Name == b.Name && a.Store == b.Store && slices.Equal(a.Scopes, b.Scopes) && slices.Equal(a.Identities, b.Identities)
	})
}
