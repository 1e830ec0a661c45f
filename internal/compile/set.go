// Package compile turns resources into engines: the one place that knows names like "oras", "notation" and "inline".
package compile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/integrity"
	"github.com/boltseal/boltseal/internal/nearest"
	"github.com/boltseal/boltseal/internal/strict"
)

// Source is a text with documents.
type Source struct {
	Name string // for messages
	Data []byte
}

// resource is a document with what it was decoded into.
type resource[T any] struct {
	kind      string
	namespace string // "" = cluster-wide
	name      string
	node      strict.Node
	spec      T
}

func (r resource[T]) String() string {
	if r.namespace != "" {
		return r.kind + " " + r.namespace + "/" + r.name
	}
	return r.kind + " " + r.name
}

// Set is what was decoded, in the order of the text.
type Set struct {
	stores    []resource[v1beta1.StoreSpec]
	verifiers []resource[v1beta1.VerifierSpec]
	providers []resource[v1beta1.KeyManagementProviderSpec] // CertificateStores too
	policies  []resource[v1beta1.PolicySpec]
	integrity []*integrity.Policy
}

var kinds = []string{
	v1beta1.KindCertificateStore, v1beta1.KindKeyManagementProvider, v1beta1.KindStore, v1beta1.KindVerifier, v1beta1.KindPolicy,
	v1beta1.NamespacedPrefix + v1beta1.KindKeyManagementProvider, v1beta1.NamespacedPrefix + v1beta1.KindStore,
	v1beta1.NamespacedPrefix + v1beta1.KindVerifier, v1beta1.NamespacedPrefix + v1beta1.KindPolicy,
}

var (
	groups         = []string{v1beta1.GroupVersion.String(), v1alpha1.GroupVersion.String()}
	integrityKinds = []string{v1alpha1.KindImageIntegrityPolicy}
)

// Decode reads all documents strictly. The error is [strict.Problems], all that
// was found.
func Decode(sources []Source) (*Set, error) {
	s := &Set{}
	var problems strict.Problems
	seen := make(map[string]strict.Node)
	for _, src := range sources {
		docs, err := strict.Documents(src.Name, src.Data)
		if err != nil {
			problems = collect(problems, err)
			continue
		}
		for _, doc := range docs {
			problems = collect(problems, s.add(doc, seen))
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return s, nil
}

// collect flattens errors into problems.
func collect(ps strict.Problems, err error) strict.Problems {
	switch e := err.(type) {
	case nil:
		return ps
	case strict.Problems:
		return append(ps, e...)
	case strict.Problem:
		return append(ps, e)
	}
	return append(ps, strict.Problem{Message: err.Error()})
}

func (s *Set) add(doc strict.Node, seen map[string]strict.Node) error {
	version, kind := doc.Text("apiVersion"), doc.Text("kind")
	switch {
	case version == "" || kind == "":
		return doc.Problem("a document needs apiVersion and kind")
	case !slices.Contains(groups, version):
		return doc.At("apiVersion", "%q is not known here; known: %s%s", version, strings.Join(groups, ", "), nearest.Hint(version, groups))
	}
	namespace, name := doc.Text("metadata", "namespace"), doc.Text("metadata", "name")
	base, namespaced := strings.CutPrefix(kind, v1beta1.NamespacedPrefix)
	switch {
	case name == "":
		return doc.At("metadata.name", "a %s needs a name", kind)
	case namespaced && namespace == "":
		return doc.At("metadata.namespace", "a %s needs a namespace", kind)
	case !namespaced && base != v1beta1.KindCertificateStore:
		namespace = "" // the kind is cluster-wide, as kubectl reads it
	}
	if base == v1beta1.KindCertificateStore {
		namespace = "" // Ratify's users have them with and without a namespace, and use them cluster-wide
	}
	key := kind + "/" + namespace + "/" + name
	if first, ok := seen[key]; ok {
		return doc.At("metadata.name", "a second %s named %q; the first is at %s", kind, name, first.Place())
	}
	seen[key] = doc
	if version == v1alpha1.GroupVersion.String() {
		return s.addIntegrity(doc, kind, name)
	}
	switch kind {
	case v1beta1.KindStore, v1beta1.NamespacedPrefix + v1beta1.KindStore:
		var o v1beta1.Store
		return into(doc, &o, func() { s.stores = append(s.stores, resource[v1beta1.StoreSpec]{kind, namespace, name, doc, o.Spec}) })
	case v1beta1.KindVerifier, v1beta1.NamespacedPrefix + v1beta1.KindVerifier:
		var o v1beta1.Verifier
		return into(doc, &o, func() {
			s.verifiers = append(s.verifiers, resource[v1beta1.VerifierSpec]{kind, namespace, name, doc, o.Spec})
		})
	case v1beta1.KindPolicy, v1beta1.NamespacedPrefix + v1beta1.KindPolicy:
		var o v1beta1.Policy
		return into(doc, &o, func() {
			s.policies = append(s.policies, resource[v1beta1.PolicySpec]{kind, namespace, name, doc, o.Spec})
		})
	case v1beta1.KindKeyManagementProvider, v1beta1.NamespacedPrefix + v1beta1.KindKeyManagementProvider:
		var o v1beta1.KeyManagementProvider
		return into(doc, &o, func() {
			s.providers = append(s.providers, resource[v1beta1.KeyManagementProviderSpec]{kind, namespace, name, doc, o.Spec})
		})
	case v1beta1.KindCertificateStore:
		var o v1beta1.CertificateStore
		return into(doc, &o, func() {
			s.providers = append(s.providers, resource[v1beta1.KeyManagementProviderSpec]{kind, namespace, name, doc, v1beta1.KeyManagementProviderSpec{Type: o.Spec.Provider, Parameters: o.Spec.Parameters}})
		})
	}
	return doc.At("kind", "%q is not known here%s", kind, knownKinds(kind, kinds))
}

func (s *Set) addIntegrity(doc strict.Node, kind, name string) error {
	if kind != v1alpha1.KindImageIntegrityPolicy {
		return doc.At("kind", "%q is not known here%s", kind, knownKinds(kind, integrityKinds))
	}
	var o v1alpha1.ImageIntegrityPolicy
	if err := into(doc, &o, func() {}); err != nil {
		return err
	}
	p, problems := integrity.Compile(name, o.Spec)
	if len(problems) > 0 {
		var ps strict.Problems
		for _, pr := range problems {
			ps = append(ps, doc.At(pr.Field, "%s %s: %s", kind, name, pr.Message))
		}
		return ps
	}
	s.integrity = append(s.integrity, p)
	return nil
}

// Integrity returns the ImageIntegrityPolicies, in the order of the text.
func (s *Set) Integrity() []*integrity.Policy { return s.integrity }

func knownKinds(kind string, known []string) string {
	if h := nearest.Hint(kind, known); h != "" {
		return h
	}
	return "; known: " + strings.Join(known, ", ")
}

func into(doc strict.Node, o any, keep func()) error {
	if err := doc.Decode(o); err != nil {
		return err
	}
	if _, ok := doc.Get("spec"); !ok {
		return doc.Problem("a %s needs a spec", doc.Text("kind"))
	}
	keep()
	return nil
}

// parameters decodes a resource's spec.parameters strictly.
func (r resource[T]) parameters(into any) error {
	n, ok := r.node.Get("spec", "parameters")
	if !ok {
		return nil
	}
	return n.Decode(into)
}

// problem is one at a field of the resource.
func (r resource[T]) problem(field, format string, a ...any) strict.Problem {
	return r.node.At(field, "%s: %s", r, fmt.Sprintf(format, a...))
}
