package boltseal

import (
	"fmt"
	"slices"
	"strings"
)

// ScopedStore is a store with the images it serves.
type ScopedStore struct {
	// Name is the configured name, for messages.
	Name string
	// Scopes say which images the store serves: "*" (all), "host[:port]",
	// "*.domain" (every host below it), or "host/path" (that repository and all
	// below it). The most specific scope of all stores wins. Empty means "*".
	Scopes []string
	Store  Store
	// Identities say by which names verifiers know images that go by others.
	// Empty means that each is known by its own.
	Identities []Identity
}

type storeScope struct {
	host     string // "" for "*"
	wildcard bool   // host is the part after "*"
	path     string // without a trailing slash; "" for a whole host
	name     string
	store    Store

	identities []identity
}

// Scopes are scopes that are taken, and by whom. The zero value is ready.
type Scopes struct {
	owner map[string]string // name of the store, by scope
}

// Take takes the scopes of a store. Where one of them is no scope, or is another store's
// already, it takes none; the error wraps [ErrConfiguration]. It costs the same however
// many are taken.
func (s *Scopes) Take(store ScopedStore) error {
	taken, err := s.take(store)
	if err != nil {
		for _, sc := range taken {
			delete(s.owner, sc.key())
		}
	}
	return err
}

// take returns the scopes that were taken, beside an error too.
func (s *Scopes) take(store ScopedStore) (taken []storeScope, err error) {
	scopes := store.Scopes
	if len(scopes) == 0 {
		scopes = []string{"*"}
	}
	if s.owner == nil {
		s.owner = make(map[string]string)
	}
	for _, text := range scopes {
		sc, err := parseStoreScope(text)
		if err != nil {
			return taken, fmt.Errorf("%w: store %q: %v", ErrConfiguration, store.Name, err)
		}
		key := sc.key()
		if other, is := s.owner[key]; is {
			return taken, fmt.Errorf("%w: stores %q and %q both serve %q", ErrConfiguration, other, store.Name, key)
		}
		s.owner[key] = store.Name
		taken = append(taken, sc)
	}
	return taken, nil
}

// storeTable is sorted from the most specific scope to the least.
type storeTable []storeScope

func newStoreTable(stores []ScopedStore) (storeTable, error) {
	if len(stores) == 0 {
		return nil, fmt.Errorf("%w: no store: no image could be read", ErrConfiguration)
	}
	var t storeTable
	var scopes Scopes
	for _, s := range stores {
		identities, err := parseIdentities(s.Identities)
		if err != nil {
			return nil, fmt.Errorf("%w: store %q: %w", ErrConfiguration, s.Name, err)
		}
		taken, err := scopes.take(s)
		if err != nil {
			return nil, err
		}
		for _, sc := range taken {
			sc.name, sc.store, sc.identities = s.Name, s.Store, identities
			t = append(t, sc)
		}
	}
	slices.SortStableFunc(t, func(a, b storeScope) int { return b.weight() - a.weight() })
	return t, nil
}

func parseStoreScope(text string) (storeScope, error) {
	if text == "*" {
		return storeScope{}, nil
	}
	host, path, _ := strings.Cut(strings.TrimSuffix(text, "/*"), "/")
	path = strings.TrimSuffix(path, "/")
	s := storeScope{host: canonicalHost(strings.ToLower(host)), path: path}
	if rest, ok := strings.CutPrefix(s.host, "*."); ok {
		s.host, s.wildcard = "."+rest, true
	}
	if s.host == "" || s.host == "." || strings.Contains(s.host, "*") || strings.Contains(path, "*") {
		return storeScope{}, fmt.Errorf("scope %q is not \"*\", a host, \"*.domain\" or host/path", text)
	}
	return s, nil
}

func (s storeScope) key() string {
	switch {
	case s.host == "":
		return "*"
	case s.wildcard:
		return strings.TrimSuffix("*"+s.host+"/"+s.path, "/")
	}
	return strings.TrimSuffix(s.host+"/"+s.path, "/")
}

// weight orders scopes: exact hosts before wildcards before "*", then the
// longer host, then the longer path.
func (s storeScope) weight() int {
	w := len(s.host)*MaxReferenceLength + len(s.path)
	if s.host != "" && !s.wildcard {
		w += MaxReferenceLength * MaxReferenceLength
	}
	return w
}

func (s storeScope) matches(r Reference) bool {
	switch {
	case s.host == "":
		return true
	case s.wildcard && !strings.HasSuffix(r.Registry, s.host), !s.wildcard && r.Registry != s.host:
		return false
	}
	rest, ok := strings.CutPrefix(r.Repository, s.path)
	return ok && (s.path == "" || rest == "" || rest[0] == '/')
}

// identify is the image as verifiers know it.
func (t storeTable) identify(r Reference) Reference {
	for i := range t {
		if t[i].matches(r) {
			return t[i].identify(r)
		}
	}
	return r
}

func (t storeTable) find(r Reference) (Store, string, bool) {
	for i := range t {
		if t[i].matches(r) {
			return t[i].store, t[i].name, true
		}
	}
	return nil, "", false
}
