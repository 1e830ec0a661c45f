package compile_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/oci"
)

// An effect is a configuration that works, and a change of one field alone. What the
// change does is for the test to see: a verdict, what registries, vaults and clouds
// are asked, or what is to be fetched how often.
type effect struct {
	field    string // as in internal/arch/testdata/knobs
	text     string // the configuration
	from, to string // in it: from stands there once
	image    string // "" = the one that release has signed
	// refused is why no other value is right: the change is then a problem at the field.
	refused string
	// nothing is why the field changes nothing, which docs/configuration.md says.
	nothing string
	// cloud says that nothing is admitted either way: what changes is what a cloud or a
	// vault is asked.
	cloud bool
	// dialled says that vaults are asked over connections, which have certificates.
	dialled bool
	// verdict says that the verdict alone counts: as soon as it is certain, nothing more is
	// asked for, so that requests are others each time.
	verdict bool
}

// witness is everything outside: one registry under all names, and clouds that answer
// nothing of use.
type witness struct {
	t                   *testing.T
	release, other      *testca.Chain // release has signed image
	secure, otherSecure *testca.Chain // of registries' TLS certificates
	image, expired      string
	both, stranger      string // signed by release and other; by other alone
	index               string // of two platforms, one of them signed
	registry            http.Handler
	proxy, otherProxy   string // in configurations, the places of a scene's
	dir                 string
	digests             map[string]string // of images in repositories that demand something
	clients             map[string]*testca.Chain
	env                 map[string]string // of Boltseal's Pod
	objects             keys.Objects      // of the cluster
}

func newWitness(t *testing.T) *witness {
	t.Helper()
	w := &witness{t: t, dir: t.TempDir(), proxy: "http://proxy.invalid:3128", otherProxy: "http://other.invalid:3128", digests: map[string]string{}, clients: map[string]*testca.Chain{}}
	w.release = testca.Test(t, testca.Options{Leaf: testca.Spec{CommonName: "release"}})
	w.other = testca.Test(t, testca.Options{Leaf: testca.Spec{CommonName: "other"}})
	names := func(c *x509.Certificate) {
		c.DNSNames = []string{"registry.example", "mirror.example", "second.example", "auth.example", "vault.example", "111122223333.dkr.ecr.eu-central-1.amazonaws.com", "acme.azurecr.io",
			"europe-west3-docker.pkg.dev", "acme-registry.cn-hangzhou.cr.aliyuncs.com", "registry.cn-hangzhou.cr.aliyuncs.com"}
		c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	spec := testca.Spec{EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, Mutate: names}
	w.secure, w.otherSecure = testca.Test(t, testca.Options{Leaf: spec}), testca.Test(t, testca.Options{Leaf: spec})

	reg := testregistry.New(t, testregistry.Options{})
	push := func(repo string, o testca.SignOptions, by ...*testca.Chain) string {
		d := reg.PushImage(repo, "", 0)
		for _, c := range by {
			reg.Sign(repo, d, c, o)
		}
		return "registry.example/" + repo + "@" + d.Digest.String()
	}
	w.image = push("team/app", testca.SignOptions{}, w.release)
	w.both, w.stranger = push("team/both", testca.SignOptions{}, w.release, w.other), push("team/strange", testca.SignOptions{}, w.other)
	w.expired = push("team/expired", testca.SignOptions{SigningTime: time.Now().Add(-2 * time.Hour), Expiry: time.Now().Add(-time.Hour), Unchecked: true}, w.release)
	signed, unsigned := reg.PushImage("team/index", "", 0), reg.PushImage("team/index", "", 0)
	reg.Sign("team/index", signed, w.release, testca.SignOptions{})
	signed.Platform, unsigned.Platform = platform("amd64"), platform("arm64")
	index := reg.PushIndex("team/index", "", signed, unsigned)
	reg.Sign("team/index", index, w.release, testca.SignOptions{})
	w.index = "registry.example/team/index@" + index.Digest.String()

	behind := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: reg.Host})
	behind.ErrorLog = log.New(io.Discard, "", 0)
	w.registry = behind
	w.objects = w.newObjects()
	w.write("config.json", `{"auths":{"registry.example":{"username":"default","password":"p"}}}`)
	for _, repo := range []string{"private", "sold"} {
		d := reg.PushImage(repo+"/app", "", 0)
		reg.Sign(repo+"/app", d, w.release, testca.SignOptions{})
		w.digests[repo] = d.Digest.String()
	}
	return w
}

