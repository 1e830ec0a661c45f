package definition

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/strict"
)

func TestWhatIsNotSupportedIsRefusedWithItsPlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ file, old, new, field, message string }{
		"not JSON":              {fileVerify, `"mode":`, `"mode"`, "properties.mode", "is not JSON"},
		"twice":                 {fileVerify, `"mode":`, `"mode": "Indexed", "mode":`, "properties", "is listed twice: mode"},
		"unknown field":         {fileVerify, `"policyType"`, `"policyTipe"`, "properties.policyTipe", `did you mean "policyType"?`},
		"envelope":              {fileVerify, `"id":`, `"idd":`, "idd", `did you mean "id"?`},
		"mode":                  {fileVerify, `"Microsoft.Kubernetes.Data"`, `"All"`, "properties.mode", "supported are Microsoft.Kubernetes.Data and Indexed"},
		"parameter type":        {fileVerify, `"type": "Boolean"`, `"type": "Bolean"`, "properties.parameters.warn.type", `did you mean "boolean"?`},
		"default":               {fileVerify, `"defaultValue": false`, `"defaultValue": "no"`, "properties.parameters.warn.defaultValue", "must be of type boolean"},
		"default not allowed":   {fileVerify, `"defaultValue": "Audit"`, `"defaultValue": "audit"`, "properties.parameters.effect.defaultValue", `allowed are "Audit", "Disabled"`},
		"schema word":           {fileVerify, `"minItems"`, `"uniqueItems"`, "schema.properties.matchExpressions.uniqueItems", "unknown field"},
		"effect":                {fileVerify, `"Disabled"`, `"Mutate"`, "properties.parameters.effect.allowedValues[1]", `"Mutate" is not supported in mode`},
		"field":                 {fileVerify, `"field": "type"`, `"field": "tipe"`, "properties.policyRule.if.field", `did you mean "type"?`},
		"no such field":         {fileVerify, `"field": "type"`, `"field": "tags.x"`, "properties.policyRule.if.field", "known here: type, name, location"},
		"operator":              {fileVerify, `"in": [`, `"like": [`, "properties.policyRule.if.like", "the operator is not supported"},
		"operator misspelt":     {fileVerify, `"in": [`, `"notinn": [`, "properties.policyRule.if.notinn", `did you mean "notIn"?`},
		"count":                 {fileVerify, `"field": "type"`, `"count": {}`, "properties.policyRule.if.count", "is not supported"},
		"details":               {fileVerify, `"warn": "[`, `"wran": "[`, "properties.policyRule.then.details.wran", `did you mean "warn"?`},
		"constraintInfo":        {fileVerify, `"templateInfo"`, `"constraintInfo"`, "properties.policyRule.then.details.constraintInfo", "is not supported: constraints are made"},
		"URL":                   {fileVerify, `/v1/template.yaml`, `/v2/template.yaml`, "properties.policyRule.then.details.templateInfo.url", "nothing is fetched from the network"},
		"source type":           {fileVerify, `"PublicURL"`, `"PublicUrl"`, "properties.policyRule.then.details.templateInfo", `and is "PublicUrl"`},
		"kinds":                 {fileVerify, `"Pod"`, `"*"`, "properties.policyRule.then.details.kinds", "* is not allowed"},
		"other kinds":           {fileVerify, `"Pod"`, `"Deployment"`, "properties.policyRule.then.details", "the images of pods are verified"},
		"values":                {fileVerify, `"excludedImages": "[`, `"excludedImage": "[`, "properties.policyRule.then.details.values.excludedImage", `did you mean "excludedImages"?`},
		"no parameter":          {fileVerify, `parameters('warn')`, `parameters('wran')`, "properties.policyRule.then.details.warn", `there is no parameter "wran" (did you mean "warn"?)`},
		"parameter's type":      {fileVerify, `parameters('warn')`, `parameters('source')`, "properties.policyRule.then.details.warn", "must be of type boolean"},
		"function":              {fileVerify, `[parameters('warn')]`, `[toLower(parameters('warn'))]`, "properties.policyRule.then.details.warn", "the function toLower() is not supported"},
		"expression":            {fileVerify, `[parameters('warn')]`, `[parameters('warn'`[:18] + `]`, "properties.policyRule.then.details.warn", "the expression is not understood at character"},
		"excluded namespaces":   {fileVerify, `"azure-arc",`, `"Azure_Arc",`, "properties.policyRule.then.details.excludedNamespaces", "is no namespace"},
		"set version":           {fileSet, `"4.*.*"`, `"*.*.*"`, "properties.policyDefinitions[1].definitionVersion", "is no version to look for"},
		"set twice":             {fileSet, `"deployAKSPolicyAddOn"`, `"deployAKSImageIntegrity"`, "properties.policyDefinitions[1].policyDefinitionReferenceId", "is listed twice"},
		"set parameter":         {fileSet, `parameters('labelSelector')`, `parameters('lableSelector')`, "properties.policyDefinitions[2].parameters.labelSelector.value", `did you mean "labelSelector"?`},
		"set field":             {fileSet, `[parameters('labelSelector')]`, `[field('name')]`, "properties.policyDefinitions[2].parameters.labelSelector.value", "do not depend on a cluster"},
		"set mode":              {fileSet, `"policyType"`, `"mode": "Indexed", "policyType"`, "properties.mode", "a definition has it"},
		"related type":          {fileAddOn, "\"type\": \"Microsoft.ContainerService/managedClusters\",\n          \"name\"", "\"type\": \"Microsoft.Web/sites\",\n          \"name\"", "properties.policyRule.then.details", "the cluster itself"},
		"related name":          {fileAddOn, `"name": "[field('name')]"`, `"name": "x"`, "properties.policyRule.then.details", "name must be [field('name')]"},
		"complete":              {fileAddOn, `"mode": "incremental"`, `"mode": "complete"`, "details.deployment.properties", "is not known"},
		"sets another property": {fileAddOn, `"enabled": true`, `"enabled": true, "config": {"x": "y"}`, "details.deployment.properties", "is not known"},
		"switches off":          {fileAddOn, `"enabled": true`, `"enabled": false`, "details.deployment.properties", "is not known"},
		"copies elsewhere":      {fileAddOn, `parameters('aksClusterContent').properties.networkProfile, json`, `parameters('aksClusterContent').properties.aadProfile, json`, "details.deployment.properties", "is not known"},
		"another cluster":       {fileAddOn, "\"value\": \"[parameters('clusterName')]\"", `"value": "other"`, "details.deployment.properties", "is not known"},
		"reads another cluster": {fileAddOn, `'Microsoft.ContainerService/managedClusters', parameters('clusterName')`, `'Microsoft.ContainerService/managedClusters', 'other'`, "details.deployment.properties", "is not known"},
		"another resource":      {fileAddOn, "\"type\": \"Microsoft.ContainerService/managedClusters\",\n                            \"name\"", "\"type\": \"Microsoft.Web/sites\",\n                            \"name\"", "details.deployment.properties", "is not known"},
		"another group":         {fileAddOn, "\"name\": \"[variables('clusterUpdateDeploymentName')]\",", "\"name\": \"x\", \"resourceGroup\": \"y\",", "details.deployment.properties", "is not known"},
		"no existence":          {fileAddOn, `"existenceCondition"`, `"existenceConditions"`, "details.existenceConditions", `did you mean "existenceCondition"?`},
		"variable of itself":    {fileAddOn, `[take(concat('Policy-Get-', parameters('clusterName')), 64)]`, `[variables('clusterGetDeploymentName')]`, "details.deployment.properties", "is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := string(published(t, c.file))
			if !strings.Contains(in, c.old) {
				t.Fatalf("%q is not in %s", c.old, c.file)
			}
			_, err := Import("", []byte(strings.Replace(in, c.old, c.new, 1)))
			var ps strict.Problems
			if !errors.As(err, &ps) || !errors.Is(err, boltseal.ErrConfiguration) {
				t.Fatalf("%v", err)
			}
			for _, p := range ps {
				if strings.HasSuffix(p.Field, c.field) && strings.Contains(p.Message, c.message) {
					if p.Line < 2 {
						t.Errorf("line %d: %v", p.Line, p)
					}
					return
				}
			}
			t.Errorf("want %s: …%s…, got\n%v", c.field, c.message, err)
		})
	}
}

