package integrity

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/boltseal/boltseal"
)

// KubeSystem is never judged: a cluster that cannot start its own parts cannot
// be mended.
const KubeSystem = "kube-system"

// Set is all policies in force. A nil Set has none.
type Set struct {
	policies []*Policy
	exempt   []string
}

// NewSet makes a Set. exempt are namespaces that are never judged, beside
// kube-system: Boltseal's own.
func NewSet(policies []*Policy, exempt ...string) *Set {
	s := &Set{policies: slices.Clone(policies), exempt: append([]string{KubeSystem}, exempt...)}
	slices.SortStableFunc(s.policies, func(a, b *Policy) int { return strings.Compare(a.name, b.name) })
	return s
}

// Policies returns all policies, by name.
func (s *Set) Policies() []*Policy {
	if s == nil {
		return nil
	}
	return slices.Clone(s.policies)
}

// Recalls reports whether any policy wants what registries said to be remembered.
func (s *Set) Recalls() bool { return s != nil && slices.ContainsFunc(s.policies, (*Policy).Recalls) }

// Exempts reports whether nothing in the namespace is ever judged.
func (s *Set) Exempts(namespace string) bool {
	return namespace == KubeSystem || s != nil && slices.Contains(s.exempt, namespace)
}

// Object is what policies select by.
type Object struct {
	Kind, Namespace string // the kind by its [KindName]
	Labels          map[string]string
	// NamespaceLabels are nil where they are not known: a policy that selects by
	// them then applies, for a label that cannot be read must let nothing through.
	NamespaceLabels map[string]string
}

// Select returns the policies that the object must satisfy, by name.
func (s *Set) Select(o Object) []*Policy {
	if s == nil || s.Exempts(o.Namespace) {
		return nil
	}
	var out []*Policy
	for _, p := range s.policies {
		if p.selects(o) {
			out = append(out, p)
		}
	}
	return out
}

func (p *Policy) selects(o Object) bool {
	switch {
	case p.owner != "" && p.owner != o.Namespace,
		!p.ofKind(o.Kind),
		len(p.namespaces) > 0 && !matchesAny(p.namespaces, o.Namespace),
		matchesAny(p.excluded, o.Namespace),
		p.objectSel != nil && !p.objectSel.Matches(labels.Set(o.Labels)):
		return false
	case p.namespaceSel == nil:
		return true
	case o.NamespaceLabels == nil && p.NeedsNamespaceLabels():
		return true
	}
	set := labels.Set{nameLabel: o.Namespace}
	for k, v := range o.NamespaceLabels {
		if k != nameLabel {
			set[k] = v
		}
	}
	return p.namespaceSel.Matches(set)
}

// ofKind reports whether the policy is about a kind. One that names none is about all
// of Kubernetes' own; kinds of others are named.
func (p *Policy) ofKind(name string) bool {
	if len(p.kinds) == 0 {
		return !strings.Contains(name, "/")
	}
	return slices.Contains(p.kinds, name)
}

// Excludes reports whether the policy passes over an image, as it stands in an
// object. An image that cannot be read is never passed over.
func (p *Policy) Excludes(image string) bool {
	if len(p.images) == 0 || p.elsewhere(image) {
		return false
	}
	ref, err := boltseal.ParseReference(image)
	return err == nil && matchesAny(p.images, ref.String())
}

// elsewhere reports whether the image is plainly in a registry that the policy
// excludes nothing of, which spares most images the full grammar. A host that
// may have another canonical spelling is left to that.
func (p *Policy) elsewhere(image string) bool {
	host, _, ok := strings.Cut(image, "/")
	if !ok || !strings.Contains(host, ".") || strings.ToLower(host) != host ||
		strings.HasSuffix(host, ":443") || strings.HasSuffix(host, boltseal.DockerHub) {
		return false
	}
	return !slices.ContainsFunc(p.images, func(q pattern) bool {
		rest, ok := strings.CutPrefix(q.text, host)
		return ok && strings.HasPrefix(rest, "/")
	})
}
