package gatekeeper

import (
	"context"
	"fmt"
	"testing"
)

// ratifyTemplate reads of the answer what templates written for Ratify read: the reports of the verifier notation, and
// nameless reports by the words of their messages. It is as lenient as those are: an empty list passes.
const ratifyTemplate = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: writtenforratify}
spec:
  crd: {spec: {names: {kind: WrittenForRatify}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package writtenforratify

      answer := external_data({"provider": "ratify-provider", "keys": [i | i := input.review.object.spec.containers[_].image]})

      violation[{"msg": msg}] {
        answer.system_error != ""
        msg := sprintf("provider: %v", [answer.system_error])
      }
      violation[{"msg": msg}] {
        e := answer.errors[_]
        msg := sprintf("%v: %v", [e[0], e[1]])
      }
      violation[{"msg": msg}] {
        reports := answer.responses[_][1].verifierReports
        report := reports[_]
        {"notation", "notaryv2"}[report.name]
        not report.isSuccess
        not verified(reports)
        msg := report.message
      }
      violation[{"msg": msg}] {
        report := answer.responses[_][1].verifierReports[_]
        object.get(report, "name", "") == ""
        word := ["no referrers found", "resolving descriptor"][_]
        contains(report.message, word)
        msg := sprintf("%v (%v)", [report.message, word])
      }
      verified(reports) {
        r := reports[_]
        {"notation", "notaryv2"}[r.name]
        r.isSuccess
      }
`

// TestTemplateWrittenForRatify shows that such a template needs no change.
func TestTemplateWrittenForRatify(t *testing.T) {
	ns := namespace(t)
	err := gk.Apply(t.Context(), ratifyTemplate, fmt.Sprintf(`
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: WrittenForRatify
metadata: {name: %[1]s}
spec:
  enforcementAction: deny
  match: {kinds: [{apiGroups: [""], kinds: [Pod]}], namespaces: [%[1]s]}
`, ns))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cluster.Client().Delete(context.Background(), constraintObject("WrittenForRatify", ns)) })
	signed, _ := image("ratify-signed", signer)
	unsigned, _ := image("ratify-unsigned")
	stranger, _ := image("ratify-stranger", strangerChain(t))
	apply := func(name, image string) error { return cluster.Apply(t.Context(), pod(ns, name, image)) }
	admitted(t, "signed", apply("signed", signed))
	denied(t, "unsigned", apply("unsigned", unsigned), "no referrers found")
	denied(t, "stranger", apply("stranger", stranger), "who is not trusted")
	denied(t, "not there", apply("nosuch", registry.Ref(repo, "ratify-nosuch")), "resolving descriptor")
	denied(t, "no reference", apply("noref", "UPPER/case"), "UPPER/case")
}
