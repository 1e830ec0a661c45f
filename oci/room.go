package oci

import (
	"container/list"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/boltseal/boltseal"
)

// DefaultRoomBytes is the size of a [Room] that nobody sized.
const DefaultRoomBytes = 24 << 20

// errCameSlowly is an answer that made room for others. Another try would be as slow,
// and so it counts as cut off.
var errCameSlowly = fmt.Errorf("%w: the answer came slowly, and others needed the room for it: %w", boltseal.ErrUnavailable, context.Canceled)

// smallAnswer is the size of answers that may use room to the last byte. Larger ones
// leave a quarter free, so that the many small ones need not wait for the few.
const smallAnswer = 64 << 10

// slowAnswer is how long an answer may take to arrive while others need the room.
const slowAnswer = time.Second

// Room bounds the bytes of registries' answers that are held at a time, over all
// registries, taken as they arrive. One host has half of it at most. When it is full,
// answers that have been arriving for a second make room, the longest of the host
// that holds most first; others wait. One room may be shared by any number of Registries.
type Room struct {
	most  int64
	clock func() time.Time

	mu    sync.Mutex
	used  int64
	hosts map[string]*hostRoom
	wake  chan struct{} // closed when something is given back
}

type hostRoom struct {
	held   int64
	shares int
	moving list.List // of *roomShare, the longest first
}

// roomShare is one answer's part.
type roomShare struct {
	room  *Room
	host  string
	end   context.CancelFunc
	began time.Time
	held  int64         // under room.mu, as are the others
	at    *list.Element // nil where it has arrived
	ended bool
	gone  bool
}

// NewRoom makes a room of so many bytes; 0 means DefaultRoomBytes.
func NewRoom(bytes int64) *Room {
	if bytes <= 0 {
		bytes = DefaultRoomBytes
	}
	return &Room{most: bytes, clock: time.Now, hosts: map[string]*hostRoom{}, wake: make(chan struct{})}
}

// enter begins an answer of a host; end is called where it must end for others.
func (r *Room) enter(host string, end context.CancelFunc) *roomShare {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.hosts[host]
	if h == nil {
		h = &hostRoom{}
		r.hosts[host] = h
	}
	h.shares++
	s := &roomShare{room: r, host: host, end: end, began: r.clock()}
	s.at = h.moving.PushBack(s)
	return s
}

// arrived says that the answer has come as far as it will. It reports false where it
// was ended.
func (s *roomShare) arrived() bool {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	s.stop()
	return !s.ended
}

func (s *roomShare) stop() {
	if s.at != nil {
		s.room.hosts[s.host].moving.Remove(s.at)
		s.at = nil
	}
}

// leave gives everything back, once.
func (s *roomShare) leave() {
	r := s.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.gone {
		return
	}
	s.gone = true
	s.stop()
	s.add(-s.held)
	if h := r.hosts[s.host]; h.shares == 1 {
		delete(r.hosts, s.host)
	} else {
		h.shares--
	}
}

func (s *roomShare) add(n int64) {
	s.held += n
	s.room.hosts[s.host].held += n
	s.room.used += n
	if n < 0 {
		close(s.room.wake)
		s.room.wake = make(chan struct{})
	}
}

// shrink gives back what is held beyond n bytes.
func (s *roomShare) shrink(n int64) {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	if n < s.held {
		s.add(n - s.held)
	}
}

// grow waits until there is room for n bytes in all. Errors wrap one of boltseal's
// sentinels.
func (s *roomShare) grow(ctx context.Context, n int64) error {
	for {
		victim, wake, after, err := s.tryGrow(n)
		switch {
		case err != nil:
			return err
		case victim != nil:
			victim.end()
			continue
		case wake == nil:
			return nil
		}
		t := time.NewTimer(after)
		select {
		case <-wake:
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return unavailableError(ctx.Err())
		}
		t.Stop()
	}
}

