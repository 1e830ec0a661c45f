package definition

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/base/strict"
)

// AnnotationID has the resource ID that an imported definition or initiative has
// in Azure.
const AnnotationID = "boltseal.dev/azure-resource-id"

// Object is a definition or an initiative: one of the two is set.
type Object struct {
	Definition *v1alpha1.PolicyDefinition
	Set        *v1alpha1.PolicySetDefinition
}

// Name is the object's name in Kubernetes.
func (o Object) Name() string {
	switch {
	case o.Definition != nil:
		return o.Definition.Name
	case o.Set != nil:
		return o.Set.Name
	}
	return ""
}

const (
	definitionType = "Microsoft.Authorization/policyDefinitions"
	setType        = "Microsoft.Authorization/policySetDefinitions"
)

// Import decodes Azure Policy's JSON as it is published or as az shows it: a
// definition or an initiative, in its envelope (properties, id, name) or bare, or
// a list of them. A name, where one is given, is the object's, whatever the file
// says; it is needed where the file says none, and does not go with several. The
// error is strict.Problems, with line and path, of all that is not JSON, not
// known, not supported or over a limit; the objects were compiled, so they can be
// assigned.
func Import(name string, data []byte) ([]Object, error) {
	r := &report{}
	if len(data) > MaxBytes {
		r.add(0, "", fmt.Sprintf("the file is longer than %d bytes", MaxBytes))
		return nil, r.err()
	}
	root, err := decodeNode(data, "", true)
	if err != nil {
		return nil, err
	}
	items := []node{root}
	if root.kind == arrayKind {
		if items = root.items; len(items) == 0 || len(items) > MaxObjects {
			r.at(root, "the list must have 1 to %d definitions, and has %d", MaxObjects, len(items))
			return nil, r.err()
		}
		if name != "" && len(items) > 1 {
			r.at(root, "the list has %d definitions, which cannot all be named %q; leave the name out", len(items), truncateText(name))
			return nil, r.err()
		}
	}
	out := make([]Object, 0, len(items))
	seen := map[string]bool{}
	for _, item := range items {
		one := &report{}
		o := one.importObject(item, name)
		r.problems = append(r.problems, one.problems...)
		if len(one.problems) > 0 {
			continue
		}
		key := o.Name()
		if o.Set != nil {
			key = "set/" + key
		}
		if seen[key] {
			r.at(item, "a second definition or initiative is named %q", o.Name())
		}
		seen[key] = true
		out = append(out, o)
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	return out, nil
}

var (
	envelopeNames = []string{"properties", "id", "name", "type", "systemData"}
	commonNames   = []string{"displayName", "description", "policyType", "metadata", "version", "versions", "parameters"}
)

// importObject reads one definition or initiative.
func (r *report) importObject(n node, name string) Object {
	props, enveloped := n.get("properties")
	if n.kind != objectKind {
		r.at(n, "a definition must be an object, and is %s", n.what())
		return Object{}
	}
	known := []string{"id", "name", "type", "systemData"}
	if enveloped {
		r.members(n, envelopeNames, nil)
	} else {
		props = n
	}
	_, isRule := props.get("policyRule")
	_, isSet := props.get("policyDefinitions")
	if enveloped {
		known = nil
	}
	if isRule == isSet {
		r.at(props, "must have either policyRule, as a definition does, or policyDefinitions, as an initiative does")
		return Object{}
	}
	id, called := r.text(n, "id", maxID), r.text(n, "name", maxID)
	want := definitionType
	if isSet {
		want = setType
	}
	if t := r.text(n, "type", maxID); t != "" && !strings.EqualFold(t, want) {
		v, _ := n.get("type")
		r.at(v, "must be %s, and is %s", want, v.what())
	}
	o := Object{}
	r.object = strict.Object{Kind: v1alpha1.KindPolicyDefinition, Name: called}
	if isSet {
		r.object.Kind = v1alpha1.KindPolicySetDefinition
		o.Set = r.importSet(props, known)
	} else {
		o.Definition = r.importDefinition(props, known)
	}
	r.identify(n, &o, name, called, id)
	return o
}

var resourceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)

// identify names the object: as told, as the file says, or by the end of its ID.
func (r *report) identify(n node, o *Object, name, called, id string) {
	if name == "" {
		name = called
	}
	if name == "" {
		name = id[strings.LastIndexByte(id, '/')+1:]
	}
	small := strings.ToLower(name)
	switch {
	case name == "":
		r.at(n, "the file has no name; give one with --name")
		return
	case !resourceName.MatchString(small) || len(small) > 253 || strings.Contains(small, ".."):
		r.at(n, "the name %q cannot be that of an object in Kubernetes, which has small letters, digits, - and . only; give one with --name", truncateText(name))
		return
	}
	annotations := map[string]string{}
	if id != "" {
		annotations[AnnotationID] = id
	}
	version := v1alpha1.GroupVersion.String()
	if o.Definition != nil {
		o.Definition.APIVersion, o.Definition.Kind, o.Definition.Name, o.Definition.Annotations = version, v1alpha1.KindPolicyDefinition, small, annotations
	} else if o.Set != nil {
		o.Set.APIVersion, o.Set.Kind, o.Set.Name, o.Set.Annotations = version, v1alpha1.KindPolicySetDefinition, small, annotations
	}
}

func (r *report) importDefinition(n node, known []string) *v1alpha1.PolicyDefinition {
	known = slices.Concat(known, commonNames, []string{"mode", "policyRule"})
	reasons := map[string]string{"externalEvaluationEnforcementSettings": "nothing outside the cluster is asked", "policyDefinitions": "an initiative has it, a definition does not"}
	r.members(n, known, reasons)
	out := &v1alpha1.PolicyDefinition{Spec: v1alpha1.PolicyDefinitionSpec{
		DisplayName: r.text(n, "displayName", maxDisplayName), Description: r.text(n, "description", maxDescription),
		PolicyType: r.text(n, "policyType", maxVersion), Mode: r.text(n, "mode", maxVersion),
		Metadata: r.metadata(n), Version: r.text(n, "version", maxVersion), Versions: r.texts(n, "versions", MaxObjects, maxVersion),
	}}
	spec := &out.Spec
	if spec.Version == "" {
		spec.Version = spec.Metadata.Version
	}
	if spec.Mode == "" && !slices.Contains(memberNames(n), "mode") {
		r.add(n.line, joinPath(n.path, "mode"), fmt.Sprintf("is missing; supported are %s and %s", ModeKubernetes, ModeIndexed))
		return out
	}
	spec.Parameters = r.importParameters(n, MaxParameters)
	rule, _ := n.get("policyRule")
	spec.PolicyRule = apiextensionsv1.JSON{Raw: rule.appendJSON(nil)}
	if len(spec.PolicyRule.Raw) > MaxRuleBytes {
		r.at(rule, "is longer than %d bytes", MaxRuleBytes)
	}
	r.placed(n, func(at *report) { at.definition(*spec, rule) })
	return out
}
