package testcloud

import (
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// grant makes a token, under g.mu.
func (g *GoogleKMS) grant(federated bool) string {
	token := "ya29." + rand.Text() + rand.Text()
	g.c.keep(token)
	g.tokens[token] = googleToken{g.c.clock().Add(g.life), federated}
	return token
}

// googleFail answers as Google's services do (google.rpc.Status as JSON).
func googleFail(w http.ResponseWriter, status int, code, message string) {
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="https://accounts.google.com/"`)
	}
	replyJSON(w, status, map[string]any{"error": map[string]any{"code": status, "message": message, "status": code}})
}

// allowed checks the token, under g.mu.
func (g *GoogleKMS) allowed(w http.ResponseWriter, r *http.Request, federated bool) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	t, known := g.tokens[token]
	switch {
	case !ok:
		googleFail(w, http.StatusUnauthorized, "UNAUTHENTICATED", "Request is missing required authentication credential.")
	case !known || !g.c.clock().Before(t.until):
		googleFail(w, http.StatusUnauthorized, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
	case t.federated && !federated && g.Account != "" || g.forbidden:
		googleFail(w, http.StatusForbidden, "PERMISSION_DENIED", "Permission denied on resource "+r.URL.Path+" (or it may not exist).")
	default:
		return true
	}
	return false
}

// MetadataHandler is the metadata server, for who puts something before it.
func (g *GoogleKMS) MetadataHandler() http.HandlerFunc { return g.serveMetadata }

// serveMetadata answers for the metadata server.
func (g *GoogleKMS) serveMetadata(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w.Header().Set("Metadata-Flavor", "Google")
	switch {
	case r.Header.Get("Metadata-Flavor") != "Google" || r.Header.Get("X-Forwarded-For") != "":
		http.Error(w, "Missing Metadata-Flavor:Google header", http.StatusForbidden)
	case r.URL.Path != "/computeMetadata/v1/instance/service-accounts/default/token" || !g.metadata:
		http.Error(w, "404 page not found", http.StatusNotFound)
	case r.FormValue("scopes") != "" && !slices.Contains(strings.Split(r.FormValue("scopes"), ","), googleScope):
		http.Error(w, "the node's scopes do not cover these", http.StatusForbidden)
	default:
		replyJSON(w, http.StatusOK, map[string]any{"access_token": g.grant(false), "expires_in": int(g.life / time.Second), "token_type": "Bearer"})
	}
}

// sts answers for the Security Token Service (RFC 8693).
func (g *GoogleKMS) sts(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fail := func(code, message string) {
		replyJSON(w, http.StatusBadRequest, map[string]string{"error": code, "error_description": message})
	}
	token := r.PostFormValue("subject_token")
	g.c.keep(token)
	claims, err := g.issuer.verify(token, g.c.clock())
	switch {
	case r.Method != http.MethodPost || r.URL.Path != "/v1/token" || r.PostFormValue("grant_type") != googleExchangeGrant:
		fail("unsupported_grant_type", "unsupported grant type")
	case r.PostFormValue("requested_token_type") != "urn:ietf:params:oauth:token-type:access_token" || r.PostFormValue("subject_token_type") != "urn:ietf:params:oauth:token-type:jwt" || r.PostFormValue("scope") != googleScope:
		fail("invalid_request", "invalid token type or scope")
	case r.PostFormValue("audience") != g.Audience:
		fail("invalid_target", "The target service indicated by the \"audience\" parameters is invalid.")
	case err == errExpired:
		fail("invalid_grant", "ID Token issued at ... is stale to sign-in.")
	case err != nil || claims.Issuer != g.issuer.Name:
		fail("invalid_grant", "The issuer in ID Token does not match the expected ones.")
	case claims.Audience != "https:"+g.Audience:
		fail("invalid_grant", "The audience in ID Token does not match the expected audience.")
	case claims.Subject != g.Subject:
		fail("unauthorized_client", "The given credential is rejected by the attribute condition.")
	default:
		replyJSON(w, http.StatusOK, map[string]any{"access_token": g.grant(true), "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "Bearer", "expires_in": int(g.life / time.Second)})
	}
}

// iam answers for IAM Credentials.
func (g *GoogleKMS) iam(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var q struct{ Scope []string }
	b, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	switch {
	case !g.allowed(w, r, true):
	case r.Method != http.MethodPost || r.URL.Path != "/v1/projects/-/serviceAccounts/"+g.Account+":generateAccessToken" || g.Account == "":
		googleFail(w, http.StatusForbidden, "PERMISSION_DENIED", "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).")
	case err != nil || json.Unmarshal(b, &q) != nil || !slices.Contains(q.Scope, googleScope):
		googleFail(w, http.StatusBadRequest, "INVALID_ARGUMENT", "Request contains an invalid argument.")
	default:
		replyJSON(w, http.StatusOK, map[string]any{"accessToken": g.grant(false), "expireTime": g.c.clock().Add(g.life).UTC().Format(time.RFC3339)})
	}
}
