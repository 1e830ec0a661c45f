// Package chart holds the CustomResourceDefinitions and the ConstraintTemplate that lie in the Helm chart in this folder.
package chart

import (
	"bytes"
	"embed"
	"io/fs"
)

//go:embed crds/*.yaml gatekeeper/template.yaml
var files embed.FS

// CRDs returns all CustomResourceDefinitions as YAML documents.
func CRDs() ([]byte, error) {
	names, err := fs.Glob(files, "crds/*.yaml")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, n := range names {
		b, err := files.ReadFile(n)
		if err != nil {
			return nil, err
		}
		out.Write(b) // each begins with the separator
	}
	return out.Bytes(), nil
}

// GatekeeperTemplate returns Boltseal's own ConstraintTemplate as YAML.
func GatekeeperTemplate() ([]byte, error) { return files.ReadFile("gatekeeper/template.yaml") }
