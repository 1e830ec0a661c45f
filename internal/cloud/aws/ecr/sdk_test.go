package ecr_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	official "github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/smithy-go"

	"github.com/boltseal/boltseal/internal/cloud/aws"
	"github.com/boltseal/boltseal/internal/cloud/aws/ecr"
	"github.com/boltseal/boltseal/internal/test/testcloud"
)

// TestFakeRefuses: what AWS's SDK sends is taken, and nothing that differs in one
// thing.
func TestFakeRefuses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	id, key, token, _ := h.aws.Session(role)
	call := func(region, id, key, token string, ids ...string) (*official.GetAuthorizationTokenOutput, error) {
		to := "https://" + api
		client := official.New(official.Options{Region: region, BaseEndpoint: &to, HTTPClient: &http.Client{Transport: h.Transport()}, Retryer: sdk.NopRetryer{},
			Credentials: credentials.NewStaticCredentialsProvider(id, key, token)})
		//lint:ignore SA1019 the fake has to know it
		return client.GetAuthorizationToken(t.Context(), &official.GetAuthorizationTokenInput{RegistryIds: ids})
	}
	for _, ids := range [][]string{nil, {other}} {
		want := owner
		if ids != nil {
			want = ids[0]
		}
		out, err := call(region, id, key, token, ids...)
		if err != nil || len(out.AuthorizationData) != 1 || sdk.ToString(out.AuthorizationData[0].ProxyEndpoint) != "https://"+want+".dkr.ecr."+region+".amazonaws.com" {
			t.Fatalf("%+v, %v", out, err)
		}
	}
	h.aws.Sessions(-time.Second)
	gone, goneKey, goneToken, _ := h.aws.Session(role)
	for _, c := range []struct{ name, region, id, key, token, account, code string }{
		{"another region", "eu-west-1", id, key, token, owner, "InvalidSignatureException"},
		{"another secret", region, id, key + "x", token, owner, "InvalidSignatureException"},
		{"another session token", region, id, key, token + "x", owner, "UnrecognizedClientException"},
		{"no session token", region, id, key, "", owner, "UnrecognizedClientException"},
		{"another access key", region, id + "X", key, token, owner, "UnrecognizedClientException"},
		{"a session that has ended", region, gone, goneKey, goneToken, owner, "ExpiredTokenException"},
		{"no account", region, id, key, token, "acme", "InvalidParameterException"},
	} {
		_, err := call(c.region, c.id, c.key, c.token, c.account)
		var api smithy.APIError
		if !errors.As(err, &api) || api.ErrorCode() != c.code {
			t.Errorf("%s: %v, want %s", c.name, err, c.code)
		}
	}

	// By the SDK's signer alone: what the client would not send.
	good := func() (body, service, target string, at time.Time) {
		return `{"registryIds":["` + owner + `"]}`, "ecr", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken", time.Now()
	}
	send := func(body, service, target string, at time.Time, after func(*http.Request)) string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+api+"/", bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-amz-json-1.1")
		req.Header.Set("X-Amz-Target", target)
		sum := sha256.Sum256([]byte(body))
		if err := v4.NewSigner().SignHTTP(t.Context(), sdk.Credentials{AccessKeyID: id, SecretAccessKey: key, SessionToken: token}, req, hex.EncodeToString(sum[:]), service, region, at); err != nil {
			t.Fatal(err)
		}
		after(req)
		resp, err := (&http.Client{Transport: h.Transport()}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	body, service, target, now := good()
	as := func(*http.Request) {}
	for _, c := range []struct{ name, got, want string }{
		{"as it should be", send(body, service, target, now, as), "authorizationData"},
		{"another service", send(body, "ecs", target, now, as), "correct service"},
		{"another operation", send(body, service, "AmazonEC2ContainerRegistry_V20150921.DeleteRepository", now, as), "UnknownOperationException"},
		{"an old signature", send(body, service, target, now.Add(-time.Hour), as), "Signature expired"},
		{"no JSON", send("x", service, target, now, as), "SerializationException"},
		{"another operation than was signed", send(body, service, target, now, func(r *http.Request) { r.Header.Set("X-Amz-Target", "other") }), "does not match"},
		{"another body than was signed", send(body, service, target, now, func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(strings.Replace(body, owner, other, 1)))
		}), "does not match"},
		{"not signed", send(body, service, target, now, func(r *http.Request) { r.Header.Del("Authorization") }), "MissingAuthenticationTokenException"},
	} {
		if !strings.Contains(c.got, c.want) {
			t.Errorf("%s: %s", c.name, c.got)
		}
	}
}

// TestEnvironment: what AWS's SDK would read of the environment and of files does not
// lead anything elsewhere. It is not parallel: the environment is the process's.
func TestEnvironment(t *testing.T) {
	h := newHouse(t)
	const evil = "evil.example"
	h.Serve(evil, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s was asked", r.URL) }))
	dir := t.TempDir()
	for name, text := range map[string]string{
		"config": "[default]\nregion = cn-north-1\nendpoint_url = https://" + evil + "\nservices = evil\nrole_arn = " + role + "2\ncredential_source = Environment\nca_bundle = " + dir + "/ca\nuse_fips_endpoint = true\nuse_dualstack_endpoint = true\n" +
			"[services evil]\necr =\n  endpoint_url = https://" + evil + "\nsts =\n  endpoint_url = https://" + evil + "\n",
		"credentials": "[default]\naws_access_key_id = AKIAEVIL\naws_secret_access_key = evil\n",
		"ca":          "nothing\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": "https://" + evil, "AWS_ENDPOINT_URL_ECR": "https://" + evil, "AWS_ENDPOINT_URL_STS": "https://" + evil, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
		"AWS_CONFIG_FILE": dir + "/config", "AWS_SHARED_CREDENTIALS_FILE": dir + "/credentials", "AWS_SDK_LOAD_CONFIG": "1", "AWS_PROFILE": "default", "AWS_CA_BUNDLE": dir + "/ca",
		"AWS_ACCESS_KEY_ID": "AKIAEVIL", "AWS_SECRET_ACCESS_KEY": "evil", "AWS_SESSION_TOKEN": "evil", "AWS_DEFAULT_REGION": "cn-north-1", "AWS_STS_REGIONAL_ENDPOINTS": "legacy",
		"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/evil", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "evil",
		"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://" + evil, "AWS_ROLE_SESSION_NAME": "evil", "HOME": dir,
	} {
		t.Setenv(name, value)
		h.put(name, value)
	}
	for _, way := range []string{aws.IRSA, aws.PodIdentity} {
		if way == aws.PodIdentity {
			h.put("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent)
			h.put("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", h.file(t, testcloud.Claims{}, agentFor))
		}
		before := len(h.Requests(""))
		if _, err := h.get(t, h.source(t, ecr.Options{Identity: aws.Options{Authentication: way}}), host); err != nil {
			t.Errorf("%s: %v", way, err)
		}
		signer := stsHost
		if way == aws.PodIdentity {
			signer = testcloud.PodIdentityAgent
		}
		seen := h.Requests("")[before:]
		if len(seen) != 2 || seen[0].Host != signer || seen[1].Host != api {
			t.Errorf("%s: %+v", way, seen)
		}
	}
	if n := h.asked(evil); n != 0 {
		t.Errorf("%s was asked %d times", evil, n)
	}
}
