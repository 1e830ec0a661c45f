// Package chart holds the CustomResourceDefinitions, as the Helm chart in this folder installs them.
package chart

import (
	"bytes"
	"embed"
	"io/fs"
)

//go:embed crds/*.yaml
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
