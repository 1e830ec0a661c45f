package definition

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// ImageIntegrityURL is where Azure keeps the ConstraintTemplate of image
// integrity. Nothing is fetched from it: a definition that names it is rendered
// with Boltseal's own template, which has the same name and meaning.
const ImageIntegrityURL = "https://store.policy.core.windows.net/kubernetes/image-integrity-notation-verification/v1/template.yaml"

// ImageIntegrityTemplate is the name of the ConstraintTemplate of image integrity.
const ImageIntegrityTemplate = "k8sazurev1notationverification"

// The values of templateInfo.sourceType. Of PublicURL only ImageIntegrityURL is
// known.
const (
	sourceBuiltIn = "BuiltIn" // Boltseal's own template, by name
	sourceURL     = "PublicURL"
	sourceBase64  = "Base64Encoded"
)

// Template is the ConstraintTemplate of a definition.
type Template struct {
	// Name of the ConstraintTemplate.
	Name string
	// URL that the definition names it by, "" where it does not.
	URL string
	// Content is the ConstraintTemplate as YAML or JSON; nil means Boltseal's own
	// template of image integrity.
	Content []byte
}

// BuiltIn tells whether the template is Boltseal's own of image integrity.
func (t Template) BuiltIn() bool { return t.Content == nil }

// Match is what a definition looks at in a cluster.
type Match struct {
	APIGroups          []string // "" is the core group
	Kinds              []string
	Namespaces         []string // a * at either end stands for anything; empty = all
	ExcludedNamespaces []string
	LabelSelector      *metav1.LabelSelector // nil = all
}

// kubernetes are the details of a definition of mode Microsoft.Kubernetes.Data.
type kubernetes struct {
	template           Template
	apiGroups, kinds   []string
	source             setting[string]
	warn               setting[bool]
	namespaces         setting[[]string]
	excludedNamespaces setting[[]string]
	labelSelector      setting[*metav1.LabelSelector]
	excludedImages     setting[[]string]
}

// setting is a detail whose value may be an expression. The zero setting is one
// that the definition does not have.
type setting[T any] struct {
	template template
	read     func(node) (T, error)
	set      bool
}

// compileSetting compiles a detail: the type must fit, and the value too, as far as it
// is known before an assignment.
func compileSetting[T any](r *report, n node, name string, s scope, want Type, read func(node) (T, error)) setting[T] {
	v, ok := n.get(name)
	if !ok {
		return setting[T]{}
	}
	before := len(r.problems)
	out := setting[T]{template: r.compileTemplate(v, s), read: read, set: true}
	if len(r.problems) > before {
		return out
	}
	if t := out.template.typ; t != want && t != anyType {
		r.at(v, "must be of type %s, and is of type %s", want, t)
		return out
	}
	known := values{parameters: map[string]node{}, cluster: ClusterFields{Name: "cluster", ResourceGroup: "group", Location: "location"}}
	for name := range out.template.used {
		if s.parameters[name].fallback == nil {
			return out
		}
		known.parameters[name] = *s.parameters[name].fallback
	}
	bindSetting(r, out, known)
	return out
}

func bindSetting[T any](r *report, s setting[T], v values) (out T) {
	if !s.set {
		return out
	}
	n, err := v.template(s.template)
	if err == nil {
		out, err = s.read(n)
	}
	if err != nil {
		r.at(s.template.node, "%v", err)
	}
	return out
}

var kubernetesNotSupported = map[string]string{
	"constraintInfo":     "constraints are made from the other details",
	"constraint":         "it is of an old format; constraints are made from templateInfo and the other details",
	"constraintTemplate": "it is of an old format; say templateInfo",
	"mutationInfo":       "nothing is mutated",
	"scope":              "what is checked is narrowed by kinds and namespaces",
}

func (r *report) kubernetes(details node, s scope) *kubernetes {
	if !r.members(details, []string{"source", "warn", "templateInfo", "apiGroups", "kinds", "namespaces", "excludedNamespaces", "labelSelector", "values"}, kubernetesNotSupported) {
		return nil
	}
	k := &kubernetes{
		template:           r.templateInfo(details),
		apiGroups:          r.fixedList(details, "apiGroups"),
		kinds:              r.fixedList(details, "kinds"),
		source:             compileSetting(r, details, "source", s, TypeString, readSource),
		warn:               compileSetting(r, details, "warn", s, TypeBoolean, readBoolean),
		namespaces:         compileSetting(r, details, "namespaces", s, TypeArray, readNamespaces),
		excludedNamespaces: compileSetting(r, details, "excludedNamespaces", s, TypeArray, readNamespaces),
		labelSelector:      compileSetting(r, details, "labelSelector", s, TypeObject, readSelector),
	}
	if v, ok := details.get("values"); ok && r.members(v, []string{"excludedImages"}, nil) {
		k.excludedImages = compileSetting(r, v, "excludedImages", s, TypeArray, readImages)
	}
	if k.template.BuiltIn() && (!slices.Equal(k.apiGroups, []string{""}) || !slices.Equal(k.kinds, []string{"Pod"})) {
		r.at(details, `apiGroups must be [""] and kinds ["Pod"]: the images of pods are verified, and of nothing else`)
	}
	return k
}

