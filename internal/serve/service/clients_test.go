package service_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/serve/tlsfiles"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

// TestAdmissionClients demands a certificate of whoever asks as the API server, and
// of nobody else, by a file that is watched.
func TestAdmissionClients(t *testing.T) {
	t.Parallel()
	d := t.TempDir()
	f := tlsfiles.Files{Cert: filepath.Join(d, "tls.crt"), Key: filepath.Join(d, "tls.key"), ClientCA: filepath.Join(d, "api.crt")}
	serving, first, second := certificate(t, x509.ExtKeyUsageServerAuth), certificate(t, x509.ExtKeyUsageClientAuth), certificate(t, x509.ExtKeyUsageClientAuth)
	writeTLS(t, f, serving, first)
	admission := f.ClientCA
	f.ClientCA = ""
	r := start(t, testhouse.Options{}, service.Options{TLS: f, AdmissionCA: admission}, policy("prod", ""))
	roots := x509.NewCertPool()
	roots.AddCert(serving.Root().Certificate)
	status := func(c *testca.Chain, path string) int {
		t.Helper()
		cfg := &tls.Config{RootCAs: roots}
		if c != nil {
			cfg.Certificates = []tls.Certificate{{Certificate: c.Raw(), PrivateKey: c.Leaf().Key}}
		}
		hc := &http.Client{Timeout: testwait.Patience, Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}}
		resp, err := hc.Post(r.base+path, "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	for _, path := range []string{server.PathValidate, server.PathPin} {
		for c, want := range map[*testca.Chain]int{nil: 401, first: 400, second: 401} {
			if got := status(c, path); got != want {
				t.Errorf("%s: %d, want %d", path, got, want)
			}
		}
	}
	for _, path := range []string{server.PathVerify, server.PathMutate} {
		for _, c := range []*testca.Chain{nil, first, second} {
			if got := status(c, path); got != 200 {
				t.Errorf("%s: %d", path, got)
			}
		}
	}
	if err := os.WriteFile(admission, second.Root().PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new CA", func() bool { return status(second, server.PathValidate) == 400 })
	if got := status(first, server.PathValidate); got != 400 {
		t.Errorf("the CA before is forgotten at once: %d", got)
	}
}

func TestWhoMayAskIsSaidOnce(t *testing.T) {
	t.Parallel()
	d := t.TempDir()
	f := tlsfiles.Files{Cert: filepath.Join(d, "tls.crt"), Key: filepath.Join(d, "tls.key"), ClientCA: filepath.Join(d, "ca.crt")}
	writeTLS(t, f, certificate(t, x509.ExtKeyUsageServerAuth), certificate(t, x509.ExtKeyUsageClientAuth))
	cluster := func(gatekeeper string) *service.ClusterOptions {
		return &service.ClusterOptions{Config: &rest.Config{Host: "https://127.0.0.1:1"}, Namespace: "boltseal-system", Identity: "x",
			Webhook: service.WebhookOptions{Service: "boltseal", Port: 6001}, GatekeeperCA: types.NamespacedName{Namespace: "gatekeeper-system", Name: gatekeeper}}
	}
	for words, o := range map[string]service.Options{
		"--client-ca is for whoever asks, --admission-client-ca":  {TLS: f, AdmissionCA: f.ClientCA, Files: []string{"none"}},
		"without TLS nobody can show a client certificate":        {InsecureHTTP: true, AdmissionCA: f.ClientCA, Files: []string{"none"}},
		"--client-ca is for whoever asks, --gatekeeper-ca-secret": {TLS: f, Cluster: cluster("ca")},
		"--tls-ca is for a cluster":                               {TLS: f, BundleFile: f.ClientCA, Files: []string{"none"}},
		"lifetimes of certificates":                               {Cluster: withServing(cluster(""))},
	} {
		o.Listen = "127.0.0.1:0"
		if s, err := service.New(o); !errors.Is(err, boltseal.ErrConfiguration) || !strings.Contains(err.Error(), words) || s != nil {
			t.Errorf("%q: %v", words, err)
		}
	}
	for _, content := range []string{"", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		bundle := filepath.Join(t.TempDir(), "bundle.crt")
		if err := os.WriteFile(bundle, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		files := f
		files.ClientCA = ""
		if _, err := service.New(service.Options{TLS: files, BundleFile: bundle, Cluster: cluster(""), Listen: "127.0.0.1:0"}); err == nil || !strings.Contains(err.Error(), bundle) {
			t.Errorf("%q is a bundle: %v", content, err)
		}
	}
}

func withServing(o *service.ClusterOptions) *service.ClusterOptions {
	o.Serving = &service.ServingOptions{Secret: "boltseal-serving"}
	o.Serving.Lifetimes.Certificate = time.Second
	return o
}

// TestLeavingIsSaid: whoever asks a server that is stopping is told to ask another the next time.
func TestLeavingIsSaid(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{Grace: leaving}, policy("prod", ""))
	closes := func() bool {
		t.Helper()
		resp, err := r.client.Post(r.base+server.PathVerify, "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.Close
	}
	if closes() {
		t.Error("a server that stays closes connections")
	}
	go func() { _ = r.stop() }() // its error is seen to in the end
	eventually(t, "connections are closed after an answer", closes)
}
