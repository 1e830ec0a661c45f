package filewatch

import (
	"context"
	"slices"
	"sync"
)

// Follower watches files whose names change. It is safe for concurrent use.
type Follower struct {
	o       Options
	again   chan struct{} // room for one: other files are to be watched
	mu      sync.Mutex
	watcher *Watcher
}

// NewFollower makes one that watches nothing yet. The options' Paths are not used.
func NewFollower(o Options) *Follower {
	o.Paths = nil
	return &Follower{o: o, again: make(chan struct{}, 1), watcher: New(o)}
}

// Watch says which files are watched from now on, and looks at those that were not
// watched. Whoever reads them afterwards misses no change.
func (f *Follower) Watch(paths []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Equal(f.watcher.o.Paths, paths) {
		return
	}
	o := f.o
	o.Paths = slices.Clone(paths)
	f.watcher = New(o)
	select {
	case f.again <- struct{}{}:
	default:
	}
}

// Run calls changed as [Watcher.Run] does, until ctx ends. changed may call Watch.
func (f *Follower) Run(ctx context.Context, changed func()) {
	for ctx.Err() == nil {
		f.mu.Lock()
		w := f.watcher
		f.mu.Unlock()
		watching, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() { defer close(ended); w.Run(watching, changed) }()
		select {
		case <-ctx.Done():
		case <-f.again:
		}
		stop()
		<-ended
	}
}
