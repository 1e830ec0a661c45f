package boltseal

import (
	"fmt"
	"strings"
)

// MaxIdentities bounds the identities of one store.
const MaxIdentities = 64

// Place is where images are: a host, or a host and the beginning of their
// repositories' paths.
type Place struct {
	Registry string
	Path     string // "" for all of the host
}

// ParsePlace reads "host[:port]" or "host[:port]/path" by the grammar of image
// names; see [ParseReference]. Errors wrap [ErrConfiguration].
func ParsePlace(text string) (Place, error) {
	const probe = "host/of"
	host, path, _ := strings.Cut(text, "/")
	below := probe
	if path != "" {
		below = path + "/" + probe
	}
	ref, err := ParseReference(host + "/" + below)
	if host == "" || err != nil || ref.Repository != below || strings.HasSuffix(text, "/") {
		return Place{}, fmt.Errorf("%w: %.100q is no place of images: write a host, or host/path, as images' names begin", ErrConfiguration, text)
	}
	if h := ref.Registry; !strings.ContainsAny(h, ".:") && h != "localhost" {
		return Place{}, fmt.Errorf("%w: %.100q is no place of images: %q is not a host", ErrConfiguration, text, h)
	}
	return Place{ref.Registry, path}, nil
}

// Rest is what an image's repository has below the place, and whether the image
// is there at all.
func (p Place) Rest(ref Reference) (string, bool) {
	switch {
	case ref.Registry != p.Registry:
		return "", false
	case p.Path == "":
		return ref.Repository, true
	}
	return strings.CutPrefix(ref.Repository, p.Path+"/")
}

// With is the image with what its repository has below the place.
func (p Place) With(ref Reference, rest string) Reference {
	ref.Registry, ref.Repository = p.Registry, rest
	if p.Path != "" {
		ref.Repository = p.Path + "/" + rest
	}
	return ref
}

// Identity says by which name verifiers know images that go by another one:
// copies, in a registry of one's own, of what others have published.
type Identity struct {
	// Place is where images' names begin, and As what stands there for the
	// verifiers: host, or host/path. Both are required.
	Place, As string
}

type identity struct{ place, as Place }

func parseIdentities(all []Identity) ([]identity, error) {
	if len(all) > MaxIdentities {
		return nil, fmt.Errorf("%d identities; the limit is %d", len(all), MaxIdentities)
	}
	var out []identity
	seen := map[Place]bool{}
	for _, i := range all {
		place, err := ParsePlace(i.Place)
		if err != nil {
			return nil, err
		}
		as, err := ParsePlace(i.As)
		if err != nil {
			return nil, err
		}
		if seen[place] {
			return nil, fmt.Errorf("%w: %.100q has its identity twice", ErrConfiguration, i.Place)
		}
		seen[place] = true
		out = append(out, identity{place, as})
	}
	return out, nil
}

// identify is the image as verifiers know it: the longest place that fits
// counts, once.
func (s *storeScope) identify(ref Reference) Reference {
	var best *identity
	var below string
	for i := range s.identities {
		id := &s.identities[i]
		if rest, ok := id.place.Rest(ref); ok && (best == nil || len(id.place.Path) > len(best.place.Path)) {
			best, below = id, rest
		}
	}
	if best == nil {
		return ref
	}
	// A name that cannot be written is no name to be trusted by.
	known := best.as.With(ref, below)
	if read, err := ParseReference(known.String()); err != nil || read != known {
		return ref
	}
	return known
}
