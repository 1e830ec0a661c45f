package oci_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/oci"
)

// other is a host that a registry redirects to. It serves a body and keeps
// every header that it was shown.
type other struct {
	host string // by another name than 127.0.0.1

	mu      sync.Mutex
	headers []http.Header
}

func newOther(t *testing.T, answer http.HandlerFunc) *other {
	t.Helper()
	o := &other{}
	host := serve(t, func(w http.ResponseWriter, req *http.Request) {
		o.mu.Lock()
		o.headers = append(o.headers, req.Header.Clone())
		o.mu.Unlock()
		answer(w, req)
	})
	o.host = strings.Replace(host, "127.0.0.1", "localhost", 1)
	return o
}

func (o *other) seen() []http.Header {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.headers
}

func serveBytes(b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) }
}

func authenticated() map[string]testregistry.Options {
	return map[string]testregistry.Options{
		"basic":  {Basic: &testregistry.BasicOptions{Users: users}},
		"bearer": {Token: &testregistry.TokenOptions{Users: users}},
	}
}

// Credentials stay with the registry, and so does what it is told of the trace.
func TestRedirectElsewhere(t *testing.T) {
	t.Parallel()
	for name, o := range authenticated() {
		for _, code := range []int{301, 302, 303, 307, 308} {
			reg := testregistry.New(t, o)
			body := jsonOf(100)
			desc := pushBoth(t, reg, body)
			cdn := newOther(t, serveBytes(body))
			const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
			traced := func(class testregistry.Class, want string) {
				reg.Inject(testregistry.Fault{Class: class, Match: func(req *http.Request) bool {
					if got := req.Header.Get("Traceparent"); got != want {
						t.Errorf("%s, %d, %s: traceparent %q, want %q", name, code, class, got, want)
					}
					return false
				}})
			}
			traced(testregistry.Blob, parent)
			traced(testregistry.Token, "")
			reg.Inject(testregistry.Fault{Kind: testregistry.Custom, Class: testregistry.Blob, Match: hasCredentials, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "http://"+cdn.host+"/object?signature="+secret)
				w.Header().Set("Set-Cookie", "session="+secret)
				w.WriteHeader(code)
			})})
			r := newRegistry(t, oci.Options{Credentials: rightPassword, UserAgent: "tester/1"})
			got, err := r.Blob(boltseal.WithTraceParent(testContext(t), parent), pinned(reg.Host, repo, desc.Digest), desc)
			if err != nil || !bytes.Equal(got, body) {
				t.Fatalf("%s, %d: %q, %v", name, code, got, err)
			}
			for _, h := range cdn.seen() {
				for k, v := range h {
					if k != "User-Agent" && k != "Accept" {
						t.Errorf("%s, %d: header %s: %s", name, code, k, v)
					}
				}
				if h.Get("User-Agent") != "tester/1" {
					t.Errorf("user agent %q", h.Get("User-Agent"))
				}
			}
		}
	}
}

func hasCredentials(req *http.Request) bool { return req.Header.Get("Authorization") != "" }

// On the registry itself they go along, and back from elsewhere they do not.
func TestRedirectOnTheRegistry(t *testing.T) {
	t.Parallel()
	for name, o := range authenticated() {
		reg := testregistry.New(t, o)
		body := jsonOf(100)
		desc := pushBoth(t, reg, body)
		ref := pinned(reg.Host, repo, desc.Digest)
		remove := reg.Inject(testregistry.Fault{Kind: testregistry.Redirect, Class: testregistry.Blob, Match: hasCredentials, Times: 2})
		if got, err := newRegistry(t, oci.Options{Credentials: rightPassword}).Blob(testContext(t), ref, desc); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		remove()
		mirror := newOther(t, func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, reg.URL+req.URL.RequestURI(), http.StatusTemporaryRedirect)
		})
		reg.Inject(testregistry.Fault{Kind: testregistry.Redirect, Class: testregistry.Blob, Match: hasCredentials, Host: "http://" + mirror.host})
		_, err := newRegistry(t, oci.Options{Credentials: rightPassword}).Blob(testContext(t), ref, desc)
		wantError(t, err, boltseal.ErrUnauthorized, reg.Host, "redirects to "+reg.Host)
	}
}

