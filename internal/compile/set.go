// Package compile turns resources into engines: the one place that knows names like "oras", "notation" and "inline".
package compile

import (
	"cmp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/base/strict"
)

// Source is a text with documents.
type Source struct {
	Name string // for messages
	Data []byte
	// Namespace is that of its documents of namespaced kinds that name none, as with
	// kubectl's -n. "" = they must name one.
	Namespace string
}

// resource is a document with what it was decoded into.
type resource[T any] struct {
	kind      string
	namespace string // "" = cluster-wide
	name      string
	node      strict.Node
	spec      T
	from      *Resource // nil where it is from a file
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

	files    []string // in their order
	count    int      // of documents
	unread   bool     // one of them is no YAML, so nobody knows what is in it
	problems strict.Problems
	warnings []strict.Problem       // of documents in an older form
	advice   []strict.Problem       // of ImageIntegrityPolicies, which engines know nothing of
	broken   map[strict.Object]bool // what could not be decoded
}

var kinds = []string{
	v1beta1.KindCertificateStore, v1beta1.KindKeyManagementProvider, v1beta1.KindStore, v1beta1.KindVerifier, v1beta1.KindPolicy,
	v1beta1.NamespacedPrefix + v1beta1.KindKeyManagementProvider, v1beta1.NamespacedPrefix + v1beta1.KindStore,
	v1beta1.NamespacedPrefix + v1beta1.KindVerifier, v1beta1.NamespacedPrefix + v1beta1.KindPolicy,
}

var (
	groups         = []string{v1beta1.GroupVersion.String(), v1alpha1.GroupVersion.String()}
	integrityKinds = []string{v1alpha1.KindImageIntegrityPolicy, v1alpha1.KindNamespacedImageIntegrityPolicy}
)

// Decode reads all documents strictly. The error is [strict.Problems], all that
// was found. The Set is there beside an error too: its Compile fails, and then
// tells what is wrong with the documents that could be decoded as well.
func Decode(sources []Source) (*Set, error) {
	s := decodeThose(sources, func(strict.Node) bool { return true })
	if len(s.problems) > 0 {
		return s, s.problems
	}
	return s, nil
}

// decodeThose reads the documents that are mine, and leaves out the others.
func decodeThose(sources []Source, mine func(strict.Node) bool) *Set {
	s := &Set{broken: map[strict.Object]bool{}}
	seen := make(map[string]strict.Node)
	for _, src := range sources {
		s.files = append(s.files, src.Name)
		docs, warnings, err := Documents(src)
		s.problems, s.warnings = collect(s.problems, err), append(s.warnings, warnings...)
		if docs == nil && err != nil {
			s.unread = true
			continue
		}
		for _, doc := range docs {
			if !mine(doc) {
				continue
			}
			s.count++
			doc = s.newer(doc)
			if file := doc.Problem("").File; !slices.Contains(s.files, file) {
				s.files = append(s.files, file)
			}
			if err := s.add(doc, seen); err != nil {
				s.problems = collect(s.problems, err)
				s.broken[objectOf(doc)] = true
			}
		}
	}
	return s
}

// sort orders problems as the text has them; those without a place come last.
func (s *Set) sort(ps []strict.Problem) {
	slices.SortStableFunc(ps, func(a, b strict.Problem) int {
		if a.Line == 0 || b.Line == 0 {
			return cmp.Compare(b.Line, a.Line)
		}
		return cmp.Or(slices.Index(s.files, a.File)-slices.Index(s.files, b.File), a.Line-b.Line)
	})
}

// documents are empty problems at each document that Stores, Verifiers or
// Policies came from.
func (s *Set) documents() []strict.Problem {
	var ps []strict.Problem
	for _, r := range s.stores {
		ps = append(ps, r.own(r.node.Problem("")))
	}
	for _, r := range s.verifiers {
		ps = append(ps, r.own(r.node.Problem("")))
	}
	for _, r := range s.policies {
		ps = append(ps, r.own(r.node.Problem("")))
	}
	s.sort(ps)
	return ps
}

