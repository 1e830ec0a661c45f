package compile

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/credential/kube"
	"github.com/boltseal/boltseal/oci"
)

// Limits on the engines that Pods' own credentials make of one engine. Of more, those
// that were not used for longest are forgotten, and made again. Whoever makes Secrets
// that cannot be read must not have those forgotten that can be.
const (
	maxIdentities = 512
	maxFailing    = 64
)

// askedStore is a Store whose credentials depend on who asks. By itself it is the one
// for a namespace, and for nobody's Pod.
type askedStore struct {
	boltseal.Store
	// with is the Store of whoever has these credentials: with connections and tokens
	// of its own. Nil where no Pod's own are used. identity tells them apart.
	with func(identity string, own oci.CredentialSource) (boltseal.Store, error)
	// without is the Store for a stranger; see [Compiled.ForStranger]. Nil where the
	// namespace lends it nothing.
	without func() (boltseal.Store, error)
}

// Unwrap is the Store for a namespace.
func (s *askedStore) Unwrap() boltseal.Store { return s.Store }

// perPod reports whether a Pod's own credentials are among the sources.
func perPod(s oci.CredentialSource) bool {
	list, ok := s.(*credential.List)
	if !ok {
		return false
	}
	for _, n := range list.Sources() {
		if _, ok := n.Source.(kube.NoPod); ok {
			return true
		}
	}
	return false
}

// forPod puts a Pod's own credentials in their place among the sources.
func forPod(s oci.CredentialSource, own oci.CredentialSource) oci.CredentialSource {
	list := s.(*credential.List).Sources()
	for i, n := range list {
		if _, ok := n.Source.(kube.NoPod); ok {
			list[i].Source = own
		}
	}
	return credential.NewList(list...)
}

// podEngines are engines that differ in whose credentials they read registries by.
// What one of them finds out is kept by the engine, so that nobody is answered by
// what only another one's credentials could read.
type podEngines struct {
	options boltseal.Options // for nobody's Pod

	mu      sync.Mutex
	engines map[string]*podEngine // by identity
	failing map[string]*podEngine // whose credentials are an error
	uses    uint64
}

type podEngine struct {
	*boltseal.Engine
	used uint64
}

// newPodEngines returns nil where no Store depends on the Pod.
func newPodEngines(o boltseal.Options) *podEngines {
	for _, s := range o.Stores {
		if as, ok := s.Store.(*askedStore); ok && as.with != nil {
			return &podEngines{options: o, engines: map[string]*podEngine{}, failing: map[string]*podEngine{}}
		}
	}
	return nil
}

// engine is that of an identity, nil where it cannot be made. It reports whether
// others were forgotten for it.
func (p *podEngines) engine(identity string, own oci.CredentialSource) (e *boltseal.Engine, forgot bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.uses++
	of, most := p.engines, maxIdentities
	if strings.HasPrefix(identity, "!") {
		of, most = p.failing, maxFailing
	}
	if e := of[identity]; e != nil {
		e.used = p.uses
		return e.Engine, false
	}
	o := p.options
	o.Stores = slices.Clone(o.Stores)
	for i, s := range o.Stores {
		if as, ok := s.Store.(*askedStore); ok && as.with != nil {
			with, err := as.with(identity, own)
			if err != nil {
				return nil, false
			}
			o.Stores[i].Store = with
		}
	}
	e, err := boltseal.New(o)
	if err != nil {
		return nil, false
	}
	if len(of) >= most {
		// A quarter at once: who is told looks through all answers that are kept.
		ids := slices.SortedFunc(maps.Keys(of), func(a, b string) int { return cmp.Compare(of[a].used, of[b].used) })
		for _, id := range ids[:most/4] {
			delete(of, id)
		}
		forgot = true
	}
	of[identity] = &podEngine{e, p.uses}
	return e, forgot
}

func (p *podEngines) all() (out []*boltseal.Engine) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, of := range []map[string]*podEngine{p.engines, p.failing} {
		for _, e := range of {
			out = append(out, e.Engine)
		}
	}
	return out
}

// addAsked adds the engines that stand in e's place for some of those who ask.
func (c *Compiled) addAsked(e *boltseal.Engine, p *podEngines, s *strangerEngine) {
	if e != nil && p != nil {
		c.perPod[e] = p
	}
	if e != nil && s != nil {
		c.strangers[e] = s
	}
}

// PerPod reports whether an engine reads registries by the credentials of each Pod.
func (c *Compiled) PerPod(e *boltseal.Engine) bool { return c.perPod[e] != nil }

// ForPod returns the engine in e's place for a Pod of a namespace, by its
// imagePullSecrets or else those of its ServiceAccount. It is e where those have no
// say or the Pod has none, and nil where no engine can be made.
func (c *Compiled) ForPod(ctx context.Context, e *boltseal.Engine, namespace string, secrets []string, account string) *boltseal.Engine {
	p := c.perPod[e]
	if p == nil {
		return e
	}
	identity, source := c.pods.Of(ctx, namespace, secrets, account)
	if identity == "" {
		return e
	}
	own, forgot := p.engine(identity, source)
	if forgot && c.forgot != nil {
		c.forgot(c)
	}
	return own
}
