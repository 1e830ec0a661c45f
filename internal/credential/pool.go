package credential

import (
	"sync"
	"weak"

	"github.com/boltseal/boltseal/oci"
)

// Pool shares sources among all that are made with the same parameters, so that
// tokens are shared too and outlive a reload of the configuration. What nobody uses
// any more is forgotten. The zero value is ready; it is safe for concurrent use.
type Pool struct {
	mu      sync.Mutex
	sources map[string]weak.Pointer[shared]
}

// shared is a source in a Pool.
type shared struct{ oci.CredentialSource }

// Invalidate implements [oci.Invalidator], where the source does.
func (s *shared) Invalidate(host, repository string, c oci.Credential) {
	if i, ok := s.CredentialSource.(oci.Invalidator); ok {
		i.Invalidate(host, repository, c)
	}
}

// Get returns the source of a key, which is the same for the same parameters only,
// and makes it where nobody uses one. A nil source is returned as it is.
func (p *Pool) Get(key string, build func() (oci.CredentialSource, error)) (oci.CredentialSource, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.sources[key].Value(); s != nil {
		return s, nil
	}
	source, err := build()
	if err != nil || source == nil {
		return nil, err
	}
	if p.sources == nil {
		p.sources = map[string]weak.Pointer[shared]{}
	}
	for k, w := range p.sources {
		if w.Value() == nil {
			delete(p.sources, k)
		}
	}
	s := &shared{source}
	p.sources[key] = weak.Make(s)
	return s, nil
}
