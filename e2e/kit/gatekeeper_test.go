package kit

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// gatekeeper starts the one Gatekeeper of the shared cluster.
var gatekeeper = sync.OnceValues(func() (*Gatekeeper, error) {
	return cluster.StartGatekeeper(context.Background(), GatekeeperOptions{})
})

const latestTemplate = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: nolatest}
spec:
  crd: {spec: {names: {kind: NoLatest}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package nolatest
      violation[{"msg": msg}] {
        image := input.review.object.spec.containers[_].image
        endswith(image, ":latest")
        msg := sprintf("image %v has tag latest", [image])
      }
`

const constraint = `
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: %[1]s
metadata: {name: %[2]s}
spec:
  enforcementAction: %[3]s
  match:
    kinds: [{apiGroups: [""], kinds: [Pod]}]
    namespaces: [%[2]s]
`

const pod = `
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s}
spec:
  containers: [{name: app, image: "%s"}]
`

func TestGatekeeperDeniesAndAudits(t *testing.T) {
	t.Parallel()
	gk := startGatekeeper(t)
	ns := namespace(t)
	bad := fmt.Sprintf(pod, "before", ns, "registry.example/app:latest")
	if err := cluster.Apply(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	if err := gk.Apply(t.Context(), fmt.Sprintf(constraint, "NoLatest", ns, "deny"), latestTemplate); err != nil {
		t.Fatal(err)
	}
	err := cluster.Apply(t.Context(), fmt.Sprintf(pod, "after", ns, "registry.example/app:latest"))
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "image registry.example/app:latest has tag latest") {
		t.Errorf("a pod that breaks the constraint: %v", err)
	}
	if err := cluster.Apply(t.Context(), fmt.Sprintf(pod, "good", ns, "registry.example/app:1")); err != nil {
		t.Errorf("a pod that keeps the constraint: %v", err)
	}
	eventually(t, "the audit to list the pod that was there before", audited("NoLatest", ns, "before"))
	if err := gk.Apply(t.Context(), fmt.Sprintf(constraint, "NoLatest", ns, "dryrun")); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Apply(t.Context(), fmt.Sprintf(pod, "dry", ns, "registry.example/app:latest")); err != nil {
		t.Errorf("a pod that breaks a dryrun constraint: %v", err)
	}
}

func TestTemplateThatDoesNotCompile(t *testing.T) {
	t.Parallel()
	gk := startGatekeeper(t)
	broken := strings.NewReplacer("nolatest", "broken", "NoLatest", "Broken", "endswith(image", "endswith(nothing").Replace(latestTemplate)
	if err := gk.Apply(t.Context(), broken); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("got %v", err)
	}
}

const providerTemplate = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: asksprovider}
spec:
  crd: {spec: {names: {kind: AsksProvider}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package asksprovider
      running { input.review.object.status.phase == "Running" }
      keys[k] { running; k := input.review.object.status.containerStatuses[_].imageID }
      keys[k] { not running; k := input.review.object.spec.containers[_].image }
      violation[{"msg": msg}] {
        response := external_data({"provider": "kit-test", "keys": [k | keys[k]]})
        error := response.errors[_]
        msg := sprintf("%v: %v", [error[0], error[1]])
      }
      violation[{"msg": msg}] {
        response := external_data({"provider": "kit-test", "keys": [k | keys[k]]})
        response.system_error != ""
        msg := response.system_error
      }
`

// TestProvider shows that Gatekeeper asks an external data provider by mutual TLS, both at admission and in the
// audit, and that the audit sees the image id that SetRunning wrote.
func TestProvider(t *testing.T) {
	t.Parallel()
	gk := startGatekeeper(t)
	ns := namespace(t)
	url, caBundle := serveProvider(t, gk, func(key string) string {
		if strings.Contains(key, "unsigned") {
			return "nobody signed it"
		}
		return ""
	})
	provider := fmt.Sprintf(`
apiVersion: externaldata.gatekeeper.sh/v1beta1
kind: Provider
metadata: {name: kit-test}
spec: {url: "%s", timeout: 2, caBundle: %s}
`, url, base64.StdEncoding.EncodeToString(caBundle))
	if err := cluster.Apply(t.Context(), fmt.Sprintf(pod, "before", ns, "registry.example/app:1")); err != nil {
		t.Fatal(err)
	}
	if err := cluster.SetRunning(t.Context(), ns, "before", map[string]string{"app": "registry.example/unsigned@" + digest}); err != nil {
		t.Fatal(err)
	}
	if err := gk.Apply(t.Context(), providerTemplate, provider, fmt.Sprintf(constraint, "AsksProvider", ns, "deny")); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Apply(t.Context(), fmt.Sprintf(pod, "signed", ns, "registry.example/signed:1")); err != nil {
		t.Errorf("a signed image: %v", err)
	}
	err := cluster.Apply(t.Context(), fmt.Sprintf(pod, "unsigned", ns, "registry.example/unsigned:1"))
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "registry.example/unsigned:1: nobody signed it") {
		t.Errorf("an unsigned image: %v", err)
	}
	eventually(t, "the audit to list the running pod by its image id", audited("AsksProvider", ns, "unsigned@"+digest))
}

