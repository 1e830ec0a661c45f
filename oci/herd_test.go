package oci_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/internal/test/testwait"
	"github.com/boltseal/boltseal/oci"
)

// Many images of one repository at a registry that nobody knows yet: one request is
// refused, one token is had, and nothing is asked twice.
func TestManyImagesLearnOfTheTokenTogether(t *testing.T) {
	t.Parallel()
	const images, together = 50, 32
	reg := testregistry.New(t, testregistry.Options{Token: &testregistry.TokenOptions{Anonymous: true, OwnListener: true}, Latency: 50 * time.Millisecond})
	chain := testca.Test(t, testca.Options{})
	var descs []ocispec.Descriptor
	for range images {
		d := reg.PushImage(repo, "", 0)
		reg.Sign(repo, d, chain, testca.SignOptions{})
		descs = append(descs, d)
	}
	r := newRegistry(t, oci.Options{Limits: oci.Limits{RequestTimeout: time.Minute}})
	next := make(chan ocispec.Descriptor)
	var wg sync.WaitGroup
	for range together {
		wg.Go(func() {
			for d := range next {
				read(t, r, pinned(reg.Host, repo, d.Digest), d)
			}
		})
	}
	for _, d := range descs {
		next <- d
	}
	close(next)
	wg.Wait()
	if n := reg.TokensIssued(""); n != 1 {
		t.Errorf("%d tokens", n)
	}
	// The two first requests of one image may go side by side, where the others come
	// late.
	if refused, all := statuses(reg, http.StatusUnauthorized), reg.Count(testregistry.Any)-reg.Count(testregistry.Token); refused > 2 || all != 4*images+refused {
		t.Errorf("%d requests were refused, %d in all", refused, all)
	}
}

// A request that gets no answer holds the others up no longer than its own time.
func TestTheFirstRequestToARegistryHangs(t *testing.T) {
	t.Parallel()
	testwait.Grow(t, 2*time.Second, func(limit time.Duration) error { // what a request takes that does not hang
		i := newImage(t, testregistry.Options{Token: &testregistry.TokenOptions{Anonymous: true}}, 1)
		i.reg.Inject(testregistry.Fault{Kind: testregistry.Hang, Times: 1})
		r := newRegistry(t, oci.Options{Limits: oci.Limits{RequestTimeout: limit}})
		var wg sync.WaitGroup
		failed := make(chan error, 10)
		for range cap(failed) {
			wg.Go(func() {
				if _, err := r.Resolve(testContext(t), i.byTag()); err != nil {
					failed <- err
				}
			})
		}
		wg.Wait()
		if len(failed) > 1 { // the one that hung has used up its time
			return fmt.Errorf("%d failed: %w", len(failed), <-failed)
		}
		return nil
	})
}

