// Package render turns what is demanded of a cluster into the objects that its engine enforces.
package render

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	integrityv1 "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
)

// What objects carry that are rendered here. The names without a domain are
// those of Azure's add-on.
const (
	LabelManagedBy  = "managed-by"
	ManagedByAddOn  = "azure-policy-addon"
	LabelGovernance = "boltseal.dev/managed-by"
	ByGovernance    = "governance"

	AnnotationAssignment    = "azure-policy-assignment-id"
	AnnotationDefinition    = "azure-policy-definition-id"
	AnnotationReference     = "azure-policy-definition-reference-id"
	AnnotationSetDefinition = "azure-policy-setdefinition-id"
	AnnotationInstalledBy   = "constraint-template-installed-by"
	AnnotationMessage       = "boltseal.dev/message" // said to whoever is denied or warned
)

// Limits on what is rendered.
const (
	MaxDemands       = 200
	MaxTemplateBytes = 256 << 10
	maxName          = 63
	namePrefix       = "azurepolicy-"
	hashDigits       = 20
)

// Reason is why a demand is not rendered, as a word. The first two are Azure's.
type Reason string

// The reasons.
const (
	ConstraintTemplateConflicts     Reason = "ConstraintTemplateConflicts"     // two sources for one name
	InvalidConstraint               Reason = "InvalidConstraint"               // the demand cannot be read
	ConstraintTemplateInstallFailed Reason = "ConstraintTemplateInstallFailed" // its template cannot
)

// RefusalReason is why an exemption is not honoured, as a word.
type RefusalReason string

// The reasons. An exemption that is not honoured takes nothing out.
const (
	EmptyWithin         RefusalReason = "EmptyWithin"         // it narrows to nothing that is named
	NotExpressible      RefusalReason = "NotExpressible"      // the engine has no way to say it
	TemplateHasNoImages RefusalReason = "TemplateHasNoImages" // the template has no parameter excludedImages
	InvalidExemption    RefusalReason = "InvalidExemption"    // a name or an image in it cannot be read
	OverLimit           RefusalReason = "OverLimit"           // the list it would stand in is full
)

// Input is what to render.
type Input struct {
	// Engine to render for; there is no default.
	Engine v1alpha1.Engine
	// Demands of the bundle.
	Demands []v1alpha1.Demand
	// OwnTemplate is Boltseal's own ConstraintTemplate in YAML, for Gatekeeper.
	OwnTemplate []byte
	// Exempt are namespaces that are never judged, beside kube-system and
	// gatekeeper-system: Boltseal's own.
	Exempt []string
	// Installed are the ConstraintTemplates that the cluster has, for Gatekeeper.
	Installed []unstructured.Unstructured
	// Clock tells which exemptions are over; nil means time.Now.
	Clock func() time.Time
}

// Result is what was rendered.
type Result struct {
	// Objects to apply, in this order: templates come before their constraints.
	Objects []*unstructured.Unstructured
	// Outcomes, one for each demand in its order.
	Outcomes []Outcome
	// Next is when an exemption ends and to render again; zero means never.
	Next time.Time

	kept          map[identity]bool
	keptTemplates map[string]bool
	keepAll       bool // templates, because not all names that are kept could be read
}

type identity struct{ assignment, reference string }

// Outcome is what became of one demand.
type Outcome struct {
	Demand string
	// Reason and Message say why it is not rendered. What of it is installed is to
	// be left as it is; see Keeps.
	Reason  Reason
	Message string
	// Kind and Name of the object that enforces it; empty where it is not rendered.
	Kind, Name string
	// More are names of further objects of the same kind, which enforce it in
	// namespaces where some images are exempt.
	More []string
	// Exempt says that the whole cluster is exempt: it reports and denies nothing.
	Exempt bool
	// Honoured are the exemptions in force, by name.
	Honoured []string
	// Refused are those that are not honoured.
	Refused []Refusal
}

// Refusal is an exemption that is not honoured.
type Refusal struct {
	Exemption string
	Reason    RefusalReason
	Message   string
}

