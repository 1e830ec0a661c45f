// Command manifests writes what Boltseal's Helm chart makes as plain manifests, for kubectl.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

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
	m, err := render.Plain(render.Options{Chart: *chart, Namespace: *namespace, Values: []string{text, fmt.Sprintf("image: {tag: %q}", *tag)}})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return err
	}
	for name, content := range map[string]string{everything: m.Everything, withoutCRDs: m.WithoutCRDs} {
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
