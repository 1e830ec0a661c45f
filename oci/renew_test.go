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
	"github.com/boltseal/boltseal/oci"
)

// vault gives a credential, and keeps it until it is dropped.
type vault struct {
	mu      sync.Mutex
	fetch   func() (oci.Credential, error)
	kept    oci.Credential
	fetched int
	dropped int
}

func (v *vault) Credential(context.Context, string, string) (oci.Credential, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.kept.Anonymous() {
		c, err := v.fetch()
		if err != nil {
			return c, err
		}
		v.kept = c
		v.fetched++
	}
	return v.kept, nil
}

func (v *vault) Invalidate(_, _ string, c oci.Credential) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.dropped++
	if v.kept.Same(c) {
		v.kept = oci.Credential{}
	}
}

// counts are how often a credential was fetched and dropped.
func (v *vault) counts() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return fmt.Sprintf("fetched %d, dropped %d", v.fetched, v.dropped)
}

// door is a registry whose credential changes.
type door struct {
	host     string
	password atomic.Pointer[string]
	asked    atomic.Int32 // with credentials, of whatever kind
	token    atomic.Int32 // tokens given
}

func (d *door) rotate(password string) { d.password.Store(&password) }

// The ways in which a credential is shown.
const (
	byPassword = "basic"
	byExchange = "password for a token"
	byRefresh  = "refresh token for a token"
	byToken    = "token"
)

func newDoor(t *testing.T, way string) *door {
	t.Helper()
	d := &door{}
	d.rotate(secret + "-1")
	image := headHandler("sha256:"+strings.Repeat("0", 64), "application/vnd.oci.image.manifest.v1+json", "9")
	d.host = serve(t, func(w http.ResponseWriter, req *http.Request) {
		want := *d.password.Load()
		_, password, _ := req.BasicAuth()
		bearer, _ := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
		if req.URL.Path == "/token" {
			d.asked.Add(1)
			if way == byRefresh {
				password = req.PostFormValue("refresh_token")
			}
			switch {
			case password == want:
				d.token.Add(1)
				fmt.Fprintf(w, `{"token":"token-for-%s","expires_in":3600}`, want)
			case way == byRefresh:
				http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
			default:
				w.WriteHeader(http.StatusUnauthorized)
			}
			return
		}
		if req.Header.Get("Authorization") != "" && (way == byPassword || way == byToken) {
			d.asked.Add(1)
		}
		switch {
		case way == byPassword && password == want, way == byToken && bearer == want, way != byToken && bearer == "token-for-"+want:
			image(w, req)
			return
		case way == byPassword:
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		default:
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+req.Host+`/token",service="x"`)
		}
		w.WriteHeader(http.StatusUnauthorized)
	})
	return d
}

// credential is the right one at the moment.
func (d *door) credential(way string) oci.Credential {
	switch text := *d.password.Load(); way {
	case byRefresh:
		return oci.Credential{RefreshToken: text}
	case byToken:
		return oci.Credential{AccessToken: text}
	default:
		return oci.Credential{Username: user, Password: text}
	}
}

var ways = []string{byPassword, byExchange, byRefresh, byToken}

// What was changed at the registry is asked for anew at once, by one for all.
func TestCredentialIsRenewed(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			d, c := newDoor(t, way), newClock()
			v := &vault{fetch: func() (oci.Credential, error) { return d.credential(way), nil }}
			r := newRegistry(t, oci.Options{Credentials: v, Clock: c.now})
			resolve := func() {
				t.Helper()
				if _, err := r.Resolve(testContext(t), tagged(d.host, repo, "v1")); err != nil {
					t.Error(err)
				}
			}
			resolve()
			resolve()
			for n := 2; n < 5; n++ {
				c.advance(time.Minute)
				d.rotate(fmt.Sprintf("%s-%d", secret, n))
				var wg sync.WaitGroup
				for range 20 {
					wg.Go(resolve)
				}
				wg.Wait()
				if got, want := v.counts(), fmt.Sprintf("fetched %d, dropped %d", n, n-1); got != want {
					t.Errorf("%s, want %s", got, want)
				}
			}
		})
	}
}

// One that is refused every time is shown once, and its source asked once in a while.
func TestNoOtherCredential(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		for name, keeps := range map[string]bool{"the same again": true, "a source that keeps nothing": false} {
			t.Run(way+"/"+name, func(t *testing.T) {
				t.Parallel()
				d, c := newDoor(t, way), newClock()
				old := d.credential(way)
				d.rotate(secret + "-unknown")
				v := &vault{fetch: func() (oci.Credential, error) { return old, nil }}
				o := oci.Options{Credentials: oci.CredentialSource(v), Clock: c.now}
				if !keeps {
					o.Credentials = passwords(old)
				}
				r := newRegistry(t, o)
				for n, step := range []time.Duration{0, time.Second, time.Second, 20 * time.Second} {
					c.advance(step)
					d.asked.Store(0)
					_, err := r.Resolve(testContext(t), tagged(d.host, repo, "v1"))
					wantError(t, err, boltseal.ErrUnauthorized, d.host)
					if n := d.asked.Load(); n != 1 {
						t.Errorf("the credential was shown %d times", n)
					}
					want := []string{"fetched 2, dropped 1", "fetched 2, dropped 1", "fetched 2, dropped 1", "fetched 3, dropped 2"}[n]
					if got := v.counts(); keeps && got != want {
						t.Errorf("after %d: %s, want %s", n, got, want)
					}
				}
			})
		}
	}
}

