package ecr_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/cloud/aws/ecr"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/test/testcloud"
	"github.com/boltseal/boltseal/internal/test/testwait"
	"github.com/boltseal/boltseal/oci"
)

const (
	region   = "eu-central-1"
	owner    = "111122223333" // of the role
	other    = "444455556666" // of a registry that the role may read too
	role     = "arn:aws:iam::" + owner + ":role/boltseal"
	subject  = "system:serviceaccount:boltseal-system:boltseal"
	host     = owner + ".dkr.ecr." + region + ".amazonaws.com"
	second   = other + ".dkr.ecr." + region + ".amazonaws.com"
	api      = "api.ecr." + region + ".amazonaws.com"
	stsHost  = "sts." + region + ".amazonaws.com"
	agent    = "http://" + testcloud.PodIdentityAgent + "/v1/credentials"
	irsaFor  = "sts.amazonaws.com"
	agentFor = "pods.eks.amazonaws.com"
)

// house is an AWS with registries that Boltseal's role may read.
type house struct {
	*testcloud.Cloud
	aws    *testcloud.AWS
	ecr    *testcloud.ECR
	issuer *testcloud.Issuer

	mu   sync.Mutex
	env  map[string]string
	now  time.Time // zero = the time it is
	told bytes.Buffer
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{issuer: testcloud.NewIssuer(t, "https://oidc.example/cluster")}
	h.Cloud = testcloud.Start(t, h.clock)
	h.aws = h.AWS(h.issuer)
	h.aws.Trust(role, subject)
	h.aws.Associate(subject, role)
	h.aws.STS(region)
	h.aws.PodIdentity()
	h.ecr = h.aws.ECR(region)
	h.ecr.Allow(role, owner, other)
	h.irsa(t, testcloud.Claims{})
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

// file writes a Pod's token; what is not said is right.
func (h *house) file(t *testing.T, c testcloud.Claims, audience string) string {
	t.Helper()
	if c.Subject == "" {
		c.Subject = subject
	}
	if c.Audience == "" {
		c.Audience = audience
	}
	if c.Expires == 0 {
		c.Expires = h.clock().Add(24 * time.Hour).Unix()
	}
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(h.issuer.Token(c)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// irsa is the environment of a Pod whose ServiceAccount has a role.
func (h *house) irsa(t *testing.T, c testcloud.Claims) {
	h.set(map[string]string{"AWS_ROLE_ARN": role, "AWS_WEB_IDENTITY_TOKEN_FILE": h.file(t, c, irsaFor), "AWS_REGION": region})
}

// pod is the environment of a Pod with an association of EKS Pod Identity.
func (h *house) pod(t *testing.T, c testcloud.Claims, uri string) {
	h.set(map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": uri, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": h.file(t, c, agentFor), "AWS_REGION": region})
}

func (h *house) set(env map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.env = env
}

func (h *house) put(name, value string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.env[name] = value
}

func (h *house) getenv(name string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.env[name]
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

func (h *house) source(t *testing.T, o ecr.Options) *ecr.Source {
	t.Helper()
	if o.Transport == nil {
		o.Transport = h.Transport()
	}
	o.Getenv, o.Clock, o.Jitter = h.getenv, h.clock, func() float64 { return 0 }
	if o.Timeout == 0 { // nobody is to be late where a test does not say so
		o.Timeout = testwait.Patience
	}
	s, err := ecr.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// get asks for a credential of a registry, and holds what comes against what is
// always so.
func (h *house) get(t *testing.T, s *ecr.Source, at string) (oci.Credential, error) {
	t.Helper()
	c, err := s.Credential(t.Context(), at, "app")
	h.tell(err)
	if err != nil {
		if c != (oci.Credential{}) {
			t.Errorf("a credential beside an error: %v", err)
		}
		text := err.Error()
		if !strings.Contains(text, ecr.Name) || !errors.Is(err, credential.ErrNotForHost) && !strings.Contains(text, at) {
			t.Errorf("the provider or the host is not named: %s", text)
		}
		if strings.ContainsAny(text, "\r\n") || len(text) > 1000 {
			t.Errorf("not one short line: %s", text)
		}
	} else if c.Username != "AWS" || c.Password == "" || c.Expires.IsZero() || c.RefreshToken+c.AccessToken != "" {
		t.Errorf("not a user and a password with an end alone (%q, %s)", c.Username, c.Expires)
	}
	return c, err
}

// asked counts the requests that a host has seen; "" = all hosts.
func (h *house) asked(at string) int { return len(h.Requests(at)) }

// registry reads registries here with a source's credentials.
func (h *house) registry(t *testing.T, s oci.CredentialSource) *oci.Registry {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(h.CAPEM())
	proxy, err := url.Parse(h.Proxy(t))
	if err != nil {
		t.Fatal(err)
	}
	r, err := oci.NewRegistry(oci.Options{RootCAs: roots, Credentials: s, Proxy: http.ProxyURL(proxy), Limits: oci.Limits{RequestTimeout: testwait.Patience}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// fixed is a source of one credential.
type fixed struct{ c oci.Credential }

func (f fixed) Credential(context.Context, string, string) (oci.Credential, error) { return f.c, nil }
