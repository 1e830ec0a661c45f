package compile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/test/testca"
)

// TestMessages: each mistake has its own message, with its place and its
// resource, and nothing else is complained about.
func TestMessages(t *testing.T) {
	t.Parallel()
	root := chain(t)
	pem := root.Root().PEM()
	key := testca.Must(testca.KeyPEM(root.Leaf().Key))
	bad := []byte("-----BEGIN CERTIFICATE-----\naW5jb3JyZWN0Cg==\n-----END CERTIFICATE-----\n")
	good := kmp("roots", pem) + store("oras", "") + verifier("notary", "roots")
	rest := store("oras", "") + verifier("notary", "roots")
	type wanted struct{ name, text, want string }
	cases := []wanted{
		{"unknown kind", good + doc("Verifer", "x", "spec: {}\n"), `Verifer x: kind: Verifer is not known here (did you mean "Verifier"?)`},
		{"kind of a plugin's", good + doc("ConfigMap", "x", "spec: {}\n"), "ConfigMap x: kind: ConfigMap is not known here; known: CertificateStore, KeyManagementProvider, Store,"},
		{"unknown group", good + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: x}\n", "Secret x: apiVersion: v1 is not known here; known: config.ratify.deislabs.io/v1beta1, boltseal.dev/v1alpha1"},
		{"older version", good + "---\napiVersion: config.ratify.deislabs.io/v1alpha2\nkind: Store\nmetadata: {name: x}\n", `v1alpha2 is not known here; known: config.ratify.deislabs.io/v1beta1`},
		{"the other group", good + "---\napiVersion: config.ratify.deislabs.io/v1beta1\nkind: ImageIntegrityPolicy\nmetadata: {name: x}\nspec: {}\n", "ImageIntegrityPolicy x: apiVersion: a ImageIntegrityPolicy is of boltseal.dev/v1alpha1"},
		{"no kind", good + "---\na: b\n", "a document needs apiVersion and kind"},
		{"no mapping", good + "---\n- a\n", "a document must be a mapping with apiVersion, kind, metadata and spec, and is a list"},
		{"no name", good + "---\napiVersion: config.ratify.deislabs.io/v1beta1\nkind: Store\nspec: {name: oras}\n", "Store: metadata.name: a Store needs a name"},
		{"a name that Kubernetes refuses", good + store("\"Not Good\"", "scopes: [a.example]"), `Store "Not Good": metadata.name: "Not Good" is no name to Kubernetes`},
		{"no namespace", good + doc("NamespacedStore", "x", "spec: {name: oras}\n"), "NamespacedStore x: metadata.namespace: a NamespacedStore needs a namespace"},
		{"a namespace that Kubernetes refuses", good + doc("NamespacedStore", "a.b/x", "spec: {name: oras}\n"), "metadata.namespace: a.b is no name to Kubernetes"},
		{"no spec", good + doc("Store", "x", ""), "Store x: a Store needs a spec"},
		{"unknown field", strings.Replace(good, "spec:\n  name: oras", "spec:\n  nmae: oras", 1), `Store oras: spec.nmae: unknown field (did you mean "name"?)`},
		{"unknown parameter", kmp("roots", pem) + store("oras", "usehttp: true") + verifier("notary", "roots"), `Store oras: spec.parameters.usehttp: unknown field (did you mean "useHttp"?)`},
		{"unknown field of the trust policy", strings.Replace(good, "signatureVerification: {level: strict}", "signatureVerification: {level: strict, overide: {revocation: skip}}", 1),
			`Verifier notary: spec.parameters.trustPolicyDoc.trustPolicies[0].signatureVerification.overide: unknown field (did you mean "override"?)`},
		{"two documents of one name", good + store("oras", ""), "Store oras: metadata.name: a second Store of this name; the first is at f.yaml:"},
		{"two of one name, the namespace does not count", good + doc("Store", "team/oras", "spec: {name: oras}\n"), "Store oras: metadata.name: a second Store of this name"},

		{"certificate that is not one", kmp("roots", bad) + rest, "KeyManagementProvider roots: spec.parameters.value: block 1 is not a certificate: it says CERTIFICATE, but its content is not one"},
		{"private key in place of a certificate", kmp("roots", key) + rest, "KeyManagementProvider roots: spec.parameters.value: block 1 is a private key: remove it, replace the key since it has been seen, and put the certificate here"},
		{"no certificate", kmp("roots", []byte("put it here")) + rest, `KeyManagementProvider roots: spec.parameters.value: no certificate: it has no "-----BEGIN CERTIFICATE-----"`},
		{"no value", doc("KeyManagementProvider", "roots", "spec:\n  type: inline\n") + rest, "KeyManagementProvider roots: spec.parameters.value: no certificate: it is empty"},
		{"provider of a later version", doc("KeyManagementProvider", "roots", "spec:\n  type: hsm\n  parameters: {vaultURI: x}\n") + rest, "KeyManagementProvider roots: spec.type: the provider hsm is not known here; known: inline, azurekeyvault, secret, configmap, file, vault"},
		{"provider by its older name", doc("KeyManagementProvider", "roots", "spec:\n  provider: inlin\n") + rest, `KeyManagementProvider roots: spec.provider: the provider inlin is not known here; known: inline, azurekeyvault, secret, configmap, file, vault, awskms, gcpkms (did you mean "inline"?)`},
		{"CertificateStore of a later version", doc("CertificateStore", "roots", "spec:\n  provider: hsm\n") + rest, "CertificateStore default/roots: spec.provider: the provider hsm is not known here; known: inline, azurekeyvault, secret, configmap, file, vault"},
		{"no provider", doc("KeyManagementProvider", "roots", "spec: {}\n") + rest, "KeyManagementProvider roots: spec.type: it names no provider; known: inline, azurekeyvault, secret, configmap, file, vault"},
		{"two providers that disagree", doc("KeyManagementProvider", "roots", "spec:\n  type: inline\n  provider: azurekeyvault\n  parameters:\n    value: |\n"+indent(6, pem)) + rest, `spec.provider: it says "azurekeyvault", and type says "inline": keep type`},
		{"keys", doc("KeyManagementProvider", "roots", "spec:\n  type: inline\n  parameters:\n    contentType: key\n    value: x\n") + rest, "spec.parameters.contentType: keys are of no use to the verifiers known here"},
		{"content of another type", doc("KeyManagementProvider", "roots", "spec:\n  type: inline\n  parameters:\n    contentType: certficate\n    value: x\n") + rest, `"certficate" is not certificate or key (did you mean "certificate"?)`},
		{"interval that is none", doc("KeyManagementProvider", "roots", "spec:\n  type: inline\n  refreshInterval: hourly\n  parameters:\n    value: |\n"+indent(6, pem)) + rest, `spec.refreshInterval: "hourly" is no time such as 30m or 1h`},

		{"store of another type", kmp("roots", pem) + doc("Store", "oras", "spec:\n  name: orsa\n") + verifier("notary", "roots"), `Store oras: spec.name: the store orsa is not known here; known: oras (did you mean "oras"?)`},
		{"plugin", kmp("roots", pem) + doc("Store", "oras", "spec:\n  name: oras\n  source: {artifact: x}\n") + verifier("notary", "roots"), "Store oras: spec.source: plugins are not run; leave it out"},
		{"auth provider that is none", kmp("roots", pem) + store("oras", "authProvider: {name: azureWorkLoadIdentity, clientID: x}") + verifier("notary", "roots"), "Store oras: spec.parameters.authProvider.name: the auth provider azureWorkLoadIdentity is not known here; known: dockerConfig"},
		{"auth provider without a name", kmp("roots", pem) + store("oras", "authProvider: {}") + verifier("notary", "roots"), "spec.parameters.authProvider.name: it names no auth provider; known: dockerConfig"},
		{"unknown field of an auth provider", kmp("roots", pem) + store("oras", "authProvider: {name: dockerConfig, configpath: x}") + verifier("notary", "roots"), `spec.parameters.authProvider.configpath: unknown field (did you mean "configPath"?)`},
		{"scope that is none", kmp("roots", pem) + store("oras", "scopes: [ghcr.io, \"*x\"]") + verifier("notary", "roots"), `Store oras: spec.parameters.scopes[1]: *x is no scope: write *, a host, *.domain or host/path`},
		{"two stores for all", good + store("other", ""), `Store other: spec.parameters.scopes: stores "oras" and "other" both serve "*": give one of them other scopes`},
		{"two stores of one scope", good + store("a", "scopes: [ghcr.io]") + store("b", "scopes: [quay.io, GHCR.io]"), `Store b: spec.parameters.scopes: stores "a" and "b" both serve "ghcr.io"`},
		{"missing CA file", kmp("roots", pem) + store("oras", "caFile: /no/such/file") + verifier("notary", "roots"), "Store oras: spec.parameters: caFile: stat /no/such/file: no such file or directory"},
		{"two CAs", kmp("roots", pem) + store("oras", "caFile: x, caCert: z") + verifier("notary", "roots"), "Store oras: spec.parameters: caFile and caCert are both there; keep one"},
		{"CA that is none", kmp("roots", pem) + store("oras", "caCert: hello") + verifier("notary", "roots"), "Store oras: spec.parameters: caCert: no certificate"},
		{"registry without a host", kmp("roots", pem) + store("oras", "registries: [{useHttp: true}]") + verifier("notary", "roots"), "Store oras: spec.parameters.registries[0].host: it names no host"},
		{"registry with a URL", kmp("roots", pem) + store("oras", "registries: [{host: \"https://ghcr.io\"}]") + verifier("notary", "roots"), "spec.parameters.registries[0].host: https://ghcr.io is no host as it is written in an image's name"},
		{"registry with a path", kmp("roots", pem) + store("oras", "registries: [{host: ghcr.io/team}]") + verifier("notary", "roots"), "ghcr.io/team is no host"},
		{"registry twice", kmp("roots", pem) + store("oras", "registries: [{host: docker.io}, {host: index.docker.io}]") + verifier("notary", "roots"), "spec.parameters.registries[1].host: docker.io is listed twice"},
		{"certificate without its key", kmp("roots", pem) + store("oras", "registries: [{host: ghcr.io, clientCertFile: x}]") + verifier("notary", "roots"), "ghcr.io: clientCertFile and clientKeyFile belong together"},
		{"no such client certificate", kmp("roots", pem) + store("oras", "registries: [{host: ghcr.io, clientCertFile: /no/such, clientKeyFile: /no/such}]") + verifier("notary", "roots"), "ghcr.io: clientCertFile: stat /no/such"},
		{"CA for plain HTTP", kmp("roots", pem) + strings.Replace(store("oras", "registries: [{host: ghcr.io, useHttp: true, caCert: CERT}]"), "CERT", quoted(pem), 1) + verifier("notary", "roots"), "registries[0].useHttp: ghcr.io: certificates are of no use without TLS"},

		{"verifier of another type", kmp("roots", pem) + store("oras", "") + doc("Verifier", "notary", "spec:\n  name: notatoin\n"), `Verifier notary: spec.name: the verifier notatoin is not known here; known: notation (did you mean "notation"?)`},
		{"verifier by its type", kmp("roots", pem) + store("oras", "") + doc("Verifier", "notary", "spec:\n  name: notation\n  type: cosign\n"), "Verifier notary: spec.type: the verifier cosign is not known here; known: notation"},
		{"verifier naming a store that is not there", kmp("roots", pem) + store("oras", "") + verifier("notary", "rots"), `Verifier notary: spec.parameters.verificationCertStores.certs[0]: the trust store certs names the KeyManagementProvider or CertificateStore rots, which is not there (did you mean "roots"?)`},
		{"provider in another namespace", kmp("team/roots", pem) + store("oras", "") + verifier("notary", "roots"), "KeyManagementProvider or CertificateStore roots, which is not there"},
		{"provider that is no text", kmp("roots", pem) + store("oras", "") + verifier("notary", "5"), "spec.parameters.verificationCertStores.certs[0]: must be a text"},
		{"a store without providers", kmp("roots", pem) + store("oras", "") + verifier("notary"), "Verifier notary: spec.parameters.verificationCertStores.certs: trust store ca:certs has no certificate"},
		{"a leaf in a trust store", kmp("roots", root.Leaf().PEM()) + rest, "is neither a CA's nor self-signed: put the CA that issued it here"},
		{"type of trust store that is none", strings.Replace(good, "{certs: [roots]}", "{cas: {certs: [roots]}}", 1), `spec.parameters.verificationCertStores.cas: cas is no type of trust store; it must be one of ca, signingAuthority, tsa (did you mean "ca"?)`},
		{"trust store of no list", strings.Replace(good, "{certs: [roots]}", "{certs: roots}", 1), `spec.parameters.verificationCertStores.certs: must be a list of providers, and is "roots"`},
		{"trust stores of no mapping", strings.Replace(good, "{certs: [roots]}", "[roots]", 1), "spec.parameters.verificationCertStores: must map trust stores to lists of providers, and is a list"},
		{"no trust stores", strings.Replace(good, "    verificationCertStores: {certs: [roots]}\n", "", 1), "Verifier notary: spec.parameters.verificationCertStores: it is missing, and so is verificationCerts: nobody would be trusted"},
		{"policy naming a store that is not there", strings.Replace(good, "ca:certs", "ca:cert", 1), `Verifier notary: spec.parameters.trustPolicyDoc.trustPolicies[0].trustStores[0]: the trust store ca:cert is not there: verificationCertStores does not declare it (did you mean "ca:certs"?)`},
		{"policy naming a store of another type", strings.Replace(good, "ca:certs", "signingAuthority:certs", 1), "the trust store signingAuthority:certs is not there"},
		{"level that is none", strings.Replace(good, "level: strict", "level: strickt", 1), `Verifier notary: spec.parameters.trustPolicyDoc.trustPolicies[0]: trust policy "all": signatureVerification.level "strickt" is not one of strict, permissive, audit, skip (did you mean "strict"?)`},
		{"no version", strings.Replace(good, "version: \"1.0\"", "version: \"\"", 1), `Verifier notary: spec.parameters.trustPolicyDoc: it states no version; write version: "1.0"`},
		{"version as a number", strings.Replace(good, "version: \"1.0\"", "version: 1.0", 1), `spec.parameters.trustPolicyDoc.version: must be a text, and 1.0 is none to YAML; write it in quotes: "1.0"`},
		{"skip for all", strings.Replace(good, "{level: strict}\n        trustStores: [\"ca:certs\"]\n        trustedIdentities: [\"*\"]", "{level: skip}", 1), "would trust every signed image; name the repositories"},
		{"artifact type that is none", strings.Replace(good, "artifactTypes: application/vnd.cncf.notary.signature", "artifactTypes: notary", 1), "Verifier notary: spec.artifactTypes: notary is no media type, such as application/vnd.cncf.notary.signature"},

		{"policy of another name", good + policyDoc("my-policy", "default: any"), "Policy my-policy: metadata.name: a Policy must be named ratify-policy"},
		{"policy in Rego", good + doc("Policy", "ratify-policy", "spec:\n  type: rego-policy\n  parameters: {policy: x}\n"), "Policy ratify-policy: spec.type: the policy rego-policy is not known here; known: config-policy"},
		{"policy without a type", good + doc("Policy", "ratify-policy", "spec: {}\n"), "Policy ratify-policy: spec.type: it names no policy; known: config-policy"},
		{"rule that is none", good + policyDoc("ratify-policy", "default: any, a/b: al"), `Policy ratify-policy: spec.parameters.artifactVerificationPolicies.a/b: al is not any or all (did you mean "all"?)`},
		{"integrity policy", good + "---\napiVersion: boltseal.dev/v1alpha1\nkind: ImageIntegrityPolicy\nmetadata: {name: x}\nspec: {enforcementAction: denny}\n", "ImageIntegrityPolicy x: spec.enforcementAction: "},

		{"no Store", kmp("roots", pem) + verifier("notary", "roots"), "no Store: add one, so that images can be read"},
		{"no Verifier", store("oras", ""), "no Verifier: add one, or every image would be denied"},
		{"no Verifier for a namespace", kmp("roots", pem) + verifier("a/notary", "roots") + store("a/oras", "") + store("b/oras", ""), "NamespacedStore b/oras: no Verifier serves its namespace: add a Verifier, or a NamespacedVerifier to the namespace"},
		{"no Store for a namespace", kmp("roots", pem) + verifier("a/notary", "roots") + store("a/oras", "") + policyDoc("b/ratify-policy", "default: any"), "NamespacedPolicy b/ratify-policy: no Store serves its namespace"},
		{"not YAML", good + "---\n\tkind: Store\n", "a tab; indent with spaces"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ps := fails(t, c.text)
			if len(ps) != 1 && !(len(ps) == 2 && strings.Contains(ps[1].Message, "which has a problem of its own")) {
				t.Errorf("%d problems in place of one:\n%v", len(ps), ps)
			}
			if !strings.Contains(ps[0].Error(), c.want) {
				t.Errorf("%v\nwant %s", ps[0], c.want)
			}
			if lines := strings.Count(c.text, "\n"); ps[0].Line > lines || ps[0].Line == 0 && (ps[0].Object != strict.Object{}) {
				t.Errorf("line %d of %d: %v", ps[0].Line, lines, ps[0])
			}
			if strings.Contains(ps.Error(), strings.Split(string(key), "\n")[1]) {
				t.Errorf("the error holds the private key: %v", ps)
			}
		})
	}
}