// tryGrow is grow without waiting: victim is to be ended first; otherwise wake is what
// to wait for, at most for so long.
func (s *roomShare) tryGrow(n int64) (victim *roomShare, wake chan struct{}, after time.Duration, err error) {
	r := s.room
	r.mu.Lock()
	defer r.mu.Unlock()
	more := n - s.held
	h := r.hosts[s.host]
	most := r.most
	if n > smallAnswer {
		most -= most / 4
	}
	var old *roomShare
	switch {
	case s.ended:
		return nil, nil, 0, errCameSlowly
	case n > r.most/2:
		return nil, nil, 0, fmt.Errorf("%w: an answer of %d bytes, and there is room for %d", boltseal.ErrLimit, n, r.most/2)
	case h.held+more > r.most/2:
		old = s.oldest(h)
	case r.used+more > most:
		var largest *hostRoom
		for _, other := range r.hosts {
			if (largest == nil || other.held > largest.held) && s.oldest(other) != nil {
				largest = other
			}
		}
		if largest != nil {
			old = s.oldest(largest)
		}
	default:
		s.add(more)
		return nil, nil, 0, nil
	}
	after = slowAnswer
	if old != nil {
		if after = slowAnswer - r.clock().Sub(old.began); after <= 0 {
			old.stop()
			old.add(-old.held)
			old.ended = true
			return old, nil, 0, nil
		}
	}
	return nil, r.wake, after, nil
}

// oldest is the answer of a host that has been arriving for longest, and holds
// something; nil where there is none besides s.
func (s *roomShare) oldest(h *hostRoom) *roomShare {
	for e := h.moving.Front(); e != nil; e = e.Next() {
		if o, _ := e.Value.(*roomShare); o != s && o.held > 0 {
			return o
		}
	}
	return nil
}

// heldBody is the body of an answer that has a share.
type heldBody struct {
	io.ReadCloser
	ctx    context.Context //nolint:containedctx // that of the request
	share  *roomShare
	beside int64 // what is held as long as it is read
	spent  int64
}

// reading has the body of an answer read by read, and counts meanwhile what is held
// of it. What an error or a token takes is no part of what a verification may cost: an
// error is short, and a token is for all who ask. Content is for request.held.
func (r *Room) reading(ctx context.Context, host string, end context.CancelFunc, resp *http.Response, read func(*http.Response)) {
	share := r.enter(host, end)
	defer share.leave()
	held := *resp
	held.Body = &heldBody{ReadCloser: resp.Body, ctx: boltseal.WithBudget(ctx, boltseal.Cost{}), share: share}
	read(&held)
}

// takeRoom is to be called before a buffer of n bytes is made for what a body holds, while
// there is another one of beside bytes.
func takeRoom(body io.Reader, n, beside int64) error {
	b, ok := body.(*heldBody)
	if !ok {
		return nil
	}
	if n > b.spent { // what it may come to
		if err := boltseal.SpendBudget(b.ctx, boltseal.Cost{Bytes: n - b.spent}); err != nil {
			return err
		}
		b.spent = n
	}
	return b.share.grow(b.ctx, n+beside+b.beside)
}

// firstChunk is the buffer that an answer begins with, whatever it says of its size.
const firstChunk = 16 << 10

// readArriving reads a body to its end, or to one byte over limit. size is what is said
// of it, negative where nothing is: the buffer grows with what has come, and where it
// is as long as was said there is no byte to spare.
func readArriving(body io.Reader, size, limit int64) ([]byte, error) {
	b, err := gatherBody(body, size, limit)
	if held, ok := body.(*heldBody); ok {
		held.share.shrink(int64(cap(b)))
	}
	return b, err
}

func gatherBody(body io.Reader, size, limit int64) ([]byte, error) {
	b := []byte{}
	for n := int64(firstChunk); ; n *= 2 {
		if size > int64(len(b)) {
			n = min(n, size)
		}
		n = min(n, limit+1)
		if err := takeRoom(body, n, int64(len(b))); err != nil {
			return nil, err
		}
		b = append(make([]byte, 0, n), b...)
		read, err := readFull(body, b[len(b):cap(b)])
		b = b[:len(b)+read]
		switch {
		case err == io.EOF || int64(len(b)) > limit:
			return b, nil
		case err != nil:
			return b, err
		case int64(len(b)) == size: // is that all?
			var more [1]byte
			if read, err = readFull(body, more[:]); err == io.EOF {
				return b, nil
			} else if err != nil {
				return b, err
			}
			if b = append(b, more[:read]...); int64(len(b)) > limit {
				return b, nil
			}
		}
		n = max(n, int64(len(b)))
	}
}
