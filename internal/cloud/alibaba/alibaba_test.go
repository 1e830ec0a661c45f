package alibaba_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/alibaba"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/test/testcloud"
)

// TestRoles: each way in has a case in which it works, and cases in which it must not.
func TestRoles(t *testing.T) {
	t.Parallel()
	past := time.Now().Add(-time.Hour).Unix()
	const otherRole = "acs:ram::1135115445850000:role/other"
	byMachine := alibaba.Options{Authentication: alibaba.InstanceRole}
	for _, c := range []struct {
		name string
		o    alibaba.Options
		set  func(t *testing.T, h *house)
		says string // "" = it works
		is   error  // nil = boltseal.ErrUnauthorized
	}{
		{name: "RRSA"},
		{name: "RRSA by the parameters", o: alibaba.Options{RoleARN: roleARN, OIDCProviderARN: providerARN}, set: func(_ *testing.T, h *house) {
			h.env["ALIBABA_CLOUD_ROLE_ARN"], h.env["ALIBABA_CLOUD_OIDC_PROVIDER_ARN"] = otherRole, "nobody"
		}},
		{name: "inside the VPC", set: func(_ *testing.T, h *house) {
			h.env["ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED"], h.env["ALIBABA_CLOUD_STS_REGION"] = "true", region
			h.Cut(sts)
			h.Cut(api)
		}},
		{name: "a token of another audience", set: func(t *testing.T, h *house) {
			h.assert(t, testcloud.Claims{Audience: "https://kubernetes.default.svc"})
		}, says: "AuthenticationFail.OIDCToken"},
		{name: "a token that has expired", set: func(t *testing.T, h *house) { h.assert(t, testcloud.Claims{Expires: past}) }, says: "AuthenticationFail.OIDCToken.Expired"},
		{name: "a token of another account", set: func(t *testing.T, h *house) {
			h.assert(t, testcloud.Claims{Subject: "system:serviceaccount:default:default"})
		}, says: "AuthenticationFail.NoPermission"},
		{name: "a token that somebody else signed", set: func(t *testing.T, h *house) {
			h.cluster = testcloud.NewIssuer(t, h.cluster.Name)
			h.assert(t, testcloud.Claims{})
		}, says: "AuthenticationFail.OIDCToken.Invalid"},
		{name: "a role that is not there", o: alibaba.Options{RoleARN: otherRole}, says: "EntityNotExist.Role"},
		{name: "another provider", o: alibaba.Options{OIDCProviderARN: "acs:ram::1:oidc-provider/x"}, says: "EntityNotExist.OIDCProvider"},
		{name: "a role that may not pull", o: alibaba.Options{RoleARN: otherRole}, set: func(_ *testing.T, h *house) {
			h.cloud.Role(otherRole, testcloud.AlibabaRole{Provider: providerARN, Issuer: h.cluster, Subject: subject})
		}, says: "cr:PullRepository"},
		{name: "an instance that is not there", o: alibaba.Options{DefaultInstanceID: "cri-other"}, says: "INSTANCE_NOT_EXIST"},
		{name: "no file with a token", set: func(t *testing.T, h *house) {
			if err := os.Remove(h.token); err != nil {
				t.Fatal(err)
			}
		}, says: "no such file", is: boltseal.ErrConfiguration},
		{name: "an empty token", set: func(t *testing.T, h *house) {
			if err := os.WriteFile(h.token, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, says: "contains no token", is: boltseal.ErrConfiguration},
		{name: "no role", set: func(_ *testing.T, h *house) { delete(h.env, "ALIBABA_CLOUD_ROLE_ARN") }, says: "$ALIBABA_CLOUD_ROLE_ARN", is: boltseal.ErrConfiguration},
		{name: "no provider", set: func(_ *testing.T, h *house) { delete(h.env, "ALIBABA_CLOUD_OIDC_PROVIDER_ARN") }, says: "$ALIBABA_CLOUD_OIDC_PROVIDER_ARN", is: boltseal.ErrConfiguration},
		{name: "no token file", set: func(_ *testing.T, h *house) { delete(h.env, "ALIBABA_CLOUD_OIDC_TOKEN_FILE") }, says: "$ALIBABA_CLOUD_OIDC_TOKEN_FILE", is: boltseal.ErrConfiguration},
		{name: "a region that is none", set: func(_ *testing.T, h *house) { h.env["ALIBABA_CLOUD_STS_REGION"] = "x.evil.example/" }, says: "$ALIBABA_CLOUD_STS_REGION", is: boltseal.ErrConfiguration},

		{name: "machine's role", o: byMachine, set: func(_ *testing.T, h *house) {
			h.cloud.Metadata("nodes")
			h.cloud.Instance(instance, region, nil, nil, "acs:ram::1:role/nodes")
		}},
		{name: "machine's role by its name", o: alibaba.Options{Authentication: alibaba.InstanceRole, RoleName: "nodes"}, set: func(_ *testing.T, h *house) {
			h.cloud.Metadata("nodes")
			h.cloud.Instance(instance, region, nil, nil, "acs:ram::1:role/nodes")
		}},
		{name: "a machine without a role", o: byMachine, set: func(_ *testing.T, h *house) { h.cloud.Metadata("") }, says: "have a RAM role"},
		{name: "a role that the machine has not", o: alibaba.Options{Authentication: alibaba.InstanceRole, RoleName: "other"}, set: func(_ *testing.T, h *house) { h.cloud.Metadata("nodes") }, says: "HTTP 404"},
		{name: "machine's role that may not pull", o: byMachine, set: func(_ *testing.T, h *house) { h.cloud.Metadata("nodes") }, says: "NoPermission"},
		{name: "no metadata service", o: byMachine, says: "100.100.100.200", is: boltseal.ErrUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, nil)
			if c.set != nil {
				c.set(t, h)
			}
			cred, err := h.get(t, h.source(t, c.o), host)
			if c.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				if left := time.Until(cred.Expires); left < 50*time.Minute || left > time.Hour {
					t.Errorf("it ends at %s", cred.Expires)
				}
				return
			}
			if c.is == nil {
				c.is = boltseal.ErrUnauthorized
			}
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v\nwant %s", err, c.says)
			}
		})
	}
}