func TestParametersAreChecked(t *testing.T) {
	t.Parallel()
	d := compiled(t, fileVerify)
	for name, c := range map[string]struct{ parameter, value, message string }{
		"unknown":         {"efect", `"Audit"`, `parameters.efect: there is no such parameter (did you mean "effect"?)`},
		"type":            {"warn", `"true"`, "parameters.warn: must be of type boolean"},
		"null":            {"warn", `null`, "must be of type boolean, and is null"},
		"nothing":         {"warn", ``, "ends too early"},
		"case":            {"effect", `"audit"`, `"audit" is not allowed; allowed are "Audit", "Disabled"`},
		"not allowed":     {"effect", `"Deny"`, `"Deny" is not allowed`},
		"schema":          {"labelSelector", `{"matchLabel":{}}`, `unknown field "matchLabel" (did you mean "matchLabels"?)`},
		"schema below":    {"labelSelector", `{"matchExpressions":[{"key":"a","operator":"Is"}]}`, `matchExpressions[0].operator`},
		"required":        {"labelSelector", `{"matchExpressions":[{"key":"a"}]}`, `"operator" is missing`},
		"too few":         {"labelSelector", `{"matchLabels":{}}`, "too few or too many"},
		"selector":        {"labelSelector", `{"matchExpressions":[{"key":"a","operator":"In"}]}`, "labelSelector"},
		"namespace":       {"excludedNamespaces", `["*"]`, "is no namespace"},
		"all images":      {"excludedImages", `["*"]`, "would exclude every image"},
		"star inside":     {"excludedImages", `["a*/b"]`, "only an ending can be left open"},
		"image's type":    {"excludedImages", `[1]`, "entry 1 must be a text"},
		"not JSON":        {"excludedImages", `[`, "parameters.excludedImages"},
		"no expression":   {"effect", `"[parameters('effect')]"`, "is not allowed"},
		"too long a list": {"excludedImages", `["a"` + strings.Repeat(`,"a"`, MaxList) + `]`, "more than 1000"},
		"too much":        {"excludedImages", `["` + strings.Repeat("a", MaxValueBytes) + `"]`, "is longer than"},
	} {
		_, err := d.Bind(set(c.parameter, c.value), ClusterFields{})
		if err == nil || !strings.Contains(err.Error(), c.message) || !errors.Is(err, boltseal.ErrConfiguration) {
			t.Errorf("%s: %v", name, err)
		}
	}
	spec := imported(t, fileVerify).Definition.Spec
	p := spec.Parameters["warn"]
	p.DefaultValue = nil
	spec.Parameters["warn"] = p
	d, err := Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Bind(nil, ClusterFields{}); err == nil || !strings.Contains(err.Error(), "parameters.warn: must be set") {
		t.Errorf("%v", err)
	}
}

