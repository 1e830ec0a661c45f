package compile_test

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal/internal/test/testca"
)

func platform(arch string) *ocispec.Platform {
	return &ocispec.Platform{OS: "linux", Architecture: arch}
}

// trusting is a Verifier, with what stands in its spec, its trust policy's statement and
// its trust stores in place of the ordinary.
func trusting(spec, stores, statement string) string {
	if spec == "" {
		spec = "name: notation, artifactTypes: application/vnd.cncf.notary.signature"
	}
	if stores == "" {
		stores = "verificationCertStores: {ca: {certs: [roots]}}"
	}
	if statement == "" {
		statement = statementOf("")
	}
	return doc("Verifier", "verifier", "spec: {"+spec+", parameters: {"+stores+", trustPolicyDoc: {version: \"1.0\", trustPolicies: ["+statement+"]}}}\n")
}

// statementOf is a statement of a trust policy with some of its fields given otherwise.
func statementOf(fields string) string {
	out := []string{}
	for _, f := range []string{"name: all", `registryScopes: ["*"]`, "signatureVerification: {level: strict}", `trustStores: ["ca:certs"]`, `trustedIdentities: ["*"]`} {
		if name, _, _ := strings.Cut(f, ":"); !strings.Contains(fields, name+":") {
			out = append(out, f)
		}
	}
	return "{" + strings.Join(append(out, fields), ", ") + "}"
}

func anyOf(parameters string) string {
	return doc("Policy", "ratify-policy", "spec: {type: config-policy, parameters: {"+parameters+"}}\n")
}

// flat is a text as one line of YAML.
func flat(text []byte) string { return fmt.Sprintf("%q", text) }

