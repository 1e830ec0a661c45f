package compile_test

import (
	"strings"
	"testing"
)

// TestEachParameterOfAzureHasAnEffect: of the parameters by which Azure is asked, each
// alone changes who is asked for what, or as whom.
func TestEachParameterOfAzureHasAnEffect(t *testing.T) {
	t.Parallel()
	w := newWitness(t)
	one, two := w.write("one", "token-one"), w.write("two", "token-two")
	w.env = map[string]string{"AZURE_TENANT_ID": "tenant-a", "AZURE_CLIENT_ID": "client-a", "AZURE_FEDERATED_TOKEN_FILE": one}
	with, fetching, at := w.cloudy("acme.azurecr.io")
	acr := with("name: azureWorkloadIdentity, clientID: client-b, tenantID: tenant-b, tokenFile: " + one + ", endpoints: ['*.azurecr.io']")
	vault := func(parameters string) string {
		return fetching("azurekeyvault", "vaultURI: 'https://acme.vault.azure.net/', "+parameters)
	}
	certs := vault("certificates: [{name: cert-a}, {name: cert-b, version: v1}], keys: [{name: key-a}]")
	signing := vault("tenantID: tenant-a, clientID: client-b, tokenFile: " + one + ", certificates: [{name: cert-a}]")
	secret := vault("authentication: clientSecret, clientSecretFile: " + one + ", certificates: [{name: cert-a}]")
	referring := vault("authentication: clientSecret, clientSecretRef: {name: login, namespace: boltseal, key: a}, certificates: [{name: cert-a}]")
	for _, e := range []effect{
		{field: "internal/compile.acrParameters.name", text: with("name: azureWorkloadIdentity"), from: "azureWorkloadIdentity", to: "azureManagedIdentity", image: at},
		{field: "internal/compile.acrParameters.clientID", text: acr, from: "client-b", to: "client-c", image: at},
		{field: "internal/compile.acrParameters.tenantID", text: acr, from: "tenant-b", to: "tenant-c", image: at},
		{field: "internal/compile.acrParameters.tokenFile", text: acr, from: one, to: two, image: at},
		{field: "internal/compile.acrParameters.endpoints", text: acr, from: "*.azurecr.io", to: "*.azurecr.us", image: at},
		{field: "internal/compile.azureKeyVaultParameters.certificates", text: certs, from: "certificates: [{name: cert-a}, {name: cert-b, version: v1}], ", to: ""},
		{field: "internal/cloud/azure/keyvault.Parameters.vaultURI", text: certs, from: "acme.vault.azure.net", to: "other.vault.azure.net"},
		{field: "internal/cloud/azure/keyvault.Parameters.keys", text: certs, from: ", keys: [{name: key-a}]", to: ""},
		{field: "internal/cloud/azure/keyvault.Parameters.cloudName", text: certs, from: "keys:", to: "cloudName: AzureChinaCloud, keys:", refused: "a vault's host says which cloud it is in"},
		{field: "internal/cloud/azure/keyvault.Parameters.resource", text: certs, from: "keys:", to: "resource: 'https://other.example', keys:", nothing: "the vault says for what it wants a token"},
		{field: "internal/cloud/azure/keyvault.Parameters.tenantID", text: signing, from: "tenant-a", to: "tenant-b"},
		{field: "internal/cloud/azure/keyvault.Parameters.clientID", text: signing, from: "client-b", to: "client-c"},
		{field: "internal/cloud/azure/keyvault.Parameters.tokenFile", text: signing, from: one, to: two},
		{field: "internal/cloud/azure/keyvault.Parameters.authentication", text: vault("authentication: workloadIdentity, certificates: [{name: cert-a}]"), from: "workloadIdentity", to: "managedIdentity"},
		{field: "internal/cloud/azure/keyvault.Parameters.clientSecretFile", text: secret, from: one, to: two},
		{field: "internal/cloud/azure/keyvault.Parameters.clientSecretRef", text: referring, from: "clientSecretRef: {name: login, namespace: boltseal, key: a}", to: "clientSecretFile: " + one},
		{field: "internal/cloud/azure/keyvault.Entry.name", text: certs, from: "cert-a", to: "cert-c"},
		{field: "internal/cloud/azure/keyvault.Entry.version", text: certs, from: "version: v1", to: "version: v2"},
		{field: "internal/cloud/azure/keyvault.Entry.versionHistoryLimit", text: certs, from: "name: cert-a", to: "name: cert-a, versionHistoryLimit: 2"},
	} {
		e.cloud = true
		w.show(e)
	}
}

