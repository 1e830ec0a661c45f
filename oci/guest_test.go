package oci_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/oci"
)

// A name of one's own for images that another registry has, which gives a token to
// everybody: they are read as a node pulls them, and what the first registry is shown
// is not shown to the second.
func TestRedirectToARegistryWithTokensForAll(t *testing.T) {
	t.Parallel()
	for name, own := range map[string]oci.CredentialSource{"anonymous": nil, "with a password": rightPassword, "with a token": passwords{AccessToken: secret + "-token"}} {
		for _, listener := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				there := testregistry.New(t, testregistry.Options{Latency: 20 * time.Millisecond, Token: &testregistry.TokenOptions{Anonymous: true, OwnListener: listener, Users: users}})
				image := there.PushImage(repo, "v1", 0)
				there.Sign(repo, image, testca.Test(t, testca.Options{}), testca.SignOptions{})
				var shown atomic.Int32
				there.Inject(testregistry.Fault{Kind: testregistry.Hang, Match: func(req *http.Request) bool {
					if a := req.Header.Get("Authorization"); strings.Contains(a, secret) || strings.HasPrefix(a, "Basic") {
						shown.Add(1)
					}
					return false
				}})
				vanity := serve(t, func(w http.ResponseWriter, req *http.Request) {
					if own != nil && req.Header.Get("Authorization") == "" {
						w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
						if _, token := own.(passwords); token && own.(passwords).AccessToken != "" {
							w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+req.Host+`/token"`)
						}
						w.WriteHeader(http.StatusUnauthorized)
						return
					}
					http.Redirect(w, req, strings.Replace(there.URL, "127.0.0.1", "localhost", 1)+req.URL.RequestURI(), http.StatusTemporaryRedirect)
				})
				r := newRegistry(t, oci.Options{Credentials: own})
				for range 2 {
					read(t, r, pinned(vanity, repo, image.Digest), image)
					read(t, r, tagged(vanity, repo, "v1"), image)
				}
				if n := there.TokensIssued(""); n != 1 {
					t.Errorf("%d tokens", n)
				}
				if n := statuses(there, http.StatusUnauthorized); n > 2 {
					t.Errorf("refused %d times", n)
				}
				if n := shown.Load(); n > 0 {
					t.Errorf("a credential was shown elsewhere %d times", n)
				}
			})
		}
	}
}

// Whoever is redirected to is not asked as a guest where that would lead anywhere
// else than a registry leads, and a registry that gives nothing to guests is named.
func TestGuestsGetNothing(t *testing.T) {
	t.Parallel()
	for name, challenge := range map[string]string{
		"a basic challenge":    `Basic realm="x"`,
		"no challenge":         ``,
		"a metadata address":   `Bearer realm="http://169.254.169.254/token"`,
		"a realm with a user":  `Bearer realm="http://u:p@127.0.0.1/token"`,
		"a realm that is none": `Bearer realm="/token"`,
		"no API path":          `Bearer realm="http://HOST/token"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			there := newOther(t, func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path == "/token" {
					t.Error("a token was asked for")
				}
				w.Header().Set("WWW-Authenticate", strings.ReplaceAll(challenge, "HOST", req.Host))
				w.WriteHeader(http.StatusUnauthorized)
			})
			vanity := serve(t, func(w http.ResponseWriter, req *http.Request) {
				path := req.URL.RequestURI()
				if name == "no API path" {
					path = "/bucket/object"
				}
				http.Redirect(w, req, "http://"+there.host+path, http.StatusFound)
			})
			_, err := newRegistry(t, oci.Options{Credentials: rightPassword}).Resolve(testContext(t), tagged(vanity, repo, "v1"))
			wantError(t, err, boltseal.ErrUnauthorized, vanity, "it redirects to "+there.host)
			if r := boltseal.ReasonOf(err); !strings.Contains(r.Remedy, there.host) {
				t.Errorf("advice: %s", r.Remedy)
			}
			for _, h := range there.seen() {
				if h.Get("Authorization") != "" {
					t.Errorf("shown: %s", h.Get("Authorization"))
				}
			}
		})
	}
}

// A pull-through cache knows a digest only after the tag was asked for.
func TestCacheThatKnowsTagsFirst(t *testing.T) {
	t.Parallel()
	i := newImage(t, testregistry.Options{}, 1)
	asked := make(chan struct{})
	i.reg.Inject(testregistry.Fault{Kind: testregistry.Changed, Change: func(a *testregistry.Answer) {
		select {
		case <-asked:
			return
		default:
		}
		if a.Target == "v1" && a.Request.Method == http.MethodGet {
			close(asked)
			return
		}
		a.Status, a.Body = http.StatusNotFound, []byte(`{"errors":[{"code":"MANIFEST_UNKNOWN","message":"x"}]}`)
	}})
	ref := i.byTag().WithDigest(i.desc.Digest)
	r := newRegistry(t, oci.Options{})
	if list, err := r.Referrers(testContext(t), ref, i.desc.Digest, []string{notation}); err != nil || len(list.Referrers) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	if d, err := r.Resolve(testContext(t), ref); err != nil || d.Digest != i.desc.Digest {
		t.Errorf("%+v, %v", d, err)
	}
}
