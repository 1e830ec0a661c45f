package compile

import (
	"github.com/boltseal/boltseal/api/config/v1beta1"
)

// Dangling is a name in a Verifier of something that is not there.
type Dangling struct {
	Verifier Key
	Provider string // as the Verifier names it
}

// Dangling returns the names of providers that Verifiers give and that are not
// there, in the cluster's order. Where a name came to dangle just now, what it
// names may be under way, or the Verifier's own end.
func (c *Cluster) Dangling() []Dangling {
	there := c.names()
	var out []Dangling
	for _, e := range c.entries {
		for _, name := range e.Current.providerNames() {
			if _, ok, _ := there.find(e.Current.key.Namespace, name); !ok {
				out = append(out, Dangling{e.Current.key, name})
			}
		}
	}
	return out
}

// names are the providers by name alone, without what they have: nothing of that is
// asked for.
func (c *Cluster) names() keyring {
	there := newKeyring(c.o.CertificateStores)
	for _, stores := range []bool{false, true} {
		for _, e := range c.entries {
			switch key := e.Current.key; {
			case !stores && key.base() == v1beta1.KindKeyManagementProvider:
				there.add(key.Namespace+"/"+key.Name, provided{lacks: nothingFetched}, true)
			case stores && key.Kind == v1beta1.KindCertificateStore:
				there.addStore(key.Namespace, key.Name, provided{lacks: nothingFetched}, true)
			}
		}
	}
	return there
}

// providerNames are the providers that a Verifier names, read once; none for other
// kinds, and for what could not be decoded.
func (r *Resource) providerNames() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.named {
		return r.names
	}
	r.named = true
	_ = guarded(func() error { // compiling it tells what is wrong
		for _, v := range r.set.verifiers {
			stores, _ := declaredStores(v)
			for _, s := range stores {
				for _, n := range s.providers {
					r.names = append(r.names, n.Text())
				}
			}
		}
		return nil
	})
	return r.names
}
