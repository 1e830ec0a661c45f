package service

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestAdviceLeavesHalfOfAProcessor: while one change is looked at no other is, nor for
// as long again; whoever waits for it has an end.
func TestAdviceLeavesHalfOfAProcessor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Service{o: Options{Clock: time.Now}, advising: make(chan struct{}, 1)}
		const took = 40 * time.Millisecond
		if !s.alone(t.Context(), func() { time.Sleep(took) }) { // waits: in a bubble, where it costs nothing
			t.Fatal("nobody else was looked at")
		}
		short, cancel := context.WithTimeout(t.Context(), took/2)
		defer cancel()
		if s.alone(short, func() { t.Error("too soon") }) {
			t.Error("not in time, and done")
		}
		begun := time.Now()
		if !s.alone(t.Context(), func() {}) || time.Since(begun) != took-took/2 {
			t.Errorf("after %s", time.Since(begun))
		}
		synctest.Wait()
	})
}