func TestRedirectsAreBounded(t *testing.T) {
	t.Parallel()
	i := newImage(t, testregistry.Options{}, 0)
	for most, ok := range map[int]bool{3: true, 4: false} {
		remove := i.reg.Inject(testregistry.Fault{Kind: testregistry.Redirect, Times: most})
		i.reg.ResetLog()
		_, err := newRegistry(t, oci.Options{}).Resolve(testContext(t), i.byTag())
		if ok && err != nil {
			t.Error(err)
		} else if !ok {
			wantError(t, err, boltseal.ErrUnusable, i.reg.Host, "more than 3 redirects")
		}
		if n := i.reg.Count(testregistry.Any); n != 4 {
			t.Errorf("%d requests", n)
		}
		remove()
	}
	i.reg.Inject(testregistry.Fault{Kind: testregistry.Redirect})
	_, err := newRegistry(t, oci.Options{Limits: oci.Limits{Redirects: 1}}).Resolve(testContext(t), i.byTag())
	wantError(t, err, boltseal.ErrUnusable, i.reg.Host, "more than 1 redirects")
}

func TestRefusedRedirects(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		to   string
		want error
		says string
	}{
		{"http://169.254.169.254/latest/meta-data/", boltseal.ErrRefused, "169.254.169.254, a link-local or metadata address"},
		{"http://169.254.1.1:8080/", boltseal.ErrRefused, "link-local"},
		{"http://[::ffff:169.254.169.254]/", boltseal.ErrRefused, "link-local"},
		{"http://[64:ff9b::a9fe:a9fe]/", boltseal.ErrRefused, "link-local"},
		{"http://[fe80::1]/", boltseal.ErrRefused, "link-local"},
		{"http://[fd00:ec2::254]/", boltseal.ErrRefused, "metadata"},
		{"http://[fd20:ce::254]/", boltseal.ErrRefused, "metadata"},
		{"http://168.63.129.16/machine", boltseal.ErrRefused, "metadata"},
		{"http://100.100.100.200/", boltseal.ErrRefused, "metadata"},
		{"http://0.0.0.0:80/", boltseal.ErrRefused, "metadata"},
		{"http://224.0.0.1/", boltseal.ErrRefused, "metadata"},
		{"http://" + secret + ":x@127.0.0.1/", boltseal.ErrRefused, "credentials"},
		{"ftp://127.0.0.1/", boltseal.ErrRefused, "ftp://127.0.0.1"},
		{"file:///etc/passwd", boltseal.ErrUnusable, "leads nowhere"},
		{"http:///x", boltseal.ErrUnusable, "leads nowhere"},
		{"http:x", boltseal.ErrUnusable, "leads nowhere"},
		{":%zz", boltseal.ErrUnusable, "leads nowhere"},
		{"", boltseal.ErrUnusable, "leads nowhere"},
	} {
		t.Run(c.to, func(t *testing.T) {
			t.Parallel()
			host := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if c.to != "" {
					w.Header()["Location"] = []string{c.to}
				}
				w.WriteHeader(http.StatusTemporaryRedirect)
			})
			_, err := newRegistry(t, oci.Options{}).Resolve(testContext(t), tagged(host, repo, "v1"))
			wantError(t, err, c.want, host, c.says)
		})
	}
}

func TestRedirectDowngrade(t *testing.T) {
	t.Parallel()
	i := newImage(t, testregistry.Options{TLS: true}, 0)
	plain := newOther(t, status(http.StatusOK))
	for _, to := range []string{"http://" + plain.host, "http://" + i.reg.Host} {
		remove := i.reg.Inject(testregistry.Fault{Kind: testregistry.Redirect, Host: to})
		_, err := secured(t, i, oci.Options{}).Resolve(testContext(t), i.byTag())
		wantError(t, err, boltseal.ErrRefused, i.reg.Host, "without TLS")
		remove()
	}
	if n := len(plain.seen()); n != 0 {
		t.Errorf("%d requests without TLS", n)
	}
}

