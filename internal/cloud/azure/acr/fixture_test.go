package acr_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/cloud/azure/acr"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/test/testcloud"
	"github.com/boltseal/boltseal/internal/test/testwait"
	"github.com/boltseal/boltseal/oci"
)

const (
	tenant      = "00000000-0000-4000-8000-00000000000a"
	otherTenant = "00000000-0000-4000-8000-00000000000b"
	client      = "00000000-0000-4000-8000-00000000000c"
	subject     = "system:serviceaccount:boltseal-system:boltseal"
	host        = "acme.azurecr.io"
)

// house is a cloud with a registry that Boltseal's workload identity may read.
type house struct {
	*testcloud.Cloud
	entra   *testcloud.Entra
	acr     *testcloud.ACR
	cluster *testcloud.Issuer
	token   string // path of the federated token
	env     map[string]string

	mu   sync.Mutex
	now  time.Time // zero = the time it is
	told bytes.Buffer
}

func newHouse(t *testing.T, content http.Handler) *house {
	t.Helper()
	h := &house{cluster: testcloud.NewIssuer(t, "https://oidc.example/cluster"), token: filepath.Join(t.TempDir(), "token")}
	h.Cloud = testcloud.Start(t, h.clock)
	h.entra = h.Entra(t, testcloud.EntraPublic)
	h.acr = h.entra.ACR(t, host, tenant, content)
	h.acr.Grant(client)
	app := testcloud.App{Federated: []testcloud.Federated{{Issuer: h.cluster, Subject: subject}}}
	h.entra.Add(tenant, client, app)
	h.entra.Add(otherTenant, client, app)
	h.assert(t, testcloud.Claims{})
	h.env = map[string]string{"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": client, "AZURE_FEDERATED_TOKEN_FILE": h.token}
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

// assert writes a federated token; what is not said is right.
func (h *house) assert(t *testing.T, c testcloud.Claims) {
	t.Helper()
	if c.Subject == "" {
		c.Subject = subject
	}
	if c.Audience == "" {
		c.Audience = testcloud.FederatedAudience
	}
	if c.Expires == 0 {
		c.Expires = h.clock().Add(24 * time.Hour).Unix()
	}
	if err := os.WriteFile(h.token, []byte(h.cluster.Token(c)), 0o600); err != nil {
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

func (h *house) options(o acr.Options) acr.Options {
	if o.Provider == "" {
		o.Provider = acr.WorkloadIdentity
	}
	o.Transport, o.Getenv, o.Clock = h.Transport(), func(k string) string { return h.env[k] }, h.clock
	o.Jitter = func() float64 { return 0 }
	return o
}

func (h *house) source(t *testing.T, o acr.Options) *acr.Source {
	t.Helper()
	if o.Timeout == 0 { // nobody is to be late where a test does not say so
		o.Timeout = testwait.Patience
	}
	s, err := acr.New(h.options(o))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// get asks for a credential of the registry, and holds the error against what is
// always so.
func (h *house) get(t *testing.T, s *acr.Source, at string) (oci.Credential, error) {
	t.Helper()
	c, err := s.Credential(t.Context(), at, "app")
	h.tell(err)
	if err != nil {
		if c != (oci.Credential{}) {
			t.Errorf("a credential beside an error: %v", err)
		}
		text := err.Error()
		if !strings.Contains(text, "azure") || !errors.Is(err, credential.ErrNotForHost) && !strings.Contains(text, at) {
			t.Errorf("the provider or the host is not named: %s", text)
		}
		if strings.ContainsAny(text, "\r\n") || len(text) > 1000 || strings.Contains(text, "Trace ID") {
			t.Errorf("not one short line, the same each time: %s", text)
		}
	} else if c.RefreshToken == "" || c.Expires.IsZero() || c.Username+c.Password+c.AccessToken != "" {
		t.Errorf("not a refresh token with an end alone (%s, %v)", c.Expires, c.RefreshToken != "")
	}
	return c, err
}

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
	return r
}

// exchanges counts those that a host has seen.
func (h *house) exchanges(at string) (n int) {
	for _, r := range h.Requests(at) {
		if r.Path == "/oauth2/exchange" {
			n++
		}
	}
	return n
}

// fixed is a source of one credential.
type fixed struct{ c oci.Credential }

func (f fixed) Credential(context.Context, string, string) (oci.Credential, error) { return f.c, nil }

func reader(text string) io.Reader { return strings.NewReader(text) }

// real reads registries out there.
func real(t *testing.T, s oci.CredentialSource) *oci.Registry {
	t.Helper()
	r, err := oci.NewRegistry(oci.Options{Credentials: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}
