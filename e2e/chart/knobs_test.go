package chart

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/boltseal/boltseal/e2e/render"
)

// knobs are what the values cannot be changed to by their schema alone: another value,
// in JSON.
var knobs = map[string]string{
	"audit.interval": `"1h"`, "tls.lifetime": `"1000h"`, "tls.caLifetime": `"9999h"`, "timeouts.verify": `"1900ms"`, "timeouts.mutate": `"800ms"`,
	"goMemLimit": `"300MiB"`, "image.digest": `"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"`, "image.pullPolicy": `"Always"`,
	"imagePullSecrets": `[{"name":"pull"}]`, "podDisruptionBudget.maxUnavailable": `2`, "updateStrategy": `{"type":"Recreate"}`,
	"webhook.exemptNamespaces": `["cni"]`, "webhook.csiImageDrivers": `{"csi.example.org":"ref"}`, "webhook.apiServers": `["10.0.0.0/28"]`,
	"policies": `[{"name":"p","spec":{}}]`, "extraObjects": `[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"}}]`, "lendIdentityTo": `["team"]`,
	"keySources.secrets": `[{"namespace":"n","name":"s"}]`, "keySources.configMaps": `[{"namespace":"n","name":"c"}]`, "keySources.serviceAccounts": `[{"namespace":"n","name":"a"}]`,
	"keySources.podPullSecrets": `["team"]`, "extraArgs": `["--pprof"]`, "extraEnv": `[{"name":"A","value":"b"}]`, "extraVolumes": `[{"name":"v","emptyDir":{}}]`,
	"extraVolumeMounts": `[{"name":"v","mountPath":"/v"}]`, "networkPolicy.metricsFrom": `[{"podSelector":{}}]`, "networkPolicy.egress": `[{"ports":[{"port":443}]}]`,
	"tolerations": `[{"operator":"Exists"}]`, "topologySpreadConstraints": `[{"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"DoNotSchedule"}]`,
	"affinity": `{"nodeAffinity":{}}`, "monitoring.prometheusRule.disabled": `["BoltsealDown"]`, "dnsPolicy": `"Default"`,
	"monitoring.podMonitor.interval": `"10s"`, "monitoring.serviceMonitor.interval": `"10s"`, "audit.rate": `7`, "crds.resources": `{"limits":{"memory":"1Gi"}}`,
	"resources": `{"limits":{"memory":"1Gi"}}`, "podSecurityContext": `{"runAsUser":7}`, "securityContext": `{"privileged":false}`,
	"monitoring.dashboard.labels": `{"a":"b"}`, "tracing.endpoint": `"http://collector:4318"`, "tracing.ratio": `0.25`, "tracing.resourceAttributes": `{"a":"b"}`,
}

// knobNeeds are values without which another one has no say.
var knobNeeds = map[string]string{
	"gatekeeper.enabled": "{}", "gatekeeper.mutationProvider.create": "{gatekeeper: {enabled: true}}", "monitoring.podMonitor.enabled": "{}",
	"monitoring.serviceMonitor.enabled": "{}", "monitoring.prometheusRule.enabled": "{}", "monitoring.dashboard.enabled": "{}",
	"governance.hubKubeconfigSecret": "{governance: {clusterName: member}}",
	"ports.page":                     "{governance: {page: {enabled: true}}}",
	"keySources.podPullSecrets":      "{webhook: {clientCAConfigMap: ca}}",
	"monitoring.podMonitor.*":        "{monitoring: {podMonitor: {enabled: true}}}", "monitoring.serviceMonitor.*": "{monitoring: {serviceMonitor: {enabled: true}}}",
	"monitoring.prometheusRule.*": "{monitoring: {prometheusRule: {enabled: true}}}", "monitoring.dashboard.*": "{monitoring: {dashboard: {enabled: true}}}",
	"tracing.endpoint": "{}", "tracing.*": "{tracing: {endpoint: \"https://collector:4318\"}}",
	"gatekeeper.*": "{gatekeeper: {enabled: true, mutationProvider: {create: true}}}",
}

