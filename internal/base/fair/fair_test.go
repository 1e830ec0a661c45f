package fair

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// TestInTurn: who asks a hundred times is served once for each time that another is.
func TestInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSlots(1)
		if err := s.Take(t.Context(), "first"); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []string
		ask := func(name string, n int) {
			for range n {
				go func() {
					if s.Take(t.Context(), name) == nil {
						mu.Lock()
						order = append(order, name)
						mu.Unlock()
					}
				}()
			}
			synctest.Wait()
		}
		ask("flood", 100)
		ask("honest", 2)
		if n := s.Waiting(); n != 102 {
			t.Fatal(n)
		}
		for range 102 {
			s.Give()
			synctest.Wait()
		}
		if len(order) != 102 || order[0] != "flood" || order[1] != "honest" || order[3] != "honest" {
			t.Error(order)
		}
		s.Give()
		if s.free != 1 || len(s.queues) != 0 || s.turns.Len() != 0 {
			t.Errorf("%d free, %d queues", s.free, len(s.queues))
		}
	})
}

// TestWhoLeavesTakesNothing, even where a slot is given to it at that moment.
func TestWhoLeavesTakesNothing(t *testing.T) {
	t.Parallel()
	s := NewSlots(3)
	var wg sync.WaitGroup
	var inside, most atomic.Int64
	for i := range 8 {
		wg.Go(func() {
			for j := range 500 {
				ctx, cancel := context.WithCancel(t.Context())
				if (i+j)%3 == 0 {
					go cancel()
				}
				err := s.Take(ctx, string(rune('a'+i%4)))
				if err == nil {
					if n := inside.Add(1); n > most.Load() {
						most.Store(n)
					}
					inside.Add(-1)
					s.Give()
				} else if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if most.Load() > 3 || s.free != 3 || len(s.queues) != 0 || s.turns.Len() != 0 {
		t.Errorf("%d at a time; %d free, %d queues", most.Load(), s.free, len(s.queues))
	}
}
