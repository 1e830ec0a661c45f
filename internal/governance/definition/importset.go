package definition

import (
	"fmt"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/base/nearest"
)

func (r *report) importSet(n node, known []string) *v1alpha1.PolicySetDefinition {
	known = slices.Concat(known, commonNames, []string{"policyDefinitions", "policyDefinitionGroups"})
	r.members(n, known, map[string]string{"mode": "a definition has it, an initiative does not", "policyRule": "a definition has it, an initiative does not"})
	out := &v1alpha1.PolicySetDefinition{Spec: v1alpha1.PolicySetDefinitionSpec{
		DisplayName: r.text(n, "displayName", maxDisplayName), Description: r.text(n, "description", maxDescription),
		PolicyType: r.text(n, "policyType", maxVersion),
		Metadata:   r.metadata(n), Version: r.text(n, "version", maxVersion), Versions: r.texts(n, "versions", MaxObjects, maxVersion),
		Parameters: r.importParameters(n, MaxSetParameters),
	}}
	spec := &out.Spec
	if spec.Version == "" {
		spec.Version = spec.Metadata.Version
	}
	r.groups(n)
	defs, _ := n.get("policyDefinitions")
	if defs.kind != arrayKind || len(defs.items) > MaxReferences {
		r.at(defs, "must be a list of 1 to %d definitions, and is %s", MaxReferences, defs.what())
		return out
	}
	for _, d := range defs.items {
		if !r.members(d, []string{"policyDefinitionReferenceId", "policyDefinitionId", "definitionVersion", "effectiveDefinitionVersion", "latestDefinitionVersion", "parameters", "groupNames"}, nil) {
			continue
		}
		ref := v1alpha1.PolicyDefinitionReference{
			PolicyDefinitionReferenceID: r.text(d, "policyDefinitionReferenceId", maxRefID),
			PolicyDefinitionID:          r.text(d, "policyDefinitionId", maxID),
			DefinitionVersion:           r.text(d, "definitionVersion", maxVersion),
			GroupNames:                  r.texts(d, "groupNames", MaxReferences, maxRefID),
		}
		values := r.givenParameters(d)
		if len(values) > MaxSetParameters {
			r.at(d, "has more than %d parameters", MaxSetParameters)
			continue
		}
		if len(values) > 0 {
			ref.Parameters = make(map[string]v1alpha1.ParameterValue, len(values))
		}
		for _, m := range values {
			ref.Parameters[m.name] = v1alpha1.ParameterValue{Value: apiextensionsv1.JSON{Raw: m.value.appendJSON(nil)}}
		}
		spec.PolicyDefinitions = append(spec.PolicyDefinitions, ref)
	}
	if len(r.problems) == 0 {
		r.placed(n, func(at *report) { at.set(*spec) })
	}
	return out
}

// groups checks what is said about groups of definitions, which is for people.
func (r *report) groups(n node) {
	g, ok := n.get("policyDefinitionGroups")
	if !ok {
		return
	}
	if g.kind != arrayKind {
		r.at(g, "must be a list, and is %s", g.what())
	}
	for _, item := range g.items {
		r.members(item, []string{"name", "displayName", "description", "category", "additionalMetadataId"}, nil)
	}
}

// metadata reads what is known of the metadata. Azure lets people write there
// what they like, so the rest passes, unless it looks like a typing error.
func (r *report) metadata(n node) v1alpha1.DefinitionMetadata {
	m, ok := n.get("metadata")
	if !ok {
		return v1alpha1.DefinitionMetadata{}
	}
	r.free(m, []string{"version", "category", "preview", "deprecated"})
	return v1alpha1.DefinitionMetadata{
		Version: r.text(m, "version", maxVersion), Category: r.text(m, "category", maxRefID),
		Preview: r.boolean(m, "preview"), Deprecated: r.boolean(m, "deprecated"),
	}
}

