package definition

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

// Mode says what a definition is about.
type Mode string

// The modes.
const (
	ModeKubernetes Mode = "Microsoft.Kubernetes.Data" // what runs in clusters
	ModeIndexed    Mode = "Indexed"                   // clusters themselves
)

// Effect is what becomes of what does not satisfy a definition.
type Effect string

// The effects.
const (
	EffectAudit             Effect = "Audit"
	EffectDeny              Effect = "Deny"
	EffectDisabled          Effect = "Disabled"
	EffectAuditIfNotExists  Effect = "AuditIfNotExists"
	EffectDeployIfNotExists Effect = "DeployIfNotExists"
)

// Definition is a definition that was checked. It does not change, and may be
// used from several goroutines.
type Definition struct {
	Mode       Mode
	Version    string
	Preview    bool
	Deprecated bool

	parameters map[string]*parameter
	condition  condition
	effect     setting[Effect]
	kubernetes *kubernetes // of ModeKubernetes
	existence  *condition  // of ModeIndexed: what must exist
	deploy     Deploy
}

// Deploy is what DeployIfNotExists sets on a cluster.
type Deploy struct {
	ImageIntegrity bool // securityProfile.imageIntegrity.enabled: true
	PolicyAddOn    bool // addonProfiles.azurePolicy.enabled: true
}

// Bound is a definition whose parameters have their values.
type Bound struct {
	Mode   Mode
	Effect Effect
	// Of ModeKubernetes.
	Match          Match
	ExcludedImages []string // exact, or a beginning with a trailing *
	Source         string   // All, Generated or Original; "" = nothing is said
	Warn           bool
	Template       Template
	// Of ModeIndexed.
	Deploy Deploy

	definition *Definition
	applies    comparisons
	exists     *comparisons
}

// Compile checks a definition. The error is strict.Problems, with the path of
// each problem within the spec; it wraps boltseal.ErrConfiguration.
func Compile(spec v1alpha1.PolicyDefinitionSpec) (*Definition, error) {
	r := &report{}
	if len(spec.PolicyRule.Raw) > MaxRuleBytes {
		r.add(0, "policyRule", fmt.Sprintf("is longer than %d bytes", MaxRuleBytes))
		return nil, r.err()
	}
	rule, err := decodeNode(spec.PolicyRule.Raw, "policyRule", false)
	if err != nil {
		return nil, err
	}
	d := r.definition(spec, rule)
	return d, r.err()
}

func (r *report) definition(spec v1alpha1.PolicyDefinitionSpec, rule node) *Definition {
	d := &Definition{
		Mode: Mode(spec.Mode), Version: spec.Version, Preview: spec.Metadata.Preview, Deprecated: spec.Metadata.Deprecated,
		parameters: r.parameters(spec.Parameters, MaxParameters),
	}
	if d.Mode != ModeKubernetes && d.Mode != ModeIndexed {
		r.add(0, "mode", fmt.Sprintf("%q is not supported; supported are %s and %s", truncateText(spec.Mode), ModeKubernetes, ModeIndexed))
		return nil
	}
	if !r.members(rule, []string{"if", "then"}, nil) {
		return nil
	}
	s := scope{parameters: d.parameters, cluster: true}
	cond, okIf := rule.get("if")
	then, okThen := rule.get("then")
	if !okIf || !okThen {
		r.at(rule, "must have if and then")
		return nil
	}
	d.condition = r.condition(cond, s)
	if !r.members(then, []string{"effect", "details"}, nil) {
		return nil
	}
	d.effect = r.effect(then, d.Mode, s)
	details, ok := then.get("details")
	switch {
	case d.Mode == ModeKubernetes && !ok:
		r.at(then, "details are missing: what is checked, and by which template")
	case d.Mode == ModeKubernetes:
		d.kubernetes = r.kubernetes(details, s)
	case ok:
		d.existence, d.deploy = r.existence(details, s)
	}
	if d.Mode == ModeIndexed {
		r.needsDetails(d, then)
	}
	if len(r.problems) > 0 {
		return nil
	}
	return d
}

// needsDetails makes sure that each effect that may come has what it needs.
func (r *report) needsDetails(d *Definition, then node) {
	for _, e := range d.AllowedEffects() {
		switch {
		case (e == EffectAuditIfNotExists || e == EffectDeployIfNotExists) && d.existence == nil:
			r.at(then, "the effect %s needs details with an existenceCondition", e)
			return
		case e == EffectDeployIfNotExists && d.deploy == (Deploy{}):
			r.at(then, "the effect %s needs details with a deployment that enables securityProfile.imageIntegrity or addonProfiles.azurePolicy", e)
			return
		case e == EffectAudit && d.existence != nil:
			r.at(then, "the effect %s takes no details; %s does", e, EffectAuditIfNotExists)
			return
		}
	}
}

func modeEffects(m Mode) []Effect {
	if m == ModeKubernetes {
		return []Effect{EffectAudit, EffectDeny, EffectDisabled}
	}
	return []Effect{EffectDeployIfNotExists, EffectAuditIfNotExists, EffectAudit, EffectDisabled}
}

