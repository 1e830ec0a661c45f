package kms

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/gcp"
	"github.com/boltseal/boltseal/internal/keys"
)

// The hosts that are asked. Tokens go to no other.
const (
	kmsHost = "cloudkms.googleapis.com"
	caHost  = "privateca.googleapis.com"
)

// client speaks Google's REST.
type client struct {
	http  *http.Client
	clock func() time.Time
	who   *gcp.Identity
}

// get asks one of the services for a resource, signed in. A token that is refused
// is replaced once.
func (c *client) get(ctx context.Context, op, target, host, path string, query url.Values, into any) error {
	at := url.URL{Scheme: "https", Host: host, Path: "/v1/" + path, RawQuery: query.Encode()}
	for again := false; ; again = true {
		token, err := c.who.Token(ctx)
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
		if err != nil {
			return &keys.Error{Op: op, Target: target, Host: host, Err: boltseal.ErrConfiguration}
		}
		req.Header.Set("Authorization", "Bearer "+token.Value)
		err = c.do(req, op, target, into)
		var e *keys.Error
		if !errors.As(err, &e) || e.Status != http.StatusUnauthorized {
			return err
		}
		if c.who.Drop(token); again {
			return err
		}
	}
}

// do asks once, and says which role is missing.
func (c *client) do(req *http.Request, op, target string, into any) error {
	err := gcp.Do(c.http, c.clock, req, op, target, into)
	var e *keys.Error
	if !errors.As(err, &e) || e.Remedy != "" || !errors.Is(e.Err, boltseal.ErrUnauthorized) {
		return err
	}
	if e.Remedy = "give Boltseal's identity roles/privateca.auditor on the pool"; req.URL.Host == kmsHost {
		e.Remedy = "give Boltseal's identity roles/cloudkms.viewer and roles/cloudkms.publicKeyViewer on the key"
	}
	return err
}

func garbled(op, target, host, detail string) error {
	return &keys.Error{Op: op, Target: target, Host: host, Status: http.StatusOK, Err: boltseal.ErrMalformed, Detail: detail}
}

// failedPrecondition is the status of what is in a state that does not allow it.
const failedPrecondition = "FAILED_PRECONDITION"

// list asks for all pages of a list. more takes one in, and returns how many
// entries there are by now.
func list[T any](ctx context.Context, c *client, op, target, host, path string, page func(T) (entries int, next string)) error {
	query := url.Values{"pageSize": {fmt.Sprint(pageSize)}}
	for n := 0; ; {
		var answer T
		if err := c.get(ctx, op, target, host, path, query, &answer); err != nil {
			return err
		}
		entries, next := page(answer)
		if next == "" {
			return nil
		}
		if n++; n >= maxPages || entries >= keys.MaxListed {
			return &keys.Error{Op: op, Target: target, Host: host, Err: boltseal.ErrLimit, Detail: fmt.Sprintf("more than %d entries or %d pages", keys.MaxListed, maxPages), Remedy: "name single ones"}
		}
		query.Set("pageToken", next)
	}
}

const (
	pageSize = 100
	// maxPages bounds how often a service may say that there is more.
	maxPages = 100
)

func notFound(err error) bool {
	var e *keys.Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound && e.Op != gcp.Op
}
