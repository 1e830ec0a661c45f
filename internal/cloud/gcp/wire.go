package gcp

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/keys"
)

// Op is what is done here, as a keys.Error has it.
const Op = "sign in to Google Cloud"

// form posts a form, as token endpoints want it (RFC 8693, section 2.1).
func (id *Identity) form(ctx context.Context, at string, form url.Values, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(form.Encode()))
	if err != nil {
		return &keys.Error{Op: Op, Err: boltseal.ErrConfiguration}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return Do(id.far, id.env.Clock, req, Op, "", into)
}

// impersonate asks for a token of a service account (IAM Credentials API, REST v1).
func (id *Identity) impersonate(ctx context.Context, at, token string, into any) error {
	b, err := json.Marshal(map[string]any{"scope": []string{scope}})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, bytes.NewReader(b))
	if err != nil {
		return &keys.Error{Op: Op, Err: boltseal.ErrConfiguration}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	return Do(id.far, id.env.Clock, req, Op, "", into)
}

// Do asks one of Google's services once, and reads its answer: whoever calls knows how
// long to leave Google alone. Errors are [keys.Error], and hold nothing of an answer
// but what it says is wrong.
func Do(by *http.Client, clock func() time.Time, req *http.Request, op, target string, into any) error {
	host := req.URL.Host
	req.Header.Set("User-Agent", "boltseal")
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
		return refused(clock, op, target, host, resp, b)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return &keys.Error{Op: op, Target: target, Host: host, Status: http.StatusOK, Err: boltseal.ErrMalformed, Detail: "it answers with something else than was asked for"}
	}
	return nil
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

func refused(clock func() time.Time, op, target, host string, resp *http.Response, body []byte) error {
	e := &keys.Error{Op: op, Target: target, Host: host, Status: resp.StatusCode, Err: keys.Sentinel(resp.StatusCode), RetryAfter: keys.RetryAfter(resp.Header, clock())}
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
	if op == Op && resp.StatusCode >= 400 && resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests {
		e.Err = boltseal.ErrUnauthorized
		e.Remedy = "see that Boltseal's ServiceAccount may be who it says in Google Cloud (Workload Identity, or the pool's provider and its audience)"
	}
	return e
}
