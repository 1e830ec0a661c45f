package alibabasdk

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cr "github.com/alibabacloud-go/cr-20181201/v2/client"
	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	util "github.com/alibabacloud-go/tea-utils/v2/service"
	"github.com/aliyun/credentials-go/credentials/providers"

	"github.com/boltseal/boltseal/internal/test/testcloud"
)

const (
	region      = "cn-hangzhou"
	host        = "acme-registry.cn-hangzhou.cr.aliyuncs.com"
	instance    = "cri-kmsiwlxxdcvaduwb"
	roleARN     = "acs:ram::1135115445850000:role/boltseal"
	providerARN = "acs:ram::1135115445850000:oidc-provider/ack-rrsa-c0ffee"
	subject     = "system:serviceaccount:boltseal-system:boltseal"
)

// house is a cloud with an instance that Boltseal's role may read.
type house struct {
	*testcloud.Cloud
	cloud   *testcloud.Alibaba
	cluster *testcloud.Issuer
	token   string // path of the OIDC token
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{Cloud: testcloud.Start(t, nil), cluster: testcloud.NewIssuer(t, "https://oidc.example/cluster"), token: filepath.Join(t.TempDir(), "token")}
	h.cloud = h.Alibaba(region)
	h.cloud.Role(roleARN, testcloud.AlibabaRole{Provider: providerARN, Issuer: h.cluster, Subject: subject})
	h.assert(t, testcloud.AlibabaAudience)
	return h
}

// assert writes an OIDC token for an audience.
func (h *house) assert(t *testing.T, audience string) {
	t.Helper()
	text := h.cluster.Token(testcloud.Claims{Subject: subject, Audience: audience, Expires: time.Now().Add(24 * time.Hour).Unix()})
	if err := os.WriteFile(h.token, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// proxied leads Alibaba Cloud's own SDKs here: they take a proxy, and no transport.
func (h *house) proxied(t *testing.T) (plain, tunnel string) {
	t.Helper()
	p := httptest.NewServer(&httputil.ReverseProxy{Transport: h.Transport(), Rewrite: func(*httputil.ProxyRequest) {}})
	t.Cleanup(p.Close)
	return p.URL, h.Proxy(t)
}

// TestOfficialSDK holds the fakes against Alibaba Cloud's own SDKs: what their clients
// send is taken, so that a request of ours which is taken too is one that they could
// have sent.
func TestOfficialSDK(t *testing.T) {
	h := newHouse(t)
	plain, tunnel := h.proxied(t)
	ca := string(h.CAPEM())
	trust(t, h)
	oidc, err := providers.NewOIDCCredentialsProviderBuilder().WithOIDCProviderARN(providerARN).WithOIDCTokenFilePath(h.token).WithRoleArn(roleARN).
		WithRoleSessionName("test").WithStsRegionId(region).WithHttpOptions(&providers.HttpOptions{Proxy: tunnel}).Build()
	if err != nil {
		t.Fatal(err)
	}
	h.cloud.Metadata("machine")
	machine, err := providers.NewECSRAMRoleCredentialsProviderBuilder().WithDisableIMDSv1(true).WithHttpOptions(&providers.HttpOptions{Proxy: plain}).Build()
	if err != nil {
		t.Fatal(err)
	}
	h.cloud.Instance(instance, region, nil, []string{host}, roleARN, "acs:ram::1:role/machine")
	for name, p := range map[string]providers.CredentialsProvider{"oidc": oidc, "machine": machine} {
		k, err := p.GetCredentials()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		endpoint, protocol := "cr."+region+".aliyuncs.com", "HTTPS"
		config := &openapi.Config{AccessKeyId: &k.AccessKeyId, AccessKeySecret: &k.AccessKeySecret, SecurityToken: &k.SecurityToken, Endpoint: &endpoint, Protocol: &protocol}
		client, err := cr.NewClient(config)
		if err != nil {
			t.Fatal(err)
		}
		id := instance
		runtime := &util.RuntimeOptions{HttpsProxy: &tunnel, Ca: &ca}
		resp, err := client.GetAuthorizationTokenWithOptions(&cr.GetAuthorizationTokenRequest{InstanceId: &id}, runtime)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if resp.Body == nil || *resp.Body.TempUsername == "" || *resp.Body.AuthorizationToken == "" || *resp.Body.ExpireTime == 0 || !*resp.Body.IsSuccess {
			t.Errorf("%s: an answer that is not whole", name)
		}
		other := "cri-other"
		if _, err := client.GetAuthorizationTokenWithOptions(&cr.GetAuthorizationTokenRequest{InstanceId: &other}, runtime); err == nil || !strings.Contains(err.Error(), "INSTANCE_NOT_EXIST") {
			t.Errorf("%s: another instance: %v", name, err)
		}
		wrong := k.AccessKeySecret + "x"
		config.AccessKeySecret = &wrong
		if client, err = cr.NewClient(config); err != nil {
			t.Fatal(err)
		}
		if _, err := client.GetAuthorizationTokenWithOptions(&cr.GetAuthorizationTokenRequest{InstanceId: &id}, runtime); err == nil || !strings.Contains(err.Error(), "SignatureDoesNotMatch") {
			t.Errorf("%s: another secret: %v", name, err)
		}
	}
	h.assert(t, "https://kubernetes.default.svc")
	if oidc, err = providers.NewOIDCCredentialsProviderBuilder().WithOIDCProviderARN(providerARN).WithOIDCTokenFilePath(h.token).WithRoleArn(roleARN).
		WithStsRegionId(region).WithHttpOptions(&providers.HttpOptions{Proxy: tunnel}).Build(); err != nil {
		t.Fatal(err)
	}
	if _, err := oidc.GetCredentials(); err == nil || !strings.Contains(err.Error(), "AuthenticationFail.OIDCToken") {
		t.Errorf("a token of another audience: %v", err)
	}
}

// trust has the transport that the SDK copies take the fake's certificates.
func trust(t *testing.T, h *house) {
	t.Helper()
	shared := http.DefaultTransport.(*http.Transport)
	old := shared.TLSClientConfig
	shared.TLSClientConfig = h.Transport().TLSClientConfig
	t.Cleanup(func() { shared.TLSClientConfig = old })
	if _, err := url.Parse(h.Proxy(t)); err != nil {
		t.Fatal(err)
	}
}
