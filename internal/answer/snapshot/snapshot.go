// Package snapshot holds the live configuration: immutable, numbered, and swapped in one step.
package snapshot

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/answer/memo"
)

// Engines are what a configuration compiles to.
type Engines interface {
	// EngineFor returns the engine for a namespace's images by Ratify's rules, nil
	// where there is none.
	EngineFor(namespace string) *boltseal.Engine
	// PerPod reports whether the engine reads registries by the credentials of each
	// Pod.
	PerPod(e *boltseal.Engine) bool
	// ForPod returns the engine in e's place for a Pod of a namespace with these pull
	// Secrets and this ServiceAccount: e itself where e is not PerPod or the Pod has
	// none. Nil means that there is none to answer.
	ForPod(ctx context.Context, e *boltseal.Engine, namespace string, secrets []string, account string) *boltseal.Engine
	// ForStranger returns the engine in e's place for whoever has not shown who they
	// are: one that uses no credentials in a namespace's or a Pod's name. Nil means that
	// there is none to answer; withheld, that some were left out.
	ForStranger(e *boltseal.Engine) (stranger *boltseal.Engine, withheld bool)
	// Close releases connections. Verifications under way are not cut off.
	Close()
}

// Snapshot is one working configuration with what was found out under it.
type Snapshot struct {
	// Generation numbers the snapshots of a Live, from 1.
	Generation uint64
	Engines    Engines
	// Policies are for the admission webhook; nil where none was configured.
	Policies *integrity.Set
	// Memo keeps answers, which hold under this configuration only.
	Memo *memo.Memo
}

// Live is the snapshot in force. The zero value has none.
type Live struct {
	current atomic.Pointer[Snapshot]
	mu      sync.Mutex    // orders Swap
	changed chan struct{} // closed by the next Swap; nil = nobody waits
}

// Load returns the snapshot in force; nil means that there is none yet, so that
// nothing can be answered.
func (l *Live) Load() *Snapshot { return l.current.Load() }

// Swap puts a configuration in force and closes the one before. It returns the
// generation.
func (l *Live) Swap(s Snapshot) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.current.Load()
	s.Generation = 1
	if old != nil {
		s.Generation = old.Generation + 1
	}
	l.current.Store(&s)
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
	if old != nil && old.Engines != nil {
		old.Engines.Close()
	}
	return s.Generation
}

// Changed returns a channel that is closed when another snapshot is put in force.
// Whoever must miss none asks for the channel before it loads.
func (l *Live) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.changed
}
