package integrity

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
)

// Limits on exemptions.
const (
	MaxExemptions      = 500 // of a policy
	MaxExemptionList   = 100 // of namespaces, images or workloads in one
	maxExemptionReason = 512
	// AnnounceEnd is how long before its end an exemption is said to end soon.
	AnnounceEnd = 30 * 24 * time.Hour
)

// Exemption takes some of what a policy looks at out of it until its end. It is
// immutable.
type Exemption struct {
	Name     string
	Category v1alpha1.ExemptionCategory
	Reason   string
	Ends     time.Time // it is over from then on; zero = never

	namespaces []pattern
	images     []pattern
	workloads  []v1alpha1.ExemptWorkload
}

// Over reports whether the exemption has ended.
func (e *Exemption) Over(now time.Time) bool { return !e.Ends.IsZero() && !now.Before(e.Ends) }

// EndsSoon reports whether the exemption is in force and its end is to be announced.
func (e *Exemption) EndsSoon(now time.Time) bool {
	return !e.Ends.IsZero() && !e.Over(now) && e.Ends.Sub(now) <= AnnounceEnd
}

// Until is the end for people.
func (e *Exemption) Until() string { return Until(e.Ends) }

// Until is the end of an exemption for people; zero is none.
func Until(ends time.Time) string {
	if ends.IsZero() {
		return "without an end"
	}
	return "until " + ends.UTC().Format(time.RFC3339)
}

// Subject is what exemptions are compared with, besides an image.
type Subject struct {
	Namespace string
	// Workloads are those that the object is, or is provably part of.
	Workloads []Workload
}

// Exemptions returns the policy's exemptions, in order of their names.
func (p *Policy) Exemptions() []*Exemption { return slices.Clone(p.exemptions) }

// ExemptsWorkloads reports whether an exemption of the policy depends on workloads.
func (p *Policy) ExemptsWorkloads() bool {
	return slices.ContainsFunc(p.exemptions, func(e *Exemption) bool { return len(e.workloads) > 0 })
}

// ExemptionOf returns the exemption that an image of the subject is under at a
// time, nil where there is none: of several the one that ends last, and among
// those the first by name. The image is as it stands in the object; one that
// cannot be read is under no exemption of images.
func (p *Policy) ExemptionOf(s Subject, image string, now time.Time) *Exemption {
	var found *Exemption
	i := reading{text: image}
	for _, e := range p.exemptions {
		if e.Over(now) || !e.holds(s, &i) {
			continue
		}
		if found == nil || !found.Ends.IsZero() && (e.Ends.IsZero() || e.Ends.After(found.Ends)) {
			found = e
		}
	}
	return found
}

// MayExempt reports whether the subject's image may be under an exemption for all
// that is known of it, which is its namespace and its name without a tag.
func (p *Policy) MayExempt(namespace, image string, now time.Time) bool {
	ref, err := boltseal.ParseReference(image)
	i := reading{text: image}
	return err == nil && slices.ContainsFunc(p.exemptions, func(e *Exemption) bool {
		hasImage := len(e.images) == 0 || e.hasImage(&i) || slices.ContainsFunc(e.images, func(p pattern) bool { return strings.HasPrefix(p.text, ref.Name()+":") })
		hasWorkload := len(e.workloads) == 0 || slices.ContainsFunc(e.workloads, func(w v1alpha1.ExemptWorkload) bool { return w.Namespace == "" || w.Namespace == namespace })
		return !e.Over(now) && (len(e.namespaces) == 0 || matchesAny(e.namespaces, namespace)) && hasImage && hasWorkload
	})
}

func (e *Exemption) holds(s Subject, image *reading) bool {
	switch {
	case len(e.namespaces)+len(e.images)+len(e.workloads) == 0,
		len(e.namespaces) > 0 && !matchesAny(e.namespaces, s.Namespace),
		len(e.workloads) > 0 && !slices.ContainsFunc(s.Workloads, func(w Workload) bool { return e.names(s.Namespace, w) }):
		return false
	}
	return len(e.images) == 0 || e.hasImage(image)
}

func (e *Exemption) names(namespace string, w Workload) bool {
	return slices.ContainsFunc(e.workloads, func(x v1alpha1.ExemptWorkload) bool {
		return x.Kind == w.Kind && x.Name == w.Name && (x.Namespace == "" || x.Namespace == namespace) &&
			(!w.Claimed || x.Controller != "" && x.Controller == w.By)
	})
}

// reading is an image in its canonical forms, read where it is first asked for.
type reading struct {
	text  string
	done  bool
	forms []string // none where it cannot be read
}

// canonical forms are the image's name, and where it has a tag before a digest the
// name without: the digest alone says what runs.
func (r *reading) canonical() []string {
	if r.done {
		return r.forms
	}
	r.done = true
	ref, err := boltseal.ParseReference(r.text)
	if err != nil {
		return nil
	}
	r.forms = []string{ref.String()}
	if ref.Digest != "" && ref.Tag != "" {
		r.forms = append(r.forms, ref.Name()+"@"+ref.Digest.String())
	}
	return r.forms
}

