package oci_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/internal/test/testwait"
	"github.com/boltseal/boltseal/oci"
)

var users = map[string]string{user: password}

func tokenImage(t *testing.T, o testregistry.TokenOptions) image {
	t.Helper()
	if o.Users == nil {
		o.Users = users
	}
	return newImage(t, testregistry.Options{Token: &o}, 1)
}

func pushed(i image, repo string) boltseal.Reference {
	i.reg.PushImage(repo, "v1", 0)
	return tagged(i.reg.Host, repo, "v1")
}

func TestBearer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		server testregistry.TokenOptions
		source oci.CredentialSource
	}{
		"anonymous":         {server: testregistry.TokenOptions{Anonymous: true}},
		"password":          {source: rightPassword},
		"identity token":    {source: passwords{RefreshToken: user + ":" + password}},
		"only token":        {server: testregistry.TokenOptions{OnlyToken: true}, source: rightPassword},
		"only access_token": {server: testregistry.TokenOptions{OnlyAccessToken: true}, source: rightPassword},
		"another listener":  {server: testregistry.TokenOptions{OwnListener: true}, source: rightPassword},
		"no service":        {server: testregistry.TokenOptions{Service: ","}, source: rightPassword},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := tokenImage(t, c.server)
			r := newRegistry(t, oci.Options{Credentials: c.source})
			for range 2 {
				desc, err := r.Resolve(testContext(t), i.byTag())
				if err != nil {
					t.Fatal(err)
				}
				list, err := r.Referrers(testContext(t), i.byDigest(), desc.Digest, nil)
				if err != nil || len(list.Referrers) != 1 {
					t.Fatalf("%+v, %v", list, err)
				}
				if _, err := r.Manifest(testContext(t), i.byDigest(), list.Referrers[0]); err != nil {
					t.Error(err)
				}
			}
			if n := i.reg.TokensIssued("repository:" + repo + ":pull"); n != 1 {
				t.Errorf("%d tokens", n)
			}
			if n := statuses(i.reg, http.StatusUnauthorized); n != 1 {
				t.Errorf("%d answers 401", n)
			}
		})
	}
}

