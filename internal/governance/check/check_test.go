package check_test

import (
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/governance/check"
)

func clock() time.Time { return time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC) }

// document is one of the group; rest is its metadata and spec.
func document(kind, rest string) string {
	return "---\napiVersion: policy.boltseal.dev/v1alpha1\nkind: " + kind + "\n" + rest + "\n"
}

const (
	assignment = "metadata: {name: a}\nspec: {scope: /, policyDefinitionId: image-integrity-verification}"
	exemption  = "metadata: {name: e}\nspec: {policyAssignmentId: a, exemptionCategory: Waiver, within: {namespaces: [team]}}"
)

func checked(t *testing.T, text string) (problems, warnings string) {
	t.Helper()
	docs, err := strict.Documents("f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	ps, ws := check.Documents(docs, check.Options{Clock: clock})
	var lines []string
	for _, w := range ws {
		lines = append(lines, w.Error())
	}
	return ps.Error(), strings.Join(lines, "\n")
}

// TestWhatIsRight: nothing is said of documents that a hub takes.
func TestWhatIsRight(t *testing.T) {
	t.Parallel()
	text := document("PolicyAssignment", assignment) + document("PolicyExemption", exemption) +
		document("Cluster", "metadata: {name: c}\nspec: {scope: /emea}") + document("FeatureRegistration", "metadata: {name: f}\nspec: {name: EnableImageIntegrityPreview, scope: /}") +
		document("PolicyDefinition", "metadata: {name: mine}\nspec: {mode: Microsoft.Kubernetes.Data, displayName: d, policyRule: {if: {field: type, in: [Microsoft.ContainerService/managedClusters]}, then: {effect: audit}}}")
	if problems, warnings := checked(t, text); strings.Contains(problems, "PolicyAssignment a") || strings.Contains(problems, "PolicyExemption e") || strings.Contains(problems, "Cluster c") || warnings != "" {
		t.Errorf("%s\n%s", problems, warnings)
	}
}

// TestWhatIsWrong: each with its line, its object and its field.
func TestWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"a version":                {"apiVersion: policy.boltseal.dev/v1\nkind: PolicyAssignment\n" + assignment, "f.yaml:1: PolicyAssignment a: apiVersion: policy.boltseal.dev/v1 is not known here"},
		"a kind":                   {document("PolicyAssigment", assignment), `f.yaml:3: PolicyAssigment a: kind: PolicyAssigment is not known here (did you mean "PolicyAssignment"?)`},
		"no name":                  {document("PolicyAssignment", "metadata: {}\nspec: {scope: /}"), "a PolicyAssignment needs a name"},
		"a name":                   {document("Cluster", "metadata: {name: A_B}\nspec: {}"), "A_B is no name to Kubernetes"},
		"no spec":                  {document("Remediation", "metadata: {name: r}"), "a Remediation needs a spec"},
		"a field":                  {document("PolicyAssignment", "metadata: {name: a}\nspec:\n  scope: /\n  polcyDefinitionId: x"), `f.yaml:7: PolicyAssignment a: spec.polcyDefinitionId: unknown field (did you mean "policyDefinitionId"?)`},
		"twice":                    {document("PolicyAssignment", assignment) + document("PolicyAssignment", assignment), "a second PolicyAssignment of this name; the first is at f.yaml:2"},
		"no definition":            {document("PolicyAssignment", "metadata: {name: a}\nspec: {scope: /}"), "spec.policyDefinitionId: it is missing"},
		"a scope":                  {document("Cluster", "metadata: {name: c}\nspec: {scope: emea}"), "Cluster c: spec.scope:"},
		"a parameter":              {document("PolicyAssignment", strings.TrimSuffix(assignment, "}")+", parameters: {effct: {value: Deny}}}"), "PolicyAssignment a: spec.parameters:"},
		"a version of one":         {document("PolicyAssignment", strings.TrimSuffix(assignment, "}")+", definitionVersion: one}"), "PolicyAssignment a: spec.definitionVersion:"},
		"a version of an override": {document("PolicyAssignment", strings.TrimSuffix(assignment, "}")+", overrides: [{kind: policyVersion, value: Deny}]}"), "PolicyAssignment a: spec.overrides[0].value:"},
		"a feature":                {document("FeatureRegistration", "metadata: {name: f}\nspec: {name: ImageIntegrityPreviw}"), `FeatureRegistration f: spec.name: there is no feature ImageIntegrityPreviw (did you mean "ImageIntegrityPreview"?)`},
		"a feature's namespace":    {document("FeatureRegistration", "metadata: {name: f}\nspec: {namespace: Microsoft.Compute, name: ImageIntegrityPreview}"), "FeatureRegistration f: spec.namespace: Microsoft.Compute has no such feature; it is in Microsoft.ContainerService"},
		"a category":               {document("PolicyExemption", strings.Replace(exemption, "Waiver", "Waver", 1)), `spec.exemptionCategory: Waver is not Waiver or Mitigated (did you mean "Waiver"?)`},
		"nothing exempt of":        {document("PolicyExemption", strings.Replace(exemption, "policyAssignmentId: a, ", "", 1)), "spec.policyAssignmentId: it is missing"},
		"a definition":             {document("PolicyDefinition", "metadata: {name: d}\nspec:\n  mode: Everything\n  policyRule: {if: {}, then: {}}"), "PolicyDefinition d: spec"},
	} {
		problems, _ := checked(t, c.text)
		if !strings.Contains(problems, c.want) {
			t.Errorf("%s: %q, want %q", name, problems, c.want)
		}
	}
}

// TestWhatIsElsewhere: what the hub may have is a warning, and no problem.
func TestWhatIsElsewhere(t *testing.T) {
	t.Parallel()
	for _, text := range []string{document("PolicyAssignment", strings.Replace(assignment, "image-integrity-verification", "our-own", 1)), document("PolicyExemption", exemption)} {
		if problems, warnings := checked(t, text); problems != "" || !strings.Contains(warnings, "it must be in the hub") {
			t.Errorf("%s\n%q, %q", text, problems, warnings)
		}
	}
}
