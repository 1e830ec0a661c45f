package oci

import (
	"context"
	"sync"
	"time"
)

// grace is how long a second request about the same image waits to see whether
// requests about others come along.
const grace = 3 * time.Millisecond

// door lets one request go ahead to a registry of which it is not known whether it
// asks for a token: the others wait for what that one learns, so that not each of
// them is refused first. Where one image alone is asked about, its two first requests
// go side by side. The zero value is closed.
type door struct {
	mu     sync.Mutex
	open   bool
	busy   chan struct{} // closed when the one that went ahead has its answer
	image  string        // what that one is about
	others int           // requests about other images that wait
}

// enter waits for the request that is ahead, if there is one. leave is to be called
// with whether an answer came; before leave, or most, nobody else goes ahead.
func (d *door) enter(ctx context.Context, image string, most time.Duration) (leave func(answered bool)) {
	nothing := func(bool) {}
	d.mu.Lock()
	if d.open {
		d.mu.Unlock()
		return nothing
	}
	if ahead := d.busy; ahead != nil {
		same := d.image == image
		if !same {
			d.others++
		}
		d.mu.Unlock()
		ctx, cancel := context.WithTimeout(ctx, most)
		defer cancel()
		d.wait(ctx, ahead, same)
		return nothing // one wait is enough, whatever came of it
	}
	d.busy, d.image, d.others = make(chan struct{}), image, 0
	d.mu.Unlock()
	var once sync.Once
	return func(answered bool) {
		once.Do(func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.open = answered
			close(d.busy)
			d.busy = nil
		})
	}
}

func (d *door) wait(ctx context.Context, ahead chan struct{}, same bool) {
	if same {
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-ahead:
			return
		case <-ctx.Done():
			return
		case <-t.C:
		}
		d.mu.Lock()
		alone := d.others == 0
		d.mu.Unlock()
		if alone {
			return
		}
	}
	select {
	case <-ahead:
	case <-ctx.Done():
	}
}

// shut makes the next request go ahead alone again.
func (d *door) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = false
}
