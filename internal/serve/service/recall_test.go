package service_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

// TestNamespacesRecallWhatTheyHeardThemselves: what one namespace's Store was told,
// of a tag or of signatures, decides nothing elsewhere while the registry is out.
func TestNamespacesRecallWhatTheyHeardThemselves(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"an older release under the tag", "no signatures"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			h := testhouse.New(t, testhouse.Options{})
			newTag, newPin := h.Signed("v1", h.Signer)
			_, oldPin := h.Signed("v0", h.Signer)
			host, repo, _ := strings.Cut(strings.TrimSuffix(newTag, ":v1"), "/")
			_, newest, _ := strings.Cut(newPin, "@")
			_, oldest, _ := strings.Cut(oldPin, "@")
			registry := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host})
			var down atomic.Bool
			public := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if down.Load() {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				registry.ServeHTTP(w, q)
			}))
			t.Cleanup(public.Close)
			mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { // the tenant's own
				switch {
				case how != "no signatures" && strings.HasSuffix(q.URL.Path, "/manifests/v1"):
					q.URL.Path = strings.TrimSuffix(q.URL.Path, "v1") + oldest
				case how == "no signatures" && strings.Contains(q.URL.Path, "/referrers/"):
					w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
					_, _ = w.Write([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`))
					return
				}
				registry.ServeHTTP(w, q)
			}))
			t.Cleanup(mirror.Close)
			name := func(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }
			text := config(h.Signer.Root().PEM(), policy("prod", "enforcementAction: deny, onUnavailable: {action: lastKnownGood}")) + fmt.Sprintf(`---
apiVersion: config.ratify.deislabs.io/v1beta1
kind: NamespacedStore
metadata: {name: mine, namespace: tenant}
spec:
  name: oras
  parameters:
    mirrors: [{source: "%s", endpoints: ["%s"], only: true}]
---
apiVersion: boltseal.dev/v1alpha1
kind: NamespacedImageIntegrityPolicy
metadata: {name: mine, namespace: tenant}
spec: {enforcementAction: dryrun}
`, name(public), name(mirror))
			r := startWith(t, h, service.Options{}, text)
			if code, s := r.ready(); code != http.StatusOK {
				t.Fatal(s)
			}
			image := name(public) + "/" + repo + ":v1"
			shop := func(when string) {
				t.Helper()
				pin := r.review(server.PathPin, pod("shop", image))
				if !strings.Contains(string(pin.Patch), newest) {
					t.Errorf("%s: pinned by %s, want %s", when, pin.Patch, newest)
				}
				if v := r.review(server.PathValidate, pod("shop", image+"@"+newest)); !v.Allowed {
					t.Errorf("%s: refused: %s", when, v.Result.Message)
				}
			}
			shop("before")
			r.validate("tenant", image) // asks the tenant's own mirror
			down.Store(true)
			// Answers are forgotten, as time does; what registries said is not.
			r.write(text + "\n---\n" + policy("later", "match: {namespaces: [nobody]}, onUnavailable: {action: lastKnownGood}"))
			eventually(t, "the edit", func() bool { return r.metric("boltseal_config_generation") == "2" })
			shop("while the registry is out")
		})
	}
}
