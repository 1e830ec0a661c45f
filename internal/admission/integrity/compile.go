// Package integrity decides by ImageIntegrityPolicies what becomes of an object, given what was found about its images.
package integrity

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/base/nearest"
)

// Limits on one policy, and the defaults of what it leaves open.
const (
	MaxList       = 1000
	MaxSelector   = 100
	DefaultMaxAge = 24 * time.Hour
)

// Problem is what is wrong with one field of a policy's spec.
type Problem struct {
	Field   string // path, "spec.match.kinds"
	Message string
}

// Error writes FIELD: MESSAGE.
func (p Problem) Error() string { return p.Field + ": " + p.Message }

// Unwrap makes it a problem of the configuration.
func (p Problem) Unwrap() error { return boltseal.ErrConfiguration }

// Policy is an ImageIntegrityPolicy that was checked. It is immutable.
type Policy struct {
	name         string
	owner        string // the namespace whose own it is; "" = the cluster's
	action       v1alpha1.EnforcementAction
	unavailable  v1alpha1.UnavailableAction
	maxAge       time.Duration
	resolveTags  bool
	kinds        []string
	namespaces   []pattern
	excluded     []pattern
	namespaceSel labels.Selector // nil = all
	objectSel    labels.Selector // nil = all
	images       []pattern
	exemptions   []*Exemption // by name
}

// pattern is an exact text, or a beginning.
type pattern struct {
	text   string
	prefix bool
	tag    bool // it ends in the beginning of an image's tag
}

// matches compares. A tag says nothing of an image whose digest is written after it: the
// node pulls that digest, and whoever writes the image can write any tag before it.
func (p pattern) matches(s string) bool {
	if p.prefix {
		return strings.HasPrefix(s, p.text) && !(p.tag && strings.Contains(s[len(p.text):], "@"))
	}
	return s == p.text
}

func matchesAny(ps []pattern, s string) bool {
	return slices.ContainsFunc(ps, func(p pattern) bool { return p.matches(s) })
}

// Compile checks a policy. problems is everything that is wrong with it; the
// Policy is to be used only where there are none.
func Compile(name string, spec v1alpha1.ImageIntegrityPolicySpec) (*Policy, []Problem) {
	c := &compiler{p: &Policy{name: name, action: spec.EnforcementAction, unavailable: spec.OnUnavailable.Action,
		maxAge: DefaultMaxAge, resolveTags: spec.ResolveTags == nil || *spec.ResolveTags}}
	if c.p.action == "" {
		c.p.action = v1alpha1.Deny
	}
	c.oneOf("spec.enforcementAction", string(c.p.action), string(v1alpha1.Deny), string(v1alpha1.Warn), string(v1alpha1.DryRun))
	c.onUnavailable(spec.OnUnavailable)
	c.match(spec.Match)
	c.images(spec.ExcludedImages)
	c.exemptions(spec.Exemptions)
	return c.p, c.problems
}

type compiler struct {
	p        *Policy
	problems []Problem
}

func (c *compiler) fail(field, format string, a ...any) {
	c.problems = append(c.problems, Problem{field, fmt.Sprintf(format, a...)})
}

func (c *compiler) oneOf(field, value string, known ...string) {
	if !slices.Contains(known, value) {
		c.fail(field, "%q is not known here; known: %s%s", value, strings.Join(known, ", "), nearest.Hint(value, known))
	}
}

func (c *compiler) tooMany(field string, n int) bool {
	if n > MaxList {
		c.fail(field, "%d entries, at most %d", n, MaxList)
	}
	return n > MaxList
}

func (c *compiler) onUnavailable(o v1alpha1.OnUnavailable) {
	if c.p.unavailable == "" {
		c.p.unavailable = v1alpha1.UnavailableDeny
	}
	c.oneOf("spec.onUnavailable.action", string(c.p.unavailable),
		string(v1alpha1.UnavailableDeny), string(v1alpha1.UnavailableAllow), string(v1alpha1.UnavailableLastKnownGood))
	switch {
	case o.MaxAge == nil:
	case c.p.unavailable != v1alpha1.UnavailableLastKnownGood:
		c.fail("spec.onUnavailable.maxAge", "means something with action lastKnownGood only")
	case o.MaxAge.Duration <= 0:
		c.fail("spec.onUnavailable.maxAge", "%s is not a positive duration", o.MaxAge.Duration)
	default:
		c.p.maxAge = o.MaxAge.Duration
	}
}

func (c *compiler) match(m v1alpha1.Match) {
	if !c.tooMany("spec.match.kinds", len(m.Kinds)) {
		for _, text := range m.Kinds {
			k, err := parseKind(text)
			if err != nil {
				c.fail("spec.match.kinds", "%v", err)
			}
			c.p.kinds = append(c.p.kinds, k)
		}
	}
	c.p.namespaces = c.names("spec.match.namespaces", m.Namespaces)
	c.p.excluded = c.names("spec.match.excludedNamespaces", m.ExcludedNamespaces)
	c.p.namespaceSel = c.selector("spec.match.namespaceSelector", m.NamespaceSelector)
	c.p.objectSel = c.selector("spec.match.labelSelector", m.LabelSelector)
}

