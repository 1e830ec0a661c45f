package gcpkms

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/keys"
)

// The hosts that are asked. Tokens go to no other.
const (
	kmsHost = "cloudkms.googleapis.com"
	caHost  = "privateca.googleapis.com"
)

const opSignIn = "sign in to Google Cloud"

// client speaks Google's REST.
type client struct {
	http  *http.Client
	near  *http.Client // for the metadata server, by no proxy
	clock func() time.Time
	who   *identity
}

// get asks one of the services for a resource, signed in. A token that is refused
// is replaced once.
func (c *client) get(ctx context.Context, op, target, host, path string, query url.Values, into any) error {
	at := url.URL{Scheme: "https", Host: host, Path: "/v1/" + path, RawQuery: query.Encode()}
	for again := false; ; again = true {
		token, err := c.who.token(ctx, again)
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
		if err != nil {
			return &keys.Error{Op: op, Target: target, Host: host, Err: boltseal.ErrConfiguration}
		}
		req.Header.Set("Authorization", "Bearer "+token)
		err = c.do(req, op, target, into)
		var e *keys.Error
		if again || !errors.As(err, &e) || e.Status != http.StatusUnauthorized {
			return err
		}
	}
}

// form posts a form, as token endpoints want it (RFC 8693, section 2.1).
func (c *client) form(ctx context.Context, at string, form url.Values, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(form.Encode()))
	if err != nil {
		return &keys.Error{Op: opSignIn, Err: boltseal.ErrConfiguration}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return c.do(req, opSignIn, "", into)
}

// json posts a document with a token.
func (c *client) json(ctx context.Context, at, token string, question, into any) error {
	b, err := json.Marshal(question)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, bytes.NewReader(b))
	if err != nil {
		return &keys.Error{Op: opSignIn, Err: boltseal.ErrConfiguration}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	return c.do(req, opSignIn, "", into)
}

// do asks once: the refresher knows how long to leave Google alone.
func (c *client) do(req *http.Request, op, target string, into any) error {
	host := req.URL.Host
	req.Header.Set("User-Agent", "boltseal")
	by := c.http
	if req.URL.Scheme == "http" {
		by = c.near
	}
	resp, err := by.Do(req)
	if err != nil {
		return keys.NoAnswer(op, target, host, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return keys.NoAnswer(op, target, host, err)
	}
	if resp.StatusCode != http.StatusOK {
		return c.refused(op, target, host, resp, b)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return garbled(op, target, host, "it answers with something else than was asked for")
	}
	return nil
}

func garbled(op, target, host, detail string) error {
	return &keys.Error{Op: op, Target: target, Host: host, Status: http.StatusOK, Err: boltseal.ErrMalformed, Detail: detail}
}

// failure is how Google's services say what is wrong (google.rpc.Status as JSON;
// AIP-193), and in "error" alone how its token endpoints do (RFC 6749, section 5.2).
type failure struct {
	Error       json.RawMessage `json:"error"`
	Description string          `json:"error_description"`
}

type rpcStatus struct {
	Message string `json:"message"`
	Status  string `json:"status"`
	Details []struct {
		Type       string `json:"@type"`
		Reason     string `json:"reason"`
		RetryDelay string `json:"retryDelay"` // such as "3.5s"
	} `json:"details"`
}

// maxRetryDelay bounds what a server may ask for.
const maxRetryDelay = time.Hour

// failedPrecondition is the status of what is in a state that does not allow it.
const failedPrecondition = "FAILED_PRECONDITION"

func (c *client) refused(op, target, host string, resp *http.Response, body []byte) error {
	e := &keys.Error{Op: op, Target: target, Host: host, Status: resp.StatusCode, Err: keys.Sentinel(resp.StatusCode), RetryAfter: keys.RetryAfter(resp.Header, c.clock())}
	var told failure
	var st rpcStatus
	var code string
	switch {
	case json.Unmarshal(body, &told) != nil:
	case json.Unmarshal(told.Error, &code) == nil:
		e.Detail = keys.Clean(strings.TrimSuffix(code+": "+told.Description, ": "))
	case json.Unmarshal(told.Error, &st) == nil:
		e.Detail = keys.Clean(strings.TrimSuffix(st.Status+": "+st.Message, ": "))
	}
	for _, d := range st.Details {
		if wait, err := time.ParseDuration(d.RetryDelay); err == nil && wait > 0 {
			e.RetryAfter = max(e.RetryAfter, min(wait, maxRetryDelay))
		}
		if d.Reason == "SERVICE_DISABLED" {
			e.Remedy = "enable the API " + host + " in the project"
		}
	}
	switch {
	case op == opSignIn && resp.StatusCode >= 400 && resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests:
		e.Err = boltseal.ErrUnauthorized
		e.Remedy = "see that Boltseal's ServiceAccount may be who it says in Google Cloud (Workload Identity, or the pool's provider and its audience)"
	case e.Remedy != "":
	case errors.Is(e.Err, boltseal.ErrUnauthorized) && host == kmsHost:
		e.Remedy = "give Boltseal's identity roles/cloudkms.viewer and roles/cloudkms.publicKeyViewer on the key"
	case errors.Is(e.Err, boltseal.ErrUnauthorized):
		e.Remedy = "give Boltseal's identity roles/privateca.auditor on the pool"
	}
	return e
}

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
	return errors.As(err, &e) && e.Status == http.StatusNotFound && e.Op != opSignIn
}
