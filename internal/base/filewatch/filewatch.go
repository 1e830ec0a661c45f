// Package filewatch tells when the content of files has changed, symbolic links and replaced folders included.
package filewatch

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Defaults of Options.
const (
	DefaultSettle = 50 * time.Millisecond
	DefaultPoll   = 10 * time.Second

	DefaultFileBytes   = 64 << 20
	DefaultFolderFiles = 1000
)

// Options make a watch.
type Options struct {
	// Paths are files, or folders with all files below them. They need not exist.
	Paths []string
	// Settle is how long to wait for further changes before one is reported. 0
	// means DefaultSettle.
	Settle time.Duration
	// Poll is how often to look without being told: for file systems that tell
	// nothing, and for links whose target lies elsewhere. 0 means DefaultPoll.
	Poll time.Duration
	// FileBytes is how much of a file counts, and FolderFiles how many files a folder
	// may have: of one with more nothing is read. 0 means the defaults.
	FileBytes   int64
	FolderFiles int
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
	if o.FileBytes <= 0 {
		o.FileBytes = DefaultFileBytes
	}
	if o.FolderFiles <= 0 {
		o.FolderFiles = DefaultFolderFiles
	}
	return &Watcher{o: o, state: o.digest()}
}

// Run calls changed, one call at a time, after the content of any of the files
// has become another than at the last look. It returns when ctx ends. Where the
// system offers no notification it polls.
func (w *Watcher) Run(ctx context.Context, changed func()) {
	o := w.o
	events := make(<-chan fsnotify.Event)
	// Folders are watched, not files: editors and Kubernetes replace files.
	if told, err := fsnotify.NewWatcher(); err == nil {
		defer told.Close()
		for _, p := range o.Paths {
			_ = told.Add(filepath.Dir(p)) // polling covers what cannot be watched
			if info, err := os.Stat(p); err == nil && info.IsDir() {
				_ = told.Add(p)
			}
		}
		events = told.Events
		go func() {
			for range told.Errors { // they mean lost events: polling covers them
			}
		}()
	}
	poll := time.NewTicker(o.Poll)
	defer poll.Stop()
	for first := true; ; first = false {
		if !first && !waitForChange(ctx, events, poll.C, o.Settle) {
			return
		}
		// The first look is for what changed before the folders were watched.
		if now := o.digest(); now != w.state {
			w.state = now
			changed()
		}
	}
}

// waitForChange returns when it is time to look, and reports whether ctx lives.
func waitForChange(ctx context.Context, events <-chan fsnotify.Event, poll <-chan time.Time, quiet time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-poll:
		return true
	case <-events:
		return waitForQuiet(ctx, events, quiet)
	}
}

// waitForQuiet waits until no event has come for a while, and reports whether ctx lives.
func waitForQuiet(ctx context.Context, events <-chan fsnotify.Event, quiet time.Duration) bool {
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

func (o Options) digest() (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, p := range o.Paths {
		_, _ = io.WriteString(h, p+"\x00")
		info, err := os.Stat(p)
		switch {
		case err != nil:
			_, _ = io.WriteString(h, "missing\x00")
		case info.IsDir():
			o.below(h, p)
		default:
			o.content(h, p)
		}
	}
	h.Sum(sum[:0])
	return sum
}

// content adds what is in a file. Anything but a regular file might never end.
func (o Options) content(h hash.Hash, path string) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		_, _ = io.WriteString(h, "no file\x00")
		return
	}
	f, err := os.Open(path)
	if err != nil {
		_, _ = io.WriteString(h, "missing\x00")
		return
	}
	defer f.Close()
	one := sha256.New()
	if _, err := io.Copy(one, io.LimitReader(f, o.FileBytes)); err != nil {
		_, _ = io.WriteString(h, "unreadable\x00")
	}
	h.Write(one.Sum(nil))
}

// below adds the names and the content of the files below a folder.
func (o Options) below(h hash.Hash, folder string) {
	if real, err := filepath.EvalSymlinks(folder); err == nil {
		folder = real
	}
	var names []string
	err := filepath.WalkDir(folder, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() {
			names = append(names, name)
		}
		if len(names) > o.FolderFiles {
			return fs.ErrInvalid
		}
		return nil
	})
	if err != nil {
		_, _ = io.WriteString(h, "unreadable\x00")
		return
	}
	for _, name := range names {
		_, _ = io.WriteString(h, name+"\x00")
		o.content(h, name)
	}
}
