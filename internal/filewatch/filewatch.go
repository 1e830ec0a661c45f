// Package filewatch tells when the content of files has changed, symbolic links and replaced folders included.
package filewatch

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Defaults of Options.
const (
	DefaultSettle = 50 * time.Millisecond
	DefaultPoll   = 10 * time.Second
)

// maxBytes is how much of a file counts.
const maxBytes = 64 << 20

// Options make a watch.
type Options struct {
	// Paths are files. They need not exist.
	Paths []string
	// Settle is how long to wait for further changes before one is reported. 0
	// means DefaultSettle.
	Settle time.Duration
	// Poll is how often to look without being told: for file systems that tell
	// nothing, and for links whose target lies elsewhere. 0 means DefaultPoll.
	Poll time.Duration
}

// Watcher compares files with what they were.
type Watcher struct {
	o     Options
	state [sha256.Size]byte
}

// New looks at the files for the first time. Whoever reads them afterwards
// misses no change.
func New(o Options) *Watcher {
	if o.Settle <= 0 {
		o.Settle = DefaultSettle
	}
	if o.Poll <= 0 {
		o.Poll = DefaultPoll
	}
	return &Watcher{o: o, state: digest(o.Paths)}
}

// Run calls changed, one call at a time, after the content of any of the files
// has become another than at the last look. It returns when ctx ends. Where the
// system offers no notification it polls.
func (w *Watcher) Run(ctx context.Context, changed func()) {
	o := w.o
	events := make(<-chan fsnotify.Event)
	// Folders are watched, not files: editors and Kubernetes replace files.
	if fs, err := fsnotify.NewWatcher(); err == nil {
		defer fs.Close()
		for _, p := range o.Paths {
			_ = fs.Add(filepath.Dir(p)) // polling covers what cannot be watched
		}
		events = fs.Events
		go func() {
			for range fs.Errors { // they mean lost events: polling covers them
			}
		}()
	}
	poll := time.NewTicker(o.Poll)
	defer poll.Stop()
	for first := true; ; first = false {
		if !first && !wait(ctx, events, poll.C, o.Settle) {
			return
		}
		// The first look is for what changed before the folders were watched.
		if now := digest(o.Paths); now != w.state {
			w.state = now
			changed()
		}
	}
}

// wait returns when it is time to look, and reports whether ctx lives.
func wait(ctx context.Context, events <-chan fsnotify.Event, poll <-chan time.Time, quiet time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-poll:
		return true
	case <-events:
		return settle(ctx, events, quiet)
	}
}

// settle waits until no event has come for a while, and reports whether ctx lives.
func settle(ctx context.Context, events <-chan fsnotify.Event, quiet time.Duration) bool {
	t := time.NewTimer(quiet)
	defer t.Stop()
	longest := time.NewTimer(20 * quiet)
	defer longest.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
			return true
		case <-longest.C:
			return true
		case <-events:
			t.Reset(quiet)
		}
	}
}

func digest(paths []string) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, p := range paths {
		_, _ = io.WriteString(h, p+"\x00")
		f, err := os.Open(p)
		if err != nil {
			_, _ = io.WriteString(h, "missing\x00")
			continue
		}
		one := sha256.New()
		if _, err := io.Copy(one, io.LimitReader(f, maxBytes)); err != nil {
			_, _ = io.WriteString(h, "unreadable\x00")
		}
		_ = f.Close()
		h.Write(one.Sum(nil))
	}
	h.Sum(sum[:0])
	return sum
}
