package keys

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testcloud"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

func indent(text []byte) string {
	return strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n    ")
}

// docs are a Store and a Verifier that trusts a provider, cluster-wide or of a
// namespace.
func docs(namespace string) string {
	prefix, in := "", ""
	if namespace != "" {
		prefix, in = "Namespaced", ", namespace: "+namespace
	}
	return strings.NewReplacer("PREFIX", prefix, "IN", in).Replace(`
apiVersion: config.ratify.deislabs.io/v1beta1
kind: PREFIXStore
metadata: {name: storeIN}
spec: {name: oras}
---
apiVersion: config.ratify.deislabs.io/v1beta1
kind: PREFIXVerifier
metadata: {name: verifierIN}
spec:
  name: notation
  artifactTypes: application/vnd.cncf.notary.signature
  parameters:
    verificationCertStores: {ca: {release: [roots]}}
    trustPolicyDoc:
      version: "1.0"
      trustPolicies:
        - {name: all, registryScopes: ["*"], signatureVerification: {level: strict}, trustStores: ["ca:release"], trustedIdentities: ["*"]}
`)
}

func provider(namespace, spec string) string {
	kind, in := "KeyManagementProvider", ""
	if namespace != "" {
		kind, in = "Namespaced"+kind, ", namespace: "+namespace
	}
	return "apiVersion: config.ratify.deislabs.io/v1beta1\nkind: " + kind + "\nmetadata: {name: roots" + in + "}\nspec: {" + spec + "}\n"
}

func secret(namespace string, pem []byte) string {
	return "apiVersion: v1\nkind: Secret\nmetadata: {name: roots, namespace: " + namespace + "}\nstringData:\n  ca.crt: |\n    " + indent(pem) + "\n"
}

// rights let Boltseal read one object, and no other.
func rights(namespace, resource, name string) string {
	return fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: boltseal-%[2]s-%[3]s, namespace: %[1]s}
