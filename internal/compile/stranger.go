package compile

import (
	"slices"
	"strings"
	"sync"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/credential/kube"
	"github.com/boltseal/boltseal/oci"
)

// dependent puts around a Store what depends on who asks; made makes the Store again with
// other credentials, those of an identity.
func (c *compiler) dependent(r resource[v1beta1.StoreSpec], store boltseal.Store, credentials oci.CredentialSource, made func(identity string, credentials oci.CredentialSource) (boltseal.Store, error)) boltseal.Store {
	as := &askedStore{Store: store}
	var withheld []string
	if perPod(credentials) {
		as.with = func(identity string, own oci.CredentialSource) (boltseal.Store, error) {
			return made(identity, forPod(credentials, own))
		}
		withheld = append(withheld, "podPullSecrets")
	}
	if rest, names := withoutLent(r.namespace, credentials); len(names) > 0 {
		as.without = func() (boltseal.Store, error) { return made(asStranger, rest) }
		withheld = append(withheld, names...)
	}
	if len(withheld) == 0 {
		return store
	}
	if c.deps.Unproven != "" {
		c.out.Warnings = append(c.out.Warnings, r.problem("spec.parameters", "%s: not used at %s, where nothing proves who asks: %s",
			strings.Join(withheld, ", "), c.deps.Unproven, ProofRemedy))
	}
	return as
}

// asStranger tells a stranger from any Pod's own credentials.
const asStranger = "stranger"

// ProofRemedy says what to do where nothing proves who asks.
const ProofRemedy = "have the API server show a client certificate, and start boltseal serve with --admission-client-ca (chart: webhook.clientCAConfigMap); or, where the network lets only the API server reach Boltseal, with --admission-trust-network (chart: webhook.apiServers)"

// Withheld names those of a Store's sources that are used in the name of its namespace
// or of a Pod, and so not where nothing proves who asks.
func Withheld(namespace string, sources []credential.Named) (names []string) {
	for _, s := range sources {
		if s.Name == kube.PodName || isLent(namespace, s.Name) {
			names = append(names, s.Name)
		}
	}
	return names
}

// isLent tells what is used in a namespace's name from what is Boltseal's own, and from
// what is a Pod's.
func isLent(namespace, provider string) bool {
	return namespace != "" && provider != dockerConfig && provider != kube.PodName
}

// withoutLent are the credentials of a namespace's Store without those that are used
// in the namespace's name: what its Secrets hold, and the cloud identities that are
// lent to it. Boltseal's docker configuration is shown whoever asks.
func withoutLent(namespace string, credentials oci.CredentialSource) (rest oci.CredentialSource, lent []string) {
	list, ok := credentials.(*credential.List)
	if !ok || namespace == "" {
		return credentials, nil
	}
	var kept []credential.Named
	for _, n := range list.Sources() {
		if isLent(namespace, n.Name) {
			lent = append(lent, n.Name)
		} else {
			kept = append(kept, n)
		}
	}
	return credential.NewList(kept...), lent
}

// strangerEngine is an engine for whoever has not shown who they are, made when the
// first of them asks.
type strangerEngine struct {
	options boltseal.Options // for the namespace

	mu     sync.Mutex
	tried  bool
	engine *boltseal.Engine
}

// newStrangerEngine returns nil where a stranger's engine is everybody's.
func newStrangerEngine(o boltseal.Options) *strangerEngine {
	if slices.ContainsFunc(o.Stores, func(s boltseal.ScopedStore) bool {
		as, ok := s.Store.(*askedStore)
		return ok && as.without != nil
	}) {
		return &strangerEngine{options: o}
	}
	return nil
}

// get is the engine, nil where it cannot be made.
func (s *strangerEngine) get() *boltseal.Engine {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tried {
		return s.engine
	}
	s.tried = true
	o := s.options
	o.Stores = slices.Clone(o.Stores)
	for i, scoped := range o.Stores {
		if as, ok := scoped.Store.(*askedStore); ok && as.without != nil {
			without, err := as.without()
			if err != nil {
				return nil
			}
			o.Stores[i].Store = without
		}
	}
	if e, err := boltseal.New(o); err == nil {
		s.engine = e
	}
	return s.engine
}

// made is the engine if somebody asked for it.
func (s *strangerEngine) made() []*boltseal.Engine {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine == nil {
		return nil
	}
	return []*boltseal.Engine{s.engine}
}

// ForStranger returns the engine in e's place for whoever has not shown who they are,
// and may name any namespace: one that reads registries without what a namespace lends,
// which are the Secrets and the cloud identities of its Stores, and its Pods' own pull
// Secrets. withheld reports whether there is something that was left out. The engine is
// nil where it cannot be made.
func (c *Compiled) ForStranger(e *boltseal.Engine) (stranger *boltseal.Engine, withheld bool) {
	if s := c.strangers[e]; s != nil {
		return s.get(), true
	}
	return e, c.perPod[e] != nil
}
