package snapshot_test

import (
	"sync"
	"testing"

	"github.com/boltseal/boltseal/internal/answer/snapshot"
)

// TestChanged: whoever asks for the channel before loading misses no snapshot.
func TestChanged(t *testing.T) {
	t.Parallel()
	const last = 1000
	var l snapshot.Live
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for seen := uint64(0); seen < last; {
				changed := l.Changed()
				snap := l.Load()
				if snap != nil && snap.Generation < seen {
					t.Errorf("generation %d after %d", snap.Generation, seen)
				}
				if snap != nil {
					seen = snap.Generation
				}
				if seen < last {
					<-changed
				}
			}
		})
	}
	for range last {
		l.Swap(snapshot.Snapshot{})
	}
	wg.Wait()
}
