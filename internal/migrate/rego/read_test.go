package rego

import (
	"slices"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/test/weight"
)

// asking is a rule of which the others read the answer.
const asking = `
answer := found {
  images := [i | i := input.review.object.spec.containers[_].image]
  found := external_data({"provider": "ratify-provider", "keys": images})
}
`

const denying = `
violation[{"msg": msg}] {
  r := answer.responses[_]
  r[1].isSuccess == false
  msg := sprintf("%v", [r[0]])
}
`

func TestRead(t *testing.T) {
	t.Parallel()
	known := Known{Verifiers: []string{"verifier-notation"}, ArtifactTypes: []string{"application/vnd.cncf.notary.signature"}}
	for _, c := range []struct {
		name      string
		texts     []string
		providers string // with commas
		demands   string // with commas
		dead      bool
		always    bool
		outcome   bool
		failure   bool
	}{
		{name: "what denies", texts: []string{asking + denying}, providers: "ratify-provider", outcome: true},
		{name: "the newer syntax", texts: []string{`
package a
import rego.v1
violation contains {"msg": msg} if {
	some r in external_data({"provider": "ratify-provider", "keys": [input.image]}).responses
	not r[1].isSuccess
	msg := "no"
}`}, providers: "ratify-provider", outcome: true},
		{name: "one line", texts: []string{"package a\nviolation[{\"msg\": \"m\"}] { external_data({\"keys\": [\"x\"], \"provider\": \"p\"}).responses[_][1].isSuccess == false }"}, providers: "p", outcome: true},
		{name: "a provider by a name", texts: []string{"name := \"p\"\nviolation[{\"msg\": \"m\"}] { a := external_data({\"provider\": name, \"keys\": []}); a.responses[_][1].isSuccess == false }"}, providers: "p", outcome: true},
		{name: "a provider in a comment and in a text", texts: []string{"# external_data({\"provider\": \"other\"})\nx := \"external_data({\\\"provider\\\": \\\"third\\\"})\"\n" + asking + denying}, providers: "ratify-provider", outcome: true},
		{name: "two providers", texts: []string{asking + denying + `other := external_data({"provider": "another", "keys": []})`}, providers: "another,ratify-provider", outcome: true},
		{name: "a library", texts: []string{"package a\nviolation[{\"msg\": m}] { m := data.lib.check.bad[_] }", "package lib.check\n" + asking + "bad[m] { r := answer.responses[_]; r[1][\"isSuccess\"] == false; m := r[0] }"}, providers: "ratify-provider", outcome: true},
		{name: "raw texts", texts: []string{"violation[{`msg`: `m`}] { external_data({`provider`: `p`, `keys`: []}).responses[_][1][`isSuccess`] == false }"}, providers: "p", outcome: true},
		{name: "a function", texts: []string{asking + `
violation[{"msg": "m"}] { r := answer.responses[_]; bad(r[1]) }
bad(v) { v.isSuccess == false }
bad(v) { count(v.verifierReports) == 0 }`}, providers: "ratify-provider", outcome: true},
		{name: "a default", texts: []string{asking + `
default good = false
good { answer.responses[_][1].isSuccess == true }
violation[{"msg": "m"}] { not good }`}, providers: "ratify-provider", outcome: true},
		{name: "object.get", texts: []string{asking + `violation[{"msg": "m"}] { object.get(answer.responses[_][1], "isSuccess", true) == false }`}, providers: "ratify-provider", outcome: true},
		{name: "a pattern", texts: []string{asking + `violation[{"msg": "m"}] { [key, value] := answer.responses[_]; value.isSuccess == false }`}, providers: "ratify-provider", outcome: true},
		{name: "every", texts: []string{asking + `
violation[{"msg": "m"}] { not all_good }
all_good { every r in answer.responses { r[1].isSuccess } }`}, providers: "ratify-provider", outcome: true},
		{name: "reports by their name", texts: []string{asking + `violation[{"msg": "m"}] { r := answer.responses[_][1].verifierReports[_]; r.name == "notation"; r.isSuccess == false }`}, providers: "ratify-provider", outcome: true},
		{name: "either of two names", texts: []string{asking + `
names := {"notation", "notaryv2"}
violation[{"msg": "m"}] { r := answer.responses[_][1].verifierReports[_]; names[r.name]; r.isSuccess == false }`}, providers: "ratify-provider", outcome: true},
		{name: "either of two names, in two rules", texts: []string{asking + `
violation[{"msg": "m"}] { r := answer.responses[_][1].verifierReports[_]; named(r); r.isSuccess == false }
named(r) { r.name == "notation" }
named(r) { r.name == "notaryv2" }`}, providers: "ratify-provider", outcome: true},
		{name: "the older name alone", texts: []string{asking + `violation[{"msg": "m"}] { r := answer.responses[_][1].verifierReports[_]; r.name == "notaryv2"; r.isSuccess == false }`}, providers: "ratify-provider", demands: `verifierReports[].name "notaryv2"`, dead: true},
		{name: "a report without a name", texts: []string{asking + denying + `violation[{"msg": "m"}] { r := answer.responses[_][1].verifierReports[_]; object.get(r, "name", "") == ""; contains(r.message, "no referrers found") }`}, providers: "ratify-provider", outcome: true},
		{name: "all but a plugin's reports", texts: []string{asking + `violation[{"msg": "m"}] { r := answer.responses[_][1].verifierReports[_]; not r.type == "sbom"; r.isSuccess == false }`}, providers: "ratify-provider", outcome: true},
		{name: "all but a plugin's reports, by an unequal sign", texts: []string{asking + `violation[{"msg": "m"}] { r := answer.responses[_][1].verifierReports[_]; r.type != "sbom"; r.isSuccess == false }`}, providers: "ratify-provider", outcome: true},
		{name: "a set of a plugin's names", texts: []string{asking + `
kinds := {"sbom", "licensechecker"}
violation[{"msg": "m"}] { r := answer.responses[_][1].verifierReports[_]; kinds[r.type]; r.isSuccess == false }`}, providers: "ratify-provider", demands: `verifierReports[].type "licensechecker",verifierReports[].type "sbom"`, dead: true},
		{name: "a set of a plugin's names, by in", texts: []string{asking + `violation[{"msg": "m"}] { r := answer.responses[_][1].verifierReports[_]; r.type in {"sbom"}; r.isSuccess == false }`}, providers: "ratify-provider", demands: `verifierReports[].type "sbom"`, dead: true},
		{name: "errors alone", texts: []string{asking + `violation[{"msg": "m"}] { count(answer.errors) > 0 }`}, providers: "ratify-provider", failure: true},
		{name: "a system error alone", texts: []string{asking + `violation[{"msg": e}] { e := answer.system_error; e != "" }`}, providers: "ratify-provider", failure: true},

		{name: "no violation", texts: []string{asking + strings.Replace(denying, "violation[", "deny[", 1)}, providers: "ratify-provider", dead: true},
		{name: "a violation that is false", texts: []string{asking + strings.Replace(denying, "r :=", "false\n  r :=", 1)}, providers: "ratify-provider", dead: true},
		{name: "a violation of two texts that differ", texts: []string{asking + strings.Replace(denying, "r :=", "\"deny\" == \"warn\"\n  r :=", 1)}, providers: "ratify-provider", dead: true},
		{name: "a text for a truth", texts: []string{asking + strings.Replace(denying, "== false", `== "false"`, 1)}, providers: "ratify-provider", demands: `responses[][1].isSuccess "false" (it is true or false, and no text)`, dead: true},
		{name: "what rests on a rule that is never true", texts: []string{asking + "violation[{\"msg\": \"m\"}] { bad }\nbad { answer.responses[_][1].isSuccess == false; false }"}, providers: "ratify-provider", dead: true},
		{name: "one of two violations is alive", texts: []string{asking + denying + `violation[{"msg": "m"}] { false }`}, providers: "ratify-provider", outcome: true},
		{name: "a violation that looks away", texts: []string{asking + `violation[{"msg": "m"}] { answer.responses[_][1].timestamp == "" }`}, providers: "ratify-provider"},
		{name: "a look at what no violation rests on", texts: []string{asking + `
violation[{"msg": "m"}] { input.review.object.spec.hostNetwork }
bad { answer.responses[_][1].isSuccess == false }`}, providers: "ratify-provider"},

		{name: "reports of a plugin, each bad one refused", texts: []string{asking + `violation[{"msg": "m"}] { r := answer.responses[_][1].verifierReports[_]; r.type == "sbom"; r.isSuccess == false }`}, providers: "ratify-provider", demands: `verifierReports[].type "sbom"`, dead: true},
		{name: "reports of a plugin, without which all is refused", texts: []string{asking + `
violation[{"msg": "m"}] { v := answer.responses[_][1]; not has(v) }
has(v) { found := [r | r := v.verifierReports[_]; r.type == "vulnerabilityreport"]; count(found) > 0; found[0].isSuccess }`}, providers: "ratify-provider", demands: `verifierReports[].type "vulnerabilityreport"`, always: true},
		{name: "reports by the name of a verifier that is not there", texts: []string{asking + `violation[{"msg": "m"}] { r := answer.responses[_][1].verifierReports[_]; r.verifierName == "verifier-cosign"; r.isSuccess == false }`}, providers: "ratify-provider", demands: `verifierReports[].verifierName "verifier-cosign"`, dead: true},
		{name: "reports by the name of a verifier that is there", texts: []string{asking + `violation[{"msg": "m"}] { r := answer.responses[_][1].verifierReports[_]; r.verifierName == "verifier-notation"; r.isSuccess == false }`}, providers: "ratify-provider", outcome: true},
		{name: "reports of another type of artifact", texts: []string{asking + `violation[{"msg": "m"}] { r := answer.responses[_][1].verifierReports[_]; r.artifactType == "application/spdx+json"; r.isSuccess == false }`}, providers: "ratify-provider", demands: `verifierReports[].artifactType "application/spdx+json"`, dead: true},
		{name: "reports of a newer version", texts: []string{asking + denying + `violation[{"msg": "m"}] { answer.responses[_][1].version == "1.1.0" }`}, providers: "ratify-provider", demands: `responses[][1].version "1.1.0"`, outcome: true},
		{name: "what other reports have", texts: []string{asking + denying + `violation[{"msg": "m"}] { answer.responses[_][1].verifierReports[_].extensions.createdAt == "" }`}, providers: "ratify-provider", demands: "verifierReports[].extensions.createdAt", outcome: true},
		{name: "nested reports", texts: []string{asking + denying + `violation[{"msg": "m"}] { count(answer.responses[_][1].nestedReports) == 0 }`}, providers: "ratify-provider", demands: "nestedReports", outcome: true},
		{name: "nested results, by walking", texts: []string{asking + denying + `
# nestedReports is what others have
violation[{"msg": "m"}] { walk(answer, [path, value]); path[count(path) - 1] == "nestedResults"; count(value) == 0 }`}, providers: "ratify-provider", demands: "nestedResults", outcome: true},
		{name: "a name of its own that is that of a field", texts: []string{asking + `
violation[{"msg": "m"}] { nestedReports := answer.responses[_][1]; nestedReports.isSuccess == false }`}, providers: "ratify-provider", outcome: true},
		{name: "a mistyped field", texts: []string{asking + strings.Replace(denying, "isSuccess", "isSucces", 1)}, providers: "ratify-provider", demands: "responses[][1].isSucces"},

		{name: "nothing", texts: []string{""}, dead: true},
		{name: "no Rego", texts: []string{"{{{[[[((( }}} ]] ) := == \" ` 1.2.3 … \x00"}, dead: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := Read(c.texts, known)
			if p := strings.Join(got.Providers, ","); p != c.providers {
				t.Errorf("it asks %q, want %q", p, c.providers)
			}
			if d := strings.Join(got.Demands, ","); d != c.demands {
				t.Errorf("it demands %q, want %q", d, c.demands)
			}
			if got.Dead != c.dead || got.Always != c.always || got.Outcome != c.outcome || got.Failure != c.failure {
				t.Errorf("dead %v, always %v, outcome %v, failure %v; want %v, %v, %v, %v", got.Dead, got.Always, got.Outcome, got.Failure, c.dead, c.always, c.outcome, c.failure)
			}
		})
	}
	told := Read([]string{`violation[{"msg": "m"}] { external_data({"provider": input.parameters.provider, "keys": []}).responses[_][1].isSuccess == false }`}, known)
	if !told.Told || len(told.Providers) > 0 || !told.Outcome {
		t.Errorf("%+v", told)
	}
}