// Hash is 20 hexadecimal digits that stand for one definition of one
// assignment. IDs are compared without regard to upper and lower case.
func Hash(assignmentID, referenceID string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(assignmentID) + "\x00" + strings.ToLower(referenceID)))
	return hex.EncodeToString(sum[:hashDigits/2])
}

// Name is the name of a demand, and of the policy that it is rendered to:
// azurepolicy-<20 hex>.
func Name(assignmentID, referenceID string) string {
	return namePrefix + Hash(assignmentID, referenceID)
}

// ConstraintName is azurepolicy-<template>-<20 hex>, at most 63 characters: the
// template's name is cut where it is longer than that leaves.
func ConstraintName(template, assignmentID, referenceID string) string {
	room := maxName - len(namePrefix) - 1 - hashDigits
	if len(template) > room {
		template = strings.TrimRight(template[:room], "-.")
	}
	return namePrefix + template + "-" + Hash(assignmentID, referenceID)
}

// Action is what an effect comes to. rendered is false for Disabled. Effects are
// Audit, Deny and Disabled in any case; anything else is an error. warn means
// something for Audit only, and DoNotEnforce neither denies nor warns.
func Action(effect string, warn bool, mode v1alpha1.EnforcementMode) (action integrityv1.EnforcementAction, rendered bool, err error) {
	if mode != "" && mode != v1alpha1.EnforceDefault && mode != v1alpha1.DoNotEnforce {
		return "", false, fmt.Errorf("enforcementMode %q is not known; known: Default, DoNotEnforce", mode)
	}
	switch strings.ToLower(effect) {
	case "disabled":
		return "", false, nil
	case "deny":
		action = integrityv1.Deny
	case "audit":
		action = integrityv1.DryRun
		if warn {
			action = integrityv1.Warn
		}
	default:
		return "", false, fmt.Errorf("effect %q is not known; known: Audit, Deny, Disabled", effect)
	}
	if mode == v1alpha1.DoNotEnforce {
		action = integrityv1.DryRun
	}
	return action, true, nil
}

// Managed reports whether an object was rendered here.
func Managed(u *unstructured.Unstructured) bool {
	return u.GetLabels()[LabelGovernance] == ByGovernance
}

// Keeps reports whether an installed object that is not among Objects is to be
// left as it is: it belongs to a demand that could not be rendered, or was not
// rendered here.
func (r *Result) Keeps(u *unstructured.Unstructured) bool {
	if !Managed(u) {
		return true
	}
	if u.GetKind() == templateKind {
		return r.keepAll || r.keptTemplates[u.GetName()]
	}
	a := u.GetAnnotations()
	return r.kept[identity{strings.ToLower(a[AnnotationAssignment]), strings.ToLower(a[AnnotationReference])}]
}

// Render turns demands into objects. What is wrong with one demand is in its
// Outcome and harms no other. The error is for input that is not the demands'
// fault.
func Render(in Input) (*Result, error) {
	if len(in.Demands) > MaxDemands {
		return nil, fmt.Errorf("%d requirements, at most %d", len(in.Demands), MaxDemands)
	}
	now := time.Now
	if in.Clock != nil {
		now = in.Clock
	}
	r := &Result{kept: map[identity]bool{}, keptTemplates: map[string]bool{}}
	items := prepareDemands(in.Demands, now(), r)
	var err error
	switch in.Engine {
	case v1alpha1.EngineBoltseal:
		err = r.policies(items)
	case v1alpha1.EngineGatekeeper:
		err = r.gatekeeper(in, items)
	default:
		err = fmt.Errorf("engine %q is not known; known: Boltseal, Gatekeeper", in.Engine)
	}
	if err != nil {
		return nil, err
	}
	for _, i := range items {
		if i.out.Reason != "" {
			i.out.Kind, i.out.Name, i.out.More, i.out.Exempt, i.out.Honoured = "", "", nil, false, nil
			r.kept[identity{strings.ToLower(i.d.AssignmentID), strings.ToLower(i.d.DefinitionReferenceID)}] = true
		}
		r.Outcomes = append(r.Outcomes, i.out)
	}
	return r, nil
}

