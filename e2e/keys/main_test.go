// Package keys tests on a real control plane where certificates come from: Secrets, ConfigMaps, and a vault in a cloud that is faked.
package keys

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/internal/test/testcloud"
)

const (
	vaultHost = "acme.vault.azure.net"
	tenant    = "00000000-0000-4000-8000-00000000000a"
	identity  = "00000000-0000-4000-8000-00000000000c"
	subject   = "system:serviceaccount:boltseal-system:boltseal"
)

var (
	cluster  *kit.Cluster
	boltseal *product.Server
	cloud    *testcloud.Cloud
	vault    *testcloud.KeyVault
	caller   tls.Certificate // which Boltseal asks for
)

// asking is a client with the certificate that Boltseal asks for.
func asking() *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(boltseal.CA)
	return &http.Client{Timeout: await.Limit, Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{caller}, MinVersion: tls.VersionTLS12}}}
}

// process is the whole test, as testcloud knows one.
type process struct{ ends []func() }

func (p *process) Helper()          {}
func (p *process) Cleanup(f func()) { p.ends = append(p.ends, f) }
func (p *process) Fatalf(format string, a ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", a...)
	os.Exit(1)
}

func TestMain(m *testing.M) {
	run := func() int {
		p := &process{}
		defer func() {
			for _, f := range p.ends {
				f()
			}
		}()
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		if err := install(ctx, p); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}
	os.Exit(kit.Main(run, kit.Options{}, &cluster))
}

// install starts a cloud, and Boltseal with the identity of a Pod there.
func install(ctx context.Context, p *process) error {
	cloud = testcloud.Start(p, nil)
	entra, issuer := cloud.Entra(p, testcloud.EntraPublic), testcloud.NewIssuer(p, "https://oidc.example/cluster")
	entra.Add(tenant, identity, testcloud.App{Federated: []testcloud.Federated{{Issuer: issuer, Subject: subject}}})
	vault = entra.KeyVault(vaultHost, tenant)
	vault.Grant(identity, testcloud.CertificatesGet, testcloud.CertificatesList, testcloud.SecretsGet)
	token, ca := filepath.Join(cluster.Dir(), "federated"), filepath.Join(cluster.Dir(), "cloud.pem")
	claims := testcloud.Claims{Subject: subject, Audience: testcloud.FederatedAudience, Expires: time.Now().Add(time.Hour).Unix()}
	if err := os.WriteFile(token, []byte(issuer.Token(claims)), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(ca, cloud.CAPEM(), 0o600); err != nil {
		return err
	}
	binary, err := product.Build(ctx, cluster.Dir())
	if err != nil {
		return err
	}
	if err := product.Install(ctx, cluster, binary); err != nil {
		return err
	}
	// The Pod's environment, and the way to the fakes. Loopback needs no proxy.
	for k, v := range map[string]string{"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": identity, "AZURE_FEDERATED_TOKEN_FILE": token,
		"HTTPS_PROXY": cloud.Proxy(p), "SSL_CERT_FILE": ca} {
		if err := os.Setenv(k, v); err != nil {
			return err
		}
	}
	// Who asks is known, or nothing would be read in a namespace's name.
	callers, err := kit.NewCA("callers", nil)
	if err != nil {
		return err
	}
	pair, err := callers.Issue(kit.ForClient, pkix.Name{CommonName: "the tests"})
	if err != nil {
		return err
	}
	if caller, err = tls.X509KeyPair(pair.Cert, pair.Key); err != nil {
		return err
	}
	if boltseal, err = product.Start(ctx, cluster, binary, product.Options{ClientCA: callers.PEM()}); err != nil {
		return err
	}
	return boltseal.Ready(ctx)
}

func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	await.Until(t, what, f, func() string {
		log, _ := os.ReadFile(boltseal.Process.LogFile())
		return string(log[max(0, len(log)-3000):])
	})
}

// verdict asks as Gatekeeper does.
func verdict(key string) (trusted bool, text string, err error) {
	c := asking()
	q, err := json.Marshal(map[string]any{"apiVersion": "externaldata.gatekeeper.sh/v1beta1", "kind": "ProviderRequest", "request": map[string]any{"keys": []string{key}}})
	if err != nil {
		return false, "", err
	}
	resp, err := c.Post(boltseal.URL+"/ratify/gatekeeper/v1/verify", "application/json", bytes.NewReader(q))
	if err != nil {
		return false, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	var a struct {
		Response struct {
			Items []struct {
				Value json.RawMessage
				Error string
			}
		}
	}
	if err != nil || json.Unmarshal(b, &a) != nil || len(a.Response.Items) != 1 {
		return false, "", fmt.Errorf("HTTP %d: %s: %w", resp.StatusCode, b, err)
	}
	item := a.Response.Items[0]
	var v struct{ IsSuccess bool }
	_ = json.Unmarshal(item.Value, &v)
	return v.IsSuccess, item.Error + string(item.Value), nil
}

func becomes(t testing.TB, key string, trusted bool) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s is trusted: %t", key, trusted), func() error {
		got, text, err := verdict(key)
		if err == nil && got != trusted {
			err = fmt.Errorf("%t: %s", got, text)
		}
		return err
	})
}

func apply(t testing.TB, docs ...string) {
	t.Helper()
	if err := cluster.Apply(t.Context(), docs...); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, docs ...string) {
	t.Helper()
	if err := cluster.Delete(context.Background(), docs...); err != nil {
		t.Error(err)
	}
}

// status is what stands in a provider's status.
type status struct {
	IsSuccess       bool
	Error           string
	LastFetchedTime *metav1.Time
	Properties      struct {
		Count          int
		EarliestExpiry *metav1.Time
		Certificates   []struct{ Name, Version, Subject string }
		Items          []struct{ Name, Version, Use, Why string }
	}
	Conditions []metav1.Condition
}

// stands waits until a provider's status is as it is wanted.
func stands(t testing.TB, kind, namespace, name, what string, ok func(status) bool) (st status) {
	t.Helper()
	eventually(t, kind+" "+name+": "+what, func() error {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(schema.GroupVersionKind{Group: "config.ratify.deislabs.io", Version: "v1beta1", Kind: kind})
		if err := cluster.Client().Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, u); err != nil {
			return err
		}
		b, err := json.Marshal(u.Object["status"])
		if err != nil {
			return err
		}
		st = status{}
		if err := json.Unmarshal(b, &st); err != nil {
			return err
		}
		ready := meta.FindStatusCondition(st.Conditions, "Ready")
		if ready == nil || ready.ObservedGeneration != u.GetGeneration() || !ok(st) {
			return fmt.Errorf("status %s", b)
		}
		return nil
	})
	return st
}

// event waits for an event about a resource.
func event(t testing.TB, name, reason, part string) {
	t.Helper()
	eventually(t, "an event "+reason+" about "+name, func() error {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "EventList"})
		if err := cluster.Client().List(t.Context(), list); err != nil {
			return err
		}
		var all []string
		for _, e := range list.Items {
			about, _, _ := unstructured.NestedString(e.Object, "involvedObject", "name")
			message, _, _ := unstructured.NestedString(e.Object, "message")
			if about == name && e.Object["reason"] == reason && strings.Contains(message, part) {
				return nil
			}
			all = append(all, fmt.Sprint(about, " ", e.Object["reason"], " ", message))
		}
		return fmt.Errorf("events: %q", all)
	})
}