// TestAnswers: whatever comes but what was asked for is an error that says what it is.
func TestAnswers(t *testing.T) {
	t.Parallel()
	says := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	leads := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://evil.example/", http.StatusTemporaryRedirect)
	}
	good := func(end string) string {
		return `{"Credentials":{"AccessKeyId":"STS.a","AccessKeySecret":"opaque-secret-which-nobody-should-see","SecurityToken":"t","Expiration":"` + end + `"}}`
	}
	for _, c := range []struct {
		name, at string
		answer   http.HandlerFunc
		set      func(h *house)
		is       error
		says     string
	}{
		{name: "throttled", at: api, answer: says(400, `{"Code":"Throttling.User","Message":"Request was denied due to user flow control."}`), is: boltseal.ErrUnavailable, says: "Throttling.User"},
		{name: "429", at: api, answer: says(429, ``), is: boltseal.ErrUnavailable, says: "HTTP 429"},
		{name: "broken", at: api, answer: says(503, `{"Code":"ServiceUnavailable"}`), is: boltseal.ErrUnavailable, says: "HTTP 503"},
		{name: "no JSON", at: api, answer: says(200, `<html>`), is: boltseal.ErrMalformed, says: "not JSON"},
		{name: "no user", at: api, answer: says(200, `{"IsSuccess":true,"Code":"success"}`), is: boltseal.ErrMalformed, says: "no user"},
		{name: "no success", at: api, answer: says(200, `{"IsSuccess":false,"Code":"INSTANCE_EXPIRED"}`), is: boltseal.ErrMalformed, says: "INSTANCE_EXPIRED"},
		{name: "no end", at: api, answer: says(200, `{"TempUsername":"a","AuthorizationToken":"opaque-secret-which-nobody-should-see"}`), is: boltseal.ErrMalformed, says: "when the user ends"},
		{name: "an end that was", at: api, answer: says(200, `{"TempUsername":"a","AuthorizationToken":"opaque-secret-which-nobody-should-see","ExpireTime":1571242083000}`), is: boltseal.ErrUnavailable, says: "clock"},
		{name: "a line more", at: api, answer: says(200, `{"TempUsername":"a\r\nX: y","AuthorizationToken":"b","ExpireTime":4000000000000}`), is: boltseal.ErrMalformed, says: "cannot be shown"},
		{name: "too long", at: api, answer: says(200, `{"TempUsername":"`+strings.Repeat("a", 1<<20)+`"}`), is: boltseal.ErrLimit, says: "too long"},
		{name: "elsewhere", at: api, answer: leads, is: boltseal.ErrRefused, says: "leads elsewhere"},
		{name: "cut", set: func(h *house) { h.Cut(api) }, is: boltseal.ErrUnavailable, says: api},
		{name: "STS elsewhere", at: sts, answer: leads, is: boltseal.ErrRefused, says: "leads elsewhere"},
		{name: "STS broken", at: sts, answer: says(500, ``), is: boltseal.ErrUnavailable, says: "HTTP 500"},
		{name: "STS without JSON", at: sts, answer: says(200, `x`), is: boltseal.ErrMalformed, says: "not JSON"},
		{name: "STS without a key", at: sts, answer: says(200, `{"Credentials":{}}`), is: boltseal.ErrMalformed, says: "no key"},
		{name: "STS without an end", at: sts, answer: says(200, good("tomorrow")), is: boltseal.ErrMalformed, says: "when the key ends"},
		{name: "STS with a key that nobody knows", at: sts, answer: says(200, good("2999-01-01T00:00:00Z")), is: boltseal.ErrUnauthorized, says: "InvalidAccessKeyId.NotFound"},
		{name: "STS cut", set: func(h *house) { h.Cut(sts) }, is: boltseal.ErrUnavailable, says: sts},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, nil)
			h.Serve("evil.example", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another host was asked") }))
			if c.at != "" {
				h.Serve(c.at, c.answer)
			}
			if c.set != nil {
				c.set(h)
			}
			_, err := h.get(t, h.source(t, alibaba.Options{}), host)
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "opaque-secret") {
				t.Errorf("%v\nwant %s", err, c.says)
			}
		})
	}
}

