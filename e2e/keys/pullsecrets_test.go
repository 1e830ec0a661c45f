package keys

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

const password = "a-password-that-nobody-repeats"

// pullSecret is a Secret as kubectl create secret docker-registry makes it.
func pullSecret(namespace, host, user string) string {
	b, err := json.Marshal(map[string]any{"auths": map[string]any{host: map[string]string{"username": user, "password": password}}})
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("apiVersion: v1\nkind: Secret\ntype: kubernetes.io/dockerconfigjson\nmetadata: {name: pull, namespace: %s}\nstringData: {.dockerconfigjson: '%s'}\n", namespace, b)
}

// TestPullSecrets: a registry that asks for a password is read with the one in a
// Secret, which Boltseal has the right to read and which is not repeated anywhere; a
// namespace's Store reads its own only.
func TestPullSecrets(t *testing.T) {
	h := testhouse.New(t, testhouse.Options{Registry: testregistry.Options{Basic: &testregistry.BasicOptions{Users: map[string]string{"reader": password, "team": password}}}})
	mine, _ := h.Signed("mine", h.Signer)
	host, _, _ := strings.Cut(mine, "/")
	namespace, err := cluster.Namespace(t.Context(), "pull", nil)
	if err != nil {
		t.Fatal(err)
	}
	says := func(key, text string) {
		t.Helper()
		eventually(t, key+": "+text, func() error {
			trusted, got, err := verdict(key)
			if err == nil && (trusted || !strings.Contains(got, text)) {
				err = fmt.Errorf("%t: %s", trusted, got)
			}
			return err
		})
	}
	with := func(namespace, parameters string) string {
		return strings.Replace(docs(namespace), "spec: {name: oras}", "spec: {name: oras, parameters: {authProvider: {name: k8Secrets"+parameters+"}}}", 1)
	}
	inline := func(namespace string) string {
		return provider(namespace, "type: inline, parameters: {value: \""+oneLine(h.Signer.Root().PEM())+"\"}")
	}
	use(t, pullSecret("boltseal-system", host, "nobody"), inline(""), with("", ", secrets: [{secretName: pull}]"))
	says(mine, "k8Secrets: "+host+": read Secret boltseal-system/pull at the API server: HTTP 403")
	use(t, rights("boltseal-system", "secrets", "pull"))
	says(mine, "not authorized")
	apply(t, pullSecret("boltseal-system", host, "reader")) // taken up since the other was refused
	becomes(t, mine, true)

	// The namespace's own, by its ServiceAccount.
	account := "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: puller, namespace: " + namespace + "}\nimagePullSecrets: [{name: pull}]\n"
	use(t, account, rights(namespace, "serviceaccounts", "puller"), rights(namespace, "secrets", "pull"))
	use(t, inline(namespace), with(namespace, ", serviceAccountName: puller"))
	key := "[" + namespace + "]" + mine
	says(key, "read Secret "+namespace+"/pull at the API server: HTTP 404")
	use(t, pullSecret(namespace, host, "team"))
	becomes(t, key, true)
	apply(t, with(namespace, ", secrets: [{secretName: pull, namespace: boltseal-system}]"))
	stands(t, "NamespacedStore", namespace, "store", "another namespace's is refused", func(st status) bool { return strings.Contains(st.Error, "reads only there") })
	apply(t, strings.Replace(with(namespace, ""), "{authProvider", "{useHttp: true, authProvider", 1))
	stands(t, "NamespacedStore", namespace, "store", "not where others could see it", func(st status) bool { return strings.Contains(st.Error, "not shown where a namespace sets useHttp") })
	if log, err := os.ReadFile(boltseal.Process.LogFile()); err != nil || strings.Contains(string(log), password) {
		t.Errorf("the log repeats the password: %v", err)
	}
}
