package server

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// TestLargeBodiesAreDecodedInTurn: small ones do not wait for large ones; large ones
// wait for each other, in turn by address, and not beyond their time.
func TestLargeBodiesAreDecodedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Metrics: NewMetrics(Sources{})})
		ask := func(from string, size int) *question {
			return &question{ctx: t.Context(), from: netip.MustParseAddr(from), body: make([]byte, size), deadline: time.Now().Add(time.Second)}
		}
		var held []func()
		for range decodersAtATime() {
			done, ok := s.decoding(ask("192.0.2.1", firstBuffer+1))
			if !ok {
				t.Fatal("no place, and nobody has one")
			}
			held = append(held, done)
		}
		if _, ok := s.decoding(ask("192.0.2.1", firstBuffer)); !ok {
			t.Error("a small body waits")
		}
		for _, size := range []int{firstBuffer + 1, heavyBody + 1} {
			began := time.Now()
			if _, ok := s.decoding(ask("192.0.2.1", size)); ok || time.Since(began) != time.Second {
				t.Errorf("%d bytes: %v after %s", size, ok, time.Since(began))
			}
		}
		if len(s.heavy) != 0 {
			t.Error("who has left keeps a place")
		}
		var order []string
		for _, from := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"} {
			go func() {
				if done, ok := s.decoding(ask(from, heavyBody/2)); ok {
					order = append(order, from)
					done()
				}
			}()
			synctest.Wait()
		}
		for _, done := range held[1:] { // one at a time, so that there is an order
			defer done()
		}
		held[0]()
		synctest.Wait()
		if len(order) != 4 || order[1] != "192.0.2.2" {
			t.Errorf("%v", order)
		}
	})
}

// TestAnswersAboutManyImagesAreWrittenInTurn: those about few do not wait, and one that
// is due does not wait on.
func TestAnswersAboutManyImagesAreWrittenInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Metrics: NewMetrics(Sources{})})
		in := &question{ctx: t.Context(), from: netip.MustParseAddr("192.0.2.1"), deadline: time.Now().Add(time.Second)}
		for range decodersAtATime() {
			defer s.concluding(in, fewImages+1)()
		}
		began := time.Now()
		s.concluding(in, fewImages)()
		if time.Since(began) != 0 {
			t.Error("few images wait")
		}
		s.concluding(in, fewImages+1)()
		if time.Since(began) != time.Second {
			t.Errorf("it waited for %s", time.Since(began))
		}
		if n := s.decoders.Waiting(); n != 0 {
			t.Errorf("%d still wait", n)
		}
	})
}