// item is one demand on its way.
type item struct {
	d        *v1alpha1.Demand
	inForce  []v1alpha1.BundleExemption
	template *template
	splits   []split // for Gatekeeper
	out      Outcome
}

func (i *item) fail(reason Reason, format string, a ...any) {
	if i.out.Reason == "" {
		i.out.Reason, i.out.Message = reason, fmt.Sprintf(format, a...)
	}
}

// prepareDemands copies the demands, drops exemptions that are over, and checks what
// both engines share.
func prepareDemands(demands []v1alpha1.Demand, now time.Time, r *Result) []*item {
	var items []*item
	names, identities := map[string]*item{}, map[identity]*item{}
	for n := range demands {
		i := &item{d: demands[n].DeepCopy()}
		i.out.Demand = i.d.Name
		for _, e := range i.d.Exemptions {
			if e.ExpiresOn != nil {
				if !e.ExpiresOn.After(now) {
					continue
				}
				if r.Next.IsZero() || e.ExpiresOn.Time.Before(r.Next) {
					r.Next = e.ExpiresOn.Time
				}
			}
			i.inForce = append(i.inForce, e)
		}
		i.check()
		who := identity{strings.ToLower(i.d.AssignmentID), strings.ToLower(i.d.DefinitionReferenceID)}
		for _, other := range []*item{names[i.d.Name], identities[who]} {
			if other != nil {
				other.fail(InvalidConstraint, "two requirements have the name %q or the same assignment and reference", i.d.Name)
				i.fail(InvalidConstraint, "two requirements have the name %q or the same assignment and reference", i.d.Name)
			}
		}
		names[i.d.Name], identities[who] = i, i
		items = append(items, i)
	}
	return items
}

func (i *item) check() {
	d := i.d
	if d.AssignmentID == "" || d.Name == "" {
		i.fail(InvalidConstraint, "the requirement %q has no name or no assignment", d.Name)
	}
	switch d.EnforcementAction {
	case integrityv1.Deny:
		if !strings.EqualFold(d.Effect, "Deny") {
			i.fail(InvalidConstraint, "the effect %q does not deny, but the action does", d.Effect)
		}
	case integrityv1.Warn, integrityv1.DryRun:
	default:
		i.fail(InvalidConstraint, "the action %q is not known; known: deny, warn, dryrun", d.EnforcementAction)
	}
	if problems := checkMatch(d.Match, d.ExcludedImages); problems != nil {
		i.fail(InvalidConstraint, "%v", problems)
	}
}

// checkMatch is what Boltseal's webhook would say of a policy.
func checkMatch(match integrityv1.Match, images []string) error {
	_, problems := integrity.Compile("demand", integrityv1.ImageIntegrityPolicySpec{Match: match, ExcludedImages: images})
	return joinProblems(problems)
}

// action is what the demand comes to where its exemptions are honoured: an
// exempt cluster reports, and neither denies nor warns.
func (i *item) action() integrityv1.EnforcementAction {
	if i.out.Exempt {
		return integrityv1.DryRun
	}
	return i.d.EnforcementAction
}

// exempt applies the exemptions, each as the engine's honour does.
func (i *item) exempt(honour func(*v1alpha1.BundleExemption) (RefusalReason, error)) {
	for n := range i.inForce {
		e := &i.inForce[n]
		var reason RefusalReason
		var err error
		switch w := e.Within; {
		case w == nil:
			i.out.Exempt = true
		case len(w.Namespaces)+len(w.Images)+len(w.Workloads) == 0:
			reason, err = EmptyWithin, errors.New("it names nothing to take out; leave within out for the whole cluster")
		default:
			if _, err = Exemption(e); err != nil {
				reason = InvalidExemption
			} else {
				reason, err = honour(e)
			}
		}
		if err != nil {
			i.out.Refused = append(i.out.Refused, Refusal{e.Name, reason, err.Error()})
			continue
		}
		i.out.Honoured = append(i.out.Honoured, e.Name)
	}
}

