package service_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/serve/tlsfiles"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// victimSecrets is a cluster where the default ServiceAccount of namespace victim has
// a pull Secret.
type victimSecrets struct{ config string }

func (v victimSecrets) Get(_ context.Context, _, namespace, name string) (map[string][]byte, error) {
	if namespace == "victim" && name == "regcred" {
		return map[string][]byte{".dockerconfigjson": []byte(v.config)}, nil
	}
	return nil, boltseal.ErrNotFound
}

func (victimSecrets) PullSecrets(_ context.Context, namespace, _ string) ([]string, error) {
	if namespace == "victim" {
		return []string{"regcred"}, nil
	}
	return nil, boltseal.ErrNotFound
}

func (victimSecrets) Watch(ctx context.Context, _, _, _ string, _ func()) { <-ctx.Done() }

// inVictimsName are the ways in which a registry is read in the name of a namespace.
func inVictimsName(roots []byte) map[string]string {
	cluster := config(roots, policy("prod", ""))
	own := func(auth string) string {
		own := strings.NewReplacer("kind: Store\nmetadata: {name: store}", "kind: NamespacedStore\nmetadata: {name: store, namespace: victim}",
			"kind: Verifier\nmetadata: {name: verifier}", "kind: NamespacedVerifier\nmetadata: {name: verifier, namespace: victim}",
			"kind: KeyManagementProvider\nmetadata: {name: roots}", "kind: NamespacedKeyManagementProvider\nmetadata: {name: roots, namespace: victim}",
			"spec: {name: oras}", "spec: {name: oras, parameters: {"+auth+"}}").Replace(config(roots))
		return config(roots) + "---\n" + own + "---\n" + "apiVersion: boltseal.dev/v1alpha1\nkind: NamespacedImageIntegrityPolicy\nmetadata: {name: own, namespace: victim}\nspec: {}\n"
	}
	return map[string]string{
		"podPullSecrets":                          strings.Replace(cluster, "spec: {name: oras}", "spec: {name: oras, parameters: {authProvider: {name: podPullSecrets}}}", 1),
		"podPullSecrets of a namespace":           own("authProvider: {name: podPullSecrets}"),
		"k8Secrets of a namespace":                own("authProvider: {name: k8Secrets, secrets: [{secretName: regcred}]}"),
		"k8Secrets of a ServiceAccount":           own("authProvider: {name: k8Secrets, serviceAccountName: default}"),
		"several of a namespace, one of Boltseal": own("authProviders: [{name: podPullSecrets}, {name: k8Secrets, secrets: [{secretName: regcred}]}, {name: dockerConfig}]"),
	}
}

// TestNobodyReadsInAnothersName: whoever shows nothing may name any namespace, and
// learns nothing that only its credentials could read. Who has proven to be the API
// server is answered with them.
func TestNobodyReadsInAnothersName(t *testing.T) {
	t.Parallel()
	type asker struct {
		name   string
		set    func(*service.Options, tlsfiles.Files)
		shows  bool // a client certificate
		proven bool // at the webhook
	}
	askers := []asker{
		{name: "nothing is set", set: func(*service.Options, tlsfiles.Files) {}},
		{name: "plain HTTP with a CA that cannot be shown", set: func(o *service.Options, f tlsfiles.Files) { o.TLS = tlsfiles.Files{ClientCA: f.ClientCA} }},
		{name: "TLS alone", set: func(o *service.Options, f tlsfiles.Files) { o.TLS = f; o.TLS.ClientCA = "" }, shows: true},
		{name: "a certificate of the API server's", set: func(o *service.Options, f tlsfiles.Files) { o.TLS, o.AdmissionCA = f, f.ClientCA; o.TLS.ClientCA = "" }, shows: true, proven: true},
		{name: "a certificate of everybody's", set: func(o *service.Options, f tlsfiles.Files) { o.TLS = f }, shows: true, proven: true},
		{name: "a network that is trusted", set: func(o *service.Options, _ tlsfiles.Files) { o.TrustNetwork = true }, proven: true},
	}
	h := testhouse.New(t, testhouse.Options{Registry: testregistry.Options{Basic: &testregistry.BasicOptions{Users: map[string]string{"victim": "secret"}}}})
	tag, pinned := h.Signed("v7-unreleased", h.Signer)
	_, digest, _ := strings.Cut(pinned, "@")
	absent := strings.Replace(tag, "v7-unreleased", "v8", 1)
	auth := base64.StdEncoding.EncodeToString([]byte("victim:secret"))
	objects := victimSecrets{fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, h.Registry.Host, auth)}
	for way, text := range inVictimsName(h.Signer.Root().PEM()) {
		for _, who := range askers {
			t.Run(way+"/"+who.name, func(t *testing.T) {
				t.Parallel()
				d := t.TempDir()
				f := tlsfiles.Files{Cert: filepath.Join(d, "tls.crt"), Key: filepath.Join(d, "tls.key"), ClientCA: filepath.Join(d, "ca.crt")}
				client := certificate(t, x509.ExtKeyUsageClientAuth)
				writeTLS(t, f, certificate(t, x509.ExtKeyUsageServerAuth), client)
				log := &lockedBuffer{}
				o := service.Options{Keys: keys.Env{Objects: objects}, Log: slog.New(slog.NewTextHandler(log, nil))}
				who.set(&o, f)
				r := startWith(t, h, o, text)
				if who.shows {
					r.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, //nolint:gosec // who asks is what matters here
						Certificates: []tls.Certificate{{Certificate: client.Raw(), PrivateKey: client.Leaf().Key}}}}}
				}
				if code, s := r.ready(); code != 200 {
					t.Fatal(s)
				}
				patch := string(r.review(server.PathPin, pod("victim", tag)).Patch)
				answer, none := r.validate("victim", pinned), r.validate("victim", absent)
				if who.proven {
					if !strings.Contains(patch, digest) || !answer.Allowed {
						t.Errorf("the API server is not answered: patch %q, %+v", patch, answer.Result)
					}
					if strings.Contains(log.String(), "not used at the admission webhook") {
						t.Error("a warning that is not true: " + log.String())
					}
					return
				}
				if strings.Contains(patch, digest) || answer.Allowed {
					t.Errorf("a stranger learns what only victim may read: patch %q, %+v", patch, answer.Result)
				}
				message := answer.Result.Message
				if !strings.Contains(message, "nothing proves to Boltseal who asks") || !strings.Contains(message, "--admission-client-ca") {
					t.Errorf("it does not say what to do: %s", message)
				}
				if !strings.Contains(none.Result.Message, "not authorized") {
					t.Errorf("absent tags are told apart: %s\n%s", none.Result.Message, message)
				}
				if !strings.Contains(log.String(), "not used at the admission webhook") {
					t.Errorf("no warning: %s", log.String())
				}
				// Gatekeeper's provider is the same door.
				if it := r.gatekeeper(server.PathVerify, "[victim]"+tag)[0]; it.trusted() || strings.Contains(string(it.Value)+it.Error, digest) {
					t.Errorf("Gatekeeper's provider tells it: %s %s", it.Value, it.Error)
				}
				if it := r.gatekeeper(server.PathMutate, "[victim]"+tag)[0]; strings.Contains(string(it.Value), digest) {
					t.Errorf("Gatekeeper's mutation tells it: %s", it.Value)
				}
			})
		}
	}
}
