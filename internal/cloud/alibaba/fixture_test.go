package alibaba_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/cloud/alibaba"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/test/testcloud"
	"github.com/boltseal/boltseal/internal/test/testwait"
	"github.com/boltseal/boltseal/oci"
)

const (
	region      = "cn-hangzhou"
	host        = "acme-registry.cn-hangzhou.cr.aliyuncs.com"
	instance    = "cri-kmsiwlxxdcvaduwb"
	roleARN     = "acs:ram::1135115445850000:role/boltseal"
	providerARN = "acs:ram::1135115445850000:oidc-provider/ack-rrsa-c0ffee"
	subject     = "system:serviceaccount:boltseal-system:boltseal"
	api         = "cr.cn-hangzhou.aliyuncs.com"
	sts         = "sts.aliyuncs.com"
)

// house is a cloud with an instance that Boltseal's role may read.
type house struct {
	*testcloud.Cloud
	cloud   *testcloud.Alibaba
	cluster *testcloud.Issuer
	token   string // path of the OIDC token
	env     map[string]string

	mu   sync.Mutex
	now  time.Time // zero = the time it is
	told bytes.Buffer
}

func newHouse(t *testing.T, content http.Handler) *house {
	t.Helper()
	h := &house{cluster: testcloud.NewIssuer(t, "https://oidc.example/cluster"), token: filepath.Join(t.TempDir(), "token")}
	h.Cloud = testcloud.Start(t, h.clock)
	h.cloud = h.Alibaba(region)
	h.cloud.Role(roleARN, testcloud.AlibabaRole{Provider: providerARN, Issuer: h.cluster, Subject: subject})
	h.cloud.Instance(instance, region, content, []string{host, "acme-registry-vpc.cn-hangzhou.cr.aliyuncs.com"}, roleARN)
	h.assert(t, testcloud.Claims{})
	h.env = map[string]string{"ALIBABA_CLOUD_ROLE_ARN": roleARN, "ALIBABA_CLOUD_OIDC_PROVIDER_ARN": providerARN, "ALIBABA_CLOUD_OIDC_TOKEN_FILE": h.token}
	t.Cleanup(func() { h.leaks(t) })
	return h
}

func (h *house) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now.IsZero() {
		return time.Now()
	}
	return h.now
}

// at sets the time.
func (h *house) at(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = now
}

// assert writes an OIDC token; what is not said is right.
func (h *house) assert(t *testing.T, c testcloud.Claims) {
	t.Helper()
	if c.Subject == "" {
		c.Subject = subject
	}
	if c.Audience == "" {
		c.Audience = testcloud.AlibabaAudience
	}
	if c.Expires == 0 {
		c.Expires = h.clock().Add(24 * time.Hour).Unix()
	}
	if err := os.WriteFile(h.token, []byte(h.cluster.Token(c)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// tell notes an error for leaks.
func (h *house) tell(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.told.WriteString(err.Error() + "\n")
	}
}

// leaks fails where an error held a secret.
func (h *house) leaks(t *testing.T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	told := h.told.String()
	for _, secret := range h.Secrets() {
		for part := range strings.SplitSeq(secret, ".") {
			if len(part) > 20 && strings.Contains(told, part) {
				t.Errorf("a part of a secret was told: %.12s…", part)
			}
		}
	}
}

func (h *house) source(t *testing.T, o alibaba.Options) *alibaba.Source {
	t.Helper()
	if o.DefaultInstanceID == "" && o.Instances == nil {
		o.DefaultInstanceID = instance
	}
	way := h.Transport()
	way.Proxy = func(r *http.Request) (*url.URL, error) {
		if r.URL.Scheme != "https" { // the machine's metadata: a proxy would see the key
			t.Errorf("%s goes by a proxy", r.URL.Host)
		}
		return nil, nil
	}
	o.Transport, o.Getenv, o.Clock = way, func(k string) string { return h.env[k] }, h.clock
	o.Jitter = func() float64 { return 0 }
	if o.Timeout == 0 { // nobody is to be late where a test does not say so
		o.Timeout = testwait.Patience
	}
	s, err := alibaba.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// get asks for a credential of the registry, and holds the error against what is
// always so.
func (h *house) get(t *testing.T, s *alibaba.Source, at string) (oci.Credential, error) {
	t.Helper()
	c, err := s.Credential(t.Context(), at, "app")
	h.tell(err)
	if err != nil {
		if c != (oci.Credential{}) {
			t.Errorf("a credential beside an error: %v", err)
		}
		text := err.Error()
		if !strings.Contains(text, alibaba.Name) || !errors.Is(err, credential.ErrNotForHost) && !strings.Contains(text, at) {
			t.Errorf("the provider or the host is not named: %s", text)
		}
		if strings.ContainsAny(text, "\r\n") || len(text) > 1000 || strings.Contains(text, "RequestId") {
			t.Errorf("not one short line, the same each time: %s", text)
		}
	} else if c.Username == "" || c.Password == "" || c.Expires.IsZero() || c.RefreshToken+c.AccessToken != "" {
		t.Errorf("not a user and password with an end alone (%s)", c.Expires)
	}
	return c, err
}

// asked counts requests that a host has seen.
func (h *house) asked(at string) int { return len(h.Requests(at)) }