// objectOf is what a document calls itself.
func objectOf(doc strict.Node) strict.Object {
	o := strict.Object{Kind: doc.Text("kind"), Name: doc.Text("metadata", "name")}
	if strings.HasPrefix(o.Kind, v1beta1.NamespacedPrefix) || o.Kind == v1beta1.KindCertificateStore {
		o.Namespace = doc.Text("metadata", "namespace")
	}
	if o.Kind == v1beta1.KindCertificateStore {
		o.Namespace = cmp.Or(o.Namespace, defaultNamespace)
	}
	return o
}

// owned makes an object's name a part of the problems of an error that have none.
func owned(o strict.Object, err error) error {
	if err == nil {
		return nil
	}
	ps := collect(nil, err)
	for i := range ps {
		if (ps[i].Object == strict.Object{}) {
			ps[i].Object = o
		}
	}
	return ps
}

// collect flattens errors into problems.
func collect(ps strict.Problems, err error) strict.Problems {
	switch e := err.(type) {
	case nil:
		return ps
	case strict.Problems:
		return append(slices.Clip(ps), e...)
	case strict.Problem:
		return append(ps, e)
	}
	return append(ps, strict.Problem{Message: err.Error()})
}

// add decodes a document. The error is [strict.Problems].
func (s *Set) add(doc strict.Node, seen map[string]strict.Node) error {
	return owned(objectOf(doc), s.decode(doc, seen))
}

func (s *Set) decode(doc strict.Node, seen map[string]strict.Node) error {
	version, kind := doc.Text("apiVersion"), doc.Text("kind")
	switch {
	case !doc.IsMapping():
		return doc.Problem("a document must be a mapping with apiVersion, kind, metadata and spec, and is %s", doc.What())
	case version == "" || kind == "":
		return doc.Problem("a document needs apiVersion and kind")
	case !slices.Contains(groups, version):
		return doc.At("apiVersion", "%s is not known here; known: %s%s", strict.Label(version), strings.Join(groups, ", "), nearest.Hint(version, groups))
	case version == groups[0] && slices.Contains(integrityKinds, kind):
		return doc.At("apiVersion", "a %s is of %s", kind, groups[1])
	case version == groups[1] && slices.Contains(kinds, kind):
		return doc.At("apiVersion", "a %s is of %s", kind, groups[0])
	}
	namespace, name := doc.Text("metadata", "namespace"), doc.Text("metadata", "name")
	base, namespaced := strings.CutPrefix(kind, v1beta1.NamespacedPrefix)
	switch {
	case name == "":
		return doc.At("metadata.name", "a %s needs a name", strict.Label(kind))
	case len(validation.IsDNS1123Subdomain(name)) > 0:
		return doc.At("metadata.name", "%s is no name to Kubernetes: lower-case letters, digits, - and . only", strict.Label(name))
	case namespaced && namespace == "":
		return doc.At("metadata.namespace", "a %s needs a namespace: write metadata.namespace, or give -n NAME where it is as with kubectl apply", strict.Label(kind))
	case namespace != "" && (namespaced || base == v1beta1.KindCertificateStore) && len(validation.IsDNS1123Label(namespace)) > 0:
		return doc.At("metadata.namespace", "%s is no name to Kubernetes: lower-case letters, digits and - only", strict.Label(namespace))
	case !namespaced && base != v1beta1.KindCertificateStore:
		namespace = "" // the kind is cluster-wide, as kubectl reads it
	}
	if base == v1beta1.KindCertificateStore {
		namespace = cmp.Or(namespace, defaultNamespace) // as kubectl does
	}
	key := kind + "/" + namespace + "/" + name
	if first, ok := seen[key]; ok {
		return doc.At("metadata.name", "a second %s of this name; the first is at %s", kind, first.Place())
	}
	seen[key] = doc
	if version == v1alpha1.GroupVersion.String() {
		return s.addIntegrity(doc, Key{kind, namespace, name})
	}
	switch kind {
	case v1beta1.KindStore, v1beta1.NamespacedPrefix + v1beta1.KindStore:
		var o v1beta1.Store
		return into(doc, &o, func() {
			s.stores = append(s.stores, resource[v1beta1.StoreSpec]{kind, namespace, name, doc, o.Spec, nil})
		})
	case v1beta1.KindVerifier, v1beta1.NamespacedPrefix + v1beta1.KindVerifier:
		var o v1beta1.Verifier
		return into(doc, &o, func() {
			s.verifiers = append(s.verifiers, resource[v1beta1.VerifierSpec]{kind, namespace, name, doc, o.Spec, nil})
		})
	case v1beta1.KindPolicy, v1beta1.NamespacedPrefix + v1beta1.KindPolicy:
		var o v1beta1.Policy
		return into(doc, &o, func() {
			s.policies = append(s.policies, resource[v1beta1.PolicySpec]{kind, namespace, name, doc, o.Spec, nil})
		})
	case v1beta1.KindKeyManagementProvider, v1beta1.NamespacedPrefix + v1beta1.KindKeyManagementProvider:
		var o v1beta1.KeyManagementProvider
		return into(doc, &o, func() {
			s.providers = append(s.providers, resource[v1beta1.KeyManagementProviderSpec]{kind, namespace, name, doc, o.Spec, nil})
		})
	case v1beta1.KindCertificateStore:
		var o v1beta1.CertificateStore
		return into(doc, &o, func() {
			s.providers = append(s.providers, resource[v1beta1.KeyManagementProviderSpec]{kind, namespace, name, doc, v1beta1.KeyManagementProviderSpec{Type: o.Spec.Provider, Parameters: o.Spec.Parameters}, nil})
		})
	}
	return doc.At("kind", "%s is not known here%s", strict.Label(kind), knownKinds(kind, kinds))
}

