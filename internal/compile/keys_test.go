package compile_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/azure/keyvault"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// fetchedDoc is a provider of a type; a namespaced one where its name has a slash.
func fetchedDoc(name, kind, parameters string) string {
	resource := "KeyManagementProvider"
	if strings.Contains(name, "/") {
		resource = "NamespacedKeyManagementProvider"
	}
	return doc(resource, name, "spec:\n  type: "+kind+"\n  refreshInterval: 1h\n  parameters: {"+parameters+"}\n")
}

const vaultParameters = "vaultURI: https://acme.vault.azure.net/, certificates: [{name: signing}]"

func TestProviderParameters(t *testing.T) {
	t.Parallel()
	kubernetes := "address: https://vault.example:8200, auth: {method: kubernetes, role: boltseal}, kv: [{path: a}]"
	for _, c := range []struct{ name, text, says string }{ // says "" = nothing is wrong
		{"vault of Azure", fetchedDoc("p", "azurekeyvault", vaultParameters), ""},
		{"a namespace's", fetchedDoc("a/p", "azurekeyvault", vaultParameters), ""},
		{"misspelt", fetchedDoc("p", "azurekeyvault", "vaultUri: x, "+vaultParameters), `spec.parameters.vaultUri: unknown field (did you mean "vaultURI"?)`},
		{"misspelt in a certificate", fetchedDoc("p", "azurekeyvault", "vaultURI: https://acme.vault.azure.net/, certificates: [{nmae: x}]"), `spec.parameters.certificates[0].nmae: unknown field (did you mean "name"?)`},
		{"lookalike", fetchedDoc("p", "azurekeyvault", "vaultURI: https://acme.vault.azure.net.evil.example/, certificates: [{name: x}]"), "spec.parameters.vaultURI: acme.vault.azure.net.evil.example is no vault of Azure, and gets no token"},
		{"another cloud", fetchedDoc("p", "azurekeyvault", "cloudName: AzureChinaCloud, "+vaultParameters), "spec.parameters.cloudName: acme.vault.azure.net is of AzurePublicCloud"},
		{"version and history", fetchedDoc("p", "azurekeyvault", "vaultURI: https://acme.vault.azure.net/, certificates: [{name: x, version: abc, versionHistoryLimit: 2}]"), "spec.parameters.certificates[0].versionHistoryLimit: one version is named"},
		{"history without end", fetchedDoc("p", "azurekeyvault", "vaultURI: https://acme.vault.azure.net/, certificates: [{name: x, versionHistoryLimit: 51}]"), "51 is not between 1 and 50"},
		{"twice", fetchedDoc("p", "azurekeyvault", "vaultURI: https://acme.vault.azure.net/, certificates: [{name: x}, {name: x}]"), "certificates[1]: x is listed twice"},
		{"a path for a name", fetchedDoc("p", "azurekeyvault", "vaultURI: https://acme.vault.azure.net/, certificates: [{name: ../secrets/x}]"), "is no name in a vault"},
		{"unknown way in", fetchedDoc("p", "azurekeyvault", "authentication: workloadidentity, "+vaultParameters), `authentication: workloadidentity is not one of workloadIdentity, managedIdentity, clientSecret (did you mean "workloadIdentity"?)`},
		{"a secret that is typed in", fetchedDoc("p", "azurekeyvault", "authentication: clientSecret, clientSecret: x, "+vaultParameters), "clientSecret: unknown field"},
		{"no secret", fetchedDoc("p", "azurekeyvault", "authentication: clientSecret, "+vaultParameters), "name where the client secret is"},
		{"somebody else's secret", fetchedDoc("a/p", "azurekeyvault", "authentication: clientSecret, clientSecretRef: {name: x, namespace: b, key: k}, "+vaultParameters), "a provider of namespace a reads only there"},
		{"a namespace and files", fetchedDoc("a/p", "azurekeyvault", "tokenFile: /etc/passwd, "+vaultParameters), "a provider of a namespace reads no files of Boltseal's"},

		{"file", fetchedDoc("p", "file", "paths: [/etc/ca.pem]"), ""},
		{"file of a namespace", fetchedDoc("a/p", "file", "paths: [/etc/ca.pem]"), "NamespacedKeyManagementProvider a/p: spec.parameters: a provider of a namespace reads no files of Boltseal's: use type secret or configmap"},
		{"file somewhere", fetchedDoc("p", "file", "paths: [ca.pem]"), "must begin at the root"},
		{"no file", fetchedDoc("p", "file", "path: /etc/ca.pem"), `path: unknown field (did you mean "paths"?)`},

		{"secret", fetchedDoc("p", "secret", "name: x, namespace: team, keys: [ca.crt]"), ""},
		{"secret of a namespace", fetchedDoc("a/p", "secret", "name: x"), ""},
		{"secret of its own namespace", fetchedDoc("a/p", "secret", "name: x, namespace: a"), ""},
		{"secret of another namespace", fetchedDoc("a/p", "secret", "name: x, namespace: b"), "spec.parameters.namespace: a provider of namespace a reads only there: leave namespace out"},
		{"secret nowhere", fetchedDoc("p", "secret", "name: x"), "spec.parameters.namespace: it is missing"},
		{"configmap", fetchedDoc("p", "configmap", "name: x, namespace: team"), ""},
		{"configmap, misspelt", fetchedDoc("p", "configMap", "name: x, namespace: team"), `did you mean "configmap"?`},
		{"entry of no secret", fetchedDoc("p", "secret", "name: x, namespace: team, keys: [../x]"), "is no entry of a Secret"},

		{"Google", fetchedDoc("a/p", "gcpkms", "certificateAuthorities: [{name: projects/acme/locations/us/caPools/a}], keys: [{name: projects/acme/locations/us/keyRings/a/cryptoKeys/b, version: '3'}]"), ""},
		{"Google, misspelt", fetchedDoc("p", "gcpkms", "certificateAuthorities: [{nmae: projects/acme/locations/us/caPools/a}]"), `spec.parameters.certificateAuthorities[0].nmae: unknown field (did you mean "name"?)`},
		{"Google, a way out", fetchedDoc("p", "gcpkms", "certificateAuthorities: [{name: projects/acme/locations/us/caPools/../../x}]"), "is no pool and no authority"},
		{"Google, version by name", fetchedDoc("p", "gcpkms", "keys: [{name: projects/acme/locations/us/keyRings/a/cryptoKeys/b/cryptoKeyVersions/1}]"), "write its number as version"},

		{"Vault", fetchedDoc("p", "vault", kubernetes), ""},
		{"Vault without TLS", fetchedDoc("p", "vault", strings.Replace(kubernetes, "https:", "http:", 1)), "is without TLS, and gets no token"},
		{"Vault on loopback without TLS", fetchedDoc("p", "vault", strings.Replace(kubernetes, "https://vault.example", "http://127.0.0.1", 1)), ""},
		{"Vault of a namespace, with Boltseal's own token", fetchedDoc("a/p", "vault", kubernetes), "signs in with a token of its own"},
		{"Vault of a namespace", fetchedDoc("a/p", "vault", "address: https://vault.example, auth: {method: token, tokenRef: {name: x, key: k}}, kv: [{path: a}]"), ""},
		{"Vault, a way out", fetchedDoc("p", "vault", strings.Replace(kubernetes, "path: a", "path: ../sys/seal", 1)), "is no name in a vault"},
		{"Vault, nothing to fetch", fetchedDoc("p", "vault", strings.Replace(kubernetes, "[{path: a}]", "[]", 1)), "what is to be fetched?"},
		{"Vault, no method", fetchedDoc("p", "vault", strings.Replace(kubernetes, "method: kubernetes", "method: kube", 1)), "auth.method: kube is not one of kubernetes, token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rest := verifier("v", "p") + store("s", "")
			if strings.Contains(c.text, "namespace: a\n") {
				rest = verifier("a/v", "p") + store("a/s", "")
			}
			if c.says == "" {
				works(t, c.text+rest)
				return
			}
			if ps := fails(t, c.text+rest); !strings.Contains(ps.Error(), c.says) {
				t.Errorf("%v\nwant %s", ps, c.says)
			}
		})
	}
}

