package registries

import (
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/sirupsen/logrus"
	"golang.org/x/crypto/bcrypt"

	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/auth/token"
)

const (
	user     = "puller"
	password = "correct horse"
)

func TestMain(m *testing.M) {
	logrus.SetOutput(io.Discard) // distribution's log
	os.Exit(m.Run())
}

// place is a running registry. All speak TLS and want the user's password, or a
// token for it.
type place struct {
	host  string
	roots *x509.CertPool
	// referrersAPI counts the requests to it that were answered with a listing.
	referrersAPI *atomic.Int64
	tokens       *tokenServer // nil for basic authentication
	// configTypes: its listings state a manifest's config.mediaType as the
	// artifactType even where the manifest has an artifactType of its own.
	configTypes bool
}

// kinds are the registries that everything is proven against.
func kinds() map[string]func(testing.TB) *place {
	return map[string]func(testing.TB) *place{
		"distribution, basic": func(t testing.TB) *place { return serve(t, distribution(t, basicAuth(t)), nil) },
		"distribution, token": func(t testing.TB) *place {
			ts := startTokenServer(t)
			return serve(t, distribution(t, ts.auth("")), ts)
		},
		"go-containerregistry": func(t testing.TB) *place {
			p := serve(t, guarded(ggcr.New(ggcr.WithReferrersSupport(true), ggcr.Logger(log.New(io.Discard, "", 0)))), nil)
			p.configTypes = true
			return p
		},
		"ocimem": func(t testing.TB) *place { return serve(t, guarded(ociserver.New(ocimem.New(), nil)), nil) },
	}
}

func serve(t testing.TB, h http.Handler, ts *tokenServer) *place {
	t.Helper()
	p := &place{referrersAPI: new(atomic.Int64), tokens: ts}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := &statusWriter{ResponseWriter: w}
		h.ServeHTTP(seen, r)
		if strings.Contains(r.URL.Path, "/referrers/") && seen.status == http.StatusOK {
			p.referrersAPI.Add(1)
		}
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	p.host = s.Listener.Addr().String()
	p.roots = x509.NewCertPool()
	p.roots.AddCert(s.Certificate())
	return p
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// distribution is the registry that Docker's image "registry" runs.
func distribution(t testing.TB, auth configuration.Auth) http.Handler {
	c := &configuration.Configuration{Storage: configuration.Storage{"inmemory": nil}, Auth: auth}
	c.HTTP.Secret = "only for upload states"
	c.Log.AccessLog.Disabled = true
	return handlers.NewApp(t.Context(), c)
}

func basicAuth(t testing.TB) configuration.Auth {
	t.Helper()
	path := filepath.Join(t.TempDir(), "htpasswd")
	setPassword(t, path, password)
	return configuration.Auth{"htpasswd": {"realm": "test", "path": path}}
}

func setPassword(t testing.TB, path, password string) {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	must(t, err)
	must(t, os.WriteFile(path, []byte(user+":"+string(hash)+"\n"), 0o600))
}

// guarded puts basic authentication before a registry that has none.
func guarded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}`, http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
