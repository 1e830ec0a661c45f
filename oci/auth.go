package oci

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sync/singleflight"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/lru"
)

// Lifetimes of tokens (distribution token specification: 60 s where the server
// states none). A token is renewed this much ahead of its end.
const (
	defaultTokenLife = 60 * time.Second
	renewAhead       = 15 * time.Second
	maxTokenLife     = 24 * time.Hour
)

// tokens keeps bearer tokens by all that they were had with. A token is fetched once
// for everybody who waits for it.
type tokens struct {
	opts   Options
	cache  *lru.Cache[tokenKey, tokenEntry]
	last   *lru.Cache[tokenKey, tokenKey] // the one that was used last, by a key without its origin
	count  atomic.Int64                   // of tokens so far
	flight singleflight.Group
}

type tokenKey struct {
	host, repository string
	// origin is where it was asked for, and as whom: a credential that is another one now,
	// or none any more, is served by no token that was had before.
	origin [sha256.Size]byte
}

// originOf is the origin of a token.
func originOf(c challenge, cred Credential) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, part := range []string{c.realm, c.service, cred.Username, cred.Password, cred.RefreshToken, cred.AccessToken} {
		_, _ = fmt.Fprintf(h, "%d ", len(part))
		_, _ = io.WriteString(h, part)
	}
	h.Sum(sum[:0])
	return sum
}

type tokenEntry struct {
	key    tokenKey
	token  string
	number int64 // in the order they were given
	until  time.Time
	as     Credential // that it is itself; anonymous where it was had for one
}

// secrets are the texts that no error may have in it.
func (s shown) secrets() []string {
	_, encoded, _ := strings.Cut(s.header, " ")
	return []string{encoded, s.token, s.as.Password, s.as.RefreshToken, s.as.AccessToken}
}

func newTokens(o Options) *tokens {
	return &tokens{opts: o, cache: lru.New[tokenKey, tokenEntry](o.Limits.Tokens), last: lru.New[tokenKey, tokenKey](o.Limits.Tokens / 4)}
}

// shown is what a request shows to a registry.
type shown struct {
	header    string     // for Authorization, "" for nothing
	token     string     // the bearer token in it, "" for none
	number    int64      // the token's
	key       tokenKey   // likewise
	as        Credential // what it shows without an exchange; anonymous for a token that was had for another
	challenge *challenge // what it answers, nil where the registry is not known to ask
}

// show makes the Authorization header for a repository as far as the registry
// is known to want one. The challenge is there beside an error too.
func (t *tokens) show(ctx context.Context, h *host, repository string) (shown, error) {
	c := h.challenge.Load()
	if c == nil {
		return shown{}, nil
	}
	if c.scheme == "basic" {
		cred, err := t.credential(ctx, h, repository)
		if err != nil || cred.Username == "" && cred.Password == "" {
			return shown{challenge: c}, err
		}
		return shown{header: "Basic " + base64.StdEncoding.EncodeToString([]byte(cred.Username+":"+cred.Password)), as: cred, challenge: c}, nil
	}
	e, err := t.bearer(ctx, h, *c, repository)
	if err != nil {
		return shown{challenge: c}, err
	}
	return shown{header: "Bearer " + e.token, token: e.token, number: e.number, key: e.key, as: e.as, challenge: c}, nil
}

// refused notes what a 401 asks for, drops the token that it refused, and says
// whether asking again can help with the same credential.
func (t *tokens) refused(h *host, resp *http.Response, repository string, s shown) (again bool) {
	t.forget(h, repository, s)
	exchanged := s.token != "" && s.as.Anonymous()
	c, ok := parseChallenges(resp.Header.Values("WWW-Authenticate"))
	if !ok {
		return exchanged // without a challenge too, a fresh token may do
	}
	if known := h.challenge.Load(); known == nil || *known != c {
		h.challenge.Store(&c)
	}
	// The same password, or the source's own token, would be refused again.
	return s.challenge == nil || *s.challenge != c || exchanged
}

// forget drops a token, unless there is another one by now.
func (t *tokens) forget(h *host, repository string, s shown) {
	if e, ok := t.cache.Get(s.key); ok && s.token != "" && e.token == s.token {
		t.cache.Delete(s.key)
	}
}

