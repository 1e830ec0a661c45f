package oci_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/internal/test/testwait"
	"github.com/boltseal/boltseal/oci"
)

const (
	notation = "application/vnd.cncf.notary.signature"
	sbom     = "application/spdx+json"

	// Everything secret in these tests has this in it, and no error may.
	secret   = "s3cret"
	user     = "puller"
	password = secret + "-password"
)

var sentinels = []error{
	boltseal.ErrInvalidReference, boltseal.ErrNotFound, boltseal.ErrUnauthorized, boltseal.ErrUnavailable,
	boltseal.ErrMalformed, boltseal.ErrLimit, boltseal.ErrRefused, boltseal.ErrConfiguration,
}

// withinPrefixes ends a test that hangs.
func testContext(t testing.TB) context.Context { return testwait.Context(t) }

func newRegistry(t testing.TB, o oci.Options) *oci.Registry {
	t.Helper()
	if o.Jitter == nil {
		o.Jitter = func() float64 { return 0 }
	}
	if o.Limits.RequestTimeout == 0 { // nobody is to be late where a test does not say so
		o.Limits.RequestTimeout = testwait.Patience
	}
	r, err := oci.NewRegistry(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func tagged(host, repo, tag string) boltseal.Reference {
	return boltseal.Reference{Registry: host, Repository: repo, Tag: tag}
}

func pinned(host, repo string, d digest.Digest) boltseal.Reference {
	return boltseal.Reference{Registry: host, Repository: repo, Digest: d}
}

// wantError checks that an error wraps one sentinel and no other, names the
// host and what was asked for, says all of texts, and gives no secret away.
func wantError(t testing.TB, err error, sentinel error, host string, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", sentinel)
	}
	for _, s := range sentinels {
		if errors.Is(err, s) != (s == sentinel || sentinel == boltseal.ErrUnusable && s == boltseal.ErrUnavailable) {
			t.Errorf("error %q: wraps %q: %v", err, s, errors.Is(err, s))
		}
	}
	if !errors.Is(err, sentinel) {
		t.Errorf("error %q does not wrap %q", err, sentinel)
	}
	var se *boltseal.StoreError
	switch {
	case !errors.As(err, &se):
		t.Errorf("error %q is no StoreError", err)
	case se.Host != host || se.Op == "" || !strings.Contains(se.Target, host):
		t.Errorf("error %q: op %q, host %q, target %q, want host %q", err, se.Op, se.Host, se.Target, host)
	}
	for _, text := range append(texts, host) {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not say %q", err, text)
		}
	}
	if strings.Contains(err.Error(), secret) {
		t.Errorf("error %q gives a secret away", err)
	}
	if strings.Contains(err.Error(), "%!") {
		t.Errorf("error %q is not well formatted", err)
	}
}

// serve runs a server with a behaviour of its own and returns its host.
func serve(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// image is an image with signatures in a registry.
type image struct {
	reg        *testregistry.Registry
	desc       ocispec.Descriptor
	signatures []ocispec.Descriptor
}

const repo = "team/app"

func (i image) byTag() boltseal.Reference    { return tagged(i.reg.Host, repo, "v1") }
func (i image) byDigest() boltseal.Reference { return pinned(i.reg.Host, repo, i.desc.Digest) }

func newImage(t testing.TB, o testregistry.Options, signatures int) image {
	t.Helper()
	i := image{reg: testregistry.New(t, o)}
	i.desc = i.reg.PushImage(repo, "v1", 0)
	for n := range signatures {
		i.signatures = append(i.signatures, i.reg.PushReferrer(repo, i.desc, notation, []byte{byte(n), byte(n >> 8)}))
	}
	return i
}

func sameDescriptor(a, b ocispec.Descriptor) bool {
	return a.MediaType == b.MediaType && a.Digest == b.Digest && a.Size == b.Size
}

func digests(ds []ocispec.Descriptor) map[digest.Digest]bool {
	out := map[digest.Digest]bool{}
	for _, d := range ds {
		out[d.Digest] = true
	}
	return out
}

// statuses counts the answers with a status.
func statuses(reg *testregistry.Registry, status int) (n int) {
	for _, r := range reg.Requests() {
		if r.Status == status {
			n++
		}
	}
	return n
}

// passwords are the credentials of all registries.
type passwords oci.Credential

func (p passwords) Credential(context.Context, string, string) (oci.Credential, error) {
	return oci.Credential(p), nil
}

var rightPassword = passwords{Username: user, Password: password}