// fixedList reads apiGroups and kinds, which no parameter sets.
func (r *report) fixedList(details node, name string) []string {
	v, ok := details.get(name)
	if !ok {
		r.add(details.line, joinPath(details.path, name), "is missing")
		return nil
	}
	out, err := readTexts(v)
	switch {
	case err != nil:
		r.at(v, "%v", err)
	case len(out) == 0:
		r.at(v, "must not be empty")
	case slices.Contains(out, "*"):
		r.at(v, "* is not allowed; list what is meant")
	}
	for i, s := range out {
		if _, isExpr := innerExpression(s); isExpr {
			r.at(v.items[i], "%v", errNoExpression)
		}
	}
	return out
}

func (r *report) templateInfo(details node) Template {
	info, ok := details.get("templateInfo")
	if !ok {
		r.add(details.line, joinPath(details.path, "templateInfo"), "is missing")
		return Template{}
	}
	if !r.members(info, []string{"sourceType", "url", "content", "name"}, nil) {
		return Template{}
	}
	source, _ := info.get("sourceType")
	needs := map[string]string{sourceURL: "url", sourceBase64: "content", sourceBuiltIn: "name"}
	want, ok := needs[source.text]
	if !ok {
		r.at(info, "sourceType must be %s, %s or %s, and is %s", sourceURL, sourceBase64, sourceBuiltIn, source.what())
		return Template{}
	}
	for _, name := range []string{"url", "content", "name"} {
		v, has := info.get(name)
		switch {
		case has && name != want:
			r.at(v, "does not go with the sourceType %s", source.text)
		case name == want && v.kind != stringKind:
			r.at(info, "the sourceType %s needs %s, a text", source.text, want)
			return Template{}
		}
	}
	value, _ := info.get(want)
	switch source.text {
	case sourceBase64:
		t, err := readTemplate(value.text)
		if err != nil {
			r.at(value, "%v", err)
		}
		return t
	case sourceBuiltIn:
		if value.text != "image-integrity" {
			r.at(value, `the only template of Boltseal's own is "image-integrity"`)
		}
		return Template{Name: ImageIntegrityTemplate}
	}
	if value.text != ImageIntegrityURL {
		r.at(value, "nothing is fetched from the network, and the only template known by its URL is %s; put the template itself here as sourceType %s", ImageIntegrityURL, sourceBase64)
	}
	return Template{Name: ImageIntegrityTemplate, URL: value.text}
}

var templateName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// readTemplate decodes a ConstraintTemplate, as far as is needed to install it
// under its name.
func readTemplate(encoded string) (Template, error) {
	content, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return Template{}, fmt.Errorf("is not base64: %w", err)
	}
	var t struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name string `json:"name"`
		} `json:"metadata"`
		Spec struct {
			CRD struct {
				Spec struct {
					Names struct {
						Kind string `json:"kind"`
					} `json:"names"`
				} `json:"spec"`
			} `json:"crd"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(content, &t); err != nil {
		return Template{}, fmt.Errorf("is not YAML inside: %s", truncateText(err.Error()))
	}
	switch {
	case t.Kind != "ConstraintTemplate" || !strings.HasPrefix(t.APIVersion, "templates.gatekeeper.sh/"):
		return Template{}, fmt.Errorf("must contain a ConstraintTemplate of templates.gatekeeper.sh, and contains kind %q of %q", truncateText(t.Kind), truncateText(t.APIVersion))
	case !templateName.MatchString(t.Metadata.Name):
		return Template{}, fmt.Errorf("the ConstraintTemplate's name %q is not one of at most 63 small letters, digits and -", truncateText(t.Metadata.Name))
	case !strings.EqualFold(t.Spec.CRD.Spec.Names.Kind, t.Metadata.Name):
		return Template{}, fmt.Errorf("the ConstraintTemplate's name %q must be its kind %q in small letters", truncateText(t.Metadata.Name), truncateText(t.Spec.CRD.Spec.Names.Kind))
	}
	return Template{Name: t.Metadata.Name, Content: content}, nil
}
