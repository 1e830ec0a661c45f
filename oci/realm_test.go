package oci_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/oci"
)

// realm is a registry with TLS or without whose challenges name a token server.
func realm(t *testing.T, url string, tls bool) image {
	t.Helper()
	return newImage(t, testregistry.Options{TLS: tls, Token: &testregistry.TokenOptions{Users: users, Anonymous: true, Realm: url}}, 0)
}

// Where credentials, and where anonymous requests for a token, may go.
func TestRealms(t *testing.T) {
	t.Parallel()
	elsewhere := newOther(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"token":"none"}`)) })
	there := "http://" + elsewhere.host + "/token"
	// The registry does not know the token that it gets: where the token server
	// may be asked, the answer is "not authorized".
	for name, c := range map[string]struct {
		realm     string
		tls       bool
		allow     []string
		anonymous error
		with      error // credentials
		says      string
	}{
		"another host":          {realm: there, anonymous: boltseal.ErrUnauthorized, with: boltseal.ErrRefused, says: "wants its credentials sent to " + elsewhere.host + "; list that host in authRealms"},
		"an allowed host":       {realm: there, allow: []string{elsewhere.host}, anonymous: boltseal.ErrUnauthorized, with: boltseal.ErrUnauthorized},
		"a lookalike":           {realm: "http://" + strings.Replace(elsewhere.host, "localhost", "localhost.evil.invalid", 1) + "/token", allow: []string{elsewhere.host}, with: boltseal.ErrRefused},
		"a prefix":              {realm: "http://evil-" + elsewhere.host + "/token", allow: []string{elsewhere.host}, with: boltseal.ErrRefused},
		"another port":          {realm: "http://localhost:1/token", allow: []string{elsewhere.host}, with: boltseal.ErrRefused},
		"without TLS":           {realm: there, tls: true, anonymous: boltseal.ErrRefused, with: boltseal.ErrRefused, says: "without TLS"},
		"allowed, without TLS":  {realm: there, tls: true, allow: []string{elsewhere.host}, anonymous: boltseal.ErrRefused, with: boltseal.ErrRefused, says: "without TLS"},
		"metadata":              {realm: "http://169.254.169.254/token", anonymous: boltseal.ErrRefused, with: boltseal.ErrRefused},
		"metadata with TLS":     {realm: "https://169.254.169.254/token", tls: true, anonymous: boltseal.ErrRefused, with: boltseal.ErrRefused},
		"credentials in it":     {realm: "http://" + secret + ":x@" + elsewhere.host + "/token", anonymous: boltseal.ErrRefused, with: boltseal.ErrRefused, says: "credentials in its URL"},
		"another scheme":        {realm: "file:///etc/passwd", anonymous: boltseal.ErrUnusable, with: boltseal.ErrUnusable},
		"another scheme's host": {realm: "gopher://" + elsewhere.host + "/", anonymous: boltseal.ErrRefused, with: boltseal.ErrRefused},
		"no host":               {realm: "http:///token", anonymous: boltseal.ErrUnusable, with: boltseal.ErrUnusable, says: "no URL"},
		"a path":                {realm: "/token", anonymous: boltseal.ErrUnusable, with: boltseal.ErrUnusable},
		"a fragment":            {realm: there + "#x", anonymous: boltseal.ErrUnusable, with: boltseal.ErrUnusable},
		"no URL":                {realm: "http://[::1/token", anonymous: boltseal.ErrUnusable, with: boltseal.ErrUnusable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := realm(t, c.realm, c.tls)
			for _, source := range []oci.CredentialSource{nil, rightPassword, passwords{RefreshToken: user + ":" + password}} {
				want := c.with
				if source == nil {
					want = c.anonymous
				}
				if want == nil {
					continue
				}
				o := oci.Options{Credentials: source, Hosts: map[string]oci.HostOptions{i.reg.Host: {AuthRealms: c.allow, PlainHTTP: !c.tls}}}
				_, err := secured(t, i, o).Resolve(testContext(t), i.byTag())
				if source == nil {
					wantError(t, err, want, i.reg.Host)
				} else {
					wantError(t, err, want, i.reg.Host, c.says)
				}
			}
		})
	}
}

// Credentials are shown to a host that is allowed, and to no other.
func TestRealmIsShownCredentials(t *testing.T) {
	t.Parallel()
	for _, allowed := range []bool{false, true} {
		elsewhere := newOther(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
		i := realm(t, "http://"+elsewhere.host+"/token", false)
		h := oci.HostOptions{PlainHTTP: true}
		if allowed {
			h.AuthRealms = []string{elsewhere.host}
		}
		r := newRegistry(t, oci.Options{Credentials: rightPassword, Hosts: map[string]oci.HostOptions{i.reg.Host: h}})
		if _, err := r.Resolve(testContext(t), i.byTag()); err == nil {
			t.Error("no error")
		}
		for _, header := range elsewhere.seen() {
			if !allowed {
				t.Errorf("asked with %v", header)
			} else if header.Get("Authorization") == "" {
				t.Error("asked without credentials")
			}
		}
		if allowed && len(elsewhere.seen()) == 0 {
			t.Error("not asked")
		}
	}
}

// One bad challenge does not keep a registry out of reach.
func TestBadRealmIsForgotten(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"http://169.254.169.254/token", "nowhere", "http://127.0.0.1:1/token", "http://elsewhere.invalid/token"} {
		i := newImage(t, testregistry.Options{Token: &testregistry.TokenOptions{Users: users}}, 0)
		remove := i.reg.Inject(testregistry.Fault{Kind: testregistry.Custom, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+bad+`"`)
			w.WriteHeader(http.StatusUnauthorized)
		})})
		r := newRegistry(t, oci.Options{Credentials: rightPassword})
		if _, err := r.Resolve(testContext(t), i.byTag()); err == nil {
			t.Fatalf("%s: no error", bad)
		}
		remove()
		if _, err := r.Resolve(testContext(t), i.byTag()); err != nil {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// A token server behind TLS of an authority that only the settings know.
func TestRealmWithTLS(t *testing.T) {
	t.Parallel()
	i := newImage(t, testregistry.Options{TLS: true, Token: &testregistry.TokenOptions{Users: users}}, 0)
	if _, err := secured(t, i, oci.Options{Credentials: rightPassword}).Resolve(testContext(t), i.byTag()); err != nil {
		t.Error(err)
	}
	strange := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(strange.Close)
	strange.Config.ErrorLog = quiet
	j := realm(t, strings.Replace(strange.URL, "127.0.0.1", "localhost", 1)+"/token", true)
	_, err := secured(t, j, oci.Options{}).Resolve(testContext(t), j.byTag())
	wantError(t, err, boltseal.ErrUnavailable, j.reg.Host, "TLS certificate")
}
