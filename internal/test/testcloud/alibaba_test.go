package testcloud

import (
	"net/http"
	"net/url"
	"testing"
	"time"
)

// TestAlibabaRefuses: what the SDKs do right is tested where they are; this is what
// they would never send.
func TestAlibabaRefuses(t *testing.T) {
	t.Parallel()
	now := time.Now()
	c := Start(t, func() time.Time { return now })
	a := c.Alibaba("cn-hangzhou")
	issuer := NewIssuer(t, "https://oidc.example/cluster")
	a.Role("role", AlibabaRole{Provider: "provider", Issuer: issuer, Subject: "subject"})
	form := url.Values{"RoleArn": {"role"}, "OIDCProviderArn": {"provider"}, "RoleSessionName": {"x"},
		"OIDCToken": {issuer.Token(Claims{Subject: "subject", Audience: AlibabaAudience, Expires: now.Add(time.Hour).Unix()})}}
	good := url.Values{"Action": {"AssumeRoleWithOIDC"}, "Version": {"2015-04-01"}, "Format": {"JSON"}, "Timestamp": {now.UTC().Format(alibabaTime)}}
	const sts = "https://sts.aliyuncs.com/?"
	if status, _ := send(t, c, http.MethodPost, sts+good.Encode(), form); status != http.StatusOK {
		t.Fatal(status)
	}
	for _, change := range [][2]string{{"Action", "AssumeRole"}, {"Version", "2014-01-01"}, {"Format", "XML"}, {"Timestamp", ""}, {"Timestamp", now.Add(-time.Hour).UTC().Format(alibabaTime)}} {
		query := url.Values{}
		for k, v := range good {
			query[k] = v
		}
		query.Set(change[0], change[1])
		if status, _ := send(t, c, http.MethodPost, sts+query.Encode(), form); status < 400 {
			t.Errorf("%v: HTTP %d", change, status)
		}
	}
	form.Del("RoleSessionName")
	if status, _ := send(t, c, http.MethodPost, sts+good.Encode(), form); status != http.StatusBadRequest {
		t.Errorf("without a session's name: HTTP %d", status)
	}
	if status, _ := send(t, c, http.MethodPost, "https://cr.cn-hangzhou.aliyuncs.com/?InstanceId=x", nil); status != http.StatusBadRequest {
		t.Errorf("without a signature: HTTP %d", status)
	}

	a.Metadata("nodes")
	const list, tokens, header = "http://" + AlibabaMetadataHost + "/latest/meta-data/ram/security-credentials/", "http://" + AlibabaMetadataHost + "/latest/api/token", "X-aliyun-ecs-metadata-token"
	if status, _ := send(t, c, http.MethodPut, tokens, nil); status != http.StatusBadRequest {
		t.Errorf("a token without its life: HTTP %d", status)
	}
	_, token := send(t, c, http.MethodPut, tokens, nil, header+"-ttl-seconds", "60")
	if status, name := send(t, c, http.MethodGet, list, nil, header, token); status != http.StatusOK || name != "nodes" {
		t.Errorf("HTTP %d, %s", status, name)
	}
	if status, _ := send(t, c, http.MethodGet, list, nil); status != http.StatusForbidden {
		t.Errorf("without a token: HTTP %d", status)
	}
	if status, _ := send(t, c, http.MethodGet, list+"other", nil, header, token); status != http.StatusNotFound {
		t.Errorf("another role: HTTP %d", status)
	}
	now = now.Add(time.Minute)
	if status, _ := send(t, c, http.MethodGet, list, nil, header, token); status != http.StatusForbidden {
		t.Errorf("a token that has ended: HTTP %d", status)
	}
}
