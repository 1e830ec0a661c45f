package memo

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

// TestWhoWaitsForAProcessorIsToldInTime: an image that gets no processor in its asker's
// time is an outage, so that what is remembered is asked; nothing of it is left behind,
// and an answer that is known does not wait.
func TestWhoWaitsForAProcessorIsToldInTime(t *testing.T) {
	h := testhouse.New(t, testhouse.Options{})
	_, known := h.Signed("known", h.Signer)
	_, next := h.Signed("next", h.Signer)
	m := New(Options{})
	if a := m.Answer(t.Context(), h.Engine, known); a.Decision != boltseal.Allow {
		t.Fatalf("%+v", a)
	}
	var held []func()
	for range turnsAtATime() {
		done, err := slotOf(t.Context(), m.begins)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, done)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if a := m.Answer(ctx, h.Engine, known); a.Decision != boltseal.Allow {
		t.Errorf("what is known waits for a processor: %+v", a)
	}
	a, times := m.Timed(ctx, h.Engine, next)
	if a.Decision != boltseal.Unknown || !a.Reason.Cause.Outage() || times == nil {
		t.Errorf("%+v, %+v", a, times)
	}
	if n := len(m.ongoing); n != 0 || m.seats.taken != 0 {
		t.Errorf("%d under way, %d seats taken", n, m.seats.taken)
	}
	for _, done := range held {
		done()
	}
	if a := m.Answer(t.Context(), h.Engine, next); a.Decision != boltseal.Allow {
		t.Errorf("%+v", a)
	}
}

// TestTurnsGoRound: whoever has many images begun does not keep others from theirs.
func TestTurnsGoRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Options{})
		var held []func()
		for range turnsAtATime() {
			done, _ := m.turn(t.Context())
			held = append(held, done)
		}
		var order []string
		ask := func(asker string, n int) {
			for range n {
				go func() {
					if done, err := m.turn(boltseal.WithAsker(t.Context(), asker)); err == nil {
						order = append(order, asker)
						time.Sleep(time.Millisecond) // waits: of the fake clock, the work in this turn
						done()
					}
				}()
			}
			synctest.Wait()
		}
		ask("flood", 100)
		ask("honest", 1)
		for _, done := range held[1:] { // one at a time, so that there is an order
			defer done()
		}
		held[0]()
		time.Sleep(time.Minute)
		synctest.Wait() // what they wrote may be read
		if len(order) != 101 || order[1] != "honest" && order[0] != "honest" {
			t.Errorf("%d, first %v", len(order), order[:min(len(order), 3)])
		}
	})
}
