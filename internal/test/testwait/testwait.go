// Package testwait is how tests wait: for what happens, with a deadline that only a hang reaches.
package testwait

import (
	"context"
	"sync"
	"testing"
	"time"
)

// Patience is how long a test waits for something that happens in milliseconds on an idle machine. Nothing is measured by it.
const Patience = 2 * time.Minute

// poll is how often Until looks.
const poll = 5 * time.Millisecond

// Until waits until done returns true, and ends the test where it does not within Patience; what says what did not happen.
// It is for the test's own goroutine.
func Until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !done(); time.Sleep(poll) {
		if time.Now().After(deadline) {
			t.Fatal("did not happen: ", what)
		}
	}
}

// Context ends after Patience, or with the test.
func Context(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// Deadline returns a context whose deadline passes when expire is called: so that a test decides what has happened by then,
// and not the machine. It ends with its parent, too.
func Deadline(parent context.Context) (ctx context.Context, expire func()) {
	d := &deadline{Context: parent, done: make(chan struct{})}
	context.AfterFunc(parent, func() { d.end(parent.Err()) })
	return d, func() { d.end(context.DeadlineExceeded) }
}

type deadline struct {
	context.Context
	done chan struct{}
	mu   sync.Mutex
	err  error
}

func (d *deadline) end(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = err
		close(d.done)
	}
}

func (d *deadline) Done() <-chan struct{} { return d.done }

func (d *deadline) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// Grow is for what real time must run out on while something else is still done in time: how much that takes, only the
// machine knows. It calls try with a limit that begins at first and doubles until try returns no error, or until only a
// hang would need more.
func Grow(t testing.TB, first time.Duration, try func(limit time.Duration) error) {
	t.Helper()
	for limit := first; ; limit *= 2 {
		switch err := try(limit); {
		case err == nil:
			return
		case 2*limit > Patience/4:
			t.Errorf("with a limit of %s as well: %v", limit, err)
			return
		}
	}
}
