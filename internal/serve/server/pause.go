package server

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// refusalPause is how long a request waits at most, before it asks once more for images
// that were refused since too many were under way.
const refusalPause = time.Second

// pause is the one time in which a request waits, after the first of its images was
// refused. Who was refused by others' doing finds a place after it, and who asks again
// as soon as he is refused does not take the processor with it.
type pause struct {
	within  time.Duration // the time for the answer, of which half is left; not over refusalPause
	counter prometheus.Counter
	begin   sync.Once
	over    chan struct{}
}

func newPause(within time.Duration, counter prometheus.Counter) *pause {
	return &pause{within: within, counter: counter, over: make(chan struct{})}
}

// isOver reports whether the request has waited: what is refused then stays so.
func (p *pause) isOver() bool {
	select {
	case <-p.over:
		return true
	default:
		return false
	}
}

// wait waits for its end, or for that of ctx.
func (p *pause) wait(ctx context.Context) {
	p.begin.Do(func() {
		p.counter.Inc()
		time.AfterFunc(min(refusalPause, p.within/2), func() { close(p.over) })
	})
	select {
	case <-p.over:
	case <-ctx.Done():
	}
}
