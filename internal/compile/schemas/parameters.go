// Package schemas makes the schemas of what resources have in spec.parameters, and those of all kinds that editors read, from what the decoder decodes into.
package schemas

import (
	"cmp"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/boltseal/boltseal/internal/compile"
)

const module = "github.com/boltseal/boltseal"

// Maker makes schemas. Its descriptions are the comments of the types' fields, which it
// reads from the module's source.
type Maker struct {
	root     string
	comments map[string]map[string]string // of a type's fields, and of itself by "", by PACKAGE.TYPE
	parsed   map[string]bool              // packages
}

// New makes a Maker for the module in a folder.
func New(root string) *Maker {
	return &Maker{root: root, comments: map[string]map[string]string{}, parsed: map[string]bool{}}
}

// Parameters is the schema of spec.parameters of a kind without its scope, nil where
// it has none: that of all types that the resource may name together, as one CRD has
// one. What is not in it is kept, and told in the status with the nearest right name.
func (m *Maker) Parameters(kind string) (*apiextensionsv1.JSONSchemaProps, error) {
	var all []variant
	for _, t := range compile.ParameterTypes(kind) {
		s, err := m.schema(t.Type)
		if err != nil {
			return nil, err
		}
		all = append(all, variant{[]string{t.Name}, s})
	}
	if len(all) == 0 {
		return nil, nil
	}
	out := mergeVariants(all)
	for name, p := range out.Properties {
		if len(all) == 1 {
			p.Description = all[0].of[0] + ": " + p.Description
		}
		out.Properties[name] = p
	}
	out.Nullable, out.Description = false, "" // as it was, and a parameters of null is none
	return &out, nil
}

// variant is a schema of some types.
type variant struct {
	of     []string
	schema apiextensionsv1.JSONSchemaProps
}

// mergeVariants is a schema that takes what any of the variants does, with descriptions
// that say whose each field is.
func mergeVariants(all []variant) apiextensionsv1.JSONSchemaProps {
	out := *all[0].schema.DeepCopy()
	out.Description = describeVariants(all)
	fields := map[string][]variant{}
	var items []variant
	for _, v := range all {
		switch s := v.schema; {
		case s.Type == "" || s.Type != out.Type, (s.AdditionalProperties == nil) != (out.AdditionalProperties == nil):
			return apiextensionsv1.JSONSchemaProps{Description: out.Description, XPreserveUnknownFields: pointerTo(true)}
		case s.Type == "array":
			items = append(items, variant{v.of, *s.Items.Schema})
		default:
			for name, p := range s.Properties {
				fields[name] = append(fields[name], variant{v.of, p})
			}
		}
	}
	if len(all) == 1 {
		return out
	}
	if len(items) > 0 {
		one := mergeVariants(items)
		out.Items = &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &one}
	}
	for name, vs := range fields {
		p := mergeVariants(vs)
		p.Description = describeVariants(vs)
		if out.Properties == nil {
			out.Properties = map[string]apiextensionsv1.JSONSchemaProps{}
		}
		out.Properties[name] = p
	}
	return out
}

// describeVariants are the descriptions of variants, each once, with whose it is.
func describeVariants(all []variant) string {
	var texts []string
	of := map[string][]string{}
	for _, v := range all {
		d := v.schema.Description
		if d == "" {
			continue
		}
		if of[d] == nil {
			texts = append(texts, d)
		}
		of[d] = append(of[d], v.of...)
	}
	for i, d := range texts {
		texts[i] = strings.Join(of[d], ", ") + ": " + d
	}
	return strings.Join(texts, " ")
}

func pointerTo[T any](v T) *T { return &v }

var (
	unmarshaler = reflect.TypeFor[json.Unmarshaler]()
	rawMessage  = reflect.TypeFor[json.RawMessage]()
)

// anySchema is kept, whatever it is.
func anySchema() apiextensionsv1.JSONSchemaProps {
	return apiextensionsv1.JSONSchemaProps{XPreserveUnknownFields: pointerTo(true)}
}

// schema is that of a type as the decoder reads it, which takes null for what is not
// there.
func (m *Maker) schema(t reflect.Type) (s apiextensionsv1.JSONSchemaProps, err error) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == rawMessage || reflect.PointerTo(t).Implements(unmarshaler) {
		return anySchema(), nil
	}
	s.Nullable = true
	switch t.Kind() {
	case reflect.Struct:
		s.Type, s.XPreserveUnknownFields = "object", pointerTo(true)
		s.Properties = map[string]apiextensionsv1.JSONSchemaProps{}
		if err := m.fields(t, s.Properties); err != nil {
			return s, err
		}
		comments, err := m.commentsOf(t)
		s.Description = comments[""]
		if name := t.Name(); !ast.IsExported(name) { // nobody who reads it knows that name
			s.Description = strings.Replace(s.Description, name, "They", 1)
		}
		return s, err
	case reflect.Map:
		s.Type = "object"
		value, err := m.schema(t.Elem())
		s.AdditionalProperties = &apiextensionsv1.JSONSchemaPropsOrBool{Allows: true, Schema: &value}
		return s, err
	case reflect.Slice:
		s.Type = "array"
		item, err := m.schema(t.Elem())
		s.Items = &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &item}
		return s, err
	case reflect.String:
		s.Type = "string"
	case reflect.Bool:
		s.Type = "boolean"
	case reflect.Int, reflect.Int32, reflect.Int64:
		s.Type = "integer"
	default:
		return s, fmt.Errorf("%s: no schema for a %s", t, t.Kind())
	}
	return s, nil
}

