package server

import (
	"net/http/httptest"
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

// TestRecallTime: what is left for memory grows with the time that there is.
func TestRecallTime(t *testing.T) {
	t.Parallel()
	for total, want := range map[time.Duration]time.Duration{
		900 * time.Millisecond: 180 * time.Millisecond, 2700 * time.Millisecond: 300 * time.Millisecond, 9500 * time.Millisecond: 950 * time.Millisecond,
	} {
		if got := recallTime(total); got != want {
			t.Errorf("%s: %s, want %s", total, got, want)
		}
	}
}
