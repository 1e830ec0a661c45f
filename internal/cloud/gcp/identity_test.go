package gcp_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/gcp"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/testcloud"
)

const metadata = "metadata.google.internal"

func newIdentity(t *testing.T) (*gcp.Identity, *testcloud.Cloud, *testcloud.GoogleKMS) {
	t.Helper()
	c := testcloud.Start(t, nil)
	google := c.GoogleKMS(testcloud.NewIssuer(t, "https://oidc.example"), "//iam.googleapis.com/x", "me", "")
	return gcp.New(keys.Env{Transport: c.Transport(), Getenv: func(string) string { return "" }}), c, google
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
		for range 20 {
			wg.Go(func() {
				token, err := id.Token(t.Context(), refused)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				got[token] = true
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
		_, err := id.Token(ctx, "")
		left <- err
	}()
	<-begun
	second := make(chan error, 1)
	go func() {
		_, err := id.Token(t.Context(), "")
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
	token, err := id.Fetch(t.Context())
	if err != nil || token.Ends.Before(before.Add(2*time.Hour-time.Second)) || token.Ends.After(time.Now().Add(2*time.Hour)) {
		t.Errorf("%s %v", token.Ends, err)
	}
	google.Life(1000 * time.Hour)
	if token, err = id.Fetch(t.Context()); err != nil || token.Ends.After(time.Now().Add(24*time.Hour)) {
		t.Errorf("%s %v", token.Ends, err)
	}
	google.Life(0)
	if _, err = id.Fetch(t.Context()); !errors.Is(err, boltseal.ErrMalformed) {
		t.Error(err)
	}
}
