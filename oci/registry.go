package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
)

// Media types of Docker's that registries still serve.
const (
	mediaTypeDockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	mediaTypeDockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// Registry is a [boltseal.Store] on OCI registries (distribution-spec 1.1). It
// is safe for concurrent use and keeps connections and tokens, but no content.
type Registry struct {
	opts  Options
	hosts hostTable
	auth  *tokens
}

var _ boltseal.Store = (*Registry)(nil)

// NewRegistry checks the options and makes a Registry.
func NewRegistry(o Options) (*Registry, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("%w: %v", boltseal.ErrConfiguration, err)
	}
	o = o.withDefaults()
	r := &Registry{opts: o, auth: newTokens(o)}
	r.hosts.init(o)
	return r, nil
}

// Close ends idle connections. Requests under way are not cut off.
func (r *Registry) Close() { r.hosts.close() }

// Manifest implements [boltseal.Store].
func (r *Registry) Manifest(ctx context.Context, ref boltseal.Reference, d ocispec.Descriptor) ([]byte, error) {
	accept := acceptManifest
	if d.MediaType != "" {
		accept = d.MediaType + ", " + accept
	}
	return r.content(ctx, "fetch manifest", ref, "manifests/", d, r.opts.Limits.ManifestBytes, accept)
}

// acceptManifest are the manifests that there are: what a list says about one is a
// hint.
const acceptManifest = acceptImage + ", " + boltseal.MediaTypeORASArtifact

// Blob implements [boltseal.Store].
func (r *Registry) Blob(ctx context.Context, ref boltseal.Reference, d ocispec.Descriptor) ([]byte, error) {
	return r.content(ctx, "fetch blob", ref, "blobs/", d, r.opts.Limits.BlobBytes, "*/*")
}

func (r *Registry) content(ctx context.Context, op string, ref boltseal.Reference, kind string, d ocispec.Descriptor, limit int64, accept string) ([]byte, error) {
	q := r.request(ctx, op, ref, http.MethodGet, kind+string(d.Digest), accept)
	if err := checkSize(d, limit); err != nil {
		return nil, q.fail(0, err)
	}
	unsized := kind == "manifests/" && d.Size == 0 // no manifest is empty
	if unsized {
		limit = min(limit, boltseal.MaxArtifactManifest)
	}
	q.keep = true
	var b []byte
	err := q.do(func(resp *http.Response) (err error) {
		if _, err := statedDigest(resp, d.Digest); err != nil {
			return err
		}
		encoded := resp.Header.Get("Content-Encoding") != ""
		switch {
		case unsized || encoded:
			if b, err = readBody(resp, limit); err == nil {
				err = verifyDigest(d.Digest, b, boltseal.ErrUnusable)
			}
		case resp.ContentLength >= 0 && resp.ContentLength != d.Size:
			err = fmt.Errorf("%w: %d bytes where its descriptor says %d", boltseal.ErrUnusable, resp.ContentLength, d.Size)
		default:
			b, err = readExactly(resp.Body, d, boltseal.ErrUnusable)
		}
		if err != nil && isHTML(resp) && errors.Is(err, boltseal.ErrUnusable) {
			return unexpectedAnswer(resp, "content of an image")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

func checkSize(d ocispec.Descriptor, limit int64) error {
	if err := boltseal.ValidateDescriptor(d); err != nil {
		return err
	}
	if d.Size > limit {
		return fmt.Errorf("%w: %d bytes, at most %d", boltseal.ErrLimit, d.Size, limit)
	}
	return nil
}

// readExactly reads what d describes: not a byte more or less, and verified. What is
// something else is an error that wraps wrong.
func readExactly(body io.Reader, d ocispec.Descriptor, wrong error) ([]byte, error) {
	b, err := readArriving(body, d.Size, d.Size)
	switch {
	case err != nil:
		return nil, err
	case int64(len(b)) > d.Size:
		return nil, fmt.Errorf("%w: more than the %d bytes its descriptor says", wrong, d.Size)
	case int64(len(b)) < d.Size:
		return nil, fmt.Errorf("%w: %d bytes where its descriptor says %d", wrong, len(b), d.Size)
	}
	if err := verifyDigest(d.Digest, b, wrong); err != nil {
		return nil, err
	}
	return b, nil
}

// readFull fills b. Unlike io.ReadFull it tells a body that ends too early
// (io.EOF) from a connection that does (io.ErrUnexpectedEOF).
func readFull(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	if n == len(b) {
		err = nil
	}
	return n, err
}

func verifyDigest(want digest.Digest, b []byte, wrong error) error {
	if hexSum, ok := strings.CutPrefix(string(want), "sha256:"); ok {
		sum := sha256.Sum256(b)
		var got [2 * sha256.Size]byte
		hex.Encode(got[:], sum[:])
		if string(got[:]) == hexSum {
			return nil
		}
	} else if want.Algorithm().FromBytes(b) == want {
		return nil
	}
	return fmt.Errorf("%w: its bytes do not match the digest %s", wrong, want)
}

// readAll reads a body whose size nobody promised.
func readAll(resp *http.Response, limit int64) ([]byte, error) {
	if resp.ContentLength > limit {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", boltseal.ErrLimit, resp.ContentLength, limit)
	}
	b, err := readArriving(resp.Body, resp.ContentLength, limit)
	switch {
	case err != nil:
		return nil, err
	case int64(len(b)) > limit:
		return nil, fmt.Errorf("%w: more than %d bytes", boltseal.ErrLimit, limit)
	}
	return b, nil
}

// contentType is the answer's media type without parameters.
func contentType(resp *http.Response) string {
	t, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return strings.TrimSpace(t)
}
