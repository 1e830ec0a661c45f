package chart

import (
	"maps"
	"path"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/releaseutil"

	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/render"
)

// helm3 renders the chart with the library of Helm 3, and returns the objects and the hooks.
func helm3(o render.Options) (objects, hooks string, err error) {
	c, err := loader.LoadDir(folder)
	if err != nil {
		return "", "", err
	}
	given, err := chartutil.ReadValues([]byte(strings.Join(o.Values, "\n")))
	if err != nil {
		return "", "", err
	}
	release := chartutil.ReleaseOptions{Name: or(o.Release, render.DefaultRelease), Namespace: or(o.Namespace, render.DefaultNamespace), Revision: 1, IsInstall: true}
	values, err := chartutil.ToRenderValues(c, given, release, chartutil.DefaultCapabilities)
	if err != nil {
		return "", "", err
	}
	files, err := engine.Render(c, values)
	if err != nil {
		return "", "", err
	}
	for name := range files {
		if path.Ext(name) != ".yaml" {
			delete(files, name)
		}
	}
	hs, os, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return "", "", err
	}
	for _, m := range os {
		objects += "---\n" + m.Content + "\n"
	}
	for _, h := range hs {
		hooks += "---\n" + h.Manifest + "\n"
	}
	return objects, hooks, nil
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// TestHelm3 renders every set with Helm 3 as with Helm 4.
func TestHelm3(t *testing.T) {
	t.Parallel()
	for _, s := range sets {
		o := s.options()
		objects, hooks, err := helm3(o)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		r := rendered(t, o)
		for kind, pair := range map[string][2]string{"objects": {objects, r.Objects}, "hooks": {hooks, r.Hooks}} {
			if three, four := contents(t, pair[0]), contents(t, pair[1]); !maps.Equal(three, four) {
				t.Errorf("%s: %s by Helm 3 are others: %v, %v", s.name, kind, three, four)
			}
		}
	}
}

// contents are objects by what they are, in whatever order.
func contents(t *testing.T, text string) map[string]string {
	t.Helper()
	all, err := kit.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, u := range all {
		b, err := u.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		out[u.GetKind()+" "+u.GetNamespace()+"/"+u.GetName()] = string(b)
	}
	return out
}
