package registries

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	issuer  = "test issuer"
	service = "test registry"
)

// tokenServer issues the tokens that distribution's token authentication checks
// (distribution token specification): the registry checks signature, issuer,
// audience and access itself.
type tokenServer struct {
	server *httptest.Server
	signer jose.Signer
	jwks   string // file
	asked  atomic.Int64
	// password is what it wants from the user; nil = the constant.
	password atomic.Pointer[string]
}

func startTokenServer(t testing.TB) *tokenServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	private := jose.JSONWebKey{Key: key, KeyID: "one", Algorithm: string(jose.ES256), Use: "sig"}
	s := &tokenServer{jwks: filepath.Join(t.TempDir(), "jwks")}
	s.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: private}, (&jose.SignerOptions{}).WithType("JWT"))
	must(t, err)
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{private.Public()}})
	must(t, err)
	must(t, os.WriteFile(s.jwks, set, 0o600))
	s.server = httptest.NewTLSServer(s)
	t.Cleanup(s.server.Close)
	return s
}

// auth is distribution's configuration. The realm's host may be called by
// another name than the registry's; "" is the same.
func (s *tokenServer) auth(host string) configuration.Auth {
	realm := s.server.URL
	if host != "" {
		realm = strings.Replace(realm, "127.0.0.1", host, 1)
	}
	return configuration.Auth{"token": {"realm": realm + "/token", "service": service, "issuer": issuer, "jwks": s.jwks}}
}

type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	want := password
	if p := s.password.Load(); p != nil {
		want = *p
	}
	if u, p, ok := r.BasicAuth(); !ok || u != user || p != want {
		http.Error(w, "who are you", http.StatusUnauthorized)
		return
	}
	token, err := s.issue(r.URL.Query().Get("service"), r.URL.Query()["scope"])
	if err != nil {
		http.Error(w, "no token", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": 300})
}

func (s *tokenServer) issue(service string, scopes []string) (string, error) {
	var granted []access
	for _, scope := range scopes {
		if part := strings.Split(scope, ":"); len(part) == 3 {
			granted = append(granted, access{part[0], part[1], strings.Split(part[2], ",")})
		}
	}
	now := time.Now()
	return jwt.Signed(s.signer).Claims(jwt.Claims{
		Issuer: issuer, Subject: user, Audience: jwt.Audience{service}, ID: rand.Text(),
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now.Add(-time.Minute)), Expiry: jwt.NewNumericDate(now.Add(5 * time.Minute)),
	}).Claims(map[string]any{"access": granted}).Serialize()
}
