package compile_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/oci"
)

// surveyed are the Stores of a text that compiles.
func surveyed(t *testing.T, text string, d compile.Deps) []compile.SurveyedStore {
	t.Helper()
	set, err := compile.Decode([]compile.Source{{Name: "f.yaml", Data: []byte(text)}})
	if err != nil {
		t.Fatal(err)
	}
	return set.Credentials(d)
}

// withDocker are Deps with docker configurations: the default one, and each path.
func withDocker() compile.Deps {
	d := deps()
	d.DockerConfig = func(path string) oci.CredentialSource {
		return credential.NewDocker(credential.DockerOptions{Path: path, Getenv: func(string) string { return "" }})
	}
	d.Cloud.Getenv = func(string) string { return "" }
	return d
}

func dockerFile(t *testing.T, auths string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(`{"auths":{`+auths+`}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAuthProvidersInOrder: the first that has a credential counts, and one that
// fails ends the search by its name.
func TestAuthProvidersInOrder(t *testing.T) {
	t.Parallel()
	a := dockerFile(t, `"a.example":{"username":"of-a","password":"x"},"both.example":{"username":"of-a","password":"x"}`)
	b := dockerFile(t, `"both.example":{"username":"of-b","password":"x"},"b.example":{"username":"of-b","password":"x"},"acme.azurecr.io":{"username":"of-b","password":"x"}`)
	text := store("s", `scopes: [a.example, b.example/team], mirrors: [{source: a.example, endpoints: [m.example/x]}], authProviders: [{name: azureWorkloadIdentity, clientID: c, tenantID: t, endpoints: [acme.azurecr.io]}, {name: awsEcrBasic}, {name: gcpArtifactRegistry}, {name: alibabacloudAcrBasic}, {name: dockerConfig, configPath: `+a+`}, {name: dockerConfig, configPath: `+b+`}]`)
	st := surveyed(t, text, withDocker())
	if len(st) != 1 || strings.Join(st[0].Registries, " ") != "a.example b.example/team m.example/x" || len(st[0].Sources) != 6 || st[0].Sources[1].Name != "awsEcrBasic" || st[0].Sources[1].Place != "authProviders[1]" {
		t.Fatalf("%+v", st)
	}
	list := credential.NewList(st[0].Sources...)
	for host, user := range map[string]string{"a.example": "of-a", "both.example": "of-a", "b.example": "of-b", "unknown.example": "", "evil.example": "", "acme.azurecr.io.evil.example": ""} {
		if c, err := list.Credential(t.Context(), host, "app"); err != nil || c.Username != user {
			t.Errorf("%s: %q, %v, want %q", host, c.Username, err, user)
		}
	}
	// Azure's is meant for it, and nothing tells it who it is.
	_, err := list.Credential(t.Context(), "acme.azurecr.io", "app")
	if !errors.Is(err, boltseal.ErrConfiguration) || errors.Is(err, credential.ErrNotForHost) || !strings.Contains(err.Error(), "authProviders[0]: azureWorkloadIdentity: acme.azurecr.io: ") {
		t.Error(err)
	}
	works(t, text+kmp("roots", chain(t).Root().PEM())+verifier("v", "roots"))
}

// TestSourcesAreShared: by Stores with equal parameters, and from one compilation to
// the next. Those of a namespace are its own.
func TestSourcesAreShared(t *testing.T) {
	t.Parallel()
	d := withDocker()
	d.Sources, d.LentTo = &credential.Pool{}, []string{"team"}
	azure := func(client string) string {
		return "authProvider: {name: azureWorkloadIdentity, clientID: " + client + "}"
	}
	text := store("a", azure("x")) + store("b", "scopes: [b.example], "+azure("x")) + store("c", "scopes: [c.example], "+azure("z")) + store("team/a", azure("x"))
	first, second := surveyed(t, text, d), surveyed(t, text, d)
	if len(first) != 4 {
		t.Fatalf("%+v", first)
	}
	source := func(i int) oci.CredentialSource { return first[i].Sources[0].Source }
	if source(0) != source(1) || source(0) == source(2) || source(0) == source(3) {
		t.Error("shared by others than those with equal parameters, or not by those")
	}
	for i := range first {
		if source(i) != second[i].Sources[0].Source {
			t.Errorf("%s: another one in the next compilation", first[i].Resource)
		}
	}
}

// TestNamespacesDoNotBorrow: a namespace's Store does not use what is Boltseal's.
func TestNamespacesDoNotBorrow(t *testing.T) {
	t.Parallel()
	pem := string(chain(t).Root().PEM())
	base := kmp("roots", []byte(pem)) + store("s", "") + verifier("v", "roots")
	for _, c := range []struct{ parameters, lent, says string }{
		{"authProvider: {name: dockerConfig}", "", ""},
		{"proxy: none, authProvider: {name: dockerConfig}", "", ""},
		{"registries: [{host: r.example, proxy: none}], authProvider: {name: dockerConfig}", "", ""},
		{"authProvider: {name: dockerConfig, configPath: /etc/passwd}", "team", "authProvider.configPath: it would name a file of Boltseal's own"},
		{"useHttp: true, authProvider: {name: dockerConfig}", "", "is not shown where a namespace sets useHttp"},
		{"registries: [{host: r.example}, {host: s.example, authRealms: [evil.example]}], authProvider: {name: dockerConfig}", "", "sets registries[1].authRealms"},
		{"registries: [{host: r.example, useHttp: true}], authProvider: {name: dockerConfig}", "", "sets registries[0].useHttp"},
		{"authProvider: {name: azureManagedIdentity}", "", "authProvider.name: azureManagedIdentity is the identity of Boltseal itself, which namespace team may not use"},
		{"authProvider: {name: azureManagedIdentity}", "other", "may not use"},
		{"authProvider: {name: azureManagedIdentity}", "team", ""},
		{"authProvider: {name: awsEcrBasic}", "", "may not use"},
		{"authProvider: {name: awsEcrBasic, tokenFile: /x}", "team", "authProvider.tokenFile: it would name a file"},
		{"authProviders: [{name: dockerConfig}, {name: azureWorkloadIdentity, tokenFile: /x}]", "team", "authProviders[1].tokenFile: it would name a file"},
		{"registries: [{host: r.example, clientCertFile: /x, clientKeyFile: /y}]", "team", "registries[0].clientKeyFile: r.example: it would name a key of Boltseal's own"},
		{"authProvider: {name: alibabacloudAcrBasic, tokenFile: /x}", "team", "it would name a file"},
		{"authProvider: {name: gcpArtifactRegistry}", "", "gcpArtifactRegistry is the identity of Boltseal itself"},
		{"authProvider: {name: gcpArtifactRegistry}", "team", ""},
		{"useHttp: true, authProvider: {name: podPullSecrets}", "team", "what podPullSecrets reads of Secrets is not shown"},
		{"authProvider: {name: podPullSecrets}", "", ""},
		{"registries: [{host: acme.azurecr.io, caFile: /x}], authProvider: {name: azureManagedIdentity}", "team", "sets registries[0].caFile"},
		{"authProvider: {name: k8Secrets, secrets: [{secretName: pull}]}", "", ""},
		{"authProvider: {name: k8Secrets, secrets: [{secretName: pull, namespace: team}]}", "", ""},
		{"authProvider: {name: k8Secrets, secrets: [{secretName: pull}, {secretName: pull, namespace: other}]}", "", "authProvider.secrets[1].namespace: a Store of namespace team reads only there"},
		{"useHttp: true, authProvider: {name: k8Secrets}", "team", "what k8Secrets reads of Secrets is not shown where a namespace sets useHttp"},
		{"registries: [{host: r.example, authRealms: [evil.example]}], authProvider: {name: k8Secrets}", "", "sets registries[0].authRealms"},
	} {
		d := deps()
		if c.lent != "" {
			d.LentTo = []string{c.lent}
		}
		built, err := build(base+store("team/s", c.parameters), d)
		switch {
		case c.says == "" && err != nil, c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s: %v, want %q", c.parameters, err, c.says)
		case err == nil:
			built.Close()
		}
	}
	// Without an auth provider: anonymous, and it is said.
	d := withDocker()
	d.DockerConfig = func(string) oci.CredentialSource { return rightForAll{} }
	for parameters, lent := range map[string]bool{"": true, "proxy: none": true, "useHttp: true": false, "caCert: x": false, "registries: [{host: r.example, authRealms: [t.example]}]": false} {
		if st := surveyed(t, store("team/s", parameters), d); len(st) != 1 || (len(st[0].Sources) == 1) != lent {
			t.Errorf("%s: %+v", parameters, st)
		}
	}
	if _, warnings := works(t, base+store("team/s", "useHttp: true")); !strings.Contains(warnings, "spec.parameters.useHttp: its registries are read anonymously") {
		t.Error(warnings)
	}
}

type rightForAll struct{ oci.CredentialSource }

// TestAuthProviderProblems: what is wrong is told at its place.
func TestAuthProviderProblems(t *testing.T) {
	t.Parallel()
	base := kmp("roots", chain(t).Root().PEM()) + verifier("v", "roots")
	many := strings.Repeat("{name: dockerConfig}, ", 17)
	for parameters, says := range map[string]string{
		"authProvider: {name: dockerConfig}, authProviders: [{name: dockerConfig}]": "authProviders: authProvider is set too: keep one of the two",
		"authProviders: []":                                        "authProviders: it names none: leave it out, or name one of dockerConfig, ",
		"authProviders: [" + many + "]":                            "authProviders: 17 of them, at most 16",
		"authProviders: {name: dockerConfig}":                      "authProviders: ",
		"authProviders: [dockerConfig]":                            "authProviders[0]: must be a mapping with name, and is ",
		"authProvider: dockerConfig":                               "authProvider: must be a mapping with name, and is ",
		"authProviders: [{}]":                                      "authProviders[0].name: it names no auth provider; known: dockerConfig, ",
		"authProviders: [{name: awsECRBasic}]":                     `authProviders[0].name: the auth provider awsECRBasic is not known here; known: `,
		"authProviders: [{name: x}, {name: k8s}]":                  "authProviders[1].name: the auth provider k8s",
		"authProvider: {name: azureWorkloadIdentity, clientId: x}": `authProvider.clientId: unknown field (did you mean "clientID"?)`,
		"authProvider: {name: azureWorkloadIdentity, endpoints: [acme.azurecr.io, \"*\"]}":                      `authProvider.endpoints[1]: * would be every host`,
		"authProvider: {name: azureManagedIdentity, tokenFile: /x}":                                             "authProvider.tokenFile: it is of use with azureWorkloadIdentity only",
		"authProvider: {name: k8Secrets, secrets: [{secretname: x}]}":                                           `authProvider.secrets[0].secretname: unknown field (did you mean "secretName"?)`,
		"authProvider: {name: k8Secrets, secrets: [{secretName: a}, {namespace: b}]}":                           "authProvider.secrets[1].secretName: it is missing",
		"authProvider: {name: k8Secrets, secrets: [{secretName: A_b}]}":                                         "authProvider.secrets[0].secretName: A_b is no name to Kubernetes",
		"authProvider: {name: k8Secrets, serviceAccountName: \"a/b\"}":                                          "authProvider.serviceAccountName: ",
		"authProvider: {name: gcpArtifactRegistry, endpoints: [gcr.io, evil.example]}":                          "authProvider.endpoints[1]: evil.example is no host of Artifact Registry",
		"authProvider: {name: gcpArtifactRegistry, endpoint: [gcr.io]}":                                         `authProvider.endpoint: unknown field (did you mean "endpoints"?)`,
		"authProvider: {name: awsEcrBasic, accounts: [\"1\"]}":                                                  "authProvider.accounts[0]: 1 is no account",
		"authProviders: [{name: alibabacloudAcrBasic, acrInstancesConfig: [{instanceName: a, instanceId: b}]}]": "authProviders[0].acrInstancesConfig[0].instanceId: b is no instance",
	} {
		ps := fails(t, base+store("s", parameters))
		if !strings.Contains(ps.Error(), says) {
			t.Errorf("%s: %v, want %q", parameters, ps, says)
		}
		for _, p := range ps {
			if p.Line == 0 || p.Object.Name != "s" {
				t.Errorf("%s: no place: %+v", parameters, p)
			}
		}
	}
}

// TestCredentialsInACluster: a resource that is edited keeps its source, and the rest
// of the cluster its own.
func TestCredentialsInACluster(t *testing.T) {
	t.Parallel()
	entry := func(namespace, parameters string) compile.Entry {
		kind, ns := "Store", ""
		if namespace != "" {
			kind, ns = "NamespacedStore", `,"namespace":"`+namespace+`"`
		}
		return compile.Entry{Current: compile.DecodeObject([]byte(`{"apiVersion":"config.ratify.deislabs.io/v1beta1","kind":"` + kind + `","metadata":{"name":"s"` + ns + `},"spec":{"name":"oras","parameters":{` + parameters + `}}}`))}
	}
	c := compile.NewCluster(compile.ClusterOptions{}, []compile.Entry{
		entry("", `"authProvider":{"name":"azureManagedIdentity"},"scopes":["acme.azurecr.io"]`), entry("team", `"authProvider":{"name":"azureManagedIdentity"}`)})
	d := deps()
	d.Cloud = keys.Env{Getenv: func(string) string { return "" }}
	st := c.Credentials(d)
	if len(st) != 1 || st[0].Resource != "Store s" || st[0].Sources[0].Name != "azureManagedIdentity" {
		t.Errorf("%+v", st)
	}
	compiled, standing := c.Compile(d, nil)
	t.Cleanup(compiled.Close)
	if text := tell(standing); !strings.Contains(text, "Store s: Current") || !strings.Contains(text, "NamespacedStore team/s: StandIn; spec.parameters.authProvider.name: azureManagedIdentity is the identity of Boltseal itself") {
		t.Error(text)
	}
}
