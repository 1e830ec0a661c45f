package alibaba_test

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/alibaba"
	"github.com/boltseal/boltseal/internal/test/testcloud"
	"github.com/boltseal/boltseal/internal/test/testwait"
	"github.com/boltseal/boltseal/oci"
)

// registry reads registries here.
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

// TestReadsARegistry: what the source gives is what an instance takes, at the token
// server of its region and at no other, and without it there is nothing.
func TestReadsARegistry(t *testing.T) {
	t.Parallel()
	mem := ocimem.New()
	config, err := mem.PushBlob(t.Context(), "app", ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromString("{}"), Size: 2}, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mem.PushManifest(t.Context(), "app", "", b, ocispec.MediaTypeImageManifest); err != nil {
		t.Fatal(err)
	}
	ref := boltseal.Reference{Registry: host, Repository: "app", Digest: digest.FromBytes(b)}
	h := newHouse(t, ociserver.New(mem, nil))
	s := h.source(t, alibaba.Options{})
	if d, err := h.registry(t, s).Resolve(t.Context(), ref); err != nil || d.Digest != ref.Digest {
		t.Fatalf("%+v, %v", d, err)
	}
	for _, evil := range []string{"evil.example", testcloud.AlibabaRealm(region) + ".evil.example", testcloud.AlibabaRealm("cn-beijing")} {
		h.cloud.Realm(evil)
		h.Serve(evil, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s was asked", r.Host) }))
		_, err = h.registry(t, s).Resolve(t.Context(), ref)
		h.tell(err)
		if !errors.Is(err, boltseal.ErrRefused) || !strings.Contains(err.Error(), evil) {
			t.Errorf("a token server that nobody allowed: %v", err)
		}
	}
	h.cloud.Realm("")
	_, err = h.registry(t, nil).Resolve(t.Context(), ref)
	h.tell(err)
	if !errors.Is(err, boltseal.ErrUnauthorized) {
		t.Errorf("anonymously: %v", err)
	}
	old, err := s.Credential(t.Context(), host, "app")
	if err != nil {
		t.Fatal(err)
	}
	h.cloud.Revoke()
	s.Invalidate(host, "app", old)
	if _, err := h.registry(t, s).Resolve(t.Context(), ref); err != nil {
		t.Errorf("with a new user: %v", err)
	}
}

// TestRealRegistry asks a real instance, where the environment names one. Whose role
// it is is the environment's too.
func TestRealRegistry(t *testing.T) {
	t.Parallel()
	at, id := os.Getenv("BOLTSEAL_TEST_ALIBABA_REGISTRY"), os.Getenv("BOLTSEAL_TEST_ALIBABA_INSTANCE")
	if at == "" || id == "" {
		t.Skip("BOLTSEAL_TEST_ALIBABA_REGISTRY and BOLTSEAL_TEST_ALIBABA_INSTANCE name no registry, such as acme-registry.cn-hangzhou.cr.aliyuncs.com and its cri-…")
	}
	s, err := alibaba.New(alibaba.Options{DefaultInstanceID: id, Endpoints: []string{at}, Authentication: os.Getenv("BOLTSEAL_TEST_ALIBABA_AUTHENTICATION")})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Credential(t.Context(), at, "")
	if err != nil || c.Username == "" || c.Password == "" || time.Until(c.Expires) < time.Minute {
		t.Fatalf("until %s: %v", c.Expires, err)
	}
	s.Invalidate(at, "", c)
	if again, err := s.Credential(t.Context(), at, ""); err != nil || again.Password == c.Password {
		t.Errorf("after it was dropped: %v", err)
	}
	if _, err := s.Credential(t.Context(), at+".evil.example", ""); err == nil {
		t.Error("a lookalike got a user")
	}
}