// scene is what one verification meets: proxies and a registry that write down who asks for
// what. A request that nobody waits for any more may come after the next one has begun: it
// is then seen in its own scene, or not at all.
type scene struct {
	*witness
	proxy, otherProxy *httptest.Server
	inside            *httptest.Server // everything with TLS

	mu   sync.Mutex
	seen map[string]bool
}

func (w *witness) newScene() *scene {
	s := &scene{witness: w, seen: map[string]bool{}}
	s.inside = httptest.NewUnstartedServer(s.content("https"))
	s.inside.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.inside.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert, Certificates: []tls.Certificate{
		{Certificate: [][]byte{w.secure.Leaf().Certificate.Raw}, PrivateKey: w.secure.Leaf().Key}}}
	s.inside.StartTLS()
	s.proxy, s.otherProxy = s.proxyTo("proxy"), s.proxyTo("other proxy")
	return s
}

func (s *scene) close() {
	for _, server := range []*httptest.Server{s.proxy, s.otherProxy, s.inside} {
		server.CloseClientConnections()
		server.Close()
	}
}

func (s *scene) note(format string, a ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[fmt.Sprintf(format, a...)] = true
}

// content is the registry under every name, and a little of what is asked beside it.
func (s *scene) content(scheme string) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		user, _, _ := req.BasicAuth()
		shown := ""
		if req.TLS != nil && len(req.TLS.PeerCertificates) > 0 {
			shown = req.TLS.PeerCertificates[0].Subject.CommonName
		}
		// Who has shown nothing yet asks as often as there are requests side by side.
		answered := func() { s.note("%s://%s %s %s as %q with %q", scheme, req.Host, req.Method, req.URL.Path, user, shown) }
		switch host, _, _ := strings.Cut(req.Host, ":"); {
		case host == "gone.example":
			answered()
			rw.WriteHeader(http.StatusBadGateway)
		case host == "vault.example":
			s.note("cloud: %s %s://%s%s", req.Method, scheme, host, req.URL.Path)
			rw.WriteHeader(http.StatusForbidden)
		case host == "auth.example":
			answered()
			_, _ = io.WriteString(rw, `{"token":"t"}`)
		case strings.HasPrefix(req.URL.Path, "/v2/sold/") && !strings.HasPrefix(req.Header.Get("Authorization"), "Bearer"):
			rw.Header().Set("WWW-Authenticate", `Bearer realm="https://auth.example/token",service="s"`)
			rw.WriteHeader(http.StatusUnauthorized)
		case (strings.HasPrefix(req.URL.Path, "/v2/private/") || !strings.HasSuffix(host, ".example")) && user == "":
			rw.Header().Set("WWW-Authenticate", `Basic realm="r"`)
			rw.WriteHeader(http.StatusUnauthorized)
		default:
			answered()
			req.Host, req.Header = "", http.Header{"Accept": req.Header["Accept"]}
			s.registry.ServeHTTP(rw, req)
		}
	})
}

// proxyTo is an HTTP proxy that leads to the registry under every name.
func (s *scene) proxyTo(name string) *httptest.Server {
	content := s.content("http")
	return httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		s.note("%s: %s %s%s", name, req.Method, req.Host, req.URL.Path)
		if req.Method != http.MethodConnect {
			content.ServeHTTP(rw, req)
			return
		}
		to, err := net.Dial("tcp", s.inside.Listener.Addr().String())
		if err != nil {
			rw.WriteHeader(http.StatusBadGateway)
			return
		}
		rw.WriteHeader(http.StatusOK)
		from, buffered, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			_ = to.Close()
			return
		}
		go func() { _, _ = io.Copy(to, buffered); _ = to.Close() }()
		_, _ = io.Copy(from, to)
		_ = from.Close()
	}))
}

// write writes a file, and returns its path.
func (w *witness) write(name, text string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// RoundTrip answers as clouds and vaults do that do not know who asks, and writes down
// what they were asked.
func (s *scene) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
	}
	query := req.URL.Query()
	for _, fleeting := range []string{"SignatureNonce", "Timestamp", "Signature"} {
		query.Del(fleeting)
	}
	s.note("cloud: %s %s://%s%s?%s %s %s %s", req.Method, req.URL.Scheme, req.URL.Host, req.URL.Path, query.Encode(), fleetingText.ReplaceAllString(string(body), "…"), req.Header.Get("X-Vault-Namespace"), req.Header.Get("X-Vault-Token"))
	status, answer, header := s.answer(req)
	header.Set("Content-Type", "application/json")
	return &http.Response{Status: http.StatusText(status), StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(answer)), Request: req}, nil
}