// TestShared: many images of a registry cost one user; one that was refused is
// dropped; a failure is kept for a moment.
func TestShared(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	s := h.source(t, alibaba.Options{})
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if _, err := h.get(t, s, host); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	c, _ := h.get(t, s, host)
	if h.asked(api) != 1 || h.asked(sts) != 1 {
		t.Errorf("asked %d and %d times", h.asked(api), h.asked(sts))
	}
	s.Invalidate(host, "app", c)
	again, err := h.get(t, s, host)
	if err != nil || again == c || h.asked(api) != 2 {
		t.Errorf("%v, asked %d times", err, h.asked(api))
	}
	s.Invalidate(host, "app", c) // comes late
	if _, err := h.get(t, s, host); err != nil || h.asked(api) != 2 {
		t.Errorf("%v, asked %d times", err, h.asked(api))
	}
	start := time.Now()
	h.at(start)
	down := h.source(t, alibaba.Options{})
	h.Cut(api)
	for range 10 {
		if _, err := h.get(t, down, host); !errors.Is(err, boltseal.ErrUnavailable) {
			t.Error(err)
		}
	}
	if n := h.asked(sts); n != 3 {
		t.Errorf("asked %d times", n)
	}
	h.Mend(api)
	h.at(start.Add(10 * time.Second))
	if _, err := h.get(t, down, host); err != nil {
		t.Error(err)
	}
}

// TestRenewed: an outage near the end is not seen, and what has ended is not shown.
func TestRenewed(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	start := time.Now()
	h.at(start)
	s := h.source(t, alibaba.Options{})
	first, err := h.get(t, s, host)
	if err != nil {
		t.Fatal(err)
	}
	h.Cut(sts)
	h.at(start.Add(58 * time.Minute))
	if c, err := h.get(t, s, host); err != nil || c != first {
		t.Errorf("in an outage: %v", err)
	}
	h.at(start.Add(time.Hour - 10*time.Second))
	if _, err := h.get(t, s, host); !errors.Is(err, boltseal.ErrUnavailable) {
		t.Errorf("near its end: %v", err)
	}
	h.Mend(sts)
	h.at(start.Add(2 * time.Hour))
	if c, err := h.get(t, s, host); err != nil || c == first || c.Expires.Sub(h.clock()) < 50*time.Minute {
		t.Errorf("%v, until %s", err, c.Expires)
	}
}

// TestInstances: the name in the host says which instance; where nothing does, nobody
// is asked.
func TestInstances(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	named := []alibaba.Instance{{InstanceName: "acme", InstanceID: instance}}
	s := h.source(t, alibaba.Options{Instances: named})
	for _, at := range []string{host, "acme-registry-vpc.cn-hangzhou.cr.aliyuncs.com"} {
		if _, err := h.get(t, s, at); err != nil {
			t.Error(err)
		}
	}
	before := h.asked("")
	if _, err := h.get(t, s, "other-registry.cn-hangzhou.cr.aliyuncs.com"); !errors.Is(err, credential.ErrNotForHost) {
		t.Error(err)
	}
	none := h.source(t, alibaba.Options{Instances: []alibaba.Instance{}})
	if _, err := h.get(t, none, host); !errors.Is(err, boltseal.ErrConfiguration) || !strings.Contains(err.Error(), "defaultInstanceId") {
		t.Error(err)
	}
	h.env["ALIBABA_CLOUD_ACR_INSTANCE_ID"] = "x"
	if _, err := h.get(t, none, host); !errors.Is(err, boltseal.ErrConfiguration) {
		t.Error(err)
	}
	if n := h.asked(""); n != before {
		t.Errorf("%d requests", n-before)
	}
	h.env["ALIBABA_CLOUD_ACR_INSTANCE_ID"] = instance
	if _, err := h.get(t, none, host); err != nil {
		t.Error(err)
	}
	wins := h.source(t, alibaba.Options{DefaultInstanceID: "cri-other", Instances: named})
	if _, err := h.get(t, wins, host); err != nil {
		t.Error(err)
	}
}