// TestOlderForm: CertificateStores as the documentation of Azure has them.
func TestOlderForm(t *testing.T) {
	t.Parallel()
	for _, certificates := range []string{
		"|\n      array:\n        - |\n          certificateName: signing\n          certificateVersion: abc\n        - |\n          certificateName: another\n          certificateVersion: \"\"\n",
		"\n      array:\n        - |\n          certificateName: signing\n          certificateVersion: abc\n        - certificateName: another\n",
	} {
		text := doc("CertificateStore", "p", "spec:\n  provider: azurekeyvault\n  parameters:\n    vaultURI: https://acme.vault.azure.net/\n    tenantID: 00000000-0000-0000-0000-000000000001\n    clientID: 00000000-0000-0000-0000-000000000002\n    certificates: "+certificates)
		set, err := compile.Decode([]compile.Source{{Name: "f.yaml", Data: []byte(text)}})
		if err != nil {
			t.Fatal(err)
		}
		wants := set.Wants()
		if len(wants) != 1 {
			t.Fatalf("%+v\n%s", wants, numbered(text))
		}
		p := wants[0].Parameters.(keyvault.Parameters)
		if fmt.Sprint(p.Certificates) != "[{signing abc 0} {another  0}]" || wants[0].Interval != 0 {
			t.Errorf("%+v", p)
		}
		if ps := fails(t, strings.Replace(text, "certificateName: signing", "certificatename: signing", 1)+verifier("v", "p")+store("s", "")); !strings.Contains(ps.Error(), `did you mean "certificateName"?`) {
			t.Errorf("%v", ps)
		}
	}
	for _, broken := range []string{"certificates: 5", "certificates: {arry: []}", "certificates: \"array: [\"", "certificates: {array: [5]}"} {
		fails(t, fetchedDoc("p", "azurekeyvault", "vaultURI: https://acme.vault.azure.net/, "+broken)+verifier("v", "p")+store("s", ""))
	}
}

