package testregistry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	oras "oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

// repository is oras-go's client.
func repository(t *testing.T, r *testregistry.Registry, name string, c auth.Credential) *remote.Repository {
	t.Helper()
	repo, err := remote.NewRepository(r.Host + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = r.RootCAs() == nil
	repo.Client = &auth.Client{Client: r.Client(), Credential: auth.StaticCredential(r.Host, c)}
	return repo
}

var variants = map[string]testregistry.Options{
	"plain": {}, "TLS": {TLS: true}, "tag schema": {NoReferrersAPI: true}, "pages": {PageSize: 1},
	"basic":                    {Basic: &testregistry.BasicOptions{Users: map[string]string{"u": "p"}}},
	"token":                    {Token: &testregistry.TokenOptions{Users: map[string]string{"u": "p"}}},
	"token, own listener, TLS": {TLS: true, Token: &testregistry.TokenOptions{Users: map[string]string{"u": "p"}, OwnListener: true}},
}

// TestOrdinaryClient: oras-go pushes, pulls and lists referrers.
func TestOrdinaryClient(t *testing.T) {
	t.Parallel()
	for name, o := range variants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testregistry.New(t, o)
			repo := repository(t, r, "a/b", auth.Credential{Username: "u", Password: "p"})
			ctx := t.Context()
			local := memory.New()
			layer, err := oras.PushBytes(ctx, local, "text/plain", []byte("layer"))
			if err != nil {
				t.Fatal(err)
			}
			image, err := oras.PackManifest(ctx, local, oras.PackManifestVersion1_1, "application/x-image", oras.PackManifestOptions{Layers: []ocispec.Descriptor{layer}})
			if err != nil {
				t.Fatal(err)
			}
			if err := local.Tag(ctx, image, "v1"); err != nil {
				t.Fatal(err)
			}
			if _, err := oras.Copy(ctx, local, "v1", repo, "v1", oras.DefaultCopyOptions); err != nil {
				t.Fatal(err)
			}
			want := map[string]bool{}
			for range 3 {
				want[r.PushReferrer("a/b", image, "application/x-note", []byte(time.Now().String())).Digest.String()] = true
			}
			got, err := repo.Resolve(ctx, "v1")
			if err != nil || got.Digest != image.Digest {
				t.Fatalf("%+v, %v", got, err)
			}
			err = repo.Referrers(ctx, image, "", func(found []ocispec.Descriptor) error {
				for _, d := range found {
					delete(want, d.Digest.String())
				}
				return nil
			})
			if err != nil || len(want) != 0 {
				t.Errorf("referrers: %v, missing %v", err, want)
			}
		})
	}
}

func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"basic", "token"} {
		r := testregistry.New(t, variants[name])
		r.PushImage("a/b", "v1", 0)
		for _, c := range []auth.Credential{{}, {Username: "u", Password: "wrong"}} {
			_, err := repository(t, r, "a/b", c).Resolve(t.Context(), "v1")
			var resp *errcode.ErrorResponse
			if !errors.Is(err, auth.ErrBasicCredentialNotFound) && (!errors.As(err, &resp) || resp.StatusCode != http.StatusUnauthorized) {
				t.Errorf("%s %+v: %v", name, c, err)
			}
		}
	}
}

func TestTokensExpire(t *testing.T) {
	t.Parallel()
	r := testregistry.New(t, testregistry.Options{Token: &testregistry.TokenOptions{Anonymous: true}})
	r.PushImage("a/b", "v1", 0)
	repo := repository(t, r, "a/b", auth.EmptyCredential)
	for want := 1; want <= 2; want++ {
		if _, err := repo.Resolve(t.Context(), "v1"); err != nil {
			t.Fatal(err)
		}
		if got := r.TokensIssued(testregistry.Scope("a/b", "pull")); got < want {
			t.Errorf("%d tokens", got)
		}
		r.ExpireTokens()
	}
}