// TestEachFieldHasAnEffect: of every field of a Store, a Verifier, a Policy and the
// providers of certificates, it alone changes a verdict, or who is asked for what, in a
// configuration that works. A field that is added fails in internal/arch until it is here.
func TestEachFieldHasAnEffect(t *testing.T) {
	t.Parallel()
	w := newWitness(t)
	roots, others := kmp("roots", w.release.Root().PEM()), kmp("others", w.other.Root().PEM())
	good, bad := flat(w.secure.Root().PEM()), flat(w.otherSecure.Root().PEM())
	goodFile, badFile := w.write("good.pem", string(w.secure.Root().PEM())), w.write("bad.pem", string(w.otherSecure.Root().PEM()))
	way := "proxy: \"" + w.proxy + "\""
	tls, plain := way+", caCert: "+good, way+", useHttp: true"
	with := func(parameters string, more ...string) string {
		return roots + others + store("store", parameters) + trusting("", "", "") + anyOf("artifactVerificationPolicies: {default: any}") + strings.Join(more, "")
	}
	verifying := func(v string) string {
		return roots + others + store("store", plain) + v + anyOf("artifactVerificationPolicies: {default: any}")
	}
	judging := func(parameters string) string {
		return roots + others + store("store", plain) + trusting("", "verificationCertStores: {ca: {certs: [roots]}}", "") + anyOf(parameters)
	}
	registry := func(settings string) string {
		return with(way + ", caCert: " + good + ", registries: [{host: registry.example" + settings + "}]")
	}
	alone := func(settings string) string {
		return with(way + ", registries: [{host: registry.example" + settings + "}]")
	}
	mirrored := func(settings string) string { return with(plain + ", mirrors: [{" + settings + "}]") }
	named := func(settings string) string {
		return roots + store("store", plain+settings) + trusting("", "", statementOf(`registryScopes: [gold.example/team/app]`)) + anyOf("artifactVerificationPolicies: {default: any}")
	}
	for _, e := range []effect{
		{field: "Store.spec.name", text: with(tls), from: "name: oras", to: "name: other", refused: "there is one kind of Store"},
		{field: "Store.spec.parameters", text: with(tls), from: "  parameters: {" + tls + "}\n", to: ""},
		{field: "Store.spec.source.artifact", text: with(tls), from: "name: oras", to: "name: oras\n  source: {artifact: a.example/b}", refused: "plugins are not run"},
		{field: "Store.spec.source.authProvider", text: with(tls), from: "name: oras", to: "name: oras\n  source: {authProvider: {}}", refused: "plugins are not run"},
		{field: "Store.spec.address", text: with(tls), from: "name: oras", to: "name: oras\n  address: /plugins", nothing: "plugins are not run"},
		{field: "Store.spec.version", text: with(tls), from: "name: oras", to: "name: oras\n  version: 1.0.0", nothing: "plugins are not run"},
		{field: "internal/compile.orasParameters.useHttp", text: with(plain), from: "useHttp: true", to: "useHttp: false"},
		{field: "internal/compile.orasParameters.caCert", text: with(tls), from: good, to: bad},
		{field: "internal/compile.orasParameters.caFile", text: with(way + ", caFile: " + goodFile), from: goodFile, to: badFile},
		{field: "internal/compile.orasParameters.proxy", text: with(tls), from: w.proxy, to: w.otherProxy},
		{field: "internal/compile.orasParameters.scopes", text: with(tls + ", scopes: [registry.example]"), from: "[registry.example]", to: "[second.example]"},
		{field: "internal/compile.orasParameters.registries", text: with(way + ", registries: [{host: registry.example, useHttp: true}]"), from: "[{host: registry.example, useHttp: true}]", to: "[]"},
		{field: "internal/compile.orasParameters.mirrors", text: mirrored("source: registry.example, endpoints: [mirror.example]"), from: "[{source: registry.example, endpoints: [mirror.example]}]", to: "[]"},
		{field: "internal/compile.orasParameters.identities", text: named(", identities: [{place: registry.example, as: gold.example}]"), from: "[{place: registry.example, as: gold.example}]", to: "[]"},
		{field: "internal/compile.orasParameters.authProvider", text: with(tls), from: tls, to: tls + ", authProvider: {name: dockerConfig, configPath: " + w.login("second") + "}", image: w.at("private")},
		{field: "internal/compile.orasParameters.authProviders", text: with(tls), from: tls, to: tls + ", authProviders: [{name: dockerConfig, configPath: " + w.login("second") + "}]", image: w.at("private")},
		{field: "internal/compile.orasParameters.localCachePath", text: with(tls), from: tls, to: tls + ", localCachePath: /tmp", nothing: "nothing is kept on disk"},
		{field: "internal/compile.orasParameters.cosignEnabled", text: with(tls), from: tls, to: tls + ", cosignEnabled: true", nothing: "cosign signatures are not known"},
		{field: "internal/compile.orasParameters.cacheEnabled", text: with(tls), from: tls, to: tls + ", cacheEnabled: true", nothing: "Ratify's cache is not here"},
		{field: "internal/compile.orasParameters.ttl", text: with(tls), from: tls, to: tls + ", ttl: 10", nothing: "Ratify's cache is not here"},

		{field: "internal/compile.registrySettings.host", text: alone(", useHttp: true"), from: "host: registry.example", to: "host: second.example"},
		{field: "internal/compile.registrySettings.useHttp", text: alone(", useHttp: true"), from: "useHttp: true", to: "useHttp: false"},
		{field: "internal/compile.registrySettings.caCert", text: alone(", caCert: " + good), from: good, to: bad},
		{field: "internal/compile.registrySettings.caFile", text: alone(", caFile: " + goodFile), from: goodFile, to: badFile},
		{field: "internal/compile.registrySettings.clientCertFile", text: registry(", clientCertFile: " + w.pair("a") + ", clientKeyFile: " + w.key("a")), from: w.pair("a"), to: w.pair("b")},
		{field: "internal/compile.registrySettings.clientKeyFile", text: registry(", clientCertFile: " + w.pair("a") + ", clientKeyFile: " + w.key("a")), from: w.key("a"), to: goodFile, refused: "no other key belongs to a certificate"},
		{field: "internal/compile.registrySettings.proxy", text: registry(", proxy: \"" + w.otherProxy + "\""), from: w.otherProxy, to: w.proxy + "/"},
		{field: "internal/compile.registrySettings.authRealms", text: with(way + ", caCert: " + good + ", authProvider: {name: dockerConfig, configPath: " + w.login("first") + "}, registries: [{host: registry.example, authRealms: [auth.example]}]"), from: "[auth.example]", to: "[second.example]", image: w.at("sold")},

		{field: "internal/compile.mirrorSettings.source", text: mirrored("source: registry.example, endpoints: [mirror.example]"), from: "source: registry.example", to: "source: second.example"},
		{field: "internal/compile.mirrorSettings.endpoints", text: mirrored("source: registry.example, endpoints: [mirror.example]"), from: "[mirror.example]", to: "[second.example]"},
		{field: "internal/compile.mirrorSettings.only", text: mirrored("source: registry.example, endpoints: [gone.example], only: false"), from: "only: false", to: "only: true"},
		{field: "internal/compile.identitySettings.place", text: named(", identities: [{place: registry.example, as: gold.example}]"), from: "place: registry.example", to: "place: second.example"},
		{field: "internal/compile.identitySettings.as", text: named(", identities: [{place: registry.example, as: gold.example}]"), from: "as: gold.example", to: "as: silver.example"},

		{field: "internal/compile.dockerConfigParameters.name", text: with(tls + ", authProvider: {name: dockerConfig}"), from: "name: dockerConfig", to: "name: podPullSecrets", image: w.at("private")},
		{field: "internal/compile.dockerConfigParameters.configPath", text: with(tls + ", authProvider: {name: dockerConfig, configPath: " + w.login("first") + "}"), from: w.login("first"), to: w.login("second"), image: w.at("private")},

		{field: "Verifier.spec.name", text: verifying(trusting("", "", "")), from: "name: notation", to: "name: other", refused: "there is one kind of Verifier"},
		{field: "Verifier.spec.type", text: verifying(trusting("name: mine, type: notation, artifactTypes: application/vnd.cncf.notary.signature", "", "")), from: "type: notation", to: "type: other", refused: "there is one kind of Verifier"},
		{field: "Verifier.spec.artifactTypes", text: verifying(trusting("", "", "")), from: "artifactTypes: application/vnd.cncf.notary.signature", to: "artifactTypes: application/vnd.other"},
		{field: "Verifier.spec.parameters", text: verifying(trusting("", "", "")), from: "[roots]", to: "[others]"},
		{field: "Verifier.spec.source.artifact", text: verifying(trusting("", "", "")), from: "name: notation", to: "name: notation, source: {artifact: a.example/b}", refused: "plugins are not run"},
		{field: "Verifier.spec.source.authProvider", text: verifying(trusting("", "", "")), from: "name: notation", to: "name: notation, source: {authProvider: {}}", refused: "plugins are not run"},
		{field: "Verifier.spec.address", text: verifying(trusting("", "", "")), from: "name: notation", to: "name: notation, address: /plugins", nothing: "plugins are not run"},
		{field: "Verifier.spec.version", text: verifying(trusting("", "", "")), from: "name: notation", to: "name: notation, version: 1.0.0", nothing: "plugins are not run"},
		{field: "internal/compile.notationParameters.verificationCertStores", text: verifying(trusting("", "", "")), from: "certs: [roots]", to: "certs: [others]"},
		{field: "internal/compile.notationParameters.verificationCerts", text: verifying(trusting("", "verificationCerts: ["+w.write("roots.pem", string(w.release.Root().PEM()))+"]", "")), from: "/roots.pem", to: "/bad.pem"},
		{field: "internal/compile.notationParameters.trustPolicyDoc", text: verifying(trusting("", "", "")), from: "registryScopes: [\"*\"]", to: "registryScopes: [second.example/a]"},
		{field: "notation.TrustPolicyDocument.version", text: verifying(trusting("", "", "")), from: `version: "1.0"`, to: `version: "2.0"`, refused: "there is one version"},
		{field: "notation.TrustPolicyDocument.trustPolicies", text: verifying(trusting("", "", statementOf("name: a, registryScopes: [registry.example/team/app]")+", "+statementOf("name: b, registryScopes: [second.example/a]"))), from: statementOf("name: a, registryScopes: [registry.example/team/app]") + ", ", to: ""},
		{field: "notation.TrustPolicyDoc.name", text: verifying(trusting("", "", "")), from: "name: all", to: "name: some"},
		{field: "notation.TrustPolicyDoc.registryScopes", text: verifying(trusting("", "", "")), from: `registryScopes: ["*"]`, to: "registryScopes: [second.example/a]"},
		{field: "notation.TrustPolicyDoc.signatureVerification", text: verifying(trusting("", "", "")), from: "level: strict", to: "level: audit", image: w.stranger},
		{field: "notation.TrustPolicyDoc.trustStores", text: verifying(trusting("", "verificationCertStores: {ca: {certs: [roots], more: [others]}}", "")), from: `trustStores: ["ca:certs"]`, to: `trustStores: ["ca:more"]`},
		{field: "notation.TrustPolicyDoc.trustedIdentities", text: verifying(trusting("", "", "")), from: `trustedIdentities: ["*"]`, to: `trustedIdentities: ["x509.subject: C=US, ST=WA, O=Somebody Else"]`},
		{field: "notation.SignatureVerification.level", text: verifying(trusting("", "", "")), from: "level: strict", to: "level: permissive", image: w.expired},
		{field: "notation.SignatureVerification.override", text: verifying(trusting("", "", "")), from: "{level: strict}", to: "{level: strict, override: {expiry: log}}", image: w.expired},
		{field: "notation.SignatureVerification.verifyTimestamp", text: verifying(trusting("", "verificationCertStores: {ca: {certs: [roots]}, tsa: {times: [others]}}", statementOf(`trustStores: ["ca:certs", "tsa:times"], signatureVerification: {level: strict, verifyTimestamp: afterCertExpiry}`))), from: "verifyTimestamp: afterCertExpiry", to: "verifyTimestamp: always"},

		{field: "Policy.spec.type", text: judging("artifactVerificationPolicies: {default: any}"), from: "type: config-policy", to: "type: rego-policy", refused: "there is one kind of Policy"},
		{field: "Policy.spec.parameters", text: judging("artifactVerificationPolicies: {default: any}"), from: "{artifactVerificationPolicies: {default: any}}", to: "{artifactVerificationPolicies: {default: all}}", image: w.both, verdict: true},
		{field: "internal/compile.configPolicyParameters.artifactVerificationPolicies", text: judging("artifactVerificationPolicies: {default: any}"), from: "default: any", to: "default: all", image: w.both, verdict: true},
		{field: "internal/compile.configPolicyParameters.multiArch", text: judging("artifactVerificationPolicies: {default: any}, multiArch: named"), from: "multiArch: named", to: "multiArch: platforms", image: w.index, verdict: true},
		{field: "internal/compile.configPolicyParameters.platforms", text: judging("artifactVerificationPolicies: {default: any}, multiArch: platforms, platforms: [linux/amd64]"), from: "[linux/amd64]", to: "[linux/arm64]", image: w.index, verdict: true},

		{field: "KeyManagementProvider.spec.type", text: with(tls), from: "name: roots\nspec:\n  type: inline", to: "name: roots\nspec:\n  type: file", refused: "each type has its parameters"},
		{field: "KeyManagementProvider.spec.provider", text: strings.Replace(with(tls), "name: roots\nspec:\n  type: inline", "name: roots\nspec:\n  provider: inline", 1), from: "provider: inline", to: "provider: file", refused: "each type has its parameters"},
		{field: "KeyManagementProvider.spec.parameters", text: with(tls), from: indent(6, w.release.Root().PEM()), to: indent(6, w.otherSecure.Root().PEM())},
		{field: "internal/compile.inlineParameters.value", text: with(tls), from: indent(6, w.release.Root().PEM()), to: indent(6, w.otherSecure.Root().PEM())},
		{field: "internal/compile.inlineParameters.contentType", text: with(tls), from: "name: roots\nspec:\n  type: inline\n  parameters:\n", to: "name: roots\nspec:\n  type: inline\n  parameters:\n    contentType: key\n", refused: "keys are of no use to verifiers"},
		{field: "CertificateStore.spec.provider", text: certStore("roots", w.release.Root().PEM()) + with(tls)[len(roots):], from: "provider: inline", to: "provider: file", refused: "each type has its parameters"},
		{field: "CertificateStore.spec.parameters", text: certStore("roots", w.release.Root().PEM()) + with(tls)[len(roots):], from: indent(6, w.release.Root().PEM()), to: indent(6, w.otherSecure.Root().PEM())},
		{field: "internal/keys/file.Parameters.paths", text: doc("KeyManagementProvider", "roots", "spec: {type: file, parameters: {paths: ["+w.write("release.pem", string(w.release.Root().PEM()))+"]}}\n") + with(tls)[len(roots):], from: "/release.pem", to: "/bad.pem"},
		{field: "KeyManagementProvider.spec.refreshInterval", text: doc("KeyManagementProvider", "roots", "spec: {type: file, refreshInterval: 1h, parameters: {paths: ["+w.write("release.pem", string(w.release.Root().PEM()))+"]}}\n") + with(tls)[len(roots):], from: "refreshInterval: 1h", to: "refreshInterval: 2h"},
	} {
		w.show(e)
	}
}

// login is a docker configuration file with a user for every registry here.
func (w *witness) login(user string) string {
	return w.write("login-"+user, `{"auths":{"registry.example":{"username":"`+user+`","password":"p"}}}`)
}

// at is the image of a repository that demands something of who asks.
func (w *witness) at(repo string) string {
	return "registry.example/" + repo + "/app@" + w.digests[repo]
}

// pair is the file of a client's certificate, and key that of its key: both clients have
// the same key.
func (w *witness) pair(name string) string {
	return w.write("client-"+name+".pem", string(w.client(name).Leaf().PEM()))
}

func (w *witness) key(name string) string {
	return w.write("client-"+name+".key", string(testca.Must(testca.KeyPEM(w.client(name).Leaf().Key))))
}

func (w *witness) client(name string) *testca.Chain {
	if w.clients[name] == nil {
		w.clients[name] = testca.Test(w.t, testca.Options{Leaf: testca.Spec{Signer: w.secure.Leaf().Key, CommonName: name, EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}})
	}
	return w.clients[name]
}
