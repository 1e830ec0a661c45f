package chart

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/render"
)

func TestLint(t *testing.T) {
	t.Parallel()
	for _, s := range sets {
		values, err := common.ReadValues([]byte(s.values))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range lint.RunAll(folder, values, "boltseal-system").Messages {
			// An icon is for shops, and a note that is only informative is none.
			if m.Severity > support.InfoSev {
				t.Errorf("%s: %s", s.name, m.Error())
			}
		}
	}
}

// objects parses what a chart makes, hooks included.
func objects(t *testing.T, r *render.Rendered) []*unstructured.Unstructured {
	t.Helper()
	all, err := kit.Parse(r.Objects, r.Hooks)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func typed[T any](t *testing.T, u *unstructured.Unstructured) *T {
	t.Helper()
	out := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(u.Object, out, true); err != nil {
		t.Fatalf("%s %s: %v", u.GetKind(), u.GetName(), err)
	}
	return out
}

func find(all []*unstructured.Unstructured, kind, name string) *unstructured.Unstructured {
	i := slices.IndexFunc(all, func(u *unstructured.Unstructured) bool { return u.GetKind() == kind && u.GetName() == name })
	if i < 0 {
		return nil
	}
	return all[i]
}

// clusterScoped are the kinds here that are in no namespace.
var clusterScoped = []string{"ClusterRole", "ClusterRoleBinding", "ConstraintTemplate", "ImageIntegrityPolicy", "Store"}

func TestSets(t *testing.T) {
	t.Parallel()
	for _, s := range sets {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			r := rendered(t, s.options())
			seen := map[string]bool{}
			for _, u := range objects(t, r) {
				id := u.GroupVersionKind().GroupKind().String() + " " + u.GetNamespace() + "/" + u.GetName()
				if seen[id] {
					t.Errorf("%s is made twice", id)
				}
				seen[id] = true
				if scoped := slices.Contains(clusterScoped, u.GetKind()); scoped != (u.GetNamespace() == "") {
					t.Errorf("%s is in the namespace %q", id, u.GetNamespace())
				}
				if u.GetKind() != "Store" && u.GetLabels()["app.kubernetes.io/name"] != "boltseal" {
					t.Errorf("%s has the labels %v", id, u.GetLabels())
				}
				for _, spec := range podSpecs(t, u) {
					hardened(t, id, spec)
				}
				for _, rule := range rules(t, u) {
					if u.GetName() == "boltseal-pull-secrets" { // asked for, and a Pod may name any
						if !slices.Equal(rule.Verbs, []string{"get"}) || !slices.Equal(rule.Resources, []string{"secrets", "serviceaccounts"}) {
							t.Errorf("%s: %+v", id, rule)
						}
						continue
					}
					least(t, id, rule)
				}
			}
			if strings.TrimSpace(r.Notes) == "" || strings.Contains(r.Notes, "<no value>") || strings.Contains(r.Objects+r.Hooks, "<no value>") {
				t.Errorf("something has no value:\n%s", r.Notes)
			}
		})
	}
}

func podSpecs(t *testing.T, u *unstructured.Unstructured) []corev1.PodSpec {
	switch u.GetKind() {
	case "Deployment":
		return []corev1.PodSpec{typed[appsv1.Deployment](t, u).Spec.Template.Spec}
	case "Job":
		return []corev1.PodSpec{typed[batchv1.Job](t, u).Spec.Template.Spec}
	}
	return nil
}

// hardened holds a Pod to more than the pod security standard "restricted" asks.
func hardened(t *testing.T, id string, spec corev1.PodSpec) {
	t.Helper()
	p := spec.SecurityContext
	if p == nil || p.RunAsNonRoot == nil || !*p.RunAsNonRoot || p.RunAsUser == nil || *p.RunAsUser != 65532 || p.SeccompProfile == nil || p.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%s: the Pod's security context is %+v", id, p)
	}
	if spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
		t.Errorf("%s: variables of Services would be taken for flags", id)
	}
	if spec.HostNetwork || spec.HostPID || spec.HostIPC {
		t.Errorf("%s is in the node's namespaces", id)
	}
	for _, c := range spec.Containers {
		s := c.SecurityContext
		if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
			s.Privileged != nil || s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 {
			t.Errorf("%s: the container's security context is %+v", id, s)
		}
		if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
			t.Errorf("%s has the resources %+v", id, c.Resources)
		}
		for _, e := range c.Env {
			if e.Name == "GOMEMLIMIT" {
				below(t, e.Value, *c.Resources.Limits.Memory())
			}
		}
		for _, m := range c.VolumeMounts {
			if !m.ReadOnly {
				t.Errorf("%s can write to %s", id, m.MountPath)
			}
		}
	}
}

