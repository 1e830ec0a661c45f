// Package render renders Boltseal's Helm chart with Helm's own library, without a cluster.
package render

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	releasev1 "helm.sh/helm/v4/pkg/release/v1"
	releaseutil "helm.sh/helm/v4/pkg/release/v1/util"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/boltseal/boltseal/e2e/kit"
)

// Defaults of Options.
const (
	DefaultRelease   = "boltseal"
	DefaultNamespace = "boltseal-system"
)

// Options say what to render.
type Options struct {
	// Chart is the chart's folder. Required.
	Chart string
	// Release and Namespace are where it is installed. Empty: the defaults.
	Release, Namespace string
	// Values, in YAML, are added to the chart's; the later win.
	Values []string
}

// Rendered is what a chart makes.
type Rendered struct {
	// Objects are the manifests of the release in the order in which Helm installs them, Hooks those that Helm runs
	// before or after. Each begins with a separator.
	Objects, Hooks string
	// CRDs are the definitions in the chart's folder, which Helm leaves to a hook.
	CRDs string
	// Notes are what Helm says in the end.
	Notes string
}

// Render renders a chart.
func Render(o Options) (*Rendered, error) {
	if o.Release == "" {
		o.Release = DefaultRelease
	}
	if o.Namespace == "" {
		o.Namespace = DefaultNamespace
	}
	c, err := loader.LoadDir(o.Chart)
	if err != nil {
		return nil, fmt.Errorf("load the chart: %w", err)
	}
	given := common.Values{}
	for _, text := range o.Values {
		v, err := common.ReadValues([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("read the values: %w", err)
		}
		given = util.MergeTables(v, given)
	}
	release := common.ReleaseOptions{Name: o.Release, Namespace: o.Namespace, Revision: 1, IsInstall: true}
	values, err := util.ToRenderValues(c, given, release, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(c, values)
	if err != nil {
		return nil, fmt.Errorf("render the chart: %w", err)
	}
	out := &Rendered{}
	maps.DeleteFunc(files, func(name, text string) bool {
		if path.Base(name) == "NOTES.txt" {
			out.Notes = text
		}
		return path.Ext(name) != ".yaml" || strings.TrimSpace(text) == ""
	})
	hooks, objects, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return nil, fmt.Errorf("sort the manifests: %w", err)
	}
	for _, m := range objects {
		out.Objects += document(m.Content)
	}
	slices.SortStableFunc(hooks, func(a, b *releasev1.Hook) int { return a.Weight - b.Weight })
	for _, h := range hooks {
		out.Hooks += document(h.Manifest)
	}
	out.CRDs, err = definitions(o.Chart)
	return out, err
}

func definitions(chart string) (string, error) {
	files, err := filepath.Glob(filepath.Join(chart, "crds", "*.yaml"))
	if err != nil || len(files) == 0 {
		return "", fmt.Errorf("%s has no definitions: %w", chart, err)
	}
	out := ""
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		out += document(string(b))
	}
	return out, nil
}

func document(text string) string {
	return "---\n" + strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(text), "---\n"), "\n---") + "\n"
}

// Rights are the ServiceAccount of a chart's release, its roles and their bindings, and the namespaces they are in.
func Rights(o Options) (string, error) {
	r, err := Render(o)
	if err != nil {
		return "", err
	}
	objects, err := kit.Parse(r.Objects)
	if err != nil {
		return "", err
	}
	var out []*unstructured.Unstructured
	namespaces := map[string]bool{}
	for _, u := range objects {
		if !slices.Contains([]string{"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}, u.GetKind()) {
			continue
		}
		out = append(out, u)
		if ns := u.GetNamespace(); ns != "" {
			namespaces[ns] = true
		}
	}
	if len(out) == 0 {
		return "", errors.New("the chart makes no rights")
	}
	for _, ns := range slices.Sorted(maps.Keys(namespaces)) {
		out = append(out, Namespace(ns, nil))
	}
	return Marshal(out...)
}

// Restricted are the labels of a namespace whose Pods must be as restricted as Kubernetes' pod security standards go.
func Restricted() map[string]string {
	return map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}
}

// Namespace is a namespace with labels.
func Namespace(name string, labels map[string]string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetAPIVersion("v1")
	u.SetKind("Namespace")
	u.SetName(name)
	u.SetLabels(labels)
	return u
}

// Marshal writes objects as YAML documents.
func Marshal(objects ...*unstructured.Unstructured) (string, error) {
	var out bytes.Buffer
	for _, u := range objects {
		b, err := yaml.Marshal(u.Object)
		if err != nil {
			return "", err
		}
		out.WriteString("---\n")
		out.Write(b)
	}
	return out.String(), nil
}
