package ecr_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/aws"
	"github.com/boltseal/boltseal/internal/cloud/aws/ecr"
	"github.com/boltseal/boltseal/internal/test/testcloud"
	"github.com/boltseal/boltseal/oci"
)

// content is a registry with one manifest in the repository app.
func content(t *testing.T) (http.Handler, boltseal.Reference) {
	t.Helper()
	mem := ocimem.New()
	desc, err := mem.PushBlob(t.Context(), "app", ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromString("{}"), Size: 2}, strings.NewReader("{}"))
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

// TestReadsARegistry: what the source gives is what a registry of Amazon ECR takes, and
// without it there is nothing.
func TestReadsARegistry(t *testing.T) {
	t.Parallel()
	handler, ref := content(t)
	for _, way := range []string{aws.IRSA, aws.PodIdentity} {
		h := newHouse(t)
		if way == aws.PodIdentity {
			h.pod(t, testcloud.Claims{}, agent)
		}
		h.ecr.Registry(host, handler)
		h.ecr.Registry(second, handler)
		resolve := func(s oci.CredentialSource, at string) error {
			to := ref
			to.Registry = at
			d, err := h.registry(t, s).Resolve(t.Context(), to)
			h.tell(err)
			if err == nil && d.Digest != ref.Digest {
				t.Errorf("%s: %+v", at, d)
			}
			return err
		}
		s := h.source(t, ecr.Options{})
		for _, at := range []string{host, second} {
			if err := resolve(s, at); err != nil {
				t.Fatal(err)
			}
		}
		if n := h.asked(api); n != 2 {
			t.Errorf("%d requests", n)
		}
		if err := resolve(nil, host); !errors.Is(err, boltseal.ErrUnauthorized) {
			t.Errorf("anonymously: %v", err)
		}

		// AWS ends all its tokens; the credential that the registry refuses is dropped.
		h.ecr.Revoke()
		old, err := s.Credential(t.Context(), host, "app")
		if err != nil {
			t.Fatal(err)
		}
		if err := resolve(fixed{old}, host); !errors.Is(err, boltseal.ErrUnauthorized) {
			t.Errorf("with a token that has ended: %v", err)
		}
		s.Invalidate(host, "app", old)
		if err := resolve(s, host); err != nil {
			t.Errorf("with a new one: %v", err)
		}

		// A registry that the role may not read says so, and is not read anonymously.
		foreign := strings.Replace(host, owner, "777788889999", 1)
		h.ecr.Registry(foreign, handler)
		if err := resolve(s, foreign); !errors.Is(err, boltseal.ErrUnauthorized) {
			t.Errorf("another account's: %v", err)
		}
		at := stsHost
		if way == aws.PodIdentity {
			at = testcloud.PodIdentityAgent
		}
		h.Cut(at)
		if err := resolve(h.source(t, ecr.Options{}), host); !errors.Is(err, boltseal.ErrUnavailable) {
			t.Errorf("in an outage: %v", err)
		}
	}
}

// TestExpiredPassword: what has ended opens no registry.
func TestExpiredPassword(t *testing.T) {
	t.Parallel()
	handler, ref := content(t)
	h := newHouse(t)
	h.ecr.Registry(host, handler)
	h.at(time.Now().Add(-13 * time.Hour))
	h.irsa(t, testcloud.Claims{})
	old, err := h.get(t, h.source(t, ecr.Options{}), host)
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

// TestRealRegistry asks a real registry, where the environment names one. Who signs in
// is the environment's too.
func TestRealRegistry(t *testing.T) {
	t.Parallel()
	at := os.Getenv("BOLTSEAL_TEST_ECR_REGISTRY")
	if at == "" {
		t.Skip("BOLTSEAL_TEST_ECR_REGISTRY names no registry, such as 111122223333.dkr.ecr.eu-central-1.amazonaws.com")
	}
	s, err := ecr.New(ecr.Options{Endpoints: []string{at}, Identity: aws.Options{Authentication: os.Getenv("BOLTSEAL_TEST_ECR_AUTHENTICATION")}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Credential(t.Context(), at, "")
	if err != nil || c.Username != "AWS" || time.Until(c.Expires) < time.Minute {
		t.Fatalf("until %s: %v", c.Expires, err)
	}
	s.Invalidate(at, "", c)
	if again, err := s.Credential(t.Context(), at, ""); err != nil || again.Password == c.Password {
		t.Errorf("after it was dropped: %v", err)
	}
	if repository, tag := os.Getenv("BOLTSEAL_TEST_ECR_REPOSITORY"), os.Getenv("BOLTSEAL_TEST_ECR_TAG"); repository != "" {
		for _, c := range []struct {
			s  oci.CredentialSource
			is error
		}{{s, nil}, {nil, boltseal.ErrUnauthorized}, {fixed{oci.Credential{Username: "AWS", Password: "wrong"}}, boltseal.ErrUnauthorized}} {
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
		t.Error("a lookalike got a password")
	}
}