// A fresh one is tried once, also where it is refused like the one before.
func TestFreshCredentialIsRefusedToo(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			d, n := newDoor(t, way), 0
			v := &vault{fetch: func() (oci.Credential, error) {
				n++
				c := d.credential(way)
				c.Password, c.RefreshToken, c.AccessToken = wrongSecret(c.Password, n), wrongSecret(c.RefreshToken, n), wrongSecret(c.AccessToken, n)
				return c, nil
			}}
			_, err := newRegistry(t, oci.Options{Credentials: v}).Resolve(testContext(t), tagged(d.host, repo, "v1"))
			wantError(t, err, boltseal.ErrUnauthorized, d.host)
			if got := v.counts(); got != "fetched 2, dropped 1" || d.asked.Load() != 2 {
				t.Errorf("%s, shown %d times", got, d.asked.Load())
			}
		})
	}
}

// wrongSecret makes another text of one that is not empty.
func wrongSecret(text string, n int) string {
	if text == "" {
		return ""
	}
	return fmt.Sprintf("%s-wrong-%d", text, n)
}

// Where there is none any more, or its source fails, nobody is asked anonymously.
func TestCredentialIsGone(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		for name, c := range map[string]struct {
			err  error
			want error
			says string
		}{
			"none":      {nil, boltseal.ErrUnauthorized, ""},
			"an outage": {fmt.Errorf("%w: the vault is away", boltseal.ErrUnavailable), boltseal.ErrUnavailable, "the vault is away"},
			"a failure": {errors.New("the vault has burnt"), boltseal.ErrUnauthorized, "the vault has burnt"},
		} {
			t.Run(way+"/"+name, func(t *testing.T) {
				t.Parallel()
				d, n := newDoor(t, way), 0
				v := &vault{fetch: func() (oci.Credential, error) {
					if n++; n > 1 {
						return oci.Credential{}, c.err
					}
					return d.credential(way), nil
				}}
				old := d.credential(way)
				d.rotate(secret + "-unknown")
				v.kept, n = old, 1
				_, err := newRegistry(t, oci.Options{Credentials: v, Limits: oci.Limits{Attempts: 1}}).Resolve(testContext(t), tagged(d.host, repo, "v1"))
				wantError(t, err, c.want, d.host, c.says)
				if d.asked.Load() != 1 {
					t.Errorf("shown %d times", d.asked.Load())
				}
			})
		}
	}
}

// No token is kept beyond the end of the credential that it was had with.
func TestCredentialEnds(t *testing.T) {
	t.Parallel()
	for _, way := range []string{byExchange, byRefresh} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			d, c := newDoor(t, way), newClock()
			end := c.now().Add(10 * time.Minute)
			source := sourceFunc(func() (oci.Credential, error) {
				cred := d.credential(way)
				if !c.now().Before(end) {
					end = end.Add(10 * time.Minute)
				}
				cred.Expires = end
				return cred, nil
			})
			r := newRegistry(t, oci.Options{Credentials: source, Clock: c.now})
			for n, step := range []time.Duration{0, 9 * time.Minute, 44 * time.Second, 2 * time.Second} {
				c.advance(step)
				if _, err := r.Resolve(testContext(t), tagged(d.host, repo, "v1")); err != nil {
					t.Fatal(err)
				}
				if got, want := d.token.Load(), []int32{1, 1, 1, 2}[n]; got != want {
					t.Errorf("step %d: %d tokens, want %d", n, got, want)
				}
			}
		})
	}
}

// TestTokensAreOfOneCredential: what was had with a credential serves no other one, nor
// nobody, from the moment that the source has another; while the source does not answer,
// and only then, the token of before goes on.
func TestTokensAreOfOneCredential(t *testing.T) {
	t.Parallel()
	for _, way := range []string{byExchange, byRefresh, byToken} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t, way)
			right := d.credential(way)
			right.Expires = time.Now().Add(time.Hour)
			wrong := right
			if wrong.Expires = right.Expires; way == byRefresh {
				wrong.RefreshToken = "another"
			} else if way == byToken {
				wrong.AccessToken = "another"
			} else {
				wrong.Password = "another"
			}
			now, fails := right, error(nil)
			r := newRegistry(t, oci.Options{Limits: oci.Limits{Attempts: 1}, Credentials: sourceFunc(func() (oci.Credential, error) { return now, fails })})
			for _, step := range []struct {
				what string
				cred oci.Credential
				err  error
				want error // nil = it is read
			}{
				{"the right one", right, nil, nil},
				{"the source does not answer", oci.Credential{}, fmt.Errorf("%w: away", boltseal.ErrUnavailable), nil},
				{"another one", wrong, nil, boltseal.ErrUnauthorized},
				{"the right one again", right, nil, nil},
				{"none", oci.Credential{}, nil, boltseal.ErrUnauthorized},
				{"it was taken back", oci.Credential{}, errors.New("forbidden"), boltseal.ErrUnauthorized},
				{"the right one at last", right, nil, nil},
			} {
				now, fails = step.cred, step.err
				if _, err := r.Resolve(testContext(t), tagged(d.host, repo, "v1")); !errors.Is(err, step.want) || (err == nil) != (step.want == nil) {
					t.Errorf("%s: %v, want %v", step.what, err, step.want)
				}
			}
		})
	}
}

// An end alone is no credential: it asks anonymously.
func TestOnlyAnEndIsAnonymous(t *testing.T) {
	t.Parallel()
	elsewhere := newOther(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"token":"none"}`)) })
	i := realm(t, "http://"+elsewhere.host+"/token", false)
	_, err := newRegistry(t, oci.Options{Credentials: passwords{Expires: time.Now()}}).Resolve(testContext(t), i.byTag())
	wantError(t, err, boltseal.ErrUnauthorized, i.reg.Host)
	if len(elsewhere.seen()) == 0 {
		t.Error("the token server was not asked")
	}
}

type sourceFunc func() (oci.Credential, error)

func (f sourceFunc) Credential(context.Context, string, string) (oci.Credential, error) { return f() }
