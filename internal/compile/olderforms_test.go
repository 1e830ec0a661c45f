package compile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/compile"
)

// TestWhereFieldsBelong: a field that is known is told with its place, one that Ratify
// or another tool once had with what to write, and nothing is guessed.
func TestWhereFieldsBelong(t *testing.T) {
	t.Parallel()
	pem := chain(t).Root().PEM()
	good := kmp("roots", pem) + store("oras", "") + verifier("notary", "roots")
	provider := func(rest string) string {
		return doc("KeyManagementProvider", "vault", "spec:\n  type: azurekeyvault\n"+rest) + good
	}
	for _, c := range []struct{ name, text, says string }{
		{"a Store's parameter in its spec", strings.Replace(good, "spec:\n  name: oras\n", "spec:\n  name: oras\n  useHttp: true\n", 1), "spec.useHttp: unknown field here: write it under spec.parameters"},
		{"a registry's setting in the parameters", kmp("roots", pem) + store("oras", "clientCertFile: x") + verifier("notary", "roots"), "unknown field here: write it under spec.parameters.registries[]"},
		{"an auth provider's setting in the parameters", kmp("roots", pem) + store("oras", "configPath: x") + verifier("notary", "roots"), "unknown field here: write it under spec.parameters.authProvider"},
		{"a Verifier's parameter in its spec", strings.Replace(good, "  parameters:\n    verificationCertStores", "  verificationCerts: [x]\n  parameters:\n    verificationCertStores", 1), "spec.verificationCerts: unknown field here: write it under spec.parameters"},
		{"a spec's field in the parameters", strings.Replace(good, "    verificationCertStores", "    artifactTypes: x\n    verificationCertStores", 1), "spec.parameters.artifactTypes: unknown field here: write it under spec"},
		{"a spec's field in the document", strings.Replace(good, "spec:\n  type: inline", "type: inline\nspec:\n  type: inline", 1), "type: unknown field here: write it under spec"},
		{"parameters in the document", good + "---\napiVersion: config.ratify.deislabs.io/v1beta1\nkind: Policy\nmetadata: {name: ratify-policy}\nspec: {type: config-policy}\nparameters: {}\n", "parameters: unknown field here: write it under spec"},
		{"a statement's field in the parameters", strings.Replace(good, "    trustPolicyDoc:\n", "    trustedIdentities: [x]\n    trustPolicyDoc:\n", 1), "unknown field here: write it under spec.parameters.trustPolicyDoc.trustPolicies[]"},
		{"a level beside its mapping", strings.Replace(good, "signatureVerification: {level: strict}", "level: strict", 1), "level: unknown field here: write it under spec.parameters.trustPolicyDoc.trustPolicies[].signatureVerification"},
		{"the trust policies without their document", strings.Replace(good, "    trustPolicyDoc:\n      version: \"1.0\"\n      trustPolicies:", "    trustPolicies:", 1), `unknown field: write trustPolicyDoc: {version: "1.0"`},
		{"a rule in the parameters", good + doc("Policy", "ratify-policy", "spec:\n  type: config-policy\n  parameters: {default: any}\n"), "write artifactVerificationPolicies: {default: any}"},
		{"rules in the spec", good + doc("Policy", "ratify-policy", "spec:\n  type: config-policy\n  artifactVerificationPolicies: {default: any}\n"), "unknown field here: write it under spec.parameters"},
		{"an interval in the parameters", provider("  parameters: {vaultURI: 'https://a.vault.azure.net/', refreshInterval: 1m, certificates: [{name: a}]}\n"), "spec.parameters.refreshInterval: unknown field here: write it under spec"},
		{"a vault's address in the spec", provider("  vaultURI: https://a.vault.azure.net/\n"), "spec.vaultURI: unknown field here: write it under spec.parameters"},
		{"a vault's name", provider("  parameters: {vaultName: a, certificates: [{name: a}]}\n"), "write vaultURI: https://NAME.vault.azure.net/"},
		{"a CSI driver's identity", provider("  parameters: {vaultURI: 'https://a.vault.azure.net/', userAssignedIdentityID: a, certificates: [{name: a}]}\n"), "write clientID, with authentication: managedIdentity"},
		{"Ratify's first auth provider", kmp("roots", pem) + store("oras", "auth-provider: {name: x}") + verifier("notary", "roots"), "Ratify once had it; write authProvider"},
		{"Ratify's first cosign switch", kmp("roots", pem) + store("oras", "cosign-enabled: true") + verifier("notary", "roots"), "write cosignEnabled"},
		{"a switch that nobody has", kmp("roots", pem) + store("oras", "notationEnabled: true") + verifier("notary", "roots"), "neither Ratify nor Boltseal has it"},
		{"a cosign verifier's key", strings.Replace(good, "    verificationCertStores", "    key: x\n    verificationCertStores", 1), "cosign signatures are not checked here"},
		{"Rego in a Policy", good + doc("Policy", "ratify-policy", "spec:\n  type: config-policy\n  parameters: {passthroughEnabled: true}\n"), "rego-policy has it"},
		{"nothing that is known", kmp("roots", pem) + store("oras", "colour: red") + verifier("notary", "roots"), "spec.parameters.colour: unknown field; known here: authProvider"},
		{"a slip", kmp("roots", pem) + store("oras", "useHttps: true") + verifier("notary", "roots"), `(did you mean "useHttp"?)`},
		{"a CertificateStore's parameter in its spec", doc("CertificateStore", "c", "spec:\n  provider: inline\n  value: x\n") + good, "spec.value: unknown field here: write it under spec.parameters"},
	} {
		if all := fails(t, c.text).Error(); !strings.Contains(all, c.says) {
			t.Errorf("%s: %s\nwant %s", c.name, all, c.says)
		}
	}
}

