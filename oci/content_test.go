package oci_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/oci"
)

// isOnly tells whether an error wraps one sentinel and none of the others.
func isOnly(err, sentinel error) bool {
	for _, s := range sentinels {
		if errors.Is(err, s) != (s == sentinel) {
			return false
		}
	}
	return true
}

// fetch reads a manifest or a blob.
type fetch func(*oci.Registry, context.Context, boltseal.Reference, ocispec.Descriptor) ([]byte, error)

var fetches = map[string]fetch{"manifest": (*oci.Registry).Manifest, "blob": (*oci.Registry).Blob}

// pushBoth pushes a blob, and a manifest of the same bytes.
func pushBoth(t testing.TB, reg *testregistry.Registry, b []byte) ocispec.Descriptor {
	t.Helper()
	reg.PushBlob(repo, "application/octet-stream", b)
	return reg.PushManifest(repo, "", ocispec.MediaTypeImageManifest, b)
}

// jsonOf is a manifest of n bytes, as far as a registry looks at it.
func jsonOf(n int) []byte {
	const empty = `{"schemaVersion":2}`
	return append([]byte(empty), bytes.Repeat([]byte(" "), n-len(empty))...)
}

func TestFetch(t *testing.T) {
	t.Parallel()
	reg := testregistry.New(t, testregistry.Options{})
	for _, want := range [][]byte{[]byte(`{"schemaVersion":2}`), jsonOf(2000)} {
		desc := pushBoth(t, reg, want)
		for name, get := range fetches {
			reg.ResetLog()
			got, err := get(newRegistry(t, oci.Options{}), testContext(t), pinned(reg.Host, repo, desc.Digest), desc)
			if err != nil || !bytes.Equal(got, want) || cap(got) != len(want) {
				t.Errorf("%s: %d of %d bytes in %d, %v", name, len(got), len(want), cap(got), err)
			}
			if n := reg.Count(testregistry.Any); n != 1 {
				t.Errorf("%s: %d requests", name, n)
			}
		}
	}
	empty := reg.PushBlob(repo, "application/octet-stream", nil)
	if got, err := newRegistry(t, oci.Options{}).Blob(testContext(t), pinned(reg.Host, repo, empty.Digest), empty); err != nil || len(got) != 0 {
		t.Errorf("an empty blob: %q, %v", got, err)
	}
}

func TestFetchSHA512(t *testing.T) {
	t.Parallel()
	body := []byte("content")
	host := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
	for _, alg := range []digest.Algorithm{digest.SHA384, digest.SHA512} {
		d := ocispec.Descriptor{Digest: alg.FromBytes(body), Size: int64(len(body))}
		if got, err := newRegistry(t, oci.Options{}).Blob(testContext(t), pinned(host, repo, d.Digest), d); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s: %q, %v", alg, got, err)
		}
		d.Digest = alg.FromString("another")
		_, err := newRegistry(t, oci.Options{}).Blob(testContext(t), pinned(host, repo, d.Digest), d)
		wantError(t, err, boltseal.ErrUnusable, host, d.Digest.String())
	}
}

