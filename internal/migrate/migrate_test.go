package migrate

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/oci"
)

const (
	header1 = "apiVersion: config.ratify.deislabs.io/v1beta1\n"
	store   = header1 + "kind: Store\nmetadata: {name: store-oras}\nspec: {name: oras}\n"
	ruled   = header1 + "kind: Policy\nmetadata: {name: ratify-policy}\nspec: {type: config-policy, parameters: {artifactVerificationPolicies: {default: any}}}\n"
)

func inline(t testing.TB, o testca.Options) string {
	pem := strings.TrimSpace(string(testca.Test(t, o).Root().PEM()))
	return header1 + "kind: KeyManagementProvider\nmetadata: {name: roots}\nspec:\n  type: inline\n  parameters:\n    value: |\n      " + strings.ReplaceAll(pem, "\n", "\n      ") + "\n"
}

// notationWith is a Verifier whose trust comes from what is written.
func notationWith(trust string) string {
	return header1 + `kind: Verifier
metadata: {name: verifier-notation}
spec:
  name: notation
  artifactTypes: application/vnd.cncf.notary.signature
  parameters:
    ` + trust + `
    trustPolicyDoc:
      version: "1.0"
      trustPolicies:
      - name: all
        registryScopes: ["*"]
        signatureVerification: {level: strict}
        trustStores: ["ca:certs"]
        trustedIdentities: ["*"]
`
}

var verifier = notationWith("verificationCertStores: {certs: [roots]}")

func options() Options {
	return Options{Namespace: "boltseal-system", Service: "boltseal", Partial: true,
		Compile: compile.ClusterOptions{CertificateStores: []string{"boltseal-system", "gatekeeper-system"}},
		Deps:    compile.Deps{DockerConfig: func(string) oci.CredentialSource { return nil }}}
}

