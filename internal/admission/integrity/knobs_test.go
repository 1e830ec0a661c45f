package integrity_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
)

// policyKnobs are, for each field of a policy's spec, a spec and the same with that
// field alone changed, each without the braces.
var policyKnobs = map[string][2]string{
	"enforcementAction":         {"enforcementAction: deny", "enforcementAction: warn"},
	"excludedImages":            {"", "excludedImages: [reg.example/bad*]"},
	"resolveTags":               {"resolveTags: true", "resolveTags: false"},
	"onUnavailable.action":      {"onUnavailable: {action: deny}", "onUnavailable: {action: allow}"},
	"onUnavailable.maxAge":      {"onUnavailable: {action: lastKnownGood, maxAge: 1h}", "onUnavailable: {action: lastKnownGood, maxAge: 3h}"},
	"match.kinds":               {"match: {kinds: [Pod]}", "match: {kinds: [Pod, argoproj.io/Rollout]}"},
	"match.namespaces":          {"match: {namespaces: [prod]}", "match: {namespaces: [test]}"},
	"match.excludedNamespaces":  {"match: {namespaces: [prod]}", "match: {namespaces: [prod], excludedNamespaces: [prod]}"},
	"match.labelSelector":       {"match: {labelSelector: {matchLabels: {app: web}}}", "match: {labelSelector: {matchLabels: {app: other}}}"},
	"match.namespaceSelector":   {"match: {namespaceSelector: {matchLabels: {stage: production}}}", "match: {namespaceSelector: {matchExpressions: [{key: stage, operator: NotIn, values: [production]}]}}"},
	"exemptions.name":           {exempt("name: x, images: [reg.example/bad*]"), exempt("name: y, images: [reg.example/bad*]")},
	"exemptions.category":       {"exemptions: [{name: x, category: Waiver, namespaces: [prod]}]", "exemptions: [{name: x, category: Mitigated, namespaces: [prod]}]"},
	"exemptions.expires":        {exempt(`name: x, namespaces: [prod]`), exempt(`name: x, namespaces: [prod], expires: "2026-01-01T00:00:00Z"`)},
	"exemptions.reason":         {exempt("name: x, namespaces: [prod]"), exempt("name: x, namespaces: [prod], reason: soon")},
	"exemptions.namespaces":     {exempt("name: x, namespaces: [prod]"), exempt("name: x, namespaces: [test]")},
	"exemptions.images":         {exempt("name: x, images: [reg.example/bad*]"), exempt("name: x, images: [reg.example/other*]")},
	"exemptions.workloads.kind": {exempt("name: x, workloads: [{kind: Deployment, name: web, namespace: prod}]"), exempt("name: x, workloads: [{kind: StatefulSet, name: web, namespace: prod}]")},
	"exemptions.workloads.name": {exempt("name: x, workloads: [{kind: Deployment, name: web, namespace: prod}]"), exempt("name: x, workloads: [{kind: Deployment, name: api, namespace: prod}]")},
	"exemptions.workloads.controller": {exempt("name: x, workloads: [{kind: argoproj.io/Rollout, name: web, namespace: prod, controller: 'system:serviceaccount:argo:argo'}]"),
		exempt("name: x, workloads: [{kind: argoproj.io/Rollout, name: web, namespace: prod, controller: 'system:serviceaccount:argo:other'}]")},
	"exemptions.workloads.namespace": {exempt("name: x, workloads: [{kind: Deployment, name: web, namespace: prod}]"), exempt("name: x, workloads: [{kind: Deployment, name: web, namespace: test}]")},
}

func exempt(text string) string {
	return "exemptions: [{category: Waiver, " + text + "}]"
}

// TestEachFieldOfAPolicyHasASay: of every field of a policy, it alone changes what
// becomes of some object, or what is said about it. One that is added fails here
// until it is listed.
func TestEachFieldOfAPolicyHasASay(t *testing.T) {
	t.Parallel()
	fields := map[string]bool{}
	policyFields(reflect.TypeFor[v1alpha1.ImageIntegrityPolicySpec](), "", fields)
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		specs, ok := policyKnobs[field]
		if !ok {
			t.Errorf("%s: show in policyKnobs what it changes", field)
			continue
		}
		before, after := whatBecomes(t, specs[0]), whatBecomes(t, specs[1])
		if before == after {
			t.Errorf("%s changes nothing", field)
		}
	}
	for field := range policyKnobs {
		if !fields[field] {
			t.Errorf("%s is no field any more", field)
		}
	}
}

// policyFields collects the fields of a type of the API; those of Kubernetes' own types,
// such as label selectors, are one field.
func policyFields(typ reflect.Type, path string, out map[string]bool) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || !strings.HasSuffix(typ.PkgPath(), "api/integrity/v1alpha1") {
		out[strings.TrimPrefix(path, ".")] = true
		return
	}
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		policyFields(typ.Field(i).Type, path+"."+name, out)
	}
}

// whatBecomes is everything that a policy says about some objects with images of all
// sorts.
func whatBecomes(t *testing.T, spec string) string {
	t.Helper()
	var s v1alpha1.ImageIntegrityPolicySpec
	if err := yaml.UnmarshalStrict([]byte("{"+spec+"}"), &s); err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	p := compile(t, "prod", s)
	gone := outage(boltseal.CauseUnavailable)
	remembered := remember(integrity.Image{Where: `container "c"`, Image: "reg.example/old@sha256:0", Pinned: true, Found: gone},
		func(maxAge time.Duration) (integrity.Found, time.Time) {
			if maxAge < 2*time.Hour {
				return gone, time.Time{}
			}
			return trusted(), now.Add(-2 * time.Hour)
		}, p)
	tag := integrity.Image{Where: `container "t"`, Image: "reg.example/tag:1", Found: integrity.Found{Decision: boltseal.Allow, Digest: "sha256:1"}}
	var out strings.Builder
	set := integrity.NewSet([]*integrity.Policy{p})
	for _, o := range []integrity.Object{
		{Kind: "Pod", Namespace: "prod", Labels: map[string]string{"app": "web"}, NamespaceLabels: map[string]string{"stage": "production"}},
		{Kind: "argoproj.io/Rollout", Namespace: "prod", NamespaceLabels: map[string]string{"stage": "production"}},
		{Kind: "Pod", Namespace: "test", NamespaceLabels: map[string]string{"stage": "test"}},
	} {
		selected := set.Select(o)
		fmt.Fprintln(&out, o.Kind, o.Namespace, len(selected))
		for _, image := range []integrity.Image{image("good", trusted()), image("bad", denied()), remembered, tag} {
			image.Image = strings.Replace(image.Image, "@sha256:0", "@sha256:"+strings.Repeat("0", 64), 1)
			v := integrity.Judge(selected, []integrity.Image{image}, integrity.Context{Pod: o.Kind == "Pod", Decision: "d", Now: now,
				Subject: integrity.Subject{Namespace: o.Namespace, Workloads: []integrity.Workload{{Kind: "Deployment", Name: "web"}, {Kind: "argoproj.io/Rollout", Name: "web", Claimed: true, By: "system:serviceaccount:argo:argo"}}}})
			fmt.Fprintln(&out, image.Image, v.Allowed, v.Message, v.Warnings, v.Audit, v.Images)
		}
	}
	return out.String()
}
