package compile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/nearest"
	"github.com/boltseal/boltseal/internal/strict"
)

// keyring holds the certificates of all providers.
type keyring struct {
	have  map[string]provided // by "namespace/name", "/name" cluster-wide
	bad   map[string]bool     // providers with problems of their own
	trace func(lookup)        // nil = nobody wants to know what is looked up
	hints *hints
}

// maxCompared bounds how often a name that is not there is compared with one that
// is, in one compilation.
const maxCompared = 20_000

// hints are for names that are not there.
type hints struct {
	names    []string // of all providers; nil = not needed yet
	compared int
	given    map[[2]string]string // by the namespace that asks and the name
}

func newKeyring() keyring {
	return keyring{have: map[string]provided{}, bad: map[string]bool{}, hints: &hints{given: map[[2]string]string{}}}
}

// hint is the nearest of the providers' names, in words. Namespaces learn no
// names of others.
func (k keyring) hint(namespace, name string) string {
	h := k.hints
	key := [2]string{namespace, name}
	if text, ok := h.given[key]; ok {
		return text
	}
	if h.names == nil {
		h.names = k.names()
	}
	if h.compared += len(h.names); h.compared > maxCompared {
		return ""
	}
	names := h.names
	if namespace != "" {
		names = slices.DeleteFunc(slices.Clone(names), func(n string) bool {
			ns, _, ok := strings.Cut(n, "/")
			return ok && ns != namespace
		})
	}
	h.given[key] = nearest.Hint(name, names)
	return h.given[key]
}

// keys reads all providers. A KeyManagementProvider wins over a
// CertificateStore of the same name. That something could not be fetched is a
// warning: the configuration is right.
func (s *Set) keys(fetched func(keys.Want) keys.State) (k keyring, problems strict.Problems, warnings []strict.Problem) {
	k = newKeyring()
	for o := range s.broken {
		if base := Key(o).base(); base == v1beta1.KindKeyManagementProvider || base == v1beta1.KindCertificateStore {
			k.bad[o.Namespace+"/"+o.Name] = true
		}
	}
	for _, stores := range []bool{false, true} {
		for _, p := range s.providers {
			if stores != (p.kind == v1beta1.KindCertificateStore) {
				continue
			}
			src, err := source(p)
			problems = collect(problems, err)
			key := p.namespace + "/" + p.name
			if stores && k.has(key) {
				warnings = append(warnings, p.problem("metadata.name", "it is not used: the KeyManagementProvider of the same name wins"))
			}
			if err != nil {
				k.add(key, provided{}, false)
				continue
			}
			has := src.have(fetched)
			for _, t := range has.trouble {
				warnings = append(warnings, p.own(p.node.Problem("%s", t)))
			}
			warnings = append(warnings, src.warnings...)
			k.add(key, has, true)
		}
	}
	return k, problems, warnings
}

// unknown is the problem of a name that no part here has.
func unknown[T any](r resource[T], field, what, name string, known []string) strict.Problem {
	return r.problem(field, "%s", notKnown(what, name, known))
}

func notKnown(what, name string, known []string) string {
	if name == "" {
		return fmt.Sprintf("it names no %s; known: %s", what, strings.Join(known, ", "))
	}
	return fmt.Sprintf("the %s %s is not known here; known: %s%s", what, strict.Label(name), strings.Join(known, ", "), nearest.Hint(name, known))
}

// trim drops the sentinel's word from a message whose place says it already.
func trim(err error) string { return strings.TrimPrefix(err.Error(), "configuration: ") }

// find looks a provider up by the name that a verifier gives it: NAME, in the
// verifier's namespace and then cluster-wide, or NAMESPACE/NAME.
func (k keyring) find(namespace, name string) (has provided, ok, bad bool) {
	keys := []string{namespace + "/" + name, "/" + name}
	if ns, rest, found := strings.Cut(name, "/"); found {
		keys = []string{ns + "/" + rest}
		if namespace == "" {
			keys = append(keys, "/"+rest) // Ratify's cluster-wide verifiers name a store of their own namespace so
		}
	}
	for _, key := range keys {
		if has, ok := k.have[key]; ok {
			return has, true, false
		}
		if k.bad[key] {
			return provided{}, true, true
		}
	}
	return provided{}, false, false
}

// lookup is find, with a hint where there is no such provider, and notes what was
// found.
func (k keyring) lookup(namespace, name string) lookup {
	l := lookup{namespace: namespace, name: name}
	var has provided
	has, l.ok, l.bad = k.find(namespace, name)
	if l.certs, l.lacks, l.fetched = has.certs, has.lacks, has.state != nil; !l.ok {
		l.hint = k.hint(namespace, name)
	}
	if k.trace != nil {
		k.trace(l)
	}
	return l
}

func (k keyring) names() []string {
	var names []string
	for key := range k.have {
		names = append(names, strings.TrimPrefix(key, "/"))
	}
	slices.Sort(names)
	return names
}
