package compile_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	keyskube "github.com/boltseal/boltseal/internal/keys/kube"
)

// signedIn is what lets somebody in at a cloud, by a part of the address that is asked.
var signedIn = map[string]string{
	"metadata.google.internal": `{"access_token":"t","expires_in":3600,"token_type":"Bearer"}`,
	"sts.aliyuncs.com":         `{"Credentials":{"AccessKeyId":"a","AccessKeySecret":"b","SecurityToken":"c","Expiration":"2036-01-01T00:00:00Z"}}`,
	"sts.eu-": `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>a</AccessKeyId>` +
		`<SecretAccessKey>b</SecretAccessKey><SessionToken>c</SessionToken><Expiration>2036-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
	"/oauth2/v2.0/token":               `{"token_type":"Bearer","expires_in":3600,"access_token":"t"}`,
	"/metadata/identity/":              `{"token_type":"Bearer","expires_in":"3600","expires_on":"2082758400","access_token":"t","resource":"r"}`,
	"100.100.100.200/latest/api/token": "t",
}

// answer is what clouds and vaults say: they let everybody in, and have little.
func (w *witness) answer(req *http.Request) (status int, body string, header http.Header) {
	header = http.Header{}
	at := req.URL.Host + req.URL.Path
	for part, a := range signedIn {
		if strings.Contains(at, part) {
			return http.StatusOK, a, header
		}
	}
	release, other := string(w.release.Root().PEM()), string(w.other.Root().PEM())
	texts := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			w.t.Error(err)
		}
		return string(b)
	}
	const ring = "projects/acme/locations/europe-west3/keyRings/r/cryptoKeys/many"
	switch entra, tenant := "https://"+req.URL.Host+"/", strings.Split(req.URL.Path, "/")[1]; {
	case strings.HasSuffix(req.URL.Path, "/discovery/instance"):
		of := strings.TrimPrefix(req.URL.Query().Get("authorization_endpoint"), entra)
		of, _, _ = strings.Cut(of, "/")
		return http.StatusOK, texts(map[string]any{"api-version": "1.1", "tenant_discovery_endpoint": entra + of + "/v2.0/.well-known/openid-configuration",
			"metadata": []any{map[string]any{"preferred_network": req.URL.Host, "preferred_cache": req.URL.Host, "aliases": []string{req.URL.Host}}}}), header
	case strings.HasSuffix(req.URL.Path, "/openid-configuration"):
		return http.StatusOK, texts(map[string]any{"token_endpoint": entra + tenant + "/oauth2/v2.0/token", "authorization_endpoint": entra + tenant + "/oauth2/v2.0/authorize", "issuer": entra + tenant + "/v2.0"}), header
	case strings.Contains(req.URL.Host, ".vault.azure.") && req.Header.Get("Authorization") == "":
		header.Set("WWW-Authenticate", `Bearer authorization="https://login.microsoftonline.com/tenant-a", resource="https://vault.azure.net"`)
		return http.StatusUnauthorized, `{}`, header
	case req.URL.Path == "/v1/secret/data/both":
		return http.StatusOK, texts(map[string]any{"data": map[string]any{"data": map[string]string{"certificate": release, "other": other}, "metadata": map[string]any{"version": 1}}}), header
	case req.URL.Path == "/v1/transit/keys/two":
		return http.StatusOK, texts(map[string]any{"data": map[string]any{"keys": map[string]any{"2": map[string]any{"certificate_chain": other}, "1": map[string]any{"certificate_chain": release}}}}), header
	case strings.HasSuffix(req.URL.Path, "/many/cryptoKeyVersions"):
		return http.StatusOK, texts(map[string]any{"cryptoKeyVersions": []any{
			map[string]any{"name": ring + "/cryptoKeyVersions/2", "state": "ENABLED", "algorithm": "RSA_SIGN_RAW_PKCS1_2048"},
			map[string]any{"name": ring + "/cryptoKeyVersions/1", "state": "ENABLED", "algorithm": "EC_SIGN_P256_SHA256"}}}), header
	}
	return http.StatusForbidden, `{}`, header
}

// newObjects are a cluster's: pull Secrets whose users are named as they are, and
// certificates.
func (w *witness) newObjects() keyskube.Objects {
	release, other := w.release.Root().PEM(), w.other.Root().PEM()
	secret := func(namespace, name string, data map[string][]byte) client.Object {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: data}
	}
	account := func(name, pull string) client.Object {
		return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "boltseal", Name: name}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: pull}}}
	}
	objects := []client.Object{account("default", "ours"), account("other", "second"),
		secret("boltseal", "roots", map[string][]byte{"release": release, "other": other}), secret("boltseal", "others", map[string][]byte{"release": other}),
		secret("team", "roots", map[string][]byte{"release": other}),
		secret("boltseal", "login", map[string][]byte{"a": []byte("word-a"), "b": []byte("word-b")}), secret("boltseal", "login-too", map[string][]byte{"a": []byte("word-c")}),
		secret("team", "login", map[string][]byte{"a": []byte("word-d")})}
	for _, name := range []string{"boltseal/ours", "boltseal/first", "boltseal/second", "team/first", "team/pull"} {
		namespace, name, _ := strings.Cut(name, "/")
		objects = append(objects, secret(namespace, name, map[string][]byte{corev1.DockerConfigJsonKey: fmt.Appendf(nil, `{"auths":{"registry.example":{"username":%q,"password":"p"}}}`, namespace+"-"+name)}))
	}
	return keyskube.Objects{Client: fake.NewClientBuilder().WithObjects(objects...).Build()}
}