// noKnobs are values that are no setting of Boltseal's, with the reason.
var noKnobs = map[string]string{"global": "Helm hands it to every chart; this one reads nothing of it, and a parent's must not be refused"}

// TestEveryValueChangesAnObject: of all that the schema lets be set, each by itself
// makes another manifest. A value that is added is under this test at once.
func TestEveryValueChangesAnObject(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(folder, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema valueSchema
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	text, err = os.ReadFile(filepath.Join(folder, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var defaults map[string]any
	if err := yaml.Unmarshal(text, &defaults); err != nil {
		t.Fatal(err)
	}
	leaves := map[string]valueSchema{}
	schema.leaves(schema.Definitions, "", leaves)
	for path := range knobs {
		if _, ok := leaves[path]; !ok {
			t.Errorf("%s is no value any more", path)
		}
	}
	if len(leaves) < 100 {
		t.Fatalf("%d values: the schema is not read", len(leaves))
	}
	made := map[string]string{} // by what is needed
	for _, path := range slices.Sorted(maps.Keys(leaves)) {
		if noKnobs[path] != "" {
			continue
		}
		needs := neededFor(path)
		value, ok := knobs[path]
		if !ok {
			value = leaves[path].other(valueAt(defaults, path))
		}
		if made[needs] == "" {
			made[needs] = whatIsMade(t, needs)
		}
		if whatIsMade(t, needs, setAt(path, value)) == made[needs] {
			t.Errorf("%s: %s changes nothing", path, value)
		}
	}
}

// neededFor are the values without which another one has no say.
func neededFor(path string) string {
	needs := knobNeeds[path]
	if i := strings.LastIndexByte(path, '.'); needs == "" && i > 0 {
		for at := path[:i]; needs == "" && at != ""; {
			needs = knobNeeds[at+".*"]
			j := strings.LastIndexByte(at, '.')
			at = at[:max(j, 0)]
		}
	}
	return cmp.Or(needs, "{}")
}

func whatIsMade(t *testing.T, values ...string) string {
	t.Helper()
	r, err := render.Render(render.Options{Chart: folder, Values: values})
	if err != nil {
		t.Errorf("%v: %v", values, err)
		return ""
	}
	return r.Objects + r.Hooks
}

// valueSchema is the part of a JSON schema that says which values there are.
type valueSchema struct {
	Ref         string                 `json:"$ref"`
	Properties  map[string]valueSchema `json:"properties"`
	Definitions map[string]valueSchema `json:"definitions"`
	Type        any                    `json:"type"`
	Enum        []any                  `json:"enum"`
}

func (s valueSchema) leaves(definitions map[string]valueSchema, path string, out map[string]valueSchema) {
	if name, ok := strings.CutPrefix(s.Ref, "#/definitions/"); ok {
		s = definitions[name]
	}
	if len(s.Properties) == 0 {
		out[path] = s
		return
	}
	for name, p := range s.Properties {
		p.leaves(definitions, strings.TrimPrefix(path+"."+name, "."), out)
	}
}

// other is a value besides the default one, in JSON.
func (s valueSchema) other(now any) string {
	for _, e := range s.Enum {
		if e != now {
			b, _ := json.Marshal(e)
			return string(b)
		}
	}
	switch v := now.(type) {
	case bool:
		return fmt.Sprint(!v)
	case float64:
		return fmt.Sprint(v + 1)
	case string:
		return fmt.Sprintf("%q", v+"x")
	case map[string]any:
		return `{"a.example/b":"c"}`
	case nil:
		if s.Type == "integer" {
			return "3"
		}
	}
	return `"x"`
}

func valueAt(values map[string]any, path string) any {
	var at any = values
	for name := range strings.SplitSeq(path, ".") {
		m, _ := at.(map[string]any)
		at = m[name]
	}
	return at
}

func setAt(path, value string) string {
	names := strings.Split(path, ".")
	for _, n := range slices.Backward(names) {
		value = fmt.Sprintf("{%q: %s}", n, value)
	}
	return value
}