rules:
- {apiGroups: [""], resources: [%[2]s], resourceNames: [%[3]s], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: boltseal-%[2]s-%[3]s, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: boltseal-%[2]s-%[3]s}
subjects: [{kind: ServiceAccount, name: boltseal, namespace: boltseal-system}]
`, namespace, resource, name)
}

// use applies documents for the time of a test.
func use(t *testing.T, docs ...string) {
	t.Helper()
	apply(t, docs...)
	t.Cleanup(func() { remove(t, docs...) })
}

func house(t *testing.T) (h *testhouse.House, mine, theirs string) {
	t.Helper()
	h = testhouse.New(t, testhouse.Options{})
	mine, _ = h.Signed("mine", h.Signer)
	theirs, _ = h.Signed("theirs", h.Stranger)
	return h, mine, theirs
}

// TestSecret: without the right to read it, it is said what is missing; then it is
// read, and followed as it changes, goes and comes again.
func TestSecret(t *testing.T) {
	h, mine, theirs := house(t)
	use(t, secret("boltseal-system", h.Signer.Root().PEM()))
	use(t, docs(""), provider("", "type: secret, parameters: {name: roots, namespace: boltseal-system}"))
	st := stands(t, "KeyManagementProvider", "", "roots", "it may not be read", func(st status) bool { return strings.Contains(st.Error, "HTTP 403") })
	if st.IsSuccess || !strings.Contains(st.Error, "get, list and watch on this object") || st.LastFetchedTime != nil {
		t.Errorf("%+v", st)
	}
	becomes(t, mine, false)
	if _, text, _ := verdict(mine); !strings.Contains(text, "lacks certificates of roots") {
		t.Errorf("the verdict does not say what is missing: %s", text)
	}
	use(t, rights("boltseal-system", "secrets", "roots"))
	becomes(t, mine, true)
	st = stands(t, "KeyManagementProvider", "", "roots", "it is read", func(st status) bool { return st.IsSuccess })
	if st.LastFetchedTime == nil || st.Properties.Count != 1 || st.Properties.EarliestExpiry == nil || st.Properties.Certificates[0].Name != "ca.crt" {
		t.Errorf("%+v", st)
	}
	apply(t, secret("boltseal-system", h.Stranger.Root().PEM()))
	becomes(t, theirs, true)
	becomes(t, mine, false)
	remove(t, secret("boltseal-system", nil))
	becomes(t, theirs, false)
	stands(t, "KeyManagementProvider", "", "roots", "it is gone", func(st status) bool {
		return strings.Contains(st.Error, "Secret boltseal-system/roots: it is not there") && len(st.Properties.Items) == 1
	})
	start := time.Now()
	apply(t, secret("boltseal-system", h.Signer.Root().PEM()))
	becomes(t, mine, true)
	t.Logf("an edit of the Secret was in force after %v", time.Since(start))
	if log, err := os.ReadFile(boltseal.Process.LogFile()); err != nil || strings.Contains(string(log), "BEGIN CERTIFICATE") {
		t.Errorf("the log repeats what was read: %v", err)
	}
}

// TestNamespaces: a namespace's provider reads there and nowhere else.
func TestNamespaces(t *testing.T) {
	h, mine, _ := house(t)
	namespace, err := cluster.Namespace(t.Context(), "team", nil)
	if err != nil {
		t.Fatal(err)
	}
	configmap := strings.Replace(secret(namespace, h.Signer.Root().PEM()), "kind: Secret", "kind: ConfigMap", 1)
	use(t, strings.Replace(configmap, "stringData", "data", 1), rights(namespace, "configmaps", "roots"), secret("boltseal-system", h.Signer.Root().PEM()), rights("boltseal-system", "secrets", "roots"))
	use(t, docs(namespace), provider(namespace, "type: configmap, parameters: {name: roots}"))
	key := "[" + namespace + "]" + mine
	becomes(t, key, true)
	becomes(t, mine, false) // nobody else
	apply(t, provider(namespace, "type: secret, parameters: {name: roots, namespace: boltseal-system}"))
	st := stands(t, "NamespacedKeyManagementProvider", namespace, "roots", "it is refused", func(st status) bool { return !st.IsSuccess })
	if !strings.Contains(st.Error, "reads only there") {
		t.Errorf("%+v", st)
	}
	becomes(t, key, true) // as it last worked
	apply(t, provider(namespace, "type: file, parameters: {paths: [/etc/passwd]}"))
	stands(t, "NamespacedKeyManagementProvider", namespace, "roots", "files are refused", func(st status) bool {
		return strings.Contains(st.Error, "reads no files of Boltseal's")
	})
}

// TestVault: a vault in a cloud, its rotation, its outage, and a certificate that
// expires soon.
func TestVault(t *testing.T) {
	h, mine, theirs := house(t)
	first := vault.Add("signing", testcloud.Version{Chain: h.Signer.X509()})
	use(t, docs(""), provider("", "type: azurekeyvault, refreshInterval: 1s, parameters: {vaultURI: 'https://"+vaultHost+"/', certificates: [{name: signing, versionHistoryLimit: 2}]}"))
	becomes(t, mine, true)
	st := stands(t, "KeyManagementProvider", "", "roots", "it is fetched", func(st status) bool { return st.IsSuccess })
	if len(st.Properties.Certificates) != 2 || st.Properties.Certificates[0].Version != first || st.LastFetchedTime == nil {
		t.Errorf("%+v", st)
	}
	start := time.Now()
	vault.Add("signing", testcloud.Version{Chain: h.Stranger.X509()})
	becomes(t, theirs, true)
	t.Logf("a rotation was in force after %v, at an interval of 1s", time.Since(start))
	becomes(t, mine, true)
	vault.Change("signing", first, func(v *testcloud.Version) { v.Disabled = true })
	becomes(t, mine, false)
	becomes(t, theirs, true)
	stands(t, "KeyManagementProvider", "", "roots", "what is disabled is named", func(st status) bool {
		return st.IsSuccess && len(st.Properties.Items) == 1 && st.Properties.Items[0].Version == first && strings.Contains(st.Properties.Items[0].Why, "disabled")
	})
	cloud.Refuse(vaultHost, -1, 500, "")
	stands(t, "KeyManagementProvider", "", "roots", "it fails", func(st status) bool {
		return !st.IsSuccess && strings.Contains(st.Error, vaultHost) && strings.Contains(st.Error, "is still used") && st.Properties.Count == 1
	})
	event(t, "roots", "LastGoodInForce", vaultHost)
	becomes(t, theirs, true)
	cloud.Mend(vaultHost)
	stands(t, "KeyManagementProvider", "", "roots", "it works again", func(st status) bool { return st.IsSuccess })

	soon := testca.Must(testca.NewSelfSigned(testca.Options{Leaf: testca.Spec{CommonName: "soon", NotAfter: time.Now().Add(20 * 24 * time.Hour)}}))
	vault.Add("signing", testcloud.Version{Chain: soon.X509()})
	st = stands(t, "KeyManagementProvider", "", "roots", "a certificate expires soon", func(st status) bool {
		for _, c := range st.Conditions {
			if c.Type == "CertificatesExpiring" && c.Status == "True" && strings.Contains(c.Message, "soon") {
				return true
			}
		}
		return false
	})
	if !st.IsSuccess || st.Properties.EarliestExpiry == nil || time.Until(st.Properties.EarliestExpiry.Time) > 21*24*time.Hour {
		t.Errorf("%+v", st)
	}
	event(t, "roots", "CertificateExpires", "soon")
	// No token is seen anywhere.
	log, err := os.ReadFile(boltseal.Process.LogFile())
	if err != nil || len(cloud.Secrets()) == 0 {
		t.Fatal(err)
	}
	for _, s := range cloud.Secrets() {
		if strings.Contains(string(log), s) {
			t.Error("the log holds a token")
		}
	}
}

// oneLine is PEM between double quotes of YAML.
func oneLine(pem []byte) string { return strings.ReplaceAll(string(pem), "\n", "\\n") }
