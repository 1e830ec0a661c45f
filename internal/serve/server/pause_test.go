package server

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestWhoIsRefusedWaits: for a second at most, for half of the time that is left at most,
// once for all images of the request, and not for a caller that has gone.
func TestWhoIsRefusedWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "x"})
		for _, c := range []struct{ time, want time.Duration }{{9 * time.Second, time.Second}, {time.Second, 500 * time.Millisecond}, {-time.Second, 0}} {
			began := time.Now()
			p := newPause(c.time, counter)
			if p.isOver() {
				t.Error("it is over before it began")
			}
			for range 2 {
				p.wait(t.Context())
				if got := time.Since(began); got != c.want || !p.isOver() {
					t.Errorf("with %s left it waits %s", c.time, got)
				}
			}
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		newPause(time.Minute, counter).wait(gone)
		if got := time.Since(began); got != 0 {
			t.Errorf("for a caller that has gone it waits %s", got)
		}
		time.Sleep(time.Second) // waits: of the fake clock, for the timer
	})
}