func (e *Exemption) hasImage(image *reading) bool {
	return slices.ContainsFunc(image.canonical(), func(s string) bool { return matchesAny(e.images, s) })
}

const exemptionsField = "spec.exemptions"

// exemptionName is what Kubernetes calls a qualified name.
var exemptionName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?$`)

func (c *compiler) exemptions(list []v1alpha1.Exemption) {
	if len(list) > MaxExemptions {
		c.fail(exemptionsField, "%d entries, at most %d", len(list), MaxExemptions)
		return
	}
	seen := map[string]bool{}
	for i := range list {
		x := &list[i]
		at := fmt.Sprintf("%s[%d]", exemptionsField, i)
		e := &Exemption{Name: x.Name, Category: x.Category, Reason: x.Reason}
		if x.Expires != nil {
			e.Ends = x.Expires.Time
		}
		switch {
		case len(x.Name) > validation.DNS1123SubdomainMaxLength || !exemptionName.MatchString(x.Name):
			c.fail(at+".name", "%.60q is no name: letters, digits, hyphens, dots; at most %d", x.Name, validation.DNS1123SubdomainMaxLength)
		case seen[x.Name]:
			c.fail(at+".name", "two exemptions have the name %q", x.Name)
		}
		seen[x.Name] = true
		c.oneOf(at+".category", string(x.Category), string(v1alpha1.Waiver), string(v1alpha1.Mitigated))
		if len(x.Reason) > maxExemptionReason {
			c.fail(at+".reason", "%d bytes, at most %d", len(x.Reason), maxExemptionReason)
		}
		if x.Expires != nil && x.Expires.IsZero() {
			c.fail(at+".expires", "is no time; write one such as 2027-03-01T00:00:00Z, or leave it out for no end")
		}
		if len(x.Namespaces)+len(x.Images)+len(x.Workloads) == 0 {
			c.fail(at, "it names nothing to take out: write namespaces, images or workloads (namespaces: [\"*\"] is all)")
		}
		c.exemptionLists(at, x, e)
		c.p.exemptions = append(c.p.exemptions, e)
	}
	slices.SortStableFunc(c.p.exemptions, func(a, b *Exemption) int { return strings.Compare(a.Name, b.Name) })
}

func (c *compiler) exemptionLists(at string, x *v1alpha1.Exemption, e *Exemption) {
	for _, l := range []struct {
		field string
		n     int
	}{{".namespaces", len(x.Namespaces)}, {".images", len(x.Images)}, {".workloads", len(x.Workloads)}} {
		if l.n > MaxExemptionList {
			c.fail(at+l.field, "%d entries, at most %d", l.n, MaxExemptionList)
			return
		}
	}
	e.namespaces = c.names(at+".namespaces", x.Namespaces)
	for _, text := range x.Images {
		p, err := imagePattern(text)
		if err != nil {
			c.fail(at+".images", "%q: %v", text, err)
			continue
		}
		e.images = append(e.images, p)
	}
	e.workloads = slices.Clone(x.Workloads)
	for i, w := range x.Workloads {
		field := fmt.Sprintf("%s.workloads[%d]", at, i)
		kind, err := w.Kind, error(nil)
		if strings.Contains(kind, "/") {
			kind, err = parseKind(kind)
			e.workloads[i].Kind = kind
		}
		others := strings.Contains(kind, "/")
		switch {
		case err != nil:
			c.fail(field+".kind", "%v", err)
		case !others:
			c.oneOf(field+".kind", kind, WorkloadKinds()...)
		}
		switch {
		case w.Controller != "" && err == nil && !others:
			c.fail(field+".controller", "it is of use for kinds of others: who creates what belongs to a %.60q is known; leave it out", kind)
		case w.Controller != "" && !accountName.MatchString(w.Controller):
			c.fail(field+".controller", "%.100q is no ServiceAccount's user, such as system:serviceaccount:argo-rollouts:argo-rollouts", w.Controller)
		}
		if problems := validation.IsDNS1123Subdomain(w.Name); len(problems) > 0 {
			c.fail(field+".name", "%.60q can be no workload's name", w.Name)
		}
		switch {
		case w.Namespace == "" && len(x.Namespaces) == 0:
			c.fail(field, "in which namespace? Write its namespace, or the exemption's namespaces")
		case w.Namespace != "" && !namespaceName(w.Namespace, false):
			c.fail(field+".namespace", "%.60q can be no namespace's name", w.Namespace)
		}
	}
}

// accountName is the user of a ServiceAccount.
var accountName = regexp.MustCompile(`^system:serviceaccount:[a-z0-9]([a-z0-9-]*[a-z0-9])?:[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)
