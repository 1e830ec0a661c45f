// Command manifests writes what Boltseal's Helm chart makes as plain manifests, for kubectl.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/boltseal/boltseal/e2e/render"
)

// What is written.
const (
	everything  = "boltseal.yaml"
	withoutCRDs = "boltseal-without-crds.yaml"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "manifests:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	fl := flag.NewFlagSet("manifests", flag.ContinueOnError)
	chart := fl.String("chart", "../charts/boltseal", "the chart's folder")
	out := fl.String("out", "../dist", "folder to write "+everything+" and "+withoutCRDs+" to")
	values := fl.String("values", "", "YAML file with values for the chart")
	namespace := fl.String("namespace", render.DefaultNamespace, "where Boltseal is to run")
	tag := fl.String("tag", "", "tag of the image in place of the chart's appVersion")
	if err := fl.Parse(args); err != nil {
		return err
	}
	if fl.NArg() > 0 {
		return errors.New("there are no arguments")
	}
	text, err := read(*values)
	if err != nil {
		return err
	}
	if *tag != "" {
		text += fmt.Sprintf("\nimage: {tag: %q}\n", *tag)
	}
	documents, err := manifests(*chart, *namespace, text)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return err
	}
	for name, content := range documents {
		if err := os.WriteFile(filepath.Join(*out, name), []byte(content), 0o644); err != nil {
			return err
		}
		fmt.Println(filepath.Join(*out, name))
	}
	return nil
}

func read(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	b, err := os.ReadFile(file)
	return string(b), err
}

// manifests are the files' contents by name.
func manifests(chart, namespace, values string) (map[string]string, error) {
	r, err := render.Render(render.Options{Chart: chart, Namespace: namespace, Values: values})
	if err != nil {
		return nil, err
	}
	// Hooks are Helm's: whoever uses kubectl applies the definitions with everything else.
	ns, err := render.Marshal(render.Namespace(namespace, render.Restricted()))
	if err != nil {
		return nil, err
	}
	// Nothing here is managed by Helm.
	objects := strings.ReplaceAll(r.Objects, "app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: kubectl")
	head := "# Boltseal, rendered from its Helm chart. Apply it with: kubectl apply --server-side -f FILE\n"
	return map[string]string{everything: head + ns + r.CRDs + objects, withoutCRDs: head + ns + objects}, nil
}