// fields adds the fields of a struct, with those of what it embeds.
func (m *Maker) fields(t reflect.Type, into map[string]apiextensionsv1.JSONSchemaProps) error {
	comments, err := m.commentsOf(t)
	if err != nil {
		return err
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			if err := m.fields(f.Type, into); err != nil {
				return err
			}
			continue
		case name == "-" || !f.IsExported():
			continue
		}
		s, err := m.field(t, f, name)
		if err != nil {
			return err
		}
		if s.Description = comments[f.Name]; s.Description == "" {
			return fmt.Errorf("%s.%s has no comment, which is its description", t, f.Name)
		}
		into[name] = s
	}
	return nil
}

// field is the schema of a field; what decodes itself has one of its own here.
func (m *Maker) field(t reflect.Type, f reflect.StructField, name string) (s apiextensionsv1.JSONSchemaProps, err error) {
	switch {
	case f.Type == rawMessage && name == "authProvider":
		return m.authProvider()
	case f.Type == reflect.TypeFor[[]json.RawMessage]() && name == "authProviders":
		one, err := m.authProvider()
		return apiextensionsv1.JSONSchemaProps{Type: "array", Nullable: true, Items: &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &one}}, err
	case f.Type == rawMessage && name == "verificationCertStores":
		return apiextensionsv1.JSONSchemaProps{Type: "object", Nullable: true, XPreserveUnknownFields: pointerTo(true)}, nil
	case f.Type == rawMessage && name == "certificates": // a list, or older forms, one of them a text
		return anySchema(), nil
	case f.Type == rawMessage || f.Type.Kind() == reflect.Slice && f.Type.Elem() == rawMessage:
		return s, fmt.Errorf("%s.%s decodes itself: say here in which shape", t, f.Name)
	}
	return m.schema(f.Type)
}

// authProvider is the schema of all auth providers together.
func (m *Maker) authProvider() (apiextensionsv1.JSONSchemaProps, error) {
	var all []variant
	for _, t := range compile.AuthProviderTypes() {
		s, err := m.schema(t.Type)
		if err != nil {
			return s, err
		}
		if t.Type.NumField() > 1 {
			delete(s.Properties, "name") // of all alike, and told once
		}
		all = append(all, variant{[]string{t.Name}, s})
	}
	out := mergeVariants(all)
	out.Description = "What there is beside name depends on it."
	var names []string
	for _, t := range compile.AuthProviderTypes() {
		names = append(names, t.Name)
	}
	out.Properties["name"] = apiextensionsv1.JSONSchemaProps{Type: "string", Nullable: true, Description: "Name is which auth provider it is: " + strings.Join(names, ", ") + "."}
	return out, nil
}

// commentsOf are the comments of a type's fields.
func (m *Maker) commentsOf(t reflect.Type) (map[string]string, error) {
	if !m.parsed[t.PkgPath()] {
		if err := m.parse(t.PkgPath()); err != nil {
			return nil, err
		}
		m.parsed[t.PkgPath()] = true
	}
	return m.comments[t.PkgPath()+"."+t.Name()], nil
}

// parse reads the comments of all struct types of a package of the module.
func (m *Maker) parse(path string) error {
	rel, ok := strings.CutPrefix(path, module+"/")
	if !ok {
		return fmt.Errorf("%s is not of this module", path)
	}
	files, err := filepath.Glob(filepath.Join(m.root, filepath.FromSlash(rel), "*.go"))
	if err != nil || len(files) == 0 {
		return cmp.Or(err, fs.ErrNotExist)
	}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		doc := ""
		ast.Inspect(f, func(n ast.Node) bool {
			if d, ok := n.(*ast.GenDecl); ok {
				doc = d.Doc.Text()
			}
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			s, ok := spec.Type.(*ast.StructType)
			if !ok {
				return false
			}
			of := map[string]string{"": strings.Join(strings.Fields(doc), " ")}
			for _, field := range s.Fields.List {
				text := strings.Join(strings.Fields(field.Doc.Text()), " ")
				for _, name := range field.Names {
					of[name.Name] = text
				}
			}
			m.comments[path+"."+spec.Name.Name] = of
			return false
		})
	}
	return nil
}