func TestFetchBadAnswers(t *testing.T) {
	t.Parallel()
	body := jsonOf(200)
	digestOnly := func(next http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			next(w, req)
		}
	}
	chunked := func(b []byte) http.HandlerFunc {
		return digestOnly(func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).Flush() // no Content-Length
			_, _ = w.Write(b)
		})
	}
	for name, c := range map[string]struct {
		fault testregistry.Fault
		want  error
		says  string
		tries int // 0 means 1
	}{
		"a wrong byte":                  {fault: testregistry.Fault{Kind: testregistry.WrongBody}, want: boltseal.ErrUnusable, says: "do not match the digest"},
		"half of it":                    {fault: testregistry.Fault{Kind: testregistry.ShortBody}, want: boltseal.ErrUnusable, says: "100 bytes where its descriptor says 200"},
		"half of it without length":     {fault: testregistry.Fault{Kind: testregistry.Custom, Handler: chunked(body[:100])}, want: boltseal.ErrUnusable, says: "100 bytes where its descriptor says 200"},
		"nothing of it":                 {fault: testregistry.Fault{Kind: testregistry.Custom, Handler: chunked(nil)}, want: boltseal.ErrUnusable, says: "0 bytes where its descriptor says 200"},
		"more than it":                  {fault: testregistry.Fault{Kind: testregistry.LongBody, Size: 1}, want: boltseal.ErrUnusable, says: "201 bytes where its descriptor says 200"},
		"more than it without length":   {fault: testregistry.Fault{Kind: testregistry.Custom, Handler: chunked(append(bytes.Clone(body), ' '))}, want: boltseal.ErrUnusable, says: "more than the 200 bytes"},
		"bytes without end":             {fault: testregistry.Fault{Kind: testregistry.EndlessBody}, want: boltseal.ErrUnusable, says: "more than the 200 bytes"},
		"a connection that ends":        {fault: testregistry.Fault{Kind: testregistry.TruncatedBody}, want: boltseal.ErrUnavailable, tries: 3},
		"a claim to be another content": {fault: testregistry.Fault{Kind: testregistry.WrongDigest}, want: boltseal.ErrUnusable, says: "the registry answered for"},
		"404":                           {fault: testregistry.Fault{Kind: testregistry.Status, Status: 404}, want: boltseal.ErrNotFound},
		"416":                           {fault: testregistry.Fault{Kind: testregistry.Status, Status: 416}, want: boltseal.ErrUnusable},
	} {
		for kind, get := range fetches {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				reg := testregistry.New(t, testregistry.Options{})
				desc := pushBoth(t, reg, body)
				reg.Inject(c.fault)
				got, err := get(newRegistry(t, oci.Options{}), testContext(t), pinned(reg.Host, repo, desc.Digest), desc)
				wantError(t, err, c.want, reg.Host, "fetch "+kind, desc.Digest.String(), c.says)
				if got != nil {
					t.Errorf("%d bytes beside the error", len(got))
				}
				if n := reg.Count(testregistry.Any); n != max(c.tries, 1) {
					t.Errorf("%d requests, want %d", n, max(c.tries, 1))
				}
			})
		}
	}
}

func TestManifestOfAnotherType(t *testing.T) {
	t.Parallel()
	i := newImage(t, testregistry.Options{}, 1)
	i.reg.Inject(testregistry.Fault{Kind: testregistry.WrongContentType, Value: ocispec.MediaTypeImageIndex})
	if b, err := newRegistry(t, oci.Options{}).Manifest(testContext(t), i.byDigest(), i.signatures[0]); err != nil || digest.FromBytes(b) != i.signatures[0].Digest {
		t.Errorf("%s, %v", b, err)
	}
}

// What a descriptor itself rules out is not asked for.
func TestFetchOfImpossibleDescriptors(t *testing.T) {
	t.Parallel()
	reg := testregistry.New(t, testregistry.Options{})
	right := digest.FromString("x")
	for name, c := range map[string]struct {
		desc ocispec.Descriptor
		want error
	}{
		"negative": {ocispec.Descriptor{Digest: right, Size: -1}, boltseal.ErrMalformed},
		"2^62":     {ocispec.Descriptor{Digest: right, Size: 1 << 62}, boltseal.ErrMalformed},
		"5 MiB":    {ocispec.Descriptor{Digest: right, Size: 5 << 20}, boltseal.ErrLimit},
		"no hash":  {ocispec.Descriptor{Digest: "x", Size: 1}, boltseal.ErrMalformed},
		"path":     {ocispec.Descriptor{Digest: "sha256:../../../etc/passwd", Size: 1}, boltseal.ErrMalformed},
		"md5":      {ocispec.Descriptor{Digest: "md5:d41d8cd98f00b204e9800998ecf8427e", Size: 1}, boltseal.ErrMalformed},
	} {
		for kind, get := range fetches {
			_, err := get(newRegistry(t, oci.Options{}), testContext(t), pinned(reg.Host, repo, right), c.desc)
			wantError(t, err, c.want, reg.Host, "fetch "+kind)
			_ = name
		}
	}
	if n := reg.Count(testregistry.Any); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestByteLimits(t *testing.T) {
	t.Parallel()
	limits := oci.Limits{ManifestBytes: 3000, BlobBytes: 2000, IndexBytes: 1000}
	reg := testregistry.New(t, testregistry.Options{})
	r := newRegistry(t, oci.Options{Limits: limits})
	for kind, limit := range map[string]int{"manifest": 3000, "blob": 2000} {
		for _, over := range []int{0, 1} {
			desc := pushBoth(t, reg, jsonOf(limit+over))
			_, err := fetches[kind](r, testContext(t), pinned(reg.Host, repo, desc.Digest), desc)
			if over == 0 && err != nil {
				t.Errorf("%s at its limit: %v", kind, err)
			}
			if over == 1 {
				wantError(t, err, boltseal.ErrLimit, reg.Host)
			}
		}
	}
	big := reg.PushManifest(repo, "big", ocispec.MediaTypeImageManifest, jsonOf(3001))
	for _, ref := range []boltseal.Reference{tagged(reg.Host, repo, "big"), pinned(reg.Host, repo, big.Digest)} {
		_, err := r.Resolve(testContext(t), ref)
		wantError(t, err, boltseal.ErrLimit, reg.Host, "3001 bytes, at most 3000")
	}
	image := reg.PushImage(repo, "v1", 0)
	for n := range 10 {
		reg.PushReferrer(repo, image, notation, []byte{byte(n)})
	}
	_, err := r.Referrers(testContext(t), pinned(reg.Host, repo, image.Digest), image.Digest, nil)
	wantError(t, err, boltseal.ErrLimit, reg.Host, "list referrers")
}

func TestHeaderLimit(t *testing.T) {
	t.Parallel()
	host := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", string(bytes.Repeat([]byte("a"), 100<<10)))
	})
	_, err := newRegistry(t, oci.Options{Limits: oci.Limits{Attempts: 1}}).Resolve(testContext(t), tagged(host, repo, "v1"))
	wantError(t, err, boltseal.ErrUnavailable, host, "headers exceeded")
}