func (c *compiler) names(field string, list []string) (out []pattern) {
	if c.tooMany(field, len(list)) {
		return nil
	}
	for _, n := range list {
		text, prefix := strings.CutSuffix(n, "*")
		switch {
		case n == "":
			c.fail(field, "an empty name")
		case strings.Contains(text, "*"):
			c.fail(field, "%q: a * may be at the end only", n)
		case strings.ToLower(text) != text:
			c.fail(field, "%q: namespaces are in lower case", n)
		case !namespaceName(text, prefix):
			c.fail(field, "%q can be no namespace's name: lower-case letters, digits and hyphens, at most %d", n, validation.DNS1123LabelMaxLength)
		}
		out = append(out, pattern{text: text, prefix: prefix})
	}
	return out
}

// namespaceName reports whether a namespace may be named so (RFC 1123), or may
// begin so.
func namespaceName(text string, prefix bool) bool {
	if prefix && len(text) < validation.DNS1123LabelMaxLength {
		text += "x"
	}
	return len(validation.IsDNS1123Label(text)) == 0
}

func (c *compiler) selector(field string, s *metav1.LabelSelector) labels.Selector {
	if s == nil || len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
		return nil
	}
	if n := len(s.MatchLabels) + len(s.MatchExpressions); n > MaxSelector {
		c.fail(field, "%d conditions, at most %d", n, MaxSelector)
		return nil
	}
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		c.fail(field, "%v", err)
	}
	return sel
}

const imagesField = "spec.excludedImages"

func (c *compiler) images(list []string) {
	if c.tooMany(imagesField, len(list)) {
		return
	}
	for _, text := range list {
		p, err := imagePattern(text)
		if err != nil {
			c.fail(imagesField, "%q: %v", text, err)
			continue
		}
		c.p.images = append(c.p.images, p)
	}
}

func imagePattern(text string) (pattern, error) {
	begin, prefix := strings.CutSuffix(text, "*")
	if strings.Contains(begin, "*") {
		return pattern{}, fmt.Errorf("a * may be at the end only")
	}
	if !prefix {
		ref, err := boltseal.ParseReference(text)
		if err != nil {
			return pattern{}, err
		}
		return pattern{text: ref.String()}, nil
	}
	host, path, ok := strings.Cut(begin, "/")
	switch {
	case !ok:
		return pattern{}, fmt.Errorf("a * before the first / would name other registries too (%s.evil.example/app); write the host in full: HOST/REPOSITORY*", strings.TrimRight(begin, ":."))
	case !strings.ContainsAny(host, ".:") && host != "localhost":
		return pattern{}, fmt.Errorf("write the registry's host too, such as docker.io/%s*", begin)
	}
	// The host is brought to its canonical form by way of an image in it.
	ref, err := boltseal.ParseReference(host + "/any/image:tag")
	if err != nil {
		return pattern{}, err
	}
	_, tag, _ := strings.Cut(path, ":")
	p := pattern{text: ref.Registry + "/" + path, prefix: true, tag: tag != "" && !strings.Contains(path, "@")}
	if path != "" && !slices.ContainsFunc(imageCompletions(p.text), func(image string) bool {
		ref, err := boltseal.ParseReference(image)
		return err == nil && p.matches(ref.String())
	}) {
		return pattern{}, fmt.Errorf("no image's canonical name can begin so%s", officialHint(ref.Registry, path))
	}
	return p, nil
}

// imageCompletions are images that begin with text, whatever part of an image it ends in.
func imageCompletions(text string) []string {
	name, digest, ok := strings.Cut(text, "@")
	if !ok {
		return []string{text, text + "x", text + "x/x"}
	}
	var out []string
	for algorithm, size := range map[string]int{"sha256:": 64, "sha384:": 96, "sha512:": 128} {
		hex, whole := strings.CutPrefix(digest, algorithm)
		switch {
		case whole && len(hex) <= size:
			out = append(out, text+strings.Repeat("0", size-len(hex)))
		case strings.HasPrefix(algorithm, digest):
			out = append(out, name+"@"+algorithm+strings.Repeat("0", size))
		}
	}
	return out
}

// officialHint is a hint for who left out where Docker Hub keeps its own images.
func officialHint(registry, path string) string {
	if registry == boltseal.DockerHub && !strings.Contains(path, "/") {
		return "; write docker.io/library/" + path + "* for an official image of Docker Hub"
	}
	return ""
}

// Of returns the policy as one that a namespace sets itself: it selects nothing
// elsewhere. "" is the cluster, and changes nothing.
func (p *Policy) Of(namespace string) *Policy {
	if namespace == "" {
		return p
	}
	own := *p
	own.owner, own.name = namespace, namespace+"/"+p.name
	return &own
}

// Name is the policy's name, NAMESPACE/NAME for one that a namespace sets itself.
func (p *Policy) Name() string { return p.name }

// Owner is the namespace that sets the policy itself, and with whose resources
// images are verified; "" is the cluster.
func (p *Policy) Owner() string { return p.owner }

// Action is what becomes of an object with an image that is not trusted.
func (p *Policy) Action() v1alpha1.EnforcementAction { return p.action }

// Recalls reports whether the policy wants what registries said to be remembered.
func (p *Policy) Recalls() bool { return p.unavailable == v1alpha1.UnavailableLastKnownGood }

// NeedsNamespaceLabels reports whether the policy selects by labels of namespaces
// other than their name.
func (p *Policy) NeedsNamespaceLabels() bool {
	if p.namespaceSel == nil {
		return false
	}
	reqs, _ := p.namespaceSel.Requirements()
	return slices.ContainsFunc(reqs, func(r labels.Requirement) bool { return r.Key() != nameLabel })
}

// nameLabel is on every namespace, and set by nobody but the API server.
const nameLabel = "kubernetes.io/metadata.name"
