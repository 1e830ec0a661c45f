package compile

import (
	"strconv"
	"strings"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/base/strict"
)

// olderVersion is that of Ratify before v1beta1, whose specs are the same but for the
// Policy's: its name was its type.
var olderVersion = v1beta1.GroupVersion.Group + "/v1alpha1"

// Documents are those of a text, in the form that documents have: the parts of a
// configuration of Ratify's command line are documents of their own, and those of
// namespaced kinds have a namespace where src gives one. The docs are there beside
// [strict.Problems], which say what of such a configuration is not read; any other
// error says that the text is no YAML. Warnings say what was made of what.
func Documents(src Source) (docs []strict.Node, warnings []strict.Problem, err error) {
	read, err := strict.Documents(src.Name, src.Data)
	if err != nil {
		return nil, nil, err
	}
	var problems strict.Problems
	for _, doc := range read {
		if !isCommandLine(doc) {
			docs = append(docs, inNamespace(doc, src.Namespace))
			continue
		}
		parts, warns, ps := ofCommandLine(doc)
		docs, warnings, problems = append(docs, parts...), append(warnings, warns...), append(problems, ps...)
	}
	if len(problems) > 0 {
		return docs, warnings, problems
	}
	return docs, warnings, nil
}

// newer returns a document of Ratify's older version in the newer one, with a warning
// that says so; others as they are.
func (s *Set) newer(doc strict.Node) strict.Node {
	if doc.Text("apiVersion") != olderVersion {
		return doc
	}
	w := doc.At("apiVersion", "%s is Ratify's older version: it is read as %s, which is what to write", olderVersion, v1beta1.GroupVersion)
	doc = doc.With("apiVersion", doc.Scalar(v1beta1.GroupVersion.String()))
	if strings.TrimPrefix(doc.Text("kind"), v1beta1.NamespacedPrefix) == v1beta1.KindPolicy {
		kind := doc.Text("metadata", "name")
		metadata, _ := doc.Get("metadata")
		spec, _ := doc.Get("spec")
		doc = doc.With("metadata", metadata.With("name", doc.Scalar(policyName))).With("spec", spec.With("type", doc.Scalar(kind)))
	}
	w.Object = objectOf(doc)
	s.warnings = append(s.warnings, w)
	return doc
}

// inNamespace gives a document of a namespaced kind a namespace where it names none.
func inNamespace(doc strict.Node, namespace string) strict.Node {
	if namespace == "" || !strings.HasPrefix(doc.Text("kind"), v1beta1.NamespacedPrefix) || doc.Text("metadata", "namespace") != "" {
		return doc
	}
	metadata, ok := doc.Get("metadata")
	if !ok || !metadata.IsMapping() {
		return doc
	}
	return doc.With("metadata", metadata.With("namespace", doc.Scalar(namespace)))
}

// Members of the configuration of Ratify's command line (config.json), which
// "ratify verify --config" takes.
const (
	memberStore    = "store"
	memberVerifier = "verifier"
	memberPolicy   = "policy"
	memberPlugins  = "plugins"
	memberPlugin   = "plugin"
)

// maxPlugins bounds the plugins of one kind, and the fields of one plugin.
const maxPlugins = 500

const commandLine = "the configuration of Ratify's command line"

func isCommandLine(doc strict.Node) bool {
	_, stores := doc.Get(memberStore, memberPlugins)
	_, verifiers := doc.Get(memberVerifier, memberPlugins)
	return (stores || verifiers) && doc.Text("apiVersion") == "" && doc.Text("kind") == ""
}

// ofCommandLine reads Ratify's config.json: each of its plugins is what a document
// makes of the same parameters. Whatever is neither read nor of no effect is a problem.
func ofCommandLine(doc strict.Node) (docs []strict.Node, warnings []strict.Problem, problems strict.Problems) {
	doc = doc.Named(commandLine)
	for _, m := range doc.Members() {
		switch m.Name {
		case memberStore, memberVerifier:
			problems = append(problems, onlyPlugins(m.Node, memberPlugins)...)
			list, _ := m.Node.Get(memberPlugins)
			kind := v1beta1.KindStore
			if m.Name == memberVerifier {
				kind = v1beta1.KindVerifier
			}
			for i, p := range list.Items() {
				if i == maxPlugins || len(p.Members()) > maxPlugins {
					problems = append(problems, p.Problem("more than %d plugins, or fields in one", maxPlugins))
					break
				}
				docs = append(docs, ofPlugin(kind, i, p))
			}
		case memberPolicy:
			problems = append(problems, onlyPlugins(m.Node, memberPlugin)...)
			if p, ok := m.Node.Get(memberPlugin); ok && len(p.Members()) <= maxPlugins {
				docs = append(docs, ofPlugin(v1beta1.KindPolicy, 0, p))
			}
		case "executor", "crl", "logger":
			warnings = append(warnings, m.Node.Problem("it has no effect: it belongs to Ratify's own program"))
		default:
			problems = append(problems, m.Node.Problem("unknown field in %s; known: store, verifier, policy", commandLine))
		}
	}
	warnings = append(warnings, doc.Problem("this is %s: its plugins are read as Store, Verifier and Policy. For a cluster, write them as documents of %s (docs/migrate-from-ratify.md)", commandLine, v1beta1.GroupVersion))
	return docs, warnings, problems
}

// onlyPlugins finds what a part of the configuration has besides its version and its
// plugins.
func onlyPlugins(n strict.Node, plugins string) (problems strict.Problems) {
	for _, m := range n.Members() {
		switch {
		case m.Name == "version", m.Name == plugins:
		case m.Name == "pluginBinDirs":
			problems = append(problems, m.Node.Problem("no plugins are run; leave it out"))
		default:
			problems = append(problems, m.Node.Problem("unknown field in %s; known here: version, %s", commandLine, plugins))
		}
	}
	return problems
}

// fields of a plugin that stand beside parameters in a document's spec.
var specOfPlugin = []string{"name", "type", "artifactTypes", "source", "address", "version"}

// ofPlugin makes a document of a plugin: its own fields, and the rest as parameters.
func ofPlugin(kind string, index int, plugin strict.Node) strict.Node {
	name := plugin.Text("name")
	spec, parameters := plugin.Empty(), plugin.Empty()
	for _, m := range plugin.Members() {
		into := &parameters
		for _, f := range specOfPlugin {
			if f == m.Name {
				into = &spec
			}
		}
		*into = into.And(m.Name, m.Node)
	}
	resource := strings.ToLower(kind) + "-" + strconv.Itoa(index+1)
	if kind == v1beta1.KindPolicy {
		spec, resource = plugin.Empty().With("type", plugin.Scalar(name)), policyName
	}
	if len(parameters.Members()) > 0 {
		spec = spec.With("parameters", parameters)
	}
	return plugin.Empty().With("apiVersion", plugin.Scalar(v1beta1.GroupVersion.String())).With("kind", plugin.Scalar(kind)).
		With("metadata", plugin.Empty().With("name", plugin.Scalar(resource))).With("spec", spec).Root()
}
