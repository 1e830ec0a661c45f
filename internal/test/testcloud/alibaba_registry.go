package testcloud

import (
	"cmp"
	"crypto/rand"
	"net/http"
	"strings"
)

// Instance starts an instance of Container Registry in a region, at hosts such as
// acme-registry.cn-hangzhou.cr.aliyuncs.com, from which roles may pull. What it holds
// is content's; nil = nothing. Its token server is at AlibabaRealm.
func (a *Alibaba) Instance(id, region string, content http.Handler, hosts []string, roles ...string) {
	in := &alibabaInstance{region: region, pull: roles, users: map[string]alibabaUser{}, tokens: map[string]string{}}
	a.mu.Lock()
	a.instances[id] = in
	a.mu.Unlock()
	for _, host := range hosts {
		a.c.Serve(host, a.registry(in, content))
	}
	a.c.Serve(AlibabaRealm(region), a.realm(in))
}

// AlibabaRealm is the host of a region's token server.
func AlibabaRealm(region string) string { return "dockerauth-ee." + region + ".aliyuncs.com" }

// Revoke ends all temporary users of all instances.
func (a *Alibaba) Revoke() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, in := range a.instances {
		clear(in.users)
		clear(in.tokens)
	}
}

// Realm has registries send to a token server at another host; "" = their own.
func (a *Alibaba) Realm(host string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.elsewhere = host
}

// realm gives a token for a repository to whoever is a temporary user.
func (a *Alibaba) realm(in *alibabaInstance) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := r.BasicAuth()
		a.c.keep(password)
		a.mu.Lock()
		defer a.mu.Unlock()
		u, known := in.users[user+":"+password]
		repository := strings.TrimSuffix(strings.TrimPrefix(r.URL.Query().Get("scope"), "repository:"), ":pull")
		if r.URL.Path != "/auth" || !ok || !known || !a.c.clock().Before(u.ends) {
			replyJSON(w, http.StatusUnauthorized, map[string]any{"errors": []any{map[string]any{"code": "UNAUTHORIZED", "message": "authentication required"}}})
			return
		}
		token := rand.Text() + rand.Text()
		in.tokens[token] = repository
		a.c.keep(token)
		replyJSON(w, http.StatusOK, map[string]any{"token": token, "access_token": token, "expires_in": 60})
	}
}

func (a *Alibaba) registry(in *alibabaInstance, content http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		a.mu.Lock()
		repository, ok := in.tokens[token]
		realm := cmp.Or(a.elsewhere, AlibabaRealm(in.region))
		a.mu.Unlock()
		if !ok || !strings.HasPrefix(r.URL.Path, "/v2/"+repository+"/") {
			w.Header().Set("WWW-Authenticate", `Bearer realm="https://`+realm+`/auth",service="registry.aliyuncs.com:`+in.region+`:26842"`)
			replyJSON(w, http.StatusUnauthorized, map[string]any{"errors": []any{map[string]any{"code": "UNAUTHORIZED", "message": "authentication required"}}})
			return
		}
		if content == nil {
			http.NotFound(w, r)
			return
		}
		content.ServeHTTP(w, r)
	}
}