// TestEachParameterOfOtherCloudsHasAnEffect is the same of Alibaba Cloud's registries and
// Google's.
func TestEachParameterOfOtherCloudsHasAnEffect(t *testing.T) {
	t.Parallel()
	w := newWitness(t)
	one, two := w.write("one", "token-one"), w.write("two", "token-two")
	const arn = "acs:ram::1135115445850000:"
	w.env = map[string]string{"ALIBABA_CLOUD_ROLE_ARN": arn + "role/env", "ALIBABA_CLOUD_OIDC_PROVIDER_ARN": arn + "oidc-provider/env", "ALIBABA_CLOUD_OIDC_TOKEN_FILE": one, "ALIBABA_CLOUD_ACR_INSTANCE_ID": "cri-env"}
	with, _, google := w.cloudy("europe-west3-docker.pkg.dev")
	_, _, at := w.cloudy("acme-registry.cn-hangzhou.cr.aliyuncs.com")
	gar := with("name: gcpArtifactRegistry, endpoints: [europe-west3-docker.pkg.dev]")
	rrsa := with("name: alibabacloudAcrBasic, defaultInstanceId: cri-a, roleARN: '" + arn + "role/a', oidcProviderARN: '" + arn + "oidc-provider/a', tokenFile: " + one + ", endpoints: ['*.cn-hangzhou.cr.aliyuncs.com']")
	machine := with("name: alibabacloudAcrBasic, defaultInstanceId: cri-a, authentication: instanceRole, roleName: role-a")
	named := with("name: alibabacloudAcrBasic, defaultInstanceId: cri-a, acrInstancesConfig: [{instanceName: acme, instanceId: cri-b}]")
	for _, e := range []effect{
		{field: "internal/compile.artifactRegistryParameters.name", text: with("name: gcpArtifactRegistry"), from: "gcpArtifactRegistry", to: "dockerConfig", image: google},
		{field: "internal/compile.artifactRegistryParameters.endpoints", text: gar, from: "[europe-west3-docker.pkg.dev]", to: "[europe-west1-docker.pkg.dev]", image: google},
		{field: "internal/compile.alibabaParameters.name", text: with("name: alibabacloudAcrBasic"), from: "alibabacloudAcrBasic", to: "dockerConfig", image: at},
		{field: "internal/compile.alibabaParameters.defaultInstanceId", text: rrsa, from: "cri-a", to: "cri-b", image: at},
		{field: "internal/compile.alibabaParameters.acrInstancesConfig", text: named, from: ", acrInstancesConfig: [{instanceName: acme, instanceId: cri-b}]", to: "", image: at},
		{field: "internal/compile.alibabaParameters.endpoints", text: rrsa, from: "*.cn-hangzhou.cr", to: "*.cn-beijing.cr", image: at},
		{field: "internal/compile.alibabaParameters.authentication", text: strings.Replace(machine, ", roleName: role-a", "", 1), from: "instanceRole", to: "rrsa", image: at},
		{field: "internal/compile.alibabaParameters.roleARN", text: rrsa, from: "role/a", to: "role/b", image: at},
		{field: "internal/compile.alibabaParameters.oidcProviderARN", text: rrsa, from: "oidc-provider/a", to: "oidc-provider/b", image: at},
		{field: "internal/compile.alibabaParameters.tokenFile", text: rrsa, from: one, to: two, image: at},
		{field: "internal/compile.alibabaParameters.roleName", text: machine, from: "role-a", to: "role-b", image: at},
		{field: "internal/cloud/alibaba.Instance.instanceName", text: named, from: "instanceName: acme", to: "instanceName: other", image: at},
		{field: "internal/cloud/alibaba.Instance.instanceId", text: named, from: "cri-b", to: "cri-c", image: at},
	} {
		e.cloud = true
		w.show(e)
	}
}