func (t *tokens) credential(ctx context.Context, h *host, repository string) (_ Credential, err error) {
	if t.opts.Credentials == nil {
		return Credential{}, nil
	}
	ctx, end := boltseal.BeginStep(ctx, boltseal.Step{Stage: boltseal.StageCredentials, Host: h.name})
	defer func() { end(boltseal.Ending{Err: err}) }()
	cred, err := t.opts.Credentials.Credential(ctx, h.name, repository)
	switch {
	case err == nil:
		return cred, nil
	case errors.Is(err, boltseal.ErrUnavailable), ctx.Err() != nil:
		return Credential{}, fmt.Errorf("%w: the credentials for %s: %w", boltseal.ErrUnavailable, h.name, err)
	}
	return Credential{}, fmt.Errorf("%w: no credentials for %s: %w", boltseal.ErrUnauthorized, h.name, err)
}

func (t *tokens) kept(k tokenKey) (tokenEntry, bool) {
	e, ok := t.cache.Get(k)
	return e, ok && t.opts.Clock().Before(e.until)
}

func (t *tokens) bearer(ctx context.Context, h *host, c challenge, repository string) (tokenEntry, error) {
	k := tokenKey{host: h.name, repository: repository}
	cred, err := t.credential(ctx, h, repository)
	if err != nil {
		// Who does not answer has not taken the credential back.
		if was, ok := t.last.Get(k); ok && errors.Is(err, boltseal.ErrUnavailable) {
			if e, ok := t.kept(was); ok {
				return e, nil
			}
		}
		return tokenEntry{}, err
	}
	of := k
	of.origin = originOf(c, cred)
	e, err := t.once(ctx, h, of, func(ctx context.Context) (tokenEntry, error) { return t.fetch(ctx, h, c, repository, cred) })
	if was, ok := t.last.Get(k); err == nil && (!ok || was != e.key) {
		t.last.Put(k, e.key, int64(2*len(repository)+256))
	}
	return e, err
}

// once returns the token that is kept, or has it fetched, once for all who wait.
func (t *tokens) once(ctx context.Context, h *host, k tokenKey, fetch func(context.Context) (tokenEntry, error)) (_ tokenEntry, err error) {
	if e, ok := t.kept(k); ok {
		return e, nil
	}
	ctx, end := boltseal.BeginStep(ctx, boltseal.Step{Stage: boltseal.StageToken, Host: h.name})
	defer func() { end(boltseal.Ending{Err: err}) }()
	// The first caller's leaving must not fail the others.
	ch := t.flight.DoChan(k.host+" "+k.repository+" "+string(k.origin[:]), func() (entry any, err error) {
		defer func() { // a panic here, in a goroutine of its own, would end the process
			if p := recover(); p != nil {
				entry, err = nil, fmt.Errorf("the token for %s: panic: %.200v", h.name, p)
			}
		}()
		if e, ok := t.kept(k); ok {
			return e, nil // the one that everybody waited for came in between
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.opts.Limits.RequestTimeout)
		defer cancel()
		e, err := fetch(ctx)
		if err != nil {
			return nil, err
		}
		e.number = t.count.Add(1)
		if e.key == (tokenKey{}) {
			e.key = k
		}
		t.cache.Put(e.key, e, int64(len(e.token)+len(k.host)+len(k.repository)+256))
		return e, nil
	})
	select {
	case res := <-ch:
		if res.Err != nil {
			return tokenEntry{}, res.Err
		}
		return res.Val.(tokenEntry), nil
	case <-ctx.Done():
		return tokenEntry{}, unavailableError(ctx.Err())
	}
}

// fetch gets a token, and tries once more where the token server refuses the
// credential and there is a fresh one.
func (t *tokens) fetch(ctx context.Context, h *host, c challenge, repository string, cred Credential) (tokenEntry, error) {
	for again := true; ; again = false {
		if !again {
			var err error
			if cred, err = t.credential(ctx, h, repository); err != nil {
				return tokenEntry{}, err
			}
		}
		k := tokenKey{h.name, repository, originOf(c, cred)}
		now := t.opts.Clock()
		if cred.AccessToken != "" {
			e := tokenEntry{key: k, token: cred.AccessToken, until: now.Add(defaultTokenLife), as: cred}
			if !cred.Expires.IsZero() {
				e.until = renewalTime(now, min(cred.Expires.Sub(now), maxTokenLife))
			}
			return e, nil
		}
		e, err := t.ask(ctx, h, c, repository, cred)
		if err == nil {
			e.key = k
			if end := renewalTime(now, cred.Expires.Sub(now)); !cred.Expires.IsZero() && end.Before(e.until) {
				e.until = end
			}
			return e, nil
		}
		if !again || !refusesCredential(err, cred) {
			return tokenEntry{}, err
		}
		fresh, renewErr := t.renew(ctx, h, repository, cred)
		if renewErr != nil {
			return tokenEntry{}, renewErr
		}
		if !fresh {
			return tokenEntry{}, err
		}
	}
}

