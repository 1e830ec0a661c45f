package compile_test

import (
	"strings"
	"testing"
)

// TestEachParameterOfACloudHasAnEffect: of the parameters by which a cloud or a vault is
// asked, each alone changes who is asked for what, or as whom.
func TestEachParameterOfACloudHasAnEffect(t *testing.T) {
	t.Parallel()
	w := newWitness(t)
	one, two := w.write("one", "token-one"), w.write("two", "token-two")
	w.env = map[string]string{"AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/boltseal", "AWS_WEB_IDENTITY_TOKEN_FILE": one}
	with, fetching, at := w.cloudy("111122223333.dkr.ecr.eu-central-1.amazonaws.com")
	const (
		authority = "arn:aws:acm-pca:eu-central-1:111122223333:certificate-authority/11111111-2222-3333-4444-55555555555"
		pool      = "projects/acme/locations/europe-west3/caPools/release/certificateAuthorities/"
		ring      = "projects/acme/locations/europe-west3/keyRings/r/cryptoKeys/"
	)
	aws := with("name: awsEcrBasic, authentication: irsa, roleARN: 'arn:aws:iam::111122223333:role/a', tokenFile: " + one + ", accounts: ['111122223333'], endpoints: ['*.dkr.ecr.eu-central-1.amazonaws.com']")
	open := fetching("vault", "address: 'https://vault.example:8200', vaultNamespace: ns-a, auth: {method: token, tokenFile: "+one+"}, kv: [{mount: m, path: p, engine: 2, version: 1}], pki: [{mount: pki-a, issuer: issuer-a}], transit: [{mount: t-a, name: key-a}]")
	signed := fetching("vault", "address: 'https://vault.example:8200', auth: {method: kubernetes, mount: m-a, role: role-a, tokenFile: "+one+"}, kv: [{path: p}]")
	kms := fetching("awskms", "region: eu-central-1, certificateAuthorities: [{arn: '"+authority+"1'}], keys: [{name: alias/a}]")
	vaulted := fetching("vault", "address: 'https://vault.example:8200', auth: {method: token, tokenRef: {name: login, namespace: boltseal, key: a}}, kv: [{path: p}]")
	good, bad := flat(w.secure.Root().PEM()), flat(w.otherSecure.Root().PEM())
	goodFile, badFile := w.write("good.pem", string(w.secure.Root().PEM())), w.write("bad.pem", string(w.otherSecure.Root().PEM()))
	dialled := func(trusted string) string {
		return fetching("vault", "address: 'https://vault.example:8200', "+trusted+", auth: {method: token, tokenFile: "+one+"}, kv: [{path: p}]")
	}
	gcp := fetching("gcpkms", "certificateAuthorities: [{name: "+pool+"a}], keys: [{name: "+ring+"a, version: '1'}]")
	for _, e := range []effect{
		{field: "internal/compile.ecrParameters.name", text: with("name: awsEcrBasic"), from: "name: awsEcrBasic", to: "name: dockerConfig", image: at},
		{field: "internal/compile.ecrParameters.authentication", text: with("name: awsEcrBasic, authentication: irsa"), from: "irsa", to: "podIdentity", image: at},
		{field: "internal/compile.ecrParameters.roleARN", text: aws, from: "role/a", to: "role/b", image: at},
		{field: "internal/compile.ecrParameters.tokenFile", text: aws, from: one, to: two, image: at},
		{field: "internal/compile.ecrParameters.accounts", text: aws, from: "['111122223333']", to: "['444455556666']", image: at},
		{field: "internal/compile.ecrParameters.endpoints", text: aws, from: "*.dkr.ecr.eu-central-1", to: "*.dkr.ecr.eu-west-1", image: at},
		{field: "internal/cloud/vault.Parameters.address", text: open, from: "vault.example", to: "other.example"},
		{field: "internal/cloud/vault.Parameters.vaultNamespace", text: open, from: "ns-a", to: "ns-b"},
		{field: "internal/cloud/vault.Parameters.auth", text: open, from: "{method: token, tokenFile: " + one + "}", to: "{method: kubernetes, role: r, tokenFile: " + one + "}"},
		{field: "internal/cloud/vault.Parameters.kv", text: open, from: "kv: [{mount: m, path: p, engine: 2, version: 1}], ", to: ""},
		{field: "internal/cloud/vault.Parameters.pki", text: open, from: "pki: [{mount: pki-a, issuer: issuer-a}], ", to: ""},
		{field: "internal/cloud/vault.Parameters.transit", text: open, from: ", transit: [{mount: t-a, name: key-a}]", to: ""},
		{field: "internal/cloud/vault.Auth.mount", text: signed, from: "m-a", to: "m-b"},
		{field: "internal/cloud/vault.Auth.role", text: signed, from: "role-a", to: "role-b"},
		{field: "internal/cloud/vault.Auth.tokenFile", text: signed, from: one, to: two},
		{field: "internal/cloud/vault.KV.mount", text: open, from: "mount: m,", to: "mount: other,"},
		{field: "internal/cloud/vault.KV.path", text: open, from: "path: p", to: "path: q"},
		{field: "internal/cloud/vault.KV.engine", text: strings.Replace(open, ", version: 1", "", 1), from: "engine: 2", to: "engine: 1"},
		{field: "internal/cloud/vault.KV.version", text: open, from: "version: 1", to: "version: 2"},
		{field: "internal/cloud/vault.PKI.mount", text: open, from: "pki-a", to: "pki-b"},
		{field: "internal/cloud/vault.PKI.issuer", text: open, from: "issuer-a", to: "issuer-b"},
		{field: "internal/cloud/vault.Transit.mount", text: open, from: "t-a", to: "t-b"},
		{field: "internal/cloud/vault.Transit.name", text: open, from: "key-a", to: "key-b"},
		{field: "internal/cloud/vault.Auth.method", text: open, from: "method: token", to: "method: kubernetes", refused: "each method has its parameters"},
		{field: "internal/cloud/vault.Auth.tokenRef", text: vaulted, from: "tokenRef: {name: login, namespace: boltseal, key: a}", to: "tokenFile: " + one},
		{field: "internal/cloud/vault.KV.versionHistoryLimit", text: strings.Replace(open, ", version: 1", "", 1), from: "engine: 2", to: "engine: 2, versionHistoryLimit: 2"},
		{field: "internal/cloud/vault.Parameters.caCert", text: dialled("caCert: " + good), from: good, to: bad, dialled: true},
		{field: "internal/cloud/vault.Parameters.caFile", text: dialled("caFile: " + goodFile), from: goodFile, to: badFile, dialled: true},
		{field: "internal/keys.SecretRef.name", text: vaulted, from: "name: login", to: "name: login-too"},
		{field: "internal/keys.SecretRef.namespace", text: vaulted, from: "namespace: boltseal", to: "namespace: team"},
		{field: "internal/keys.SecretRef.key", text: vaulted, from: "key: a", to: "key: b"},
		{field: "internal/cloud/aws/kms.Parameters.region", text: fetching("awskms", "region: eu-central-1, keys: [{name: alias/a}]"), from: "eu-central-1", to: "eu-west-1"},
		{field: "internal/cloud/aws/kms.Parameters.certificateAuthorities", text: kms, from: "certificateAuthorities: [{arn: '" + authority + "1'}], ", to: ""},
		{field: "internal/cloud/aws/kms.Parameters.keys", text: kms, from: ", keys: [{name: alias/a}]", to: ""},
		{field: "internal/cloud/aws/kms.Authority.arn", text: kms, from: authority + "1", to: authority + "2"},
		{field: "internal/cloud/aws/kms.Key.name", text: kms, from: "alias/a", to: "alias/b"},
		{field: "internal/cloud/gcp/kms.Parameters.certificateAuthorities", text: gcp, from: "certificateAuthorities: [{name: " + pool + "a}], ", to: ""},
		{field: "internal/cloud/gcp/kms.Parameters.keys", text: gcp, from: ", keys: [{name: " + ring + "a, version: '1'}]", to: ""},
		{field: "internal/cloud/gcp/kms.Authority.name", text: gcp, from: pool + "a", to: pool + "b"},
		{field: "internal/cloud/gcp/kms.Key.name", text: gcp, from: ring + "a", to: ring + "b"},
		{field: "internal/cloud/gcp/kms.Key.version", text: gcp, from: "version: '1'", to: "version: '2'"},
		{field: "internal/cloud/gcp/kms.Key.versionHistoryLimit", text: fetching("gcpkms", "keys: [{name: "+ring+"many, versionHistoryLimit: 1}]"), from: "versionHistoryLimit: 1", to: "versionHistoryLimit: 2"},
	} {
		e.cloud = true
		w.show(e)
	}
}
