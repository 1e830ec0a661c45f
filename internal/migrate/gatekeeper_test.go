package migrate

import (
	"errors"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/test/testca"
)

const (
	provider = "apiVersion: externaldata.gatekeeper.sh/v1beta1\nkind: Provider\nmetadata: {name: ratify-provider}\nspec: {url: 'https://ratify.gatekeeper-system:6001/ratify/gatekeeper/v1/verify', timeout: 5, caBundle: eA==}\n"
	template = `apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: ratifyverification}
spec:
  crd: {spec: {names: {kind: RatifyVerification}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package ratifyverification
      remote_data := response { response := external_data({"provider": "ratify-provider", "keys": ["x"]}) }
      violation[{"msg": "m"}] { remote_data.responses[_][1].isSuccess == false }
`
)

func TestGatekeeper(t *testing.T) {
	t.Parallel()
	base := []string{inline(t, testca.Options{}), store, verifier, ruled}
	for _, tt := range []struct {
		name     string
		docs     []string
		resource string
		field    string
		severity Severity
		words    []string
	}{
		{"a Provider", []string{provider}, "Provider ratify-provider", "spec.url", Differs, []string{"ratify.gatekeeper-system:6001", "https://boltseal.boltseal-system.svc:6001/ratify/gatekeeper/v1/verify"}},
		{"one of another name", []string{strings.Replace(provider, "ratify-provider", "mine", 1)}, "Provider mine", "spec.url", Differs, []string{"--gatekeeper-providers"}},
		{"one that asks Boltseal", []string{strings.Replace(provider, "ratify.gatekeeper-system", "boltseal.boltseal-system.svc", 1)}, "Provider ratify-provider", "spec.url", OK, []string{"asked already"}},
		{"a namesake of Boltseal's", []string{strings.Replace(provider, "ratify.gatekeeper-system", "boltseal.boltseal-systems.svc", 1)}, "Provider ratify-provider", "spec.url", Differs, nil},
		{"little time", []string{strings.Replace(provider, "timeout: 5", "timeout: 1", 1)}, "Provider ratify-provider", "spec.timeout", Differs, []string{"--verify-timeout"}},
		{"a template", []string{template}, "ConstraintTemplate ratifyverification", "spec.targets", OK, []string{"ratify-provider"}},
		{"a template of the newer form", []string{strings.Replace(strings.ReplaceAll(template, "\n      ", "\n          "), "    rego: |", "    code:\n    - engine: Rego\n      source:\n        rego: |", 1)}, "ConstraintTemplate ratifyverification", "spec.targets", OK, nil},
		{"a template that asks by another name", []string{strings.Replace(provider, "ratify-provider", "mine", 1), strings.Replace(template, "ratify-provider", "mine", 1)}, "ConstraintTemplate ratifyverification", "spec.targets", OK, []string{"mine"}},
		{"reports of 1.x", []string{strings.Replace(template, "isSuccess", "nestedReports", 1)}, "ConstraintTemplate ratifyverification", "spec.targets", Unsupported, []string{"version 1.x"}},
		{"what is attached", []string{strings.Replace(template, "isSuccess", "nestedResults", 1)}, "ConstraintTemplate ratifyverification", "spec.targets", Differs, []string{"empty"}},
		{"a provider that is not there", []string{strings.Replace(template, "ratify-provider", "ratify", 1)}, "ConstraintTemplate ratifyverification", "spec.targets", Differs, []string{"asks the provider ratify, which no document here defines", "ratify-provider"}},
		{"a provider that is not there, beside one that is", []string{provider, strings.Replace(template, "ratify-provider", "ratify-providers", 1)}, "ConstraintTemplate ratifyverification", "spec.targets", Differs, []string{"which no document here defines", `did you mean "ratify-provider"`}},
		{"a provider of the constraint", []string{strings.Replace(template, `"ratify-provider"`, "input.parameters.provider", 1)}, "ConstraintTemplate ratifyverification", "spec.targets", OK, []string{"its constraint names"}},
		{"a plugin's reports", []string{strings.Replace(template, "isSuccess == false", `verifierReports[_].type == "sbom"`, 1)}, "ConstraintTemplate ratifyverification", "spec.targets", Unsupported, []string{`verifierReports[].type "sbom"`, "refuses nothing by it"}},
		{"a plugin's reports, always", []string{strings.Replace(template, "remote_data.responses[_][1].isSuccess == false", `not sbom } sbom { remote_data.responses[_][1].verifierReports[_].type == "sbom"`, 1)}, "ConstraintTemplate ratifyverification", "spec.targets", Unsupported, []string{"refuses every image"}},
		{"a field that no report has", []string{strings.Replace(template, "isSuccess == false", `verifierReports[_].extensions.createdAt == ""`, 1)}, "ConstraintTemplate ratifyverification", "spec.targets", Unsupported, []string{"extensions.createdAt"}},
		{"no rule that Gatekeeper goes by", []string{strings.Replace(template, "violation[", "deny[", 1)}, "ConstraintTemplate ratifyverification", "spec.targets", Differs, []string{"no rule violation"}},
		{"a rule that never holds", []string{strings.Replace(template, "isSuccess == false", "isSuccess == false; false", 1)}, "ConstraintTemplate ratifyverification", "spec.targets", Differs, []string{"cannot be true"}},
		{"a look at failures alone", []string{strings.Replace(template, "remote_data.responses[_][1].isSuccess == false", `count(remote_data.errors) > 0`, 1)}, "ConstraintTemplate ratifyverification", "spec.targets", Differs, []string{"nothing that is not trusted"}},
		{"a look away", []string{strings.Replace(template, "isSuccess", "version", 1)}, "ConstraintTemplate ratifyverification", "spec.targets", Differs, []string{"never checks isSuccess"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := check(t, append(base[:4:4], tt.docs...)...)
			find(t, r, tt.resource, tt.field, tt.severity, tt.words...)
			if r.Fails() != tt.severity.fails() {
				t.Errorf("%+v", r)
			}
			if tt.name != "a provider that is not there" && tt.name != "a provider of the constraint" {
				check(t, tt.docs...) // alone, too
			}
		})
	}
	r, err := Check(documents(t, append(base[:4:4], strings.Replace(provider, "/ratify/gatekeeper", "/other", 1), template)...), options())
	if err != nil || r.PassedOver != 2 {
		t.Errorf("what asks somebody else is not counted: %+v, %v", r, err)
	}
	for _, other := range []string{strings.Replace(provider, "/ratify/gatekeeper", "/other", 1), strings.Replace(template, "ratify-provider", "others", 1)} {
		if _, err := Check(documents(t, other), options()); !errors.Is(err, ErrNothing) {
			t.Errorf("%v", err)
		}
	}
}
