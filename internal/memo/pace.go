package memo

import (
	"context"
	"sync"

	"github.com/boltseal/boltseal/internal/fair"
)

// atATime is how many images of one registry host are verified at a time for one
// namespace; more wait in line, where they cost next to nothing. Half as many as a
// registry is asked at a time, and enough to keep one busy that is 20 ms away.
const atATime = 32

// pace keeps the lines, one for each namespace and registry host that has any.
type pace struct {
	mu    sync.Mutex
	lines map[string]*line
}

type line struct {
	slots *fair.Slots
	users int
}

// enter waits for w's turn in line; leave is to be called after the work. An error is
// that of the work's own context.
func (p *pace) enter(ctx context.Context, w *work) (leave func(), err error) {
	key := w.asker + "\n" + w.host
	p.mu.Lock()
	l := p.lines[key]
	if l == nil {
		l = &line{slots: fair.NewSlots(atATime)}
		p.lines[key] = l
	}
	l.users++
	p.mu.Unlock()
	gone := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(p.lines, key)
		}
	}
	if err := l.slots.Take(ctx, ""); err != nil {
		gone()
		return nil, err
	}
	return func() { l.slots.Give(); gone() }, nil
}
