package compile

import (
	"fmt"
	"slices"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/credential/kube"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/notation"
	"github.com/boltseal/boltseal/oci"
	"github.com/boltseal/boltseal/policy"
	"github.com/boltseal/boltseal/trust"
)

// Deps is what engines are made with besides the resources.
type Deps struct {
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
	// UserAgent is sent to registries. Empty means oci's default.
	UserAgent string
	// DockerConfig makes the credentials of a docker configuration file; path is
	// empty for the default one. Required.
	DockerConfig func(path string) oci.CredentialSource
	// Cloud is what the other auth providers reach out with.
	Cloud keys.Env
	// Sources shares sources of credentials. Nil means a new one.
	Sources *credential.Pool
	// LentTo are the namespaces whose Stores may use Boltseal's own identity in a
	// cloud. None by default: whoever may write a Store there could read with it.
	LentTo []string
	// Chains and Revocation are shared by all verifiers. Nil means new ones.
	Chains *notation.ChainCache
	// Room bounds what all registries' answers hold. Nil means a new one.
	Room       *oci.Room
	Revocation *notation.Revocation
	// Wrap, where set, is put around every Store. asked says who is asked and in whose
	// name: it is the same for the same resource with the same settings, files and Pod's
	// credentials only.
	Wrap func(asked string, s boltseal.Store) boltseal.Store
	// Layout, where set, is read in place of every Store.
	Layout boltseal.Store
	// Keys tells what was fetched for providers that are not inline; see Wants. Nil
	// means nothing.
	Keys func(keys.Want) keys.State
	// Nodes is what the cluster's Nodes run, for Policies that ask for it. Nil means
	// that there is no cluster.
	Nodes *Nodes
	// Forgot is told when some of the engines that Pods' own credentials made are not
	// among Engines any more, so that what is kept by them can be dropped. Nil means
	// that nobody wants to know.
	Forgot func(*Compiled)
	// Unproven names the endpoints where nothing proves who asks; Stores that are read
	// otherwise there get a warning. "" means that there is none.
	Unproven string
	// Panicked is boltseal.Options' of every engine.
	Panicked func(what string, value any, stack []byte)
}

// Compiled is a configuration that works.
type Compiled struct {
	cluster    *boltseal.Engine
	namespaces map[string]*boltseal.Engine
	// Warnings are what deserves a look and does no harm.
	Warnings []strict.Problem
	closers  []func()
	pods     *kube.Pods
	forgot   func(*Compiled)                  // nil = nobody wants to know
	perPod   map[*boltseal.Engine]*podEngines // those of which each Pod has its own

	strangers map[*boltseal.Engine]*strangerEngine // those that use what a namespace lends
}

// EngineFor returns the engine for Pods of a namespace: its own resources win
// over the cluster's, kind by kind.
func (c *Compiled) EngineFor(namespace string) *boltseal.Engine {
	if e, ok := c.namespaces[namespace]; ok {
		return e
	}
	return c.cluster
}

// Engines returns every engine, in no order.
func (c *Compiled) Engines() []*boltseal.Engine {
	var out []*boltseal.Engine
	if c.cluster != nil {
		out = append(out, c.cluster)
	}
	for _, e := range c.namespaces {
		if e != nil {
			out = append(out, e)
		}
	}
	for _, p := range c.perPod {
		out = append(out, p.all()...)
	}
	for _, s := range c.strangers {
		out = append(out, s.made()...)
	}
	return out
}

// Close releases connections. Verifications under way are not cut off.
func (c *Compiled) Close() {
	for _, f := range c.closers {
		f()
	}
}

type compiler struct {
	deps      Deps
	set       *Set
	keys      keyring
	problems  strict.Problems
	out       *Compiled
	stores    map[string][]boltseal.ScopedStore // by namespace
	taken     map[string]*boltseal.Scopes       // by those, in files
	verifiers map[string][]boltseal.Verifier
	policies  map[string]boltseal.Policy
	asked     *Nodes // those that a Policy was made with; nil = none asked
	files     *files
	trusted   []*trust.Store            // of the Verifier that is compiled now
	documents map[string]strict.Problem // the first of each namespace, in files; nil = not needed yet
	// lenient makes do with trust stores that lack certificates: they trust less.
	lenient bool
	// part says that more may be elsewhere: resources that are named, and files.
	part bool
	// whole says that the configuration stands or falls as a whole. That something
	// could not be fetched is then no problem of whoever names it.
	whole bool
}

func newCompiler(deps Deps) *compiler {
	if deps.Clock == nil {
		deps.Clock = time.Now
	}
	if deps.Room == nil {
		deps.Room = oci.NewRoom(0)
	}
	if deps.Chains == nil {
		deps.Chains = notation.NewChainCache(0)
	}
	if deps.Sources == nil {
		deps.Sources = &credential.Pool{}
	}
	if deps.Revocation == nil {
		deps.Revocation = notation.NewRevocation(notation.RevocationOptions{Clock: deps.Clock})
	}
	return &compiler{deps: deps, files: newFiles(), out: &Compiled{namespaces: map[string]*boltseal.Engine{},
		perPod: map[*boltseal.Engine]*podEngines{}, strangers: map[*boltseal.Engine]*strangerEngine{}, pods: kube.NewPods(deps.Cloud.Objects, deps.Clock), forgot: deps.Forgot}, stores: map[string][]boltseal.ScopedStore{},
		taken: map[string]*boltseal.Scopes{}, verifiers: map[string][]boltseal.Verifier{}, policies: map[string]boltseal.Policy{}}
}