// A signature as it is fetched in practice, whole.
func TestSignatureOnTheWire(t *testing.T) {
	t.Parallel()
	i := newImage(t, testregistry.Options{TLS: true}, 0)
	chain := testca.Test(t, testca.Options{})
	signature := i.reg.Sign(repo, i.desc, chain, testca.SignOptions{})
	r := newRegistry(t, oci.Options{Hosts: map[string]oci.HostOptions{i.reg.Host: {RootCAs: i.reg.RootCAs()}}})
	b, err := r.Manifest(testContext(t), i.byDigest(), signature)
	if err != nil {
		t.Fatal(err)
	}
	m, err := boltseal.ParseArtifactManifest(signature.MediaType, b)
	if err != nil || m.Subject == nil || m.Subject.Digest != i.desc.Digest || len(m.Layers) != 1 {
		t.Fatalf("%+v, %v", m, err)
	}
	envelope, err := r.Blob(testContext(t), i.byDigest(), m.Layers[0])
	if err != nil || digest.NewDigestFromBytes(digest.SHA256, sum(envelope)) != m.Layers[0].Digest {
		t.Errorf("%v", err)
	}
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}

// A body that hangs or drips ends with the caller's time, or with the try's.
func TestBodiesThatDoNotEnd(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]testregistry.Fault{
		"hang": {Kind: testregistry.Hang},
		"drip": {Kind: testregistry.Drip, Delay: 50 * time.Millisecond},
	} {
		for _, whose := range []string{"caller", "try"} {
			for kind, get := range fetches {
				t.Run(name+"/"+whose+"/"+kind, func(t *testing.T) {
					t.Parallel()
					reg := testregistry.New(t, testregistry.Options{})
					desc := pushBoth(t, reg, jsonOf(2000))
					reg.Inject(fault)
					o, ctx := oci.Options{}, testContext(t)
					// waits: no request ever comes to its end, so any time shows it, wherever it runs out
					const timeout = 200 * time.Millisecond
					if whose == "try" {
						o.Limits.RequestTimeout = timeout
					} else {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, timeout)
						defer cancel()
					}
					_, err := get(newRegistry(t, o), ctx, pinned(reg.Host, repo, desc.Digest), desc)
					wantError(t, err, boltseal.ErrUnavailable, reg.Host)
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("%v is not about a deadline", err)
					}
				})
			}
		}
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	i := newImage(t, testregistry.Options{}, 0)
	ctx, cancel := context.WithCancel(testContext(t))
	i.reg.Inject(testregistry.Fault{Kind: testregistry.Hang, Match: func(*http.Request) bool { cancel(); return true }})
	_, err := newRegistry(t, oci.Options{}).Resolve(ctx, i.byTag())
	wantError(t, err, boltseal.ErrUnavailable, i.reg.Host)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not say that it was cancelled", err)
	}
}
