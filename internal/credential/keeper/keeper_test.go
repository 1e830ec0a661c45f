package keeper

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/oci"
)

// source is who is asked: each answer is another one and lives for life.
type source struct {
	asked atomic.Int64
	mu    sync.Mutex
	life  time.Duration
	fail  error
	wait  time.Duration
}

func (s *source) set(fail error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

func (s *source) fetch(ctx context.Context, key string) (oci.Credential, error) {
	n := s.asked.Add(1)
	s.mu.Lock()
	fail, life, wait := s.fail, s.life, s.wait
	s.mu.Unlock()
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return oci.Credential{}, fmt.Errorf("%w: it took too long", boltseal.ErrUnavailable)
	}
	c := oci.Credential{Password: fmt.Sprintf("%s-%d", key, n)}
	if life > 0 {
		c.Expires = time.Now().Add(life)
	}
	return c, fail
}

func (s *source) keeper() *Keeper {
	return New(Options{Fetch: s.fetch, Jitter: func() float64 { return 0.5 }})
}

func get(t *testing.T, k *Keeper, key, want string) {
	t.Helper()
	c, err := k.Get(t.Context(), key)
	if err != nil || c.Password != want {
		t.Errorf("%+v, %v; want %s", c, err, want)
	}
}

func TestSharedAndRenewedAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{life: time.Hour, wait: time.Second}
		k := s.keeper()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { get(t, k, "a", "a-1") })
		}
		wg.Wait()
		get(t, k, "b", "b-2")
		if n := s.asked.Load(); n != 2 {
			t.Errorf("asked %d times", n)
		}
		time.Sleep(45 * time.Minute)
		get(t, k, "a", "a-1")
		if n := s.asked.Load(); n != 2 {
			t.Errorf("asked %d times: too early", n)
		}
		time.Sleep(10 * time.Minute)
		at := time.Now()
		for range 10 {
			get(t, k, "a", "a-1") // who asks does not wait for the renewal
		}
		if waited := time.Since(at); waited != 0 {
			t.Errorf("waited %s", waited)
		}
		synctest.Wait()
		time.Sleep(2 * time.Second)
		get(t, k, "a", "a-3")
		if n := s.asked.Load(); n != 3 {
			t.Errorf("asked %d times", n)
		}
	})
}

// TestOutage: what is still good is used on while the renewal fails; beyond its end
// it is not, and the failure is kept for a moment.
func TestOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{life: time.Hour}
		k := s.keeper()
		get(t, k, "a", "a-1")
		down := &keys.Error{Op: "ask", Err: boltseal.ErrUnavailable}
		s.set(down)
		time.Sleep(56 * time.Minute)
		get(t, k, "a", "a-1")
		synctest.Wait()
		asked := s.asked.Load()
		for range 10 {
			get(t, k, "a", "a-1")
			synctest.Wait()
		}
		if n := s.asked.Load(); n != asked {
			t.Errorf("asked %d times in a moment", n-asked)
		}
		time.Sleep(4 * time.Minute)
		for range 10 {
			if c, err := k.Get(t.Context(), "a"); !errors.Is(err, boltseal.ErrUnavailable) || c != (oci.Credential{}) {
				t.Errorf("%+v, %v", c, err)
			}
		}
		if n := s.asked.Load(); n != asked+1 {
			t.Errorf("asked %d times", n)
		}
		s.set(nil)
		time.Sleep(10 * time.Second)
		if _, err := k.Get(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		s.set(&keys.Error{Op: "ask", Err: boltseal.ErrUnavailable, RetryAfter: time.Hour})
		for range 2 {
			_, _ = k.Get(t.Context(), "c")
		}
		asked = s.asked.Load()
		time.Sleep(50 * time.Second)
		_, _ = k.Get(t.Context(), "c")
		if n := s.asked.Load(); n != asked {
			t.Error("asked again before it said")
		}
		time.Sleep(15 * time.Second) // what a server may ask for has a limit
		_, _ = k.Get(t.Context(), "c")
		if n := s.asked.Load(); n != asked+1 {
			t.Errorf("asked %d times", n-asked)
		}
	})
}

func TestDrop(t *testing.T) {
	t.Parallel()
	s := &source{life: time.Hour}
	k := s.keeper()
	get(t, k, "a", "a-1")
	k.Drop("b", oci.Credential{Password: "a-1"})
	k.Drop("a", oci.Credential{Password: "a-0"})
	get(t, k, "a", "a-1")
	k.Drop("a", oci.Credential{Password: "a-1"})
	get(t, k, "a", "a-2")
	k.Drop("a", oci.Credential{Password: "a-1"}) // comes late
	get(t, k, "a", "a-2")
}

func TestNoGood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := &source{life: Margin}
		if c, err := ended.keeper().Get(t.Context(), "a"); !errors.Is(err, boltseal.ErrUnavailable) || c != (oci.Credential{}) {
			t.Errorf("one that ends at once: %+v, %v", c, err)
		}
		undated := &source{}
		k := undated.keeper()
		get(t, k, "a", "a-1")
		time.Sleep(lifeOfUndated)
		get(t, k, "a", "a-1")
		synctest.Wait()
		get(t, k, "a", "a-2")

		slow := &source{life: time.Hour, wait: time.Hour}
		at := time.Now()
		if _, err := slow.keeper().Get(t.Context(), "a"); !errors.Is(err, boltseal.ErrUnavailable) || time.Since(at) != DefaultTimeout {
			t.Errorf("%v after %s", err, time.Since(at))
		}
		p := New(Options{Fetch: func(context.Context, string) (oci.Credential, error) { panic("secret") }})
		if _, err := p.Get(t.Context(), "a"); err == nil || err.Error() != "the credential's source panicked" {
			t.Error(err)
		}
	})
}

// TestLeaving: the first caller's leaving does not fail the others.
func TestLeaving(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{life: time.Hour, wait: time.Second}
		k := s.keeper()
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := k.Get(ctx, "a")
			left <- err
		}()
		synctest.Wait()
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) || !errors.Is(err, boltseal.ErrUnavailable) {
			t.Error(err)
		}
		get(t, k, "a", "a-1")
	})
}

func TestBounded(t *testing.T) {
	t.Parallel()
	s := &source{life: time.Hour}
	k := s.keeper()
	for i := range maxKept + 10 {
		if _, err := k.Get(t.Context(), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(k.kept) != maxKept {
		t.Errorf("%d are kept", len(k.kept))
	}
	get(t, k, fmt.Sprint(maxKept+9), fmt.Sprintf("%d-%d", maxKept+9, maxKept+10))
}

// TestFailuresThatAreNotKept: whoever waits between its attempts itself is not held back.
func TestFailuresThatAreNotKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{life: time.Hour, fail: boltseal.ErrUnauthorized}
		for _, again := range []bool{false, true} {
			k := New(Options{Fetch: s.fetch, AskAgain: again})
			before := s.asked.Load()
			for range 3 {
				if _, err := k.Get(t.Context(), "a"); !errors.Is(err, boltseal.ErrUnauthorized) {
					t.Error(err)
				}
			}
			if n := s.asked.Load() - before; again && n != 3 || !again && n != 1 {
				t.Errorf("AskAgain %v: asked %d times", again, n)
			}
		}
	})
}
