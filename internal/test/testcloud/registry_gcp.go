package testcloud

import (
	"cmp"
	"crypto/rand"
	"net/http"
	"strings"
	"time"
)

// googleRegistryLife is how long a registry's own tokens are good.
const googleRegistryLife = time.Hour

// Registry starts a host of Artifact Registry, such as europe-west1-docker.pkg.dev or
// gcr.io, from which the identity may pull. What it holds is content's; nil = nothing.
func (g *GoogleKMS) Registry(host string, content http.Handler) {
	g.c.Serve(host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/token" {
			g.registryToken(w, r, host)
			return
		}
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		g.mu.Lock()
		t, ok := g.pulls[token]
		realm := cmp.Or(g.elsewhere, host)
		g.mu.Unlock()
		if !ok || t.host != host || !strings.HasPrefix(r.URL.Path, "/v2/"+t.repository+"/") || !g.c.clock().Before(t.until) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="https://`+realm+`/v2/token",service="`+host+`"`)
			registryFail(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication failed")
			return
		}
		if content == nil {
			http.NotFound(w, r)
			return
		}
		content.ServeHTTP(w, r)
	}))
}

// googlePull is a registry's own token.
type googlePull struct {
	host, repository string
	until            time.Time
}

// Elsewhere has registries send to a token server at another host; "" = their own.
func (g *GoogleKMS) Elsewhere(host string) { g.change(func() { g.elsewhere = host }) }

// registryToken gives a token for a repository to whoever shows one of Google's.
func (g *GoogleKMS) registryToken(w http.ResponseWriter, r *http.Request, host string) {
	user, password, _ := r.BasicAuth()
	g.c.keep(password)
	g.mu.Lock()
	defer g.mu.Unlock()
	t, known := g.tokens[password]
	repository := strings.TrimSuffix(strings.TrimPrefix(r.FormValue("scope"), "repository:"), ":pull")
	switch {
	case r.Method != http.MethodGet || r.FormValue("service") != host || repository == r.FormValue("scope"):
		registryFail(w, http.StatusBadRequest, "NAME_INVALID", "service or scope is wrong")
	case user != "oauth2accesstoken" || !known || !g.c.clock().Before(t.until):
		registryFail(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication failed")
	case t.federated && g.Account != "" || g.forbidden:
		registryFail(w, http.StatusForbidden, "DENIED", `Permission "artifactregistry.repositories.downloadArtifacts" denied on resource (or it may not exist)`)
	default:
		token := rand.Text() + rand.Text()
		g.pulls[token] = googlePull{host, repository, g.c.clock().Add(googleRegistryLife)}
		g.c.keep(token)
		replyJSON(w, http.StatusOK, map[string]any{"token": token, "expires_in": int(googleRegistryLife / time.Second)})
	}
}

func registryFail(w http.ResponseWriter, status int, code, message string) {
	replyJSON(w, status, map[string]any{"errors": []any{map[string]any{"code": code, "message": message}}})
}