// quoted is PEM as a text of YAML in one line.
func quoted(pem []byte) string { return `"` + strings.ReplaceAll(string(pem), "\n", `\n`) + `"` }

// TestPlaces: a problem is told at the line that somebody has to change.
func TestPlaces(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("testdata", "many-problems.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i, line := range strings.Split(string(text), "\n") {
		if _, what, ok := strings.Cut(line, "# WRONG "); ok {
			want = append(want, strict.Problem{File: "f.yaml", Line: i + 1}.Place()+": "+what)
		}
	}
	got := strings.Split(fails(t, string(text)).Error(), "\n")
	if len(got) != len(want) {
		t.Errorf("%d problems, want %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("problem %d:\n%s\nwant\n%s", i, got[i], want[i])
		}
	}
	if t.Failed() {
		t.Log("all:\n" + strings.Join(got, "\n"))
	}
}

// TestProblemsOf: what goes into a resource's status is its own problems, all of them.
func TestProblemsOf(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("testdata", "many-problems.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	ps := fails(t, string(text))
	for o, want := range map[strict.Object]int{
		{Kind: "KeyManagementProvider", Name: "not-pem"}:                          2,
		{Kind: "CertificateStore", Namespace: "gatekeeper-system", Name: "vault"}: 1,
		{Kind: "Store", Name: "store"}:                                            6,
		{Kind: "Verifier", Name: "verifier"}:                                      8,
		{Kind: "NamespacedVerifier", Namespace: "team", Name: "v"}:                1,
		{Kind: "NamespacedPolicy", Namespace: "team", Name: "rp"}:                 3,
		{Kind: "Store", Name: "undecodable"}:                                      2,
		{Kind: "NamespacedVerifier", Namespace: "other", Name: "v"}:               0,
		{}: 0,
	} {
		if got := ps.Of(o); len(got) != want {
			t.Errorf("%v has %d problems, want %d:\n%v", o, len(got), want, got)
		}
	}
}
