package schemas

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/compile"
)

// draft is the version of JSON Schema that editors know best.
const draft = "http://json-schema.org/draft-07/schema#"

// All is the file with the schemas of all kinds together.
const All = "boltseal.json"

// machines are kinds that nobody writes by hand.
var machines = []string{v1alpha1.KindClusterBundle, v1alpha1.KindClusterReport}

// node is a part of a JSON schema.
type node = map[string]any

// Files are the JSON schemas for editors, by file name: one for each kind that people
// write, and All.
func (m *Maker) Files(all []Definition) (map[string][]byte, error) {
	out := map[string][]byte{}
	definitions, cases := node{}, []any{}
	for _, d := range all {
		kind, version := d.CRD.Spec.Names.Kind, d.CRD.Spec.Group+"/"+d.CRD.Spec.Versions[0].Name
		if slices.Contains(machines, kind) {
			continue
		}
		s, err := m.resource(d, version)
		if err != nil {
			return nil, err
		}
		definitions[kind] = s
		cases = append(cases, node{
			"if":   node{"properties": node{"apiVersion": node{"const": version}, "kind": node{"const": kind}}, "required": []any{"apiVersion", "kind"}},
			"then": node{"$ref": "#/definitions/" + kind},
		})
		file := maps.Clone(s)
		file["$schema"] = draft
		if out[strings.ToLower(kind)+".json"], err = encodeSchema(file); err != nil {
			return nil, err
		}
	}
	var err error
	out[All], err = encodeSchema(node{"$schema": draft, "title": "Boltseal", "description": "Resources of Boltseal and of Ratify; resources of other kinds pass.",
		"type": "object", "allOf": cases, "definitions": definitions})
	return out, err
}

// resource is the schema of a kind.
func (m *Maker) resource(d Definition, version string) (node, error) {
	raw, err := json.Marshal(d.CRD.Spec.Versions[0].Schema.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	var in apiextensionsv1.JSONSchemaProps
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, err
	}
	kind := d.CRD.Spec.Names.Kind
	s := plainSchema(in, false)
	s["title"] = kind
	properties, ok := s["properties"].(node)
	if !ok {
		return nil, fmt.Errorf("%s has no properties", kind)
	}
	properties["apiVersion"] = node{"const": version}
	properties["kind"] = node{"const": kind}
	properties["metadata"] = node{"type": "object"}
	if _, ok := properties["status"]; ok {
		properties["status"] = node{"type": "object", "description": "Boltseal writes it."}
	}
	required, _ := s["required"].([]any)
	s["required"] = append([]any{"apiVersion", "kind", "metadata"}, required...)
	if spec, ok := properties["spec"].(node); ok {
		cases, err := m.cases(d.base())
		if err != nil {
			return nil, err
		}
		if fields, ok := spec["properties"].(node); ok && len(cases) > 0 {
			spec["allOf"] = cases
			fields["parameters"] = node{"type": "object", "description": in.Properties["spec"].Properties["parameters"].Description}
		}
	}
	return s, nil
}

// cases are what spec.parameters may be for each type that a resource names: unknown
// fields are wrong here, so that an editor shows them.
func (m *Maker) cases(base string) (out []any, err error) {
	var fields []string // that name the type, any of them
	switch base {
	case v1beta1.KindStore:
		fields = []string{"name"}
	case v1beta1.KindVerifier:
		fields = []string{"type", "name"}
	case v1beta1.KindKeyManagementProvider:
		fields = []string{"type", "provider"}
	case v1beta1.KindCertificateStore:
		fields = []string{"provider"}
	case v1beta1.KindPolicy:
		fields = []string{"type"}
	}
	for _, t := range compile.ParameterTypes(base) {
		s, err := m.schema(t.Type)
		if err != nil {
			return nil, err
		}
		var named []any
		for _, f := range fields {
			named = append(named, node{"properties": node{f: node{"const": t.Name}}, "required": []any{f}})
		}
		out = append(out, node{"if": node{"anyOf": named}, "then": node{"properties": node{"parameters": plainSchema(s, true)}}})
	}
	return out, nil
}

// plainSchema is a schema of a CustomResourceDefinition as JSON Schema. Where strict is set,
// what is not named is wrong although the API server would keep it.
func plainSchema(s apiextensionsv1.JSONSchemaProps, strict bool) node {
	out := node{}
	put := func(name string, v any, there bool) {
		if there {
			out[name] = v
		}
	}
	keeps := s.XPreserveUnknownFields != nil && *s.XPreserveUnknownFields
	put("description", s.Description, s.Description != "")
	put("pattern", s.Pattern, s.Pattern != "")
	put("format", s.Format, s.Format == "date-time")
	put("minLength", s.MinLength, s.MinLength != nil)
	put("maxLength", s.MaxLength, s.MaxLength != nil)
	put("minimum", s.Minimum, s.Minimum != nil)
	put("maximum", s.Maximum, s.Maximum != nil)
	put("minItems", s.MinItems, s.MinItems != nil)
	put("maxItems", s.MaxItems, s.MaxItems != nil)
	put("maxProperties", s.MaxProperties, s.MaxProperties != nil)
	put("minProperties", s.MinProperties, s.MinProperties != nil)
	switch {
	case s.XIntOrString:
		out["type"] = []any{"integer", "string"}
	case s.Type != "" && s.Nullable:
		out["type"] = []any{s.Type, "null"}
	case s.Type != "":
		out["type"] = s.Type
	}
	if len(s.Enum) > 0 {
		values := []any{}
		for _, e := range s.Enum {
			values = append(values, json.RawMessage(e.Raw))
		}
		out["enum"] = values
	}
	if s.Default != nil {
		out["default"] = json.RawMessage(s.Default.Raw)
	}
	if len(s.Required) > 0 {
		required := []any{}
		for _, r := range s.Required {
			required = append(required, r)
		}
		out["required"] = required
	}
	if s.Items != nil && s.Items.Schema != nil {
		out["items"] = plainSchema(*s.Items.Schema, strict)
	}
	if len(s.Properties) > 0 {
		properties := node{}
		for name, p := range s.Properties {
			properties[name] = plainSchema(p, strict)
		}
		out["properties"] = properties
	}
	switch {
	case s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil:
		out["additionalProperties"] = plainSchema(*s.AdditionalProperties.Schema, strict)
	case s.Type == "object" && len(s.Properties) > 0 && (!keeps || strict):
		out["additionalProperties"] = false
	}
	return out
}
