package server

import (
	"container/list"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/boltseal/boltseal/internal/audit"
)

// room counts the bytes of all requests and answers that are held at a time, by who
// asks. When it is full it is for those who send: of the caller who holds most in
// requests that are still coming in, or answers that are still going out, the one
// that does so for longest is ended. Nobody holds more than half of it.
type room struct {
	most int64
	// reserved are bytes of most that only those may use who have proven who they are.
	reserved int64

	mu      sync.Mutex
	used    int64
	fronts  int // requests without room that are read up to their uid
	callers map[netip.Addr]*caller
	spare   []*caller // used again: a caller comes for each request
}

// caller is one remote address.
type caller struct {
	held, moving int64     // bytes; moving is the part of shares on the list
	shares       int       // requests under way
	fronts       int       // of them, those without room that are read up to their uid
	slow         list.List // of *share, that are read or written, the longest first
}

// share is one request's part of a room. Its methods are called by one goroutine at
// a time.
type share struct {
	room   *room
	from   netip.Addr
	proven bool // who asks has proven who that is
	held   int64
	spent  audit.Spent // where the request's time goes; it is here for it lives as long

	// Under room.mu.
	at    *list.Element // on caller.slow, nil where it does not move
	ended bool
	out   bool // what moves is the answer

	mu   sync.Mutex // is held while another ends the request
	w    http.ResponseWriter
	gone bool
}

// remoteNetwork is the address that r came from; of IPv6 the network of 64 bits, of which
// everybody has as many addresses as he likes.
func remoteNetwork(address string) netip.Addr {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.Addr{}
	}
	a := ap.Addr().Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			a = p.Addr()
		}
	}
	return a
}

// enter makes the share of a request.
func (rm *room) enter(w http.ResponseWriter, from netip.Addr, proven bool) *share {
	s := &share{room: rm, from: from, proven: proven, w: w}
	rm.mu.Lock()
	defer rm.mu.Unlock()
	c := rm.callers[from]
	if c == nil {
		if n := len(rm.spare); n > 0 {
			c, rm.spare = rm.spare[n-1], rm.spare[:n-1]
		} else {
			c = &caller{}
		}
		if rm.callers == nil {
			rm.callers = map[netip.Addr]*caller{}
		}
		rm.callers[from] = c
	}
	c.shares++
	return s
}

// maxSpare bounds the callers that are kept to be used again.
const maxSpare = 64

// leave gives everything back.
func (s *share) leave() {
	s.mu.Lock()
	s.gone = true
	s.mu.Unlock()
	rm := s.room
	rm.mu.Lock()
	defer rm.mu.Unlock()
	c := rm.callers[s.from]
	s.stop(c)
	rm.add(c, s, -s.held)
	if c.shares--; c.shares == 0 {
		delete(rm.callers, s.from)
		if len(rm.spare) < maxSpare {
			rm.spare = append(rm.spare, c)
		}
	}
}

// add changes what a share holds.
func (rm *room) add(c *caller, s *share, n int64) {
	s.held += n
	c.held += n
	rm.used += n
	if s.at != nil {
		c.moving += n
	}
}

// move says that the request is read, or its answer written where out is set, from
// now on, until rest: it may be ended for others' sake.
func (s *share) move(out bool) {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	s.out = out
	if c := s.room.callers[s.from]; s.at == nil && !s.ended {
		s.at = c.slow.PushBack(s)
		c.moving += s.held
	}
}

// rest reports false where the request was ended meanwhile.
func (s *share) rest() bool {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	s.stop(s.room.callers[s.from])
	return !s.ended
}

func (s *share) stop(c *caller) {
	if s.at != nil {
		c.slow.Remove(s.at)
		c.moving -= s.held
		s.at = nil
	}
}

// set changes the share to a buffer of n bytes. It reports false, and changes
// nothing, where there is no room for it, or none for it any more.
func (s *share) set(n int) bool {
	for {
		ok, victim := s.trySet(int64(n))
		if victim == nil {
			return ok
		}
		victim.interrupt()
	}
}

// trySet is set; where another share must end first, it is ended as far as the
// counting goes, and returned.
func (s *share) trySet(n int64) (ok bool, victim *share) {
	rm := s.room
	rm.mu.Lock()
	defer rm.mu.Unlock()
	c := rm.callers[s.from]
	more := n - s.held
	switch {
	case s.ended:
		return false, nil
	case more <= 0:
		rm.add(c, s, more)
		return true, nil
	}
	most, own := rm.most, rm.most/2
	if n > smallBuffer {
		most -= rm.most / 4
	}
	if s.proven {
		own = rm.most
	} else {
		most -= rm.reserved
	}
	switch {
	case n > most || n > own:
		return false, nil
	case c.held+more > own:
		victim = s.slowest(c)
	case rm.used+more > most:
		victim = s.slowest(nil)
	default:
		rm.add(c, s, more)
		return true, nil
	}
	if victim == nil {
		return false, nil
	}
	vc := rm.callers[victim.from]
	victim.stop(vc)
	rm.add(vc, victim, -victim.held)
	victim.ended = true
	return false, victim
}

// slowest finds whom to end: of the caller c, or of the one that holds most in
// requests and answers that move. Who has proven who he is makes room for nobody
// who has not.
func (s *share) slowest(c *caller) *share {
	var found *share
	var most int64 = -1
	for _, other := range s.room.callers {
		if c != nil && other != c || other.moving <= most {
			continue
		}
		for e := other.slow.Front(); e != nil; e = e.Next() {
			if v, _ := e.Value.(*share); v != s && v.held > 0 && (s.proven || !v.proven) {
				found, most = v, other.moving
				break
			}
		}
	}
	return found
}

// interrupt ends the reading of a request, or the writing of its answer.
func (s *share) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return
	}
	c, past := http.NewResponseController(s.w), time.Unix(1, 0)
	if s.out {
		_ = c.SetWriteDeadline(past)
	} else {
		_ = c.SetReadDeadline(past) // so that it is told why
	}
}

// held is what all hold, in bytes.
func (rm *room) held() int64 {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	return rm.used
}