// TestOlderNames: what Ratify once called things is read, with a warning, and a
// configuration that can never judge a signature is warned of.
func TestOlderNames(t *testing.T) {
	t.Parallel()
	pem := chain(t).Root().PEM()
	good := kmp("roots", pem) + store("oras", "") + verifier("notary", "roots")
	types := func(s string) string {
		return strings.Replace(good, "artifactTypes: application/vnd.cncf.notary.signature", "artifactTypes: "+s, 1)
	}
	older := strings.ReplaceAll(good, "config.ratify.deislabs.io/v1beta1", "config.ratify.deislabs.io/v1alpha1")
	for _, c := range []struct{ name, text, says string }{
		{"the version before", older, "Verifier notary: apiVersion: config.ratify.deislabs.io/v1alpha1 is Ratify's older version"},
		{"its Policy, whose name is its type", good + strings.Replace(doc("Policy", "configpolicy", "spec:\n  parameters: {artifactVerificationPolicies: {default: all}}\n"), "v1beta1", "v1alpha1", 1), "Policy ratify-policy: apiVersion"},
		{"a verifier's first name", strings.Replace(good, "  name: notation\n", "  name: notaryv2\n", 1), "spec.name: notaryv2 is Ratify's older name of notation"},
		{"a verifier's first type", strings.Replace(good, "  name: notation\n", "  name: my-verifier\n  type: notaryv2\n", 1), "spec.type: notaryv2 is Ratify's older name of notation"},
		{"a type of signatures with a version", types("application/vnd.cncf.notary.signature.v1"), "no Notation signature is ever verified by these types"},
		{"an older type of signatures", types("application/vnd.cncf.notary.v2.signature"), "was that of a Notation before 1.0"},
		{"a misspelt type of signatures", types("application/vnd.cncf.notary.signatures"), `did you mean "application/vnd.cncf.notary.signature"`},
		{"cosign's type", types("application/vnd.dev.cosign.artifact.sig.v1+json"), "no Notation signature is ever verified"},
		{"several types, none of them a signature's", types("application/spdx+json, application/x"), "no Notation signature is ever verified"},
		{"an older type beside the right one", types("application/vnd.cncf.notary.v2.signature, application/vnd.cncf.notary.signature"), ""},
		{"all types", types(`"*"`), ""},
		{"no type", types(`""`), ""},
	} {
		c2, warnings := works(t, c.text)
		if c2.EngineFor("") == nil || (warnings == "") != (c.says == "") || !strings.Contains(warnings, c.says) {
			t.Errorf("%s: warned %q\nwant %q", c.name, warnings, c.says)
		}
	}
	for name, text := range map[string]string{
		"a Policy of the version before that is none": good + strings.Replace(doc("Policy", "regopolicy", "spec:\n  parameters: {policy: x}\n"), "v1beta1", "v1alpha1", 1),
		"a version before that":                       strings.ReplaceAll(good, "config.ratify.deislabs.io/v1beta1", "config.ratify.deislabs.io/v1alpha0"),
		"a verifier by half of its name":              strings.Replace(good, "  name: notation\n", "  name: notaryv3\n", 1),
	} {
		t.Log(name)
		fails(t, text)
	}
}

