package render

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	integrityv1 "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
)

const (
	templateGroup     = "templates.gatekeeper.sh"
	templateKind      = "ConstraintTemplate"
	constraintVersion = "constraints.gatekeeper.sh/v1beta1"
	gatekeeperSystem  = "gatekeeper-system"
	scoped            = "scoped"
	pointWebhook      = "validation.gatekeeper.sh"
	pointAudit        = "audit.gatekeeper.sh"
)

// constraint is a Gatekeeper constraint, with the parameters that definitions of
// image integrity have.
type constraint struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              constraintSpec `json:"spec"`
}

type constraintSpec struct {
	EnforcementAction string         `json:"enforcementAction"`
	Scoped            []scopedAction `json:"scopedEnforcementActions,omitempty"`
	Match             match          `json:"match"`
	Parameters        *parameters    `json:"parameters,omitempty"`
}

type scopedAction struct {
	Action string  `json:"action"`
	Points []point `json:"enforcementPoints"`
}

type point struct {
	Name string `json:"name"`
}

type match struct {
	Source             string                `json:"source,omitempty"`
	Kinds              []kinds               `json:"kinds"`
	Namespaces         []string              `json:"namespaces,omitempty"`
	ExcludedNamespaces []string              `json:"excludedNamespaces"`
	NamespaceSelector  *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	LabelSelector      *metav1.LabelSelector `json:"labelSelector,omitempty"`
}

type kinds struct {
	APIGroups []string `json:"apiGroups"`
	Kinds     []string `json:"kinds"`
}

type parameters struct {
	ExcludedImages []string `json:"excludedImages,omitempty"`
	// AllowTags is written where the template has it: no mutation is rendered that
	// would put digests in the place of tags.
	AllowTags bool `json:"allowTags,omitempty"`
}

// template is a ConstraintTemplate that was read.
type template struct {
	object *unstructured.Unstructured
	name   string
	kind   string
	images bool // it has a parameter excludedImages
	tags   bool // it has a parameter allowTags
}

// readTemplate reads one ConstraintTemplate in YAML, and keeps of its metadata
// the name and the annotations.
func readTemplate(text []byte) (*template, error) {
	if len(text) > MaxTemplateBytes {
		return nil, fmt.Errorf("the template has %d bytes, at most %d", len(text), MaxTemplateBytes)
	}
	if err := oneDocument(text); err != nil {
		return nil, err
	}
	b, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, fmt.Errorf("the template is not YAML: %w", err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(b); err != nil {
		return nil, fmt.Errorf("the template is not an object: %w", err)
	}
	if g := u.GroupVersionKind(); g.Group != templateGroup || g.Kind != templateKind {
		return nil, fmt.Errorf("the template is a %s %s, not a %s of %s", u.GetAPIVersion(), g.Kind, templateKind, templateGroup)
	}
	kind, _, err := unstructured.NestedString(u.Object, "spec", "crd", "spec", "names", "kind")
	switch {
	case err != nil || kind == "":
		return nil, errors.New("the template has no spec.crd.spec.names.kind")
	case u.GetName() != strings.ToLower(kind):
		return nil, fmt.Errorf("the template's name %q is not its kind %q in lower case", u.GetName(), kind)
	case len(validation.IsDNS1123Label(u.GetName())) > 0:
		return nil, fmt.Errorf("the template's name %q is not a name of an object", u.GetName())
	}
	schema, _, _ := unstructured.NestedMap(u.Object, "spec", "crd", "spec", "validation", "openAPIV3Schema", "properties")
	_, images := schema["excludedImages"]
	_, tags := schema["allowTags"]
	kept := &unstructured.Unstructured{Object: map[string]any{"spec": u.Object["spec"]}}
	kept.SetAPIVersion(u.GetAPIVersion())
	kept.SetKind(templateKind)
	kept.SetName(u.GetName())
	kept.SetAnnotations(u.GetAnnotations())
	return &template{object: kept, name: u.GetName(), kind: kind, images: images, tags: tags}, nil
}

// oneDocument refuses what stands behind a first document: it would be left out.
func oneDocument(text []byte) error {
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for n := 0; ; {
		b, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the template is not YAML: %w", err)
		}
		var content any
		if err := yaml.Unmarshal(b, &content); err != nil {
			return fmt.Errorf("the template is not YAML: %w", err)
		}
		if content != nil {
			n++
		}
		if n > 1 {
			return errors.New("the template has several YAML documents; write one")
		}
	}
}

