package server

import (
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// TestBudget: the answer leaves while its caller still waits, however short that
// is, and what the caller says of its patience is not believed without bounds.
func TestBudget(t *testing.T) {
	t.Parallel()
	s := New(Options{Metrics: NewMetrics(Sources{})})
	for query, want := range map[string]time.Duration{
		"": 2700 * time.Millisecond, "?timeout=1s": 900 * time.Millisecond, "?timeout=5s": 4500 * time.Millisecond, "?timeout=30s": 29500 * time.Millisecond,
		"?timeout=100ms": 50 * time.Millisecond, "?timeout=1ns": 1, "?a=b&timeout=2s": 1800 * time.Millisecond,
		// What is none is not believed.
		"?timeout=-1s": 2700 * time.Millisecond, "?timeout=0s": 2700 * time.Millisecond, "?timeout=10h": 2700 * time.Millisecond, "?timeout=x": 2700 * time.Millisecond, "?timeout=%zz": 2700 * time.Millisecond,
	} {
		for _, endpoint := range []string{"admission-validate", "admission-mutate"} {
			if got := s.budget(endpoint, httptest.NewRequest("POST", "/"+query, nil)); got != want {
				t.Errorf("%s: %s, want %s", query, got, want)
			}
		}
	}
	for endpoint, want := range map[string]time.Duration{"verify": DefaultVerifyTimeout, "mutate": DefaultMutateTimeout} {
		if got := s.budget(endpoint, httptest.NewRequest("POST", "/?timeout=9s", nil)); got != want {
			t.Errorf("%s: %s", endpoint, got)
		}
	}
}

// TestRoom: what many take at once never adds up to more than there is, small
// shares find room where large ones do not, and all of it comes back.
func TestRoom(t *testing.T) {
	t.Parallel()
	const most = 4 << 20
	r := room{most: most}
	var large []*share
	for {
		s := &share{room: &r}
		if !s.set(smallBuffer + 1) {
			break
		}
		large = append(large, s)
	}
	if used := r.used.Load(); used > most*3/4 || used < most/2 {
		t.Errorf("large ones take %d of %d", used, most)
	}
	small := &share{room: &r}
	if !small.set(smallBuffer) || small.set(2*smallBuffer) || small.held != smallBuffer {
		t.Errorf("a small one holds %d", small.held)
	}
	small.set(0)
	for _, s := range large {
		if !s.set(10) || !s.set(0) {
			t.Error("it cannot be given back")
		}
	}
	if got := r.used.Load(); got != 0 {
		t.Errorf("%d bytes are lost", got)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s := &share{room: &r}
			for j := range 2000 {
				s.set((i*7919 + j*104729) % (2 << 20))
				if used := r.used.Load(); used > most+8<<21 { // a share that finds no room counts for a moment
					t.Errorf("%d of %d bytes", used, most)
				}
			}
			s.set(0)
		})
	}
	wg.Wait()
	if got := r.used.Load(); got != 0 {
		t.Errorf("%d bytes are lost", got)
	}
}
