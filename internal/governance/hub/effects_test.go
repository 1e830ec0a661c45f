package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	chart "github.com/boltseal/boltseal/charts/boltseal"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/governance/check"
	"github.com/boltseal/boltseal/internal/governance/definition"
	"github.com/boltseal/boltseal/internal/governance/render"
	"github.com/boltseal/boltseal/internal/governance/resolve"
)

// An effect is what people write, and a change of one field alone, of which something has
// to come: another bundle, other objects in a cluster, or other clusters that are changed.
type effect struct {
	field    string // as in internal/arch/testdata/knobs
	text     string // documents
	from, to string // in it: from is there once
	refused  string // why no other value is right
	nothing  string // why the field changes nothing, as its description says
}

// governed are the documents of one kind each, as a JSON text.
func governed(kind, name, spec string) string {
	return fmt.Sprintf("\n---\n{apiVersion: policy.boltseal.dev/v1alpha1, kind: %s, metadata: {name: %s}, spec: {%s}}", kind, name, spec)
}

const (
	oneCluster = "scope: /subscriptions/s/resourceGroups/g, managementGroups: [/providers/Microsoft.Management/managementGroups/mg], location: westeurope"
	verifying  = "scope: /subscriptions/s, policyDefinitionId: image-integrity-verification"
	assigning  = "scope: /subscriptions/s, policyDefinitionId: image-integrity"
	ownRule    = `policyRule: {if: {field: type, equals: Microsoft.ContainerService/managedClusters}, then: {effect: "[parameters('effect')]", details: {templateInfo: {sourceType: BuiltIn, name: image-integrity}, apiGroups: [""], kinds: [Pod], labelSelector: "[parameters('selector')]"}}}`
	ownTypes   = `parameters: {effect: {type: String, allowedValues: [Audit, Deny], defaultValue: Audit}, selector: {type: Object, defaultValue: {matchLabels: {a: b}}, schema: {type: object, properties: {matchLabels: {type: object}}}}}`
	ownRefs    = `policyDefinitions: [{policyDefinitionReferenceId: one, policyDefinitionId: image-integrity-verification, definitionVersion: "1.*.*", parameters: {effect: {value: "[parameters('effect')]"}, labelSelector: {value: "[parameters('selector')]"}}}, {policyDefinitionReferenceId: two, policyDefinitionId: deploy-policy-add-on}]`
)

