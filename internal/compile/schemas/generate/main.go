// Command generate puts the schemas of spec.parameters into the CustomResourceDefinitions, and writes the JSON schemas that editors read.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/boltseal/boltseal/internal/compile/schemas"
)

func main() {
	if err := writeSchemas(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func writeSchemas(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: generate FOLDER-OF-THE-MODULE FOLDER-OF-DEFINITIONS FOLDER-OF-JSON-SCHEMAS")
	}
	m, crds := schemas.New(args[0]), args[1]
	all, err := schemas.Definitions(crds)
	if err != nil {
		return err
	}
	for _, d := range all {
		text, err := m.Fill(d)
		if err != nil {
			return err
		}
		if err := os.WriteFile(d.File, text, 0o644); err != nil {
			return err
		}
	}
	if all, err = schemas.Definitions(crds); err != nil {
		return err
	}
	files, err := m.Files(all)
	if err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(args[2], name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