// below holds Go's memory limit against the container's.
func below(t *testing.T, text string, limit resource.Quantity) {
	t.Helper()
	q, err := resource.ParseQuantity(strings.TrimSuffix(text, "B"))
	if err != nil || q.Value() > limit.Value()*9/10 || q.Value() < limit.Value()/2 {
		t.Errorf("GOMEMLIMIT %s, limit %s: %v", text, limit.String(), err)
	}
}

func rules(t *testing.T, u *unstructured.Unstructured) []rbacv1.PolicyRule {
	switch u.GetKind() {
	case "ClusterRole":
		return typed[rbacv1.ClusterRole](t, u).Rules
	case "Role":
		return typed[rbacv1.Role](t, u).Rules
	}
	return nil
}

// least refuses rights that are wider than they need be.
func least(t *testing.T, id string, r rbacv1.PolicyRule) {
	t.Helper()
	for i, list := range [][]string{r.APIGroups, r.Resources, r.Verbs} {
		// Each ConstraintTemplate makes a kind of constraints, named by who wrote it.
		constraints := i == 1 && slices.Equal(r.APIGroups, []string{"constraints.gatekeeper.sh"})
		if slices.Contains(list, "*") && !constraints || len(list) == 0 {
			t.Errorf("%s: %+v", id, r)
		}
	}
	reads := slices.ContainsFunc(r.Verbs, func(v string) bool { return v != "create" })
	for _, resource := range r.Resources {
		named := slices.Contains([]string{"secrets", "configmaps", "customresourcedefinitions", "clusterroles", "mutatingwebhookconfigurations", "validatingwebhookconfigurations", "providers"}, resource)
		if named && reads && len(r.ResourceNames) == 0 {
			t.Errorf("%s reaches all %s: %+v", id, resource, r)
		}
	}
	for _, verb := range []string{"deletecollection", "impersonate", "escalate", "bind", "approve", "sign"} {
		if slices.Contains(r.Verbs, verb) {
			t.Errorf("%s: %+v", id, r)
		}
	}
}