// fleetingText is another each time.
var fleetingText = regexp.MustCompile(`(?:SignatureNonce|Timestamp|Signature|client-request-id|RoleSessionName)=[^&]*|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z?`)

// see compiles a configuration, has an image verified by it, and tells all that came of it.
func (w *witness) see(e effect, text string) (string, error) {
	w.t.Helper()
	image := e.image
	s := w.newScene()
	defer s.close()
	text = strings.NewReplacer(w.proxy, s.proxy.URL, w.otherProxy, s.otherProxy.URL).Replace(text)
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	env := keys.Env{Transport: s, Getenv: func(name string) string { return w.env[name] }, Objects: w.objects, Namespace: "boltseal"}.Complete()
	if e.dialled {
		dialled := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, s.inside.Listener.Addr().String())
		}}
		env.Transport = dialled
	}
	d := compile.Deps{Cloud: env, DockerConfig: func(path string) oci.CredentialSource {
		if path == "" {
			path = filepath.Join(w.dir, "config.json")
		}
		return credential.NewDocker(credential.DockerOptions{Path: path, Getenv: func(string) string { return "" }})
	}}
	set, _ := compile.Decode([]compile.Source{{Name: "f.yaml", Data: []byte(text)}})
	wants := set.Wants()
	d.Keys = keys.Once(ctx, env, wants)
	var out []string
	for _, want := range wants {
		out = append(out, fmt.Sprintf("%s is fetched every %v", want.Resource, want.Interval))
	}
	c, err := set.Compile(d)
	if err != nil {
		return "", err
	}
	defer c.Close()
	for _, warning := range c.Warnings {
		if strings.Contains(warning.Error(), "no effect") {
			out = append(out, "warning: "+warning.Field)
		}
	}
	r, err := c.ForPod(ctx, c.EngineFor(""), "team", []string{"pull"}, "").Verify(ctx, image)
	switch {
	case e.cloud: // what is said about it is not what comes of it
		out = append(out, r.Decision.String())
	case err != nil:
		out = append(out, err.Error())
	default:
		b, err := json.Marshal(r.Evidence)
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, r.Decision.String()+" "+r.Reason.Message, string(b))
	}
	if e.verdict && err == nil {
		return r.Decision.String() + " ", nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for line := range s.seen {
		// Whether there is a tag of signatures is asked ahead, and may not be waited for.
		if !strings.Contains(line, "/manifests/sha256-") {
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return strings.NewReplacer(s.proxy.URL, w.proxy, s.otherProxy.URL, w.otherProxy).Replace(strings.Join(out, "\n")), nil
}

// show holds an effect against what comes of it.
func (w *witness) show(e effect) {
	w.t.Helper()
	if e.image == "" {
		e.image = w.image
	}
	if strings.Count(e.text, e.from) != 1 {
		w.t.Errorf("%s: %q stands %d times in\n%s", e.field, e.from, strings.Count(e.text, e.from), numbered(e.text))
		return
	}
	before, err := w.see(e, e.text)
	if err != nil {
		w.t.Errorf("%s: it does not work before the change: %v", e.field, err)
		return
	}
	if again, err := w.see(e, e.text); err != nil || again != before {
		w.t.Errorf("%s: it is another each time: %v\n%s\n---\n%s", e.field, err, before, again)
		return
	}
	after, err := w.see(e, strings.Replace(e.text, e.from, e.to, 1))
	var problems strict.Problems
	switch works := "\n" + before + "\n" + after; {
	case e.cloud && !strings.Contains(works, "\ncloud: "):
		w.t.Errorf("%s: nobody is asked, neither before nor after:\n%s", e.field, works)
	case !e.cloud && !strings.Contains(works, "\ntrusted "):
		w.t.Errorf("%s: it works neither before nor after:\n%s", e.field, works)
	case e.refused != "":
		if !errors.As(err, &problems) {
			w.t.Errorf("%s: not refused (%v), although %s", e.field, err, e.refused)
		}
	case err != nil:
		w.t.Errorf("%s: the change is refused: %v", e.field, err)
	case e.nothing != "":
		if quiet := strings.Join(slices.DeleteFunc(strings.Split(after, "\n"), func(s string) bool { return strings.HasPrefix(s, "warning: ") }), "\n"); quiet != before {
			w.t.Errorf("%s changes something, although %s:\n%s\n---\n%s", e.field, e.nothing, before, after)
		}
	case after == before:
		w.t.Errorf("%s: %q in place of %q changes nothing:\n%s", e.field, e.to, e.from, before)
	}
}
