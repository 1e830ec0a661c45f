package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/kit"
)

// provider points at a URL, with a CA that is not that of what answers there.
func provider(t *testing.T, name, url string) string {
	t.Helper()
	ca, err := kit.NewCA("nobody", nil)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`
apiVersion: externaldata.gatekeeper.sh/v1beta1
kind: Provider
metadata: {name: %s}
spec: {url: "%s/ratify/gatekeeper/v1/verify", timeout: 3, caBundle: %s}
`, name, url, base64.StdEncoding.EncodeToString(ca.PEM()))
}

func caBundle(ctx context.Context, name string) (string, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.GroupVersionKind{Group: "externaldata.gatekeeper.sh", Version: "v1beta1", Kind: "Provider"})
	if err := cluster.Client().Get(ctx, client.ObjectKey{Name: name}, u); err != nil {
		return "", err
	}
	text, _, err := unstructured.NestedString(u.Object, "spec", "caBundle")
	b, _ := base64.StdEncoding.DecodeString(text)
	return string(b), err
}

// ask posts to a path of the service with a client certificate, if one is given, and returns the status.
func ask(t *testing.T, path string, pair *kit.KeyPair) (int, string) {
	t.Helper()
	s, err := secret(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: serverName}
	config.RootCAs.AppendCertsFromPEM(s.Data["ca.crt"])
	if pair != nil {
		cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	c := &http.Client{Timeout: await.Limit, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	resp, err := c.Post(fmt.Sprintf("https://localhost:%d%s", front.port(), path), "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// showCA puts a CA where Gatekeeper keeps that of its certificate, beside its keys.
func showCA(t *testing.T, ca []byte) {
	t.Helper()
	if err := cluster.Apply(t.Context(), fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: gatekeeper-webhook-server-cert, namespace: gatekeeper-system}
data: {ca.crt: %s}
stringData: {ca.key: not for Boltseal}`, base64.StdEncoding.EncodeToString(ca))); err != nil {
		t.Fatal(err)
	}
}

func clientPair(t *testing.T, ca *kit.CA) *kit.KeyPair {
	t.Helper()
	pair, err := ca.Issue(kit.ForBoth, pkix.Name{CommonName: "gatekeeper-webhook-service.gatekeeper-system.svc"}, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return &pair
}

// TestGatekeeper begins without Gatekeeper, and has certificates checked both ways once it is there.
func TestGatekeeper(t *testing.T) {
	const verify, validate = "/ratify/gatekeeper/v1/verify", "/admission/validate"
	settled(t)
	ctx := t.Context()
	if status, text := ask(t, verify, nil); status != http.StatusUnauthorized || !strings.Contains(text, "gatekeeper-system/gatekeeper-webhook-server-cert") {
		t.Errorf("before there is a Gatekeeper: %d %s", status, text)
	}
	gk, err := cluster.StartGatekeeper(ctx, kit.GatekeeperOptions{FailurePolicy: "Fail", AuditInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := gk.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	pair := &kit.KeyPair{}
	for name, to := range map[string]*[]byte{"tls.crt": &pair.Cert, "tls.key": &pair.Key} {
		if *to, err = os.ReadFile(filepath.Join(gk.CertDir(), name)); err != nil {
			t.Fatal(err)
		}
	}
	showCA(t, gk.ClientCA())
	eventually(t, "Gatekeeper's certificate lets in", func() error {
		for range 4 { // both replicas
			if status, text := ask(t, verify, pair); status != http.StatusOK {
				return fmt.Errorf("%d %s", status, text)
			}
		}
		return nil
	})
	stranger, err := kit.NewCA("stranger", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range []*kit.KeyPair{nil, clientPair(t, stranger)} {
		if status, text := ask(t, verify, pair); status != http.StatusUnauthorized {
			t.Errorf("not Gatekeeper's certificate: %d %s", status, text)
		}
		// The API server shows none, or one of its own.
		if status, text := ask(t, validate, pair); status != http.StatusBadRequest {
			t.Errorf("what the API server asks: %d %s", status, text)
		}
	}

	template, err := os.ReadFile("../../charts/boltseal/gatekeeper/template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	here, elsewhere := fmt.Sprintf("https://localhost:%d", front.port()), "https://ratify.gatekeeper-system:6001"
	if err := gk.Apply(ctx, provider(t, "ratify-provider", here), provider(t, "ratify-mutation-provider", elsewhere), string(template)); err != nil {
		t.Fatal(err)
	}
	others, err := caBundle(ctx, "ratify-mutation-provider")
	if err != nil {
		t.Fatal(err)
	}
	injected := func() error {
		s, err := secret(ctx)
		if err != nil {
			return err
		}
		have, err := caBundle(ctx, "ratify-provider")
		return want(err == nil && have == string(s.Data["ca.crt"]), "caBundle %q, %v", have, err)
	}
	eventually(t, "the Provider gets the CAs", injected)
	if err := gk.Apply(ctx, provider(t, "ratify-provider", here)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the Provider gets the CAs again", injected)
	if now, err := caBundle(ctx, "ratify-mutation-provider"); err != nil || now != others {
		t.Errorf("a Provider that points elsewhere was changed: %v", err)
	}

	ns, err := cluster.Namespace(ctx, "gatekeeper", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := gk.Apply(ctx, fmt.Sprintf(`
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: BoltsealTrustedImages
metadata: {name: all}
spec: {match: {kinds: [{apiGroups: [""], kinds: [Pod]}], namespaces: [%s]}, parameters: {allowTags: true}}`, ns)); err != nil {
		t.Fatal(err)
	}
	signed, _ := image("signed", signer)
	unsigned, _ := image("unsigned")
	eventually(t, "Gatekeeper admits a signed image", func() error {
		return cluster.Client().Create(ctx, pod(ns, "signed", signed), client.DryRunAll)
	})
	if err := cluster.Client().Create(ctx, pod(ns, "unsigned", unsigned)); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "validation.gatekeeper.sh") {
		t.Errorf("an unsigned image: %v", err)
	}

	// Gatekeeper's CA changes in the Secret first, and in Gatekeeper's Pods when its mounted files follow.
	stop := load(t, 4, ns, signed)
	second, err := kit.NewCA("gatekeeper-2", nil)
	if err != nil {
		t.Fatal(err)
	}
	pair = clientPair(t, second)
	trustGatekeeper(t, append(gk.ClientCA(), second.PEM()...)) // its certificate is also that of its webhook
	showCA(t, second.PEM())
	eventually(t, "the new certificate lets in", func() error {
		for range 4 {
			if status, text := ask(t, verify, pair); status != http.StatusOK {
				return fmt.Errorf("%d %s", status, text)
			}
		}
		return nil
	})
	useCertificate(t, gk, second, pair)
	// And while both sides renew, so does Boltseal its own.
	renew(t, "certificate")
	time.Sleep(3 * time.Second) // waits: the load goes on beside the renewal; a slow machine makes fewer requests
	t.Logf("%d creates by Gatekeeper's leave while its CA changed", stop())
	logs := []byte(nil)
	for _, r := range standing {
		b, err := os.ReadFile(cluster.LogFile(r.name))
		if err != nil {
			t.Fatal(err)
		}
		logs = append(logs, b...)
	}
	if bytes.Contains(logs, []byte("not for Boltseal")) {
		t.Error("a log has something of Gatekeeper's Secret")
	}
}

// trustGatekeeper has the API server trust CAs of Gatekeeper's webhook.
func trustGatekeeper(t *testing.T, bundle []byte) {
	t.Helper()
	config := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	if err := cluster.Client().Get(t.Context(), client.ObjectKey{Name: "gatekeeper-validating-webhook-configuration"}, config); err != nil {
		t.Fatal(err)
	}
	for i := range config.Webhooks {
		config.Webhooks[i].ClientConfig.CABundle = bundle
	}
	if err := cluster.Client().Update(t.Context(), config); err != nil {
		t.Fatal(err)
	}
}

// useCertificate has Gatekeeper show another client certificate.
func useCertificate(t *testing.T, gk *kit.Gatekeeper, ca *kit.CA, pair *kit.KeyPair) {
	t.Helper()
	for name, data := range map[string][]byte{"ca.crt": ca.PEM(), "tls.crt": pair.Cert, "tls.key": pair.Key} {
		tmp := filepath.Join(gk.CertDir(), name+".new")
		if err := os.WriteFile(tmp, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(gk.CertDir(), name)); err != nil {
			t.Fatal(err)
		}
	}
}