// renewalTime is when something that lives so long from now on is renewed.
func renewalTime(now time.Time, life time.Duration) time.Time {
	return now.Add(life - min(renewAhead, life/4))
}

// refusesCredential tells whether a token server's answer is about the credential
// (distribution token specification: 401; RFC 6749, section 5.2: also 400 for a
// refresh token that is no longer good).
func refusesCredential(err error, c Credential) bool {
	status := statusOf(err)
	return status == http.StatusUnauthorized || status == http.StatusBadRequest && c.RefreshToken != ""
}

// ask asks the token server (distribution-spec "token authentication"; with an
// identity token, its OAuth 2 form).
func (t *tokens) ask(ctx context.Context, h *host, c challenge, repository string, cred Credential) (tokenEntry, error) {
	realm, transport, err := h.realm(ctx, c.realm, !cred.Anonymous())
	if err != nil {
		return tokenEntry{}, err
	}
	return t.askAt(ctx, h, realm, transport, c.service, repository, cred)
}

// askAt asks a token server that was judged already.
func (t *tokens) askAt(ctx context.Context, h *host, realm *url.URL, transport *http.Transport, service, repository string, cred Credential) (tokenEntry, error) {
	scope := "repository:" + repository + ":pull"
	header := http.Header{"User-Agent": {t.opts.UserAgent}, "Accept": {"application/json"}}
	req := (&http.Request{Method: http.MethodGet, URL: realm, Header: header, Host: realm.Host}).WithContext(ctx)
	if cred.RefreshToken != "" {
		form := url.Values{"grant_type": {"refresh_token"}, "service": {service}, "scope": {scope}, "client_id": {"boltseal"}, "refresh_token": {cred.RefreshToken}}
		body := form.Encode()
		post, err := http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(body))
		if err != nil {
			return tokenEntry{}, fmt.Errorf("%w: realm: %v", boltseal.ErrUnusable, err)
		}
		header.Set("Content-Type", "application/x-www-form-urlencoded")
		post.Header, req = header, post
	} else {
		query := realm.Query()
		query.Set("scope", scope)
		if service != "" {
			query.Set("service", service)
		}
		realm.RawQuery = query.Encode()
		if cred.Username != "" || cred.Password != "" {
			req.SetBasicAuth(cred.Username, cred.Password)
		}
	}
	return t.exchange(h, req, transport, shown{as: cred, header: req.Header.Get("Authorization")}.secrets())
}

func (t *tokens) exchange(h *host, req *http.Request, transport *http.Transport, secrets []string) (tokenEntry, error) {
	fail := func(status int, err error) error {
		return &boltseal.StoreError{Op: "token", Host: req.URL.Host, Target: h.name, Status: status, Err: err}
	}
	ctx, end := context.WithCancel(req.Context())
	defer end()
	resp, err := observedRoundTrip(transport, req.WithContext(ctx), false)
	if err != nil {
		return tokenEntry{}, fail(0, classifyError(err))
	}
	defer drainBody(resp)
	var entry tokenEntry
	t.opts.Room.reading(ctx, h.name, end, resp, func(resp *http.Response) { entry, err = t.granted(resp, fail, secrets) })
	return entry, err
}