// FuzzRead: whatever a text says, reading it ends, in bounds.
func FuzzRead(f *testing.F) {
	for _, s := range []string{asking + denying, "package a\nimport rego.v1\nviolation contains x if { every y in z { not y } } else := 3", "a := [b | c[_] = d; {e: f | g}]", "{[(", "x.y[z](1)[2].w := -1 with input as {}", "default a = b\na { a }", strings.Repeat("(", 200), strings.Repeat("a(", 200), strings.Repeat("[x|", 100)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		// The steps of all rounds together have a bound, which a short text can use up.
		weight.Bound{Floor: 96 << 20, Times: 512}.Check(t, len(s), func() { _ = Read([]string{s}, Known{}) })
		got := Read([]string{s}, Known{Verifiers: []string{"v"}, ArtifactTypes: []string{"a/b"}})
		if got.Dead && (got.Outcome || got.Failure || got.Always) || !got.Violation && !got.Dead || len(got.Demands) > maxValues || !slices.IsSorted(got.Providers) {
			t.Fatalf("%+v", got)
		}
	})
}

// BenchmarkRead is of texts that cost most for their length.
func BenchmarkRead(b *testing.B) {
	for name, s := range map[string]string{
		"rules":      strings.Repeat("a { b := external_data({\"provider\": \"p\", \"keys\": []}); b.responses[_][1].isSuccess == c }\n", 2000),
		"calls":      strings.Repeat("a(x) { a(a(a(a(x)))) }\n", 1000),
		"nesting":    strings.Repeat("(", 200_000),
		"texts":      strings.Repeat("\"", 200_000),
		"references": "a { b" + strings.Repeat(".c[_]", 40_000) + " }",
		"lists":      strings.Repeat("[[[[x|", 20_000),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(s)))
			for b.Loop() {
				Read([]string{s}, Known{})
			}
		})
	}
}