// TestRatifysCommandLine: config.json is read plugin by plugin, or what is not is said.
func TestRatifysCommandLine(t *testing.T) {
	t.Parallel()
	cert := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(cert, chain(t).Root().PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	good := `{
  "store": {"version": "1.0.0", "plugins": [{"name": "oras", "useHttp": true}]},
  "policy": {"version": "1.0.0", "plugin": {"name": "configPolicy", "artifactVerificationPolicies": {"application/vnd.cncf.notary.signature": "any"}}},
  "verifier": {"version": "1.0.0", "plugins": [{
    "name": "notation", "artifactTypes": "application/vnd.cncf.notary.signature", "verificationCerts": ["` + cert + `"],
    "trustPolicyDoc": {"version": "1.0", "trustPolicies": [{"name": "default", "registryScopes": ["*"], "signatureVerification": {"level": "strict"},
      "trustStores": ["ca:certs"], "trustedIdentities": ["*"]}]}}]}
}`
	_, warnings := works(t, good)
	if !strings.Contains(warnings, "this is the configuration of Ratify's command line") {
		t.Error(warnings)
	}
	_, warnings = works(t, strings.Replace(good, `"store":`, `"logger": {"formatter": "text"}, "executor": {}, "store":`, 1))
	if strings.Count(warnings, "it has no effect") != 2 {
		t.Error(warnings)
	}
	for _, c := range []struct{ name, from, to, says string }{
		{"a plugin that is none of ours", `"name": "notation"`, `"name": "sbom"`, "(the configuration of Ratify's command line):5: Verifier verifier-1: spec.name: the verifier sbom is not known here"},
		{"a mistyped parameter", `"useHttp"`, `"useHttpp"`, `spec.parameters.useHttpp: unknown field (did you mean "useHttp"?)`},
		{"an unknown part", `"store":`, `"stores": {}, "store":`, "stores: unknown field in the configuration of Ratify's command line"},
		{"a folder of plugins", `"plugins": [{"name": "oras"`, `"pluginBinDirs": ["/x"], "plugins": [{"name": "oras"`, "no plugins are run"},
		{"another policy", `"configPolicy", "artifactVerificationPolicies": {"application/vnd.cncf.notary.signature": "any"}`, `"regoPolicy", "policy": "x"`, "Policy ratify-policy: spec.type: the policy regoPolicy is not known here"},
		{"a parameter twice", `"useHttp": true`, `"useHttp": true, "useHttp": false`, "useHttp: is listed twice"},
		{"a name twice", `"name": "oras",`, `"name": "oras", "name": "other",`, "spec.name: is listed twice"},
		{"no store", `"plugins": [{"name": "oras", "useHttp": true}]`, `"plugins": []`, "no Store"},
	} {
		text := strings.Replace(good, c.from, c.to, 1)
		if text == good {
			t.Fatal(c.name)
		}
		if all := fails(t, text).Error(); !strings.Contains(all, c.says) {
			t.Errorf("%s: %s\nwant %s", c.name, all, c.says)
		}
	}
}

// TestNamespaceOfFiles: documents of namespaced kinds are in the namespace that the
// source gives, unless they name one.
func TestNamespaceOfFiles(t *testing.T) {
	t.Parallel()
	pem := chain(t).Root().PEM()
	in := func(kinds ...string) string {
		text := kmp("roots", pem) + store("oras", "") + verifier("notary", "roots") + policyDoc("ratify-policy", "default: any")
		for _, k := range kinds {
			text = strings.ReplaceAll(text, "kind: "+k+"\n", "kind: Namespaced"+k+"\n")
		}
		return text
	}
	for _, c := range []struct {
		name, text, namespace string
		own                   bool
		says                  string
	}{
		{"a Store", in("Store"), "team", true, ""},
		{"all kinds", in("Store", "Verifier", "Policy", "KeyManagementProvider"), "team", true, ""},
		{"all kinds, in no metadata", strings.ReplaceAll(in("Store", "Verifier"), "metadata:\n  name: oras\n", "metadata: {name: oras, namespace: \"\"}\n"), "team", true, ""},
		{"none", in(), "team", false, ""},
		{"no namespace", in("Store"), "", false, "a NamespacedStore needs a namespace"},
		{"another one", strings.Replace(in("Verifier"), "  name: notary\n", "  name: notary\n  namespace: other\n", 1), "team", false, ""},
		{"one that is no name", in("Store"), "Team_1", false, "Team_1 is no name to Kubernetes"},
	} {
		set, _ := compile.Decode([]compile.Source{{Name: "f.yaml", Data: []byte(c.text), Namespace: c.namespace}})
		compiled, err := set.Compile(deps())
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %q", c.name, err, c.says)
		}
		if err == nil && (compiled.EngineFor("team") != compiled.EngineFor("")) != c.own {
			t.Errorf("%s: an engine of its own: %v", c.name, !c.own)
		}
	}
}