// Compile makes the engines. The error is [strict.Problems]: all that was found,
// in decoding too, resource by resource in the order of the text.
func (s *Set) Compile(deps Deps) (*Compiled, error) {
	if s.unread { // what seems to be missing may be there
		return nil, s.problems
	}
	c := newCompiler(deps)
	c.each(s)
	c.missing()
	if len(c.problems) == 0 {
		c.engines()
	}
	if len(c.problems) > 0 {
		c.out.Close()
		s.sort(c.problems)
		return nil, c.problems
	}
	s.sort(c.out.Warnings)
	return c.out, nil
}

// each compiles the resources of a set, one by one.
func (c *compiler) each(s *Set) {
	c.set, c.whole = s, true
	c.keys, c.problems, c.out.Warnings = s.keys(c.deps.Keys)
	c.keys.part = c.part
	c.problems = append(slices.Clone(s.problems), c.problems...)
	c.out.Warnings = append(slices.Clone(s.warnings), c.out.Warnings...)
	for _, r := range s.stores {
		c.store(r)
		c.collide(r)
	}
	for _, r := range s.verifiers {
		c.verifier(r)
	}
	for _, r := range s.policies {
		c.policy(r)
	}
}

func (c *compiler) fail(err error) { c.problems = collect(c.problems, err) }

// missing says what a set as a whole lacks. What is broken is not missing.
func (c *compiler) missing() {
	broken := map[string]bool{}
	for o := range c.set.broken {
		broken[Key(o).base()] = true
	}
	if len(c.set.stores) == 0 && c.deps.Layout == nil && !broken[v1beta1.KindStore] {
		c.fail(strict.Problem{Message: "no Store: add one, so that images can be read (kind: Store, spec.name: oras)"})
	}
	if len(c.set.verifiers) == 0 && !broken[v1beta1.KindVerifier] {
		c.fail(strict.Problem{Message: "no Verifier: add one, or every image would be denied (kind: Verifier, spec.name: notation)"})
	}
}

// engines makes one for the cluster and one for each namespace with resources
// of its own.
func (c *compiler) engines() {
	if err := c.defaultPolicy(); err != nil {
		c.fail(err)
		return
	}
	if c.deps.Layout != nil {
		c.stores = map[string][]boltseal.ScopedStore{"": {{Name: "oci-layout", Store: c.deps.Layout}}}
	}
	namespaces := map[string]bool{"": true}
	for ns := range c.stores {
		namespaces[ns] = true
	}
	for ns := range c.verifiers {
		namespaces[ns] = true
	}
	for ns := range c.policies {
		namespaces[ns] = true
	}
	for ns := range namespaces {
		stores, verifiers := own(c.stores, ns), own(c.verifiers, ns)
		if len(stores) == 0 || len(verifiers) == 0 {
			c.incomplete(ns, len(stores) == 0)
			continue
		}
		o := boltseal.Options{Stores: stores, Verifiers: verifiers, Policy: ownPolicy(c.policies, ns), Clock: c.deps.Clock, Panicked: c.deps.Panicked}
		e, err := boltseal.New(o)
		c.out.addAsked(e, newPodEngines(o), newStrangerEngine(o))
		switch {
		case err != nil:
			c.fail(strict.Problem{Message: trim(err)})
		case ns == "":
			c.out.cluster = e
		default:
			c.out.namespaces[ns] = e
		}
	}
}

// incomplete says that a namespace, or the cluster, has no engine: its images
// are denied.
func (c *compiler) incomplete(namespace string, store bool) {
	lacks := v1beta1.KindVerifier
	if store {
		lacks = v1beta1.KindStore
	}
	if namespace == "" {
		c.out.Warnings = append(c.out.Warnings, strict.Problem{Message: "no cluster-wide " + lacks + ": images are denied in namespaces that have none of their own"})
		return
	}
	if c.documents == nil {
		c.documents = map[string]strict.Problem{}
		for _, p := range slices.Backward(c.set.documents()) { // the first of each namespace is told
			c.documents[p.Object.Namespace] = p
		}
	}
	if has, ok := c.documents[namespace]; ok {
		has.Message = fmt.Sprintf("no %s serves its namespace: add a %s, or a %s%s to the namespace", lacks, lacks, v1beta1.NamespacedPrefix, lacks)
		c.fail(has)
	}
}

// defaultPolicy is in force where the cluster has no Policy.
func (c *compiler) defaultPolicy() error {
	if _, ok := c.policies[""]; ok {
		return nil
	}
	p, err := policy.New(policy.Options{Default: policy.Any})
	c.policies[""] = p
	return err
}

func own[T any](by map[string][]T, namespace string) []T {
	if v := by[namespace]; len(v) > 0 {
		return v
	}
	return by[""]
}

func ownPolicy(by map[string]boltseal.Policy, namespace string) boltseal.Policy {
	if p := by[namespace]; p != nil {
		return p
	}
	return by[""]
}
