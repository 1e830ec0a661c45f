package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
)

// Referrers implements [boltseal.Store] by the referrers API, and by the referrers
// tag schema where the API has nothing that could be a signature, fails or is not
// there (distribution-spec 1.1, "Listing Referrers"). The tag only ever adds: what
// it lists while the API fails is not all there may be, and where it has nothing
// either the API's failure is the answer. "Nothing" is said only where the registry
// said so: by a list that is valid and empty, or by 404 for both.
//
// Which of the two a registry has is remembered; a list that would be empty by the
// tag schema is asked of the API all the same, so that a wrong memory hides no
// signature.
func (r *Registry) Referrers(ctx context.Context, ref boltseal.Reference, subject digest.Digest, artifactTypes []string) (boltseal.Listing, error) {
	if err := boltseal.ValidateDigest(subject); err != nil {
		return boltseal.Listing{}, err
	}
	ask := asking{r: r, ctx: ctx, h: r.hosts.get(ref.Registry), types: artifactTypes,
		ref: boltseal.Reference{Registry: ref.Registry, Repository: ref.Repository, Digest: subject}}
	l, err := ask.referrers()
	if err == nil && len(l.Referrers) == 0 && ask.unknown && ref.Tag != "" {
		r.askForTag(ctx, ref) // as for Resolve
		return ask.referrers()
	}
	return l, err
}

// asking is one question for the referrers of an image.
type asking struct {
	r     *Registry
	ctx   context.Context
	h     *host
	ref   boltseal.Reference // by digest
	types []string

	unknown bool // the registry says that it does not know the image
}

// told is what one place says of the referrers.
type told struct {
	boltseal.Listing
	err   error
	asked bool
}

func (a *asking) referrers() (boltseal.Listing, error) {
	now := a.r.opts.Clock()
	var tag told
	known := a.h.habits.noAPI(now)
	if known != nil {
		tag = a.tag(0)
		if tag.err == nil && a.candidates(tag.Listing) {
			tag.Incomplete = known.why
			return tag.Listing, nil
		}
	}
	filter := len(a.types) == 1 && !a.h.habits.unfiltered(now)
	api := a.api(filter)
	a.unknown = errors.Is(api.err, errManifestUnknown) || errors.Is(api.err, errNameUnknown)
	switch {
	case api.err == nil && a.candidates(api.Listing):
		a.h.habits.hasAPI()
		return api.Listing, nil
	case api.err != nil && !isAnswer(api.err), errors.Is(api.err, boltseal.ErrLimit):
		return boltseal.Listing{}, api.err // nobody to ask, or more than may be read
	case known != nil && known.why == nil && errors.Is(api.err, boltseal.ErrNotFound) && tag.nothing():
		return boltseal.Listing{}, nil
	}
	// Both questions that are left are asked at once.
	var plain told
	wait := func() {}
	if filter && a.refusesFilter(api) {
		wait = a.r.beside(&plain.err, func() { plain = a.api(false) })
	}
	if !tag.asked {
		tag = a.tag(attemptsAfter(api.err, a.r.opts.Limits.Attempts))
	}
	wait()
	if plain.asked && plain.err == nil {
		if api.err != nil {
			a.h.habits.refusesFilter(now)
		}
		api = plain
	} else if plain.err != nil && api.err == nil && isPassing(plain.err) {
		api.Incomplete = plain.err
	}
	return a.both(api, tag)
}

// refusesFilter reports whether the same question without a filter may be answered
// otherwise: a filter can be refused, or applied to types that a list does not say.
func (a *asking) refusesFilter(api told) bool {
	if api.err == nil {
		return true
	}
	return !errors.Is(api.err, boltseal.ErrNotFound) && !errors.Is(api.err, boltseal.ErrUnauthorized) && !isPassing(api.err)
}