func (r *report) effect(then node, m Mode, s scope) setting[Effect] {
	if _, ok := then.get("effect"); !ok {
		r.at(then, "effect is missing")
	}
	e := compileSetting(r, then, "effect", s, TypeString, func(n node) (Effect, error) { return readEffect(n, m) })
	for name := range e.template.used {
		if e.template.expr == nil || !e.template.expr.is("parameters", 1) {
			break
		}
		for _, v := range s.parameters[name].allowed {
			if _, err := readEffect(v, m); err != nil {
				r.add(0, v.path, err.Error())
			}
		}
	}
	return e
}

// readEffect reads an effect in any case, as Azure does.
func readEffect(n node, m Mode) (Effect, error) {
	for _, e := range modeEffects(m) {
		if n.kind == stringKind && strings.EqualFold(string(e), n.text) {
			return e, nil
		}
	}
	var names []string
	for _, e := range modeEffects(m) {
		names = append(names, string(e))
	}
	return "", fmt.Errorf("the effect %s is not supported in mode %s; supported are %s", n.what(), m, joinWords(names))
}

// AllowedEffects returns the effects that the definition can have: the allowed
// values where the effect is a parameter with such, and otherwise all that the
// mode and the details have.
func (d *Definition) AllowedEffects() []Effect {
	var out []Effect
	t := d.effect.template
	if t.expr == nil && t.node.kind == stringKind {
		if e, err := readEffect(t.node, d.Mode); err == nil {
			out = append(out, e)
		}
		return out
	}
	if t.expr != nil && t.expr.is("parameters", 1) {
		for name := range t.used {
			for _, v := range d.parameters[name].allowed {
				if e, err := readEffect(v, d.Mode); err == nil && !slices.Contains(out, e) {
					out = append(out, e)
				}
			}
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, e := range modeEffects(d.Mode) {
		fits := d.Mode == ModeKubernetes || e == EffectDisabled || (e == EffectAudit) == (d.existence == nil)
		if fits && (e != EffectDeployIfNotExists || d.deploy != (Deploy{})) {
			out = append(out, e)
		}
	}
	return out
}

// Bind sets the parameters, for one cluster. The error is strict.Problems: a
// parameter that does not exist, one that has neither value nor default, a value
// of another type, not among the allowed or not of the schema.
func (d *Definition) Bind(set map[string]v1alpha1.ParameterValue, cluster ClusterFields) (*Bound, error) {
	r := &report{}
	v := values{parameters: r.bindParameters(d.parameters, set), cluster: cluster}
	if err := r.err(); err != nil {
		return nil, err
	}
	b := &Bound{Mode: d.Mode, Deploy: d.deploy, definition: d}
	b.Effect = bindSetting(r, d.effect, v)
	b.applies = r.bindCondition(d.condition, v)
	if d.existence != nil {
		e := r.bindCondition(*d.existence, v)
		b.exists = &e
	}
	if k := d.kubernetes; k != nil {
		b.Match = Match{
			APIGroups: slices.Clone(k.apiGroups), Kinds: slices.Clone(k.kinds),
			Namespaces:         bindSetting(r, k.namespaces, v),
			ExcludedNamespaces: bindSetting(r, k.excludedNamespaces, v),
			LabelSelector:      bindSetting[*metav1.LabelSelector](r, k.labelSelector, v),
		}
		b.ExcludedImages = bindSetting(r, k.excludedImages, v)
		b.Source = bindSetting(r, k.source, v)
		b.Warn = bindSetting(r, k.warn, v)
		b.Template = k.template
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	if !slices.Contains(d.AllowedEffects(), b.Effect) {
		r.add(0, "policyRule.then.effect", d.notAllowed(b.Effect))
		return nil, r.err()
	}
	return b, nil
}

func (d *Definition) notAllowed(e Effect) string {
	var names []string
	for _, a := range d.AllowedEffects() {
		names = append(names, string(a))
	}
	return fmt.Sprintf("the effect %q is not one that the definition can have; it can have %s", truncateText(string(e)), joinWords(names))
}

// WithEffect returns the same with another effect, for an override. It must be
// one of the definition's AllowedEffects, in any case; Disabled always is.
func (b *Bound) WithEffect(effect string) (*Bound, error) {
	e, err := readEffect(node{kind: stringKind, text: effect}, b.Mode)
	if err != nil || e != EffectDisabled && !slices.Contains(b.definition.AllowedEffects(), e) {
		r := &report{}
		r.add(0, "overrides", b.definition.notAllowed(Effect(effect)))
		return nil, r.err()
	}
	out := *b
	out.Effect = e
	return &out, nil
}

// Applies tells whether a cluster is one that the definition is about.
func (b *Bound) Applies(cluster ClusterFields) bool { return b.applies.holds(cluster) }

// Exists tells whether a cluster has what the definition demands. Of a definition
// without an existenceCondition, nothing has: it is false.
func (b *Bound) Exists(cluster ClusterFields) bool { return b.exists != nil && b.exists.holds(cluster) }