// One 401 per registry, and one token per repository.
func TestTokensAreCounted(t *testing.T) {
	t.Parallel()
	i := tokenImage(t, testregistry.TokenOptions{})
	r := newRegistry(t, oci.Options{Credentials: rightPassword})
	var refs []boltseal.Reference
	for n := range 5 {
		refs = append(refs, pushed(i, fmt.Sprint("team/app", n)))
	}
	for range 3 {
		for _, ref := range refs {
			if _, err := r.Resolve(testContext(t), ref); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := statuses(i.reg, http.StatusUnauthorized); n != 1 {
		t.Errorf("%d answers 401 from one registry", n)
	}
	if n := i.reg.TokensIssued(""); n != len(refs) {
		t.Errorf("%d tokens for %d repositories", n, len(refs))
	}
	if n := i.reg.Count(testregistry.Any); n != 1+len(refs)+3*len(refs) {
		t.Errorf("%d requests in all", n)
	}
}

func TestTokenIsShared(t *testing.T) {
	t.Parallel()
	i := tokenImage(t, testregistry.TokenOptions{})
	i.reg.SetLatency(10 * time.Millisecond) // so that all come before the token does
	r := newRegistry(t, oci.Options{Credentials: rightPassword})
	const most = 50
	all := func(ref boltseal.Reference) {
		var wg sync.WaitGroup
		for range most {
			wg.Go(func() {
				if _, err := r.Resolve(testContext(t), ref); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	all(i.byTag()) // a registry that is not known yet
	if n := i.reg.TokensIssued(""); n != 1 {
		t.Errorf("%d tokens", n)
	}
	i.reg.ResetLog()
	all(pushed(i, "team/second"))
	if n, denied := i.reg.TokensIssued(""), statuses(i.reg, http.StatusUnauthorized); n != 2 || denied != 0 {
		t.Errorf("%d tokens for 2 repositories, %d answers 401 from a registry that is known", n, denied)
	}
	// All are refused at once, and share the next token.
	i.reg.ExpireTokens()
	all(i.byTag())
	if n := i.reg.TokensIssued("repository:" + repo + ":pull"); n != 2 {
		t.Errorf("%d tokens after one was withdrawn", n)
	}
}

// A caller who leaves does not take the others' token along.
func TestTokenOutlivesItsFirstCaller(t *testing.T) {
	t.Parallel()
	i := tokenImage(t, testregistry.TokenOptions{})
	r := newRegistry(t, oci.Options{Credentials: rightPassword})
	release := make(chan struct{})
	i.reg.Inject(testregistry.Fault{Kind: testregistry.Custom, Class: testregistry.Token, Times: 1,
		Match: func(*http.Request) bool { <-release; return false }, Handler: http.NotFoundHandler()})
	ctx, cancel := context.WithCancel(testContext(t))
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := r.Resolve(ctx, i.byTag())
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the first caller: %v", err)
		}
	})
	testwait.Until(t, "the first caller", func() bool { return i.reg.Count(testregistry.Token) > 0 })
	wg.Go(func() {
		if _, err := r.Resolve(testContext(t), i.byTag()); err != nil {
			t.Errorf("the second caller: %v", err)
		}
	})
	cancel()
	close(release)
	wg.Wait()
	if n := i.reg.TokensIssued(""); n != 1 {
		t.Errorf("%d tokens", n)
	}
}

// clock is set by hand.
type clock struct{ nanos atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.nanos.Store(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *clock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

func TestTokenIsRenewedAhead(t *testing.T) {
	t.Parallel()
	c := newClock()
	i := newImage(t, testregistry.Options{Clock: c.now, Token: &testregistry.TokenOptions{Users: users, Lifetime: 5 * time.Minute}}, 0)
	r := newRegistry(t, oci.Options{Credentials: rightPassword, Clock: c.now})
	for n, step := range []time.Duration{0, 4 * time.Minute, time.Minute - time.Second, 4*time.Minute + 50*time.Second} {
		c.advance(step)
		if _, err := r.Resolve(testContext(t), i.byTag()); err != nil {
			t.Fatal(err)
		}
		want := map[int]int{0: 1, 1: 1, 2: 2, 3: 3}[n]
		if got := i.reg.TokensIssued(""); got != want {
			t.Errorf("step %d: %d tokens, want %d", n, got, want)
		}
	}
	if n := statuses(i.reg, http.StatusUnauthorized); n != 1 {
		t.Errorf("%d answers 401: tokens were not renewed ahead", n)
	}
}

// tokenServer is a registry that lets one token in, and counts what it gives.
func tokenServer(t *testing.T, answer func(w http.ResponseWriter, req *http.Request)) (host string, given *atomic.Int32) {
	given = new(atomic.Int32)
	host = serve(t, func(w http.ResponseWriter, req *http.Request) {
		switch {
		case req.URL.Path == "/token":
			given.Add(1)
			answer(w, req)
		case req.Header.Get("Authorization") == "Bearer "+secret:
			headHandler("sha256:"+strings.Repeat("0", 64), "application/vnd.oci.image.manifest.v1+json", "9")(w, req)
		default:
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+req.Host+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	return host, given
}

func TestTokenLifetimes(t *testing.T) {
	t.Parallel()
	c := newClock()
	at := func(d time.Duration) string { return c.now().Add(d).UTC().Format(time.RFC3339) }
	for name, test := range map[string]struct {
		answer string
		good   time.Duration // still shown then
		bad    time.Duration // replaced by then
	}{
		"not stated":         {`{"token":"` + secret + `"}`, 44 * time.Second, 46 * time.Second},
		"5 min":              {`{"token":"` + secret + `","expires_in":300}`, 284 * time.Second, 286 * time.Second},
		"issued earlier":     {`{"token":"` + secret + `","expires_in":300,"issued_at":"` + at(-100*time.Second) + `"}`, 184 * time.Second, 186 * time.Second},
		"issued long ago":    {`{"token":"` + secret + `","expires_in":300,"issued_at":"` + at(-time.Hour) + `"}`, 284 * time.Second, 286 * time.Second},
		"issued in a moment": {`{"token":"` + secret + `","expires_in":300,"issued_at":"` + at(time.Minute) + `"}`, 284 * time.Second, 286 * time.Second},
		"short":              {`{"token":"` + secret + `","expires_in":4}`, 2 * time.Second, 3 * time.Second},
		"zero":               {`{"token":"` + secret + `","expires_in":0}`, 44 * time.Second, 46 * time.Second},
		"negative":           {`{"token":"` + secret + `","expires_in":-1}`, 44 * time.Second, 46 * time.Second},
		"for ever":           {`{"token":"` + secret + `","expires_in":1e300}`, 23 * time.Hour, 24 * time.Hour},
	} {
		own := newClock()
		host, given := tokenServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(test.answer)) })
		r := newRegistry(t, oci.Options{Clock: own.now})
		for _, step := range []struct {
			advance time.Duration
			want    int32
		}{{0, 1}, {test.good, 1}, {test.bad - test.good, 2}} {
			own.advance(step.advance)
			if _, err := r.Resolve(testContext(t), tagged(host, repo, "v1")); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if n := given.Load(); n != step.want {
				t.Errorf("%s, %v later: %d tokens, want %d", name, step.advance, n, step.want)
			}
		}
	}
}

func TestBadTokenAnswers(t *testing.T) {
	t.Parallel()
	write := func(code int, s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = w.Write([]byte(s))
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   error
		says   string
		tries  int32
	}{
		"no JSON":       {write(200, secret), boltseal.ErrUnusable, "token", 1},
		"no token":      {write(200, `{"expires_in":60}`), boltseal.ErrUnusable, "has no token", 1},
		"a line":        {write(200, `{"token":"`+secret+`\r\nX-Evil: 1"}`), boltseal.ErrUnusable, "", 1},
		"twice":         {write(200, `{"token":"`+secret+`","token":"`+secret+`"}`), boltseal.ErrUnusable, "", 1},
		"too long":      {write(200, `{"token":"`+secret+strings.Repeat("x", 300<<10)+`"}`), boltseal.ErrUnusable, "", 1},
		"403":           {write(403, secret), boltseal.ErrUnauthorized, "HTTP 403", 1},
		"404":           {write(404, secret), boltseal.ErrUnusable, "HTTP 404", 1},
		"500":           {write(500, secret), boltseal.ErrUnavailable, "HTTP 500", 3},
		"503":           {write(503, secret), boltseal.ErrUnavailable, "HTTP 503", 3},
		"a wrong token": {write(200, `{"token":"`+secret+`-of-another"}`), boltseal.ErrUnauthorized, "HTTP 401", 1},
		"a redirect": {func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Location", "/v2/")
			w.WriteHeader(307)
		}, boltseal.ErrUnauthorized, "HTTP 307", 1},
		"429 for long": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(429)
		}, boltseal.ErrUnavailable, "HTTP 429", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host, given := tokenServer(t, c.answer)
			r := newRegistry(t, oci.Options{Credentials: rightPassword})
			_, err := r.Resolve(testContext(t), tagged(host, repo, "v1"))
			wantError(t, err, c.want, host, "resolve", c.says)
			if n := given.Load(); n != c.tries {
				t.Errorf("the token server was asked %d times, want %d", n, c.tries)
			}
		})
	}
}

func TestTokenServerRecovers(t *testing.T) {
	t.Parallel()
	i := tokenImage(t, testregistry.TokenOptions{})
	i.reg.Inject(testregistry.Fault{Kind: testregistry.Status, Class: testregistry.Token, Times: 2})
	if _, err := newRegistry(t, oci.Options{Credentials: rightPassword}).Resolve(testContext(t), i.byTag()); err != nil {
		t.Error(err)
	}
	hangs := tokenImage(t, testregistry.TokenOptions{})
	ctx, expire := testwait.Deadline(testContext(t))
	hangs.reg.Inject(testregistry.Fault{Kind: testregistry.Hang, Class: testregistry.Token, Match: func(*http.Request) bool { expire(); return true }})
	_, err := newRegistry(t, oci.Options{Credentials: rightPassword}).Resolve(ctx, hangs.byTag())
	wantError(t, err, boltseal.ErrUnavailable, hangs.reg.Host)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v is not about the deadline", err)
	}
}

