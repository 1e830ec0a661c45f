package kit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// dirPrefix begins the names of the kit's temporary folders.
	dirPrefix = "boltseal-e2e-"
	// newPrefix begins their names until they are locked.
	newPrefix = "boltseal-e2e.new-"
	// lockName is the file in them whose lock says that their owner lives.
	lockName = "lock"
)

// workDir is the folder of one cluster. Its owner holds a lock, which the kernel frees when the owner dies.
type workDir struct {
	path string
	lock *os.File
	temp bool // remove it in the end
}

// newWorkDir makes a temporary folder in parent, or, if path is not empty, uses that one and keeps it. It first
// removes what owners that were killed left behind in parent.
func newWorkDir(parent, path string) (*workDir, error) {
	if path != "" {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, fmt.Errorf("make the cluster's folder: %w", err)
		}
		lock, err := tryLock(filepath.Join(path, lockName), os.O_CREATE)
		if err != nil {
			return nil, err
		}
		if lock == nil {
			return nil, fmt.Errorf("another cluster runs in %s", path)
		}
		return &workDir{path: path, lock: lock}, writePID(lock)
	}
	sweep(parent)
	fresh, err := os.MkdirTemp(parent, newPrefix)
	if err != nil {
		return nil, fmt.Errorf("make the cluster's folder: %w", err)
	}
	lock, err := tryLock(filepath.Join(fresh, lockName), os.O_CREATE)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(fresh))
	}
	// Only now may a sweep of somebody else see it.
	final := filepath.Join(parent, dirPrefix+filepath.Base(fresh)[len(newPrefix):])
	if err := os.Rename(fresh, final); err != nil {
		lock.Close()
		return nil, errors.Join(fmt.Errorf("name the cluster's folder: %w", err), os.RemoveAll(fresh))
	}
	return &workDir{path: final, lock: lock, temp: true}, nil
}

// writePID notes in the lock file whom StopDir has to ask.
func writePID(lock *os.File) error {
	err := lock.Truncate(0)
	if err == nil {
		_, err = lock.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("note the process id in %s: %w", lock.Name(), err), lock.Close())
	}
	return nil
}

// StopDir asks the process whose cluster runs with Options.Dir dir to end, by SIGTERM, and returns when its lock
// on the folder is free. It says whether there was one.
func StopDir(ctx context.Context, dir string) (bool, error) {
	path := filepath.Join(dir, lockName)
	for asked := false; ; {
		lock, err := tryLock(path, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return asked, nil
		}
		if err != nil {
			return asked, err
		}
		if lock != nil {
			return asked, lock.Close()
		}
		if !asked {
			if err := terminate(path); err != nil {
				return false, err
			}
			asked = true
		}
		select {
		case <-ctx.Done():
			return asked, fmt.Errorf("wait for the cluster in %s to stop: %w", dir, context.Cause(ctx))
		case <-time.After(pollEvery):
		}
	}
}

func terminate(lockFile string) error {
	data, err := os.ReadFile(lockFile)
	if err != nil {
		return fmt.Errorf("find the owner of %s: %w", lockFile, err)
	}
	pid, err := strconv.Atoi(string(data))
	if err != nil || pid <= 1 {
		return fmt.Errorf("%s is locked but names no process: %q", lockFile, data)
	}
	if err := unix.Kill(pid, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("stop the cluster's process %d: %w", pid, err)
	}
	return nil
}

// close gives the folder up.
func (w *workDir) close() error {
	var err error
	if w.temp {
		err = os.RemoveAll(w.path)
	}
	return errors.Join(err, w.lock.Close())
}

// sweep removes folders whose owner is dead. What cannot be removed, such as another user's, is left.
func sweep(parent string) {
	dirs, err := filepath.Glob(filepath.Join(parent, dirPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		lock, err := tryLock(filepath.Join(dir, lockName), 0)
		if err != nil || lock == nil {
			continue
		}
		_ = os.RemoveAll(dir)
		lock.Close()
	}
}

// tryLock opens and locks a file, or returns nil when somebody else holds the lock.
func tryLock(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the cluster's folder: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}