// TestEachFieldOfGovernanceHasAnEffect: of every field of definitions, initiatives,
// assignments, exemptions, features and clusters, it alone changes what is demanded of a
// cluster, or is refused.
func TestEachFieldOfGovernanceHasAnEffect(t *testing.T) {
	t.Parallel()
	one := governed("Cluster", "one", oneCluster)
	assigned := one + governed("PolicyAssignment", "a", verifying)
	set := one + governed("PolicyAssignment", "a", assigning)
	with := func(fields string) string { return one + governed("PolicyAssignment", "a", verifying+", "+fields) }
	of := func(fields string) string { return one + governed("PolicyAssignment", "a", assigning+", "+fields) }
	exempt := func(fields string) string {
		return set + governed("PolicyExemption", "e", "policyAssignmentId: a, exemptionCategory: Waiver"+fields)
	}
	preview := func(features string) string {
		return one + governed("PolicyDefinition", "mine", "mode: Microsoft.Kubernetes.Data, metadata: {preview: true}, "+ownTypes+", "+ownRule) +
			governed("PolicyAssignment", "a", "scope: /subscriptions/s, policyDefinitionId: mine") + features
	}
	feature := governed("FeatureRegistration", "f", "namespace: Microsoft.ContainerService, name: ImageIntegrityPreview, scope: /subscriptions/s")
	defined := func(more, set string) string {
		return one + governed("PolicyDefinition", "mine", "mode: Microsoft.Kubernetes.Data"+more+", "+ownTypes+", "+ownRule) +
			governed("PolicyAssignment", "a", "scope: /subscriptions/s, policyDefinitionId: mine"+set)
	}
	grouped := func(more, set string) string {
		return one + governed("PolicySetDefinition", "ours", strings.TrimPrefix(more+", ", ", ")+ownTypes+", "+ownRefs) +
			governed("PolicyAssignment", "a", "scope: /subscriptions/s, policyDefinitionId: ours"+set)
	}
	const deny = ", parameters: {effect: {value: Deny}}"
	selector := `, parameters: {selector: {value: {matchLabels: {c: d}}}}`
	overriding := `overrides: [{kind: policyEffect, value: Deny, selectors: [{kind: resourceLocation, in: [westeurope]}]}]`
	overridingNot := `overrides: [{kind: policyEffect, value: Deny, selectors: [{kind: resourceLocation, notIn: [eastus]}]}]`
	located := `resourceSelectors: [{name: near, selectors: [{kind: resourceLocation, in: [westeurope]}]}]`
	locatedNot := `resourceSelectors: [{name: near, selectors: [{kind: resourceLocation, notIn: [eastus]}]}]`
	messages := `nonComplianceMessages: [{message: sign it}, {message: sign this one, policyDefinitionReferenceId: imageIntegrityNotationVerification}]`
	const later, before = "2026-12-24T12:00:00Z", "2026-10-24T12:00:00Z"
	for _, e := range []effect{
		{field: "Cluster.spec.scope", text: assigned, from: "scope: /subscriptions/s/resourceGroups/g", to: "scope: /subscriptions/other"},
		{field: "Cluster.spec.managementGroups", text: one + governed("PolicyAssignment", "a", "scope: /providers/Microsoft.Management/managementGroups/mg, policyDefinitionId: image-integrity"), from: "managementGroups: [/providers/Microsoft.Management/managementGroups/mg]", to: "managementGroups: []"},
		{field: "Cluster.spec.location", text: with(located), from: "location: westeurope", to: "location: eastus"},
		{field: "Cluster.spec.engine", text: assigned, from: "location: westeurope", to: "location: westeurope, engine: Gatekeeper"},
		{field: "Cluster.spec.securityProfile.imageIntegrity.enabled", text: set, from: "location: westeurope", to: "location: westeurope, securityProfile: {imageIntegrity: {enabled: true}}"},
		{field: "Cluster.spec.securityProfile.imageIntegrity.purgeOnDisable", text: set, from: "location: westeurope", to: "location: westeurope, securityProfile: {imageIntegrity: {purgeOnDisable: true}}"},
		{field: "Cluster.spec.addonProfiles.azurePolicy.enabled", text: set, from: "location: westeurope", to: "location: westeurope, addonProfiles: {azurePolicy: {enabled: true}}"},

		{field: "FeatureRegistration.spec.namespace", text: preview(feature), from: "namespace: Microsoft.ContainerService", to: "namespace: Microsoft.Compute", refused: "features are those of one namespace"},
		{field: "FeatureRegistration.spec.name", text: preview(feature), from: "name: ImageIntegrityPreview", to: "name: EnableImageIntegrityPreview"},
		{field: "FeatureRegistration.spec.scope", text: preview(feature), from: "ImageIntegrityPreview, scope: /subscriptions/s", to: "ImageIntegrityPreview, scope: /subscriptions/other"},

		{field: "PolicyAssignment.spec.scope", text: assigned, from: "scope: /subscriptions/s, policy", to: "scope: /subscriptions/other, policy"},
		{field: "PolicyAssignment.spec.notScopes", text: with("notScopes: [/subscriptions/s/resourceGroups/other]"), from: "resourceGroups/other", to: "resourceGroups/g"},
		{field: "PolicyAssignment.spec.policyDefinitionId", text: assigned, from: "policyDefinitionId: image-integrity-verification", to: "policyDefinitionId: image-integrity"},
		{field: "PolicyAssignment.spec.definitionVersion", text: with(`definitionVersion: "1.0.0"`), from: `"1.0.0"`, to: `"2.0.0"`, refused: "there is no such version"},
		{field: "PolicyAssignment.spec.parameters{}.value", text: with("parameters: {effect: {value: Audit}}"), from: "value: Audit", to: "value: Deny"},
		{field: "PolicyAssignment.spec.enforcementMode", text: with("parameters: {effect: {value: Deny}}, enforcementMode: Default"), from: "enforcementMode: Default", to: "enforcementMode: DoNotEnforce"},
		{field: "PolicyAssignment.spec.nonComplianceMessages[].message", text: of(messages), from: "message: sign this one", to: "message: sign that one"},
		{field: "PolicyAssignment.spec.nonComplianceMessages[].policyDefinitionReferenceId", text: of(messages), from: "policyDefinitionReferenceId: imageIntegrityNotationVerification", to: "policyDefinitionReferenceId: deployAKSPolicyAddOn"},
		{field: "PolicyAssignment.spec.overrides[].kind", text: with(overriding), from: "kind: policyEffect", to: "kind: policyVersion", refused: "an effect is no version"},
		{field: "PolicyAssignment.spec.overrides[].value", text: with(overriding), from: "value: Deny", to: "value: Disabled"},
		{field: "PolicyAssignment.spec.overrides[].selectors[].kind", text: with(overriding), from: "kind: resourceLocation", to: "kind: resourceType"},
		{field: "PolicyAssignment.spec.overrides[].selectors[].in", text: with(overriding), from: "in: [westeurope]", to: "in: [eastus]"},
		{field: "PolicyAssignment.spec.overrides[].selectors[].notIn", text: with(overridingNot), from: "notIn: [eastus]", to: "notIn: [westeurope]"},
		{field: "PolicyAssignment.spec.resourceSelectors[].name", text: with(located), from: "name: near", to: "name: far", nothing: "it is for people"},
		{field: "PolicyAssignment.spec.resourceSelectors[].selectors[].kind", text: with(located), from: "kind: resourceLocation", to: "kind: resourceType"},
		{field: "PolicyAssignment.spec.resourceSelectors[].selectors[].in", text: with(located), from: "in: [westeurope]", to: "in: [eastus]"},
		{field: "PolicyAssignment.spec.resourceSelectors[].selectors[].notIn", text: with(locatedNot), from: "notIn: [eastus]", to: "notIn: [westeurope]"},

		{field: "PolicyExemption.spec.policyAssignmentId", text: exempt("") + governed("PolicyAssignment", "b", "scope: /subscriptions/s, policyDefinitionId: image-integrity-verification"), from: "policyAssignmentId: a", to: "policyAssignmentId: b"},
		{field: "PolicyExemption.spec.exemptionCategory", text: exempt(", within: {namespaces: [old]}"), from: "exemptionCategory: Waiver", to: "exemptionCategory: Mitigated"},
		{field: "PolicyExemption.spec.expiresOn", text: exempt(", expiresOn: " + later), from: later, to: before},
		{field: "PolicyExemption.spec.policyDefinitionReferenceIds", text: exempt(", policyDefinitionReferenceIds: [imageIntegrityNotationVerification]"), from: "[imageIntegrityNotationVerification]", to: "[deployAKSPolicyAddOn]"},
		{field: "PolicyExemption.spec.scope", text: exempt(", scope: /subscriptions/s/resourceGroups/g"), from: "Waiver, scope: /subscriptions/s/resourceGroups/g", to: "Waiver, scope: /subscriptions/s/resourceGroups/other"},
		{field: "PolicyExemption.spec.within.namespaces", text: exempt(", within: {namespaces: [old]}"), from: "[old]", to: "[older]"},
		{field: "PolicyExemption.spec.within.images", text: exempt(", within: {images: [reg.example/old/*]}"), from: "reg.example/old/*", to: "reg.example/older/*"},
		{field: "PolicyExemption.spec.within.workloads", text: exempt(", within: {namespaces: [old], workloads: [Deployment/web]}"), from: "Deployment/web", to: "Deployment/api"},

		{field: "PolicyDefinition.spec.policyType", text: defined(", policyType: Custom", ""), from: "policyType: Custom", to: "policyType: Static", nothing: "it says who wrote it"},
		{field: "PolicyDefinition.spec.mode", text: defined("", ""), from: "mode: Microsoft.Kubernetes.Data", to: "mode: Indexed", refused: "each mode has its rules"},
		{field: "PolicyDefinition.spec.metadata.preview", text: defined(", metadata: {preview: false}", ""), from: "preview: false", to: "preview: true"},
		{field: "PolicyDefinition.spec.version", text: defined(", version: 1.0.0", `, definitionVersion: "1.0.0"`), from: "version: 1.0.0", to: "version: 1.1.0", refused: "the assignment asks for another"},
		{field: "PolicyDefinition.spec.versions", text: defined(", versions: [1.0.0]", ""), from: "versions: [1.0.0]", to: "versions: [0.9.0]", nothing: "of what was, there is no content"},
		{field: "PolicyDefinition.spec.parameters{}.type", text: defined("", ""), from: "effect: {type: String", to: "effect: {type: Array", refused: "an effect is a text"},
		{field: "PolicyDefinition.spec.parameters{}.defaultValue", text: defined("", ""), from: "defaultValue: Audit", to: "defaultValue: Deny"},
		{field: "PolicyDefinition.spec.parameters{}.allowedValues", text: defined("", deny), from: "allowedValues: [Audit, Deny]", to: "allowedValues: [Audit]", refused: "the assignment sets another"},
		{field: "PolicyDefinition.spec.parameters{}.schema", text: defined("", selector), from: "properties: {matchLabels: {type: object}}", to: "properties: {matchLabels: {type: array}}", refused: "the value is none"},
		{field: "PolicyDefinition.spec.policyRule", text: defined("", ""), from: "equals: Microsoft.ContainerService/managedClusters", to: "equals: Microsoft.Kubernetes/connectedClusters"},

		{field: "PolicySetDefinition.spec.policyType", text: grouped("policyType: Custom", ""), from: "policyType: Custom", to: "policyType: Static", nothing: "it says who wrote it"},
		{field: "PolicySetDefinition.spec.metadata.preview", text: grouped("metadata: {preview: false}", ""), from: "preview: false", to: "preview: true"},
		{field: "PolicySetDefinition.spec.version", text: grouped("version: 1.0.0", `, definitionVersion: "1.0.0"`), from: "version: 1.0.0", to: "version: 1.1.0", refused: "the assignment asks for another"},
		{field: "PolicySetDefinition.spec.versions", text: grouped("versions: [1.0.0]", ""), from: "versions: [1.0.0]", to: "versions: [0.9.0]", nothing: "of what was, there is no content"},
		{field: "PolicySetDefinition.spec.parameters{}.type", text: grouped("", ""), from: "effect: {type: String", to: "effect: {type: Array", refused: "an effect is a text"},
		{field: "PolicySetDefinition.spec.parameters{}.defaultValue", text: grouped("", ""), from: "defaultValue: Audit", to: "defaultValue: Deny"},
		{field: "PolicySetDefinition.spec.parameters{}.allowedValues", text: grouped("", deny), from: "allowedValues: [Audit, Deny]", to: "allowedValues: [Audit]", refused: "the assignment sets another"},
		{field: "PolicySetDefinition.spec.parameters{}.schema", text: grouped("", selector), from: "properties: {matchLabels: {type: object}}", to: "properties: {matchLabels: {type: array}}", refused: "the value is none"},
		{field: "PolicySetDefinition.spec.policyDefinitions[].policyDefinitionReferenceId", text: grouped("", ""), from: "policyDefinitionReferenceId: one", to: "policyDefinitionReferenceId: three"},
		{field: "PolicySetDefinition.spec.policyDefinitions[].policyDefinitionId", text: grouped("", ""), from: "policyDefinitionId: deploy-policy-add-on", to: "policyDefinitionId: deploy-image-integrity"},
		{field: "PolicySetDefinition.spec.policyDefinitions[].definitionVersion", text: grouped("", ""), from: `definitionVersion: "1.*.*"`, to: `definitionVersion: "2.*.*"`, refused: "there is no such version"},
		{field: "PolicySetDefinition.spec.policyDefinitions[].parameters{}.value", text: grouped("", ""), from: `value: "[parameters('effect')]"`, to: `value: Disabled`},
	} {
		e.show(t, demanded)
	}
}

