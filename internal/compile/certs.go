package compile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/keys"
)

// keyring holds the certificates of all providers.
type keyring struct {
	have  map[string]provided // by "namespace/name", "/name" cluster-wide
	bad   map[string]bool     // providers with problems of their own
	part  bool                // there may be others
	any   bool                // every name is taken for one of a provider
	trace func(lookup)        // nil = nobody wants to know what is looked up
	hints *hints
	// stores are the namespaces whose CertificateStores may be named without their
	// namespace, and aliases those that are so named, by the place of their namespace.
	stores  []string
	aliases map[string]int
}

// ratifyNamespaces are where Ratify's users have their CertificateStores: kubectl's
// default, and where Ratify itself lives.
var ratifyNamespaces = []string{defaultNamespace, "gatekeeper-system"}

const (
	// defaultNamespace is where kubectl puts what names no namespace.
	defaultNamespace = "default"
	ownNamespace     = "boltseal-system"
)

// CertificateStores are the namespaces whose CertificateStores may be named without
// their namespace, the first first. own is Boltseal's own, "" = boltseal-system.
func CertificateStores(own string) []string {
	if own == "" {
		own = ownNamespace
	}
	return append([]string{own}, ratifyNamespaces...)
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

func newKeyring(stores []string) keyring {
	return keyring{stores: stores, aliases: map[string]int{}, have: map[string]provided{}, bad: map[string]bool{}, hints: &hints{given: map[[2]string]string{}}}
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
	h.given[key] = namesake(name, names)
	if h.given[key] == "" {
		h.given[key] = nearest.Hint(name, names)
	}
	return h.given[key]
}

// namesake tells of one that has the name without its namespace, or in another one:
// it is another one, and may be what was meant.
func namesake(name string, names []string) string {
	_, bare, qualified := strings.Cut(name, "/")
	if !qualified {
		bare = name
	}
	found := ""
	for _, n := range names {
		// The name alone may be short for the one with a namespace.
		if _, rest, other := strings.Cut(n, "/"); other && rest == bare || n == bare && found == "" {
			if found = n; other {
				break
			}
		}
	}
	if found == "" {
		return ""
	}
	return fmt.Sprintf("; %s is another one: name that if it is meant", found)
}

// add adds a provider unless one of that name is there: a KeyManagementProvider
// wins over a CertificateStore.
func (k keyring) add(name string, has provided, ok bool) {
	switch {
	case k.has(name):
	case ok:
		k.have[name] = has
	default:
		k.bad[name] = true
	}
}

// addStore adds a CertificateStore, after all KeyManagementProviders: by its name with
// its namespace, and by its name alone where it is in one of the namespaces for that and
// in none that comes before.
func (k keyring) addStore(namespace, name string, has provided, ok bool) {
	k.add(namespace+"/"+name, has, ok)
	place, alias := slices.Index(k.stores, namespace), "/"+name
	if old, seen := k.aliases[alias]; place >= 0 && (!seen && !k.has(alias) || seen && place < old) {
		k.aliases[alias] = place
		k.drop(alias)
		k.add(alias, has, ok)
	}
}

func (k keyring) has(name string) bool {
	_, ok := k.have[name]
	return ok || k.bad[name]
}

func (k keyring) drop(name string) { delete(k.have, name); delete(k.bad, name) }

// keys reads all providers. A KeyManagementProvider wins over a
// CertificateStore of the same name. That something could not be fetched is a
// warning: the configuration is right.
func (s *Set) keys(fetched func(keys.Want) keys.State) (k keyring, problems strict.Problems, warnings []strict.Problem) {
	k = newKeyring(CertificateStores(""))
	for o := range s.broken {
		if Key(o).base() == v1beta1.KindKeyManagementProvider {
			k.add(o.Namespace+"/"+o.Name, provided{}, false)
		}
	}
	for _, stores := range []bool{false, true} {
		for _, p := range s.providers {
			if stores != (p.kind == v1beta1.KindCertificateStore) {
				continue
			}
			src, err := source(p)
			problems = collect(problems, err)
			var has provided
			if err == nil {
				has = src.have(fetched)
				for _, t := range has.trouble {
					warnings = append(warnings, p.own(p.node.Problem("%s", t)))
				}
				warnings = append(warnings, src.warnings...)
			}
			if !stores {
				k.add(p.namespace+"/"+p.name, has, err == nil)
				continue
			}
			if _, store := k.aliases["/"+p.name]; k.has(p.namespace+"/"+p.name) || k.has("/"+p.name) && !store {
				warnings = append(warnings, p.problem("metadata.name", "a Verifier that names %s means the KeyManagementProvider of this name, which wins", p.name))
			}
			k.addStore(p.namespace, p.name, has, err == nil)
		}
	}
	for o := range s.broken { // after those that work, whose names they do not take
		if Key(o).base() == v1beta1.KindCertificateStore {
			k.addStore(o.Namespace, o.Name, provided{}, false)
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
// verifier's namespace and then cluster-wide, or NAMESPACE/NAME, which is in that
// namespace and nowhere else.
func (k keyring) find(namespace, name string) (has provided, ok, bad bool) {
	keys := []string{namespace + "/" + name, "/" + name}
	if ns, _, found := strings.Cut(name, "/"); found {
		if ns == "" { // "/NAME" is no name
			return provided{}, false, false
		}
		keys = []string{name}
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
	if has, l.ok, l.bad = k.find(namespace, name); k.any {
		has, l.ok, l.bad = provided{lacks: nothingFetched}, true, false
	}
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