// serveProvider serves external data over TLS to whoever shows Gatekeeper's certificate, and to nobody else.
func serveProvider(t *testing.T, gk *Gatekeeper, verify func(key string) string) (url string, caBundle []byte) {
	t.Helper()
	ca, err := NewCA("provider-ca", nil)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(ForServer, pkix.Name{CommonName: "provider"}, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		type item struct {
			Key   string `json:"key"`
			Value string `json:"value,omitempty"`
			Error string `json:"error,omitempty"`
		}
		var req struct{ Request struct{ Keys []string } }
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var items []item
		for _, k := range req.Request.Keys {
			items = append(items, item{Key: k, Value: "ok", Error: verify(k)})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"apiVersion": "externaldata.gatekeeper.sh/v1beta1", "kind": "ProviderResponse",
			"response": map[string]any{"idempotent": true, "items": items},
		})
	}))
	serveTLS(t, srv, pair, gk.ClientCA())
	if _, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool(ca.PEM())}}}).Get(srv.URL); err == nil {
		t.Error("the provider serves clients without a certificate")
	}
	return srv.URL, ca.PEM()
}

// serveTLS starts a server with a key pair; with a client CA it refuses clients without a certificate of that CA.
func serveTLS(t *testing.T, srv *httptest.Server, pair KeyPair, clientCA []byte) {
	t.Helper()
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv.Listener.Close()
	srv.Listener = l
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
	if clientCA != nil {
		srv.TLS.ClientAuth, srv.TLS.ClientCAs = tls.RequireAndVerifyClientCert, pool(clientCA)
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
}

func pool(pem []byte) *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(pem)
	return p
}

// audited asks whether a constraint's status lists a violation that contains text.
func audited(kind, name, text string) func(context.Context) error {
	return func(ctx context.Context) error {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(schema.GroupVersionKind{Group: "constraints.gatekeeper.sh", Version: "v1beta1", Kind: kind})
		if err := cluster.Client().Get(ctx, client.ObjectKey{Name: name}, u); err != nil {
			return err
		}
		violations, _, err := unstructured.NestedSlice(u.Object, "status", "violations")
		if err != nil {
			return err
		}
		return want(strings.Contains(fmt.Sprint(violations), text), "violations %v", violations)
	}
}

func startGatekeeper(t *testing.T) *Gatekeeper {
	t.Helper()
	gk, err := gatekeeper()
	if err != nil {
		t.Fatal(err)
	}
	return gk
}

func TestInUse(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, status string
		ok, rejected bool
	}{
		{"no status", `{}`, false, false},
		{"older generation", `{"byPod":[{"observedGeneration":1,"enforced":true}]}`, false, false},
		{"not enforced", `{"byPod":[{"observedGeneration":2}]}`, false, false},
		{"one of two", `{"byPod":[{"observedGeneration":2,"enforced":true},{"observedGeneration":1,"enforced":true}]}`, false, false},
		{"an error", `{"byPod":[{"observedGeneration":2,"errors":[{"message":"m"}]}]}`, false, true},
		{"in use", `{"byPod":[{"observedGeneration":2,"enforced":true}]}`, true, false},
	} {
		u := &unstructured.Unstructured{}
		doc := `{"apiVersion":"constraints.gatekeeper.sh/v1beta1","kind":"K","metadata":{"name":"n","generation":2},"status":` + tc.status + `}`
		if err := u.UnmarshalJSON([]byte(doc)); err != nil {
			t.Fatal(err)
		}
		err := inUse(u)
		if (err == nil) != tc.ok || errors.Is(err, errRejected) != tc.rejected {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}