// TestEachFieldOfARemediationHasAnEffect: it changes which clusters are changed, how many
// at a time, and when that ends.
func TestEachFieldOfARemediationHasAnEffect(t *testing.T) {
	t.Parallel()
	for _, e := range []effect{
		{field: "Remediation.spec.policyAssignmentId", text: "policyAssignmentId: a", from: "policyAssignmentId: a", to: "policyAssignmentId: gone"},
		{field: "Remediation.spec.policyDefinitionReferenceId", text: "policyAssignmentId: set, policyDefinitionReferenceId: deployAKSImageIntegrity", from: "deployAKSImageIntegrity", to: "imageIntegrityNotationVerification"},
		{field: "Remediation.spec.resourceCount", text: "policyAssignmentId: a, resourceCount: 2", from: "resourceCount: 2", to: "resourceCount: 3"},
		{field: "Remediation.spec.parallelDeployments", text: "policyAssignmentId: a, parallelDeployments: 2", from: "parallelDeployments: 2", to: "parallelDeployments: 3"},
		{field: "Remediation.spec.failureThreshold.percentage", text: "policyAssignmentId: a, parallelDeployments: 1, failureThreshold: {percentage: 100}", from: "percentage: 100", to: "percentage: 0"},
		{field: "Remediation.spec.filters.locations", text: "policyAssignmentId: a, filters: {locations: [westeurope]}", from: "[westeurope]", to: "[eastus]"},
		{field: "Remediation.spec.cancel", text: "policyAssignmentId: a, cancel: false", from: "cancel: false", to: "cancel: true"},
	} {
		e.show(t, remediated)
	}
}

