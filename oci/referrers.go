package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
)

// tagSchemaMemory is how long a registry without a referrers API is not asked
// for it again.
const tagSchemaMemory = time.Hour

// errNoAPI is an answer of a registry that does not know the referrers API.
var errNoAPI = errors.New("no referrers API")

// Referrers implements [boltseal.Store] by the referrers API, and by the
// referrers tag schema where a registry has no API (distribution-spec 1.1,
// "Listing Referrers"). Which of the two a registry has is asked once.
func (r *Registry) Referrers(ctx context.Context, ref boltseal.Reference, subject digest.Digest, artifactTypes []string) (boltseal.Listing, error) {
	if err := boltseal.ValidateDigest(subject); err != nil {
		return boltseal.Listing{}, err
	}
	c := &collector{limits: r.opts.Limits, types: artifactTypes}
	ref = boltseal.Reference{Registry: ref.Registry, Repository: ref.Repository, Digest: subject}
	h := r.hosts.get(ref.Registry)
	if r.opts.Clock().Unix() < h.tagSchema.Load() {
		err := r.tagSchema(ctx, ref, c)
		if errors.Is(err, boltseal.ErrNotFound) {
			err = nil
		}
		return c.listing, err
	}
	err := r.pages(ctx, ref, c)
	if !errors.Is(err, errNoAPI) && !errors.Is(err, boltseal.ErrNotFound) {
		return c.listing, err
	}
	repositoryMissing := errors.Is(err, errNameUnknown)
	err = r.tagSchema(ctx, ref, c)
	switch {
	case err == nil, errors.Is(err, boltseal.ErrNotFound) && !repositoryMissing && !errors.Is(err, errNameUnknown):
		// A registry with the API answers an empty list for what it does not
		// have; only where the whole repository is missing does 404 tell nothing.
		h.tagSchema.Store(r.opts.Clock().Add(tagSchemaMemory).Unix())
		return c.listing, nil
	case errors.Is(err, boltseal.ErrNotFound):
		return c.listing, nil
	}
	return boltseal.Listing{}, err
}

// pages follows the API's pages, on the same path of the same host only.
func (r *Registry) pages(ctx context.Context, ref boltseal.Reference, c *collector) error {
	q := r.request(ctx, "list referrers", ref, http.MethodGet, "referrers/"+string(ref.Digest), ocispec.MediaTypeImageIndex)
	if len(c.types) == 1 {
		q.url.RawQuery = "artifactType=" + url.QueryEscape(c.types[0])
	}
	first := *q.url
	seen := map[string]bool{}
	for page := 1; ; page++ {
		var next string
		err := q.do(func(resp *http.Response) error {
			if contentType(resp) != ocispec.MediaTypeImageIndex {
				return fmt.Errorf("%w: %w: content type %.100q", boltseal.ErrMalformed, errNoAPI, contentType(resp))
			}
			b, err := readAll(resp, r.opts.Limits.IndexBytes)
			if err != nil {
				return err
			}
			next = nextLink(resp.Header)
			return c.add(b)
		})
		if err != nil {
			if page > 1 && !errors.Is(err, boltseal.ErrUnavailable) && !errors.Is(err, boltseal.ErrUnauthorized) {
				c.listing.Truncated = fmt.Sprintf("page %d of the referrers could not be read: %v", page, err)
				return nil
			}
			return err
		}
		if next == "" || c.listing.Truncated != "" {
			return nil
		}
		u, err := first.Parse(next)
		switch {
		case err != nil || u.Scheme != first.Scheme || u.Host != first.Host || u.Path != first.Path || u.User != nil:
			c.listing.Truncated = "a further page of the referrers lies elsewhere and was not followed"
			return nil
		case seen[u.RawQuery] || u.RawQuery == first.RawQuery:
			c.listing.Truncated = "the pages of the referrers go in a circle"
			return nil
		case page >= r.opts.Limits.Pages:
			c.listing.Truncated = fmt.Sprintf("only the first %d pages of the referrers were read", r.opts.Limits.Pages)
			return nil
		}
		seen[u.RawQuery] = true
		q = r.request(ctx, "list referrers", ref, http.MethodGet, "referrers/"+string(ref.Digest), ocispec.MediaTypeImageIndex)
		q.url.RawQuery = u.RawQuery
	}
}

func (r *Registry) tagSchema(ctx context.Context, ref boltseal.Reference, c *collector) error {
	q := r.request(ctx, "list referrers", ref, http.MethodGet, "manifests/"+referrersTag(ref.Digest), ocispec.MediaTypeImageIndex)
	return q.do(func(resp *http.Response) error {
		if contentType(resp) != ocispec.MediaTypeImageIndex {
			return fmt.Errorf("%w: the referrers tag holds %.100q, not an index", boltseal.ErrMalformed, contentType(resp))
		}
		b, err := readAll(resp, r.opts.Limits.IndexBytes)
		if err != nil {
			return err
		}
		return c.add(b)
	})
}

// referrersTag is the digest in the form of a tag (distribution-spec,
// "Referrers Tag Schema": at most 32 and 64 characters).
func referrersTag(d digest.Digest) string {
	alg, enc := string(d.Algorithm()), d.Encoded()
	return alg[:min(len(alg), 32)] + "-" + enc[:min(len(enc), 64)]
}

// collector gathers descriptors over pages. What is malformed is left out; it
// must not hide what is not.
type collector struct {
	limits  Limits
	types   []string
	listing boltseal.Listing
	seen    int
	digests map[digest.Digest]bool
}

// rawDescriptor takes any JSON, so that one odd entry does not fail its page.
type rawDescriptor struct {
	MediaType    string        `json:"mediaType"`
	ArtifactType string        `json:"artifactType"`
	Digest       digest.Digest `json:"digest"`
	Size         int64         `json:"size"`
}

func (c *collector) add(b []byte) error {
	var doc struct {
		Manifests []jsontext.Value `json:"manifests"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return fmt.Errorf("%w: the list of referrers: %v", boltseal.ErrMalformed, err)
	}
	for _, raw := range doc.Manifests {
		if c.seen++; c.seen > c.limits.Referrers {
			c.listing.Truncated = fmt.Sprintf("only the first %d referrers were looked at", c.limits.Referrers)
			return nil
		}
		var d rawDescriptor
		if json.Unmarshal(raw, &d) != nil {
			continue
		}
		desc := ocispec.Descriptor{MediaType: d.MediaType, ArtifactType: d.ArtifactType, Digest: d.Digest, Size: d.Size}
		if boltseal.ValidateDescriptor(desc) != nil || !c.wanted(d.ArtifactType) || c.listed(d.Digest) {
			continue
		}
		c.listing.Referrers = append(c.listing.Referrers, desc)
	}
	return nil
}

// wanted checks what a registry may have claimed to filter and did not. With
// several types, or any, the caller sees all and can tell what else there is.
func (c *collector) wanted(artifactType string) bool {
	return len(c.types) != 1 || c.types[0] == artifactType
}

// listed notes a digest and tells whether it was noted before.
func (c *collector) listed(d digest.Digest) bool {
	if c.digests == nil {
		c.digests = make(map[digest.Digest]bool)
	}
	was := c.digests[d]
	c.digests[d] = true
	return was
}
