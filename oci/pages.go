package oci

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
)

// pageCost is what a page counts at least towards Limits.ListBytes, in bytes: pages
// without anything in them must have an end, too.
const pageCost = 16 << 10

// api asks the referrers API, page by page. What was read before a page failed is
// there, with the failure as Incomplete.
func (a *asking) api(filter bool) (t told) {
	t.asked = true
	q := a.page("")
	if filter {
		q.url.RawQuery = "artifactType=" + url.QueryEscape(a.types[0])
	}
	c := a.collector()
	seen := map[string]bool{q.url.RawQuery: true}
	left := a.r.opts.Limits.ListBytes
	for page := 1; ; page++ {
		var next string
		var linkErr error
		err := q.do(func(resp *http.Response) error {
			if isHTML(resp) {
				return unexpectedAnswer(resp, "a list of referrers")
			}
			b, err := readBody(resp, min(a.r.opts.Limits.IndexBytes, left))
			if err != nil {
				return err
			}
			left -= max(int64(len(b)), pageCost)
			next, linkErr = nextLink(resp.Header)
			return c.add(contentType(resp), b)
		})
		switch {
		case err != nil && page == 1:
			return told{err: err, asked: true}
		case err != nil:
			c.listing.Incomplete = fmt.Errorf("page %d of the referrers could not be read: %w", page, err)
		case linkErr != nil:
			c.listing.Incomplete = q.fail(http.StatusOK, fmt.Errorf("%w: there may be further pages of the referrers: %w", boltseal.ErrUnusable, linkErr))
		}
		if next == "" || c.listing.Incomplete != nil || c.listing.Truncated != "" {
			t.Listing = c.listing
			return t
		}
		query, err := a.nextQuery(next)
		switch {
		case err != nil:
		case seen[query]:
			err = fmt.Errorf("%w: the pages of the referrers go in a circle", boltseal.ErrUnusable)
		case left <= 0:
			c.listing.Truncated = fmt.Sprintf("only the first %d pages of the referrers were read", page)
			t.Listing = c.listing
			return t
		}
		if err != nil {
			c.listing.Incomplete = withRemedy(q.fail(http.StatusOK, err), "ask who runs "+a.h.name+", or a proxy before it, why its list of referrers cannot be read to the end")
			t.Listing = c.listing
			return t
		}
		seen[query] = true
		q = a.page(query)
	}
}

func (a *asking) page(query string) *request {
	q := a.r.request(a.ctx, "list referrers", a.ref, http.MethodGet, "referrers/"+string(a.ref.Digest), ocispec.MediaTypeImageIndex)
	q.url.RawQuery = query
	return q
}

// nextQuery is the query of a link to the next page. Registries behind a proxy write
// another scheme, host or prefix than the one that they are reached by, and nothing
// of it is used: the next page is asked for where this one was.
func (a *asking) nextQuery(link string) (string, error) {
	own := &url.URL{Path: "/v2/" + a.ref.Repository + "/referrers/" + string(a.ref.Digest)}
	u, err := own.Parse(link)
	if err != nil || u.User != nil || u.Opaque != "" || !strings.HasSuffix(u.Path, "/referrers/"+string(a.ref.Digest)) || u.RawQuery == "" {
		return "", fmt.Errorf("%w: a further page of the referrers lies elsewhere and was not followed", boltseal.ErrUnusable)
	}
	return u.RawQuery, nil
}

// errNoIndex says that a tag holds an image, so that nothing is listed there
// (distribution-spec 1.1, "Referrers Tag Schema").
var errNoIndex = fmt.Errorf("%w: the referrers tag contains no index", boltseal.ErrNotFound)

// tag asks for the list that tools keep under a tag. Attempts of 0 are the usual
// number.
func (a *asking) tag(attempts int) told {
	c := a.collector()
	q := a.r.request(a.ctx, "list referrers", a.ref, http.MethodGet, "manifests/"+referrersTag(a.ref.Digest), acceptList)
	q.attempts = attempts
	err := q.do(func(resp *http.Response) error {
		if isHTML(resp) {
			return unexpectedAnswer(resp, "a list of referrers")
		}
		stated, err := statedDigest(resp, "")
		if err != nil {
			return err
		}
		b, err := readBody(resp, a.r.opts.Limits.IndexBytes)
		if err != nil {
			return err
		}
		if stated != "" {
			if err := verifyDigest(stated, b, boltseal.ErrUnusable); err != nil {
				return err
			}
		}
		if !jsontext.Value(b).IsValid(jsontext.AllowDuplicateNames(true)) {
			return unexpectedAnswer(resp, "a list of referrers")
		}
		kind := boltseal.ManifestMediaType(contentType(resp), b)
		if boltseal.IsManifest(kind) && !boltseal.IsIndex(kind) || verifyDigest(a.ref.Digest, b, boltseal.ErrUnusable) == nil {
			return errNoIndex // some registries answer for the digest that the tag is made of
		}
		return c.add(contentType(resp), b)
	})
	return told{Listing: c.listing, err: err, asked: true}
}

const acceptList = ocispec.MediaTypeImageIndex + ", " + mediaTypeDockerManifestList

// referrersTag is the digest in the form of a tag (distribution-spec,
// "Referrers Tag Schema": at most 32 and 64 characters).
func referrersTag(d digest.Digest) string {
	alg, enc := string(d.Algorithm()), d.Encoded()
	return alg[:min(len(alg), 32)] + "-" + enc[:min(len(enc), 64)]
}

var errNotIndex = errors.New("not an index")
