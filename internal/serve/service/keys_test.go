package service_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testcloud"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

const (
	vaultHost  = "acme.vault.azure.net"
	vaultTeam  = "00000000-0000-4000-8000-00000000000a"
	vaultUser  = "00000000-0000-4000-8000-00000000000c"
	kubernetes = "system:serviceaccount:boltseal-system:boltseal"
)

// cloud is one with a vault that the service's workload identity may read.
type cloud struct {
	*testcloud.Cloud
	vault *testcloud.KeyVault
	env   keys.Env
	log   lockedBuffer
}

func newCloud(t testing.TB) *cloud {
	t.Helper()
	c := &cloud{Cloud: testcloud.Start(t, nil)}
	entra, cluster := c.Entra(t, testcloud.EntraPublic), testcloud.NewIssuer(t, "https://oidc.example/cluster")
	entra.Add(vaultTeam, vaultUser, testcloud.App{Federated: []testcloud.Federated{{Issuer: cluster, Subject: kubernetes}}})
	c.vault = entra.KeyVault(vaultHost, vaultTeam)
	c.vault.Grant(vaultUser, testcloud.SecretsGet, testcloud.CertificatesGet, testcloud.CertificatesList)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(cluster.Token(testcloud.Claims{Subject: kubernetes, Audience: testcloud.FederatedAudience, Expires: time.Now().Add(time.Hour).Unix()})), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"AZURE_TENANT_ID": vaultTeam, "AZURE_CLIENT_ID": vaultUser, "AZURE_FEDERATED_TOKEN_FILE": token}
	c.env = keys.Env{Transport: c.Transport(), Getenv: func(k string) string { return env[k] }}
	return c
}

func (c *cloud) options() service.Options {
	return service.Options{Keys: c.env, Log: slog.New(slog.NewTextHandler(&c.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
}

// leaks fails where a secret was told anywhere.
func (c *cloud) leaks(t *testing.T, r *running) {
	t.Helper()
	_, metrics := r.get(r.scrape + "/metrics")
	_, ready := r.ready()
	told := c.log.String() + r.audit.String() + metrics + ready
	if len(c.Secrets()) == 0 {
		t.Error("no secret was noted: the search found nothing to look for")
	}
	for _, s := range c.Secrets() {
		if strings.Contains(told, s) {
			t.Errorf("a secret was told: %.12s…", s)
		}
	}
}

// vaultConfig trusts what a vault has under a name; more are further documents.
func vaultConfig(spec string, more ...string) string {
	text := config([]byte("x"), more...)
	from, to := strings.Index(text, "  type: inline"), strings.Index(text, "---")
	return text[:from] + spec + text[to:]
}

func vaultSpec(interval string) string {
	return "  type: azurekeyvault\n  refreshInterval: " + interval + "\n  parameters:\n    vaultURI: https://" + vaultHost + "/\n    certificates: [{name: signing, versionHistoryLimit: 2}]\n"
}

// TestVaultRotation: what was signed yesterday and what is signed today are both
// trusted after the interval, while others verify; then the old version goes.
func TestVaultRotation(t *testing.T) {
	t.Parallel()
	c, h := newCloud(t), testhouse.New(t, testhouse.Options{})
	old := c.vault.Add("signing", testcloud.Version{Chain: h.Signer.X509()})
	r := startWith(t, h, c.options(), vaultConfig(vaultSpec("1s")))
	mine, _ := h.Signed("mine", h.Signer)
	theirs := h.Registry.PushImage(testhouse.Repo, "theirs", 0)
	h.Registry.Sign(testhouse.Repo, theirs, h.Stranger, testca.SignOptions{})
	both := []string{mine, h.Registry.Ref(testhouse.Repo, "theirs")}
	verdicts := func() string {
		items := r.gatekeeper(server.PathVerify, both...)
		return fmt.Sprint(items[0].trusted(), items[1].trusted())
	}
	eventually(t, "the first version is in force", func() bool { code, _ := r.ready(); return code == 200 && verdicts() == "true false" })
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if items := r.gatekeeper(server.PathVerify, mine); !items[0].trusted() {
					t.Errorf("denied during a rotation: %s", items[0].Error)
					return
				}
			}
		})
	}
	c.vault.Add("signing", testcloud.Version{Chain: h.Stranger.X509()})
	eventually(t, "both versions are in force", func() bool { return verdicts() == "true true" })
	close(stop)
	wg.Wait()
	c.vault.Change("signing", old, func(v *testcloud.Version) { v.Disabled = true })
	eventually(t, "the old version is not in force any more", func() bool { return verdicts() == "false true" })
	c.leaks(t, r)
}

