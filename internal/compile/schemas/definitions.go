package schemas

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/boltseal/boltseal/api/config/v1beta1"
)

// Definition is a file with one CustomResourceDefinition.
type Definition struct {
	File string
	Text []byte
	CRD  apiextensionsv1.CustomResourceDefinition
}

// Definitions reads the files with definitions in a folder.
func Definitions(dir string) (out []Definition, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		d := Definition{File: file}
		if d.Text, err = os.ReadFile(file); err != nil {
			return nil, err
		}
		if err := sigsyaml.UnmarshalStrict(d.Text, &d.CRD); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if len(d.CRD.Spec.Versions) != 1 {
			return nil, fmt.Errorf("%s has %d versions: its schemas are made for one", file, len(d.CRD.Spec.Versions))
		}
		out = append(out, d)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s has no definitions", dir)
	}
	return out, nil
}

// base is the kind without its scope.
func (d Definition) base() string {
	if d.CRD.Spec.Group != v1beta1.GroupVersion.Group {
		return ""
	}
	return strings.TrimPrefix(d.CRD.Spec.Names.Kind, v1beta1.NamespacedPrefix)
}

// Fill returns the text of a definition with the schema of its spec.parameters; that
// of a kind without parameters as it is.
func (m *Maker) Fill(d Definition) ([]byte, error) {
	s, err := m.Parameters(d.base())
	if err != nil || s == nil {
		return d.Text, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(d.Text, &doc); err != nil {
		return nil, err
	}
	at := &doc
	for _, name := range []string{"spec", "versions", "schema", "openAPIV3Schema", "properties", "spec", "properties", "parameters"} {
		if at = yamlMember(at, name); at == nil {
			return nil, fmt.Errorf("%s has no %s", d.File, name)
		}
	}
	if old := yamlMember(at, "description"); old != nil {
		s.Description = old.Value
	}
	b, err := sigsyaml.Marshal(s)
	if err != nil {
		return nil, err
	}
	var filled yaml.Node
	if err := yaml.Unmarshal(b, &filled); err != nil {
		return nil, err
	}
	*at = *filled.Content[0]
	var out bytes.Buffer
	out.WriteString("---\n")
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	err = errors.Join(enc.Encode(&doc), enc.Close())
	return out.Bytes(), err
}

// yamlMember is a member of a mapping, of the first item of a list, or of a document's
// content.
func yamlMember(n *yaml.Node, name string) *yaml.Node {
	if n.Kind == yaml.DocumentNode || n.Kind == yaml.SequenceNode {
		if len(n.Content) != 1 {
			return nil
		}
		n = n.Content[0]
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

// encodeSchema writes a schema as a file has it.
func encodeSchema(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return b.Bytes(), err
}
