package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
)

// acceptImage are the manifests that an image can be.
const acceptImage = ocispec.MediaTypeImageManifest + ", " + ocispec.MediaTypeImageIndex + ", " +
	mediaTypeDockerManifest + ", " + mediaTypeDockerManifestList

// Resolve implements [boltseal.Store] by a HEAD request. What that says is a hint:
// where a registry refuses it, or leaves out of the answer what is needed, GET
// decides (distribution-spec, "Pulling manifests").
func (r *Registry) Resolve(ctx context.Context, ref boltseal.Reference) (ocispec.Descriptor, error) {
	target := ref.Tag
	if ref.Digest != "" {
		if err := boltseal.ValidateDigest(ref.Digest); err != nil {
			return ocispec.Descriptor{}, err
		}
		target = string(ref.Digest)
	}
	desc, err := r.resolve(ctx, ref, target)
	if errors.Is(err, boltseal.ErrNotFound) && ref.Digest != "" && ref.Tag != "" {
		// Some pull-through caches know a digest only after its tag was asked for.
		r.askForTag(ctx, ref)
		return r.resolve(ctx, ref, target)
	}
	return desc, err
}

// askForTag has a pull-through cache fetch what the tag names. What it answers is of
// no interest.
func (r *Registry) askForTag(ctx context.Context, ref boltseal.Reference) {
	q := r.request(ctx, "resolve", boltseal.Reference{Registry: ref.Registry, Repository: ref.Repository, Tag: ref.Tag}, http.MethodGet, "manifests/"+ref.Tag, acceptImage)
	q.attempts = 1
	_ = q.do(func(resp *http.Response) error {
		_, err := readAll(resp, r.opts.Limits.ManifestBytes)
		return err
	})
}

func (r *Registry) resolve(ctx context.Context, ref boltseal.Reference, target string) (ocispec.Descriptor, error) {
	now := r.opts.Clock()
	habits := &r.hosts.get(ref.Registry).habits
	head := !habits.getFirst(now)
	var desc ocispec.Descriptor
	if head {
		complete := false
		q := r.request(ctx, "resolve", ref, http.MethodHead, "manifests/"+target, acceptImage)
		err := q.do(func(resp *http.Response) error {
			desc, complete = r.headDescriptor(resp, ref.Digest)
			return nil
		})
		switch {
		case err == nil && complete:
			return desc, nil
		case err != nil && (!isAnswer(err) || isPassing(err) || statusOf(err) == http.StatusUnauthorized || statusOf(err) == 0 || errors.Is(err, boltseal.ErrRefused)):
			return ocispec.Descriptor{}, err
		}
	}
	q := r.request(ctx, "resolve", ref, http.MethodGet, "manifests/"+target, acceptImage)
	err := q.do(func(resp *http.Response) (err error) {
		desc, err = r.getDescriptor(resp, ref.Digest)
		return err
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if head {
		habits.refusesHead(now)
	}
	return desc, nil
}

// headDescriptor reads a descriptor from the headers of a HEAD answer; complete
// is false where they do not tell all of it, or what cannot be.
func (r *Registry) headDescriptor(resp *http.Response, want digest.Digest) (desc ocispec.Descriptor, complete bool) {
	desc = ocispec.Descriptor{MediaType: contentType(resp), Digest: want, Size: resp.ContentLength}
	stated, err := statedDigest(resp, want)
	if want == "" {
		desc.Digest = stated
	}
	// No manifest is empty: a length of zero is that of HEAD's own body. That of an
	// encoded body is not the manifest's.
	complete = err == nil && desc.Digest != "" && checkImageType(desc.MediaType) == nil && desc.Size > 0 && desc.Size <= r.opts.Limits.ManifestBytes &&
		resp.Header.Get("Content-Encoding") == ""
	return desc, complete
}

// getDescriptor computes a descriptor from a whole answer.
func (r *Registry) getDescriptor(resp *http.Response, want digest.Digest) (desc ocispec.Descriptor, err error) {
	stated, err := statedDigest(resp, want)
	if err != nil {
		return desc, err
	}
	b, err := readBody(resp, r.opts.Limits.ManifestBytes)
	if err != nil {
		return desc, err
	}
	desc = ocispec.Descriptor{MediaType: boltseal.ManifestMediaType(contentType(resp), b), Digest: want, Size: int64(len(b))}
	if want == "" {
		desc.Digest = stated
	}
	proven := desc.Digest != ""
	if !proven {
		desc.Digest = digest.FromBytes(b)
	} else if err := verifyDigest(desc.Digest, b, boltseal.ErrUnusable); err != nil {
		if isHTML(resp) {
			err = unexpectedAnswer(resp, "a manifest")
		}
		return ocispec.Descriptor{}, err
	}
	err = checkImageType(desc.MediaType)
	if err != nil && !proven && !strings.HasPrefix(desc.MediaType, "application/vnd.") {
		return ocispec.Descriptor{}, unexpectedAnswer(resp, "a manifest") // whatever it is, nobody says that it is the image
	}
	return desc, err
}

// statedDigest is what an answer claims to be, "" where it claims nothing. A
// claim to be another content than the one that was asked for is an error; one
// by another hash is none.
func statedDigest(resp *http.Response, want digest.Digest) (digest.Digest, error) {
	stated := digest.Digest(strings.ToLower(strings.Trim(resp.Header.Get("Docker-Content-Digest"), ` "`)))
	if stated == "" || stated == want {
		return stated, nil
	}
	if err := boltseal.ValidateDigest(stated); err != nil {
		return "", nil // it claims nothing that can be held against the bytes
	}
	if want != "" && stated.Algorithm() == want.Algorithm() {
		return "", fmt.Errorf("%w: asked for %s, the registry answered for %s", boltseal.ErrUnusable, want, stated)
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