// TestVaultDown: at the start nothing is known, and the provider is named; later
// what was fetched stays in force.
func TestVaultDown(t *testing.T) {
	t.Parallel()
	c, h := newCloud(t), testhouse.New(t, testhouse.Options{})
	c.vault.Add("signing", testcloud.Version{Chain: h.Signer.X509()})
	c.Cut(vaultHost)
	r := startWith(t, h, c.options(), vaultConfig(vaultSpec("1s"), policy("allow-outages", "onUnavailable: {action: allow}")))
	mine, _ := h.Signed("mine", h.Signer)
	eventually(t, "it answers", func() bool { code, _ := r.ready(); return code == 200 })
	item := r.gatekeeper(server.PathVerify, mine)[0]
	if text := item.Error + string(item.Value); item.trusted() || !strings.Contains(text, "lacks certificates of roots") || !strings.Contains(text, vaultHost) {
		t.Errorf("%s", text)
	}
	// A vault that does not answer is no registry that does not: nobody who allows
	// the second allows the first.
	if resp := r.validate("prod", mine); resp.Allowed || !strings.Contains(resp.Result.Message, "lacks certificates of roots") {
		t.Errorf("%+v", resp)
	}
	c.Mend(vaultHost)
	eventually(t, "the certificates are in force", func() bool { return r.gatekeeper(server.PathVerify, mine)[0].trusted() })
	c.Refuse(vaultHost, -1, 503, "")
	failures := `boltseal_key_provider_failures{provider="KeyManagementProvider roots"}`
	eventually(t, "it fails", func() bool { v := r.metric(failures); return v != "" && v != "0" })
	if item := r.gatekeeper(server.PathVerify, mine)[0]; !item.trusted() {
		t.Errorf("what was fetched is not in force any more: %s%s", item.Error, item.Value)
	}
	if v := r.metric(`boltseal_key_provider_age_seconds{provider="KeyManagementProvider roots"}`); v == "" {
		t.Error("its age is not told")
	}
	c.leaks(t, r)
}

// TestCertificateFile: a file is in force as soon as it has changed, and what
// cannot be read changes nothing.
func TestCertificateFile(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	path := filepath.Join(t.TempDir(), "ca.pem")
	write := func(b []byte) {
		if err := os.WriteFile(path+".new", b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write(h.Stranger.Root().PEM())
	r := startWith(t, h, service.Options{}, vaultConfig("  type: file\n  parameters: {paths: [\""+path+"\"]}\n"))
	mine, _ := h.Signed("mine", h.Signer)
	trusted := func() bool {
		code, _ := r.ready()
		return code == 200 && r.gatekeeper(server.PathVerify, mine)[0].trusted()
	}
	eventually(t, "it answers", func() bool { code, _ := r.ready(); return code == 200 })
	if trusted() {
		t.Fatal("trusted by a stranger")
	}
	write(h.Signer.Root().PEM())
	eventually(t, "the file is in force", trusted)
	failures := func() string {
		return r.metric(`boltseal_key_provider_failures{provider="KeyManagementProvider roots"}`)
	}
	write([]byte("-----BEGIN CERTIFICATE-----\n"))
	eventually(t, "the file is refused", func() bool { return failures() != "0" })
	if !trusted() {
		t.Error("a file that cannot be read took away what it held")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(h.Stranger.Root().PEM())
	eventually(t, "the file is in force again", func() bool { return !trusted() && failures() == "0" })
}