func (s *Set) addIntegrity(doc strict.Node, key Key) error {
	spec, err := integritySpec(doc, key)
	if err != nil {
		return err
	}
	p, problems := integrity.Compile(key.Name, spec)
	if key.Namespace != "" && len(problems) == 0 && len(p.Others()) > 0 {
		problems = append(problems, integrity.Problem{Field: "spec.match.kinds", Message: "kinds of others, such as " + p.Others()[0] + ", are for an ImageIntegrityPolicy of the cluster: they change what the API server asks about in all namespaces"})
	}
	if len(problems) > 0 {
		var ps strict.Problems
		for _, pr := range problems {
			ps = append(ps, doc.At(pr.Field, "%s", pr.Message))
		}
		return ps
	}
	s.integrity = append(s.integrity, p.Of(key.Namespace))
	for _, w := range p.Warnings() {
		at := doc.At(w.Field, "%s", w.Message)
		at.Object = strict.Object(key)
		s.advice = append(s.advice, at)
	}
	return nil
}

// integritySpec decodes a policy of either scope.
func integritySpec(doc strict.Node, key Key) (v1alpha1.ImageIntegrityPolicySpec, error) {
	switch key.Kind {
	case v1alpha1.KindImageIntegrityPolicy:
		var o v1alpha1.ImageIntegrityPolicy
		err := into(doc, &o, func() {})
		return o.Spec, err
	case v1alpha1.KindNamespacedImageIntegrityPolicy:
		var o v1alpha1.NamespacedImageIntegrityPolicy
		err := into(doc, &o, func() {})
		return v1alpha1.ImageIntegrityPolicySpec{
			Match:          v1alpha1.Match{Kinds: o.Spec.Match.Kinds, LabelSelector: o.Spec.Match.LabelSelector},
			ExcludedImages: o.Spec.ExcludedImages, EnforcementAction: o.Spec.EnforcementAction,
			OnUnavailable: o.Spec.OnUnavailable, ResolveTags: o.Spec.ResolveTags,
		}, err
	}
	return v1alpha1.ImageIntegrityPolicySpec{}, doc.At("kind", "%s is not known here%s", strict.Label(key.Kind), knownKinds(key.Kind, integrityKinds))
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
		return explained(doc, err)
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
	return r.owned(explained(r.node, n.Decode(into)))
}

func (r resource[T]) object() strict.Object {
	return strict.Object{Kind: r.kind, Namespace: r.namespace, Name: r.name}
}

// problem is one at a field of the resource.
func (r resource[T]) problem(field, format string, a ...any) strict.Problem {
	return r.own(r.node.At(field, format, a...))
}

// own makes a problem one of the resource.
func (r resource[T]) own(p strict.Problem) strict.Problem {
	p.Object = r.object()
	return p
}

// owned makes the problems of an error ones of the resource.
func (r resource[T]) owned(err error) error { return owned(r.object(), err) }