func (r *report) free(m node, known []string) {
	if m.kind != objectKind {
		r.at(m, "must be an object, and is %s", m.what())
	}
	for _, x := range m.members {
		if h := nearest.Hint(x.name, known); h != "" && !containsFold(known, x.name) {
			r.at(x.value, "unknown field%s", h)
		}
	}
}

func (r *report) importParameters(n node, limit int) map[string]v1alpha1.Parameter {
	params, ok := n.get("parameters")
	if !ok {
		return nil
	}
	if params.kind != objectKind {
		r.at(params, "must be an object, and is %s", params.what())
		return nil
	}
	if len(params.members) > limit {
		r.at(params, "has more than %d parameters", limit)
		return nil
	}
	out := make(map[string]v1alpha1.Parameter, len(params.members))
	for _, m := range params.members {
		if !r.members(m.value, []string{"type", "metadata", "defaultValue", "allowedValues", "schema"}, nil) {
			continue
		}
		p := v1alpha1.Parameter{Type: r.text(m.value, "type", maxVersion)}
		if md, ok := m.value.get("metadata"); ok {
			r.free(md, []string{"displayName", "description", "portalReview", "strongType", "assignPermissions", "deprecated"})
			p.Metadata = v1alpha1.ParameterMetadata{DisplayName: r.text(md, "displayName", MaxValueBytes), Description: r.text(md, "description", MaxValueBytes)}
		}
		if v, ok := m.value.get("defaultValue"); ok {
			p.DefaultValue = &apiextensionsv1.JSON{Raw: v.appendJSON(nil)}
		}
		if v, ok := m.value.get("schema"); ok {
			p.Schema = &apiextensionsv1.JSON{Raw: v.appendJSON(nil)}
		}
		if v, ok := m.value.get("allowedValues"); ok {
			if v.kind != arrayKind {
				r.at(v, "must be a list, and is %s", v.what())
			}
			for _, item := range v.items {
				p.AllowedValues = append(p.AllowedValues, apiextensionsv1.JSON{Raw: item.appendJSON(nil)})
			}
		}
		out[m.name] = p
	}
	return out
}

// placed compiles, and gives each problem the line and the path that it has in
// the file.
func (r *report) placed(n node, compile func(*report)) {
	at := &report{object: r.object}
	compile(at)
	for _, p := range at.problems {
		if p.Line > 0 || p.Field == "" {
			r.add(p.Line, p.Field, p.Message)
			continue
		}
		path := p.Field
		if n.path != "" {
			path = n.path + "." + p.Field
		}
		r.add(n.lineOf(path), path, p.Message)
	}
}

// lineOf returns the line of the nearest value at or above a path.
func (n node) lineOf(path string) int {
	for _, m := range n.members {
		if pathWithin(path, m.value.path) {
			return m.value.lineOf(path)
		}
	}
	for _, item := range n.items {
		if pathWithin(path, item.path) {
			return item.lineOf(path)
		}
	}
	return n.line
}

// pathWithin tells whether a path is another, or below it.
func pathWithin(path, above string) bool {
	rest, ok := strings.CutPrefix(path, above)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// describe names the object in a message.
func (o Object) describe() string {
	if o.Set != nil {
		return fmt.Sprintf("%s %s", v1alpha1.KindPolicySetDefinition, o.Name())
	}
	return fmt.Sprintf("%s %s", v1alpha1.KindPolicyDefinition, o.Name())
}

// givenParameters are the values that an initiative hands to one of its definitions.
func (r *report) givenParameters(reference node) []member {
	params, ok := reference.get("parameters")
	if !ok {
		return nil
	}
	if params.kind != objectKind {
		r.at(params, "must be an object, and is %s", params.what())
	}
	var out []member
	for _, m := range params.members {
		if !r.members(m.value, []string{"value"}, map[string]string{"reference": "secrets are not read"}) {
			continue
		}
		v, ok := m.value.get("value")
		if !ok {
			r.at(m.value, "value is missing")
		}
		out = append(out, member{m.name, v})
	}
	return out
}
