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
	return &c, r.deployment(d, s)
}

// policyExpression parses a node that is an expression, nil where it is none.
func policyExpression(n node) *expr {
	inner, ok := expression(n.text)
	if n.kind != stringKind || !ok {
		return nil
	}
	e, err := parse(inner)
	if err != nil {
		return nil
	}
	return e
}

// deployment finds what an ARM deployment sets on the cluster. The template is
// not run: all that it may do is to enable what Boltseal knows, and to write back
// what the cluster already has.
func (r *report) deployment(n node, s scope) Deploy {
	if !r.members(n, []string{"properties"}, map[string]string{"location": "the deployment is the cluster's own"}) {
		return Deploy{}
	}
	props, _ := n.get("properties")
	if !r.members(props, []string{"mode", "template", "parameters"}, nil) {
		return Deploy{}
	}
	r.incremental(props)
	a := &arm{report: r}
	given := map[string]*expr{}
	for _, m := range r.templateParameters(props) {
		t := r.compileTemplate(m.value, s)
		switch {
		case t.expr != nil:
			given[m.name] = opaqueParameters(t.expr)
		default:
			given[m.name] = &expr{value: t.node}
		}
	}
	tmpl, ok := props.get("template")
	if !ok {
		r.at(props, "template is missing")
		return Deploy{}
	}
	before := len(r.problems)
	a.template(tmpl, given, 0)
	if len(r.problems) == before && a.deploy == (Deploy{}) {
		r.at(tmpl, "the deployment enables nothing that Boltseal knows: neither securityProfile.imageIntegrity nor addonProfiles.azurepolicy of a %s", ManagedClusters)
	}
	return a.deploy
}

// opaqueParameters keeps a policy's parameters apart from a template's of the
// same name.
func opaqueParameters(e *expr) *expr {
	out := *e
	out.size = 1
	if e.is("parameters", -1) {
		out.name = "policyParameters"
	}
	out.args = make([]*expr, len(e.args))
	for i, a := range e.args {
		out.args[i] = opaqueParameters(a)
		out.size += out.args[i].size
	}
	return &out
}

// incremental makes sure that nothing else is deleted.
func (r *report) incremental(props node) {
	if m, ok := props.get("mode"); ok && !strings.EqualFold(m.text, "incremental") {
		r.at(m, "must be Incremental, and is %s", m.what())
	}
}

// templateParameters returns the values that are handed to a template.
func (r *report) templateParameters(props node) []member {
	params, ok := props.get("parameters")
	if !ok {
		return nil
	}
	if params.kind != objectKind {
		r.at(params, "must be an object, and is %s", params.what())
	}
	var out []member
	for _, m := range params.members {
		if !r.members(m.value, []string{"value"}, map[string]string{"reference": "secrets are not read"}) {
			continue
		}
		v, ok := m.value.get("value")
		if !ok {
			r.at(m.value, "value is missing")
		}
		out = append(out, member{m.name, v})
	}
	return out
}

// arm follows a deployment.
type arm struct {
	report *report
	deploy Deploy
	nodes  int // parts of expressions so far
}

// armScope is what an expression of a template may refer to.
type armScope struct {
	parameters map[string]*expr // with nothing left to resolve
	variables  node
	outputs    []output
	busy       map[string]bool // variables that are being resolved
}

// output is what a nested deployment hands out.
type output struct {
	deployment *expr // its name
	name       string
	value      *expr
}

// template follows a template and returns its outputs.
func (a *arm) template(n node, given map[string]*expr, depth int) []output {
	s := &armScope{parameters: map[string]*expr{}, busy: map[string]bool{}}
	if !a.declares(n, s, given) {
		return nil
	}
	return a.body(n, s, depth)
}

// declares checks what a template declares and takes the parameters' values.
func (a *arm) declares(n node, s *armScope, given map[string]*expr) bool {
	if !a.report.members(n, []string{"$schema", "contentVersion", "parameters", "variables", "resources", "outputs"}, map[string]string{"functions": "only the functions of Azure are followed"}) {
		return false
	}
	s.variables, _ = n.get("variables")
	declared, _ := n.get("parameters")
	for _, m := range declared.members {
		if !a.report.members(m.value, []string{"type", "defaultValue", "metadata"}, nil) {
			continue
		}
		v, ok := given[m.name]
		if d, has := m.value.get("defaultValue"); !ok && has {
			v = a.resolve(d, s)
			ok = v != nil
		}
		if !ok {
			a.report.at(m.value, "the deployment gives this parameter no value")
			continue
		}
		s.parameters[m.name] = v
	}
	for name := range given {
		if _, ok := declared.get(name); !ok {
			a.report.at(n, "the template has no parameter %q, and is given one%s", cut(name), hint(name, names(declared)))
		}
	}
	return true
}

func names(n node) []string {
	var out []string
	for _, m := range n.members {
		out = append(out, m.name)
	}
	return out
}

