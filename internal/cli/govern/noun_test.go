package govern

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/cli/frame"
)

// smallHub answers as an API server does that has a few objects, and can delete them.
func smallHub(t *testing.T) (kubeconfig string) {
	t.Helper()
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }
	objects := map[string]map[string]any{
		"policyassignments": {
			"emea":  v1alpha1.PolicyAssignment{ObjectMeta: meta("emea"), Spec: v1alpha1.PolicyAssignmentSpec{Scope: "/emea", PolicyDefinitionID: "image-integrity"}},
			"world": v1alpha1.PolicyAssignment{ObjectMeta: meta("world"), Spec: v1alpha1.PolicyAssignmentSpec{Scope: "/", PolicyDefinitionID: "image-integrity"}},
		},
		"policyexemptions": {"legacy": v1alpha1.PolicyExemption{ObjectMeta: meta("legacy"), Spec: v1alpha1.PolicyExemptionSpec{PolicyAssignmentID: "emea", ExemptionCategory: "Waiver"}}},
		"remediations":     {"first": v1alpha1.Remediation{ObjectMeta: meta("first")}},
		"clusters":         {"fra1": v1alpha1.Cluster{ObjectMeta: meta("fra1"), Spec: v1alpha1.ClusterSpec{Scope: "/emea/production"}}, "aks1": v1alpha1.Cluster{ObjectMeta: meta("aks1"), Spec: v1alpha1.ClusterSpec{Scope: "/subscriptions/s/resourceGroups/g"}}},
	}
	kinds := map[string]string{"policyassignments": v1alpha1.KindPolicyAssignment, "policyexemptions": v1alpha1.KindPolicyExemption, "remediations": v1alpha1.KindRemediation, "clusters": v1alpha1.KindCluster}
	group := v1alpha1.GroupVersion
	served := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := func(code int, v any) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			_ = json.NewEncoder(w).Encode(v)
		}
		version := metav1.GroupVersionForDiscovery{GroupVersion: group.String(), Version: group.Version}
		of := metav1.APIGroup{TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}, Name: group.Group, Versions: []metav1.GroupVersionForDiscovery{version}, PreferredVersion: version}
		rest, inGroup := strings.CutPrefix(r.URL.Path, "/apis/"+group.String())
		switch resource, name, one := strings.Cut(strings.TrimPrefix(rest, "/"), "/"); {
		case r.URL.Path == "/apis/"+group.Group:
			answer(http.StatusOK, of)
		case r.URL.Path == "/apis":
			answer(http.StatusOK, metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{of}})
		case inGroup && rest == "":
			list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: group.String()}
			for plural, kind := range kinds {
				list.APIResources = append(list.APIResources, metav1.APIResource{Name: plural, SingularName: strings.ToLower(kind), Kind: kind, Verbs: metav1.Verbs{"get", "list", "delete"}})
			}
			answer(http.StatusOK, list)
		case inGroup && !one && objects[resource] != nil:
			items := []any{}
			for _, o := range objects[resource] {
				items = append(items, o)
			}
			answer(http.StatusOK, map[string]any{"apiVersion": group.String(), "kind": kinds[resource] + "List", "metadata": map[string]any{}, "items": items})
		case inGroup && one && objects[resource][name] != nil:
			o := objects[resource][name]
			if r.Method == http.MethodDelete {
				delete(objects[resource], name)
				o = metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess}
			}
			answer(http.StatusOK, o)
		default:
			answer(http.StatusNotFound, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound})
		}
	}))
	t.Cleanup(served.Close)
	kubeconfig = filepath.Join(t.TempDir(), "config")
	text := `{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: "` + served.URL + `"}}], contexts: [{name: c, context: {cluster: c}}]}`
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}

// TestNounsListShowAndDelete: every kind has the same verbs, which say the same of what exists and of what does not.
func TestNounsListShowAndDelete(t *testing.T) {
	t.Parallel()
	kubeconfig := smallHub(t)
	run := func(line string) (string, error) {
		var out bytes.Buffer
		root := &cobra.Command{Use: "boltseal", SilenceErrors: true, SilenceUsage: true}
		root.AddGroup(&cobra.Group{ID: groupGovern}, &cobra.Group{ID: "serve"})
		root.AddCommand(NewCommands(frame.Env{Stdout: &out, Stderr: &out, Getenv: func(string) string { return "" }})...)
		root.SetArgs(append(strings.Fields(line), "--kubeconfig", kubeconfig))
		err := root.ExecuteContext(t.Context())
		return out.String(), err
	}
	for _, c := range []struct{ line, want, fails string }{
		{"policy assignment list --query sort([].name) -o tsv", "emea\nworld\n", ""},
		{"policy assignment list --scope /emea --query [].name -o tsv", "emea\n", ""},
		{"policy assignment list --scope x", "", "--scope: "},
		{"policy assignment list -o xml", "", "is not table, json, yaml or tsv"},
		{"policy assignment show emea --query scope -o tsv", "/emea\n", ""},
		{"policy assignment show", "", "no name: give one with --name"},
		{"policy assignment show emea -n world", "", "two names"},
		{"policy exemption list --query [].exemptionCategory -o tsv", "Waiver\n", ""},
		{"policy remediation list --query [].name -o tsv", "first\n", ""},
		{"policy remediation show first --query name -o tsv", "first\n", ""},
		{"cluster list --query sort([].name) -o tsv", "aks1\nfra1\n", ""},
		{"cluster list -g G --query [].name -o tsv", "aks1\n", ""},
		{"cluster show -n fra1 -g g", "", "cluster fra1 is in resource group production, not in"},
		{"cluster show -n fra1 --query scope -o tsv", "/emea/production\n", ""},
		{"cluster show -n fra2", "", "did you mean fra1?"},
		{"policy exemption delete --name legaci", "", "did you mean legacy?"},
		{"policy exemption delete --name legacy", "exemption legacy: deleted\n", ""},
		{"policy exemption list --query length(@) -o tsv", "0\n", ""},
		{"policy exemption list -o json", "[]\n", ""},
		{"policy assignment delete -n world", "assignment world: deleted\n", ""},
		{"policy assignment delete -n world", "", `there is no assignment "world"`},
		{"policy remediation delete first", "remediation first: deleted\n", ""},
	} {
		out, err := run(c.line)
		switch {
		case c.fails == "" && (err != nil || out != c.want):
			t.Errorf("%s: %q, %v, want %q", c.line, out, err, c.want)
		case c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)):
			t.Errorf("%s: %q, %v, want an error with %q", c.line, out, err, c.fails)
		}
	}
}