func TestLogTellsSerialDepth(t *testing.T) {
	t.Parallel()
	testwait.Grow(t, 20*time.Millisecond, func(latency time.Duration) error { // so that the five are under way together
		r := testregistry.New(t, testregistry.Options{Latency: latency})
		image := r.PushImage("a/b", "v1", 0)
		get := func(path string) {
			resp, err := http.Get(r.URL + path)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		r.ResetLog()
		get("/v2/a/b/manifests/v1")
		done := make(chan struct{})
		for range 5 {
			go func() { get("/v2/a/b/manifests/" + image.Digest.String()); done <- struct{}{} }()
		}
		for range 5 {
			<-done
		}
		get("/v2/a/b/referrers/" + image.Digest.String())
		if got := r.Count(testregistry.Manifest); got != 6 {
			t.Errorf("%d manifest requests, want 6", got)
		}
		if got := testregistry.SerialDepth(r.Requests()); got != 3 {
			return fmt.Errorf("depth %d, want 3", got)
		}
		if r.MaxConcurrent() < 2 {
			return errors.New("nothing ran side by side")
		}
		return nil
	})
}

func TestFaults(t *testing.T) {
	t.Parallel()
	r := testregistry.New(t, testregistry.Options{})
	image := r.PushImage("a/b", "v1", 0)
	right, _ := fetch(t, r, "/v2/a/b/manifests/v1")
	for name, f := range map[string]struct {
		fault testregistry.Fault
		check func(status int, body []byte, err error) bool
	}{
		"status":    {testregistry.Fault{Kind: testregistry.Status, Status: 429, RetryAfter: "7"}, func(s int, _ []byte, err error) bool { return s == 429 }},
		"hang":      {testregistry.Fault{Kind: testregistry.Hang}, func(_ int, _ []byte, err error) bool { return errors.Is(err, context.DeadlineExceeded) }},
		"reset":     {testregistry.Fault{Kind: testregistry.Reset}, func(_ int, _ []byte, err error) bool { return err != nil }},
		"truncated": {testregistry.Fault{Kind: testregistry.TruncatedBody}, func(_ int, b []byte, err error) bool { return err != nil && len(b) < len(right) }},
		"short":     {testregistry.Fault{Kind: testregistry.ShortBody}, func(_ int, b []byte, err error) bool { return err == nil && len(b) < len(right) }},
		"long":      {testregistry.Fault{Kind: testregistry.LongBody, Size: 10}, func(_ int, b []byte, err error) bool { return err == nil && len(b) == len(right)+10 }},
		"wrong":     {testregistry.Fault{Kind: testregistry.WrongBody}, func(_ int, b []byte, err error) bool { return err == nil && !bytes.Equal(b, right) }},
		"other tag": {testregistry.Fault{Kind: testregistry.Status, Target: "v2"}, func(s int, b []byte, _ error) bool { return s == 200 && bytes.Equal(b, right) }},
		"another":   {testregistry.Fault{Kind: testregistry.Status, Class: testregistry.Blob}, func(s int, _ []byte, _ error) bool { return s == 200 }},
	} {
		ctx, expire := testwait.Deadline(t.Context())
		if f.fault.Kind == testregistry.Hang {
			f.fault.Match = func(*http.Request) bool { expire(); return true }
		}
		undo := r.Inject(f.fault)
		status, body, err := 0, []byte(nil), error(nil)
		body, status, err = fetchAll(ctx, t, r, "/v2/a/b/manifests/v1")
		if !f.check(status, body, err) {
			t.Errorf("%s: HTTP %d, %d bytes, %v", name, status, len(body), err)
		}
		undo()
	}
	r.Inject(testregistry.Fault{Kind: testregistry.Status, Skip: 1, Times: 1})
	for i, want := range []int{200, 503, 200} {
		if _, status := fetch(t, r, "/v2/a/b/manifests/"+image.Digest.String()); status != want {
			t.Errorf("request %d: HTTP %d, want %d", i, status, want)
		}
	}
}

func fetch(t *testing.T, r *testregistry.Registry, path string) ([]byte, int) {
	t.Helper()
	b, status, err := fetchAll(t.Context(), t, r, path)
	if err != nil {
		t.Fatal(err)
	}
	return b, status
}

func fetchAll(ctx context.Context, t *testing.T, r *testregistry.Registry, path string) ([]byte, int, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := r.Client().Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return b, resp.StatusCode, err
}

// TestSeedAndServe: a registry for a process of its own says what is in it.
func TestSeedAndServe(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- testregistry.Serve(ctx, testregistry.Options{}, testregistry.SeedOptions{Images: 5, Key: testca.P256, DistinctLeaves: true}, out)
	}()
	var ready testregistry.Ready
	if err := json.NewDecoder(in).Decode(&ready); err != nil {
		t.Fatal(err)
	}
	if len(ready.Images) != 5 || len(ready.Digests) != 5 || ready.TrustRootPEM == "" {
		t.Errorf("%+v", ready)
	}
	resp, err := http.Get(ready.URL + "/v2/")
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("%v, %v", resp, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