// show holds an effect against what comes of it.
func (e effect) show(t *testing.T, see func(*testing.T, string) (string, error)) {
	t.Helper()
	if strings.Count(e.text, e.from) != 1 {
		t.Errorf("%s: %q is there %d times in\n%s", e.field, e.from, strings.Count(e.text, e.from), e.text)
		return
	}
	before, err := see(t, e.text)
	if err != nil {
		t.Errorf("%s: it is refused before the change: %v", e.field, err)
		return
	}
	after, err := see(t, strings.Replace(e.text, e.from, e.to, 1))
	var problems strict.Problems
	switch {
	case e.refused != "":
		if !errors.As(err, &problems) {
			t.Errorf("%s: not refused (%v), although %s", e.field, err, e.refused)
		}
	case err != nil:
		t.Errorf("%s: the change is refused: %v", e.field, err)
	case e.nothing != "" && after != before:
		t.Errorf("%s changes something, although %s:\n%s\n---\n%s", e.field, e.nothing, before, after)
	case e.nothing == "" && after == before:
		t.Errorf("%s: %q in place of %q changes nothing:\n%s", e.field, e.to, e.from, before)
	}
}

func texts(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// demanded are what documents demand of their clusters, and the objects that it becomes.
// Why something does not apply counts as a word, not as what is said about it. The error
// is what 'boltseal validate' says.
func demanded(t *testing.T, text string) (string, error) {
	t.Helper()
	now := func() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }
	docs, err := strict.Documents("f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if problems, _ := check.Documents(docs, check.Options{Clock: now}); len(problems) > 0 {
		return "", problems
	}
	in := resolve.Input{Clock: now}
	library := definition.BuiltIns()
	var clusters []v1alpha1.Cluster
	for _, part := range strings.Split(text, "\n---\n")[1:] {
		var o struct {
			Kind string `json:"kind"`
		}
		into := func(o any) {
			if err := yaml.UnmarshalStrict([]byte(part), o); err != nil {
				t.Fatal(err)
			}
		}
		if err := yaml.Unmarshal([]byte(part), &o); err != nil {
			t.Fatal(err)
		}
		switch o.Kind {
		case v1alpha1.KindCluster:
			clusters = append(clusters, v1alpha1.Cluster{})
			into(&clusters[len(clusters)-1])
		case v1alpha1.KindPolicyAssignment:
			in.Assignments = append(in.Assignments, v1alpha1.PolicyAssignment{})
			into(&in.Assignments[len(in.Assignments)-1])
		case v1alpha1.KindPolicyExemption:
			in.Exemptions = append(in.Exemptions, v1alpha1.PolicyExemption{})
			into(&in.Exemptions[len(in.Exemptions)-1])
		case v1alpha1.KindFeatureRegistration:
			in.Features = append(in.Features, v1alpha1.FeatureRegistration{})
			into(&in.Features[len(in.Features)-1])
		case v1alpha1.KindPolicyDefinition:
			d := &v1alpha1.PolicyDefinition{}
			into(d)
			err = library.Add(definition.Object{Definition: d})
		case v1alpha1.KindPolicySetDefinition:
			s := &v1alpha1.PolicySetDefinition{}
			into(s)
			err = library.Add(definition.Object{Set: s})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	in.Library = library
	r := resolve.New(in)
	out := []string{}
	problems := r.Problems()
	for i := range clusters {
		o := r.ForCluster(&clusters[i])
		problems = append(problems, o.Problems...)
		engine := o.Bundle.Engine
		if engine == "" {
			engine = v1alpha1.EngineBoltseal
		}
		own, err := chart.GatekeeperTemplate()
		if err != nil {
			t.Fatal(err)
		}
		rendered, err := render.Render(render.Input{Engine: engine, Demands: o.Bundle.Demands, OwnTemplate: own, Clock: now})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, texts(t, o.Bundle), texts(t, o.Deployments), texts(t, rendered.Objects))
	}
	for _, p := range problems {
		out = append(out, p.Assignment+p.Exemption+" "+p.Reference+" "+p.Reason)
	}
	return strings.Join(out, "\n"), nil
}

// remediated is what becomes of clusters by a remediation's spec, where the first of them
// fails.
func remediated(t *testing.T, spec string) (string, error) {
	t.Helper()
	names := []string{"c0", "c1", "c2", "c3"}
	f := newFleet(t, names...)
	f.w.assignments = append(f.w.assignments, v1alpha1.PolicyAssignment{Spec: v1alpha1.PolicyAssignmentSpec{Scope: "/", PolicyDefinitionID: "image-integrity"}})
	f.w.assignments[1].Name = "set"
	for i := range f.w.clusters {
		f.w.clusters[i].Spec.Location = []string{"westeurope", "eastus"}[i%2]
		if err := f.client.Update(t.Context(), &f.w.clusters[i]); err != nil {
			t.Fatal(err)
		}
	}
	f.see(t, names...)
	f.m.Spec = v1alpha1.RemediationSpec{}
	if err := yaml.UnmarshalStrict([]byte("{"+spec+"}"), &f.m.Spec); err != nil {
		return "", err
	}
	f.step(t, names...)
	f.reports("c0", v1alpha1.AddOnFailed, "no room")
	st := f.step(t, names...)
	var changed []string
	for _, name := range names {
		if integrity, _ := deployFields(f.w.plans[name].cluster); integrity != nil {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	return fmt.Sprint(st.ProvisioningState, texts(t, st.DeploymentStatus), changed), nil
}
