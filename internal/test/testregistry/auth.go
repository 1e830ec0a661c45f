package testregistry

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	tokenPath = "/token"
	// DefaultTokenLifetime is how long a token is good.
	DefaultTokenLifetime = 5 * time.Minute
	// DefaultService is the service that challenges name.
	DefaultService = "boltseal-test-registry"
)

// BasicOptions ask for HTTP basic authentication.
type BasicOptions struct {
	// Users maps names to passwords. Nobody else gets in.
	Users map[string]string
}

// TokenOptions ask for bearer tokens (the token authentication protocol of the
// distribution project).
type TokenOptions struct {
	// Users maps names to passwords, which the token server asks for.
	Users map[string]string
	// Anonymous gives tokens for pulling to everybody.
	Anonymous bool
	// Allow says who may do what ("pull", "push"); user is "" for an anonymous
	// one. Nil allows users everything and the anonymous to pull.
	Allow func(user, repo, action string) bool
	// Lifetime is how long a token is good. 0 means DefaultTokenLifetime.
	Lifetime time.Duration
	// Service is named in the challenge. "" means DefaultService.
	Service string
	// OwnListener serves tokens on another port than the registry.
	OwnListener bool
	// Realm replaces the address of the token server in challenges, for realms
	// that point elsewhere.
	Realm string
	// OnlyToken leaves access_token out of the answers, OnlyAccessToken token.
	OnlyToken, OnlyAccessToken bool
}

// authenticator checks requests and issues tokens. Its zero value lets all in.
type authenticator struct {
	token    *TokenOptions
	basic    *BasicOptions
	realm    string
	clock    func() time.Time
	separate bool

	mu     sync.Mutex
	tokens map[string]grant
	issued map[string]int // by scope, "" for none
}

// grant is what a token allows.
type grant struct {
	user    string
	scopes  map[string][]string // actions by repository
	expires time.Time
}

func (r *Registry) startAuth(tlsConfig *tls.Config) error {
	a := &r.auth
	a.token, a.basic, a.clock = r.opts.Token, r.opts.Basic, r.opts.Clock
	a.tokens, a.issued = map[string]grant{}, map[string]int{}
	if a.token == nil {
		return nil
	}
	base := r.URL
	if a.token.OwnListener {
		ln, err := net.Listen("tcp", DefaultAddress)
		if err != nil {
			return fmt.Errorf("testregistry: token server: %w", err)
		}
		scheme, _, _ := strings.Cut(r.URL, ":")
		base = scheme + "://" + ln.Addr().String()
		a.separate = true
		r.serve(ln, http.HandlerFunc(r.handleToken), tlsConfig)
	}
	a.realm = base + tokenPath
	if a.token.Realm != "" {
		a.realm = a.token.Realm
	}
	return nil
}

// handleToken serves the token server's own listener, with the same log, delays
// and faults.
func (r *Registry) handleToken(w http.ResponseWriter, req *http.Request) {
	e := r.log.begin(req)
	lw := &loggingWriter{ResponseWriter: w, log: &r.log, entry: e}
	defer r.log.end(e, nil)
	if d := time.Duration(r.latency.Load()); d > 0 && !r.wait(req, d) {
		return
	}
	if f, ok := r.faults.pick(req, e); ok {
		r.log.note(e, func(e *Request) { e.Fault = f.Kind })
		r.misbehave(lw, req, e, f)
		return
	}
	r.auth.issue(lw, req)
}

// TokenURL is the address of the token server, "" without one.
func (r *Registry) TokenURL() string { return r.auth.realm }

// TokensIssued counts the tokens given for a scope, as "repository:NAME:pull";
// "" counts all.
func (r *Registry) TokensIssued(scope string) int {
	r.auth.mu.Lock()
	defer r.auth.mu.Unlock()
	if scope != "" {
		return r.auth.issued[scope]
	}
	n := 0
	for _, v := range r.auth.issued {
		n += v
	}
	return n
}

// ExpireTokens makes all tokens so far invalid.
func (r *Registry) ExpireTokens() {
	r.auth.mu.Lock()
	defer r.auth.mu.Unlock()
	clear(r.auth.tokens)
}

