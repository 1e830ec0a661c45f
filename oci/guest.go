package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/boltseal/boltseal"
)

// guestToken is the token that anybody gets from a registry to which another one
// redirects, as a node does that pulls there. No credential goes with the question.
// "" means that there is none.
func (q *request) guestToken(ctx context.Context, at *url.URL, resp *http.Response) (string, error) {
	repository := repositoryOf(at.Path)
	c, ok := parseChallenges(resp.Header.Values("WWW-Authenticate"))
	if !ok || c.scheme != "bearer" || repository == "" {
		return "", nil
	}
	e, err := q.r.auth.guest(ctx, q.h, at, c, repository)
	if errors.Is(err, boltseal.ErrUnavailable) && !errors.Is(err, boltseal.ErrUnusable) {
		return "", err
	}
	return e.token, nil
}

// repositoryOf is the repository that a path of the API names, "" where it names none.
func repositoryOf(path string) string {
	rest, ok := strings.CutPrefix(path, "/v2/")
	for _, kind := range []string{"/manifests/", "/referrers/", "/blobs/"} {
		if i := strings.LastIndex(rest, kind); ok && i > 0 {
			return rest[:i]
		}
	}
	return ""
}

// guestKey is apart from the keys of the registries themselves: what a guest gets is
// never shown to one that was asked by its own name, nor the other way round.
func guestKey(h *host, at *url.URL, repository string) tokenKey {
	return tokenKey{host: "guest of " + at.Scheme + "://" + at.Host + " by way of " + h.name, repository: repository}
}

// guest gets a token without a credential, once for all who wait for it.
func (t *tokens) guest(ctx context.Context, h *host, at *url.URL, c challenge, repository string) (tokenEntry, error) {
	k := guestKey(h, at, repository)
	return t.once(ctx, h, k, func(ctx context.Context) (tokenEntry, error) {
		u, err := url.Parse(c.realm)
		switch {
		case err != nil || u.Hostname() == "" || u.Fragment != "" || u.User != nil:
			return tokenEntry{}, fmt.Errorf("%w: %s names a token server that is no URL", boltseal.ErrUnusable, at.Host)
		case u.Scheme != "https" && (u.Scheme != "http" || at.Scheme != "http"):
			return tokenEntry{}, refusedError("%s sends to a token server without TLS", at.Host)
		}
		transport, err := h.elsewhere(ctx, u)
		if err != nil {
			return tokenEntry{}, err
		}
		return t.askAt(ctx, h, u, transport, c.service, repository, Credential{})
	})
}