// What a token server writes for a number or a date is read, and what is none counts
// for nothing.
func TestTokenLifetimesOfOddTypes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for body, lasts := range map[string]time.Duration{
		`{"token":"` + secret + `","expires_in":300}`:                                                                          300 * time.Second,
		`{"token":"` + secret + `","expires_in":"300"}`:                                                                        300 * time.Second,
		`{"token":"` + secret + `","expires_in":300.0}`:                                                                        300 * time.Second,
		`{"token":"` + secret + `","expires_in":"300s"}`:                                                                       300 * time.Second,
		`{"access_token":"` + secret + `","expires_in":3e2}`:                                                                   300 * time.Second,
		`{"token":"","access_token":"` + secret + `","expires_in":null}`:                                                       60 * time.Second,
		`{"token":"` + secret + `","expires_in":{"s":1}}`:                                                                      60 * time.Second,
		`{"token":"` + secret + `","expires_in":-5}`:                                                                           60 * time.Second,
		`{"token":"` + secret + `","expires_in":"soon"}`:                                                                       60 * time.Second,
		`{"token":"` + secret + `","expires_in":600,"issued_at":"2026-03-01T11:55:00Z"}`:                                       300 * time.Second,
		`{"token":"` + secret + `","expires_in":600,"issued_at":"2026-03-01T11:55:00.123456789+00:00"}`:                        300 * time.Second,
		`{"token":"` + secret + `","expires_in":600,"issued_at":1772366100}`:                                                   300 * time.Second,
		`{"token":"` + secret + `","expires_in":"600","issued_at":"1772366100"}`:                                               300 * time.Second,
		`{"token":"` + secret + `","expires_in":600,"issued_at":"Sun, 01 Mar 2026 11:55:00 GMT"}`:                              300 * time.Second,
		`{"token":"` + secret + `","expires_in":600,"issued_at":"2026-03-01 11:55:00"}`:                                        300 * time.Second,
		`{"token":"` + secret + `","expires_in":300,"issued_at":"yesterday"}`:                                                  300 * time.Second,
		`{"token":"` + secret + `","expires_in":300,"issued_at":0}`:                                                            300 * time.Second,
		`{"token":"` + secret + `","expires_in":300,"issued_at":{"seconds":1}}`:                                                300 * time.Second,
		`{"token":"` + secret + `","access_token":"` + secret + `","expires_in":300,"issued_at":null,"scope":["a",{}], "x":1}`: 300 * time.Second,
	} {
		t.Run(body, func(t *testing.T) {
			t.Parallel()
			at := now
			host, given := tokenServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })
			r := newRegistry(t, oci.Options{Clock: func() time.Time { return at }})
			resolve := func() {
				_, _ = r.Resolve(testContext(t), boltseal.Reference{Registry: host, Repository: repo, Tag: "v1"})
			}
			resolve()
			first := given.Load()
			if first == 0 {
				t.Fatal("no token was asked for")
			}
			at = now.Add(lasts - 16*time.Second) // it is renewed 15 s ahead of its end
			resolve()
			if n := given.Load(); n != first {
				t.Errorf("it was fetched anew after %v", at.Sub(now))
			}
			at = now.Add(lasts - 14*time.Second)
			resolve()
			if n := given.Load(); n != first+1 {
				t.Errorf("it was still used after %v", at.Sub(now))
			}
		})
	}
}

// Some registries answer 403 or 400 where a token, or a password, has ended: another
// one is tried, once. One that was given to the request itself is not.
func TestRefusedOtherwiseThanBy401(t *testing.T) {
	t.Parallel()
	for _, code := range []int{http.StatusBadRequest, http.StatusForbidden} {
		for _, ended := range []bool{true, false} {
			t.Run(fmt.Sprint(code, ended), func(t *testing.T) {
				t.Parallel()
				var tokens, asked atomic.Int32
				var valid atomic.Int32
				host := serve(t, func(w http.ResponseWriter, req *http.Request) {
					switch n := tokens.Load(); {
					case req.URL.Path == "/token":
						fmt.Fprintf(w, `{"token":"%s-%d","expires_in":3600}`, secret, tokens.Add(1))
					case req.Header.Get("Authorization") == "":
						w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+req.Host+`/token"`)
						w.WriteHeader(http.StatusUnauthorized)
					case n <= valid.Load() || req.Header.Get("Authorization") != fmt.Sprintf("Bearer %s-%d", secret, n):
						asked.Add(1)
						w.WriteHeader(code)
						fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":"Your authorization token %s has expired. Reauthenticate and try again."}]}`, req.Header.Get("Authorization"))
					default:
						headHandler("sha256:"+zeros, ocispec.MediaTypeImageManifest, "9")(w, req)
					}
				})
				r := newRegistry(t, oci.Options{})
				if _, err := r.Resolve(testContext(t), tagged(host, repo, "v1")); err != nil {
					t.Fatal(err)
				}
				if valid.Store(1); !ended {
					valid.Store(1000)
				}
				_, err := r.Resolve(testContext(t), tagged(host, repo, "v1"))
				switch n := tokens.Load(); {
				case ended && (err != nil || n != 2 || asked.Load() != 1):
					t.Errorf("%d tokens, refused %d times, %v", n, asked.Load(), err)
				case !ended && (err == nil || n > 3 || asked.Load() > 4 || !strings.Contains(err.Error(), "DENIED: Your authorization token") || strings.Contains(err.Error(), secret)):
					t.Errorf("%d tokens, refused %d times, %v", n, asked.Load(), err)
				}
			})
		}
	}
}
