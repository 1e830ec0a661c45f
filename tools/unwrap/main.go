// Command unwrap joins the lines of descriptions in CustomResourceDefinitions, so that kubectl explain breaks them where
// the terminal ends and not where the source did.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"go.yaml.in/yaml/v3"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "unwrap:", err)
		os.Exit(1)
	}
}

func run(dirs []string) error {
	if len(dirs) != 1 {
		return errors.New("usage: unwrap DIR")
	}
	files, err := filepath.Glob(filepath.Join(dirs[0], "*.yaml"))
	if err != nil {
		return err
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		out, err := unwrap(data)
		if err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		if err := os.WriteFile(f, out, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func unwrap(data []byte) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	join(&doc)
	var out bytes.Buffer
	out.WriteString("---\n")
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return nil, err
	}
	return out.Bytes(), enc.Close()
}

// single is a line break that ends no paragraph and precedes no list item.
var single = regexp.MustCompile(`([^\n])\n([^\n\s*-])`)

func join(n *yaml.Node) {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if k, v := n.Content[i], n.Content[i+1]; k.Value == "description" && v.Kind == yaml.ScalarNode {
				v.Value, v.Style = single.ReplaceAllString(v.Value, "$1 $2"), 0
			}
		}
	}
	for _, c := range n.Content {
		join(c)
	}
}
