package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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
// "Listing Referrers"). Which of the two a registry has is remembered; a list
// that would be empty by the tag schema is asked of the API all the same, so
// that a wrong memory hides no signature.
func (r *Registry) Referrers(ctx context.Context, ref boltseal.Reference, subject digest.Digest, artifactTypes []string) (boltseal.Listing, error) {
	if err := boltseal.ValidateDigest(subject); err != nil {
		return boltseal.Listing{}, err
	}
	ref = boltseal.Reference{Registry: ref.Registry, Repository: ref.Repository, Digest: subject}
	h := r.hosts.get(ref.Registry)
	noAPI := r.opts.Clock().Unix() < h.tagSchema.Load()
	if noAPI {
		listing, err := r.tagSchema(ctx, ref, artifactTypes)
		if err == nil && len(listing.Referrers) > 0 || err != nil && !errors.Is(err, boltseal.ErrNotFound) {
			return listing, err
		}
	}
	listing, err := r.pages(ctx, ref, artifactTypes)
	if err == nil {
		if noAPI {
			h.tagSchema.Store(0)
		}
		return listing, nil
	}
	if !errors.Is(err, errNoAPI) && !errors.Is(err, boltseal.ErrNotFound) {
		return boltseal.Listing{}, err
	}
	if noAPI {
		return boltseal.Listing{}, nil
	}
	// A registry with the API should answer an empty list for what it does not
	// have. Some answer 404 with a code that says so, which tells nothing.
	hasAPI := errors.Is(err, errNameUnknown) || errors.Is(err, errManifestUnknown)
	listing, err = r.tagSchema(ctx, ref, artifactTypes)
	if err != nil && !errors.Is(err, boltseal.ErrNotFound) {
		return boltseal.Listing{}, err
	}
	if !hasAPI && !errors.Is(err, errNameUnknown) {
		h.tagSchema.Store(r.opts.Clock().Add(tagSchemaMemory).Unix())
	}
	return listing, nil
}

// pages follows the API's pages, on the same path of the same host only.
func (r *Registry) pages(ctx context.Context, ref boltseal.Reference, types []string) (boltseal.Listing, error) {
	path := "referrers/" + string(ref.Digest)
	q := r.request(ctx, "list referrers", ref, http.MethodGet, path, ocispec.MediaTypeImageIndex)
	if len(types) == 1 {
		q.url.RawQuery = "artifactType=" + url.QueryEscape(types[0])
	}
	c := &collector{limit: r.opts.Limits.Referrers, types: types}
	first := *q.url
	seen := map[string]bool{first.RawQuery: true}
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
			if next, err = nextLink(resp.Header); err != nil && c.listing.Truncated == "" {
				c.listing.Truncated = "there may be further pages of the referrers: " + err.Error()
			}
			return c.add(b)
		})
		if err != nil {
			if page > 1 && !errors.Is(err, boltseal.ErrUnavailable) && !errors.Is(err, boltseal.ErrUnauthorized) {
				c.listing.Truncated = fmt.Sprintf("page %d of the referrers could not be read: %v", page, err)
				return c.listing, nil
			}
			return boltseal.Listing{}, err
		}
		if next == "" || c.listing.Truncated != "" {
			return c.listing, nil
		}
		u, err := first.Parse(next)
		switch {
		case err != nil || u.Scheme != first.Scheme || u.Host != first.Host || u.Path != first.Path || u.User != nil:
			c.listing.Truncated = "a further page of the referrers lies elsewhere and was not followed"
			return c.listing, nil
		case seen[u.RawQuery]:
			c.listing.Truncated = "the pages of the referrers go in a circle"
			return c.listing, nil
		case page >= r.opts.Limits.Pages:
			c.listing.Truncated = fmt.Sprintf("only the first %d pages of the referrers were read", r.opts.Limits.Pages)
			return c.listing, nil
		}
		seen[u.RawQuery] = true
		q = r.request(ctx, "list referrers", ref, http.MethodGet, path, ocispec.MediaTypeImageIndex)
		q.url.RawQuery = u.RawQuery
	}
}