func TestBasic(t *testing.T) {
	t.Parallel()
	i := newImage(t, testregistry.Options{Basic: &testregistry.BasicOptions{Users: users}}, 0)
	i.reg.SetLatency(10 * time.Millisecond) // so that all begin before the registry is known
	r := newRegistry(t, oci.Options{Credentials: rightPassword})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := r.Resolve(testContext(t), i.byTag()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	i.reg.ResetLog()
	for range 3 {
		if _, err := r.Resolve(testContext(t), i.byTag()); err != nil {
			t.Error(err)
		}
	}
	if n := i.reg.Count(testregistry.Any); n != 3 {
		t.Errorf("%d requests, want 3 without a 401", n)
	}
}

func TestNotAuthorized(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]testregistry.Options{
		"basic":  {Basic: &testregistry.BasicOptions{Users: users}},
		"bearer": {Token: &testregistry.TokenOptions{Users: users}},
	} {
		for who, source := range map[string]oci.CredentialSource{
			"nobody": nil, "another": passwords{Username: "other", Password: password}, "a wrong password": passwords{Username: user, Password: secret},
			"a wrong identity token": passwords{RefreshToken: secret},
		} {
			t.Run(name+"/"+who, func(t *testing.T) {
				t.Parallel()
				i := newImage(t, o, 0)
				r := newRegistry(t, oci.Options{Credentials: source})
				for range 2 {
					i.reg.ResetLog()
					_, err := r.Resolve(testContext(t), i.byTag())
					wantError(t, err, boltseal.ErrUnauthorized, i.reg.Host, "resolve")
					if n := i.reg.Count(testregistry.Any); n > 2 {
						t.Errorf("%d requests", n)
					}
				}
			})
		}
	}
}