func (a *authenticator) onSameHost() bool { return a.token != nil && !a.separate }

// check lets a request pass, or answers it with a challenge.
func (a *authenticator) check(w http.ResponseWriter, req *http.Request, e *Request) bool {
	switch {
	case a.basic != nil:
		user, password, ok := req.BasicAuth()
		if ok && knowsUser(a.basic.Users, user, password) {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test registry"`)
	case a.token != nil:
		action := "pull"
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			action = "push"
		}
		if a.granted(req, e.Repo, action) {
			return true
		}
		challenge := fmt.Sprintf(`Bearer realm=%q,service=%q`, a.realm, a.service())
		if e.Repo != "" {
			scope := "repository:" + e.Repo + ":pull"
			if action == "push" {
				scope += ",push"
			}
			challenge += fmt.Sprintf(`,scope=%q`, scope)
		}
		w.Header().Set("WWW-Authenticate", challenge)
	default:
		return true
	}
	writeError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	return false
}

func (a *authenticator) service() string {
	if a.token.Service == "" {
		return DefaultService
	}
	return a.token.Service
}

func knowsUser(users map[string]string, user, password string) bool {
	want, ok := users[user]
	return ok && want == password
}

func (a *authenticator) granted(req *http.Request, repo, action string) bool {
	token, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	g, ok := a.tokens[token]
	if !ok || !clockNow(a.clock).Before(g.expires) {
		return false
	}
	return repo == "" || slices.Contains(g.scopes[repo], action)
}

// issue answers a request for a token: GET with basic authentication or none,
// or the form of OAuth 2 with a password or a refresh token.
func (a *authenticator) issue(w http.ResponseWriter, req *http.Request) {
	user, password, authenticated := req.BasicAuth()
	if req.Method == http.MethodPost {
		switch req.PostFormValue("grant_type") {
		case "password":
			user, password, authenticated = req.PostFormValue("username"), req.PostFormValue("password"), true
		case "refresh_token": // a refresh token is "USER:PASSWORD" here
			user, password, authenticated = strings.Cut(req.PostFormValue("refresh_token"), ":")
		}
	}
	if err := req.ParseForm(); err != nil {
		writeError(w, http.StatusBadRequest, "UNSUPPORTED", err.Error())
		return
	}
	if authenticated && !knowsUser(a.token.Users, user, password) || !authenticated && !a.token.Anonymous {
		writeError(w, http.StatusUnauthorized, "UNAUTHORIZED", "wrong or no credentials")
		return
	}
	if !authenticated {
		user = ""
	}
	var scopes []string
	for _, s := range req.Form["scope"] {
		scopes = append(scopes, strings.Fields(s)...)
	}
	token, lifetime := rand.Text(), a.lifetime()
	a.mu.Lock()
	a.tokens[token] = grant{user: user, scopes: a.allowed(user, scopes), expires: clockNow(a.clock).Add(lifetime)}
	a.issued[strings.Join(scopes, " ")]++
	a.mu.Unlock()
	answer := map[string]any{"expires_in": int(lifetime.Seconds()), "issued_at": clockNow(a.clock).UTC().Format(time.RFC3339)}
	if !a.token.OnlyAccessToken {
		answer["token"] = token
	}
	if !a.token.OnlyToken {
		answer["access_token"] = token
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func (a *authenticator) lifetime() time.Duration {
	if a.token.Lifetime <= 0 {
		return DefaultTokenLifetime
	}
	return a.token.Lifetime
}

// allowed reads scopes such as "repository:a/b:pull,push" and keeps the actions
// that the user may do.
func (a *authenticator) allowed(user string, scopes []string) map[string][]string {
	out := map[string][]string{}
	for _, s := range scopes {
		rest, ok := strings.CutPrefix(s, "repository:")
		i := strings.LastIndexByte(rest, ':')
		if !ok || i < 0 {
			continue
		}
		repo := rest[:i]
		for action := range strings.SplitSeq(rest[i+1:], ",") {
			may := user != "" || action == "pull"
			if a.token.Allow != nil {
				may = a.token.Allow(user, repo, action)
			}
			if may {
				out[repo] = append(out[repo], action)
			}
		}
	}
	return out
}
