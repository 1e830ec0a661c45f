package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/testcloud"
	"github.com/boltseal/boltseal/oci"
)

// TestCredentials: what each auth provider has for each registry that a Store names
// is told in words, what fails too, and no secret in either.
func TestCredentials(t *testing.T) {
	t.Parallel()
	const (
		tenant, client = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000c"
		subject        = "system:serviceaccount:boltseal-system:boltseal"
	)
	cloud := testcloud.Start(t, nil)
	entra := cloud.Entra(t, testcloud.EntraPublic)
	acr := entra.ACR(t, "acme.azurecr.io", tenant, nil)
	acr.Grant(client)
	issuer := testcloud.NewIssuer(t, "https://oidc.example/cluster")
	entra.Add(tenant, client, testcloud.App{Federated: []testcloud.Federated{{Issuer: issuer, Subject: subject}}})
	dir := t.TempDir()
	token, docker := filepath.Join(dir, "token"), filepath.Join(dir, "config.json")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(token, issuer.Token(testcloud.Claims{Subject: subject, Audience: testcloud.FederatedAudience, Expires: time.Now().Add(time.Hour).Unix()}))
	const secret = "s3cret-password"
	write(docker, `{"auths":{"r.example":{"username":"puller","password":"`+secret+`"},"token.example":{"identitytoken":"`+secret+`"},"broken.example":{"auth":"`+secret+`"}}}`)
	env := map[string]string{"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": client, "AZURE_FEDERATED_TOKEN_FILE": token}
	d := compile.Deps{DockerConfig: func(path string) oci.CredentialSource {
		return credential.NewDocker(credential.DockerOptions{Path: path, Getenv: func(string) string { return "" }})
	}}
	check := func(parameters string) []Finding {
		t.Helper()
		text := "apiVersion: config.ratify.deislabs.io/v1beta1\nkind: Store\nmetadata: {name: s}\nspec: {name: oras, parameters: {" + parameters + "}}\n"
		fs := Files(t.Context(), []compile.Source{{Name: "f", Data: []byte(text)}}, d, Options{Keys: keys.Env{Transport: cloud.Transport(), Getenv: func(n string) string { return env[n] }}})
		said := fmt.Sprint(fs)
		for _, s := range append(cloud.Secrets(), secret) {
			if strings.Contains(said, s) {
				t.Errorf("a secret is told: %s", said)
			}
		}
		return fs
	}
	both := "authProviders: [{name: azureWorkloadIdentity}, {name: dockerConfig, configPath: " + docker + "}]"
	fs := check("scopes: [acme.azurecr.io/team, r.example, broken.example, acme.azurecr.io.evil.example], mirrors: [{source: r.example, endpoints: [token.example/hub]}], " + both)
	find(t, fs, AreaCredentials, OK, "Store s, acme.azurecr.io/team", "authProviders[0], azureWorkloadIdentity, has a refresh token, good until 20")
	find(t, fs, AreaCredentials, OK, "Store s, r.example", "authProviders[1], dockerConfig, has a user and a password for it")
	find(t, fs, AreaCredentials, OK, "Store s, token.example/hub", "has a refresh token for it")
	find(t, fs, AreaCredentials, Problem, "Store s, broken.example", "authProviders[1], dockerConfig,", "not base64", "docs/registries.md")
	find(t, fs, AreaCredentials, Warning, "Store s, acme.azurecr.io.evil.example", "read anonymously: no auth provider", "endpoints may leave it out")
	find(t, check("registries: [{host: r.example}]"), AreaCredentials, OK, "Store s, r.example", "read anonymously")

	// The cluster's assertion is no longer good.
	write(token, issuer.Token(testcloud.Claims{Subject: subject, Audience: testcloud.FederatedAudience, Expires: time.Now().Add(-time.Hour).Unix()}))
	find(t, check("scopes: [acme.azurecr.io], "+both), AreaCredentials, Problem, "Store s, acme.azurecr.io", "azureWorkloadIdentity")
	// Nothing says who Boltseal is.
	delete(env, "AZURE_CLIENT_ID")
	find(t, check("scopes: [acme.azurecr.io], "+both), AreaCredentials, Problem, "AZURE_CLIENT_ID")

	// From outside the cluster that is no problem of the cluster's.
	set, err := compile.Decode([]compile.Source{{Name: "f", Data: []byte("apiVersion: config.ratify.deislabs.io/v1beta1\nkind: Store\nmetadata: {name: s}\nspec: {name: oras, parameters: {scopes: [acme.azurecr.io], authProvider: {name: azureWorkloadIdentity}}}\n")}})
	if err != nil {
		t.Fatal(err)
	}
	d.Cloud = keys.Env{Getenv: func(string) string { return "" }}
	find(t, checkCredentials(t.Context(), set.Credentials(d), "kubectl exec", Options{}.complete()), AreaCredentials, Warning, "seen from here: authProvider, azureWorkloadIdentity,", "kubectl exec")
}

// TestManyRegistries: what is left out is said.
func TestManyRegistries(t *testing.T) {
	t.Parallel()
	var s compile.SurveyedStore
	for i := range maxStores + 1 {
		s.Registries = append(s.Registries, fmt.Sprintf("r%d.example", i))
	}
	fs := checkCredentials(t.Context(), []compile.SurveyedStore{s}, "", Options{}.complete())
	find(t, fs, AreaCredentials, Warning, fmt.Sprintf("name %d registries", maxStores+1))
	if len(fs) != maxStores+1 {
		t.Errorf("%d findings", len(fs))
	}
}
