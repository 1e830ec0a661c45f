package credential

import (
	"context"
	"errors"
	"fmt"

	"github.com/boltseal/boltseal/oci"
)

// Named is a source, whose errors name it, with what it is in a configuration.
type Named struct {
	Name   string // of the auth provider
	Place  string // such as authProviders[1]
	Source oci.CredentialSource
}

// List asks sources one after the other. It is safe for concurrent use where they
// are. The zero value is anonymous everywhere.
type List struct{ sources []Named }

var (
	_ oci.CredentialSource = (*List)(nil)
	_ oci.Invalidator      = (*List)(nil)
)

// NewList makes a list of the sources in their order. A nil Source is left out.
func NewList(sources ...Named) *List {
	l := &List{}
	for _, s := range sources {
		if s.Source != nil {
			l.sources = append(l.sources, s)
		}
	}
	return l
}

// Credential returns that of the first source which has one. A source that has none,
// or that answers [ErrNotForHost], passes on to the next; where all do, the registry
// is asked anonymously. Any other error ends the search, and says which one failed: that
// one meant to answer, and neither another identity nor none stands in for it.
func (l *List) Credential(ctx context.Context, host, repository string) (oci.Credential, error) {
	for _, s := range l.sources {
		c, err := s.Source.Credential(ctx, host, repository)
		switch {
		case errors.Is(err, ErrNotForHost):
		case err != nil:
			return oci.Credential{}, fmt.Errorf("%s: %w", s.Place, err)
		case !c.Anonymous():
			return c, nil
		}
	}
	return oci.Credential{}, nil
}

// Invalidate tells all sources: the one that gave the credential drops it.
func (l *List) Invalidate(host, repository string, c oci.Credential) {
	for _, s := range l.sources {
		if i, ok := s.Source.(oci.Invalidator); ok {
			i.Invalidate(host, repository, c)
		}
	}
}

// Sources returns the sources in their order.
func (l *List) Sources() []Named { return append([]Named(nil), l.sources...) }