// states are what was fetched, by resource.
type states map[string]keys.State

func (s states) of(w keys.Want) keys.State {
	p, _ := w.Parameters.(keyvault.Parameters)
	return s[w.Resource+" "+p.Certificates[0].Name]
}

func content(chains ...*testca.Chain) keys.State {
	g := keys.Group{Name: "certificate signing"}
	for _, c := range chains {
		g.Items = append(g.Items, keys.Item{Name: "signing", Version: "1", Use: keys.InUse, Certificates: c.X509()})
	}
	if len(chains) == 0 {
		g.Problem = "certificate signing at acme.vault.azure.net: it is not in the vault"
	}
	return keys.State{Tried: true, Fetched: now, Content: keys.NewContent([]keys.Group{g})}
}

var errDown = &keys.Error{Op: "get certificate", Target: "signing", Host: "acme.vault.azure.net", Err: boltseal.ErrUnavailable}

// TestFilesWithoutCertificates: the configuration is right, and denies by saying
// which provider has nothing, and why.
func TestFilesWithoutCertificates(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{})
	text := fetchedDoc("akv", "azurekeyvault", vaultParameters) + verifier("v", "akv") + store("s", "")
	for name, st := range map[string]keys.State{"never tried": {}, "down": {Tried: true, Err: errDown, Failures: 1}, "empty": content()} {
		d := deps()
		d.Keys = states{"KeyManagementProvider akv signing": st}.of
		c, err := build(text, d)
		if err != nil {
			t.Fatal(err)
		}
		r := w.verify(t, c, "", "a")
		if r.Decision != boltseal.Deny {
			t.Fatalf("%s: %+v", name, r)
		}
		if says := r.Reason.Message; !strings.Contains(says, "akv") || st.Err != nil && !strings.Contains(says, "acme.vault.azure.net") {
			t.Errorf("%s: %+v", name, r)
		}
		if len(c.Warnings) == 0 || !strings.Contains(c.Warnings[0].Error(), "KeyManagementProvider akv") {
			t.Errorf("%s: %v", name, c.Warnings)
		}
		c.Close()
	}
	d := deps()
	if _, err := build(text, d); err != nil { // nothing fetches at all
		t.Error(err)
	}
}

// TestFetchedInACluster: what was fetched stays in force, as long as nobody says
// that it is gone.
func TestFetchedInACluster(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{})
	k := newKube(t)
	st := states{}
	k.deps.Keys = st.of
	const first, second = "KeyManagementProvider akv signing", "KeyManagementProvider akv other"
	k.apply(fetchedDoc("akv", "azurekeyvault", vaultParameters) + verifier("v", "akv") + store("s", ""))
	down := content(w.a)
	down.Err, down.Failures = errDown, 3
	for _, s := range []struct {
		what   string
		edit   func()
		trusts string
		says   string
	}{
		{"not fetched yet", func() {}, "", "KeyManagementProvider akv: StandIn; nothing has been fetched yet"},
		{"fails", func() { st[first] = keys.State{Tried: true, Err: errDown, Failures: 1} }, "", "the trust store certs lacks certificates of akv: nothing has been fetched yet: get certificate signing at acme.vault.azure.net"},
		{"there", func() { st[first] = content(w.a) }, "a both", "KeyManagementProvider akv: Current; 1 certificates"},
		{"down later", func() { st[first] = down }, "a both", "KeyManagementProvider akv: LastGood; it could not be fetched anew"},
		{"edited, the new one is not there yet", func() {
			k.apply(fetchedDoc("akv", "azurekeyvault", strings.Replace(vaultParameters, "signing", "other", 1)))
		}, "a both", "KeyManagementProvider akv: LastGood; nothing has been fetched yet"},
		{"edited, the new one is there", func() { st[second] = content(w.b) }, "b both", "KeyManagementProvider akv: Current"},
		{"withdrawn", func() { st[second] = content() }, "", "KeyManagementProvider akv: Reduced; certificate signing at acme.vault.azure.net: it is not in the vault"},
		{"there again", func() { st[second] = content(w.a, w.b) }, "a b both", "KeyManagementProvider akv: Current; 2 certificates"},
	} {
		s.edit()
		c, standing := k.compile()
		if got := w.trusts(t, c, ""); got != s.trusts {
			t.Errorf("%s: trusts %q, want %q\n%s", s.what, got, s.trusts, tell(standing))
		}
		if !strings.Contains(tell(standing), s.says) {
			t.Errorf("%s: %q is not said:\n%s", s.what, s.says, tell(standing))
		}
		if s.what == "fails" && errors.Is(standing[compile.Key{Kind: "KeyManagementProvider", Name: "akv"}].Problems, boltseal.ErrUnavailable) {
			t.Error("an outage of a vault could be passed over by a policy")
		}
	}
}