func TestFilesOverALimit(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"bytes":       strings.Repeat(" ", MaxBytes+1),
		"depth":       strings.Repeat("[", 1000) + strings.Repeat("]", 1000),
		"values":      "[" + strings.Repeat("1,", maxNodes) + "1]",
		"objects":     "[" + strings.Repeat("{},", MaxObjects) + "{}]",
		"none":        "[]",
		"empty":       "",
		"two":         "{} {}",
		"no name":     `{"mode":"Indexed","policyRule":{"if":{"field":"type","equals":"x"},"then":{"effect":"Audit"}}}`,
		"not UTF-8":   "{\"a\": \"\xff\"}",
		"deep in if":  `{"name":"x","mode":"Indexed","policyRule":{"if":` + strings.Repeat(`{"not":`, 50) + `{}` + strings.Repeat("}", 50) + `,"then":{"effect":"Audit"}}}`,
		"both":        `{"name":"x","policyRule":{},"policyDefinitions":[]}`,
		"wrong type":  `{"name":"x","type":"Microsoft.Authorization/policySetDefinitions","policyRule":{}}`,
		"name":        `{"name":"x y","mode":"Indexed","policyRule":{"if":{"field":"type","equals":"x"},"then":{"effect":"Audit"}}}`,
		"null rule":   `{"name":"x","mode":"Indexed","policyRule":null}`,
		"deny":        `{"name":"x","mode":"Indexed","policyRule":{"if":{"field":"type","equals":"x"},"then":{"effect":"Deny"}}}`,
		"needs more":  `{"name":"x","mode":"Indexed","policyRule":{"if":{"field":"type","equals":"x"},"then":{"effect":"DeployIfNotExists"}}}`,
		"list in row": `{"name":"x","mode":"Indexed","policyRule":{"if":{"field":"type","equals":["x"]},"then":{"effect":"Audit"}}}`,
	} {
		if _, err := Import("", []byte(in)); !errors.Is(err, boltseal.ErrConfiguration) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTemplatesOfOnesOwn(t *testing.T) {
	t.Parallel()
	in := string(published(t, fileVerify))
	with := func(template string) string {
		in := strings.Replace(in, `"sourceType": "PublicURL"`, `"sourceType": "Base64Encoded"`, 1)
		return strings.Replace(in, `"url": "`+ImageIntegrityURL+`"`, `"content": "`+base64.StdEncoding.EncodeToString([]byte(template))+`"`, 1)
	}
	good := "apiVersion: templates.gatekeeper.sh/v1\nkind: ConstraintTemplate\nmetadata: {name: mytemplate}\nspec: {crd: {spec: {names: {kind: MyTemplate}}}}\n"
	objects, err := Import("Own.Name", []byte(strings.Replace(with(good), `"Pod"`, `"Deployment"`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	d, err := Compile(objects[0].Definition.Spec)
	if err != nil || objects[0].Name() != "own.name" {
		t.Fatal(objects[0].Name(), err)
	}
	b, err := d.Bind(nil, ClusterFields{})
	if err != nil || b.Template.Name != "mytemplate" || string(b.Template.Content) != good || b.Template.BuiltIn() {
		t.Errorf("%+v %v", b, err)
	}
	for _, bad := range []string{"", "kind: Pod", strings.Replace(good, "mytemplate", "my_template", 1), strings.Replace(good, "mytemplate", "other", 1), "{"} {
		if _, err := Import("", []byte(with(bad))); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
