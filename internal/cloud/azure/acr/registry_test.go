package acr_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"testing"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/azure/acr"
	"github.com/boltseal/boltseal/internal/test/testcloud"
)

// content is a registry with one manifest, app:v1.
func content(t *testing.T) (http.Handler, boltseal.Reference) {
	t.Helper()
	mem := ocimem.New()
	desc, err := mem.PushBlob(t.Context(), "app", ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromString("{}"), Size: 2}, reader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest,
		"config": map[string]any{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": desc.Digest, "size": 2}, "layers": []any{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mem.PushManifest(t.Context(), "app", "", b, ocispec.MediaTypeImageManifest); err != nil {
		t.Fatal(err)
	}
	return ociserver.New(mem, nil), boltseal.Reference{Registry: host, Repository: "app", Digest: digest.FromBytes(b)}
}

// TestReadsARegistry: what the source gives is what a registry of Azure takes, and
// without it there is nothing.
func TestReadsARegistry(t *testing.T) {
	t.Parallel()
	handler, ref := content(t)
	h := newHouse(t, handler)
	s := h.source(t, acr.Options{})
	if d, err := h.registry(t, s).Resolve(t.Context(), ref); err != nil || d.Digest != ref.Digest {
		t.Fatalf("%+v, %v", d, err)
	}
	if n := h.exchanges(host); n != 1 {
		t.Errorf("%d exchanges", n)
	}
	_, err := h.registry(t, nil).Resolve(t.Context(), ref)
	h.tell(err)
	if !errors.Is(err, boltseal.ErrUnavailable) { // its token server has nothing for nobody
		t.Errorf("anonymously: %v", err)
	}

	// The registry ends all its tokens; the credential that it refuses is dropped.
	h.acr.Revoke(t)
	old, err := s.Credential(t.Context(), host, "app")
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.registry(t, fixed{old}).Resolve(t.Context(), ref)
	h.tell(err)
	if !errors.Is(err, boltseal.ErrUnauthorized) {
		t.Errorf("with a token that has ended: %v", err)
	}
	s.Invalidate(host, "app", old)
	if _, err := h.registry(t, s).Resolve(t.Context(), ref); err != nil {
		t.Errorf("after a new exchange: %v", err)
	}

	// One who may not pull is told so, and the registry is not read anonymously.
	denied := h.source(t, acr.Options{ClientID: "00000000-0000-4000-8000-0000000000dd"})
	_, err = h.registry(t, denied).Resolve(t.Context(), ref)
	h.tell(err)
	if !errors.Is(err, boltseal.ErrUnauthorized) {
		t.Error(err)
	}
	h.Cut(testcloud.EntraPublic)
	_, err = h.registry(t, h.source(t, acr.Options{})).Resolve(t.Context(), ref)
	h.tell(err)
	if !errors.Is(err, boltseal.ErrUnavailable) {
		t.Errorf("in an outage: %v", err)
	}
}

// TestExpiredRefreshToken: what has ended gets no access token.
func TestExpiredRefreshToken(t *testing.T) {
	t.Parallel()
	handler, ref := content(t)
	h := newHouse(t, handler)
	h.at(time.Now().Add(-4 * time.Hour))
	old, err := h.get(t, h.source(t, acr.Options{}), host)
	if err != nil {
		t.Fatal(err)
	}
	h.at(time.Now())
	_, err = h.registry(t, fixed{old}).Resolve(t.Context(), ref)
	h.tell(err)
	if !errors.Is(err, boltseal.ErrUnauthorized) {
		t.Errorf("%v", err)
	}
}

// TestRealRegistry asks a real registry, where the environment names one. Who signs
// in is the environment's too.
func TestRealRegistry(t *testing.T) {
	t.Parallel()
	at := os.Getenv("BOLTSEAL_TEST_ACR_REGISTRY")
	if at == "" {
		t.Skip("BOLTSEAL_TEST_ACR_REGISTRY names no registry, such as acme.azurecr.io")
	}
	provider := acr.WorkloadIdentity
	if p := os.Getenv("BOLTSEAL_TEST_ACR_PROVIDER"); p != "" {
		provider = p
	}
	s, err := acr.New(acr.Options{Provider: provider, Endpoints: []string{at}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Credential(t.Context(), at, "")
	if err != nil || c.RefreshToken == "" || time.Until(c.Expires) < time.Minute {
		t.Fatalf("until %s: %v", c.Expires, err)
	}
	s.Invalidate(at, "", c)
	if again, err := s.Credential(t.Context(), at, ""); err != nil || again.RefreshToken == c.RefreshToken {
		t.Errorf("after it was dropped: %v", err)
	}
	if repository, tag := os.Getenv("BOLTSEAL_TEST_ACR_REPOSITORY"), os.Getenv("BOLTSEAL_TEST_ACR_TAG"); repository != "" {
		r := real(t, s)
		if _, err := r.Resolve(t.Context(), boltseal.Reference{Registry: at, Repository: repository, Tag: tag}); err != nil {
			t.Error(err)
		}
		if _, err := real(t, nil).Resolve(t.Context(), boltseal.Reference{Registry: at, Repository: repository, Tag: tag}); !errors.Is(err, boltseal.ErrUnauthorized) {
			t.Errorf("anonymously: %v", err)
		}
	}
	if _, err := s.Credential(t.Context(), at+".evil.example", ""); err == nil {
		t.Error("a lookalike got a token")
	}
}