// TestMissingTrustStores: what is declared is said, and the form to write.
func TestMissingTrustStores(t *testing.T) {
	t.Parallel()
	pem := chain(t).Root().PEM()
	for _, c := range []struct{ name, stores, trust, says string }{
		{"the older form under another type", "{certs: [roots]}", "signingAuthority:certs", "it declares ca:certs (the older form, in which a store of any name is of type ca). Write signingAuthority: {certs: […]}"},
		{"the older form for timestamps", "{tsas: [roots], certs: [roots]}", "tsa:tsas", "Write tsa: {tsas: […]}"},
		{"a type with a list", "{ca: [roots]}", "ca:certs", "ca must contain trust stores, each with its list of providers: write ca: {certs: […]}"},
		{"another type with a list", "{signingAuthority: [roots]}", "signingAuthority:certs", "write signingAuthority: {certs: […]}"},
		{"another type", "{ca: {certs: [roots]}}", "signingAuthority:certs", "it declares ca:certs"},
		{"another name", "{ca: {release: [roots]}}", "ca:certs", "it declares ca:release"},
		{"many", "{ca: {a: [roots], b: [roots], c: [roots], d: [roots], e: [roots], f: [roots]}}", "ca:z", "and 1 more"},
	} {
		stores := []string{"ca:certs", c.trust}
		if c.trust == "ca:certs" {
			stores = stores[1:]
		}
		text := kmp("roots", pem) + store("oras", "") + strings.NewReplacer("{certs: [roots]}", c.stores, `["ca:certs"]`, `["`+strings.Join(stores, `", "`)+`"]`).Replace(verifier("notary", "roots"))
		if all := fails(t, text).Error(); !strings.Contains(all, c.says) {
			t.Errorf("%s: %s\nwant %s", c.name, all, c.says)
		}
	}
}