// Exemption is an exemption within a cluster as Boltseal's own engine reads it.
// The error says what cannot be read in it.
func Exemption(e *v1alpha1.BundleExemption) (integrityv1.Exemption, error) {
	out := integrityv1.Exemption{Name: e.Name, Category: integrityv1.ExemptionCategory(e.Category), Expires: e.ExpiresOn}
	if w := e.Within; w != nil {
		out.Namespaces, out.Images = w.Namespaces, w.Images
		for _, text := range w.Workloads {
			kind, name, _ := strings.Cut(text, "/")
			out.Workloads = append(out.Workloads, integrityv1.ExemptWorkload{Kind: kind, Name: name})
		}
	}
	_, problems := integrity.Compile("demand", integrityv1.ImageIntegrityPolicySpec{Exemptions: []integrityv1.Exemption{out}})
	for i := range problems {
		problems[i].Field = "within" + strings.TrimPrefix(problems[i].Field, "spec.exemptions[0]")
	}
	return out, joinProblems(problems)
}

func joinProblems(problems []integrity.Problem) error {
	var all []error
	for _, p := range problems {
		all = append(all, p)
	}
	return errors.Join(all...)
}

// maxNamespaces leaves room for those that are always excluded.
const maxNamespaces = integrity.MaxList - 10

// unionOf keeps the order of a and leaves out what is there already.
func unionOf(a, b []string) []string {
	out := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// policies renders for Boltseal's own webhook.
func (r *Result) policies(items []*item) error {
	for _, i := range items {
		if i.d.Template != "" {
			i.fail(InvalidConstraint, "the definition brings a ConstraintTemplate, which needs Gatekeeper; set the cluster's engine to Gatekeeper")
		}
		if i.out.Reason != "" {
			continue
		}
		var exemptions []integrityv1.Exemption
		i.exempt(func(e *v1alpha1.BundleExemption) (RefusalReason, error) {
			x, err := Exemption(e)
			if err == nil && len(exemptions) == integrity.MaxExemptions {
				return OverLimit, fmt.Errorf("the requirement has %d exemptions already", integrity.MaxExemptions)
			}
			exemptions = append(exemptions, x)
			return InvalidExemption, err
		})
		p := &integrityv1.ImageIntegrityPolicy{
			TypeMeta:   metav1.TypeMeta{APIVersion: integrityv1.GroupVersion.String(), Kind: integrityv1.KindImageIntegrityPolicy},
			ObjectMeta: i.meta(i.d.Name),
			Spec:       integrityv1.ImageIntegrityPolicySpec{Match: i.d.Match, ExcludedImages: i.d.ExcludedImages, EnforcementAction: i.action(), Exemptions: exemptions},
		}
		if err := r.add(i, p); err != nil {
			return err
		}
	}
	return nil
}

// meta is what constraints and policies have in common.
func (i *item) meta(name string) metav1.ObjectMeta {
	annotations := map[string]string{AnnotationAssignment: i.d.AssignmentID, AnnotationDefinition: i.d.DefinitionID}
	for k, v := range map[string]string{AnnotationReference: i.d.DefinitionReferenceID,
		AnnotationSetDefinition: i.d.SetDefinitionID, AnnotationMessage: i.d.Message} {
		if v != "" {
			annotations[k] = v
		}
	}
	return metav1.ObjectMeta{Name: name, Annotations: annotations,
		Labels: map[string]string{LabelManagedBy: ManagedByAddOn, LabelGovernance: ByGovernance}}
}

// add appends the object of a demand. Its status and creation time, which are
// the API server's, are left out.
func (r *Result) add(i *item, object any) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return fmt.Errorf("requirement %s: %w", i.d.Name, err)
	}
	u := &unstructured.Unstructured{Object: content}
	unstructured.RemoveNestedField(u.Object, "status")
	unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
	i.out.Kind, i.out.Name = u.GetKind(), u.GetName()
	r.Objects = append(r.Objects, u)
	return nil
}
