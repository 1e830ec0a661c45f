package oci

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
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

// acceptImage are the manifests that an image can be.
const acceptImage = ocispec.MediaTypeImageManifest + ", " + ocispec.MediaTypeImageIndex + ", " +
	mediaTypeDockerManifest + ", " + mediaTypeDockerManifestList

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

// Resolve implements [boltseal.Store] by a HEAD request; by GET where a registry
// leaves out of the answer what is needed (distribution-spec, "Pulling manifests").
func (r *Registry) Resolve(ctx context.Context, ref boltseal.Reference) (ocispec.Descriptor, error) {
	target := ref.Tag
	if ref.Digest != "" {
		if err := boltseal.ValidateDigest(ref.Digest); err != nil {
			return ocispec.Descriptor{}, err
		}
		target = string(ref.Digest)
	}
	q := r.request(ctx, "resolve", ref, http.MethodHead, "manifests/"+target, acceptImage)
	var desc ocispec.Descriptor
	complete := false
	err := q.do(func(resp *http.Response) (err error) {
		desc, complete, err = r.headDescriptor(resp, ref.Digest)
		return err
	})
	switch {
	case err == nil && complete:
		return desc, nil
	case err != nil && statusOf(err) != http.StatusMethodNotAllowed:
		return ocispec.Descriptor{}, err
	}
	q = r.request(ctx, "resolve", ref, http.MethodGet, "manifests/"+target, acceptImage)
	err = q.do(func(resp *http.Response) (err error) {
		desc, err = r.getDescriptor(resp, ref.Digest)
		return err
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return desc, nil
}

// headDescriptor reads a descriptor from the headers of a HEAD answer; complete
// is false where they do not tell all of it.
func (r *Registry) headDescriptor(resp *http.Response, want digest.Digest) (desc ocispec.Descriptor, complete bool, err error) {
	desc = ocispec.Descriptor{MediaType: contentType(resp), Digest: want, Size: resp.ContentLength}
	stated, err := statedDigest(resp, want)
	if err != nil {
		return desc, false, err
	}
	if want == "" {
		desc.Digest = stated
	}
	// No manifest is empty: a length of zero is that of HEAD's own body.
	if desc.Digest == "" || desc.MediaType == "" || desc.Size <= 0 {
		return desc, false, nil
	}
	if desc.Size > r.opts.Limits.ManifestBytes {
		return desc, false, fmt.Errorf("%w: a manifest of %d bytes, at most %d", boltseal.ErrLimit, desc.Size, r.opts.Limits.ManifestBytes)
	}
	return desc, true, checkImageType(desc.MediaType)
}

// getDescriptor computes a descriptor from a whole answer.
func (r *Registry) getDescriptor(resp *http.Response, want digest.Digest) (desc ocispec.Descriptor, err error) {
	stated, err := statedDigest(resp, want)
	if err != nil {
		return desc, err
	}
	b, err := readAll(resp, r.opts.Limits.ManifestBytes)
	if err != nil {
		return desc, err
	}
	desc = ocispec.Descriptor{MediaType: contentType(resp), Digest: want, Size: int64(len(b))}
	if want == "" {
		desc.Digest = stated
	}
	if desc.Digest == "" {
		desc.Digest = digest.FromBytes(b)
	} else if err := verifyDigest(desc.Digest, b); err != nil {
		return desc, err
	}
	return desc, checkImageType(desc.MediaType)
}

// statedDigest is what an answer claims to be, "" where it claims nothing. A
// claim to be another content than the one that was asked for is an error; one
// by another hash is none.
func statedDigest(resp *http.Response, want digest.Digest) (digest.Digest, error) {
	stated := digest.Digest(resp.Header.Get("Docker-Content-Digest"))
	if stated == "" || stated == want {
		return stated, nil
	}
	if err := boltseal.ValidateDigest(stated); err != nil {
		return "", err
	}
	if want != "" && stated.Algorithm() == want.Algorithm() {
		return "", fmt.Errorf("%w: asked for %s, the registry answered for %s", boltseal.ErrMalformed, want, stated)
	}
	return stated, nil
}

func checkImageType(mediaType string) error {
	switch mediaType {
	case ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, mediaTypeDockerManifest, mediaTypeDockerManifestList:
		return nil
	case "application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v1+prettyjws":
		return fmt.Errorf("%w: a Docker schema 1 manifest, whose digest does not cover its content; push the image again with a current tool", boltseal.ErrMalformed)
	}
	return fmt.Errorf("%w: media type %.100q is not that of an image", boltseal.ErrMalformed, mediaType)
}

// Manifest implements [boltseal.Store].
func (r *Registry) Manifest(ctx context.Context, ref boltseal.Reference, d ocispec.Descriptor) ([]byte, error) {
	return r.content(ctx, "fetch manifest", ref, "manifests/", d, r.opts.Limits.ManifestBytes, d.MediaType)
}

// Blob implements [boltseal.Store].
func (r *Registry) Blob(ctx context.Context, ref boltseal.Reference, d ocispec.Descriptor) ([]byte, error) {
	return r.content(ctx, "fetch blob", ref, "blobs/", d, r.opts.Limits.BlobBytes, "*/*")
}

func (r *Registry) content(ctx context.Context, op string, ref boltseal.Reference, kind string, d ocispec.Descriptor, limit int64, accept string) ([]byte, error) {
	q := r.request(ctx, op, ref, http.MethodGet, kind+string(d.Digest), accept)
	if err := checkSize(d, limit); err != nil {
		return nil, q.fail(0, err)
	}
	var b []byte
	err := q.do(func(resp *http.Response) (err error) {
		if _, err := statedDigest(resp, d.Digest); err != nil {
			return err
		}
		if kind == "manifests/" && contentType(resp) != "" && contentType(resp) != d.MediaType {
			return fmt.Errorf("%w: listed as %.100q, served as %.100q", boltseal.ErrMalformed, d.MediaType, contentType(resp))
		}
		if resp.ContentLength >= 0 && resp.ContentLength != d.Size {
			return fmt.Errorf("%w: %d bytes where its descriptor says %d", boltseal.ErrMalformed, resp.ContentLength, d.Size)
		}
		b, err = readExactly(resp.Body, d)
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

// readExactly reads what d describes: not a byte more or less, and verified.
func readExactly(body io.Reader, d ocispec.Descriptor) ([]byte, error) {
	b := make([]byte, d.Size)
	switch n, err := readFull(body, b); {
	case err == io.EOF:
		return nil, fmt.Errorf("%w: %d bytes where its descriptor says %d", boltseal.ErrMalformed, n, d.Size)
	case err != nil:
		return nil, err
	}
	var more [1]byte
	switch _, err := readFull(body, more[:]); {
	case err == nil:
		return nil, fmt.Errorf("%w: more than the %d bytes its descriptor says", boltseal.ErrMalformed, d.Size)
	case err != io.EOF:
		return nil, err
	}
	if err := verifyDigest(d.Digest, b); err != nil {
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

func verifyDigest(want digest.Digest, b []byte) error {
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
	return fmt.Errorf("%w: its bytes do not match the digest %s", boltseal.ErrMalformed, want)
}

// readAll reads a body whose size nobody promised.
func readAll(resp *http.Response, limit int64) ([]byte, error) {
	if resp.ContentLength > limit {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", boltseal.ErrLimit, resp.ContentLength, limit)
	}
	if resp.ContentLength >= 0 {
		// One byte more, so that the end of the body is seen.
		b := make([]byte, resp.ContentLength+1)
		n, err := readFull(resp.Body, b)
		if err != io.EOF {
			return nil, cmp.Or(err, io.ErrUnexpectedEOF)
		}
		return b[:n], nil
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", boltseal.ErrLimit, limit)
	}
	return b, nil
}

// contentType is the answer's media type without parameters.
func contentType(resp *http.Response) string {
	t, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return strings.TrimSpace(t)
}
