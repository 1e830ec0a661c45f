package addon

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	configv1 "github.com/boltseal/boltseal/api/config/v1beta1"
	integrityv1 "github.com/boltseal/boltseal/api/integrity/v1alpha1"
)

// Limits on manifests.
const (
	MaxManifests = 8 << 20 // bytes
	MaxObjects   = 500
)

// Set is what an add-on consists of.
type Set struct {
	// Version of the add-on; objects of another version that are not in this one are
	// removed when this one is installed.
	Version string
	// Objects in the order in which they are installed. Those in a namespace name it.
	// CustomResourceDefinitions and Namespaces stay when the add-on is removed, unless
	// it is purged: users' own things are in them.
	Objects []*unstructured.Unstructured
	// Configuration are the kinds of which a purge removes every object.
	Configuration []schema.GroupVersionResource
}

// Configuration are the kinds in which users configure Boltseal.
func Configuration() []schema.GroupVersionResource {
	var out []schema.GroupVersionResource
	for _, r := range []string{"policies", "verifiers", "stores", "keymanagementproviders", "certificatestores",
		"namespacedpolicies", "namespacedverifiers", "namespacedstores", "namespacedkeymanagementproviders"} {
		out = append(out, configv1.GroupVersion.WithResource(r))
	}
	for _, r := range []string{"imageintegritypolicies", "namespacedimageintegritypolicies"} {
		out = append(out, integrityv1.GroupVersion.WithResource(r))
	}
	return out
}

// Parse reads a set from manifests in YAML, such as those of `make manifests`, in
// their order but for CustomResourceDefinitions and Namespaces, which come first.
// Each of replace stands in values as ${NAME}; one that is named and is not given
// is an error.
func Parse(manifests []byte, version string, replace map[string]string) (Set, error) {
	s := Set{Version: version, Configuration: Configuration()}
	if len(manifests) > MaxManifests {
		return Set{}, fmt.Errorf("the add-on's manifests have %d bytes, at most %d", len(manifests), MaxManifests)
	}
	var first, rest []*unstructured.Unstructured
	seen := map[string]bool{}
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifests)))
	for n := 1; ; n++ {
		doc, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		u := &unstructured.Unstructured{}
		if err == nil {
			err = yaml.Unmarshal(doc, &u.Object)
		}
		if err != nil {
			return Set{}, fmt.Errorf("document %d of the add-on's manifests: %w", n, err)
		}
		if len(u.Object) == 0 {
			continue
		}
		if u.GetKind() == "" || u.GetAPIVersion() == "" || u.GetName() == "" {
			return Set{}, fmt.Errorf("document %d of the add-on's manifests lacks kind, apiVersion or metadata.name", n)
		}
		filled, err := fillValues(u.Object, replace)
		if err != nil {
			return Set{}, fmt.Errorf("%s %s of the add-on's manifests: %w", u.GetKind(), u.GetName(), err)
		}
		u.Object, _ = filled.(map[string]any)
		if k := itemOf(u).key(); seen[k] {
			return Set{}, fmt.Errorf("%s %s is twice in the add-on's manifests", u.GetKind(), u.GetName())
		} else {
			seen[k] = true
		}
		if holdsUserData(u.GetKind()) {
			first = append(first, u)
		} else {
			rest = append(rest, u)
		}
	}
	s.Objects = append(first, rest...)
	if len(s.Objects) > MaxObjects {
		return Set{}, fmt.Errorf("the add-on's manifests have %d objects, at most %d", len(s.Objects), MaxObjects)
	}
	return s, nil
}

// fillValues puts values in place of ${NAME}, in texts only: no value becomes anything
// but a text.
func fillValues(in any, replace map[string]string) (any, error) {
	switch v := in.(type) {
	case map[string]any:
		for k, one := range v {
			out, err := fillValues(one, replace)
			if err != nil {
				return nil, err
			}
			v[k] = out
		}
	case []any:
		for i, one := range v {
			out, err := fillValues(one, replace)
			if err != nil {
				return nil, err
			}
			v[i] = out
		}
	case string:
		return expandText(v, replace)
	}
	return in, nil
}

func expandText(s string, replace map[string]string) (string, error) {
	var out strings.Builder
	for {
		before, after, ok := strings.Cut(s, "${")
		out.WriteString(before)
		if !ok {
			return out.String(), nil
		}
		name, rest, ok := strings.Cut(after, "}")
		value, known := replace[name]
		switch {
		case !ok || replace == nil:
			out.WriteString("${")
			s = after
			continue
		case !known:
			return "", fmt.Errorf("nothing is given for ${%s}", name)
		}
		out.WriteString(value)
		s = rest
	}
}

// holdsUserData tells whether users' own things go with an object of that kind.
func holdsUserData(kind string) bool {
	return kind == "CustomResourceDefinition" || kind == "Namespace"
}

// item names an object of the inventory.
type item struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
}

func itemOf(u *unstructured.Unstructured) item {
	return item{u.GetAPIVersion(), u.GetKind(), u.GetNamespace(), u.GetName()}
}

// key is the same for an object in two versions of its API.
func (i item) key() string {
	return strings.Join([]string{i.gvk().Group, i.Kind, i.Namespace, i.Name}, "/")
}

func (i item) gvk() schema.GroupVersionKind {
	return schema.FromAPIVersionAndKind(i.APIVersion, i.Kind)
}

func (i item) gvr() schema.GroupVersionResource {
	gvr, _ := meta.UnsafeGuessKindToResource(i.gvk())
	return gvr
}

func (i item) String() string {
	if i.Namespace == "" {
		return i.Kind + " " + i.Name
	}
	return i.Kind + " " + i.Namespace + "/" + i.Name
}

// digest stands for what a set consists of.
func (s Set) digest() string {
	h := sha256.New()
	for _, u := range s.Objects {
		b, err := json.Marshal(u.Object)
		if err != nil {
			return ""
		}
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil)[:10])
}

// Rules are the rights in all of a cluster that installing and removing the set
// takes, on its own objects by name.
func (s Set) Rules() []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	for _, u := range s.Objects {
		gvr := itemOf(u).gvr()
		out = append(out, rbacv1.PolicyRule{APIGroups: []string{gvr.Group}, Resources: []string{gvr.Resource}, ResourceNames: []string{u.GetName()},
			Verbs: []string{"get", "create", "patch", "delete"}})
	}
	for _, gvr := range s.Configuration {
		out = append(out, rbacv1.PolicyRule{APIGroups: []string{gvr.Group}, Resources: []string{gvr.Resource}, Verbs: []string{"list", "delete"}})
	}
	return out
}
