package artifactregistry_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/gcp/artifactregistry"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/test/testcloud"
	"github.com/boltseal/boltseal/internal/test/testwait"
	"github.com/boltseal/boltseal/oci"
)

const (
	host     = "europe-west1-docker.pkg.dev"
	audience = "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/clusters/providers/prod"
	subject  = "system:serviceaccount:boltseal-system:boltseal"
	account  = "boltseal@acme.iam.gserviceaccount.com"
)

// house is a cloud with a registry that Boltseal's identity may read.
type house struct {
	*testcloud.Cloud
	google *testcloud.GoogleKMS
	issuer *testcloud.Issuer
	env    map[string]string

	mu   sync.Mutex
	now  time.Time
	told bytes.Buffer
}

func newHouse(t *testing.T, content http.Handler) *house {
	t.Helper()
	h := &house{env: map[string]string{}, issuer: testcloud.NewIssuer(t, "https://oidc.example/cluster"), now: time.Now()}
	h.Cloud = testcloud.Start(t, h.clock)
	h.google = h.GoogleKMS(h.issuer, audience, subject, account)
	h.google.Registry(host, content)
	h.google.Registry("gcr.io", content)
	t.Cleanup(func() {
		for _, secret := range h.Secrets() {
			if len(secret) > 20 && strings.Contains(h.told.String(), secret) {
				t.Errorf("a secret was told: %.12s…", secret)
			}
		}
	})
	return h
}

func (h *house) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *house) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

func (h *house) source(t *testing.T, endpoints ...string) *artifactregistry.Source {
	t.Helper()
	way := h.Transport()
	way.Proxy = func(r *http.Request) (*url.URL, error) {
		if r.URL.Scheme != "https" {
			t.Errorf("%s goes by a proxy", r.URL.Host)
		}
		return nil, nil
	}
	s, err := artifactregistry.New(artifactregistry.Options{Endpoints: endpoints, Timeout: testwait.Patience, Transport: way, Getenv: func(n string) string { return h.env[n] }, Clock: h.clock, Jitter: func() float64 { return 0 }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (h *house) get(t *testing.T, s *artifactregistry.Source, at string) (oci.Credential, error) {
	t.Helper()
	c, err := s.Credential(t.Context(), at, "app")
	if err == nil {
		if c.Username != "oauth2accesstoken" || c.Password == "" || c.Expires.IsZero() || c.RefreshToken+c.AccessToken != "" {
			t.Errorf("not a user and a token with an end alone (%s)", c.Expires)
		}
		return c, nil
	}
	h.told.WriteString(err.Error() + "\n")
	if c != (oci.Credential{}) || !strings.Contains(err.Error(), artifactregistry.Name) || strings.ContainsAny(err.Error(), "\r\n") {
		t.Errorf("%q", err)
	}
	return c, err
}

// federate has the Pod sign in by a credential configuration; what is not said is right.
func (h *house) federate(t *testing.T, c testcloud.Claims, impersonate bool) {
	t.Helper()
	if c.Subject == "" {
		c.Subject = subject
	}
	if c.Audience == "" {
		c.Audience = "https:" + audience
	}
	if c.Expires == 0 {
		c.Expires = h.clock().Add(time.Hour).Unix()
	}
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	config := map[string]any{"type": "external_account", "audience": audience, "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": "https://sts.googleapis.com/v1/token",
		"credential_source": map[string]any{"file": token}}
	if impersonate {
		config["service_account_impersonation_url"] = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/" + account + ":generateAccessToken"
	}
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "config.json")
	if err := errors.Join(os.WriteFile(token, []byte(h.issuer.Token(c)), 0o600), os.WriteFile(file, b, 0o600)); err != nil {
		t.Fatal(err)
	}
	h.env["GOOGLE_APPLICATION_CREDENTIALS"] = file
}

// TestIdentities: each way in works, and does not where it must not.
func TestIdentities(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		set  func(t *testing.T, h *house)
		is   error // nil = it works
		says string
	}{
		{"metadata server", func(*testing.T, *house) {}, nil, ""},
		{"a metadata server that knows nobody", func(_ *testing.T, h *house) { h.google.Metadata(false) }, boltseal.ErrUnauthorized, "HTTP 404"},
		{"no metadata server", func(_ *testing.T, h *house) { h.Cut("metadata.google.internal") }, boltseal.ErrUnavailable, "Workload Identity on GKE"},
		{"federated", func(t *testing.T, h *house) { h.federate(t, testcloud.Claims{}, true) }, nil, ""},
		{"federated, another audience", func(t *testing.T, h *house) { h.federate(t, testcloud.Claims{Audience: "vault"}, true) }, boltseal.ErrUnauthorized, "invalid_grant"},
		{"federated, expired", func(t *testing.T, h *house) { h.federate(t, testcloud.Claims{Expires: 1}, true) }, boltseal.ErrUnauthorized, "invalid_grant"},
		{"federated, somebody else", func(t *testing.T, h *house) {
			h.federate(t, testcloud.Claims{Subject: "system:serviceaccount:default:default"}, true)
		}, boltseal.ErrUnauthorized, "unauthorized_client"},
		{"a token that ends at once", func(_ *testing.T, h *house) { h.google.Life(10 * time.Second) }, boltseal.ErrUnavailable, "ends at once"},
		{"a token that has ended", func(_ *testing.T, h *house) { h.google.Life(0) }, boltseal.ErrMalformed, "has ended"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, nil)
			c.set(t, h)
			cred, err := h.get(t, h.source(t), host)
			if !errors.Is(err, c.is) || err != nil && (c.is == nil || !strings.Contains(err.Error(), c.says)) {
				t.Fatalf("%v, want %v with %q", err, c.is, c.says)
			}
			if left := cred.Expires.Sub(h.clock()); err == nil && (left > time.Hour || left < 59*time.Minute) {
				t.Errorf("it ends in %s", left)
			}
		})
	}
}

