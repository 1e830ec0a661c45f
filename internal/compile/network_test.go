package compile_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// TestIdentities: what the Pod names, where it is fetched, and which name the
// trust policy sees are three things.
func TestIdentities(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{})
	scoped := func(scope string) string {
		return strings.Replace(verifier("notary", "roots"), `registryScopes: ["*"]`, `registryScopes: ["`+scope+`"]`, 1)
	}
	mirror := `mirrors: [{source: registry.example/team, endpoints: ["` + w.reg.Host + `"], only: true}]`
	identities := `identities: [{place: registry.example, as: wrong.example}, {place: registry.example/team, as: origin.example/acme}]`
	named, known := "registry.example/team/"+repo, "origin.example/acme/"+repo
	for _, c := range []struct {
		name, scope string
		want        boltseal.Decision
	}{
		{"the scope names the identity", known, boltseal.Allow},
		{"the scope names what the Pod names", named, boltseal.Deny},
		{"the scope names where it is fetched", w.reg.Host + "/" + repo, boltseal.Deny},
		{"the scope names a shorter place's identity", "wrong.example/team/" + repo, boltseal.Deny},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			compiled, _ := works(t, kmp("roots", w.pemA)+scoped(c.scope)+store("oras", mirror+", "+identities))
			r, err := compiled.EngineFor("").Verify(t.Context(), named+":a")
			if err != nil || r.Decision != c.want || r.Reference.Name() != named || r.Identity != known {
				t.Errorf("%v %s %+v %q", err, r.Decision, r.Reason, r.Identity)
			}
			// An image that nobody gave another name keeps its own.
			r, err = compiled.EngineFor("").Verify(t.Context(), w.reg.Host+"/"+repo+":a")
			if err != nil || r.Identity != "" || (r.Decision == boltseal.Allow) != (c.scope == w.reg.Host+"/"+repo) {
				t.Errorf("%v %s %q", err, r.Decision, r.Identity)
			}
		})
	}
	for text, want := range map[string]string{
		`identities: [{place: "registry.example/", as: origin.example}]`:                                   `"registry.example/" is no place of images`,
		`identities: [{place: registry.example, as: "*"}]`:                                                 `is no place of images`,
		`identities: [{place: registry.example, as: a.example}, {place: registry.example, as: b.example}]`: `registry.example is listed twice`,
		`identities: [{place: registry.example}]`:                                                          `spec.parameters.identities[0].as`,
		`identities: [{place: registry.example, ass: a.example}]`:                                          `did you mean "as"?`,
		`proxy: "http://user:` + "hunter2" + `@proxy.example"`:                                             `a user and a password do not belong into a resource`,
		`proxy: proxy.example:3128`:                                                                        `it is no proxy`,
		`proxy: "ftp://proxy.example"`:                                                                     `ftp is no way to a proxy`,
		`registries: [{host: registry.example, proxy: "http://proxy.example/path"}]`:                       `spec.parameters.registries[0].proxy: registry.example: it is no proxy`,
	} {
		got := fails(t, kmp("roots", w.pemA)+verifier("notary", "roots")+store("oras", text)).Error()
		if !strings.Contains(got, want) || strings.Contains(got, "hunter2") {
			t.Errorf("%s: %s", text, got)
		}
	}
	in := store("team/oras", identities)
	if got := fails(t, kmp("roots", w.pemA)+verifier("notary", "roots")+in).Error(); !strings.Contains(got, "a namespace does not say by which names its images are known") {
		t.Error(got)
	}
}

// TestProxy: a registry is reached through its own proxy, or the Store's.
func TestProxy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{})
	var asked atomic.Int32
	through := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		asked.Add(1)
		req.URL.Host, req.RequestURI = w.reg.Host, ""
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			rw.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		for k, v := range resp.Header {
			rw.Header()[k] = v
		}
		rw.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(rw, resp.Body)
	}))
	t.Cleanup(through.Close)
	nowhere := "http://127.0.0.1:1"
	for name, c := range map[string]struct {
		parameters string
		reached    bool
	}{
		"the Store's":                {`useHttp: true, proxy: "` + through.URL + `"`, true},
		"the registry's own":         {`proxy: "` + nowhere + `", registries: [{host: registry.example, useHttp: true, proxy: "` + through.URL + `"}]`, true},
		"another registry's":         {`useHttp: true, proxy: "` + nowhere + `", registries: [{host: other.example, proxy: "` + through.URL + `"}]`, false},
		"none, whatever the Store's": {`proxy: "` + through.URL + `", registries: [{host: registry.example, useHttp: true, proxy: none}]`, false},
	} {
		before := asked.Load()
		compiled, _ := works(t, kmp("roots", w.pemA)+verifier("notary", "roots")+store("oras", c.parameters))
		r, err := compiled.EngineFor("").Verify(t.Context(), "registry.example/"+repo+":a")
		want := boltseal.Unknown
		if c.reached {
			want = boltseal.Allow
		}
		if err != nil || r.Decision != want || (asked.Load() > before) != c.reached {
			t.Errorf("%s: %v %s %+v, %d requests", name, err, r.Decision, r.Reason, asked.Load()-before)
		}
	}
}
