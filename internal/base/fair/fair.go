// Package fair gives out a few slots to many who wait, to each who asks in turn.
package fair

import (
	"container/list"
	"context"
	"sync"
)

// Slots are a number of slots. While nobody waits, who comes takes one; otherwise
// one that is given back goes to the next of those who ask, by name, and there to
// who has waited for longest: whoever asks often waits for itself.
type Slots struct {
	mu     sync.Mutex
	free   int
	queues map[string]*queue
	turns  list.List // of *queue with somebody in it; the next in front
}

type queue struct {
	name    string
	waiting list.List // of chan struct{}
}

// NewSlots makes n slots, at least one.
func NewSlots(n int) *Slots {
	return &Slots{free: max(n, 1), queues: map[string]*queue{}}
}

// Take waits for a slot, in the name of whoever asks. Each that is taken must be
// given back. An error is that of ctx: no slot was taken.
func (s *Slots) Take(ctx context.Context, name string) error {
	s.mu.Lock()
	if s.free > 0 {
		s.free--
		s.mu.Unlock()
		return nil
	}
	q := s.queues[name]
	if q == nil {
		q = &queue{name: name}
		s.queues[name] = q
	}
	if q.waiting.Len() == 0 {
		s.turns.PushBack(q)
	}
	mine := make(chan struct{})
	at := q.waiting.PushBack(mine)
	s.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	select {
	case <-mine: // it was given at the same time
		s.mu.Unlock()
		s.Give()
		return ctx.Err()
	default:
	}
	defer s.mu.Unlock()
	q.waiting.Remove(at)
	if q.waiting.Len() == 0 {
		s.drop(q)
	}
	return ctx.Err()
}

// Give gives a slot back.
func (s *Slots) Give() {
	s.mu.Lock()
	defer s.mu.Unlock()
	front := s.turns.Front()
	if front == nil {
		s.free++
		return
	}
	q, _ := front.Value.(*queue)
	next, _ := q.waiting.Remove(q.waiting.Front()).(chan struct{})
	close(next)
	if q.waiting.Len() == 0 {
		s.drop(q)
		return
	}
	s.turns.MoveToBack(front)
}

func (s *Slots) drop(q *queue) {
	for e := s.turns.Front(); e != nil; e = e.Next() {
		if e.Value == q {
			s.turns.Remove(e)
			break
		}
	}
	delete(s.queues, q.name)
}

// Waiting is how many wait.
func (s *Slots) Waiting() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		n += q.waiting.Len()
	}
	return n
}