// TestEachParameterOfAClustersSecretsHasAnEffect is the same of what is read from the
// cluster: by it an image is trusted, or its registry sees somebody else.
func TestEachParameterOfAClustersSecretsHasAnEffect(t *testing.T) {
	t.Parallel()
	w := newWitness(t)
	one := w.write("one", "token-one")
	tail := trusting("", "", "") + anyOf("artifactVerificationPolicies: {default: any}")
	others := kmp("others", w.other.Root().PEM())
	by := func(provider string) string {
		return kmp("roots", w.release.Root().PEM()) + others + tail + store("store", "proxy: \""+w.proxy+"\", caCert: "+flat(w.secure.Root().PEM())+", authProvider: {"+provider+"}")
	}
	from := func(kind, parameters string) string {
		return others + tail + store("store", "useHttp: true, proxy: \""+w.proxy+"\"") + doc("KeyManagementProvider", "roots", "spec: {type: "+kind+", parameters: {"+parameters+"}}\n")
	}
	named := by("name: k8Secrets, secrets: [{secretName: first, namespace: boltseal}]")
	account := by("name: k8Secrets, serviceAccountName: default")
	roots := from("secret", "name: roots, namespace: boltseal, keys: [release]")
	open := func(entry string) string {
		return from("vault", "address: 'https://vault.example:8200', auth: {method: token, tokenFile: "+one+"}, "+entry)
	}
	for _, e := range []effect{
		{field: "internal/compile.secretsParameters.name", text: by("name: k8Secrets"), from: "k8Secrets", to: "dockerConfig", image: w.at("private")},
		{field: "internal/compile.secretsParameters.secrets", text: by("name: k8Secrets, secrets: [{secretName: first}, {secretName: second}]"), from: "[{secretName: first}, {secretName: second}]", to: "[{secretName: second}]", image: w.at("private")},
		{field: "internal/compile.secretsParameters.serviceAccountName", text: account, from: "serviceAccountName: default", to: "serviceAccountName: other", image: w.at("private")},
		{field: "internal/credential/kube.Secret.secretName", text: named, from: "secretName: first", to: "secretName: second", image: w.at("private")},
		{field: "internal/credential/kube.Secret.namespace", text: named, from: "namespace: boltseal", to: "namespace: team", image: w.at("private")},
		{field: "internal/compile.podSecretsParameters.name", text: by("name: podPullSecrets"), from: "podPullSecrets", to: "k8Secrets", image: w.at("private")},
		{field: "internal/keys/kube.Parameters.name", text: roots, from: "name: roots, namespace", to: "name: others, namespace"},
		{field: "internal/keys/kube.Parameters.namespace", text: roots, from: "namespace: boltseal", to: "namespace: team"},
		{field: "internal/keys/kube.Parameters.keys", text: roots, from: "[release]", to: "[other]"},
		{field: "internal/cloud/vault.KV.field", text: open("kv: [{path: both, field: certificate}]"), from: "field: certificate", to: "field: other"},
		{field: "internal/cloud/vault.Transit.versionHistoryLimit", text: open("transit: [{name: two, versionHistoryLimit: 1}]"), from: "versionHistoryLimit: 1", to: "versionHistoryLimit: 2"},
	} {
		w.show(e)
	}
}

// cloudy are documents in which a Store has an auth provider, or a provider fetches, and
// the image at a cloud's registry.
func (w *witness) cloudy(host string) (with func(provider string) string, fetching func(kind, parameters string) string, image string) {
	rest := kmp("others", w.other.Root().PEM()) + trusting("", "verificationCertStores: {ca: {certs: [others]}}", "") + anyOf("artifactVerificationPolicies: {default: any}")
	with = func(provider string) string {
		return rest + store("store", "proxy: \""+w.proxy+"\", caCert: "+flat(w.secure.Root().PEM())+", authProvider: {"+provider+"}")
	}
	fetching = func(kind, parameters string) string {
		return rest + store("store", "useHttp: true, proxy: \""+w.proxy+"\"") + doc("KeyManagementProvider", "roots", "spec: {type: "+kind+", parameters: {"+parameters+"}}\n")
	}
	return with, fetching, host + strings.TrimPrefix(w.image, "registry.example")
}