// TestGolden shows what a change of the chart changes for who installs it without values. go test -update writes it.
func TestGolden(t *testing.T) {
	t.Parallel()
	r := rendered(t, render.Options{})
	have := r.Objects + "# Hooks\n" + r.Hooks + "# Notes\n" + r.Notes
	name := filepath.Join("testdata", "defaults.yaml")
	if *update {
		if err := os.WriteFile(name, []byte(have), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if have != string(want) {
		t.Errorf("the chart makes something else than %s; if that is meant: go test ./chart -run Golden -update", name)
	}
}

func TestSchemaRefuses(t *testing.T) {
	t.Parallel()
	for values, word := range map[string]string{
		"replica: 3":                                        "replica",
		"image: {tags: x}":                                  "tags",
		"image: {digest: latest}":                           "digest",
		"replicas: many":                                    "replicas",
		"webhook: {failurePolicy: Maybe}":                   "failurePolicy",
		"webhook: {timeoutSeconds: 31}":                     "timeoutSeconds",
		"webhook: {exemptNamespaces: [Kube]}":               "exemptNamespaces",
		"gatekeeper: {reportVersion: \"1\"}":                "reportVersion",
		"gatekeeper: {provider: {url: x}}":                  "url",
		"gatekeeper: {provider: {name: \"\"}}":              "name",
		"audit: {rate: 0}":                                  "rate",
		"audit: {interval: 10}":                             "interval",
		"audit: {interval: ten minutes}":                    "interval",
		"policies: [{spec: {}}]":                            "name",
		"policies: [{name: x, action: deny}]":               "action",
		"extraObjects: [{kind: Store}]":                     "apiVersion",
		"tls: {certificate: x}":                             "certificate",
		"keySources: {secrets: [{name: x}]}":                "namespace",
		"keySources: {serviceAccounts: [{name: x}]}":        "namespace",
		"keySources: {podPullSecrets: [Team]}":              "podPullSecrets",
		"log: {format: xml}":                                "format",
		"extraArgs: [pprof]":                                "extraArgs",
		"service: {port: 70000}":                            "port",
		"monitoring: {podMonitor: {enable: true}}":          "enable",
		"goMemLimit: 400 MB":                                "goMemLimit",
		"livenessProbe: {httpGet: {path: /}}":               "httpGet",
		"podLabels: {a: 1}":                                 "podLabels",
		"shutdown: {delaySeconds: -1}":                      "delaySeconds",
		"networkPolicy: {egress: {to: all}}":                "egress",
		"registryCredentials: {secretName: [a]}":            "secretName",
		"priorityClassName: 1000":                           "priorityClassName",
		"cache: {answersMiB: 1.5}":                          "answersMiB",
		"podDisruptionBudget: {maxUnavailable: half}":       "maxUnavailable",
		"imagePullSecrets: [pull]":                          "imagePullSecrets",
		"serviceAccount: {annotations: {a: {b: c}}}":        "annotations",
		"crds: {install: true}":                             "install",
		"monitoring: {dashboard: {labels: [a]}}":            "labels",
		"monitoring: {prometheusRule: {disabled: A}}":       "disabled",
		"updateStrategy: Recreate":                          "updateStrategy",
		"resources: none":                                   "resources",
		"nodeSelector: {a: true}":                           "nodeSelector",
		"dnsPolicy: Cluster":                                "dnsPolicy",
		"timeouts: {verify: 3}":                             "verify",
		"commonLabels: {a: 1}":                              "commonLabels",
		"rbac: {create: \"yes\"}":                           "create",
		"nameOverride: Boltseal":                            "nameOverride",
		"ports: {http: 80}":                                 "http",
		"securityContext: [a]":                              "securityContext",
		"tolerations: {a: b}":                               "tolerations",
		"extraEnv: [{value: x}]":                            "name",
		"extraVolumeMounts: [{name: x}]":                    "mountPath",
		"webhook: {enabled: true, failureAction: x}":        "failureAction",
		"gatekeeper: {template: {enforcementAction: deny}}": "enforcementAction",
	} {
		o := render.Options{Chart: folder, Values: []string{values}}
		_, err := render.Render(o)
		_, _, older := helm3(o)
		for helm, err := range map[string]error{"Helm 4": err, "Helm 3": older} {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%s, %s: %v", helm, values, err)
			}
		}
	}
}

// TestSchemaKnowsAllValues holds values.yaml and its schema against each other, and both against what people need:
// unknown names are refused at every level, and every value has words above it.
func TestSchemaKnowsAllValues(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join(folder, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(folder, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.UnmarshalStrict(text, &values); err != nil {
		t.Fatal(err)
	}
	values["global"] = map[string]any{} // Helm's own
	compareSchema(t, "", schema, schema, values)
	before := ""
	for line := range strings.Lines(string(text)) {
		if key := regexp.MustCompile(`^[a-zA-Z]+:`).FindString(line); key != "" && !strings.HasPrefix(before, "# ") {
			t.Errorf("%s has no word above it", key)
		}
		before = line
	}
}

func compareSchema(t *testing.T, path string, root, schema, values map[string]any) {
	t.Helper()
	if ref, ok := schema["$ref"].(string); ok {
		schema = root["definitions"].(map[string]any)[strings.TrimPrefix(ref, "#/definitions/")].(map[string]any)
	}
	properties, ok := schema["properties"].(map[string]any)
	if !ok {
		return // free, as Kubernetes has it
	}
	if schema["additionalProperties"] != false {
		t.Errorf("%s: unknown names are not refused", path)
	}
	optional := regexp.MustCompile(`Probe\.`)
	for name, sub := range properties {
		value, there := values[name]
		if !there && !optional.MatchString(path+".") {
			t.Errorf("%s.%s is in the schema, and not in values.yaml", path, name)
		}
		if nested, ok := value.(map[string]any); ok {
			compareSchema(t, path+"."+name, root, sub.(map[string]any), nested)
		}
	}
	for name := range values {
		if properties[name] == nil {
			t.Errorf("%s.%s is in values.yaml, and not in the schema", path, name)
		}
	}
}

func TestGatekeeperNeedsNoHelp(t *testing.T) {
	t.Parallel()
	all := objects(t, rendered(t, sets[4].options()))
	if find(all, "ConstraintTemplate", "boltsealtrustedimages") == nil || find(all, "Role", "boltseal-gatekeeper-ca").GetNamespace() != "gatekeeper-system" {
		t.Error("the template or the right to read Gatekeeper's CA is missing")
	}
	file, err := os.ReadFile(filepath.Join(folder, "gatekeeper", "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := kit.Parse(string(file))
	if err != nil {
		t.Fatal(err)
	}
	have := find(all, "ConstraintTemplate", "boltsealtrustedimages")
	if fmt.Sprint(have.Object["spec"]) != fmt.Sprint(want[0].Object["spec"]) {
		t.Error("the template is not the one in gatekeeper/template.yaml")
	}
}
