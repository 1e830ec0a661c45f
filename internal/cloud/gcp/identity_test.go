package gcp_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/gcp"
	"github.com/boltseal/boltseal/internal/cloud/gcp/artifactregistry"
	"github.com/boltseal/boltseal/internal/cloud/gcp/kms"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/testcloud"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

const metadata = "metadata.google.internal"

func newIdentity(t *testing.T) (*gcp.Identity, *testcloud.Cloud, *testcloud.GoogleKMS) {
	t.Helper()
	c := testcloud.Start(t, nil)
	google := c.GoogleKMS(testcloud.NewIssuer(t, "https://oidc.example"), "//iam.googleapis.com/x", "me", "")
	return gcp.New(gcp.Options{}, keys.Env{Transport: c.Transport(), Getenv: func(string) string { return "" }}), c, google
}

// TestOneTokenForAll: many who need a token at once ask for one; the one that was
// refused is replaced, and a newer one is not.
func TestOneTokenForAll(t *testing.T) {
	t.Parallel()
	id, c, _ := newIdentity(t)
	all := func(refused string) map[string]bool {
		var mu sync.Mutex
		var wg sync.WaitGroup
		got := map[string]bool{}
		id.Drop(gcp.Token{Value: refused})
		for range 20 {
			wg.Go(func() {
				token, err := id.Token(t.Context())
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				got[token.Value] = true
			})
		}
		wg.Wait()
		return got
	}
	first := all("")
	if n := len(c.Requests(metadata)); len(first) != 1 || n != 1 {
		t.Fatalf("%d tokens by %d requests", len(first), n)
	}
	for refused := range first {
		if second := all(refused); len(second) != 1 || second[refused] || len(c.Requests(metadata)) != 2 {
			t.Errorf("after it was refused: %d tokens by %d requests", len(second), len(c.Requests(metadata)))
		}
	}
	all("some other")
	if n := len(c.Requests(metadata)); n != 2 {
		t.Errorf("%d requests", n)
	}
}

// TestWhoLeavesDoesNotFailTheOthers: the first who asks may go, and nobody waits for
// longer than he wants to.
func TestWhoLeavesDoesNotFailTheOthers(t *testing.T) {
	t.Parallel()
	id, c, google := newIdentity(t)
	begun, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	real := google.MetadataHandler()
	c.Serve(metadata, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(begun) })
		<-goOn
		real(w, r)
	}))
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := id.Token(ctx)
		left <- err
	}()
	<-begun
	second := make(chan error, 1)
	go func() {
		_, err := id.Token(t.Context())
		second <- err
	}()
	leave()
	if err := <-left; !errors.Is(err, boltseal.ErrUnavailable) {
		t.Errorf("who left: %v", err)
	}
	time.Sleep(10 * time.Millisecond) // waits: so that the second one mostly comes before; if it comes late, it is served all the same
	close(goOn)
	if err := <-second; err != nil {
		t.Errorf("who stayed: %v", err)
	}
}

func TestTheEndOfAToken(t *testing.T) {
	t.Parallel()
	id, _, google := newIdentity(t)
	google.Life(2 * time.Hour)
	before := time.Now()
	token, err := id.Token(t.Context())
	if err != nil || token.Ends.Before(before.Add(2*time.Hour-time.Second)) || token.Ends.After(time.Now().Add(2*time.Hour)) {
		t.Errorf("%s %v", token.Ends, err)
	}
	id.Drop(token)
	google.Life(1000 * time.Hour)
	if token, err = id.Token(t.Context()); err != nil || token.Ends.After(time.Now().Add(24*time.Hour)) {
		t.Errorf("%s %v", token.Ends, err)
	}
	id.Drop(token)
	google.Life(0)
	if _, err = id.Token(t.Context()); !errors.Is(err, boltseal.ErrMalformed) {
		t.Error(err)
	}
}

// TestAllSignInAlike: the same environment makes the same identity, whoever asks for it,
// and what is wrong with it is told in the same words.
func TestAllSignInAlike(t *testing.T) {
	t.Parallel()
	const pool = "projects/acme/locations/europe-west3/caPools/release"
	file := func(text string) func(*testing.T) string {
		return func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "config.json")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
	}
	external := func(source string) string {
		return `{"type":"external_account","audience":"a","token_url":"https://sts.googleapis.com/v1/token","credential_source":{"file":"` + source + `"}}`
	}
	for _, c := range []struct {
		name   string
		config func(*testing.T) string
		is     error
		says   string
	}{
		{"nothing set, and no machine of Google", func(*testing.T) string { return "" }, boltseal.ErrUnauthorized, "sign in to Google Cloud at metadata.google.internal: HTTP 404"},
		{"no such file", func(*testing.T) string { return "/nowhere" }, boltseal.ErrConfiguration, "/nowhere: no such file"},
		{"a file that is too long", file(strings.Repeat(" ", 1<<20)), boltseal.ErrLimit, "too long"},
		{"a downloaded key", file(`{"type":"service_account"}`), boltseal.ErrConfiguration, "only external_account is used here"},
		{"a token that is too long", func(t *testing.T) string {
			return file(external(file(strings.Repeat("a", keys.MaxToken+1))(t)))(t)
		}, boltseal.ErrLimit, "too long"},
		{"a token that is none", func(t *testing.T) string { return file(external(file("two words")(t)))(t) }, boltseal.ErrConfiguration, "contains no token"},
		{"exchanged elsewhere", file(`{"type":"external_account","token_url":"https://evil.example/v1/token"}`), boltseal.ErrConfiguration, "gets no token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cloud := testcloud.Start(t, nil)
			cloud.GoogleKMS(testcloud.NewIssuer(t, "https://oidc.example"), "//iam.googleapis.com/x", "me", "").Metadata(false)
			config := c.config(t)
			getenv := func(name string) string {
				if name == "GOOGLE_APPLICATION_CREDENTIALS" {
					return config
				}
				return ""
			}
			s, err := artifactregistry.New(artifactregistry.Options{Transport: cloud.Transport(), Getenv: getenv, Timeout: testwait.Patience})
			if err != nil {
				t.Fatal(err)
			}
			p, err := kms.Parameters{CertificateAuthorities: []kms.Authority{{Name: pool}}}.Open(keys.Env{Transport: cloud.Transport(), Getenv: getenv}, "")
			if err != nil {
				t.Fatal(err)
			}
			_, registries := s.Credential(t.Context(), "gcr.io", "app")
			groups, err := p.Fetch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for who, err := range map[string]error{"registries": registries, "keys": groups[0].Err} {
				if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%s: %v, want %v with %q", who, err, c.is, c.says)
				}
			}
			var a, b *keys.Error
			if !errors.As(registries, &a) || !errors.As(groups[0].Err, &b) || a.Error() != b.Error() {
				t.Errorf("they differ: %v, %v", registries, groups[0].Err)
			}
		})
	}
}