// TestHosts: Artifact Registry's own hosts get a token, and no other.
func TestHosts(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	s := h.source(t)
	for _, at := range []string{host, "us-docker.pkg.dev", "asia-docker.pkg.dev", "northamerica-northeast1-docker.pkg.dev", "us-east14-docker.pkg.dev", "gcr.io", "us.gcr.io", "eu.gcr.io", "asia.gcr.io"} {
		if _, err := h.get(t, s, at); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
	if n := len(h.Requests("")); n != 1 {
		t.Errorf("%d requests for one token", n)
	}
	lookalikes := []string{
		host + ".evil.example", "gcr.io.evil.example", "evilgcr.io", "evil.gcr.io", "docker.pkg.dev", "-docker.pkg.dev", "pkg.dev", "europe-west1-npm.pkg.dev", "europe-west1-docker.pkg.dev.", host + ":443", "user@" + host,
		"EUROPE-west1-docker.pkg.dev", "a.europe-west1-docker.pkg.dev", "europe-west1-docker.evil-pkg.dev", "europe-west1-docker-pkg.dev", "k8s.gcr.io", "mirror.gcr.io", "xn--gcr.io", "gcr.io/evil", "", "docker.io",
		"evil-docker.pkg.dev.", "1-docker.pkg.dev", "metadata.google.internal", "europe-west1x-docker.pkg.dev", "gcr.io\n",
	}
	for _, at := range lookalikes {
		if _, err := h.get(t, s, at); !errors.Is(err, credential.ErrNotForHost) {
			t.Errorf("%q: %v", at, err)
		}
	}
	narrow := h.source(t, "gcr.io")
	if _, err := h.get(t, narrow, host); !errors.Is(err, credential.ErrNotForHost) {
		t.Errorf("beside its endpoints: %v", err)
	}
	if _, err := h.get(t, narrow, "gcr.io"); err != nil {
		t.Error(err)
	}
	for _, e := range []string{"*", "*.pkg.dev", "pkg.dev", "evil.example", "k8s.gcr.io", "https://gcr.io", "gcr.io:443"} {
		o := artifactregistry.Options{Endpoints: []string{"gcr.io", e}}
		if ps := o.Check(); len(ps) != 1 || ps[0].Field != "endpoints[1]" {
			t.Errorf("%s: %+v", e, ps)
		}
		if _, err := artifactregistry.New(o); !errors.Is(err, boltseal.ErrConfiguration) {
			t.Errorf("%s: %v", e, err)
		}
	}
}

// TestKept: one token until it is renewed ahead of its end, or refused.
func TestKept(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	s := h.source(t)
	first, err := h.get(t, s, host)
	if err != nil {
		t.Fatal(err)
	}
	s.Invalidate(host, "app", oci.Credential{Username: "oauth2accesstoken", Password: "another"})
	if again, err := h.get(t, s, "gcr.io"); err != nil || again != first {
		t.Errorf("%v", err)
	}
	s.Invalidate(host, "app", first)
	second, err := h.get(t, s, host)
	if err != nil || second.Password == first.Password {
		t.Errorf("after it was refused: %v", err)
	}
	h.pass(59*time.Minute + 45*time.Second)
	if third, err := h.get(t, s, host); err != nil || third.Password == second.Password {
		t.Errorf("near its end: %v", err)
	}
}

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

// TestReadsARegistry: what the source gives is what the registry takes, at its own
// token server and at no other; without it there is nothing.
func TestReadsARegistry(t *testing.T) {
	t.Parallel()
	mem := ocimem.New()
	config, err := mem.PushBlob(t.Context(), "acme/images/app", ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromString("{}"), Size: 2}, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mem.PushManifest(t.Context(), "acme/images/app", "", b, ocispec.MediaTypeImageManifest); err != nil {
		t.Fatal(err)
	}
	ref := boltseal.Reference{Registry: host, Repository: "acme/images/app", Digest: digest.FromBytes(b)}
	for name, set := range map[string]func(h *house){
		"metadata server": func(*house) {},
		"federated":       func(h *house) { h.federate(t, testcloud.Claims{}, true) },
	} {
		h := newHouse(t, ociserver.New(mem, nil))
		set(h)
		s := h.source(t)
		resolve := func(s oci.CredentialSource) error {
			_, err := h.registry(t, s).Resolve(t.Context(), ref)
			if err != nil {
				h.told.WriteString(err.Error() + "\n")
			}
			return err
		}
		if err := resolve(s); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, evil := range []string{"evil.example", host + ".evil.example", "us-docker.pkg.dev"} {
			h.google.Elsewhere(evil)
			h.Serve(evil, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s was asked", r.Host) }))
			if err := resolve(s); !errors.Is(err, boltseal.ErrRefused) || !strings.Contains(err.Error(), evil) {
				t.Errorf("%s: a token server that nobody allowed: %v", name, err)
			}
		}
		h.google.Elsewhere("")
		if err := resolve(nil); !errors.Is(err, boltseal.ErrUnauthorized) {
			t.Errorf("%s: anonymously: %v", name, err)
		}
		h.google.Forbid(true)
		if err := resolve(s); !errors.Is(err, boltseal.ErrUnauthorized) {
			t.Errorf("%s: without a role: %v", name, err)
		}
		h.google.Forbid(false)
		h.google.Revoke() // the token that is kept is refused, and replaced once
		if err := resolve(s); err != nil {
			t.Errorf("%s: after its token was revoked: %v", name, err)
		}
	}
	// A Pod's own token may do nothing but become the account.
	h := newHouse(t, ociserver.New(mem, nil))
	h.federate(t, testcloud.Claims{}, false)
	if _, err := h.registry(t, h.source(t)).Resolve(t.Context(), ref); !errors.Is(err, boltseal.ErrUnauthorized) {
		t.Errorf("a federated token without a role: %v", err)
	}
}

// TestRealRegistry asks a real registry, where the environment names one. Who is asked
// for a token is the environment's too.
func TestRealRegistry(t *testing.T) {
	t.Parallel()
	at := os.Getenv("BOLTSEAL_TEST_GAR_REGISTRY")
	if at == "" {
		t.Skip("BOLTSEAL_TEST_GAR_REGISTRY names no registry, such as europe-west1-docker.pkg.dev")
	}
	s, err := artifactregistry.New(artifactregistry.Options{Endpoints: []string{at}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Credential(t.Context(), at, "")
	if err != nil || c.Password == "" || time.Until(c.Expires) < time.Minute {
		t.Fatalf("until %s: %v", c.Expires, err)
	}
	if repository, tag := os.Getenv("BOLTSEAL_TEST_GAR_REPOSITORY"), os.Getenv("BOLTSEAL_TEST_GAR_TAG"); repository != "" {
		for _, c := range []struct {
			s  oci.CredentialSource
			is error
		}{{s, nil}, {nil, boltseal.ErrUnauthorized}} {
			r, err := oci.NewRegistry(oci.Options{Credentials: c.s})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(r.Close)
			if _, err := r.Resolve(t.Context(), boltseal.Reference{Registry: at, Repository: repository, Tag: tag}); !errors.Is(err, c.is) {
				t.Errorf("%v, want %v", err, c.is)
			}
		}
	}
	if _, err := s.Credential(t.Context(), at+".evil.example", ""); err == nil {
		t.Error("a lookalike got a token")
	}
}