func documents(t testing.TB, docs ...string) []Document {
	t.Helper()
	out, err := Files([]compile.Source{{Name: "f.yaml", Data: []byte(strings.Join(docs, "---\n"))}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func check(t testing.TB, docs ...string) Report {
	t.Helper()
	r, err := Check(documents(t, docs...), options())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		if f.Resource == "" || f.Boltseal == "" || f.Severity != OK && f.Do == "" {
			t.Errorf("something is not said: %+v", f)
		}
	}
	return r
}

func find(t testing.TB, r Report, resource, field string, severity Severity, words ...string) {
	t.Helper()
	for _, f := range r.Findings {
		if f.Resource != resource || f.Field != field || f.Severity != severity {
			continue
		}
		text, all := f.Ratify+" | "+f.Boltseal+" | "+f.Do, true
		for _, w := range words {
			all = all && strings.Contains(text, w)
		}
		if all {
			return
		}
	}
	t.Errorf("no %s of %s %q with %q in %+v", severity, resource, field, words, r.Findings)
}

func TestNothingDiffers(t *testing.T) {
	t.Parallel()
	r := check(t, inline(t, testca.Options{}), store, verifier, ruled)
	if r.Fails() || len(r.Findings) != 4 || r.PassedOver != 0 {
		t.Errorf("%+v", r)
	}
	for _, f := range r.Findings {
		if f.Severity != OK {
			t.Errorf("%+v", f)
		}
	}
	find(t, r, "Store store-oras", "", OK, "as it is written")
	if r.Findings[1].Place == "" || !strings.HasPrefix(r.Findings[1].Place, "f.yaml:") {
		t.Errorf("%+v", r.Findings[1])
	}
}

// TestFindings edits a configuration that is right, and says what must be found.
func TestFindings(t *testing.T) {
	t.Parallel()
	good := []string{inline(t, testca.Options{}), store, verifier, ruled}
	const v = "Verifier verifier-notation"
	cert := strings.Replace(good[0], "kind: KeyManagementProvider", "kind: CertificateStore", 1)
	cert = strings.Replace(strings.Replace(cert, "type: inline", "provider: inline", 1), "{name: roots}", "{name: roots, namespace: %s}", 1)
	past := time.Now().Add(-48 * time.Hour)
	akv := header1 + "kind: KeyManagementProvider\nmetadata: {name: roots}\nspec: {type: azurekeyvault, parameters: {vaultURI: 'https://acme.vault.azure.net/', tenantID: t, clientID: c, certificates: [{name: a}]}}\n"
	for _, tt := range []struct {
		name     string
		docs     []string // in place of those above
		from, to string   // an edit of all of them
		resource string
		field    string
		severity Severity
		words    []string
	}{
		{name: "a verifier of cosign", docs: append(good[:4:4], header1+"kind: Verifier\nmetadata: {name: verifier-cosign}\nspec: {name: cosign, artifactTypes: application/vnd.dev.cosign.artifact.sig.v1+json}\n"),
			resource: "Verifier verifier-cosign", field: "spec.name", severity: Unsupported, words: []string{"cosign signatures", "has no cosign", "rejected", "delete it"}},
		{name: "a plugin's verifier", docs: append(good[:4:4], header1+"kind: Verifier\nmetadata: {name: s}\nspec: {type: sbom, name: x, artifactTypes: application/spdx+json}\n"),
			resource: "Verifier s", field: "spec.type", severity: Unsupported, words: []string{"plugin sbom", "has no sbom"}},
		{name: "a plugin from a registry", from: "  artifactTypes:", to: "  source: {artifact: acme.example/plugin:v1}\n  artifactTypes:",
			resource: v, field: "spec.source", severity: Unsupported, words: []string{"downloads the program", "plugins are not run"}},
		{name: "a plugin's folder", from: "  artifactTypes:", to: "  address: /plugins\n  artifactTypes:", resource: v, field: "spec.address", severity: Differs, words: []string{"no plugin is run"}},
		{name: "a mistyped field", from: "trustPolicyDoc:", to: "trustPolicyDocs:", resource: v, field: "spec.parameters.trustPolicyDocs", words: []string{"ignores it", `did you mean "trustPolicyDoc"`, "rejected"}},
		{name: "no types", from: "  artifactTypes: application/vnd.cncf.notary.signature\n", to: "  artifactTypes: ''\n", resource: v, field: "spec.artifactTypes", severity: Differs, words: []string{"verifies nothing"}},
		{name: "certificates that are not there", from: "[roots]", to: "[root]", resource: v, field: "spec.parameters.verificationCertStores.certs[0]", words: []string{"not there", `did you mean "roots"`}},
		{name: "no certificates", docs: []string{store, notationWith("verificationCerts: []"), ruled}, resource: v, field: "spec.parameters.verificationCertStores", words: []string{"its own folder", "nobody would be trusted"}},
		{name: "files", docs: []string{store, notationWith("verificationCerts: [/not/there]"), ruled}, resource: v, field: "spec.parameters.verificationCerts", severity: Differs, words: []string{"Boltseal's Pod", "mount"}},
		{name: "files beside stores", from: "    trustPolicyDoc:", to: "    verificationCerts: [/not/there]\n    trustPolicyDoc:", resource: v, field: "spec.parameters.verificationCerts", severity: Differs, words: []string{"ignores it beside"}},
		{name: "a leaf for a root", docs: []string{leaf(t), store, verifier, ruled}, resource: v, field: "spec.parameters.verificationCertStores.certs", words: []string{"leaves out certificates"}},
		{name: "an expired root", docs: []string{inline(t, testca.Options{Root: testca.Spec{NotBefore: past.Add(-time.Hour), NotAfter: past}}), store, verifier, ruled},
			resource: "KeyManagementProvider roots", severity: Differs, words: []string{"expired on " + past.UTC().Format(time.DateOnly), "successor"}},
		{name: "a vault", docs: []string{akv, store, verifier, ruled}, resource: "KeyManagementProvider roots", severity: Differs, words: []string{"azurekeyvault", "ServiceAccount", "docs/keys.md"}},
		{name: "its keys", docs: []string{strings.Replace(akv, "certificates: [", "keys: [{name: k}], certificates: [", 1), store, verifier, ruled}, resource: "KeyManagementProvider roots", field: "spec.parameters.keys", severity: Unsupported, words: []string{"cosign"}},
		{name: "a key", from: "    value: |", to: "    contentType: key\n    value: |", resource: "KeyManagementProvider roots", field: "spec.parameters.contentType", severity: Unsupported, words: []string{"cosign verifiers"}},
		{name: "what needs a broken provider", from: "    value: |", to: "    contentType: key\n    value: |", resource: v, field: "spec.parameters.verificationCertStores.certs[0]", words: []string{"a problem of its own"}},
		{name: "another place for keys", from: "type: inline", to: "type: alibabakms", resource: "KeyManagementProvider roots", field: "spec.type", severity: Unsupported, words: []string{"has no alibabakms", "lack its certificates"}},
		{name: "the older name", from: "type: inline", to: "provider: alibabakms", resource: "KeyManagementProvider roots", field: "spec.provider", severity: Unsupported},
		{name: "a certificate store", docs: []string{fmt.Sprintf(cert, "gatekeeper-system"), store, verifier, ruled}, resource: "CertificateStore gatekeeper-system/roots", severity: OK},
		{name: "a certificate store elsewhere", docs: []string{fmt.Sprintf(cert, "shop"), store, verifier, ruled}, resource: v, field: "spec.parameters.verificationCertStores.certs[0]", words: []string{"not there"}},
		{name: "a certificate store that is named in another namespace", docs: []string{fmt.Sprintf(cert, "default"), store, notationWith("verificationCertStores: {certs: [gatekeeper-system/roots]}"), ruled}, resource: v, field: "spec.parameters.verificationCertStores.certs[0]", words: []string{"gatekeeper-system/roots, which is not there", "default/roots is another one"}},
		{name: "Rego", from: "type: config-policy, parameters: {artifactVerificationPolicies: {default: any}}", to: "type: rego-policy, parameters: {policy: x}",
			resource: "Policy ratify-policy", field: "spec.type", severity: Unsupported, words: []string{"Rego", "every image is denied"}},
		{name: "a Policy of another name", from: "ratify-policy", to: "my-policy", resource: "Policy my-policy", field: "metadata.name", words: []string{"as if it were not there"}},
		{name: "all", from: "default: any", to: "default: all", resource: "Policy ratify-policy", field: "spec.parameters.artifactVerificationPolicies", severity: Differs, words: []string{"(50)"}},
		{name: "all, unsaid", from: "default: any", to: "a/b: any", resource: "Policy ratify-policy", field: "spec.parameters.artifactVerificationPolicies", severity: Differs},
		{name: "neither", from: "default: any", to: "default: some", resource: "Policy ratify-policy", field: "spec.parameters.artifactVerificationPolicies.default", words: []string{"not any or all", "every image is denied"}},
		{name: "no Policy", docs: good[:3], resource: "Policy", severity: Differs, words: []string{"any one trusted signature"}},
		{name: "no Store", docs: []string{good[0], verifier, ruled}, resource: "Store", severity: Differs, words: []string{"a file that was not named"}},
		{name: "a cache", from: "name: oras", to: "name: oras, parameters: {cacheEnabled: true, ttl: 10}", resource: "Store store-oras", field: "spec.parameters.cacheEnabled", severity: Differs, words: []string{"an outage is never kept"}},
		{name: "a folder", from: "name: oras", to: "name: oras, parameters: {localCachePath: /x}", resource: "Store store-oras", field: "spec.parameters.localCachePath", severity: Differs, words: []string{"keeps manifests", "no effect"}},
		{name: "no TLS", from: "name: oras", to: "name: oras, parameters: {useHttp: true}", resource: "Store store-oras", field: "spec.parameters.useHttp", severity: Differs, words: []string{"registries"}},
		{name: "a docker configuration", from: "name: oras", to: "name: oras, parameters: {authProvider: {name: dockerConfig, configPath: /x}}", resource: "Store store-oras", field: "spec.parameters.authProvider.configPath", severity: Differs, words: []string{"registryCredentials"}},
		{name: "another sign-in", from: "name: oras", to: "name: oras, parameters: {authProvider: {name: quantumTunnel}}", resource: "Store store-oras", field: "spec.parameters.authProvider.name", severity: Unsupported, words: []string{"quantumTunnel is not known"}},
		{name: "Boltseal's own identity in a namespace", docs: append(good[:4:4], strings.Replace(strings.Replace(strings.Replace(store, "kind: Store", "kind: NamespacedStore", 1), "name: store-oras", "name: own, namespace: team", 1), "name: oras", "name: oras, parameters: {authProvider: {name: awsEcrBasic}}", 1)),
			resource: "NamespacedStore team/own", field: "spec.parameters.authProvider.name", severity: Unsupported, words: []string{"signs in to ECR", "which namespace team may not use", "docs/registries.md"}},
		{name: "another store", from: "name: oras", to: "name: dynamic", resource: "Store store-oras", field: "spec.name", severity: Unsupported, words: []string{"plugin dynamic", "is denied"}},
		{name: "two stores", docs: append(good[:4:4], strings.Replace(store, "store-oras", "twin", 1)), resource: "Store twin", field: "spec.parameters.scopes", words: []string{"older Store"}},
		{name: "an older version", from: header1 + "kind: Store", to: strings.Replace(header1, "v1beta1", "v1alpha1", 1) + "kind: Store", resource: "Store store-oras", field: "apiVersion", severity: Differs, words: []string{"v1alpha1", "v1beta1"}},
		{name: "a Policy of the older version", docs: append(good[:3:3], strings.Replace(header1, "v1beta1", "v1alpha1", 1)+"kind: Policy\nmetadata: {name: configpolicy}\nspec: {parameters: {}}\n"),
			resource: "Policy configpolicy", field: "spec.type", words: []string{"for its type", "metadata.name ratify-policy, spec.type config-policy"}},
		{name: "Ratify 2", docs: append(good[:4:4], "apiVersion: config.ratify.dev/v2alpha1\nkind: Executor\nmetadata: {name: e}\nspec: {}\n"), resource: "Executor e", field: "apiVersion", severity: Unsupported, words: []string{"version 2"}},
		{name: "a mistyped group", from: header1 + "kind: Store", to: "apiVersion: config.ratify.deislab.io/v1beta1\nkind: Store", resource: "Store store-oras", field: "apiVersion", words: []string{`did you mean "config.ratify.deislabs.io"`}},
		{name: "another kind", from: "kind: Store\n", to: "kind: Stores\n", resource: "Stores store-oras", field: "kind", words: []string{`did you mean "Store"`}},
		{name: "twice", docs: append(good[:4:4], store), resource: "Store store-oras", field: "metadata.name", words: []string{"is listed twice", "f.yaml:"}},
		{name: "no text", from: "{name: store-oras}", to: "{name: store-oras, annotations: {on: x}}", resource: "Store store-oras", words: []string{"cannot be read"}},
		{name: "a namespace's own", docs: append(good[:4:4], header1+"kind: NamespacedStore\nmetadata: {name: s, namespace: shop}\nspec: {name: oras}\n"),
			resource: "Namespace shop", severity: Differs, words: []string{"NamespacedStore s", "[shop]IMAGE", "kind by kind", "parameters.namespaced"}},
		{name: "a Store with a namespace", from: "{name: store-oras}", to: "{name: store-oras, namespace: ratify}", resource: "Store ratify/store-oras", severity: OK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			docs := tt.docs
			if docs == nil {
				docs = strings.Split(strings.Replace(strings.Join(good, "---\n"), tt.from, tt.to, 1), "---\n")
				if strings.Join(docs, "") == strings.Join(good, "") {
					t.Fatal("the edit changed nothing")
				}
			}
			r := check(t, docs...)
			find(t, r, tt.resource, tt.field, tt.severity, tt.words...)
			if tt.severity.fails() && !r.Fails() {
				t.Error("it is said to work")
			}
			agrees(t, documents(t, docs...), r)
		})
	}
}

// leaf is a provider with a certificate that is no root.
func leaf(t *testing.T) string {
	pem := strings.TrimSpace(string(testca.Test(t, testca.Options{}).Leaf().PEM()))
	return header1 + "kind: KeyManagementProvider\nmetadata: {name: roots}\nspec:\n  type: inline\n  parameters:\n    value: |\n      " + strings.ReplaceAll(pem, "\n", "\n      ") + "\n"
}

// agrees holds a report against the product itself: what it does not put in force as
// it is written must not be said to work, unless it is for files or vaults that
// are elsewhere.
func agrees(t testing.TB, docs []Document, r Report) {
	t.Helper()
	var entries []compile.Entry
	seen := map[compile.Key]int{}
	for _, in := range docs {
		d, b := readObject(in)
		if b != toRatify || d.err != nil {
			continue
		}
		e := compile.Entry{Current: compile.DecodeObject(d.normal())}
		if i, twice := seen[e.Current.Key()]; twice {
			entries[i] = e
			continue
		}
		seen[e.Current.Key()] = len(entries)
		entries = append(entries, e)
	}
	deps := options().Deps
	deps.Keys = func(keys.Want) keys.State { return keys.State{Tried: true, Err: errElsewhere} }
	compiled, standing := compile.NewCluster(options().Compile, entries).Compile(deps, nil)
	defer compiled.Close()
	for k, st := range standing {
		elsewhere := true
		for _, p := range st.Problems {
			elsewhere = elsewhere && (strings.Contains(p.Message, errElsewhere.Error()) || strings.HasPrefix(p.Field, fieldCerts))
		}
		fails, told := false, false
		for _, f := range r.Findings {
			_, name, _ := strings.Cut(f.Resource, " ")
			if _, rest, ok := strings.Cut(name, "/"); ok {
				name = rest
			}
			if strings.HasPrefix(f.Resource, k.Kind+" ") && (name == k.Name || k.Name == "" || strings.HasPrefix(name, `"`)) {
				told = true
				fails = fails || f.Severity.fails()
			}
		}
		if k.Name == "" || k.Kind == "" {
			continue // findings name it otherwise
		}
		if !told {
			t.Errorf("nothing is said of %s", k)
		}
		if !st.OK() && !elsewhere && !fails {
			t.Errorf("%s is said to work: %v; %+v", k, st.Problems, r.Findings)
		}
	}
}

func TestNothingOfRatifys(t *testing.T) {
	t.Parallel()
	for _, docs := range [][]string{{}, {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {on: 1}\n"}} {
		if _, err := Check(documents(t, docs...), options()); !errors.Is(err, ErrNothing) {
			t.Errorf("%v", err)
		}
	}
	if _, err := Files([]compile.Source{{Name: "f", Data: []byte("a: [")}}); err == nil || !strings.Contains(err.Error(), "f:1") {
		t.Errorf("%v", err)
	}
	r := check(t, store, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", "kind: Store\nmetadata: {name: x}\n")
	if r.PassedOver != 2 {
		t.Errorf("%+v", r)
	}
}

// TestLists: what kubectl prints, statuses and all.
func TestLists(t *testing.T) {
	t.Parallel()
	item := func(doc string) string {
		return "- " + strings.ReplaceAll(strings.TrimSpace(doc), "\n", "\n  ") + "\n  status: {issuccess: true, brieferror: x, whatever: [1]}\n"
	}
	list := "apiVersion: v1\nkind: List\nmetadata: {resourceVersion: \"\"}\nitems:\n" + item(store) + item(strings.Replace(ruled, "{name: ratify-policy}", "{name: ratify-policy, uid: x, managedFields: [{a: b}], creationTimestamp: \"2026-01-02T03:04:05Z\"}", 1))
	r := check(t, list, inline(t, testca.Options{}), verifier)
	if len(r.Findings) != 4 || r.Fails() {
		t.Errorf("%+v", r)
	}
}

// TestWhole: what is lacking in a cluster is lacking.
func TestWhole(t *testing.T) {
	t.Parallel()
	o := options()
	o.Partial = false
	r, err := Check(documents(t, ruled), o)
	if err != nil || !r.Fails() {
		t.Fatal(r, err)
	}
	find(t, r, "Store", "", Error, "denies every image")
	find(t, r, "Verifier", "", Error, "denies every image")
}