// granted is the token in a token server's answer.
func (t *tokens) granted(resp *http.Response, fail func(status int, err error) error, secrets []string) (tokenEntry, error) {
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
	case code == http.StatusTooManyRequests, code >= 500:
		wait := retryAfter(resp, t.opts.Clock())
		return tokenEntry{}, &later{wait: wait, err: fail(code, boltseal.ErrUnavailable)}
	case code >= 300 && code < 400 && resp.Header.Get("Location") != "":
		return tokenEntry{}, fail(code, fmt.Errorf("%w: it sends the question for a token elsewhere, where no credentials go", boltseal.ErrUnauthorized))
	default:
		return tokenEntry{}, fail(code, t.refusal(resp, secrets))
	}
	if isHTML(resp) {
		return tokenEntry{}, fail(resp.StatusCode, unexpectedAnswer(resp, "a token"))
	}
	b, err := readBody(resp, t.opts.Limits.TokenBytes)
	if errors.Is(err, boltseal.ErrLimit) {
		err = fmt.Errorf("%w: the token server's answer is too long", boltseal.ErrUnusable)
	}
	if err != nil {
		return tokenEntry{}, fail(resp.StatusCode, classifyError(err))
	}
	var doc struct {
		Token       string         `json:"token"`
		AccessToken string         `json:"access_token"`
		ExpiresIn   jsontext.Value `json:"expires_in"` // a number, or whatever a server writes for one
		IssuedAt    jsontext.Value `json:"issued_at"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		// The answer may hold a token: its text must not reach the message.
		return tokenEntry{}, fail(resp.StatusCode, fmt.Errorf("%w: the token server's answer is not what it should be", boltseal.ErrUnusable))
	}
	if doc.Token == "" {
		doc.Token = doc.AccessToken
	}
	if doc.Token == "" || strings.ContainsAny(doc.Token, "\r\n") {
		return tokenEntry{}, fail(resp.StatusCode, fmt.Errorf("%w: the token server's answer has no token", boltseal.ErrUnusable))
	}
	life := defaultTokenLife
	if seconds := readSeconds(doc.ExpiresIn); seconds > 0 {
		life = time.Duration(min(seconds, maxTokenLife.Seconds()) * float64(time.Second))
	}
	now := t.opts.Clock()
	if issued, ok := readMoment(doc.IssuedAt); ok {
		// One that was kept for us has part of its life behind it. What cannot
		// be is a clock that goes wrong.
		if age := now.Sub(issued); age > 0 && age < life {
			life -= age
		}
	}
	return tokenEntry{token: doc.Token, until: renewalTime(now, life)}, nil
}

// scalarText is the text of a JSON string or number.
func scalarText(v jsontext.Value) string {
	var s string
	if json.Unmarshal(v, &s) == nil {
		return strings.TrimSpace(s)
	}
	return string(v)
}

// readSeconds reads a lifetime, 0 where there is none.
func readSeconds(v jsontext.Value) float64 {
	text := scalarText(v)
	if n, err := strconv.ParseFloat(text, 64); err == nil && n > 0 {
		return n
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return d.Seconds()
	}
	return 0
}

// readMoment reads when a token was issued, in the forms that servers write.
func readMoment(v jsontext.Value) (t time.Time, ok bool) {
	text := scalarText(v)
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Unix(n, 0), n > 0 && n < 1<<40
	}
	for _, layout := range []string{time.RFC3339, time.RFC1123, time.RFC1123Z, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05Z07:00", time.DateTime} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	return t, false
}

// refusal is the error of a token server's answer that is no token.
func (t *tokens) refusal(resp *http.Response, secrets []string) error {
	f := readFailure(resp)
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusBadRequest && f.code == "invalid_grant": // RFC 6749, section 5.2
		return f.add(boltseal.ErrUnauthorized, secrets...)
	}
	return f.add(fmt.Errorf("%w: it gives no token", boltseal.ErrUnusable), secrets...)
}

// realm judges where a registry wants to send us, and our credentials, for a token.
func (h *host) realm(ctx context.Context, text string, credentials bool) (*url.URL, *http.Transport, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Fragment != "":
		return nil, nil, fmt.Errorf("%w: %s names a token server that is no URL", boltseal.ErrUnusable, h.name)
	case u.User != nil:
		return nil, nil, withRemedy(refusedError("%s names a token server with credentials in its URL", h.name), "take the user and password out of the address that "+h.name+" gives of its token server")
	case u.Scheme != "https" && (u.Scheme != "http" || h.scheme != "http"):
		return nil, nil, withRemedy(refusedError("%s sends to a token server without TLS: %s://%s", h.name, u.Scheme, u.Host),
			"correct the address that "+h.name+" gives of its token server: its external URL must begin with https:// (external_url of Harbor, auth.token.realm of distribution), or the proxy before it must send X-Forwarded-Proto: https")
	case strings.EqualFold(u.Hostname(), hostName(h.address)), slices.Contains(h.opts.AuthRealms, u.Host):
		return u, h.transport, h.allowed(u)
	case credentials:
		return nil, nil, withRemedy(refusedError("%s wants its credentials sent to %s; list that host in authRealms of the Store's parameters if it is right", h.name, u.Host),
			"if "+u.Host+" is the token server of "+h.name+", list it in authRealms of that host's entry in registries, in the Store's parameters")
	}
	transport, err := h.elsewhere(ctx, u)
	return u, transport, err
}
