package memo

import (
	"container/list"
	"context"
	"fmt"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/tracing/timing"
)

// sharePart is the part of all work that may be under way for one namespace, and at
// one registry host: nobody's share is everybody's.
const sharePart = 4

// seats count the work that is under way, by who asked first and by which registry
// is asked. They are guarded by the Memo's mutex.
type seats struct {
	most, share int
	taken       int
	askers      map[string]*list.List // of *work, the oldest first, by namespace
	hosts       map[string]int
}

func newSeats(most int) seats {
	return seats{most: most, share: max(most/sharePart, 1), askers: map[string]*list.List{}, hosts: map[string]int{}}
}

// take gives w a seat, or says why there is none. Where all are taken, who has fewer
// than another gets one of the other's: yields is the work that must end for that.
func (s *seats) take(w *work, asker, host string) (yields *work, refusal *boltseal.Reason) {
	mine := s.askers[asker]
	switch {
	case s.hosts[host] >= s.share:
		return nil, &boltseal.Reason{Cause: boltseal.CauseUnavailable,
			Message: fmt.Sprintf("%d images of %s are being verified already, and %s has not answered yet", s.share, host, host),
			Remedy:  "see whether " + host + " is slow or out of reach, and try again"}
	case asker != "" && mine != nil && mine.Len() >= s.share:
		return nil, &boltseal.Reason{Cause: boltseal.CauseUnavailable,
			Message: fmt.Sprintf("%d images are being verified for the namespace %s already", s.share, asker),
			Remedy:  "try again when fewer Pods are created at a time in that namespace"}
	case s.taken >= s.most:
		if yields = s.yielding(mine); yields == nil {
			r := overloadedReason(s.most)
			return nil, &r
		}
		s.give(yields)
		yields.yielded = true
	}
	if mine == nil {
		mine = list.New()
	}
	s.askers[asker] = mine // also where the one that yielded was the last of it
	w.asker, w.host, w.at = asker, host, mine.PushBack(w)
	s.hosts[host]++
	s.taken++
	return yields, nil
}

// yielding is the oldest work of whoever has most, by one more than the one who asks
// would have.
func (s *seats) yielding(mine *list.List) *work {
	most := 1
	if mine != nil {
		most += mine.Len()
	}
	var found *work
	for _, works := range s.askers {
		if n := works.Len(); n > most {
			found, _ = works.Front().Value.(*work)
			most = n
		}
	}
	return found
}

// give takes w's seat back; it does nothing where w has none (any more).
func (s *seats) give(w *work) {
	if w.at == nil {
		return
	}
	works := s.askers[w.asker]
	works.Remove(w.at)
	w.at = nil
	if works.Len() == 0 {
		delete(s.askers, w.asker)
	}
	if s.hosts[w.host]--; s.hosts[w.host] == 0 {
		delete(s.hosts, w.host)
	}
	s.taken--
}

// yieldedReason is why work ended that others needed the seat of.
func yieldedReason() boltseal.Reason {
	return boltseal.Reason{Cause: boltseal.CauseUnavailable, Message: "the verification was ended before it was done: its namespace had most of those that Boltseal can do at a time",
		Remedy: "try again, create fewer Pods at a time in that namespace, or run more replicas"}
}

// newWork is work with a seat, in the name of ctx's asker, and with a context that
// ends with the time for it, or when it must yield: whoever asked may leave before.
// To be called with m.mu held.
func (m *Memo) newWork(ctx context.Context, host string) (*work, *boltseal.Reason) {
	w := &work{done: make(chan struct{})}
	asker := boltseal.AskerOf(ctx)
	yields, refusal := m.seats.take(w, asker, host)
	if refusal != nil {
		m.o.Stats.Overloaded.Add(1)
		return nil, refusal
	}
	if yields != nil {
		yields.cancel()
	}
	w.times = timing.NewRecorder(m.o.Clock, boltseal.ObserverOf(ctx))
	own := boltseal.WithObserver(boltseal.WithTurns(boltseal.WithAsker(context.Background(), asker), m.turn), w.times)
	if parent := boltseal.TraceParentOf(ctx); parent != "" {
		own = boltseal.WithTraceParent(own, parent)
	}
	w.ctx, w.cancel = context.WithTimeout(own, m.o.WorkTimeout)
	return w, nil
}
