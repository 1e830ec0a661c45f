package render

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
)

// maxSplits bounds the constraints that one demand is rendered to beside its own.
const maxSplits = 50

// split is the images that are exempt in the namespaces of one pattern.
type split struct {
	namespaces string // by name, or a beginning with a trailing *
	images     []string
}

// gatekeeperExempt takes exemptions out in ways that a constraint has: of a
// namespace, of an image, and of an image in a namespace by a further constraint
// for that namespace.
func (i *item) gatekeeperExempt() {
	d := i.d
	i.exempt(func(e *v1alpha1.BundleExemption) (RefusalReason, error) {
		w := e.Within
		ns, im := len(w.Namespaces) > 0, len(w.Images) > 0
		switch {
		case len(w.Workloads) > 0:
			return NotExpressible, errors.New("a constraint of Gatekeeper cannot take out workloads; exempt a namespace or an image, or let Boltseal enforce")
		case im && !i.template.images:
			return TemplateHasNoImages, errors.New("the definition's template takes no images out; exempt a namespace")
		case ns && im:
			return i.split(w)
		}
		namespaces, excluded := unionOf(d.Match.ExcludedNamespaces, w.Namespaces), unionOf(d.ExcludedImages, w.Images)
		if len(namespaces) > maxNamespaces || len(excluded) > integrity.MaxList {
			return OverLimit, fmt.Errorf("the requirement has as many exemptions as it may: %d namespaces, %d images", maxNamespaces, integrity.MaxList)
		}
		d.Match.ExcludedNamespaces, d.ExcludedImages = namespaces, excluded
		return "", nil
	})
}

// split notes images that are exempt in some namespaces.
func (i *item) split(w *v1alpha1.ExemptionWithin) (RefusalReason, error) {
	splits := slices.Clone(i.splits)
	for _, n := range w.Namespaces {
		at := slices.IndexFunc(splits, func(s split) bool { return s.namespaces == n })
		if at < 0 {
			at, splits = len(splits), append(splits, split{namespaces: n})
		}
		splits[at].images = unionOf(splits[at].images, w.Images)
		if len(splits[at].images) > integrity.MaxList {
			return OverLimit, fmt.Errorf("more than %d images are exempt in %s", integrity.MaxList, n)
		}
	}
	if len(splits) > maxSplits {
		return OverLimit, fmt.Errorf("images are exempt in more than %d namespaces; exempt the images everywhere, or the namespaces", maxSplits)
	}
	i.splits = splits
	return "", nil
}

// patternWithin reports whether all namespaces of pattern q are among those of p.
// Patterns are nested or have none in common.
func patternWithin(q, p string) bool {
	begin, prefix := strings.CutSuffix(p, "*")
	if !prefix {
		return q == p
	}
	return strings.HasPrefix(strings.TrimSuffix(q, "*"), begin)
}

// narrowPatterns are the patterns of namespaces that p and the list have in common. An
// empty list is all.
func narrowPatterns(p string, list []string) (out []string) {
	if len(list) == 0 {
		return []string{p}
	}
	for _, q := range list {
		switch {
		case patternWithin(p, q):
			return []string{p}
		case patternWithin(q, p):
			out = append(out, q)
		}
	}
	return out
}

// splitConstraints are the constraints for the namespaces that images are exempt
// in; the demand's own passes these namespaces over. A namespace is looked at by
// the one of the narrowest pattern that it is of, with the images of all of them.
func (i *item) splitConstraints(exempt []string) ([]*constraint, error) {
	demand := i.d
	defer func() { i.d = demand }()
	var out []*constraint
	for _, s := range i.splits {
		part := demand.DeepCopy()
		part.Match.Namespaces = narrowPatterns(s.namespaces, demand.Match.Namespaces)
		if len(part.Match.Namespaces) == 0 {
			continue // the demand looks at none of them
		}
		for _, other := range i.splits {
			switch {
			case patternWithin(s.namespaces, other.namespaces): // itself too
				part.ExcludedImages = unionOf(part.ExcludedImages, other.images)
			case patternWithin(other.namespaces, s.namespaces):
				part.Match.ExcludedNamespaces = unionOf(part.Match.ExcludedNamespaces, []string{other.namespaces})
			}
		}
		if len(part.ExcludedImages) > integrity.MaxList {
			return nil, fmt.Errorf("more than %d images are excluded and exempt in %s", integrity.MaxList, s.namespaces)
		}
		i.d = part
		c, err := i.constraint(exempt)
		if err != nil {
			return nil, err
		}
		c.Name = ConstraintName(i.template.name, demand.AssignmentID, demand.DefinitionReferenceID+"\x00"+s.namespaces)
		out = append(out, c)
	}
	for _, s := range i.splits {
		demand.Match.ExcludedNamespaces = unionOf(demand.Match.ExcludedNamespaces, []string{s.namespaces})
	}
	return out, nil
}