// What is allowed may change while a token lives.
func TestAllowedLater(t *testing.T) {
	t.Parallel()
	var allowed atomic.Bool
	i := tokenImage(t, testregistry.TokenOptions{Allow: func(string, string, string) bool { return allowed.Load() }})
	r := newRegistry(t, oci.Options{Credentials: rightPassword})
	_, err := r.Resolve(testContext(t), i.byTag())
	wantError(t, err, boltseal.ErrUnauthorized, i.reg.Host)
	allowed.Store(true)
	if _, err := r.Resolve(testContext(t), i.byTag()); err != nil {
		t.Error(err)
	}
	// A registry that says 403 where it means the token.
	remove := i.reg.Inject(testregistry.Fault{Kind: testregistry.Status, Status: 403, Class: testregistry.Manifest})
	_, err = r.Resolve(testContext(t), i.byTag())
	wantError(t, err, boltseal.ErrUnauthorized, i.reg.Host, "HTTP 403")
	remove()
	before := i.reg.TokensIssued("")
	if _, err := r.Resolve(testContext(t), i.byTag()); err != nil || i.reg.TokensIssued("") != before+1 {
		t.Errorf("%d tokens before, %d after, %v", before, i.reg.TokensIssued(""), err)
	}
}

// A bare 401 to a token that was good before is answered with a fresh one.
func TestExpiryWithoutChallenge(t *testing.T) {
	t.Parallel()
	i := tokenImage(t, testregistry.TokenOptions{})
	r := newRegistry(t, oci.Options{Credentials: rightPassword})
	if _, err := r.Resolve(testContext(t), i.byTag()); err != nil {
		t.Fatal(err)
	}
	i.reg.Inject(testregistry.Fault{Kind: testregistry.Custom, Class: testregistry.Manifest, Times: 1, Handler: status(http.StatusUnauthorized)})
	if _, err := r.Resolve(testContext(t), i.byTag()); err != nil {
		t.Error(err)
	}
	if n := i.reg.TokensIssued(""); n != 2 {
		t.Errorf("%d tokens", n)
	}
}

// source fails with what it is made of.
type source struct{ err error }

func (s source) Credential(context.Context, string, string) (oci.Credential, error) {
	return oci.Credential{}, s.err
}

// A credential source that fails is an error, and nothing is tried anonymously.
func TestCredentialSourceFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ err, want error }{
		{errors.New("the helper failed"), boltseal.ErrUnauthorized},
		{fmt.Errorf("the helper failed: %w", boltseal.ErrUnavailable), boltseal.ErrUnavailable},
	} {
		for _, o := range []testregistry.Options{{Basic: &testregistry.BasicOptions{Users: users}}, {Token: &testregistry.TokenOptions{Anonymous: true}}} {
			i := newImage(t, o, 0)
			_, err := newRegistry(t, oci.Options{Credentials: source{c.err}}).Resolve(testContext(t), i.byTag())
			wantError(t, err, c.want, i.reg.Host, "the helper failed")
			if n := i.reg.TokensIssued(""); n != 0 {
				t.Errorf("%d tokens for nobody", n)
			}
		}
	}
}

// A token that the source has is shown as it is, and asked for again in time.
func TestAccessToken(t *testing.T) {
	t.Parallel()
	host, given := tokenServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	if _, err := newRegistry(t, oci.Options{Credentials: passwords{AccessToken: secret}}).Resolve(testContext(t), tagged(host, repo, "v1")); err != nil {
		t.Error(err)
	}
	if given.Load() != 0 {
		t.Error("the token server was asked as well")
	}
}
