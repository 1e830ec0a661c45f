package keyvault_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/cloud/azure/keyvault"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testcloud"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

const (
	tenant      = "00000000-0000-4000-8000-00000000000a"
	otherTenant = "00000000-0000-4000-8000-00000000000b"
	client      = "00000000-0000-4000-8000-00000000000c"
	subject     = "system:serviceaccount:boltseal-system:boltseal"
	vaultHost   = "acme.vault.azure.net"
)

// house is a cloud with a vault that Boltseal's workload identity may read.
type house struct {
	*testcloud.Cloud
	entra   *testcloud.Entra
	vault   *testcloud.KeyVault
	cluster *testcloud.Issuer
	token   string // path of the federated token
	env     map[string]string

	mu   sync.Mutex
	told bytes.Buffer // all errors and log lines
}

func newHouse(t *testing.T) *house {
	t.Helper()
	c := testcloud.Start(t, nil)
	h := &house{Cloud: c, entra: c.Entra(t, testcloud.EntraPublic), cluster: testcloud.NewIssuer(t, "https://oidc.example/cluster")}
	h.vault = h.entra.KeyVault(vaultHost, tenant)
	h.entra.Add(tenant, client, testcloud.App{Federated: []testcloud.Federated{{Issuer: h.cluster, Subject: subject}}})
	h.entra.Add(otherTenant, client, testcloud.App{Federated: []testcloud.Federated{{Issuer: h.cluster, Subject: subject}}})
	h.vault.Grant(client, testcloud.CertificatesGet, testcloud.CertificatesList, testcloud.SecretsGet, testcloud.KeysGet, testcloud.KeysList)
	h.token = filepath.Join(t.TempDir(), "token")
	h.assert(t, testcloud.Claims{})
	h.env = map[string]string{"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": client, "AZURE_FEDERATED_TOKEN_FILE": h.token}
	t.Cleanup(func() { h.leaks(t) })
	return h
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
		c.Expires = time.Now().Add(time.Hour).Unix()
	}
	if err := os.WriteFile(h.token, []byte(h.cluster.Token(c)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// leaks fails where anything that was told holds a secret.
func (h *house) leaks(t *testing.T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	told := h.told.String()
	for _, secret := range h.Secrets() {
		if strings.Contains(told, secret) {
			t.Errorf("a secret was told: %.12s…", secret)
		}
		for part := range strings.SplitSeq(secret, ".") {
			if len(part) > 20 && strings.Contains(told, part) {
				t.Errorf("a part of a secret was told: %.12s…", part)
			}
		}
	}
}

// Write takes in a log line.
func (h *house) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.told.Write(p)
}

func (h *house) keysEnv() keys.Env {
	return keys.Env{Transport: h.Transport(), Getenv: func(k string) string { return h.env[k] }}
}

func (h *house) open(t *testing.T, p keyvault.Parameters) keys.Provider {
	t.Helper()
	if p.VaultURI == "" {
		p.VaultURI = "https://" + vaultHost + "/"
	}
	if ps := p.Check(""); len(ps) > 0 {
		t.Fatalf("%+v", ps)
	}
	v, err := p.Open(h.keysEnv(), "")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (h *house) fetch(t *testing.T, v keys.Provider) []keys.Group {
	t.Helper()
	groups, err := v.Fetch(testwait.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		fmt.Fprintln(h, g.Err, g.Problem, g.Items)
	}
	return groups
}

func (h *house) want(p keyvault.Parameters, interval time.Duration) keys.Want {
	p.VaultURI = "https://" + vaultHost
	return keys.Want{ID: "one", Resource: "KeyManagementProvider akv", Parameters: p, Interval: interval}
}

// refresher runs one provider.
func (h *house) refresher(t *testing.T, w keys.Want) *keys.Refresher {
	t.Helper()
	r := keys.NewRefresher(keys.Options{Env: h.keysEnv(), Changed: func() {}, Log: slog.New(slog.NewTextHandler(h, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	t.Cleanup(r.Close)
	r.Use([]keys.Want{w})
	return r
}

// until waits for a state.
func until(t *testing.T, r *keys.Refresher, w keys.Want, what string, ok func(keys.State) bool) keys.State {
	t.Helper()
	var st keys.State
	testwait.Until(t, what, func() bool {
		st = r.State(w)
		return ok(st)
	})
	return st
}

// named is an entry with all its defaults.
func named(name string) []keyvault.Entry { return []keyvault.Entry{{Name: name}} }

func uses(g keys.Group) string {
	var out []string
	for _, it := range g.Items {
		out = append(out, string(it.Use))
	}
	return strings.Join(out, " ")
}

func has(certs []keys.Group, c *testca.Cert) bool {
	return slices.ContainsFunc(keys.NewContent(certs).Certificates(), c.Certificate.Equal)
}

func status(g keys.Group) int {
	if e, ok := g.Err.(*keys.Error); ok {
		return e.Status
	}
	return 0
}

const forbidden = http.StatusForbidden
