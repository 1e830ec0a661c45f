package definition

import (
	"strings"
)

var existenceNotSupported = map[string]string{
	"resourceGroupName": "what must exist is looked for on the cluster itself",
	"existenceScope":    "what must exist is looked for on the cluster itself",
	"deploymentScope":   "what is deployed is the cluster's own",
}

// existence compiles the details of AuditIfNotExists and DeployIfNotExists.
func (r *report) existence(details node, s scope) (*condition, Deploy) {
	known := []string{"type", "name", "evaluationDelay", "roleDefinitionIds", "existenceCondition", "deployment"}
	if !r.members(details, known, existenceNotSupported) {
		return nil, Deploy{}
	}
	if t, _ := details.get("type"); t.kind != stringKind || !strings.EqualFold(t.text, ManagedClusters) {
		r.at(details, "type must be %s, the cluster itself, and is %s", ManagedClusters, t.what())
	}
	name, _ := details.get("name")
	if e := policyExpression(name); e == nil || !isClusterName(e) {
		r.at(details, "name must be [field('name')], the cluster itself, and is %s", name.what())
	}
	if d, ok := details.get("evaluationDelay"); ok && d.text != "AfterProvisioning" && d.text != "AfterProvisioningSuccess" {
		r.at(d, "must be AfterProvisioning or AfterProvisioningSuccess, and is %s", d.what())
	}
	r.texts(details, "roleDefinitionIds", MaxList, maxID)
	e, ok := details.get("existenceCondition")
	if !ok {
		r.at(details, "existenceCondition is missing: without one the cluster itself would be enough")
		return nil, Deploy{}
	}
	c := r.condition(e, s)
	d, ok := details.get("deployment")
	if !ok {
		return &c, Deploy{}
	}
	return &c, r.deployment(d)
}

// policyExpression parses a node that is an expression, nil where it is none.
func policyExpression(n node) *expr {
	inner, ok := innerExpression(n.text)
	if n.kind != stringKind || !ok {
		return nil
	}
	e, err := parseExpression(inner)
	if err != nil {
		return nil
	}
	return e
}

// isClusterName tells whether an expression is the name of the cluster that the
// policy is about.
func isClusterName(e *expr) bool {
	if !e.is("field", 1) {
		return false
	}
	name, _ := e.args[0].word()
	return strings.EqualFold(name, "name")
}

// knownDeployments are what the deployments do that are taken: those of Azure's published
// definitions and of the built-in ones, by the digest of their properties.
//
// A template is not run, nor followed: it is a program, which can set anything by ways
// that only Azure's own interpreter knows. What is not known to the letter is refused.
var knownDeployments = map[string]Deploy{
	"8ce32f45546d45806943929eb337471fb20ff5bc5c89abc1ecc49792bf35d556": {PolicyAddOn: true},                       // Azure's "Deploy Azure Policy Add-on to Azure Kubernetes Service clusters"
	"3c8c502044766b00bdddc3fc124d824314626c268e4830f68ab14ecc6e63e05f": {ImageIntegrity: true, PolicyAddOn: true}, // Azure's "Deploy Image Integrity on Azure Kubernetes Service"
	"26f9882ccf95d854e5c5b8fa61e3510a185e71b5971cd16063b5d8c72c15bece": {PolicyAddOn: true},                       // deploy-policy-add-on
	"13191b32f16088241424a2dfe8212952ecbdbb625c7e970ec8442c9602cc2d00": {ImageIntegrity: true, PolicyAddOn: true}, // deploy-image-integrity
}

// deployment says what a deployment enables on the cluster. It reports one that is not
// known.
func (r *report) deployment(n node) Deploy {
	if !r.members(n, []string{"properties"}, map[string]string{"location": "the deployment is the cluster's own"}) {
		return Deploy{}
	}
	props, ok := n.get("properties")
	if !ok {
		r.at(n, "properties is missing")
		return Deploy{}
	}
	known, ok := knownDeployments[props.digest()]
	if !ok {
		r.at(props, "this deployment is not known, and what it would set on a cluster is not known: Boltseal runs no templates. Known are, unchanged, the deployments of Azure's definitions for image integrity and for the Azure Policy add-on: assign one of them, or the built-in definition deploy-image-integrity or deploy-policy-add-on. To see which clusters lack something, use the effect AuditIfNotExists and no deployment")
	}
	return known
}