func sameSource(a, b *template) bool {
	return reflect.DeepEqual(a.object.Object["spec"], b.object.Object["spec"])
}

// gatekeeper renders templates, then constraints.
func (r *Result) gatekeeper(in Input, items []*item) error {
	byName := map[string][]*item{}
	read := map[string]*template{} // by text, which most demands share
	for _, i := range items {
		text := in.OwnTemplate
		if i.d.Template != "" {
			text = []byte(i.d.Template)
		}
		t, err := read[string(text)], error(nil)
		if t == nil {
			t, err = readTemplate(text)
		}
		if err != nil && i.d.Template == "" {
			return fmt.Errorf("the ConstraintTemplate of Boltseal itself: %w", err)
		}
		if err != nil {
			r.keepAll = true
			i.fail(ConstraintTemplateInstallFailed, "%v", err)
			continue
		}
		i.template, read[string(text)] = t, t
		byName[t.name] = append(byName[t.name], i)
	}
	for _, name := range sortedKeys(byName) {
		if err := r.template(in, name, byName[name]); err != nil {
			return err
		}
	}
	for _, i := range items {
		if i.out.Reason != "" {
			if i.template != nil {
				r.keptTemplates[i.template.name] = true
			}
			continue
		}
		i.gatekeeperExempt()
		more, err := i.splitConstraints(in.Exempt)
		var c *constraint
		if err == nil {
			c, err = i.constraint(in.Exempt)
		}
		if err != nil {
			i.fail(InvalidConstraint, "%v", err)
			r.keptTemplates[i.template.name] = true
			continue
		}
		// Nothing is passed over before what looks at it instead is there.
		for _, m := range more {
			if err := r.add(i, m); err != nil {
				return err
			}
			i.out.More = append(i.out.More, m.Name)
		}
		if err := r.add(i, c); err != nil {
			return err
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// template adds the template of one name, unless its demands do not agree on
// it, or somebody else installed another.
func (r *Result) template(in Input, name string, of []*item) error {
	conflict := func(format string, a ...any) {
		for _, i := range of {
			i.fail(ConstraintTemplateConflicts, format, a...)
		}
	}
	first := of[0].template
	for _, i := range of[1:] {
		if !sameSource(first, i.template) {
			conflict("definitions bring different ConstraintTemplates of the name %s; what is installed is left as it is", name)
			return nil
		}
	}
	for n := range in.Installed {
		u := &in.Installed[n]
		if u.GetName() != name || Managed(u) {
			continue
		}
		same, err := coversSpec(u.Object["spec"], first.object.Object["spec"])
		if err != nil {
			return err
		}
		if !same {
			conflict("somebody else installed another ConstraintTemplate of the name %s, which is left as it is; remove it, or its difference", name)
		}
		return nil // theirs will do, and stays theirs
	}
	if !slices.ContainsFunc(of, func(i *item) bool { return i.out.Reason == "" }) {
		return nil
	}
	u := first.object.DeepCopy()
	annotations := u.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[AnnotationInstalledBy] = ManagedByAddOn
	var ids []string
	for _, i := range of {
		ids = append(ids, i.d.DefinitionID)
	}
	slices.Sort(ids)
	annotations[AnnotationDefinition] = strings.Join(slices.Compact(ids), ",")
	u.SetAnnotations(annotations)
	u.SetLabels(map[string]string{LabelGovernance: ByGovernance})
	r.Objects = append(r.Objects, u)
	return nil
}

// coversSpec reports whether an installed spec does what the wanted one does: the
// code is the same, and the rest is there, beside what an API server fills in.
func coversSpec(installed, wanted any) (bool, error) {
	var specs [2]templateSpec
	for n, v := range []any{installed, wanted} {
		b, err := json.Marshal(v)
		if err != nil {
			return false, err
		}
		if err := json.Unmarshal(b, &specs[n]); err != nil {
			return false, nil // what cannot be read is another
		}
	}
	return reflect.DeepEqual(specs[0].Targets, specs[1].Targets) && containsValue(specs[1].CRD, specs[0].CRD), nil
}

type templateSpec struct {
	CRD     any `json:"crd"`
	Targets any `json:"targets"`
}

// containsValue reports whether all of a is in b.
func containsValue(a, b any) bool {
	m, ok := a.(map[string]any)
	if !ok {
		return reflect.DeepEqual(a, b)
	}
	other, ok := b.(map[string]any)
	for k, v := range m {
		ok = ok && containsValue(v, other[k])
	}
	return ok
}

// constraint is the demand as Gatekeeper reads it.
func (i *item) constraint(exempt []string) (*constraint, error) {
	d := i.d
	switch d.Source {
	case "", "All", "Generated", "Original":
	default:
		return nil, fmt.Errorf("source %q is not known; known: All, Generated, Original", d.Source)
	}
	groups, err := groupsOf(d.Match.Kinds)
	if err != nil {
		return nil, err
	}
	if len(d.ExcludedImages) > 0 && !i.template.images {
		return nil, fmt.Errorf("the ConstraintTemplate %s has no parameter excludedImages", i.template.name)
	}
	c := &constraint{
		TypeMeta:   metav1.TypeMeta{APIVersion: constraintVersion, Kind: i.template.kind},
		ObjectMeta: i.meta(ConstraintName(i.template.name, d.AssignmentID, d.DefinitionReferenceID)),
		Spec: constraintSpec{
			EnforcementAction: string(i.action()),
			Match: match{Source: d.Source, Kinds: groups, Namespaces: d.Match.Namespaces,
				ExcludedNamespaces: unionOf(unionOf([]string{integrity.KubeSystem, gatekeeperSystem}, exempt), d.Match.ExcludedNamespaces),
				NamespaceSelector:  d.Match.NamespaceSelector, LabelSelector: d.Match.LabelSelector},
		},
	}
	if len(d.ExcludedImages) > 0 || i.template.tags {
		c.Spec.Parameters = &parameters{ExcludedImages: d.ExcludedImages, AllowTags: i.template.tags}
	}
	if i.action() == integrityv1.Warn {
		c.Spec.EnforcementAction = scoped
		c.Spec.Scoped = []scopedAction{
			{Action: string(integrityv1.Warn), Points: []point{{pointWebhook}}},
			{Action: string(integrityv1.DryRun), Points: []point{{pointAudit}}},
		}
	}
	return c, nil
}

// groupsOf are the kinds by API group. None means all that have containers.
func groupsOf(list []string) ([]kinds, error) {
	if len(list) == 0 {
		list = integrity.Kinds()
	}
	by := map[string][]string{}
	for _, k := range list {
		group, ok := map[string]string{"Pod": "", "PodTemplate": "", "ReplicationController": "", "CronJob": "batch", "Job": "batch",
			"DaemonSet": "apps", "Deployment": "apps", "ReplicaSet": "apps", "StatefulSet": "apps"}[k]
		if !ok {
			return nil, fmt.Errorf("kind %q has no containers", k)
		}
		by[group] = unionOf(by[group], []string{k})
	}
	var out []kinds
	for _, g := range sortedKeys(by) {
		slices.Sort(by[g])
		out = append(out, kinds{[]string{g}, by[g]})
	}
	return out, nil
}
