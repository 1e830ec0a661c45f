package oci_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/internal/test/testwait"
	"github.com/boltseal/boltseal/oci"
)

// read asks what a verification asks of a store: for a digest, the manifest is
// resolved beside the listing.
func read(t testing.TB, r *oci.Registry, ref boltseal.Reference, subject ocispec.Descriptor) {
	ctx := testContext(t)
	var list boltseal.Listing
	var err, resolveErr error
	resolve := func() {
		var d ocispec.Descriptor
		if d, resolveErr = r.Resolve(ctx, ref); resolveErr == nil && d.Digest != subject.Digest {
			t.Errorf("resolved to %s", d.Digest)
		}
	}
	refer := func() { list, err = r.Referrers(ctx, ref, subject.Digest, []string{notation}) }
	if ref.Digest == "" {
		resolve()
		refer()
	} else {
		var wg sync.WaitGroup
		wg.Go(resolve)
		refer()
		wg.Wait()
	}
	if err != nil || resolveErr != nil || len(list.Referrers) != 1 {
		t.Fatalf("%+v, %v, %v", list, err, resolveErr)
	}
	b, err := r.Manifest(ctx, ref, list.Referrers[0])
	if err != nil {
		t.Fatal(err)
	}
	m, err := boltseal.ParseArtifactManifest(list.Referrers[0].MediaType, b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Blob(ctx, ref, m.Layers[0]); err != nil {
		t.Fatal(err)
	}
}

// Three round trips for a digest and four for a tag, whatever the registry is;
// the token of a repository costs one more, and a registry that asks for the
// first time one more again.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	token := &testregistry.TokenOptions{Users: users}
	for name, c := range map[string]struct {
		o     testregistry.Options
		first int // more than that, for the first image
		next  int // and for another repository
	}{
		"open":       {testregistry.Options{}, 0, 0},
		"TLS":        {testregistry.Options{TLS: true}, 0, 0},
		"bearer":     {testregistry.Options{Token: token}, 2, 1},
		"basic":      {testregistry.Options{Basic: &testregistry.BasicOptions{Users: users}}, 1, 0},
		"tag schema": {testregistry.Options{NoReferrersAPI: true}, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testwait.Grow(t, 20*time.Millisecond, func(latency time.Duration) error { // so that what runs together is seen to
				c.o.Latency = latency
				return countRoundTrips(t, c.o, c.first, c.next)
			})
		})
	}
}

// countRoundTrips reads images of two repositories, and returns an error where that took more round trips than it should,
// for the first image and the first one of the other repository some more.
func countRoundTrips(t *testing.T, o testregistry.Options, first, next int) error {
	t.Helper()
	reg := testregistry.New(t, o)
	chain := testca.Test(t, testca.Options{})
	r := newRegistry(t, oci.Options{Credentials: rightPassword, Hosts: map[string]oci.HostOptions{reg.Host: {RootCAs: reg.RootCAs(), PlainHTTP: !o.TLS}}})
	var problem error
	for n, repo := range []string{"team/a", "team/b"} {
		image := reg.PushImage(repo, "v1", 0)
		reg.Sign(repo, image, chain, testca.SignOptions{})
		extra := []int{first, next}[n]
		for _, step := range []struct {
			ref  boltseal.Reference
			want int
		}{
			{pinned(reg.Host, repo, image.Digest), 3 + extra},
			{pinned(reg.Host, repo, image.Digest), 3},
			{tagged(reg.Host, repo, "v1"), 4},
		} {
			reg.ResetLog()
			read(t, r, step.ref, image)
			if depth := testregistry.SerialDepth(reg.Requests()); depth > step.want {
				problem = fmt.Errorf("%s: %d serial requests, at most %d", step.ref, depth, step.want)
				for _, q := range reg.Requests() {
					problem = fmt.Errorf("%w\n%d-%d %s %s %d", problem, q.Begun, q.Ended, q.Method, q.Path, q.Status)
				}
			}
			if extra, n := step.want > 3+len(step.ref.Tag)/2, reg.Count(testregistry.Any); !extra && n != 4 {
				t.Errorf("%s: %d requests, want 4", step.ref, n)
			}
		}
	}
	return problem
}

// Connections are used again, after failures too.
func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	i := newImage(t, testregistry.Options{}, 1)
	connections := map[string]bool{}
	var mu sync.Mutex
	i.reg.Inject(testregistry.Fault{Kind: testregistry.Hang, Match: func(req *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		connections[req.RemoteAddr] = true
		return false
	}})
	r := newRegistry(t, oci.Options{})
	for range 20 {
		if _, err := r.Resolve(testContext(t), i.byTag()); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Resolve(testContext(t), tagged(i.reg.Host, repo, "none")); err == nil {
			t.Fatal("no error")
		}
		if _, err := r.Referrers(testContext(t), i.byDigest(), i.desc.Digest, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Manifest(testContext(t), i.byDigest(), i.signatures[0]); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Blob(testContext(t), i.byDigest(), ocispec.Descriptor{Digest: "sha256:" + zeros, Size: 1}); err == nil {
			t.Fatal("no error")
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(connections) != 1 {
		t.Errorf("%d connections for requests one after the other", len(connections))
	}
}