func (r *Registry) tagSchema(ctx context.Context, ref boltseal.Reference, types []string) (boltseal.Listing, error) {
	c := &collector{limit: r.opts.Limits.Referrers, types: types}
	q := r.request(ctx, "list referrers", ref, http.MethodGet, "manifests/"+referrersTag(ref.Digest), ocispec.MediaTypeImageIndex)
	err := q.do(func(resp *http.Response) error {
		if contentType(resp) != ocispec.MediaTypeImageIndex {
			return fmt.Errorf("%w: the referrers tag holds %.100q, not an index", boltseal.ErrMalformed, contentType(resp))
		}
		stated, err := statedDigest(resp, "")
		if err != nil {
			return err
		}
		b, err := readAll(resp, r.opts.Limits.IndexBytes)
		if err != nil {
			return err
		}
		if stated != "" {
			if err := verifyDigest(stated, b); err != nil {
				return err
			}
		}
		return c.add(b)
	})
	if err != nil {
		return boltseal.Listing{}, err
	}
	return c.listing, nil
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
	limit   int // descriptors to look at
	types   []string
	listing boltseal.Listing
	looked  int
	listed  map[rawDescriptor]bool
}

// rawDescriptor is what is read of a descriptor in an index.
type rawDescriptor struct {
	MediaType    string        `json:"mediaType"`
	ArtifactType string        `json:"artifactType"`
	Digest       digest.Digest `json:"digest"`
	Size         int64         `json:"size"`
}

func (c *collector) add(b []byte) error {
	err := eachManifest(b, func(raw jsontext.Value) (more bool) {
		if c.looked++; c.looked > c.limit {
			c.listing.Truncated = fmt.Sprintf("only the first %d referrers were looked at", c.limit)
			return false
		}
		var d rawDescriptor
		if json.Unmarshal(raw, &d) != nil {
			return true
		}
		desc := ocispec.Descriptor{MediaType: d.MediaType, ArtifactType: d.ArtifactType, Digest: d.Digest, Size: d.Size}
		// Only what is the same in everything is listed once: of two sizes, one
		// may be right.
		if boltseal.ValidateDescriptor(desc) != nil || !c.wanted(d.ArtifactType) || c.listed[d] {
			return true
		}
		if c.listed == nil {
			c.listed = make(map[rawDescriptor]bool)
		}
		c.listed[d] = true
		c.listing.Referrers = append(c.listing.Referrers, desc)
		return true
	})
	if err != nil {
		return fmt.Errorf("%w: the list of referrers: %v", boltseal.ErrMalformed, err)
	}
	return nil
}

// wanted checks what a registry may have claimed to filter and did not. With
// several types, or any, the caller sees all and can tell what else there is.
func (c *collector) wanted(artifactType string) bool {
	return len(c.types) != 1 || c.types[0] == artifactType
}

// maxEntryBytes bounds one entry of an index: it repeats the annotations of a
// manifest that may have as many bytes.
const maxEntryBytes = boltseal.MaxArtifactManifest

var errNotIndex = errors.New("not an index")

// eachManifest visits the entries of an index's member manifests (OCI
// image-spec 1.1, image-index.md), until one visit wants no more. It keeps no
// list, as an index of some megabytes can have a million entries, nor the names of
// members, of which an entry can have as many: names that are there twice are an
// error within an entry only, and an entry is small.
func eachManifest(b []byte, visit func(jsontext.Value) (more bool)) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(b), jsontext.AllowDuplicateNames(true))
	if t, err := d.ReadToken(); err != nil {
		return err
	} else if t.Kind() != '{' {
		return errNotIndex
	}
	for listed := false; d.PeekKind() != '}'; {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		if name.String() != "manifests" {
			if err := d.SkipValue(); err != nil {
				return err
			}
			continue
		}
		if listed {
			return errNotIndex // two lists in one index
		}
		listed = true
		switch t, err := d.ReadToken(); {
		case err != nil:
			return err
		case t.Kind() == 'n':
			continue
		case t.Kind() != '[':
			return errNotIndex
		}
		for d.PeekKind() != ']' {
			raw, err := d.ReadValue()
			if err != nil {
				return err
			}
			if len(raw) > maxEntryBytes {
				raw = jsontext.Value("null") // counted, and nothing that anybody wants
			}
			if !visit(raw) {
				return nil
			}
		}
		if _, err := d.ReadToken(); err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	if _, err := d.ReadToken(); err != io.EOF {
		return errNotIndex
	}
	return nil
}
