package governcli

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/definition"
	"github.com/boltseal/boltseal/internal/governance/resolve"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// reported applies what the hub and an agent write of a cluster: what is demanded
// of it, and an unsigned image in two namespaces.
func reported(t *testing.T, name string) {
	t.Helper()
	a := v1alpha1.PolicyAssignment{ObjectMeta: metav1.ObjectMeta{Name: "watch"}, Spec: v1alpha1.PolicyAssignmentSpec{Scope: "/emea", PolicyDefinitionID: "image-integrity"}}
	out := resolve.New(resolve.Input{Library: definition.BuiltIns(), Assignments: []v1alpha1.PolicyAssignment{a}}).
		ForCluster(&v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.ClusterSpec{Scope: "/emea/prod"}})
	if len(out.Bundle.Demands) != 1 {
		t.Fatalf("%+v", out)
	}
	now := metav1.Now()
	old := metav1.NewTime(now.Add(-48 * time.Hour))
	component := func(namespace string, first metav1.Time) v1alpha1.Component {
		return v1alpha1.Component{Namespace: namespace, Image: "registry.example/app@sha256:" + strings.Repeat("ab", 32), Pods: 2, Pod: "web-1",
			State: v1alpha1.NonCompliant, Reason: "nothing-signed", Message: "no signature refers to this image", Signer: "=cmd()", FirstSeen: first, LastSeen: now}
	}
	for kind, object := range map[string]any{
		v1alpha1.KindClusterBundle: &v1alpha1.ClusterBundle{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: out.Bundle},
		v1alpha1.KindClusterReport: &v1alpha1.ClusterReport{ObjectMeta: metav1.ObjectMeta{Name: name}, Report: v1alpha1.ClusterReportContent{At: &now, Demands: []v1alpha1.DemandReport{{
			Name: out.Bundle.Demands[0].Name, State: v1alpha1.NonCompliant, Pods: 10, Violations: 5, Components: []v1alpha1.Component{component("shop", old), component("legacy", now)}}}}},
	} {
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
		if err != nil {
			t.Fatal(err)
		}
		fields["apiVersion"], fields["kind"] = v1alpha1.GroupVersion.String(), kind
		b, err := yaml.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		if err := cluster.Apply(t.Context(), string(b)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWithoutKinds comes first, before any test brings the definitions.
func TestWithoutKinds(t *testing.T) {
	newCLI(t).fails("boltseal crds apply", "policy", "assignment", "list")
}

// TestComplianceAndWhatIf sees what a cluster reports, and what a change would deny.
func TestComplianceAndWhatIf(t *testing.T) {
	c := newCLI(t)
	c.ok("crds", "apply")
	c.ok("cluster", "register", "-n", "fra1", "--scope", "/emea/prod")
	c.ok("policy", "assignment", "create", "-n", "watch", "--policy-set-definition", "image-integrity", "--scope", "/emea")
	reported(t, "fra1")

	c.has(c.ok("compliance"), "watch", "Unknown")
	out, _, status := c.run("compliance", "--by", "component")
	c.has(out, "fra1", "shop", "legacy", "NonCompliant", "no signature refers", "1 more Pod not named")
	if status != 1 {
		t.Errorf("status %d", status)
	}
	out, _, _ = c.run("compliance", "--namespace", "shop", "-o", "csv")
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(rows) != 2 || rows[1][1] != "shop" || rows[1][9] != "'=cmd()" {
		t.Errorf("%v %v", rows, err)
	}
	out, _, _ = c.run("compliance", "--by", "image", "-o", "json")
	if images := decode[struct {
		Items []struct {
			Name           string
			Pods, Clusters int
		}
	}](t, out).Items; len(images) != 1 || images[0].Pods != 4 || images[0].Clusters != 1 {
		t.Errorf("%+v", images)
	}
	out, _, _ = c.run("compliance", "--since", "24h", "-o", "html")
	c.has(out, "<!DOCTYPE html>", "not trusted", "legacy")
	if strings.Contains(out, "shop") {
		t.Error("it was seen two days ago for the first time")
	}
	out, _, _ = c.run("compliance", "--by", "namespace", "--cluster", "fra1")
	c.has(out, "shop", "legacy")
	c.fails("did you mean fra1?", "compliance", "--cluster", "fra2")
	c.fails("did you mean", "compliance", "--by", "imag")

	deny := []string{"policy", "what-if", "--assignment", "watch", "--effect", "Deny"}
	out, _, status = c.run(deny...)
	c.has(out, "fra1", "shop", "legacy", "denied", "2 images in 4 Pods would be denied, 0 perhaps", "1 more Pods run images that are not trusted")
	if status != 1 {
		t.Errorf("status %d: %s", status, out)
	}
	c.ok("policy", "exemption", "create", "-n", "legacy", "-a", "watch", "-e", "Waiver", "--expires-on", time.Now().Add(72*time.Hour).UTC().Format(time.RFC3339), "--namespaces", "legacy")
	c.has(c.ok("policy", "exemption", "list"), "legacy", "Waiver", "namespaces legacy")
	c.fails("is over", "policy", "exemption", "create", "-n", "x", "-a", "watch", "-e", "Waiver", "--expires-on", "2001-01-01")
	c.fails("did you mean watch?", "policy", "exemption", "create", "-n", "x", "-a", "wach", "-e", "Waiver")
	out, _, _ = c.run(deny...)
	c.has(out, "1 image in 2 Pods would be denied")

	c.ok("policy", "assignment", "create", "-n", "watch", "--policy-set-definition", "image-integrity", "--scope", "/emea", "-p", `{"effect":{"value":"Deny"}}`)
	c.has(c.ok(deny...), "0 images in 0 Pods")
	for _, change := range [][]string{{"--without-exemption", "legacy"}, {"--at", time.Now().Add(96 * time.Hour).UTC().Format(time.DateOnly)}} {
		out, _, status = c.run(append([]string{"policy", "what-if"}, change...)...)
		c.has(out, "legacy", "1 image in 2 Pods would be denied")
		if status != 1 {
			t.Errorf("%v: status %d", change, status)
		}
	}
	file := filepath.Join(t.TempDir(), "a.yaml")
	text := "apiVersion: policy.boltseal.dev/v1alpha1\nkind: PolicyAssignment\nmetadata: {name: all}\nspec: {scope: /, policyDefinitionId: image-integrity, %s: {effect: {value: Deny}}}\n"
	for word, want := range map[string]string{"parameters": "legacy", "parametres": "did you mean"} {
		if err := os.WriteFile(file, []byte(fmt.Sprintf(text, word)), 0o600); err != nil {
			t.Fatal(err)
		}
		out, errs, _ := c.run("policy", "what-if", "-f", file)
		c.has(out+errs, want)
	}
	c.ok("policy", "exemption", "delete", "legacy")
	c.fails("there is no exemption", "policy", "exemption", "delete", "legacy")
	c.ok("policy", "assignment", "delete", "watch")
	c.has(c.ok("compliance"), "nothing to show")
}