// body follows a template's resources; first the deployments, whose outputs the
// rest may refer to.
func (a *arm) body(n node, s *armScope, depth int) []output {
	if depth > maxExprDepth {
		a.report.at(n, "templates are nested deeper than %d levels", maxExprDepth)
		return nil
	}
	resources, _ := n.get("resources")
	if resources.kind != arrayKind {
		a.report.at(n, "resources must be a list, and is %s", resources.what())
	}
	for _, res := range resources.items {
		t, _ := res.get("type")
		switch {
		case strings.EqualFold(t.text, "Microsoft.Resources/deployments"):
			a.nested(res, s, depth)
		case strings.EqualFold(t.text, ManagedClusters):
			a.cluster(res, s)
		default:
			a.report.at(res, "a resource of type %s is not deployed here; only %s is", t.what(), ManagedClusters)
		}
	}
	var out []output
	outputs, _ := n.get("outputs")
	for _, m := range outputs.members {
		v, _ := m.value.get("value")
		if !a.report.members(m.value, []string{"type", "value"}, nil) {
			continue
		}
		if e := a.resolve(v, s); e != nil {
			out = append(out, output{name: m.name, value: e})
		}
	}
	return out
}

func (a *arm) nested(res node, s *armScope, depth int) {
	if !a.report.members(res, []string{"apiVersion", "type", "name", "dependsOn", "properties"}, map[string]string{
		"resourceGroup": "only the cluster's own group is deployed to", "subscriptionId": "only the cluster's own subscription is deployed to",
		"scope": "only the cluster's own group is deployed to", "condition": "a deployment that is conditional cannot be followed",
		"copy": "a deployment that is repeated cannot be followed",
	}) {
		return
	}
	props, _ := res.get("properties")
	if !a.report.members(props, []string{"mode", "expressionEvaluationOptions", "template", "parameters"}, map[string]string{"templateLink": "nothing is fetched from the network"}) {
		return
	}
	a.report.incremental(props)
	inner := false
	if o, ok := props.get("expressionEvaluationOptions"); ok && a.report.members(o, []string{"scope"}, nil) {
		v, _ := o.get("scope")
		inner = strings.EqualFold(v.text, "inner")
		if !inner && !strings.EqualFold(v.text, "outer") {
			a.report.at(v, "must be inner or outer, and is %s", v.what())
		}
	}
	given := map[string]*expr{}
	for _, m := range a.report.templateParameters(props) {
		if e := a.resolve(m.value, s); e != nil {
			given[m.name] = e
		}
	}
	tmpl, _ := props.get("template")
	var outputs []output
	switch {
	case inner:
		outputs = a.template(tmpl, given, depth+1)
	case len(given) > 0:
		a.report.at(props, "parameters have no effect without expressionEvaluationOptions.scope inner")
	case a.report.members(tmpl, []string{"$schema", "contentVersion", "resources", "outputs"}, nil):
		outputs = a.body(tmpl, s, depth+1)
	}
	nameNode, _ := res.get("name")
	name := a.resolve(nameNode, s)
	if name == nil {
		return
	}
	if len(s.outputs)+len(outputs) > maxOutputs {
		a.report.at(res, "the deployments of the template have more than %d outputs", maxOutputs)
		return
	}
	for _, o := range outputs {
		o.deployment = name
		s.outputs = append(s.outputs, o)
	}
}

// known is what the deployment may set, in small letters below the cluster.
func (a *arm) known(path string) bool {
	switch path {
	case "properties.securityprofile.imageintegrity.enabled":
		a.deploy.ImageIntegrity = true
	case "properties.addonprofiles.azurepolicy.enabled":
		a.deploy.PolicyAddOn = true
	case "properties.oidcissuerprofile.enabled": // a prerequisite in Azure, and of no effect here
	default:
		return false
	}
	return true
}

func (a *arm) cluster(res node, s *armScope) {
	name, _ := res.get("name")
	if e := a.resolve(name, s); e == nil || !isClusterName(e) {
		a.report.at(res, "name must be the name of the cluster that the policy is about, [field('name')] in the end, and is %s", name.what())
	}
	for _, m := range res.members {
		switch m.name {
		case "type", "name", "apiVersion", "dependsOn":
		case "condition", "copy", "scope":
			a.report.at(m.value, "a cluster that is deployed with %s cannot be followed", m.name)
		default:
			a.property(m.value, s, []string{m.name})
		}
	}
}

// property accepts what is known, and what copies the cluster's own value.
func (a *arm) property(n node, s *armScope, path []string) {
	if n.kind == objectKind && len(n.members) > 0 {
		for _, m := range n.members {
			a.property(m.value, s, append(path[:len(path):len(path)], m.name))
		}
		return
	}
	if n.kind == boolKind && n.yes && a.known(strings.ToLower(strings.Join(path, "."))) {
		return
	}
	if _, ok := expression(n.text); ok && n.kind == stringKind {
		before := len(a.report.problems)
		e := a.resolve(n, s)
		if e != nil && copies(e, path) || len(a.report.problems) > before {
			return
		}
	}
	a.report.at(n, "sets %s of the cluster to %s, which Boltseal does not do; it enables securityProfile.imageIntegrity and addonProfiles.azurepolicy, and passes over what writes back the cluster's own value", cut(strings.Join(path, ".")), n.what())
}