// both makes one answer of what API and tag say, where the API has no candidates.
func (a *asking) both(api, tag told) (boltseal.Listing, error) {
	now := a.r.opts.Clock()
	switch {
	case api.err == nil && api.Incomplete == nil:
		a.h.habits.hasAPI()
		switch {
		case a.candidates(api.Listing):
		case tag.err == nil:
			for _, d := range tag.Listing.Referrers {
				if !slices.ContainsFunc(api.Listing.Referrers, func(o ocispec.Descriptor) bool { return o.Digest == d.Digest }) {
					api.Listing.Referrers = append(api.Listing.Referrers, d)
				}
			}
			if api.Truncated == "" {
				api.Truncated = tag.Truncated
			}
		case isPassing(tag.err):
			api.Incomplete = tag.err
		}
		return a.orFailure(api.Listing)
	case errors.Is(api.err, boltseal.ErrNotFound):
		// A registry with the API should answer an empty list for what it does not
		// have. Some answer 404 with a code that says so, which tells nothing.
		if !errors.Is(api.err, errNameUnknown) && !errors.Is(api.err, errManifestUnknown) && !errors.Is(tag.err, errNameUnknown) && (tag.err == nil || tag.nothing()) {
			a.h.habits.lacksAPI(now, nil)
		}
		if tag.err != nil && !tag.nothing() {
			return boltseal.Listing{}, tag.err
		}
		return tag.Listing, nil
	case api.err == nil: // some of its pages
		if tag.err == nil {
			api.Listing.Referrers = append(api.Listing.Referrers, tag.Listing.Referrers...)
		}
		return a.orFailure(api.Listing)
	case tag.err == nil && len(tag.Listing.Referrers) > 0:
		if !isPassing(api.err) {
			a.h.habits.lacksAPI(now, api.err)
		}
		tag.Incomplete = api.err
		return tag.Listing, nil
	}
	return boltseal.Listing{}, withRemedy(api.err, "ask who runs "+a.h.name+", or a proxy before it, why the referrers API answers so; nothing is under the tag that replaces it, so sign the image if it is not signed")
}

// orFailure is a listing, or the reason why it is empty.
func (a *asking) orFailure(l boltseal.Listing) (boltseal.Listing, error) {
	if l.Incomplete != nil && len(l.Referrers) == 0 {
		return boltseal.Listing{}, l.Incomplete
	}
	return l, nil
}

// candidates reports whether a list has what could be a signature.
func (a *asking) candidates(l boltseal.Listing) bool {
	if len(a.types) == 0 {
		return len(l.Referrers) > 0
	}
	return l.Truncated != "" || slices.ContainsFunc(l.Referrers, func(d ocispec.Descriptor) bool {
		return slices.Contains(a.types, d.ArtifactType) || boltseal.Untyped(d.ArtifactType)
	})
}

// nothing reports whether a tag says that nothing refers to the image.
func (t told) nothing() bool {
	return errors.Is(t.err, boltseal.ErrNotFound) || t.err == nil && len(t.Listing.Referrers) == 0
}

// isAnswer reports whether a failure is an answer: of a registry that answers
// nothing, or asks to be left alone, nothing else is asked.
func isAnswer(err error) bool {
	if in := (*signIn)(nil); errors.As(err, &in) {
		return false
	}
	return (statusOf(err) != 0 || errors.Is(err, boltseal.ErrUnusable) || errors.Is(err, boltseal.ErrRefused)) && !errors.Is(err, errTooMany) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// isPassing reports whether a failure may be gone at the next try.
func isPassing(err error) bool {
	switch statusOf(err) {
	case 0, http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return errors.Is(err, boltseal.ErrUnavailable) && !errors.Is(err, boltseal.ErrUnusable)
	}
	return false
}

// attemptsAfter is how often the next question is asked: of a registry that answered
// none of the tries before, once.
func attemptsAfter(err error, most int) int {
	if err != nil && isPassing(err) {
		return 1
	}
	return most
}

// beside runs f in a goroutine of its own, and returns what waits for its end. A
// panic is put into err: there it would end the process.
func (r *Registry) beside(err *error, f func()) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				*err = fmt.Errorf("list referrers: panic: %.200v", p)
			}
		}()
		f()
	}()
	return func() { <-done }
}