// secured is a store that trusts the image's registry.
func secured(t *testing.T, i image, o oci.Options) *oci.Registry {
	t.Helper()
	if o.Hosts == nil {
		o.Hosts = map[string]oci.HostOptions{}
	}
	h := o.Hosts[i.reg.Host]
	h.RootCAs = i.reg.RootCAs()
	o.Hosts[i.reg.Host] = h
	return newRegistry(t, o)
}

// What a redirect's target answers is not taken for the registry's own answer.
func TestRedirectTargetAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   error
	}{
		"404": {status(404), boltseal.ErrNotFound},
		"403": {status(403), boltseal.ErrUnauthorized},
		"503": {status(503), boltseal.ErrUnavailable},
		"a challenge": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://169.254.169.254/token"`)
			w.WriteHeader(401)
		}, boltseal.ErrUnauthorized},
		"a pause": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(429)
		}, boltseal.ErrUnavailable},
		"another body": {serveBytes([]byte("another")), boltseal.ErrUnusable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := testregistry.New(t, testregistry.Options{Token: &testregistry.TokenOptions{Users: users}})
			desc := pushBoth(t, reg, jsonOf(100))
			ref := pinned(reg.Host, repo, desc.Digest)
			cdn := newOther(t, c.answer)
			remove := reg.Inject(testregistry.Fault{Kind: testregistry.Redirect, Class: testregistry.Blob, Match: hasCredentials, Host: "http://" + cdn.host})
			r := newRegistry(t, oci.Options{Credentials: rightPassword})
			_, err := r.Blob(testContext(t), ref, desc)
			wantError(t, err, c.want, reg.Host, "redirects to "+cdn.host)
			remove()
			// The registry is none the worse for it.
			reg.ResetLog()
			if _, err := r.Blob(testContext(t), ref, desc); err != nil || reg.Count(testregistry.Any) != 1 {
				t.Errorf("afterwards: %d requests, %v", reg.Count(testregistry.Any), err)
			}
		})
	}
}

// A registry of the inside may use what else is there; a plain one may send to
// one with TLS.
func TestRedirectToTLS(t *testing.T) {
	t.Parallel()
	body := jsonOf(100)
	cdn := httptest.NewTLSServer(serveBytes(body))
	t.Cleanup(cdn.Close)
	cdn.Config.ErrorLog = quiet
	reg := testregistry.New(t, testregistry.Options{})
	desc := pushBoth(t, reg, body)
	reg.Inject(testregistry.Fault{Kind: testregistry.Redirect, Host: cdn.URL})
	roots := cdn.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	got, err := newRegistry(t, oci.Options{RootCAs: roots}).Blob(testContext(t), pinned(reg.Host, repo, desc.Digest), desc)
	if err != nil || !bytes.Equal(got, body) {
		t.Errorf("%q, %v", got, err)
	}
	_, err = newRegistry(t, oci.Options{}).Blob(testContext(t), pinned(reg.Host, repo, desc.Digest), desc)
	wantError(t, err, boltseal.ErrUnavailable, reg.Host, "authority that is not known", "redirects to "+strings.TrimPrefix(cdn.URL, "https://"))
}

// An image's own name does not lead to the metadata service either.
func TestMetadataAddressAsRegistry(t *testing.T) {
	t.Parallel()
	r := newRegistry(t, oci.Options{PlainHTTP: true})
	for _, host := range []string{"169.254.169.254", "168.63.129.16:80", "[fe80::1]:5000", "[fd00:ec2::254]", "0.0.0.0:5000"} {
		_, err := r.Resolve(testContext(t), tagged(host, repo, "v1"))
		wantError(t, err, boltseal.ErrRefused, host, "link-local or metadata address")
		_, err = r.Blob(testContext(t), tagged(host, repo, "v1"), ocispec.Descriptor{Digest: "sha256:" + zeros, Size: 1})
		wantError(t, err, boltseal.ErrRefused, host)
	}
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"
