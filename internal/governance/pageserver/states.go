package pageserver

import (
	"context"
	"sync"
	"time"

	"github.com/boltseal/boltseal/internal/governance/page"
)

// states keeps the last state of the hub. One is read at a time, whoever waits for it.
type states struct {
	o    Options
	idle chan struct{} // holds an entry while one is being read

	mu   sync.Mutex
	site *page.Site
	at   time.Time
}

func (s *states) last() (*page.Site, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.site, s.o.Clock().Sub(s.at)
}

// get returns a state that is not too old. Where it is no longer fresh, the next one is
// read meanwhile, so that readers do not wait for it. The page says when it was read.
func (s *states) get(ctx context.Context) (*page.Site, error) {
	site, age := s.last()
	switch {
	case site != nil && age >= 0 && age < s.o.Fresh:
		return site, nil
	case site != nil && age >= 0 && age < s.o.Stale:
		select {
		case s.idle <- struct{}{}:
			go func() {
				defer func() { <-s.idle }()
				if _, err := s.read(context.WithoutCancel(ctx)); err != nil {
					s.o.Log.Warn("page: the state of the hub cannot be read", "error", err)
				}
			}()
		default:
		}
		return site, nil
	}
	select {
	case s.idle <- struct{}{}:
		defer func() { <-s.idle }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if site, age := s.last(); site != nil && age >= 0 && age < s.o.Fresh {
		return site, nil // another reader waited for it
	}
	return s.read(ctx)
}

func (s *states) read(ctx context.Context) (*page.Site, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	in, err := s.o.Source(ctx)
	if err != nil {
		return nil, err
	}
	site := page.New(in)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.site, s.at = site, s.o.Clock()
	return site, nil
}
